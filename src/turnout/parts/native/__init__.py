"""Compiles C++ sources of this package once a machine, and loads them.

The sources are plain C++ with a C interface, so that the compiler alone is enough: no headers of
other packages, no build tool. A library is written whole under a temporary name and then renamed,
hence processes that build at the same time cannot see half a file, and none waits for a lock that
a killed one left behind. The name holds everything the machine code depends on: source, compiler,
flags, instruction set; of a portable one, source, flags and kind of machine.

Libraries are kept in a cache folder (`TURNOUT_CACHE`, or `turnout` in the user's cache folder).
`TURNOUT_NATIVE=0` forbids all of them. Whoever has a source has another path for machines without
a compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Source", "cache", "compiler", "once", "wanted"]

_SECONDS = 300
_LOG = logging.getLogger(__name__)
_LOCK = threading.Lock()


def _renew() -> None:
    """A lock of the child's own: the thread that held the parent's is not there."""
    global _LOCK
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def wanted() -> bool:
    """Whether the environment allows compiled kernels."""
    return os.environ.get("TURNOUT_NATIVE", "").lower() not in ("0", "no", "off", "false")


def compiler() -> str | None:
    """Path of a C++ compiler: that of the environment's CXX, or the first one found."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def cache() -> Path:
    """Folder that holds what was built."""
    if "TURNOUT_CACHE" in os.environ:
        return Path(os.environ["TURNOUT_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "turnout"


def once(
    name: str, source: Callable[[], Source], state: dict[str, ctypes.CDLL | None]
) -> ctypes.CDLL | None:
    """A library of this process, obtained by whoever asks first.

    Parameters
    ----------
    name : str
        Key in `state`.
    source : callable
        Makes the source; called at most once.
    state : dict
        Libraries there are already, and None for what cannot be had. The answer is added.

    Returns
    -------
    ctypes.CDLL or None
        None where it cannot be had or is not wanted.
    """
    if not wanted():
        return None
    if name not in state:
        with _LOCK:
            if name not in state:
                state[name] = source().obtain()
    return state[name]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A library as source.

    Parameters
    ----------
    name : str
        Start of the file's name in the cache.
    title : str
        What it is called in the log.
    main : path
        The file to compile; headers are all `*.h` beside it.
    version : int
        The interface that is spoken here; another one is not used.
    symbol : str
        Function of the library that gives its version.
    common : tuple of str
        Flags that every attempt has.
    flags : tuple of tuple of str
        More flags, tried in turn: not every compiler knows every flag.
    typed : callable
        Declares the functions of a loaded library; an AttributeError means it is another one.
    portable : bool
        The flags ask for no more than every processor of its kind can do, and no compiler makes
        another answer of the source: one library serves them all, also where there is no compiler.
    """

    name: str
    title: str
    main: Path
    version: int
    symbol: str
    common: tuple[str, ...]
    flags: tuple[tuple[str, ...], ...]
    typed: Callable[[ctypes.CDLL], ctypes.CDLL]
    portable: bool = False

    def find(self) -> ctypes.CDLL | None:
        """The library if the cache holds it; nothing is built or written."""
        command = "" if self.portable else compiler()
        if sys.platform == "win32" or command is None:
            return None
        try:
            target = self._target(cache() / "native", command)
            return self.load_file(target) if target.exists() else None
        except (OSError, RuntimeError):  # no home, or not ours to read
            return None

    def obtain(self) -> ctypes.CDLL | None:
        """The library, built if need be; None where it cannot be had."""
        if sys.platform == "win32":
            return None
        found = self.find() if self.portable else None
        if found is not None:
            return found
        command = compiler()
        if command is None:
            _LOG.info("no C++ compiler for %s", self.title)
            return None
        try:
            folder = cache() / "native"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            private = None
            if not os.access(folder, os.W_OK):
                raise PermissionError(folder)
        except (OSError, RuntimeError):  # no home, or not ours to write
            private = tempfile.TemporaryDirectory(prefix="turnout-")
            folder = Path(private.name)
        try:
            return self._load(folder, command)
        finally:
            if private is not None:
                private.cleanup()  # a loaded library needs its file no longer

    def load_file(self, target: Path) -> ctypes.CDLL | None:
        """A library that speaks our version, or None."""
        try:
            found = ctypes.CDLL(str(target))
            version = getattr(found, self.symbol)()
            return self.typed(found) if version == self.version else None
        except (OSError, AttributeError) as error:
            _LOG.info("%s cannot be loaded: %s", target, error)
            return None

    def key(self, command: str) -> str:
        """What the machine code depends on, as a short name.

        Parameters
        ----------
        command : str
            The compiler.
        """
        digest = hashlib.sha256()
        for path in sorted((*self.main.parent.glob("*.h"), self.main)):
            digest.update(path.read_bytes())
        choice = repr((self.common, self.flags))
        if self.portable:
            kind = sysconfig.get_config_var("EXT_SUFFIX") or sys.platform  # names the C library too
            facts: tuple[str, ...] = (choice, platform.machine(), kind)
        else:
            facts = (command, _version(command), choice, platform.machine(), _instructions())
        digest.update("\n".join(facts).encode())
        return digest.hexdigest()[:20]

    def _target(self, folder: Path, command: str) -> Path:
        return folder / f"{self.name}-{self.key(command)}.so"

    def _load(self, folder: Path, command: str) -> ctypes.CDLL | None:
        target = self._target(folder, command)
        for attempt in range(2):
            if not target.exists() and not self._compile(command, target):
                return None
            found = self.load_file(target)
            if found is not None:
                return found
            if attempt == 0:
                target.unlink(missing_ok=True)  # damaged: once more
        return None

    def _compile(self, command: str, target: Path) -> bool:
        """Whether the library is there now."""
        _LOG.info("building %s with %s", self.title, command)
        for flags in self.flags:
            handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
            os.close(handle)
            line = [command, *self.common, *flags, str(self.main), "-o", name]
            try:
                done = subprocess.run(
                    line, capture_output=True, text=True, timeout=_SECONDS, check=False
                )
                if done.returncode == 0:
                    Path(name).replace(target)
                    return True
                _LOG.info("%s: %s", " ".join(line), done.stderr[-2000:])
            except (OSError, subprocess.TimeoutExpired) as error:
                _LOG.info("%s: %s", " ".join(line), error)
                return False
            finally:
                Path(name).unlink(missing_ok=True)
        return False


def _version(command: str) -> str:
    """What the compiler says of itself."""
    try:
        return subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _instructions() -> str:
    """What the processor can do, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return "\n".join(sorted(set(told)))
