"""The pipeline of clips: settle the class, explain the frames, draw them; only maps are kept."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from visattn.errors import UnsupportedMethodError, VisattnError
from visattn.gallery.clip_drawing import Studio, draw_clip
from visattn.gallery.config import MethodConfig, ModelConfig
from visattn.gallery.drawing import draw_photo
from visattn.gallery.engine import LoadedModel
from visattn.gallery.frames import Footage, Frame
from visattn.gallery.manifest import Entry, Key
from visattn.gallery.pipeline import Pipeline, logged
from visattn.gallery.plan import Batch, sha256
from visattn.gallery.saliency_clip import joined
from visattn.images import Image

if TYPE_CHECKING:
    from visattn.saliency import SaliencyMap

RANKED = re.compile(r"top([1-5])")


@dataclass(frozen=True)
class Aim:
    """The target of all frames of a clip, whether the model predicts it, and how it was chosen."""

    target: int | str | None
    predicted: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Explained:
    """A clip after its models passes: by method the maps of its frames, or why there are none."""

    footage: Footage
    first: Image
    aim: Aim
    maps: dict[str, list[SaliencyMap] | Exception]


@dataclass(frozen=True)
class ClipPipeline:
    """One run's way from clips to entries; what it shares with photos is in ``pipeline``.

    A clip is read once to settle its class, where there is one to settle, once to explain it, and
    once for every method to draw it, so that no more than a batch of frames is in memory.
    """

    pipeline: Pipeline

    def run(self, settings: ModelConfig, model: LoadedModel, batches: Sequence[Batch]) -> None:
        """Explain and draw every clip of one model, one after the other."""
        for batch in batches:
            self._clip(settings, model, batch)

    def _clip(self, settings: ModelConfig, model: LoadedModel, batch: Batch) -> None:
        start = time.perf_counter()
        try:
            explained = self._explain(settings, model, batch)
        except Exception as error:  # noqa: BLE001 - one bad clip must not stop the others
            self.pipeline.fail(settings, [batch], logged(error, batch.images[0]))
            return
        seconds = (time.perf_counter() - start) / len(batch.methods)
        for method in batch.methods:
            key = (batch.images[0], settings.name, method.name)
            self.pipeline.note(self._entry(key, explained, seconds))
        self.pipeline.frames("")

    def _explain(self, settings: ModelConfig, model: LoadedModel, batch: Batch) -> Explained:
        (name,), config = batch.images, self.pipeline.config
        path = config.input / name
        footage = Footage.of(path, sha256(path) or "", config.fps, config.max_frames)
        first = next(footage.frames()).image
        if name not in self.pipeline.copied:
            draw_photo(self.pipeline.store, name, first)
            self.pipeline.copied.add(name)
        aim = self._aim(settings, model, batch, footage)
        maps = self._maps(model, batch.methods, footage, aim.target)
        return Explained(footage, first, aim, maps)

    def _aim(
        self, settings: ModelConfig, model: LoadedModel, batch: Batch, footage: Footage
    ) -> Aim:
        """Return the target: where a rank is asked for, or nothing, the class for all frames."""
        engine, wanted = self.pipeline.engine, self.pipeline.config.target_of(settings)
        ranked = RANKED.fullmatch("top1" if wanted is None else str(wanted))
        if not ranked or not any(engine.class_specific(each.name) for each in batch.methods):
            return Aim(wanted)
        rank, total = int(ranked[1]), np.zeros(1)
        for frames in self._batches(footage):
            found = engine.probabilities(model, self._prepared(model, frames))
            if found is None:
                return Aim(wanted)
            total = total + found.sum(axis=0)
        if rank > total.size:
            return Aim(wanted)
        place = "highest" if rank == 1 else f"number {rank} in"
        remark = f"class for the whole clip: {place} mean probability over its frames"
        return Aim(int(np.argsort(-total, kind="stable")[rank - 1]), rank == 1, (remark,))

    def _maps(
        self,
        model: LoadedModel,
        methods: Sequence[MethodConfig],
        footage: Footage,
        target: int | str | None,
    ) -> dict[str, list[SaliencyMap] | Exception]:
        """Return by method the maps of all frames, or the error of the first that has none."""
        found: dict[str, list[SaliencyMap] | Exception] = {each.name: [] for each in methods}
        left = list(methods)
        count = 0
        for frames in self._batches(footage):
            count += len(frames)
            prepared = self._prepared(model, frames)
            answers = self.pipeline.explain(model, prepared, left, target)
            for frame, outcomes in zip(frames, answers, strict=True):
                for method, outcome in zip(left, outcomes, strict=True):
                    found[method.name] = _longer(found[method.name], outcome, frame)
            left = [each for each in left if isinstance(found[each.name], list)]
            self.pipeline.frames(f"{footage.path.name}: {count} frames explained")
            if not left:
                break
        return found

    def _batches(self, footage: Footage) -> Iterator[list[Frame]]:
        frames = footage.frames()
        while some := list(islice(frames, self.pipeline.config.batch_size)):
            yield some

    def _prepared(self, model: LoadedModel, frames: Sequence[Frame]) -> list[Any]:
        return list(self.pipeline.pool.map(model.prepare, [frame.image for frame in frames]))

    def _entry(self, key: Key, explained: Explained, seconds: float) -> Entry:
        start, found = time.perf_counter(), explained.maps[key[2]]
        if isinstance(found, Exception):
            return self.pipeline.without_map(key, found, explained.first, seconds)
        try:
            entry = self._draw(key, explained, found)
        except Exception as error:  # noqa: BLE001 - one bad clip must not stop the others
            return self.pipeline.without_map(key, logged(error, key[0]), explained.first, seconds)
        return replace(entry, seconds=round(seconds + time.perf_counter() - start, 4))

    def _draw(self, key: Key, explained: Explained, maps: Sequence[SaliencyMap]) -> Entry:
        pipeline, footage, aim = self.pipeline, explained.footage, explained.aim
        chosen = maps[0].target is not None
        clip = joined(
            maps,
            footage.fps,
            predicted=chosen and aim.predicted,
            smoothing=pipeline.config.smoothing,
            remarks=(*(aim.remarks if chosen else ()), *footage.remarks),
        )
        style, side = pipeline.styles[key[1:]], pipeline.config.overlay_size
        studio = Studio(pipeline.store, footage, side, pipeline.pool, pipeline.frames)
        return draw_clip(studio, key, clip, style)


def _longer(
    so_far: list[SaliencyMap] | Exception, outcome: SaliencyMap | Exception, frame: Frame
) -> list[SaliencyMap] | Exception:
    """Return the maps of a method with one more frame; its first error stands for all."""
    if isinstance(so_far, Exception):
        return so_far
    if not isinstance(outcome, Exception):
        return [*so_far, replace(outcome, channels=None, photo=None)]
    if isinstance(outcome, UnsupportedMethodError):
        return outcome
    words = str(outcome) if isinstance(outcome, VisattnError) else repr(outcome)
    return VisattnError(f"frame at {frame.time:.2f} s: {words}")
