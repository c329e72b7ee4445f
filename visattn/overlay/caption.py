"""The caption: which photo, model and method, and what was explained."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as PillowImage

from visattn.images import Image
from visattn.overlay.colorbar import end_labels
from visattn.overlay.scale import Scale
from visattn.overlay.strip import Line, Sheet, text_strip
from visattn.overlay.style import Style
from visattn.overlay.text import printable, shorten, wrap
from visattn.overlay.unseen import hidden_share
from visattn.saliency import SaliencyMap, Target

MARKS = {"dim": "Greyed", "hatch": "Hatched", "outline": "Outside the line"}


def caption(
    saliency: SaliencyMap, photo: Image, style: Style, scale: Scale, sheet: Sheet
) -> PillowImage.Image:
    """Return a strip with file, method and model, class and probability, and notes.

    The file name is shortened in the middle to one line; everything else is wrapped.
    """
    bold = sheet.face(bold=True)
    lines = [Line(shorten(printable(file_name(saliency, photo)), bold, sheet.room), bold=True)]
    entries = [(title(saliency), False), (explained(saliency), False)]
    entries += [(note, True) for note in notes(saliency, style, scale)]
    for text, pale in entries:
        lines += [Line(part, pale=pale) for part in wrap(printable(text), sheet.face(), sheet.room)]
    return text_strip(lines, sheet)


def file_name(saliency: SaliencyMap, photo: Image) -> str:
    """Return the name of the photo's file, or words for pixels without one."""
    if photo.path is not None:
        return photo.path.name
    stored = saliency.provenance.get("image", {}).get("path")
    return Path(stored).name if stored else "photo without a file"


def title(saliency: SaliencyMap) -> str:
    """Return method and model, with the options that are not the method's defaults."""
    changed = saliency.provenance.get("changed", {})
    options = ", ".join(f"{name}={value}" for name, value in changed.items())
    return f"{saliency.method}{f' ({options})' if options else ''} of {saliency.model}"


def explained(saliency: SaliencyMap) -> str:
    """Return what the map explains, in words, with the model's first choice where that differs."""
    target, first = saliency.target, saliency.prediction
    if target is None:
        words = "class-agnostic: the same map for every class"
        return f"{words}; prediction: {_named(first)}" if first else words
    if target.index is None:
        words = f"target: {_named(target)}"
    else:
        words = f"class: {_named(target)}"
        if first and first.index == target.index:
            return f"{words}, the prediction"
    return f"{words}; prediction: {_named(first)}" if first else words


def notes(saliency: SaliencyMap, style: Style, scale: Scale) -> list[str]:
    """Return what a reader must know: scale, lines, unseen share, mask and box, warnings."""
    found = []
    drawn = not (saliency.no_signal or scale.empty)
    if drawn and not style.colorbar:
        low, high = end_labels(scale, saliency.grid)
        found.append(f"Scale: {scale.name}, {low} to {high}")
    if drawn and style.contours:
        levels = ", ".join(f"{level:g}" for level in style.contours)
        found.append(f"Contours: {levels} of the scale")
    hidden = hidden_share(saliency.geometry)
    if hidden > 0:
        mark = MARKS.get(style.unseen, "Unmarked")
        found.append(f"{mark}: the {_percent(hidden)} of the photo that the model did not see")
    if drawn and style.mask is not None:
        found.append(f"Bright: the fewest cells with {_percent(style.mask)} of the positive mass")
    if drawn and style.box is not None:
        found.append(f"Box: largest region of the {_percent(style.box)} mass cells")
    return found + [f"Warning: {each}" for each in saliency.warnings]


def _named(target: Target) -> str:
    if target.probability is None:
        return target.label
    shown = "below 0.01" if 0 < target.probability < 0.005 else f"{target.probability:.2f}"
    return f"{target.label} ({shown})"


def _percent(share: float) -> str:
    return "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"
