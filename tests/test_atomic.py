"""Files appear complete or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from visattn.atomic import PREFIX, atomic_path, write_text


def test_the_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "map.npz"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.parent == path.parent, "a rename across file systems is not atomic"
        assert temporary.suffix == ".npz"
        assert temporary.name.startswith(PREFIX)
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_no_litter_either(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "map.npz"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "one")
    write_text(path, "zwei: ä")
    assert path.read_bytes() == "zwei: ä".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_other_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "note.txt", "text")
        found = os.umask(mask)
    finally:
        os.umask(before)
    assert found == mask
    assert stat.S_IMODE((tmp_path / "note.txt").stat().st_mode) == 0o666 & ~mask


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    with atomic_path(path) as one, atomic_path(path) as other:
        assert one != other
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]
