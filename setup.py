"""Packs data/reference into the package, beside the code that reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

REFERENCE = Path(__file__).parent / "data" / "reference"
WEIGHTS = ("cbam.safetensors", "vit.safetensors")


class BuildWithReferenceWeights(build_py):
    """Copies the weights of the reference models, which live outside the package's folder."""

    def run(self) -> None:
        """Build as usual, then copy; raises where a file of weights is missing."""
        super().run()
        if self.editable_mode:  # then they are read where they are
            return
        target = Path(self.build_lib) / "visattn" / "reference"
        target.mkdir(parents=True, exist_ok=True)
        for name in WEIGHTS:
            shutil.copy2(REFERENCE / name, target)


setup(cmdclass={"build_py": BuildWithReferenceWeights})
