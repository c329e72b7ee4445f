"""The pipeline: decode ahead, explain in the main thread, draw behind, and note what is done."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from visattn.errors import TargetError, UnsupportedMethodError, VisattnError
from visattn.gallery.config import GalleryConfig, MethodConfig, ModelConfig
from visattn.gallery.drawing import draw_map, draw_photo
from visattn.gallery.engine import Engine, LoadedModel, Prepared
from visattn.gallery.manifest import FAILED, UNSUPPORTED, Entry, Key
from visattn.gallery.plan import Batch, sha256
from visattn.gallery.store import Store
from visattn.images import Image, load_image

if TYPE_CHECKING:
    from visattn.overlay import Style
    from visattn.saliency import SaliencyMap

    Outcome: TypeAlias = SaliencyMap | Exception
    Work: TypeAlias = Entry | Future[Entry]
    Decoded: TypeAlias = Prepared | Exception

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pipeline:
    """One run's way from photos to entries.

    Attributes:
        config: of the run.
        store: where files go.
        engine: loads and explains.
        styles: how overlays are drawn, by model and method.
        pool: threads that decode and draw.
        note: called in the main thread with every entry whose files are in place, in order.
        frames: told in words how far a clip is.
        copied: photos whose display copies this run has written.
    """

    config: GalleryConfig
    store: Store
    engine: Engine
    styles: Mapping[tuple[str, str], Style]
    pool: ThreadPoolExecutor
    note: Callable[[Entry], None]
    frames: Callable[[str], None] = lambda _: None
    copied: set[str] = field(default_factory=set)

    def run(self, settings: ModelConfig, model: LoadedModel, batches: Sequence[Batch]) -> None:
        """Explain and draw all batches of one model.

        One batch is decoded while another is explained and a third is drawn, so that memory does
        not grow with the folder. What is being drawn when an exception arrives is finished first.
        """
        drawn: deque[Work] = deque()
        ahead = self._decode_ahead(model, batches)
        try:
            for batch, decoded in ahead:
                outcomes, seconds = self._explain_batch(settings, model, batch, decoded)
                waiting = len(drawn)
                drawn.extend(self._draw(settings, batch, decoded, outcomes, seconds))
                self._drain(drawn, waiting)
        finally:
            ahead.close()
            self._drain(drawn, len(drawn))

    def fail(self, settings: ModelConfig, batches: Sequence[Batch], error: Exception) -> None:
        """Note every map of a model that cannot be loaded as failed."""
        for batch in batches:
            for image in batch.images:
                for method in batch.methods:
                    self.note(self.without_map((image, settings.name, method.name), error, None))

    def _drain(self, drawn: deque[Work], count: int) -> None:
        for _ in range(count):
            work = drawn.popleft()
            self.note(work.result() if isinstance(work, Future) else work)

    def _decode_ahead(
        self, model: LoadedModel, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, list[Decoded]], None, None]:
        """Yield every batch decoded, with the next one already begun."""
        begun: deque[tuple[Batch, list[Future[Decoded]]]] = deque()
        try:
            for batch in batches:
                futures = [self.pool.submit(self._decode, model, name) for name in batch.images]
                begun.append((batch, futures))
                if len(begun) > 1:
                    yield _first(begun)
            while begun:
                yield _first(begun)
        finally:
            for _, futures in begun:
                for future in futures:
                    future.cancel()

    def _decode(self, model: LoadedModel, name: str) -> Decoded:
        try:
            photo = load_image(self.config.input / name)
            if name not in self.copied:
                draw_photo(self.store, name, photo)
                self.copied.add(name)
            return model.prepare(photo)
        except Exception as error:  # noqa: BLE001 - one bad photo must not stop the others
            return logged(error, name)

    def _explain_batch(
        self, settings: ModelConfig, model: LoadedModel, batch: Batch, decoded: list[Decoded]
    ) -> tuple[Iterator[list[Outcome]], float]:
        """Return the outcomes of the photos that could be decoded, and the seconds per map."""
        ready = [each for each in decoded if not isinstance(each, Exception)]
        if not ready:
            return iter(()), 0.0
        start = time.perf_counter()
        outcomes = self.explain(model, ready, batch.methods, self.config.target_of(settings))
        seconds = time.perf_counter() - start
        return iter(outcomes), seconds / (len(ready) * len(batch.methods))

    def explain(
        self,
        model: LoadedModel,
        ready: Sequence[Prepared],
        methods: Sequence[MethodConfig],
        target: int | str | None,
    ) -> list[list[Outcome]]:
        """Explain together; when that raises, photo by photo, and then method by method."""
        try:
            results = self.engine.explain(model, ready, methods, target, self.config.seed)
            if len(ready) == 1 or not any(map(_suspect, chain.from_iterable(results))):
                return [list(each) for each in results]
        except Exception as error:  # noqa: BLE001 - what fails together may work alone
            if len(ready) == 1 and len(methods) > 1:
                single = (self.explain(model, ready, [each], target) for each in methods)
                return [[outcome for ((outcome,),) in single]]
            if len(ready) == 1:
                return [[logged(error, methods[0].name)]]
        alone = (self.explain(model, [each], methods, target) for each in ready)
        return [outcomes for (outcomes,) in alone]

    def _draw(
        self,
        settings: ModelConfig,
        batch: Batch,
        decoded: Sequence[Decoded],
        outcomes: Iterator[list[Outcome]],
        seconds: float,
    ) -> Iterator[Work]:
        for name, each in zip(batch.images, decoded, strict=True):
            keys = [(name, settings.name, method.name) for method in batch.methods]
            if isinstance(each, Exception):
                yield from (self.without_map(key, each, None) for key in keys)
                continue
            for key, outcome in zip(keys, next(outcomes), strict=True):
                if isinstance(outcome, Exception):
                    yield self.without_map(key, outcome, each.image, seconds)
                else:
                    yield self.pool.submit(self._draw_one, key, outcome, each.image, seconds)

    def _draw_one(self, key: Key, saliency: SaliencyMap, photo: Image, seconds: float) -> Entry:
        start = time.perf_counter()
        style, side = self.styles[key[1:]], self.config.overlay_size
        try:
            entry = draw_map(self.store, key, saliency, photo, style, side)
        except Exception as error:  # noqa: BLE001 - one bad map must not stop the others
            return self.without_map(key, logged(error, key[0]), photo, seconds)
        return replace(entry, seconds=round(seconds + time.perf_counter() - start, 4))

    def without_map(
        self, key: Key, error: Exception, photo: Image | None, seconds: float = 0.0
    ) -> Entry:
        """Return the entry of a map that could not be made, with the reason."""
        image, model, method = key
        known = isinstance(error, VisattnError)
        return Entry(
            image=image,
            sha256=photo.sha256 if photo else sha256(self.config.input / image),
            model=model,
            method=method,
            status=UNSUPPORTED if isinstance(error, UnsupportedMethodError) else FAILED,
            error=str(error) if known else f"{type(error).__name__}: {error}",
            height=photo.size.height if photo else None,
            width=photo.size.width if photo else None,
            seconds=round(seconds, 4),
        )


def _first(
    begun: deque[tuple[Batch, list[Future[Decoded]]]],
) -> tuple[Batch, list[Decoded]]:
    batch, futures = begun[0]
    decoded = [future.result() for future in futures]
    begun.popleft()
    return batch, decoded


def _suspect(outcome: Outcome) -> bool:
    """Return whether an error may be the fault of another photo of the batch."""
    harmless = (UnsupportedMethodError, TargetError)
    return isinstance(outcome, Exception) and not isinstance(outcome, harmless)


def logged(error: Exception, what: str) -> Exception:
    """Leave the traceback of a programming error in the log; the manifest keeps its message."""
    if not isinstance(error, VisattnError):
        _log.debug("%s", what, exc_info=error)
    return error
