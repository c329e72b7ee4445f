"""FigureConfig: everything that one figure needs to know, from flags and a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from visattn.cli.figure_axes import Axes, networks, require_axis
from visattn.cli.figure_stored import COMPUTED, stored
from visattn.cli.options import size_of
from visattn.errors import ConfigError
from visattn.settings import read_settings, validated

if TYPE_CHECKING:
    from visattn.figures import Design

FLAGS = {"images": "IMAGE", "out": "--out"}
DESIGN = ("width", "venue", "scale", "base", "letters", "photos", "dpi")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, (str, int, Path)) else value


def _texts(value: Any) -> Any:
    return [str(each) if isinstance(each, int) else each for each in _listed(value)]


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]


class FigureConfig(BaseModel):
    """One figure: what it shows and how; relative paths are relative to the current directory.

    Attributes:
        images, models, methods, targets, layers, heads, queries: the values along each axis;
            images may be stored maps (.npz), and then nothing is computed.
        rows: the axis that makes the rows; the others make the columns.
        out: file to write, .pdf, .svg or .png.
        weights: one for all models, one for each, or several for one model.
        image_size: as for `visattn.load_model`, ``448`` or ``384x512``.
        device: as for `visattn.load_model`.
        options: given to each method that has them.
        width, venue, scale, base, letters, photos, dpi, style: see `visattn.figures.Design`.
        contours: draw contours at half of the scale; or levels.
        difference: add the difference of the two maps of each row.
        agreement: draw the agreement of the maps of a row instead: spearman, pearson or iou.
        row_labels, column_labels: words instead of the figure's own labels.
        wrap: maps side by side where there is a single row or column.
        stub: write caption and LaTeX stub beside the figure.
        maps: folder that gets every raw map as .npz, or None.
        photos_in: folder where the photos of stored maps are now, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: Annotated[tuple[Path, ...], BeforeValidator(_listed), Field(min_length=1)]
    out: Path
    models: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    methods: Texts = ("auto",)
    targets: Texts = ()
    layers: Texts = ()
    heads: Texts = ()
    queries: Texts = ()
    rows: str = "images"
    weights: Texts = ("pretrained",)
    image_size: str | int | None = None
    device: str = "auto"
    options: dict[str, Any] = Field(default_factory=dict)
    width: str | float = "double"
    venue: str = "cvpr"
    scale: str = "auto"
    base: str = "grey"
    contours: bool | tuple[float, ...] = False
    letters: bool = False
    photos: bool = True
    dpi: int = 300
    style: dict[str, Any] = Field(default_factory=dict)
    difference: bool = False
    agreement: str | None = None
    wrap: Annotated[int, Field(ge=1)] | None = None
    stub: bool = True
    maps: Path | None = None
    photos_in: Path | None = None
    row_labels: Texts | None = None
    column_labels: Texts | None = None

    @model_validator(mode="after")
    def _complete(self) -> FigureConfig:
        require_axis(self.rows)
        if not stored(self.images):
            if not self.models:
                raise ConfigError(
                    "models is missing: give --model, or 'models' in the config file."
                )
            if self.photos_in is not None:
                raise ConfigError(
                    f"--photos-in {self.photos_in}: only stored maps (.npz) look for their photos; "
                    "give the photos themselves, or maps."
                )
            return self
        given = [name for name in COMPUTED if name in self.model_fields_set and getattr(self, name)]
        if given:
            raise ConfigError(
                f"{', '.join(given)}: the maps of {self.images[0].name} are computed already. "
                "Leave it out, or give photos instead of .npz files."
            )
        return self

    @property
    def axes(self) -> Axes:
        """What the figure shows."""
        return Axes(
            self.images,
            networks(self.models, self.weights),
            self.methods,
            self.targets,
            self.layers,
            self.heads,
            self.queries,
            self.rows,
            self.options,
        ).completed()

    @property
    def design(self) -> Design:
        """How it is laid out."""
        from visattn.figures import Design

        own = {name: getattr(self, name) for name in DESIGN}
        lines = {"contours": self.contours} if self.contours else {}
        return Design.create(**{**lines, **self.style, **own})

    @property
    def size(self) -> int | tuple[int, int] | None:
        """The ``image_size`` of `visattn.load_model`."""
        return size_of(None if self.image_size is None else str(self.image_size))


def resolve(path: Path | None, flags: Mapping[str, Any]) -> FigureConfig:
    """Return the config of a YAML file (or of none), with the flags that were given on top.

    Raises `ConfigError` for a file that is missing or not YAML, an unknown key, with the nearest
    right one, and a value of the wrong kind.
    """
    settings = read_settings(path, "rows: images")
    given = {key: value for key, value in flags.items() if value not in (None, [], {})}
    for key in ("options", "style"):
        if isinstance(settings.get(key), dict) and key in given:
            given[key] = {**settings[key], **given[key]}
    return validated(FigureConfig, {**settings, **given}, FLAGS)
