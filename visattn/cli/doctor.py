"""``visattn doctor``: is this installation able to do its work?"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable

import typer

PACKAGES = (
    "torch", "torchvision", "timm", "captum", "numpy", "scikit-image", "pillow", "matplotlib",
    "safetensors", "onnx",
)  # fmt: skip


def command() -> None:
    """Check versions, device, weights cache, pip and a capture; exit code 1 if one fails."""
    typer.echo(f"{'python':<20}{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        typer.echo(f"{name:<20}{_version(name)}")
    checks: dict[str, Callable[[], str]] = {
        "cv2": _opencv,
        "device": _device,
        "weights cache": _cache,
        "pip": _pip,
        "capture": _capture,
    }
    failed = False
    for title, check in checks.items():
        try:
            found = check()
        except Exception as error:  # noqa: BLE001  a doctor reports whatever is broken
            failed, found = True, f"FAILS: {type(error).__name__}: {error}"
        typer.echo(f"{title:<20}{found}")
    if failed:
        raise typer.Exit(1)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed" + (" (pip install 'visattn[packaged]')" if name == "onnx" else "")


def _opencv() -> str:
    import cv2

    return str(cv2.__version__)


def _device() -> str:
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA"
    return f"{cuda}; {torch.get_num_threads()} CPU threads"


def _cache() -> str:
    from visattn.models.wheel import cache_folder

    folder = cache_folder()
    present = sorted(path.name for path in folder.glob("weights/*.safetensors"))
    free = shutil.disk_usage(folder if folder.is_dir() else folder.anchor).free / 2**30
    return f"{folder} ({', '.join(present) or 'empty'}; {free:.1f} GB free)"


def _pip() -> str:
    import pip

    return f"{pip.__version__} for {sys.executable}"


def _capture() -> str:
    import torch

    from visattn.models import load_model
    from visattn.observation import prove

    model = load_model("test_vit", weights=None, device="cpu")
    size = model.input_size or (160, 160)
    proof = prove(model.module, torch.zeros(1, 3, *size))
    proof.require()
    return f"{proof.operations} operations observed, outputs identical bit for bit"
