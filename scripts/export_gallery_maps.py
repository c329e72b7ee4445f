"""Export maps of a stored gallery as masks (COCO) and as a contact sheet.

    python scripts/export_gallery.py data/photos --model reference:cbam --method gradcam \\
        --out out/mine
    python scripts/export_gallery_maps.py out/mine --coco masks.json --sheet sheet.pdf

The same as ``visattn export``, for people who prefer scripts.
"""

from __future__ import annotations

from visattn.cli.app import run
from visattn.cli.export import command

if __name__ == "__main__":
    run(command, __doc__)
