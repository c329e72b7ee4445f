"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from visattn.errors import ConfigError

PREFIX = ".visattn-"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends without error.

    The temporary name keeps the suffix of ``path`` (libraries choose a format by it) and starts
    with `PREFIX`, so that what a killed process leaves behind can be recognised. Raises
    `ConfigError` when the place cannot be written or the disk is full.
    """
    try:
        with _temporary(path) as temporary:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}).") from error


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def appending(path: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that appends text to a file and returns when it is on disk.

    Where the disk is full it raises OSError and leaves no part of the text behind.
    """
    with path.open("ab", buffering=0) as file:

        def append(text: str) -> None:
            data, end = text.encode("utf-8"), file.seek(0, os.SEEK_END)
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, "No space left on device")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise

        yield append


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
