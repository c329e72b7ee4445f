"""The registry of gate families, and the gate modules of a model."""

from __future__ import annotations

from torch import nn

from visattn.errors import ModelError
from visattn.gates.family import GateFamily, GateModule
from visattn.registry import Registry

GATES: Registry[type[GateFamily]] = Registry("gate family", "visattn.gates", ModelError)


def gate_modules(module: nn.Module) -> tuple[GateModule, ...]:
    """Return the modules of registered gate classes inside ``module``, in the order of its tree.

    Raises `ModelError` where several families claim one module, naming them.
    """
    families = [GATES.get(name) for name in GATES.names()]
    special = any("matches" in family.__dict__ for family in families)
    classes = tuple(kind for family in families for kind in family.loaded())
    found: list[GateModule] = []
    for name, part in module.named_modules():
        if not (special or isinstance(part, classes)):
            continue  # most modules of a network are no gate, and there are many families
        claims = [family for family in families if family.matches(part)]
        if len(claims) > 1:
            names = ", ".join(family.family for family in claims)
            raise ModelError(
                f"{name} ({type(part).__name__}) is claimed by gate families: {names}."
            )
        found.extend(GateModule(name, part, each, each.kinds_of(part)) for each in claims)
    return tuple(found)


def lookalikes(module: nn.Module) -> dict[str, str]:
    """Return name and class of modules that are called like a gate class but are no such class.

    Scripted copies, and classes of other libraries with the same name: nothing is observed in them.
    """
    telling = [family for family in map(GATES.get, GATES.names()) if family.telling]
    pairs = [each for family in telling for each in family.classes]
    known = {each[1] if isinstance(each, tuple) else each.__name__ for each in pairs}
    gates = {part.name for part in gate_modules(module)}
    return {
        name: f"{type(part).__module__}.{_class_name(part)}"
        for name, part in module.named_modules()
        if name not in gates and _class_name(part) in known
    }


def _class_name(part: nn.Module) -> str:
    """Return the name of a module's class, of a scripted module that of the original."""
    scripted = getattr(part, "original_name", None)
    return scripted if isinstance(scripted, str) else type(part).__name__
