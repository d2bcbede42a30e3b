"""What `gateway.py` needs from elsewhere: nginx and wrk from Debian, peers from PyPI.

Nothing is installed into the system: a package that is missing is fetched with apt and unpacked
into a folder of the run, so that no service starts and nothing stays behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from _gateway_process import last_line  # type: ignore[import-not-found,unused-ignore]

#: Debian packages to unpack for each program, and where the program lies in them.
_PACKAGES = {
    "nginx": (("nginx",), "usr/sbin/nginx"),
    "wrk": (("wrk", "libluajit-5.1-2"), "usr/bin/wrk"),
}
_HINT = "install it: apt-get install nginx-light wrk"


@dataclass(frozen=True)
class Tool:
    """A program, the variables it needs, and its version."""

    path: str
    env: dict[str, str] = field(repr=False)
    version: str


def tool(name: str, folder: Path) -> tuple[Tool | None, str]:
    """The program nginx or wrk, from the system or unpacked into the folder; else why not."""
    packages, inside = _PACKAGES[name]
    found = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    if found is not None:
        return _versioned(name, found, dict(os.environ))
    unpacked = folder / "debian"
    if not (unpacked / inside).exists():
        why = _unpack(packages, unpacked)
        if why:
            return None, f"{name} is not here and could not be fetched ({why}); {_HINT}"
    libraries = [str(path) for path in (unpacked / "usr" / "lib").glob("*-linux-gnu")]
    env = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
    return _versioned(name, str(unpacked / inside), env)


def _versioned(name: str, path: str, env: dict[str, str]) -> tuple[Tool | None, str]:
    try:
        told = subprocess.run(
            [path, "-v"], capture_output=True, text=True, env=env, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{name} does not start: {error}; {_HINT}"
    text = told.stdout + told.stderr
    lines = [line for line in text.splitlines() if name in line]
    if not lines or "error while loading" in text:
        return None, f"{name} does not start: {last_line(text)}; {_HINT}"
    words = (
        lines[0].split("Copyright")[0].replace("nginx version:", "").replace("debian/", "").split()
    )
    return Tool(path, env, " ".join(words[:2])), ""


def _unpack(packages: tuple[str, ...], folder: Path) -> str:
    """Nothing once the packages lie in the folder, else why not."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "no apt here"
    folder.mkdir(parents=True, exist_ok=True)
    fetched = _apt(["download", *packages], folder)
    if fetched and os.geteuid() == 0:  # the lists may be old or absent
        fetched = _apt(["update"], folder) or _apt(["download", *packages], folder)
    if fetched:
        return fetched
    for archive in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
        archive.unlink()
    return ""


def _apt(words: list[str], folder: Path) -> str:
    try:
        run = subprocess.run(
            ["apt-get", "-qq", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "apt-get took more than 3 minutes"
    return "" if run.returncode == 0 else last_line(run.stderr)


def peer(name: str, wants: tuple[str, ...], folder: Path) -> tuple[Path | None, str]:
    """The Python of an environment that has a peer, and its version; else why not."""
    home = folder / name
    python = home / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=300)
        version = _version(python, name)
        if not version:
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            run = subprocess.run(
                [*pip, *wants], capture_output=True, text=True, timeout=900, check=False
            )
            if run.returncode != 0:
                return None, f"pip: {last_line(run.stderr)}"
            version = _version(python, name)
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{type(error).__name__}: {error}"
    return (python, version) if version else (None, f"pip left no {name}")


def _version(python: Path, name: str) -> str:
    code = f"from importlib.metadata import version; print(version({name!r}))"
    run = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    return run.stdout.strip() if run.returncode == 0 else ""
