"""Rectifiers: whether every nonlinearity of a network is a ReLU whose gradient captum can guide."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

# Modules that bend values, by the name of their class, whichever library it comes from. What is
# written as a function, or hides in a module of another name, shows in the graph of a pass.
BENT = frozenset(
    {name.casefold() for name in nn.modules.activation.__all__ if name != "ReLU"}
    | {"gelutanh", "hardmish", "quickgelu", "swish"}
)
ATTENTIVE = re.compile(r"attention|attn|mhsa|non_?local")
# What guided backpropagation leaves to its plain gradient: linear maps, normalisation, pooling,
# and moving numbers. Anything else between input and outputs is a nonlinearity without a rule.
STRAIGHT = re.compile(
    r"(?:Mkldnn|Cudnn|Miopen)?(?:Convolution|BatchNorm)|SlowConv|ThnnConv|ConvDepthwise"
    r"|Native(?:Batch|Layer|Group)Norm|(?:Adaptive)?(?:Avg|Max)Pool|AccumulateGrad"
    r"|Add|Sub|Rsub|Neg|Sum|Mean|Mul|Div|Addmm|Mm|Mv|Bmm|Linear|T|Transpose|Permute"
    r"|View|UnsafeView|ReshapeAlias|Squeeze|Unsqueeze|Expand|Repeat|Clone|ToCopy|Alias|AsStrided"
    r"|Select|Slice|Narrow|Index|IndexSelect|Gather|CopySlices|Cat|Stack|Unbind|(?:Unsafe)?Split"
    r"|SplitWithSizes|Flip|Roll|PixelShuffle|PixelUnshuffle|(?:Constant|Reflection|Replication)Pad"
    r"|Upsample(?:Nearest|Bilinear|Bicubic)"
)
DIMENSIONS = re.compile(r"(?:\dD|Nd)?(?:WithIndices)?$")
PRODUCTS = frozenset({"Mul", "Div", "Mm", "Bmm", "Mv"})


class Edge(NamedTuple):
    """A graph node, one of the nodes whose results it uses, and which result."""

    user: Any
    node: Any
    place: int


def without_rule(module: nn.Module) -> str | None:
    """Return which modules of a network have no rule in guided backpropagation, or None."""
    named: dict[str, list[str]] = defaultdict(list)
    for name, part in module.named_modules():
        kind = type(part).__name__
        word = kind.casefold()
        if re.sub(r"(?:me|jit)$", "", word) in BENT or ATTENTIVE.search(word):
            named[kind].append(name)
    if named:
        found = ", ".join(f"{kind} ({_some(names)})" for kind, names in sorted(named.items()))
        return f"its nonlinearities {found} are not ReLU and would pass the plain gradient"
    if not any(isinstance(part, nn.ReLU) for part in module.modules()):
        return "it has no torch.nn.ReLU module, so that its gradient would be the plain one"
    return None


@contextmanager
def rectified(module: nn.Module) -> Iterator[list[Any]]:
    """Yield the graph nodes that calls of ReLU modules leave inside the block."""
    nodes: list[Any] = []

    def collect(part: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        del part, inputs
        nodes.append(output.grad_fn)

    relus = [part for part in module.modules() if isinstance(part, nn.ReLU)]
    handles = [part.register_forward_hook(collect) for part in relus]
    try:
        yield nodes
    finally:
        for handle in handles:
            handle.remove()


def unguided(outputs: torch.Tensor, inputs: torch.Tensor, hooked: Sequence[Any]) -> str | None:
    """Return why captum would not guide the gradient of ``outputs`` by ``inputs``, or None.

    ``hooked`` are the nodes of `rectified`. captum clips the gradient of the tensor that enters a
    ReLU module; where that tensor goes elsewhere too, it clips what comes back from there as well.
    """
    edges = _between(outputs, inputs)
    nodes = {id(edge.user): edge.user for edge in edges}
    words = {key: _word(node) for key, node in nodes.items()}
    bent = {word for word in words.values() if word != "Relu" and not STRAIGHT.fullmatch(word)}
    factors = Counter(id(edge.user) for edge in edges)
    if any(words[key] in PRODUCTS and count > 1 for key, count in factors.items()):
        bent.add("products of activations")
    if bent:
        return f"its pass has nonlinearities without a rule: {', '.join(sorted(bent))}"
    rectifying = [node for key, node in nodes.items() if words[key] == "Relu"]
    if any(all(node is not own for own in hooked) for node in rectifying):
        return "it calls relu as a function, which captum cannot hook: use torch.nn.ReLU modules"
    uses = Counter((id(edge.node), edge.place) for edge in edges)
    sources = [(id(node), place) for node, place in (r.next_functions[0] for r in rectifying)]
    if any(uses[source] > 1 for source in sources):
        return (
            "the input of one of its ReLU modules is used elsewhere too (a shortcut around the "
            "ReLU), where captum would clip the gradient of both together"
        )
    return None


def _between(outputs: torch.Tensor, inputs: torch.Tensor) -> list[Edge]:
    """Return the edges of the graph that lie on a way from ``outputs`` to ``inputs``."""
    users: dict[int, list[Edge]] = defaultdict(list)
    waiting, met, first = [outputs.grad_fn], {id(outputs.grad_fn)}, None
    while waiting:
        user: Any = waiting.pop()
        if getattr(user, "variable", None) is inputs:
            first = user
        for node, place in user.next_functions:
            if node is None:
                continue
            users[id(node)].append(Edge(user, node, place))
            if id(node) not in met:
                met.add(id(node))
                waiting.append(node)
    found, reached = [], [first]
    met = {id(first)}
    while reached:
        for edge in users[id(reached.pop())]:
            found.append(edge)
            if id(edge.user) not in met:
                met.add(id(edge.user))
                reached.append(edge.user)
    return found


def _word(node: Any) -> str:
    """Return what a node does: ``MaxPool`` for ``MaxPool2DWithIndicesBackward0``."""
    name = re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])
    return DIMENSIONS.sub("", name)


def _some(names: Sequence[str]) -> str:
    first = names[0] or "the model itself"
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
