"""Rules: what the backward pass does at each kind of operation."""

from __future__ import annotations

from dataclasses import dataclass

from visattn.errors import UnsupportedMethodError, suggestion


@dataclass(frozen=True)
class Rules:
    """Switches of a modified backward pass; the forward pass never changes.

    Attributes:
        attention: ``plain``; ``half``: bilinear products hand half of their gradient to each
            factor, ``S = S/2 + [S/2]cst``, ``O = O/2 + [O/2]cst``; ``value``: the weights are
            constant, ``O = [A]cst V``.
        norm: ``plain``; ``detached``: the standard deviation (or root mean square) is constant and
            the mean stays linear.
        activation: ``plain``; ``gate``: of ``x g(x)`` the gate g is constant (GELU, SiLU, ...).
        product: ``plain``; ``half``: a product of two activations hands half of its gradient to
            each factor.
        residual: None, or gamma >= 0 of the ResLRP rule at additions of a branch to its own input.
        linear, convolution: gamma >= 0 of the generalised gamma rule; 0 is the plain gradient,
            infinity the z+ rule. Layers on pooled vectors (batch, channel) are always plain.
        constants: whether account is kept of what every additive constant (biases, positions,
            class and register tokens) contributes to the score.
    """

    attention: str = "plain"
    norm: str = "plain"
    activation: str = "plain"
    product: str = "plain"
    residual: float | None = None
    linear: float = 0.0
    convolution: float = 0.0
    constants: bool = False


PLAIN = Rules()
CP_LRP = Rules(attention="value", norm="detached")
ATTNLRP = Rules(attention="half", norm="detached", activation="gate", product="half")
LIBRA = Rules(attention="value", norm="detached", activation="gate", product="half")
RESLRP = Rules(attention="half", norm="detached", activation="gate", product="half", residual=1.0)
NAMED = {"plain": PLAIN, "cp_lrp": CP_LRP, "attnlrp": ATTNLRP, "libra": LIBRA, "reslrp": RESLRP}


def rules_named(name: str) -> Rules:
    """Return the rules of a name; raises `UnsupportedMethodError` with the nearest known one."""
    if name not in NAMED:
        raise UnsupportedMethodError(
            f"backward={name!r} names no rules for the backward pass." + suggestion(name, NAMED)
        )
    return NAMED[name]
