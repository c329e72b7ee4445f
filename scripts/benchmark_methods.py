"""What methods declare and what they do: passes of one image, time over a plain forward pass.

Run by `make bench` on timm's small test transformer with random weights. Declared memory is
compared with measured bytes by a contract in tests/methods/test_contracts.py.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

import visattn
from visattn.errors import VisattnError
from visattn.images import Size
from visattn.methods import get_method, list_methods
from visattn.models import Model

SIZE = Size(96, 128)


class Counter:
    """Counts inputs that run through a module forward, and outputs that are differentiated."""

    def __init__(self, module: nn.Module) -> None:
        self.forward = self.backward = 0
        self._handle = module.register_forward_hook(self._seen)

    def _seen(self, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        self.forward += len(output)
        if output.requires_grad:
            output.register_hook(self._differentiated)  # type: ignore[no-untyped-call]

    def _differentiated(self, gradient: torch.Tensor) -> None:
        self.backward += len(gradient)

    def close(self) -> None:
        self._handle.remove()


def line(model: Model, name: str, inputs: torch.Tensor, plain: float) -> str:
    kind = get_method(name)
    declared = kind().passes(model.adapter, SIZE)
    counter, start = Counter(model.module), time.perf_counter()
    try:
        visattn.explain(model, inputs, method=name, target=0 if kind.class_specific else None)
    except VisattnError as error:
        return f"  {name:<24}{str(error)[:70]}"
    finally:
        counter.close()
    ratio = (time.perf_counter() - start) / plain
    measured = f"{counter.forward} forward, {counter.backward} backward"
    return f"  {name:<24}{declared!s:<34}{measured:<32}{ratio:9.1f}  {kind.memory}"


def main() -> None:
    torch.manual_seed(0)
    model = visattn.load_model("test_vit", weights=None, image_size=(SIZE.height, SIZE.width))
    inputs = torch.randn(1, 3, *SIZE)
    model.run(inputs)
    start = time.perf_counter()
    for _ in range(20):
        model.run(inputs)
    plain = (time.perf_counter() - start) / 20
    print(f"\n  {'method':<24}{'declared':<34}{'measured':<32}{'x forward':>9}  memory")
    for name in list_methods():
        print(line(model, name, inputs, plain), flush=True)


if __name__ == "__main__":
    main()
