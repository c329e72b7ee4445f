"""Export a gallery: photos in a folder, explained and laid out on one page.

    python scripts/export_gallery.py photos --model packaged:dinov2_small --method rollout --out out
    python scripts/export_gallery.py --config configs/demo.yaml

A second run continues the first. Exit codes: 0 all done; 1 finished, with failures listed; 2 the
command or its config is wrong, nothing written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from visattn.errors import VisattnError
from visattn.gallery import resolve_config, run_gallery


def parser() -> argparse.ArgumentParser:
    text = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(description=__doc__, formatter_class=text)
    made.add_argument("input_dir", nargs="?", metavar="INPUT_DIR", help="folder of photos")
    made.add_argument("--model", action="append", metavar="M", help="model; may be repeated")
    made.add_argument("--method", action="append", metavar="m", help="method; may be repeated")
    made.add_argument("--out", metavar="OUT_DIR", help="folder of the gallery")
    made.add_argument("--config", metavar="FILE", help="YAML file; flags override it")
    made.add_argument("--target", metavar="T", help="class index, label, top1 to top5, embedding")
    made.add_argument("--batch-size", type=int, metavar="N", help="photos per pass (8)")
    made.add_argument("--device", metavar="D", help="auto, cpu, cuda, ... (auto)")
    made.add_argument("--workers", type=int, metavar="N", help="threads that decode and draw")
    made.add_argument("--limit", type=int, metavar="N", help="only the first N photos")
    made.add_argument("--overwrite", action="store_true", help="compute everything again")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    flags = parser().parse_args(argv)
    try:
        config = resolve_config(
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
            overwrite=flags.overwrite,
        )
        summary = run_gallery(config)
    except VisattnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for message in summary.errors:
        print(f"failed: {message}", file=sys.stderr)
    print(f"{summary}\n{summary.index}")
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
