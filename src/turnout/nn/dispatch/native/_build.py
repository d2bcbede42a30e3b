"""Compiles the kernels once a machine, and loads them.

The source is plain C++ with a C interface, so that the compiler alone is enough: no headers of
torch, no build tool. A library is written whole under a temporary name and then renamed, hence
processes that build at the same time cannot see half a file, and none waits for a lock that a
killed one left behind. The name holds everything the machine code depends on: source, compiler,
flags, instruction set.
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
import tempfile
import threading
from pathlib import Path

#: The interface that `_call` speaks; see `turnout_version` in kernels.cpp.
VERSION = 1
_FOLDER = Path(__file__).parent
_SOURCE = "kernels.cpp"
_COMMON = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared")
#: Tried in turn: not every compiler knows every flag.
_FLAGS = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
    ("-fopenmp",),
    (),
)
_SECONDS = 300
_LOG = logging.getLogger(__name__)
_LOCK = threading.Lock()
_STATE: dict[str, ctypes.CDLL | None] = {}


def library() -> ctypes.CDLL | None:
    """The kernels, built if need be; None where they cannot be had or are not wanted."""
    if os.environ.get("TURNOUT_NATIVE", "").lower() in ("0", "no", "off", "false"):
        return None
    if "kernels" not in _STATE:
        with _LOCK:
            if "kernels" not in _STATE:
                _STATE["kernels"] = _obtain()
    return _STATE["kernels"]


def loaded() -> ctypes.CDLL:
    """The kernels, which are known to be there."""
    found = _STATE.get("kernels") or library()
    assert found is not None
    return found


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


def _obtain() -> ctypes.CDLL | None:
    if sys.platform == "win32":
        return None
    command = compiler()
    if command is None:
        _LOG.info("no C++ compiler: the native kernels are left out")
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
        return _load(folder, command)
    finally:
        if private is not None:
            private.cleanup()  # a loaded library needs its file no longer


def _load(folder: Path, command: str) -> ctypes.CDLL | None:
    target = folder / f"kernels-{_key(command)}.so"
    for attempt in range(2):
        if not target.exists() and not _compile(command, target):
            return None
        found = _load_file(target)
        if found is not None:
            return found
        if attempt == 0:
            target.unlink(missing_ok=True)  # damaged: once more
    return None


def _load_file(target: Path) -> ctypes.CDLL | None:
    """A library that speaks our version, or None."""
    try:
        found = ctypes.CDLL(str(target))
        return _typed(found) if found.turnout_version() == VERSION else None
    except (OSError, AttributeError) as error:
        _LOG.info("%s cannot be loaded: %s", target, error)
        return None


def _compile(command: str, target: Path) -> bool:
    """Whether the library is there now."""
    _LOG.info("building the native kernels with %s", command)
    for flags in _FLAGS:
        handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
        os.close(handle)
        line = [command, *_COMMON, *flags, str(_FOLDER / _SOURCE), "-o", name]
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


def _key(command: str) -> str:
    """What the machine code depends on, as a short name."""
    digest = hashlib.sha256()
    for path in sorted((*_FOLDER.glob("*.h"), _FOLDER / _SOURCE)):
        digest.update(path.read_bytes())
    try:
        version = subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        version = ""
    facts = (command, version, repr((_COMMON, _FLAGS)), platform.machine(), _instructions())
    digest.update("\n".join(facts).encode())
    return digest.hexdigest()[:20]


def _instructions() -> str:
    """What the processor can do, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return "\n".join(sorted(set(told)))


def _typed(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    found.turnout_plan.argtypes = (pointer, number, number, pointer, pointer)
    found.turnout_plan.restype = number
    for name in ("turnout_forward", "turnout_backward"):
        function = getattr(found, name)
        function.argtypes = (pointer,)
        function.restype = ctypes.c_int
    return found
