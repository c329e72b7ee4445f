"""Films and animated images in a gallery."""

from __future__ import annotations

import io
import json
import math
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gallery_fakes import FakeEngine, bug, photo, settings
from PIL import Image as PillowImage
from test_gallery_page import opened
from typer.testing import CliRunner

from visattn.cli.app import build
from visattn.errors import ConfigError, ImageError
from visattn.gallery import SaliencyClip, Summary, clip_drawing, film, progress, render, run_gallery
from visattn.gallery.export import export_gallery
from visattn.gallery.frames import Footage, is_clip
from visattn.gallery.render import render_gallery
from visattn.gallery.smoothing import smoothed
from visattn.images import Image
from visattn.saliency import SaliencyMap

HEIGHT, WIDTH = 64, 96
BARE = {"caption": False, "colorbar": False}
STYLE = {**BARE, "unseen": "none"}


def spot(place: int) -> tuple[int, int]:
    """Return where the middle of the square is in a frame: it moves right and down."""
    return 12 + 2 * place, 28 + 3 * place


def picture(place: int, height: int = HEIGHT, width: int = WIDTH, bright: int = 250) -> Any:
    pixels = np.full((height, width, 3), (20, 40, 30), np.uint8)
    row, col = spot(place)
    pixels[row - 6 : row + 6, col - 6 : col + 6] = bright
    return pixels


def film_of(path: Path, frames: Sequence[Any], fps: float = 8.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = "MJPG" if path.suffix == ".avi" else "VP80" if path.suffix == ".webm" else "mp4v"
    height, width = frames[0].shape[:2]
    four = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), four, fps, (width, height))
    assert writer.isOpened()
    for each in frames:
        writer.write(np.ascontiguousarray(each[:, :, ::-1]))
    writer.release()
    return path


def animation(path: Path, frames: Sequence[Any], duration: Any = 125, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = [PillowImage.fromarray(each) for each in frames]
    options = {"save_all": True, "append_images": others, "duration": duration, **options}
    if path.suffix == ".webp":
        options["lossless"] = True
    first.save(path, **options)
    return path


def read_film(path: Path) -> tuple[list[Any], float]:
    capture = cv2.VideoCapture(str(path))
    rate, frames = capture.get(cv2.CAP_PROP_FPS), []
    while True:
        good, pixels = capture.read()
        if not good:
            return frames, rate
        frames.append(pixels[:, :, ::-1])


def read_animation(path: Path) -> list[Any]:
    with PillowImage.open(path) as opened:
        found = []
        for place in range(getattr(opened, "n_frames", 1)):
            opened.seek(place)
            found.append(np.asarray(opened.convert("RGB")))
        return found


def run(folder: Path, out: Path, engine: FakeEngine | None = None, **other: Any) -> Summary:
    given = {"methods": ["bright"], "style": STYLE, **other}
    return run_gallery(
        settings(folder, out, **given), progress=False, engine=engine or FakeEngine()
    )


def entries(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    found = map(json.loads, (out / "manifest.jsonl").read_text().splitlines())
    return {(each["image"], each["method"]): each for each in found}


def hottest(pixels: Any) -> tuple[float, float]:
    """Return the middle (row, col) of the paint: "autumn" has much red and no blue."""
    heat = np.maximum(0, pixels[..., 0].astype(float) - pixels[..., 2]) ** 2
    rows, cols = np.indices(heat.shape)
    return float((heat * rows).sum() / heat.sum()), float((heat * cols).sum() / heat.sum())


def footage(path: Path, fps: float = 4.0, limit: int = 240) -> Footage:
    return Footage.of(path, "0" * 64, fps, limit)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A photo, a film of 2 s and 8 frames per second, and the same as an animated image."""
    frames = [picture(place) for place in range(16)]
    photo(tmp_path / "in" / "ant.png")
    film_of(tmp_path / "in" / "deep" / "moving.mp4", frames)
    animation(tmp_path / "in" / "moving.gif", frames)
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv", "a.mov", "a.webm"])
@pytest.mark.parametrize(("fps", "places"), [(4, range(0, 16, 2)), (8, range(16)), (99, range(16))])
def test_films_are_sampled_at_the_asked_rate(
    tmp_path: Path, name: str, fps: float, places: range
) -> None:
    source = footage(film_of(tmp_path / name, [picture(each) for each in range(16)]), fps)
    found = list(source.frames())
    assert source.fps == pytest.approx(min(fps, 8))
    assert [each.time for each in found] == pytest.approx(
        [i / source.fps for i in range(len(found))]
    )
    assert len(found) == len(places)
    for each, place in zip(found, places, strict=True):
        bright = np.argwhere(each.image.pixels.mean(axis=2) > 150)
        assert np.abs(bright.mean(axis=0) - np.subtract(spot(place), 0.5)).max() < 1.5
        assert each.image.pixels[2, 2] == pytest.approx([20, 40, 30], abs=14)  # RGB, not BGR
    assert source.remarks == []


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animations_are_sampled_by_the_time_of_their_frames(tmp_path: Path, suffix: str) -> None:
    frames = [picture(place) for place in range(4)]
    path = animation(tmp_path / f"a{suffix}", frames, [100, 600, 100, 200])
    assert is_clip(path)
    source = footage(path, 5)
    found = [each.image.pixels for each in source.frames()]
    # Seen at 0, 0.2, 0.4, 0.6 and 0.8 s; the frames begin at 0, 0.1, 0.7 and 0.8 s.
    assert source.fps == 5
    shown = [int(np.argmin([np.abs(each - f.astype(int)).sum() for f in frames])) for each in found]
    assert shown == [0, 1, 1, 1, 3]


def test_transparency_and_disposal_are_laid_on_white_frame_by_frame(tmp_path: Path) -> None:
    frames = []
    for place in range(3):
        frame = np.zeros((30, 40, 4), np.uint8)
        frame[10:20, 10 * place : 10 * place + 10] = (200, 0, 0, 255)
        frames.append(frame)
    path = animation(tmp_path / "a.gif", frames, 250, disposal=2)
    source = footage(path)
    found = [each.image.pixels for each in source.frames()]
    assert len(found) == 3
    for place, pixels in enumerate(found):
        wanted = np.full((30, 40, 3), 255)
        wanted[10:20, 10 * place : 10 * place + 10] = (200, 0, 0)
        assert np.abs(pixels.astype(int) - wanted).max() < 8
    assert source.remarks == ["transparency laid on white"]


def test_the_still_picture_of_a_png_is_no_part_of_its_animation(tmp_path: Path) -> None:
    frames = [picture(place) for place in range(3)]
    path = animation(tmp_path / "a.png", frames, 250, default_image=True)
    found = [each.image.pixels for each in footage(path).frames()]
    assert [np.array_equal(a, b) for a, b in zip(found, frames[1:], strict=True)] == [True, True]


def test_photos_and_broken_files_are_no_clips_and_films_are(tmp_path: Path) -> None:
    assert not is_clip(photo(tmp_path / "a.png"))
    (tmp_path / "b.gif").write_bytes(b"GIF89a nothing")
    (tmp_path / "c.mp4").write_bytes(b"nothing")
    assert not is_clip(tmp_path / "b.gif")
    assert is_clip(tmp_path / "c.mp4")


@pytest.mark.parametrize("content", [b"", b"no film at all" * 50])
def test_a_film_that_cannot_be_read_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.mp4: (the file is empty|not a film)"):
        footage(tmp_path / "bad.mp4")


def test_a_film_without_frames_says_so(tmp_path: Path) -> None:
    path = film_of(tmp_path / "a.avi", [picture(0)])
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"00dc")])
    with pytest.raises(ImageError, match=r"a\.avi"):
        list(footage(path).frames())


def test_a_film_that_is_cut_off_is_read_as_far_as_it_goes_and_said(tmp_path: Path) -> None:
    path = film_of(tmp_path / "a.avi", [picture(place) for place in range(16)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = footage(path, 8)
    assert 1 <= len(list(source.frames())) < 14
    assert any("cut off or damaged" in each for each in source.remarks)


def test_the_limit_is_said(tmp_path: Path) -> None:
    source = footage(film_of(tmp_path / "a.mp4", [picture(place) for place in range(16)]), 4, 5)
    assert len(list(source.frames())) == 5
    (remark,) = source.remarks
    assert remark.startswith("only the first 5 frames (1.25 s)")
    whole = footage(tmp_path / "a.mp4", 4, 8)
    assert len(list(whole.frames())) == 8
    assert whole.remarks == []


def turned(path: Path) -> Path:
    """Write into a film that it is to be turned by 90 degrees when it is shown."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def test_frames_that_change_their_size_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    """Maps of two geometries cannot be one clip."""
    path = animation(tmp_path / "in" / "a.gif", [picture(0), picture(1)])
    wide = Image(picture(2, HEIGHT, WIDTH + 8), path, "0" * 64)
    first = Image(picture(0), path, "0" * 64)
    shots = [(0.0, lambda: first), (0.25, lambda: wide), (0.5, lambda: wide)]
    monkeypatch.setattr(Footage, "_animation", lambda _: iter(shots))
    with pytest.raises(ImageError, match=r"a frame of .*104.* follows one of .*96"):
        list(footage(path).frames())
    summary = run(tmp_path / "in", tmp_path / "out")
    assert (summary.ok, summary.failed) == (0, 1)
    assert summary.failure_lines()[0].startswith("failed (1 clip): ")


def varied(path: Path, stamps: Sequence[float]) -> Path:
    """Write a WebM film whose frames begin at ``stamps`` seconds, by moving those of an even one.

    In WebM every block has its time, in milliseconds from its cluster's.
    """
    film_of(path, [picture(place) for place in range(len(stamps))], fps=10.0)
    data, moved = bytearray(path.read_bytes()), 0
    for place in range(len(data) - 6):
        # SimpleBlock: 0xA3, size of several bytes, track 1 (0x81), time (int16), flags.
        for size in (1, 2, 3, 4, 8):
            at = place + 1 + size
            if data[place] == 0xA3 and data[at : at + 1] == b"\x81" and moved < len(stamps):
                then = int.from_bytes(data[at + 1 : at + 3], "big", signed=True)
                if then == round(100 * moved) and data[at + 3] & 0x7F == 0:
                    data[at + 1 : at + 3] = round(1000 * stamps[moved]).to_bytes(2, "big")
                    moved += 1
                    break
    assert moved == len(stamps)
    path.write_bytes(data)
    return path


def test_a_film_of_variable_rate_keeps_its_time(tmp_path: Path) -> None:
    """The frame at 0.2 s stays for a second: it is seen at every time until then."""
    path = varied(tmp_path / "in" / "slow.webm", [0, 0.1, 0.2, 1.2, 1.3])
    found = list(footage(path, fps=5.0).frames())
    assert [frame.time for frame in found] == pytest.approx([0.2 * each for each in range(7)])
    wanted = [0, 2, 2, 2, 2, 2, 3]
    for frame, place in zip(found, wanted, strict=True):
        distances = [
            np.abs(frame.image.pixels.astype(int) - picture(other)).mean() for other in range(5)
        ]
        assert int(np.argmin(distances)) == place


def test_a_film_is_shown_upright(tmp_path: Path) -> None:
    path = turned(film_of(tmp_path / "a.mp4", [picture(place) for place in range(8)]))
    first, *_ = footage(path).frames()
    assert first.image.size == (WIDTH, HEIGHT)
    row, col = np.argwhere(first.image.pixels.mean(axis=2) > 150).mean(axis=0)
    assert (row, col) == pytest.approx((spot(0)[1], HEIGHT - spot(0)[0]), abs=2)


def test_a_film_with_a_colon_and_a_percent_in_its_name(tmp_path: Path, monkeypatch: Any) -> None:
    film_of(tmp_path / "plain.mp4", [picture(0)] * 4).rename(tmp_path / "a:%02d.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(footage(Path("a:%02d.mp4")).frames())) == 2


def test_a_gallery_of_photos_and_clips(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    style = {**STYLE, "colormap": "autumn"}
    summary = run(clips, out, methods=["bright", "signed"], style=style)
    assert (summary.ok, summary.failed, summary.exit_code) == (6, 0, 0)
    found = entries(out)
    assert "frames" not in found["ant.png", "bright"]
    for name in ("deep/moving.mp4", "moving.gif"):
        line = found[name, "bright"]
        assert line["overlay"] == f"overlays/{name}/fake.bright.mp4"
        assert line["preview"] == f"overlays/{name}/fake.bright.webp"
        assert (line["frames"], line["fps"]) == (8, 4.0)
        assert (line["height"], line["width"], line["grid"]) == (HEIGHT, WIDTH, [8, 8])
        frames, rate = read_film(out / line["overlay"])
        assert (len(frames), frames[0].shape, rate) == (8, (HEIGHT, WIDTH, 3), 4.0)
        with PillowImage.open(out / line["preview"]) as opened:
            assert (opened.n_frames, opened.size) == (8, (WIDTH, HEIGHT))
            opened.load()
            assert opened.info["duration"] == 250
        for number, place in enumerate(range(0, 16, 2)):
            for pixels in (frames[number], read_animation(out / line["preview"])[number]):
                row, col = hottest(pixels)
                assert abs(row - spot(place)[0]) < 4, (name, number)
                assert abs(col - spot(place)[1]) < 4, (name, number)
    assert {path.name for path in out.iterdir()} >= {"tiles", "overlays", "maps", "photos"}


def test_all_frames_have_one_scale(tmp_path: Path) -> None:
    """A square that gets brighter: its colour follows the value; what stays has one colour."""
    frames = [picture(0, bright=bright) for bright in (90, 130, 170, 210, 250)]
    animation(tmp_path / "in" / "a.png", frames, 250)
    run(tmp_path / "in", tmp_path / "out")
    (line,) = entries(tmp_path / "out").values()
    clip = SaliencyClip.load(tmp_path / "out" / line["map"])
    low, high = line["statistics"]["scale"]
    assert (low, high) == (float(clip.grids.min()), float(clip.grids.max()))
    assert line["statistics"]["normalization"] == "minmax over all frames"
    maps, style = clip_drawing.on_one_scale(clip.maps(), clip_drawing_style())
    drawn = [
        np.asarray(each.overlay(PillowImage.fromarray(pixels), **{**STYLE, "limits": style.limits}))
        for each, pixels in zip(maps, frames, strict=True)
    ]
    corner = [pixels[-3, -20] for pixels in drawn]
    assert all(np.array_equal(corner[0], each) for each in corner)
    shown = read_animation(tmp_path / "out" / line["preview"])
    for mine, stored in zip(drawn, shown, strict=True):
        assert np.abs(mine.astype(int) - stored).mean() < 4  # lossy
    reds = [int(pixels[12, 24, 0]) for pixels in shown]
    assert reds == sorted(reds)
    assert reds[-1] > reds[0] + 60


def clip_drawing_style() -> Any:
    from visattn.gallery.drawing import gallery_style

    return gallery_style(STYLE)


def test_limits_of_the_style_stay(tmp_path: Path) -> None:
    animation(tmp_path / "in" / "a.png", [picture(0), picture(1)], 250)
    run(tmp_path / "in", tmp_path / "out", style={**STYLE, "limits": [0, 300]})
    (line,) = entries(tmp_path / "out").values()
    assert line["statistics"]["scale"] == [0, 300]
    assert line["statistics"]["normalization"] == "fixed limits"


def test_a_signed_map_with_a_named_scale(tmp_path: Path) -> None:
    animation(tmp_path / "in" / "a.png", [picture(0), picture(1)], 250)
    run(tmp_path / "in", tmp_path / "out", methods=["signed"])
    (line,) = entries(tmp_path / "out").values()
    low, high = line["statistics"]["scale"]
    assert low == -high
    other = {**STYLE, "normalization": "minmax"}
    run(tmp_path / "in", tmp_path / "two", methods=["signed"], style=other)
    (line,) = entries(tmp_path / "two").values()
    assert (line["status"], line["error"]) == ("ok", None)
    low, high = line["statistics"]["scale"]
    assert -low < high


def test_smoothing_against_the_formula() -> None:
    rng = np.random.default_rng(0)
    grids = rng.normal(size=(7, 3, 4)).astype(np.float32)
    times = np.array([0, 0.25, 0.5, 0.75, 1.5, 1.75, 3.0])
    alive = np.array([True, True, False, True, True, True, True])
    found = smoothed(grids, times, 0.4, alive)
    for i in range(7):
        for row in range(3):
            for col in range(4):
                total = weight = 0.0
                for j in range(7):
                    if alive[j]:
                        w = math.exp(-((times[i] - times[j]) ** 2) / (2 * 0.4**2))
                        total, weight = total + w * float(grids[j, row, col]), weight + w
                wanted = total / weight if alive[i] else float(grids[i, row, col])
                assert found[i, row, col] == pytest.approx(wanted, abs=1e-6)
    assert np.array_equal(smoothed(grids, times, 0.0, alive), grids)
    assert np.array_equal(smoothed(grids, times, 0.4, np.zeros(7, bool)), grids)
    constant = np.ones_like(grids)
    assert smoothed(constant, times, 2.0, alive) == pytest.approx(constant)


def test_maps_are_stored_raw_and_drawn_smoothed(clips: Path, tmp_path: Path) -> None:
    run(clips, tmp_path / "raw")
    run(clips, tmp_path / "smooth", smoothing=0.5)
    name = entries(tmp_path / "raw")["moving.gif", "bright"]
    raw, smooth = (SaliencyClip.load(tmp_path / each / name["map"]) for each in ("raw", "smooth"))
    assert np.array_equal(raw.grids, smooth.grids)
    assert (raw.smoothing, smooth.smoothing) == (0, 0.5)
    alive = np.ones(8, bool)
    wanted = smoothed(raw.grids, raw.times, 0.5, alive)
    assert np.array_equal([each.grid for each in smooth.maps()], wanted)
    assert np.array_equal([each.grid for each in smooth.maps(smooth=False)], raw.grids)
    line = entries(tmp_path / "smooth")["moving.gif", "bright"]
    assert line["statistics"]["scale"] == pytest.approx([wanted.min(), wanted.max()])


def test_a_clip_without_any_signal_is_drawn_with_smoothing_too(clips: Path, tmp_path: Path) -> None:
    summary = run(clips, tmp_path / "out", methods=["flat"], smoothing=0.5)
    assert (summary.ok, summary.failed) == (3, 0)
    line = entries(tmp_path / "out")["moving.gif", "flat"]
    assert line["statistics"]["no_signal"]
    assert len(read_film(tmp_path / "out" / line["overlay"])[0]) == 8


def test_a_stored_clip_comes_back_and_is_no_map_of_a_photo(clips: Path, tmp_path: Path) -> None:
    run(clips, tmp_path / "out", methods=["bright", "classes_only"])
    found = entries(tmp_path / "out")
    line = found["deep/moving.mp4", "classes_only"]
    clip = SaliencyClip.load(tmp_path / "out" / line["map"])
    assert clip.grids.shape == (8, 8, 8)
    assert clip.times == pytest.approx(np.arange(8) / 4)
    assert clip.geometry.original == (HEIGHT, WIDTH)
    assert clip.target.label == line["target_label"]
    assert clip.probabilities == pytest.approx([line["probability"]] * 8)
    with pytest.raises(ConfigError, match=r"clip.*SaliencyClip\.load reads it"):
        SaliencyMap.load(tmp_path / "out" / line["map"])
    with pytest.raises(ConfigError, match=r"SaliencyMap\.load"):
        SaliencyClip.load(tmp_path / "out" / found["ant.png", "bright"]["map"])
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="does not hold"):
        SaliencyClip.load(tmp_path / "x.npz")


@dataclass
class Doubtful(FakeEngine):
    """Cat in most frames, but dog where it is sure: dog has the higher mean probability."""

    def probabilities(self, model: Any, prepared: Sequence[Any]) -> Any:
        sure = [bool(each.image.pixels.mean() > 100) for each in prepared]
        return np.array([(0.0, 1.0) if each else (0.6, 0.4) for each in sure])


@pytest.mark.parametrize(
    ("target", "label", "words"),
    [
        (None, "dog", "highest mean probability"),
        ("top2", "cat", "number 2 in mean probability"),
        (0, "cat", None),
    ],
)
def test_one_class_for_the_whole_clip(
    tmp_path: Path, target: Any, label: str, words: str | None
) -> None:
    frames = [picture(place) for place in range(3)] + [np.full((HEIGHT, WIDTH, 3), 200, np.uint8)]
    animation(tmp_path / "in" / "a.png", frames, 250)
    given = {"methods": ["bright", "classes_only"], "batch_size": 2, "target": target}
    run(tmp_path / "in", tmp_path / "out", Doubtful(), **given)
    agnostic, specific = entries(tmp_path / "out").values()
    assert specific["target_label"] == label
    assert any(words in each for each in specific["warnings"]) if words else True
    assert agnostic["target_label"] is None
    assert not any("class" in each for each in agnostic["warnings"])
    assert any(each.startswith("no signal in 1 of 4 frames") for each in agnostic["warnings"])
    assert specific["statistics"]["prediction"] == ("dog" if target is None else None)


def test_a_second_run_keeps_finished_clips_and_a_missing_file_is_made_again(
    clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(clips, out)
    again = run(clips, out, engine := FakeEngine())
    assert (again.ok, again.kept, engine.batches) == (3, 3, [])
    (out / "tiles" / "moving.gif" / "fake.bright.webp").unlink()
    again = run(clips, out, engine := FakeEngine())
    assert (again.ok, again.kept) == (3, 2)
    assert {name for batch in engine.batches for name in batch} == {"moving.gif"}
    with pytest.raises(ConfigError, match=r"fps: was 4\.0, is now 2\.0"):
        run(clips, out, fps=2.0)
    film_of(clips / "deep" / "moving.mp4", [picture(place) for place in range(4)])
    again = run(clips, out, FakeEngine())
    assert (again.ok, again.kept) == (3, 2)
    assert entries(out)["deep/moving.mp4", "bright"]["frames"] == 2


def test_photos_alone_do_not_settle_the_rate_of_clips(clips: Path, tmp_path: Path) -> None:
    run(clips, tmp_path / "out", limit=1)
    assert run(clips, tmp_path / "out", fps=2.0).ok == 3


def test_an_interrupted_clip_is_continued(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(names: tuple[str, ...], _: Any) -> None:
        if names[0] == "moving.gif":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(clips, out, FakeEngine(crash=stop))
    assert {image for image, _ in entries(out)} == {"ant.png", "deep/moving.mp4"}
    summary = run(clips, out, engine := FakeEngine())
    assert (summary.ok, summary.kept) == (3, 2)
    assert {name for batch in engine.batches for name in batch} == {"moving.gif"}
    assert not list(out.rglob(".visattn-*"))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from gallery_fakes import FakeEngine, settings
from visattn.gallery import film, run_gallery

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[4] == "explaining":
    engine = FakeEngine(crash=lambda names, _: names[0] == "moving.gif" and kill())
else:
    engine, film.write_animation = FakeEngine(), kill
config = settings(Path(sys.argv[2]), Path(sys.argv[3]), methods=["bright"])
run_gallery(config, progress=False, engine=engine)
"""


@pytest.mark.parametrize(("when", "kept"), [("explaining", 2), ("drawing", 1)])
def test_a_killed_run_continues(clips: Path, tmp_path: Path, when: str, kept: int) -> None:
    out, here = tmp_path / "out", str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLED, here, str(clips), str(out), when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(entries(out)) == kept
    summary = run(clips, out, style={})
    assert (summary.ok, summary.kept) == (3, kept)
    assert not list(out.rglob(".visattn-*"))
    run(clips, tmp_path / "whole", style={})
    for path in (tmp_path / "whole" / "overlays").rglob("*.webp"):
        again = out / path.relative_to(tmp_path / "whole")
        assert path.read_bytes() == again.read_bytes()


def test_broken_clips_and_bugs_are_listed_and_the_others_go_on(clips: Path, tmp_path: Path) -> None:
    (clips / "bad.mp4").write_bytes(b"no film" * 100)
    (clips / "cut.gif").write_bytes((clips / "moving.gif").read_bytes()[:500])

    def crash(names: tuple[str, ...], methods: list[str]) -> None:
        if "moving.gif" in names and "dark" in methods:
            bug()

    methods = ["bright", "dark", "classes_only"]
    given = {"models": ["headless"], "methods": methods, "batch_size": 3}
    summary = run(clips, tmp_path / "out", FakeEngine(crash=crash), **given)
    found = entries(tmp_path / "out")
    status = {key: line["status"] for key, line in found.items()}
    assert [status["bad.mp4", each] for each in methods] == ["failed"] * 3
    assert "bad.mp4: not a film" in found["bad.mp4", "bright"]["error"]
    assert status["cut.gif", "bright"] == "failed"
    assert [status["moving.gif", each] for each in methods] == ["ok", "failed", "unsupported"]
    assert "frame at 0.00 s: ZeroDivisionError" in found["moving.gif", "dark"]["error"]
    assert [status["deep/moving.mp4", each] for each in methods] == ["ok", "ok", "unsupported"]
    assert summary.exit_code == 1


def test_one_frame_and_odd_sizes(tmp_path: Path) -> None:
    film_of(tmp_path / "in" / "one.avi", [picture(0)])
    odd = [picture(place, 61, 95) for place in range(3)]
    animation(tmp_path / "in" / "odd.png", odd, 250)
    run(tmp_path / "in", tmp_path / "out")
    found = entries(tmp_path / "out")
    assert found["one.avi", "bright"]["frames"] == 1
    line = found["odd.png", "bright"]
    frames, rate = read_film(tmp_path / "out" / line["overlay"])
    assert (len(frames), frames[0].shape, rate) == (3, (62, 96, 3), 4.0)
    assert any("even sizes" in each for each in line["warnings"])
    assert read_animation(tmp_path / "out" / line["preview"])[0].shape == (61, 95, 3)


def test_without_a_codec_the_animated_picture_stands_in(clips: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "codec", lambda: None)
        assert run(clips, tmp_path / "out").exit_code == 0
    line = entries(tmp_path / "out")["moving.gif", "bright"]
    assert line["overlay"] == line["preview"]
    assert len(read_animation(tmp_path / "out" / line["overlay"])) == 8
    assert any("writes none of mp4v" in each for each in line["warnings"])
    assert run(clips, tmp_path / "out").kept == 3


def test_opencv_refuses_an_unknown_codec(tmp_path: Path) -> None:
    with pytest.raises(film.FilmError, match="does not write none"):
        film.write_film(tmp_path / "a.mp4", [], 4.0, Image(picture(0)).size, "none")


def test_long_animations_are_cut_and_said(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(clip_drawing, "PREVIEW_FRAMES", 3)
    animation(tmp_path / "in" / "a.png", [picture(place) for place in range(5)], 250)
    run(tmp_path / "in", tmp_path / "out")
    (line,) = entries(tmp_path / "out").values()
    assert len(read_animation(tmp_path / "out" / line["preview"])) == 3
    assert len(read_film(tmp_path / "out" / line["overlay"])[0]) == 5
    assert "the animated picture shows the first 3 of 5 frames" in line["warnings"]


def test_render_draws_clips_again(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clips, out)
    before = read_film(out / "overlays/moving.gif/fake.bright.mp4")[0]
    done = render_gallery(out, {"colormap": "gray"})
    assert (done.drawn, done.failures) == (3, {})
    line = entries(out)["moving.gif", "bright"]
    assert (line["frames"], line["statistics"]["colormap"]) == (8, "gray")
    after = read_film(out / line["overlay"])[0]
    assert len(after) == len(before) == 8
    assert np.abs(after[0].astype(int) - before[0]).max() > 60
    shared = render_gallery(out, scale="shared")
    assert shared.failures == {}
    scales = {tuple(each["statistics"]["scale"]) for each in entries(out).values()}
    assert len(scales) == 1


def test_render_changes_the_smoothing_of_all_clips(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clips, out, methods=["bright", "dark"])
    before = read_film(out / "overlays/moving.gif/fake.bright.mp4")[0]
    done = render_gallery(out, smoothing=0.5)
    assert (done.drawn, done.failures) == (6, {})
    clip = SaliencyClip.load(out / "maps/moving.gif/fake.bright.npz")
    assert clip.smoothing == 0.5
    after = read_film(out / "overlays/moving.gif/fake.bright.mp4")[0]
    assert np.abs(after[0].astype(int) - before[0]).max() > 20
    run(clips, tmp_path / "smooth", methods=["bright", "dark"], smoothing=0.5)
    wanted = read_film(tmp_path / "smooth" / "overlays/moving.gif/fake.bright.mp4")[0]
    assert all(np.array_equal(*pair) for pair in zip(after, wanted, strict=True))
    assert run(clips, out, methods=["bright", "dark"], smoothing=0.5).kept == 6
    with pytest.raises(ConfigError, match=r"smoothing: was 0\.5, is now 0\.0"):
        run(clips, out, methods=["bright", "dark"])


def test_a_shared_scale_follows_the_smoothing(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clips, out, smoothing=2.0)
    render_gallery(out, scale="shared")
    narrow = entries(out)["moving.gif", "bright"]["statistics"]["scale"]
    render_gallery(out, smoothing=0)
    wide = entries(out)["moving.gif", "bright"]["statistics"]["scale"]
    assert wide[1] > narrow[1]
    line = entries(out)["moving.gif", "bright"]["statistics"]
    assert line["maximum"] <= wide[1]


def test_a_drawing_with_other_smoothing_that_was_cut_off_is_completed(
    clips: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    out, real = tmp_path / "out", render.redraw_clip
    run(clips, out)

    def stopping(studio: Any, entry: Any, *others: Any) -> Any:
        if entry.image == "moving.gif":
            raise KeyboardInterrupt
        return real(studio, entry, *others)

    monkeypatch.setattr(render, "redraw_clip", stopping)
    with pytest.raises(KeyboardInterrupt):
        render_gallery(out, smoothing=0.5)
    monkeypatch.setattr(render, "redraw_clip", real)
    render_gallery(out)
    paths = [line["map"] for (image, _), line in entries(out).items() if image != "ant.png"]
    assert [SaliencyClip.load(out / path).smoothing for path in paths] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"smoothing": -1.0}, "0 or more, not -1"),
        ({"smoothing": float("nan")}, "0 or more, not nan"),
        ({"smoothing": 1.0, "methods": ["bright"]}, "leave --model and --method out"),
    ],
)
def test_wrong_smoothing_is_refused(
    clips: Path, tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    run(clips, tmp_path / "out", methods=["bright", "dark"])
    with pytest.raises(ConfigError, match=words):
        render_gallery(tmp_path / "out", **given)


def test_a_gallery_of_photos_has_nothing_to_smooth(clips: Path, tmp_path: Path) -> None:
    run(clips, tmp_path / "out", limit=1)
    with pytest.raises(ConfigError, match="this gallery has none"):
        render_gallery(tmp_path / "out", smoothing=1.0)


def test_it_is_told_how_far_a_clip_is(clips: Path, tmp_path: Path, monkeypatch: Any) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress.Meter, "frames", lambda _, words: told.append(words))
    run(clips, tmp_path / "out", batch_size=3)
    about = [words for words in told if not words.startswith("moving.mp4")]
    assert [words for words in about if words] == [
        *(f"moving.gif: {count} frames explained" for count in (3, 6, 8)),
        "moving.gif: 8 of 8 frames drawn",
    ]
    assert told[-1] == ""


def test_render_leaves_clips_that_are_gone(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clips, out)
    (clips / "moving.gif").unlink()
    done = render_gallery(out, {"colormap": "gray"})
    assert [key[0] for key in done.failures] == ["moving.gif"]
    assert "--photos" in next(iter(done.failures.values()))
    assert done.drawn == 2


def test_the_page_shows_clips(clips: Path, tmp_path: Path, browser: Any) -> None:
    run(clips, tmp_path / "out", methods=["bright", "dark"], style={})
    page = opened(browser, tmp_path / "out" / "index.html")
    assert "1 photo" in page.locator("#facts").text_content()
    assert "2 clips" in page.locator("#facts").text_content()
    card = page.locator(".card", has=page.get_by_role("heading", name="moving.gif", exact=True))
    assert "first frame" in card.locator("figcaption").text_content()
    tile = card.locator(".tile img.moving").first
    assert tile.get_attribute("src") == "tiles/moving.gif/fake.bright.webp"
    page.wait_for_function("node => node.naturalWidth > 0", arg=tile.element_handle())
    assert card.locator(".tile img.heat").count() == 0
    card.locator(".tile").first.click()
    large = page.locator("#stage img.moving")
    assert large.get_attribute("src") == "overlays/moving.gif/fake.bright.webp"
    page.wait_for_function("node => node.naturalWidth === 96", arg=large.element_handle())
    assert page.locator("#box-slider").is_hidden()
    assert "8 frames, 4 per second" in page.locator("#about").text_content()
    links = page.locator("#about .links a")
    assert [each.get_attribute("href") for each in links.all()] == [
        "overlays/moving.gif/fake.bright.mp4",
        "overlays/moving.gif/fake.bright.webp",
        "maps/moving.gif/fake.bright.npz",
    ]
    page.locator("#other").select_option("dark of fake")
    assert page.locator("#stage img.moving").count() == 2
    assert page.seen == []
    page.close()


def test_compared_clips_show_the_same_moment(tmp_path: Path, browser: Any) -> None:
    """Every frame has a grey of its own, so that the two sides of the line tell their frames."""
    frames = [np.full((HEIGHT, WIDTH, 3), 20 + 28 * place, np.uint8) for place in range(8)]
    animation(tmp_path / "in" / "a.png", frames, 250)
    run(tmp_path / "in", tmp_path / "out", methods=["bright", "flat"])
    page = opened(browser, tmp_path / "out" / "index.html", bypass_csp=True)
    page.add_style_tag(content=".line, .side, .badge { display: none !important }")
    page.locator(".tile").first.click()
    page.wait_for_function("() => document.querySelector('#stage img.moving').complete")
    page.locator("#stage .stack").screenshot()  # the first one is running
    page.locator("#other").select_option("flat of fake")
    page.wait_for_function(
        "() => document.querySelectorAll('#stage img.moving[src*=\"?\"]').length === 2"
    )
    for _ in range(12):
        shot = page.locator(".stage > .stack").screenshot()
        pixels = np.asarray(PillowImage.open(io.BytesIO(shot)).convert("L")).astype(int)
        row, width = pixels[pixels.shape[0] // 2], pixels.shape[1]
        assert abs(row[width // 4] - row[3 * width // 4]) < 14
    assert page.seen == []
    page.close()


def test_clips_stand_still_where_less_motion_is_wanted(
    clips: Path, tmp_path: Path, browser: Any
) -> None:
    run(clips, tmp_path / "out", style={})
    page = opened(browser, tmp_path / "out" / "index.html", reduced_motion="reduce")
    card = page.locator(".card", has=page.get_by_role("heading", name="moving.gif", exact=True))
    tile = card.locator(".tile canvas.moving")
    tile.wait_for()
    assert card.locator(".tile img.moving").count() == 0
    assert tile.get_attribute("aria-label").startswith("First frame of: Moving heat of bright")
    assert tile.evaluate("node => [node.width, node.height]") == [96, 64]
    card.locator(".tile").first.click()
    page.locator("#stage canvas.moving").wait_for()
    page.get_by_role("button", name="Play").click()
    assert page.locator("#stage img.moving").count() == 1
    assert page.locator("#stage .play").count() == 0
    assert page.seen == []
    page.close()


def test_the_command_as_it_is_typed(clips: Path, tmp_path: Path) -> None:
    words = ["gallery", str(clips), "--model", "reference:cbam", "--method", "gradcam"]
    words += ["--fps", "2", "--smoothing", "0.5", "--max-frames", "3", "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(build(), words)
    assert done.exit_code == 0, done.output
    found = entries(tmp_path / "o")
    assert found["ant.png", "gradcam"]["status"] == "ok"
    line = found["deep/moving.mp4", "gradcam"]
    assert (line["frames"], line["fps"]) == (3, 2.0)
    assert line["target_label"] == line["statistics"]["prediction"]
    assert any("--max-frames" in each for each in line["warnings"])
    clip = SaliencyClip.load(tmp_path / "o" / line["map"])
    assert clip.smoothing == 0.5
    assert line["probability"] == pytest.approx(float(clip.probabilities.mean()), abs=1e-6)
    assert len(read_film(tmp_path / "o" / line["overlay"])[0]) == 3
    wrong = CliRunner().invoke(build(), [*words, "--fps", "0"])
    assert wrong.exit_code != 0


def test_export_leaves_clips_out_by_name(clips: Path, tmp_path: Path) -> None:
    run(clips, tmp_path / "out")
    done = export_gallery(tmp_path / "out", coco=tmp_path / "m.json", sheet=tmp_path / "s.png")
    assert done.maps == 1
    assert [key[0] for key in done.clips] == ["deep/moving.mp4", "moving.gif"]
    (clips / "ant.png").unlink()
    run(clips, tmp_path / "two")
    with pytest.raises(ConfigError, match="only clips"):
        export_gallery(tmp_path / "two", coco=tmp_path / "m.json")
