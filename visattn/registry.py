"""Registries that fill themselves by walking a package: one new file is one new entry."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from visattn.errors import VisattnError, suggestion

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Named entries of one kind, found by importing every module of a package.

    The package is walked at the first look-up, so that importing the registry costs nothing.
    A module that fails to import raises a `VisattnError` that names it; a name registered twice
    raises `VisattnError`; an unknown name raises ``error`` with the nearest known one.
    """

    def __init__(self, noun: str, package: str, error: type[VisattnError] = VisattnError) -> None:
        self._noun = noun
        self._package = package
        self._error = error
        self._entries: dict[str, Entry] = {}
        self._walked = False

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that files its argument under ``name``."""

        def file(entry: Entry) -> Entry:
            if name in self._entries:
                raise VisattnError(f"{self._noun} {name!r} is registered twice.")
            self._entries[name] = entry
            return entry

        return file

    def withdraw(self, name: str) -> None:
        """Take the entry called ``name`` out again; raises as `get` does where there is none."""
        self.get(name)
        del self._entries[name]

    def get(self, name: str) -> Entry:
        """Return the entry called ``name``, or raise with the nearest known name."""
        self._walk()
        if name not in self._entries:
            raise self._error(
                f"There is no {self._noun} {name!r}.{suggestion(name, self._entries)}"
            )
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        self._walk()
        return tuple(sorted(self._entries))

    def _walk(self) -> None:
        if self._walked:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            name = f"{self._package}.{module.name}"
            try:
                importlib.import_module(name)
            except Exception as error:
                raise VisattnError(f"{name} could not be imported: {error}") from error
        self._walked = True
