"""Write one HTML file in which a reader clicks patches of a photo and sees where they look.

    python scripts/explore_photo.py data/photos/cat.jpg --model packaged:dinov2_small \\
        --image-size 224 --out cat.html

The same as ``visattn explore``, for people who prefer scripts.
"""

from __future__ import annotations

from visattn.cli.app import run
from visattn.cli.explore import command

if __name__ == "__main__":
    run(command, __doc__)
