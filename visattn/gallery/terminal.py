"""The end of a gallery run on a terminal, the same for the command and the script."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from visattn.gallery.config import GalleryConfig
from visattn.gallery.run import run_gallery
from visattn.gallery.store import UnfinishedError

INTERRUPTED = 130


def run_on_terminal(configure: Callable[[], GalleryConfig]) -> int:
    """Run the gallery of ``configure()``, print how it ended, and return the exit code.

    0 all done; 1 finished with failures, or stopped by the disk; 130 interrupted. Errors of the
    command and its config are raised, as by `run_gallery`.
    """
    try:
        summary = run_gallery(configure())
    except UnfinishedError as error:
        return _stopped(f"visattn: {error}", 1)
    except KeyboardInterrupt:
        return _stopped("interrupted: run again to continue", INTERRUPTED)
    for line in summary.failure_lines():
        _say(line, sys.stderr)
    for line in summary.lines():
        _say(line, sys.stdout)
    return summary.exit_code


def _stopped(line: str, code: int) -> int:
    _say(line, sys.stderr)
    return code


def _say(line: str, stream: TextIO) -> None:
    """Write a line; what the terminal has no character for is escaped."""
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
