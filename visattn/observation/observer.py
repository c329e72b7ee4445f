"""Observer: watches torch functions of one thread and recognises softmax attention in them.

Nothing is patched: a `TorchFunctionMode` sees every call, lets it run as it would have run, and
only looks at its operands. Fused attention announces itself. Explicit attention is recognised by
following ``query @ key^T`` through scaling, bias and mask into a softmax, and the softmax through
whatever is done to it into the product with the value (see `rules`).
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from visattn.observation.arrangement import in_four_axes
from visattn.observation.call import Call
from visattn.observation.fastpath import watched_fast_paths
from visattn.observation.following import Operands, Weights
from visattn.observation.operation import AttentionOperation
from visattn.observation.other import UNCLAIMED, WITHOUT_SOFTMAX, Other
from visattn.observation.product import Bring, Live, Product
from visattn.observation.recovery import recovered
from visattn.observation.rules import RULES

CHANNEL_ATTENTION = frozenset(
    {
        ("timm.models.xcit", "XCA"),
        ("timm.models.edgenext", "CrossCovarianceAttn"),
        ("timm.models.davit", "ChannelAttention"),
        ("timm.models.davit", "ChannelAttentionV2"),
    }
)


class Observer(TorchFunctionMode):
    """Records the attention operations of the code that runs inside its ``with`` block.

    Attributes:
        operations: attention operations in execution order.
        live: for each operation where its gradient is to be taken.
        others: attention-like code that is no attention operation; complete after the block.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        self._names: dict[int, str] = {id(part): name for name, part in module.named_modules()}
        self._times: Counter[str] = Counter()
        self._stack = ExitStack()
        self.scores: Any = WeakTensorKeyDictionary()
        self.weights: Any = WeakTensorKeyDictionary()
        self.softmaxes: list[Other | None] = []
        self.operations: list[AttentionOperation] = []
        self.live: list[Live] = []
        self.others: list[Other] = []

    def __enter__(self) -> Observer:
        self._stack.enter_context(watched_fast_paths(self._module))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *problem: object) -> None:
        with self._stack:
            super().__exit__(*problem)  # type: ignore[no-untyped-call]
        self._add_known_classes()
        self.others.extend(self.unclaimed)
        self.scores.clear()
        self.weights.clear()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        rule = RULES.get(func)
        if rule is not None:
            rule(self, Call(func, result, args, kwargs or {}))
        return result

    @property
    def unclaimed(self) -> tuple[Other, ...]:
        """Every softmax that was never multiplied with a value."""
        return tuple(softmax for softmax in self.softmaxes if softmax is not None)

    def knows(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is on its way from a matrix product to a value."""
        return tensor in self.weights or tensor in self.scores

    def know_softmax(self, scores: torch.Tensor) -> int:
        """Note a softmax and return its number; it counts as unclaimed until `claim`."""
        shape = tuple(scores.shape)
        self.softmaxes.append(Other(self.caller()[0], UNCLAIMED, f"of shape {shape}"))
        return len(self.softmaxes) - 1

    def claim(self, ticket: int) -> None:
        """Note that a softmax was used."""
        self.softmaxes[ticket] = None

    def other(self, kind: str, detail: str, name: str | None = None) -> None:
        """Note attention-like code, once per module and kind."""
        name = self.caller()[0] if name is None else name
        if all((known.name, known.kind) != (name, kind) for known in self.others):
            self.others.append(Other(name, kind, detail))

    def record(
        self,
        product: Product,
        operands: Operands | None,
        weights: Weights | None = None,
        *,
        live: torch.Tensor | None = None,
        bring: Bring | None = None,
        projection: torch.Tensor | None = None,
    ) -> AttentionOperation:
        """Record ``product`` with what is known of its weights; fused where ``weights`` is None."""
        leading, bring = product.output.shape[:-2], bring or product.bring
        name, axis = self.caller()
        operation = AttentionOperation(
            self._unique(name),
            len(self.operations),
            in_four_axes(product.value.detach(), leading),
            in_four_axes(product.output.detach(), leading),
            fused=weights is None,
            axis=axis,
            projection=projection,
        )
        operation = recovered(operation, product.weights, operands, weights, leading)
        self.operations.append(operation)
        tensor = product.output if live is None else live
        self.live.append(Live(tensor, lambda found: in_four_axes(bring(found), leading)))
        return operation

    def project(self, merged: torch.Tensor, weight: torch.Tensor) -> None:
        """Note the linear layer that reads the last operation's heads side by side, if it does."""
        last = self.operations[-1] if self.operations else None
        if last is None or last.projection is not None or last.output.numel() != merged.numel():
            return
        heads = last.output.transpose(1, 2).flatten(2)
        same_module = self.caller()[0].startswith(last.name.partition("#")[0])
        if heads.shape[-1] != merged.shape[-1] or not same_module:
            return
        if torch.equal(heads.reshape(merged.shape), merged.detach()):
            self.operations[-1] = replace(last, projection=weight.detach())

    def withdraw(self, name: str, kind: str, detail: str) -> None:
        """Take a recorded operation back: it turned out to be something else."""
        known = [operation.name for operation in self.operations]
        if name not in known:
            return
        place = known.index(name)
        del self.operations[place], self.live[place]
        for index, later in enumerate(self.operations[place:], start=place):
            self.operations[index] = replace(later, index=index)
        module, _, number = name.partition("#")
        if self._times[module] == int(number or 1):
            self._times[module] -= 1
        self.other(kind, detail, module)

    def _add_known_classes(self) -> None:
        """Say of classes that compute no softmax what they are; their products are no attention."""
        for name, part in self._module.named_modules():
            known = WITHOUT_SOFTMAX.get(type(part).__name__)
            if known is not None:
                self.others = [other for other in self.others if other.name != name]
                self.others.append(Other(name, *known))

    def _unique(self, name: str) -> str:
        self._times[name] += 1
        return name if self._times[name] == 1 else f"{name}#{self._times[name]}"

    def caller(self) -> tuple[str, str]:
        """Return the name of the innermost module on the call stack and what its tokens are."""
        frame = inspect.currentframe()
        # Never its own frame, whose locals would hold themselves, the observer and its graph.
        frame = None if frame is None else frame.f_back
        while frame is not None:
            owner = frame.f_locals.get("self")
            if owner is not None and id(owner) in self._names:
                kind = type(owner)
                channel = (kind.__module__, kind.__name__) in CHANNEL_ATTENTION
                return self._names[id(owner)], "channel" if channel else "token"
            frame = frame.f_back
        return "", "token"
