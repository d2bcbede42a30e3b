"""How libraries of C++ are built, found and shared, tried with a few lines of source."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from turnout.parts import native
from turnout.parts.native import Source

compiles = pytest.mark.skipif(native.compiler() is None, reason="no compiler")

TINY = 'extern "C" { int tiny_version() { return %d; } int tiny_seven() { return 7; } }\n'


def typed(found: ctypes.CDLL) -> ctypes.CDLL:
    """A library with a function of that name."""
    assert found.tiny_seven
    return found


def make(folder: Path, *, portable: bool = False, version: int = 1) -> Source:
    """A source that speaks version 1."""
    main = folder / "tiny.cpp"
    main.write_text(TINY % version, encoding="utf-8")
    return Source(
        name="tiny",
        title="the tiny library",
        main=main,
        version=1,
        symbol="tiny_version",
        common=("-fPIC", "-shared"),
        flags=(("--no-such-flag",), ()),
        typed=typed,
        portable=portable,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the source, and a cache of its own."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TURNOUT_NATIVE", raising=False)
    return tmp_path


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a compiler."""
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.delenv("CXX", raising=False)


def cached(folder: Path) -> list[Path]:
    """What the cache holds."""
    place = folder / "cache" / "native"
    return sorted(place.iterdir()) if place.exists() else []


def seven(found: ctypes.CDLL | None) -> bool:
    """Whether it is the library, and works."""
    return found is not None and found.tiny_seven() == 7


@compiles
@pytest.mark.parametrize("portable", [False, True])
def test_only_asking_builds(folder: Path, portable: bool) -> None:
    """Looking writes nothing; what was built is found; a flag nobody knows is left out."""
    source = make(folder, portable=portable)
    assert source.find() is None
    assert not (folder / "cache").exists()
    assert seven(source.obtain())
    assert len(cached(folder)) == 1
    assert seven(source.find())


@compiles
@pytest.mark.parametrize("portable", [False, True])
def test_a_damaged_file_is_built_again(folder: Path, portable: bool) -> None:
    """Looking leaves it alone, asking replaces it."""
    source = make(folder, portable=portable)
    place = folder / "cache" / "native"
    place.mkdir(parents=True)
    path = place / f"tiny-{source.key(str(native.compiler()))}.so"
    path.write_bytes(b"no library")
    assert source.find() is None
    assert path.read_bytes() == b"no library"
    assert seven(source.obtain())
    assert cached(folder) == [path]


@compiles
@pytest.mark.usefixtures("folder")
def test_what_a_file_is_named_after(tmp_path: Path) -> None:
    """Every source its own file; of a portable one no compiler has its own."""
    one = make(tmp_path)
    portable = make(tmp_path, portable=True)
    before = one.key("c++"), portable.key("c++")
    assert one.key("another") != one.key("c++") != portable.key("c++")
    assert portable.key("another") == portable.key("c++")
    (tmp_path / "more.h").write_text("// new\n", encoding="utf-8")
    assert one.key("c++") != before[0]
    assert portable.key("c++") != before[1]


@compiles
def test_a_portable_library_needs_no_compiler_once_built(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One built elsewhere serves where nothing can be built; another kind does not."""
    assert seven(make(folder, portable=True).obtain())
    assert seven(make(folder).obtain())
    monkeypatch.setenv("PATH", str(folder / "nowhere"))
    monkeypatch.delenv("CXX", raising=False)
    assert seven(make(folder, portable=True).obtain())
    assert make(folder).find() is None
    assert make(folder).obtain() is None


@pytest.mark.usefixtures("no_compiler")
def test_no_compiler(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No library, no exception, no folder, and one line that says so."""
    with caplog.at_level(logging.INFO, "turnout.parts.native"):
        assert make(folder, portable=True).obtain() is None
    assert caplog.messages == ["no C++ compiler for the tiny library"]
    assert cached(folder) == []


@compiles
@pytest.mark.parametrize("portable", [False, True])
def test_another_version_is_not_used(folder: Path, portable: bool) -> None:
    """A library that speaks another version is no library."""
    source = make(folder, portable=portable, version=2)
    assert source.obtain() is None
    assert source.find() is None


@compiles
def test_a_library_without_the_functions_is_not_used(folder: Path) -> None:
    """One that speaks the version and lacks the rest is another library."""
    source = make(folder)
    source.main.write_text('extern "C" int tiny_version() { return 1; }\n', encoding="utf-8")
    assert source.obtain() is None


def test_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source is asked once a process, whatever came of it, and never where it is forbidden."""
    asked: list[Source] = []

    def source() -> Source:
        asked.append(make(folder))
        return asked[-1]

    state: dict[str, ctypes.CDLL | None] = {}
    monkeypatch.setenv("TURNOUT_NATIVE", "off")
    assert native.once("tiny", source, state) is None
    assert (asked, state) == ([], {})
    monkeypatch.delenv("TURNOUT_NATIVE")
    first = native.once("tiny", source, state)
    assert native.once("tiny", source, state) is first
    assert len(asked) == 1
    assert state == {"tiny": first}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_does_not_wait_for_its_parents_thread(folder: Path) -> None:
    """Forked while a library is being obtained, a child has a lock of its own."""
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from turnout.parts import native
with native._LOCK:
    child = os.fork()
    if not child:
        native._LOCK.acquire(timeout=5) or os._exit(1)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
