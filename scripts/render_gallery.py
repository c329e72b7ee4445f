"""Draw a stored gallery again in other colours, without the model.

    python scripts/export_gallery.py data/photos --model reference:cbam --method gradcam \\
        --out out/mine
    python scripts/render_gallery.py out/mine -S colormap=magma --scale shared

The same as ``visattn render``, for people who prefer scripts.
"""

from __future__ import annotations

from visattn.cli.app import run
from visattn.cli.render import command

if __name__ == "__main__":
    run(command, __doc__)
