"""Write the sample photos and their table of sources from scikit-image's bundled images.

Only photographs that scikit-image itself states to be CC0 or in the public domain, and that lie in
the installed package, are used: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.resources
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

LONGEST = 640
QUALITY = 90
ORIENTATION = 0x0112
STORED_LEFT = 6  # the viewer turns the stored picture by 90 degrees clockwise


@dataclass(frozen=True)
class Photo:
    """One sample photo.

    Attributes:
        file: name of the JPEG.
        what: what can be seen.
        source: file in ``skimage/data``.
        author: who took it, as scikit-image says.
        licence: what scikit-image says about it.
        crop: left, upper, right and lower edge in pixels of the source, or None for all of it.
        turned: stored rotated, with an EXIF orientation that turns it upright.
    """

    file: str
    what: str
    source: str
    author: str
    licence: str
    crop: tuple[int, int, int, int] | None = None
    turned: bool = False


PHOTOS = (
    Photo(
        "astronaut.jpg",
        "Eileen Collins in an orange suit, helmet, flag",
        "astronaut.png",
        "NASA (Great Images database)",
        "public domain",
        crop=(0, 0, 384, 512),
    ),
    Photo(
        "cameraman.jpg",
        "man behind a camera on a tripod, black and white",
        "camera.png",
        "Lav Varshney",
        "CC0",
        crop=(0, 0, 416, 512),
        turned=True,
    ),
    Photo("cat.jpg", "Chelsea the cat", "chelsea.png", "Stéfan van der Walt", "CC0"),
    Photo("coffee.jpg", "cup of espresso, spoon", "coffee.png", "Rachel Michetti", "CC0"),
    Photo("retina.jpg", "fundus of a left eye", "retina.jpg", "Mikael Häggström", "CC0"),
    Photo("rocket.jpg", "Falcon 9 on the pad at dusk", "rocket.jpg", "SpaceX", "public domain"),
)

README = """\
# Sample photos

Written by `scripts/prepare_photos.py` from images that scikit-image bundles; photos longer than
{longest} pixels are scaled down to that, none is enlarged. Licences are quoted from the
documentation of `skimage.data`; bundled images without a clear CC0 or public-domain statement
(coins, moon, motorcycle, ...) are left out.

| file | size | what | source | author | licence | crop |
|---|---|---|---|---|---|---|
{rows}

Size is width x height as seen upright. Crop is left, upper, right, lower in pixels of the source.
`cameraman.jpg` is stored lying on its side with EXIF orientation 6, as phones do: a reader that
ignores the tag shows it turned by 90 degrees.
"""


def prepare(photo: Photo, folder: Path) -> Image.Image:
    """Write ``photo`` into ``folder`` and return it upright."""
    source = importlib.resources.files("skimage") / "data" / photo.source
    with source.open("rb") as file, Image.open(file) as opened:
        upright = opened.crop(photo.crop) if photo.crop else opened.copy()
    upright.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    exif = Image.Exif()
    stored = upright
    if photo.turned:
        exif[ORIENTATION] = STORED_LEFT
        stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.save(folder / photo.file, quality=QUALITY, optimize=True, exif=exif)
    return upright


def row(photo: Photo, upright: Image.Image) -> str:
    """Return the line of the table that describes ``photo``."""
    size = f"{upright.width} x {upright.height}"
    crop = ", ".join(map(str, photo.crop)) if photo.crop else "none"
    name = f"`{photo.file}`" + (" (EXIF 6)" if photo.turned else "")
    source = f"`skimage/data/{photo.source}`"
    cells = (name, size, photo.what, source, photo.author, photo.licence, crop)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write all photos and the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parent.parent / "data" / "photos"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(row(photo, prepare(photo, folder)) for photo in PHOTOS)
    (folder / "README.md").write_text(README.format(longest=LONGEST, rows=rows), encoding="utf-8")
    print(f"{len(PHOTOS)} photos in {folder}")


if __name__ == "__main__":
    main()
