"""Explain one photo with one method and write the picture, or the raw map as .npz.

    python scripts/explain_photo.py data/photos/cat.jpg --model packaged:dinov2_small \\
        --method rollout -O start_layer=4 --out cat.png

The same as ``visattn explain``, for people who prefer scripts.
"""

from __future__ import annotations

from visattn.cli.app import run
from visattn.cli.explain import command

if __name__ == "__main__":
    run(command, __doc__)
