"""Export a gallery: photos in a folder, explained and laid out on one page.

    python scripts/export_gallery.py photos --model packaged:dinov2_small --method rollout --out out
    python scripts/export_gallery.py --config configs/demo.yaml

A second run continues the first. Exit codes: 0 all done; 1 finished, with failures listed; 2 the
command or its config is wrong, nothing written; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from visattn.cli.options import options_of, size_of
from visattn.errors import VisattnError
from visattn.gallery import GalleryConfig, resolve_config, run_on_terminal


def parser() -> argparse.ArgumentParser:
    text = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(description=__doc__, formatter_class=text)
    made.add_argument("input_dir", nargs="?", metavar="INPUT_DIR", help="folder of photos")
    made.add_argument("--model", action="append", metavar="M", help="model; may be repeated")
    made.add_argument("--method", action="append", metavar="m", help="method; may be repeated")
    made.add_argument("--out", metavar="OUT_DIR", help="folder of the gallery")
    made.add_argument("--config", metavar="FILE", help="YAML file; flags override it")
    made.add_argument("--target", metavar="T", help="class index, label, top1 to top5, embedding")
    made.add_argument(
        *("--option", "-O"), action="append", metavar="O=V", help="option of methods that have it"
    )
    made.add_argument("--style", "-S", action="append", metavar="S=V", help="style option")
    made.add_argument(
        "--weights", action="append", metavar="W", help="pretrained, random or a checkpoint"
    )
    made.add_argument("--image-size", metavar="SIZE", help="448 or 384x512, of models without own")
    made.add_argument("--batch-size", type=int, metavar="N", help="photos per pass (8)")
    made.add_argument("--device", metavar="D", help="auto, cpu, cuda, ... (auto)")
    made.add_argument("--workers", type=int, metavar="N", help="threads that decode and draw")
    made.add_argument("--limit", type=int, metavar="N", help="only the first N photos")
    made.add_argument("--fps", type=float, metavar="F", help="frames per second of clips (4)")
    made.add_argument("--smoothing", type=float, metavar="S", help="seconds, of clips' maps (0)")
    made.add_argument("--max-frames", type=int, metavar="N", help="most frames of a clip (240)")
    made.add_argument("--overwrite", action="store_true", help="compute everything again")
    return made


def configured(flags: argparse.Namespace) -> GalleryConfig:
    return resolve_config(
        input_dir=flags.input_dir,
        out=flags.out,
        models=flags.model,
        methods=flags.method,
        config_path=flags.config,
        target=flags.target,
        batch_size=flags.batch_size,
        device=flags.device,
        workers=flags.workers,
        limit=flags.limit,
        fps=flags.fps,
        smoothing=flags.smoothing,
        max_frames=flags.max_frames,
        overwrite=flags.overwrite,
        options=options_of(flags.option or []),
        style=options_of(flags.style or []),
        weights=flags.weights or (),
        image_size=size_of(flags.image_size),
    )


def main(argv: Sequence[str] | None = None) -> int:
    flags = parser().parse_args(argv)
    try:
        return run_on_terminal(lambda: configured(flags))
    except VisattnError as error:
        print(f"visattn: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
