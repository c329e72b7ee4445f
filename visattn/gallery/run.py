"""run_gallery: a folder of photos becomes a gallery."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visattn.errors import ConfigError
from visattn.gallery.clip_pipeline import ClipPipeline
from visattn.gallery.config import GalleryConfig, MethodConfig, ModelConfig
from visattn.gallery.drawing import gallery_style
from visattn.gallery.engine import AUTO, Engine, LoadedModel, TorchEngine
from visattn.gallery.frames import is_clip
from visattn.gallery.manifest import OK, Entry
from visattn.gallery.page import write_page
from visattn.gallery.pipeline import Pipeline
from visattn.gallery.plan import Batch, Plan, find, make_plan
from visattn.gallery.progress import Meter
from visattn.gallery.record import (
    Record,
    check_same,
    describe,
    finish,
    merge,
    new_record,
    read_record,
    write_record,
)
from visattn.gallery.store import Store, UnfinishedError, writing
from visattn.gallery.summary import Summary
from visattn.progress import reporting

if TYPE_CHECKING:
    from visattn.overlay import Style

_log = logging.getLogger(__name__)


def run_gallery(
    config: GalleryConfig, *, progress: bool = True, engine: Engine | None = None
) -> Summary:
    """Make a gallery, or continue one, and return how it ended.

    Entries that an earlier run finished are kept, failed ones are tried again; where nothing is
    left to do no model is loaded. Models run one after another, one in memory at a time.
    Photos, methods and models that fail become entries with an error and do not stop the run.
    Raises `ConfigError`, with nothing written, when the config is wrong or the folder holds
    something that must not be mixed with this gallery; what loading the first model raises, too;
    `UnfinishedError` when the disk refuses a file later on.
    An interrupt lets the drawing in flight end, writes the page and is raised again.
    """
    store = Store(config.out)
    find(config)
    with store.lock():
        run = _begin(config, store, engine or TorchEngine())
        if run.plan.batches or run.unfinished:
            run.work(progress)
        else:
            with run.ending():
                write_page(store, run.entries, run.record)
        return run.summary()


def _begin(config: GalleryConfig, store: Store, engine: Engine) -> _Run:
    """Decide what is to be done; nothing is written yet."""
    record = new_record(config)
    if not store.exists():
        return _Run(config, store, engine, record, make_plan(config, store, ()))
    old = read_record(store.run)
    entries = store.manifest.read(lenient=config.overwrite)
    if config.overwrite:
        return _Run(config, store, engine, record, make_plan(config, store, ()), entries)
    check_same(old, record, entries, engine.class_specific)
    plan = make_plan(config, store, entries)
    kept = {entry.key for entry in plan.kept}
    dropped = [entry for entry in entries if entry.key not in kept]
    unfinished = old["finished"] is None or bool(dropped)
    if plan.batches or unfinished:
        old = merge(old, record, entries)
    return _Run(config, store, engine, old, plan, dropped, unfinished)


@dataclass
class _Run:
    config: GalleryConfig
    store: Store
    engine: Engine
    record: Record
    plan: Plan
    obsolete: Iterable[Entry] = ()
    unfinished: bool = False

    def __post_init__(self) -> None:
        self.entries = list(self.plan.kept)
        self.model: LoadedModel | None = None

    def work(self, progress: bool) -> None:
        styles = self._check()
        if self.plan.batches:
            self._load_first(*self.plan.batches[0])
        with writing(self.store.root):
            self._open()
        with self.ending():
            self._explain_all(styles, progress)
            write_page(self.store, self.entries, self.record)
            finish(self.record, self.summary())
            write_record(self.store.run, self.record)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Write the page even when the block fails; what fails first is raised."""
        try:
            yield
        except BaseException as first:
            self._write_page_after(first)
            if not isinstance(first, (OSError, ConfigError)):
                raise
            reason = getattr(first, "strerror", None) or str(first).rstrip(".")
            raise UnfinishedError(
                f"The gallery in {self.store.root} is not finished: {reason}. "
                "Run again to continue."
            ) from first

    def _write_page_after(self, first: BaseException) -> None:
        try:
            write_page(self.store, self.entries, self.record)
        except (OSError, ConfigError) as second:
            _log.debug("no page after %r: %s", first, second)

    def _explain_all(self, styles: dict[tuple[str, str], Style], progress: bool) -> None:
        photos = {name for _, each in self.plan.batches for batch in each for name in batch.images}
        workers = self.config.workers or min(8, os.cpu_count() or 1)
        meter = Meter(self.plan.size, len(photos), progress)
        with (
            self.store.manifest.opened() as append,
            meter.running(),
            reporting(meter.passes),
            ThreadPoolExecutor(workers, thread_name_prefix="gallery") as pool,
        ):
            note = _Note(append, self.entries, meter)
            pipeline = Pipeline(
                self.config, self.store, self.engine, styles, pool, note, meter.frames
            )
            for settings, batches in self.plan.batches:
                meter.model(settings.name)
                self._explain(pipeline, settings, batches)

    def summary(self) -> Summary:
        wanted = set(self.plan.keys)
        entries = [entry for entry in self.entries if entry.key in wanted]
        kept = sum(entry.key in wanted for entry in self.plan.kept)
        gone = {each.image for each in self.entries if each.status == OK}
        gone = {image for image in gone if not (self.config.input / image).exists()}
        moving = {each.image for each in self.entries if each.frames}

        def clip(image: str) -> bool:
            return image in moving or is_clip(self.config.input / image)

        return Summary.of(entries, kept, self.store.index, gone, clip)

    def _check(self) -> dict[tuple[str, str], Style]:
        """Refuse wrong models, methods, options and styles; return the styles."""
        styles = {}
        for model in self.config.models:
            self.engine.check_model(model)
            for method in self.config.methods_of(model):
                self.engine.check(method)
                style = gallery_style(self.config.style_of(method))
                styles[model.name, method.name] = style
        return styles

    def _open(self) -> None:
        """Write for the first time: the config is right and the first model is there."""
        self.store.clear(self.obsolete, self.entries)
        self.store.remove_leftovers()
        write_record(self.store.run, self.record)
        self.store.manifest.rewrite(self.entries)

    def _load_first(self, settings: ModelConfig, batches: Iterable[Batch]) -> None:
        model = self._load(settings)
        left: dict[str, MethodConfig] = {
            method.name: method for batch in batches for method in batch.methods
        }
        target = self.config.target_of(settings)
        self.engine.check_target(model, list(left.values()), target)

    def _load(self, settings: ModelConfig) -> LoadedModel:
        if self.model is None:
            self.model = self.engine.load(settings, self.config.device, self.config.seed)
            describe(self.record, settings.name, self.model)
            self._check_automatic(settings, self.model)
        return self.model

    def _check_automatic(self, settings: ModelConfig, model: LoadedModel) -> None:
        """Refuse to go on with another method under the name ``auto``."""
        made = {
            entry.statistics.get("method", AUTO)
            for entry in self.plan.kept
            if (entry.model, entry.method, entry.status) == (settings.name, AUTO, OK)
        }
        if not made:
            return
        now = self.engine.automatic(model, self.config.target_of(settings))
        if made != {now}:
            raise ConfigError(
                f"auto stood for {', '.join(sorted(made))} with {settings.name} when this gallery "
                f"was made, and stands for {now} now: name the method, or give another --out."
            )

    def _explain(
        self, pipeline: Pipeline, settings: ModelConfig, batches: tuple[Batch, ...]
    ) -> None:
        try:
            model = self._load(settings)
        except Exception as error:  # noqa: BLE001 - the models that can be loaded must go on
            self.model = None
            pipeline.fail(settings, batches, error)
            return
        write_record(self.store.run, self.record)
        self.model = None
        pipeline.run(settings, model, [batch for batch in batches if not batch.clip])
        ClipPipeline(pipeline).run(settings, model, [batch for batch in batches if batch.clip])


@dataclass(frozen=True)
class _Note:
    append: Callable[[Entry], None]
    entries: list[Entry]
    meter: Meter

    def __call__(self, entry: Entry) -> None:
        self.append(entry)
        self.entries.append(entry)
        self.meter.count(entry)
