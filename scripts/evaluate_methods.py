"""Measure methods on a data set, next to controls: a scorecard with intervals and a figure.

    python scripts/evaluate_methods.py 'planted?count=20' \\
        --model reference:vit --method rollout --metric energy_pointing --out out/planted

    python scripts/evaluate_methods.py data/photos \\
        --model packaged:efficientnet_lite0 --method gradcam --metric sparseness --out out/photos

The same as ``visattn evaluate``, for people who prefer scripts.
"""

from __future__ import annotations

from visattn.cli.app import run
from visattn.cli.evaluate import command

if __name__ == "__main__":
    run(command, __doc__)
