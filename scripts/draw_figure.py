"""Draw a paper figure: photos, methods, models, classes, layers or heads side by side.

    python scripts/draw_figure.py data/photos/coffee.jpg \\
        --model packaged:efficientnet_lite0 --method gradcam --method layercam --out figure.pdf

The same as ``visattn figure``, for people who prefer scripts.
"""

from __future__ import annotations

from visattn.cli.app import run
from visattn.cli.figure import command

if __name__ == "__main__":
    run(command, __doc__)
