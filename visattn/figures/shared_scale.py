"""Which maps of a figure share a colour scale, and what its colour bars say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from visattn.errors import ConfigError
from visattn.figures.design import Design
from visattn.figures.facts import DIFFERENCE, Maps, method_name
from visattn.overlay import Scale, Style, shared_limits
from visattn.overlay.colorbar import end_labels
from visattn.saliency import SaliencyMap

MINUS = "\N{MINUS SIGN}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TIMES = "\N{MULTIPLICATION SIGN}"
ALIKE = 0.25
TERMS = {
    "minmax": "minimum to maximum",
    "max": "zero to maximum",
    "symmetric": "symmetric about zero",
    "percentile": "1st to 99th percentile",
    "symmetric_percentile": "symmetric about zero, 99th percentile",
    "none": "0 to 1",
}
ENDS = {
    "minmax": ("minimum", "maximum"),
    "max": ("0", "maximum"),
    "symmetric": (f"{MINUS}max |value|", "+max |value|"),
    "percentile": ("1st percentile", "99th percentile"),
    "symmetric_percentile": (f"{MINUS}99th percentile", "+99th percentile"),
    "none": ("0", "1"),
}
Key = tuple[object, ...]


@dataclass(frozen=True)
class ColourBar:
    """One colour bar.

    Attributes:
        scale: which raw value has which colour.
        ends: the words at its low and high end.
        label: whose values it shows, and how they are scaled.
        row, column: what it belongs to, None for the whole figure.
        units: methods (and models) whose values it shows.
        term: the normalisation in words.
    """

    scale: Scale
    ends: tuple[str, str]
    label: str
    row: int | None = None
    column: int | None = None
    units: tuple[str, ...] = ()
    term: str = ""


@dataclass(frozen=True)
class Scaling:
    """The style of each panel, the colour bars, and how the scale is shared, in words."""

    styles: list[list[Style]]
    bars: list[ColourBar]
    kind: str
    statement: str

    @classmethod
    def of(cls, maps: Maps, design: Design) -> Scaling:
        """Return how the maps are scaled; a map without signal takes part in no scale.

        Limits given by hand are those of the maps: differences of maps, which are other values,
        keep a scale of their own, symmetric about zero.

        Raises `ConfigError` when maps that are to share a scale are drawn on different kinds of
        scale (from minimum to maximum, or symmetric about zero).
        """
        kind = _resolved(maps, design)
        groups = _groups(maps, kind, design.style.limits is not None)
        styles = [[_asked(each, design.style) for each in row] for row in maps]
        bars: list[ColourBar] = []
        for key, places in groups.items():
            members = [_map(maps, place) for place in places]
            asked = _asked(members[0], design.style)
            style = asked if kind == "panel" else _common(members, asked, kind)
            for row, column in places:
                styles[row][column] = style
            bars += _bars(members, style, asked, kind, key)
        if kind == "panel":
            bars = list({(bar.scale.name, bar.scale.colormap): bar for bar in bars}.values())
        return cls(styles, bars, kind, _statement(kind, bars))


def unit(saliency: SaliencyMap) -> tuple[str, ...]:
    """Return what values of a map are values of: method with options, and model."""
    if is_difference(saliency):
        return (f"differences ({saliency.provenance[DIFFERENCE]['scaled']})", saliency.model)
    return (method_name(saliency), saliency.model)


def _resolved(maps: Maps, design: Design) -> str:
    if design.style.limits is not None:
        return "shared"
    if design.scale != "auto":
        return design.scale
    shown = [each for row in maps for each in row if each and not each.no_signal]
    plain = [each for each in shown if not is_difference(each)]
    return "unit" if len(set(map(unit, plain))) < 2 and _alike(plain) else "panel"


def _alike(maps: Sequence[SaliencyMap]) -> bool:
    """Return whether every map spans at least `ALIKE` of what all of them span together.

    On a common scale one map with a hundredfold range would leave the others without colour.
    """
    lows, highs = (
        [float(each.grid.min()) for each in maps],
        [float(each.grid.max()) for each in maps],
    )
    if not maps:
        return True
    whole = max(highs) - min(lows)
    return all(high - low >= ALIKE * whole for low, high in zip(lows, highs, strict=True))


def is_difference(saliency: SaliencyMap) -> bool:
    """Return whether a map is the difference of two."""
    return DIFFERENCE in saliency.provenance


def _asked(saliency: SaliencyMap | None, style: Style) -> Style:
    """Return the style without limits for a difference, whose values are not those of maps."""
    made = saliency is not None and is_difference(saliency)
    return replace(style, limits=None) if made else style


def _groups(maps: Maps, kind: str, limited: bool) -> dict[Key, list[tuple[int, int]]]:
    keys: dict[str, Callable[[int, int, SaliencyMap], Key]] = {
        "shared": lambda _, __, each: (is_difference(each),) if limited else (),
        "row": lambda row, *_: (row,),
        "column": lambda _, column, __: (column,),
        "panel": lambda row, column, _: (row, column),
        "unit": lambda _, __, each: (each.default_normalization, *unit(each)),
    }
    groups: dict[Key, list[tuple[int, int]]] = {}
    for row, listed in enumerate(maps):
        for column, each in enumerate(listed):
            if each is not None and not each.no_signal:
                groups.setdefault(keys[kind](row, column, each), []).append((row, column))
    return groups


def _map(maps: Maps, place: tuple[int, int]) -> SaliencyMap:
    found = maps[place[0]][place[1]]
    if found is None:
        raise ValueError(f"there is no map at {place}")
    return found


def _common(members: Sequence[SaliencyMap], style: Style, kind: str) -> Style:
    """Return the style with the limits of all members."""
    if style.limits is not None:
        return style
    names = {style.normalization or each.default_normalization: each for each in members}
    if len(names) > 1:
        drawn = " and ".join(f"{each.method} {TERMS[name]}" for name, each in names.items())
        raise ConfigError(
            f"scale={kind!r}: {drawn} have no scale in common; choose one normalisation for all "
            "(-S normalization=symmetric), or scale='panel'."
        )
    limits = shared_limits(members, style.normalization)
    if limits.high <= limits.low:
        return style
    return replace(style, limits=(limits.low, limits.high), normalization=None)


def _bars(
    members: Sequence[SaliencyMap], style: Style, asked: Style, kind: str, key: Key
) -> list[ColourBar]:
    scale = Scale.of(members[0], style)
    if scale.empty:
        return []
    first = members[0]
    name = asked.normalization or first.default_normalization
    if style.limits is None:
        return [ColourBar(scale, ENDS[name], "each panel on its own scale")]
    if style.limits == asked.limits:
        name = "fixed limits"
    lowest = min(members, key=lambda each: float(each.grid.min()))
    highest = max(members, key=lambda each: float(each.grid.max()))
    low, high = end_labels(scale, lowest.grid)[0], end_labels(scale, highest.grid)[1]
    label = f"{_units(members)}, {TERMS.get(name, name)}"
    if kind in ("shared", "unit") and len(members) > 1:
        label += "; one scale for all"
    row = int(str(key[0])) if kind == "row" else None
    column = int(str(key[0])) if kind == "column" else None
    units = tuple(dict.fromkeys(" of ".join(unit(each)) for each in members))
    ends = number(low), number(high)
    return [ColourBar(scale, ends, label, row, column, units, TERMS.get(name, name))]


def number(text: str) -> str:
    """Return a number as it is set in print: a real minus sign, and powers of ten."""
    mantissa, exponential, exponent = text.partition("e")
    mantissa = mantissa.replace("-", MINUS)
    if not exponential:
        return mantissa
    return f"{mantissa}{TIMES}10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def _units(members: Sequence[SaliencyMap]) -> str:
    """Return whose raw values share a bar: said in full where they are not of one kind."""
    methods = list(dict.fromkeys(unit(each)[0] for each in members))
    if all(map(is_difference, members)):
        return ", ".join(methods)
    models = list(dict.fromkeys(each.model for each in members))
    words = f"raw values of {', '.join(methods)}"
    if len(models) > 1:
        words += f" ({len(models)} models)"
    return words


def _statement(kind: str, bars: Sequence[ColourBar]) -> str:
    """Return what a line below the figure says where bars stand at rows or columns."""
    if kind not in ("row", "column") or not bars:
        return ""
    labels = list(dict.fromkeys(bar.label for bar in bars))
    if all(len(bar.units) == 1 for bar in bars):
        labels = [f"raw values, {' or '.join(dict.fromkeys(bar.term for bar in bars))}"]
    return f"one scale for each {kind}: {'; '.join(labels)}"
