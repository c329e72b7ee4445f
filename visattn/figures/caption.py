"""The caption of a figure: what is shown, what explains what, what the colours mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from visattn.figures.arrangement import rectangle
from visattn.figures.design import Design
from visattn.figures.facts import DIFFERENCE, Maps, facts, query_box
from visattn.figures.photos import photo_names
from visattn.figures.shared_scale import Scaling
from visattn.overlay.unseen import hidden_share
from visattn.saliency import SaliencyMap

BASE = {
    "grey": "Maps lie on the photo in grey.",
    "faded": "Maps lie on the faded photo.",
    "photo": "",
}

UNSEEN = {
    "dim": "Dimmed, outside the frame",
    "hatch": "Hatched",
    "outline": "Outside the frame",
    "none": "Without paint at the borders",
}


def caption(maps: Any, *, design: Design | None = None, **options: Any) -> str:
    """Return a caption for the figure of the same maps and options, in plain sentences.

    It says which methods, models and photos are shown, what the maps explain, how raw values become
    colours and which maps share a scale, how the unseen part of photos is marked, where contours
    and queries are, and which maps carry no signal and why.
    """
    rows = rectangle(maps)
    chosen = design or Design.create(**options)
    shown = [each for row in rows for each in row if each]
    photos = photo_names(shown)
    sentences = [
        _subject(shown, photos),
        _targets(shown),
        _differences(shown),
        _colours(rows, chosen),
        BASE[chosen.base],
        _unseen(shown, chosen),
        _contours(chosen),
        "The outlined cell is the query." if any(map(query_box, shown)) else "",
        _silent(shown, photos),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def warnings(maps: Any) -> list[str]:
    """Return the warnings of the maps of a figure, each once, with the maps it belongs to."""
    found: dict[str, list[str]] = {}
    shown = [each for row in rectangle(maps) for each in row if each]
    photos = photo_names(shown)
    for each in shown:
        for warning in each.warnings:
            found.setdefault(warning, []).append(_named(each, photos))
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in found.items()]


def _subject(shown: Sequence[SaliencyMap], names: Mapping[str, str]) -> str:
    known = [facts(each, names) for each in shown]
    plain = [each for each in known if DIFFERENCE not in each]
    methods, models = _each("method", plain), _each("model", plain)
    words = f"Saliency maps by {_listed(methods)} for {_listed(models)}" if plain else "Differences"
    places = [
        _span(fact, _each(fact, plain)) for fact in ("layer", "head", "query") if _each(fact, plain)
    ]
    photos = _each("image", known)
    on = f", on {_listed(photos)}" if photos else ""
    return f"{', '.join([words, *places])}{on}."


def _span(fact: str, values: Sequence[str]) -> str:
    """Return several layers or heads in few words."""
    return values[0] if len(values) == 1 else f"{len(values)} {fact.replace('query', 'querie')}s"


def _targets(shown: Sequence[SaliencyMap]) -> str:
    specific = [each for each in shown if each.target is not None]
    agnostic = _distinct(each.method for each in shown if each.target is None and not _made(each))
    words = ""
    if specific:
        targets = _each("target", map(facts, specific))
        many = f"{len(targets)} classes, named at the panels"
        words = f"Explained: {_listed(targets) if len(targets) < 7 else many}."
    if specific and agnostic:
        verb = "knows" if len(agnostic) == 1 else "know"
        words += f" {_listed(agnostic)} {verb} no class."
    return words if specific else "The maps are the same for every class."


def _made(saliency: SaliencyMap) -> bool:
    return DIFFERENCE in saliency.provenance


def _differences(shown: Sequence[SaliencyMap]) -> str:
    made = [each.provenance[DIFFERENCE] for each in shown if _made(each)]
    if not made:
        return ""
    labels = _listed(_distinct(each["label"] for each in made))
    scaled = _listed(_distinct(each["scaled"] for each in made))
    return f"Difference: {labels} ({scaled})."


def _colours(rows: Maps, design: Design) -> str:
    scaling = Scaling.of(rows, design)
    labels = _distinct(
        [scaling.statement] if scaling.statement else [b.label for b in scaling.bars]
    )
    if not labels:
        return ""
    ends = ""
    if scaling.kind == "panel":
        spans = _distinct(f"{bar.ends[0]} to {bar.ends[1]}" for bar in scaling.bars)
        ends = f", from {_listed(spans)}"
    return f"Colour: {'; '.join(labels)}{ends}."


def _unseen(shown: Sequence[SaliencyMap], design: Design) -> str:
    if not any(hidden_share(each.geometry) > 0 for each in shown):
        return ""
    return f"{UNSEEN[design.style.unseen]}: what the model did not see."


def _contours(design: Design) -> str:
    levels = ", ".join(f"{level:g}" for level in design.style.contours)
    return f"Contours at {levels} of the scale." if levels else ""


def _silent(shown: Sequence[SaliencyMap], photos: Mapping[str, str]) -> str:
    silent = [f"{_named(each, photos)} ({each.no_signal})" for each in shown if each.no_signal]
    return f"No signal: {'; '.join(silent)}." if silent else ""


def _named(saliency: SaliencyMap, photos: Mapping[str, str]) -> str:
    known = facts(saliency, photos)
    names = ("method", DIFFERENCE, "layer", "head", "query", "image")
    return " ".join(known[name] for name in names if name in known)


def _each(fact: str, known: Iterable[dict[str, str]]) -> list[str]:
    return _distinct(each[fact] for each in known if fact in each)


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _listed(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"
