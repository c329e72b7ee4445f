"""Result: what one metric said of one map, as one line of a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from visattn.atomic import appending
from visattn.errors import ConfigError

NO_NUMBER = "the value is not finite"
UNFIT = "does not apply to inputs of this size"


@dataclass(frozen=True)
class Result:
    """One value, or why there is none.

    Attributes:
        key: changes when the sample, the weights, the method, the metric or visattn change.
        sample: name of the sample.
        group: what is drawn as one in the bootstrap.
        method: label of the trial.
        metric: label of the metric.
        value: None where the map was excluded.
        chance: of a map that knows nothing, where it is known.
        parts: of which values over many maps are made; the value itself for most metrics.
        reason: why there is no value, in words that can be counted.
        detail: the same with what it was on this map.
        passes: forward passes that the metric took.
        explanations: further maps that it took.
        seconds: that the metric took, its share of its batch.
        inside: of these, spent inside forward passes.
        mapping: seconds that the map itself took.
    """

    key: str
    sample: str
    group: str
    method: str
    metric: str
    value: float | None = None
    chance: float | None = None
    parts: tuple[float, ...] = ()
    reason: str | None = None
    detail: str | None = None
    passes: float = 0.0
    explanations: float = 0.0
    seconds: float = 0.0
    inside: float = 0.0
    mapping: float = 0.0

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"a value or a reason: {self.value!r}, {self.reason!r}")
        if not all(map(math.isfinite, (self.value or 0, self.chance or 0, *self.parts))):
            raise ValueError(f"{self.metric} of {self.method} on {self.sample}: not finite")

    def line(self) -> str:
        """Return one line of JSON, with its newline."""
        return json.dumps(asdict(self), allow_nan=False) + "\n"

    @classmethod
    def parse(cls, line: str) -> Result:
        """Read a line; raises ValueError, TypeError or KeyError where it is none."""
        stored: dict[str, Any] = json.loads(line)
        names = {each.name for each in fields(cls)}
        known = {name: value for name, value in stored.items() if name in names}
        return cls(**{**known, "parts": tuple(known["parts"])})


class Results:
    """The results of an evaluation, in memory and, where a path is given, in a file of lines."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known = {each.key: each for each in _read(path)} if path else {}

    def get(self, key: str) -> Result | None:
        """Return a result that is known, or None."""
        return self._known.get(key)

    def add(self, results: Iterable[Result]) -> None:
        """Keep results; they are on disk when this returns.

        Raises `ConfigError` where the file cannot be written; what it holds stays whole.
        """
        new = list(results)
        if self._path is not None and new:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with appending(self._path) as append:
                    append("".join(each.line() for each in new))
            except OSError as error:
                raise ConfigError(
                    f"{self._path} cannot be written ({error.strerror or error}). What was "
                    "measured so far is kept: run again to go on."
                ) from error
        self._known |= {each.key: each for each in new}


def _read(path: Path) -> list[Result]:
    """Return the results in a file; a last line that a kill tore is cut off."""
    try:
        whole = _whole_lines(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read and continued ({error.strerror or error}): give another --out."
        ) from error
    results = []
    for number, line in enumerate(whole.decode("utf-8", "replace").splitlines(), start=1):
        try:
            results.append(Result.parse(line))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{path}, line {number} is no result ({error}): remove the line, and what it held "
                "is measured again."
            ) from error
    return results


def _whole_lines(path: Path) -> bytes:
    if not path.exists():
        return b""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return whole
