"""Processes that `gateway.py` starts: pinned, measured and ended, none but its own."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started meanwhile stays on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def last_line(text: str) -> str:
    """What a log or an error ended in."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"


def surroundings() -> dict[str, str]:
    """The environment for servers: no proxy between processes of this machine, one thread each."""
    kept = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    return {**kept, "NO_PROXY": "*", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@functools.cache
def _guard() -> tuple[str, ...]:
    """A prefix that ends the command should this process be killed."""
    path = shutil.which("setpriv")
    if path is None:
        return ()
    prefix = (path, "--pdeathsig", "TERM")
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if tried.returncode == 0 else ()


class Server:
    """A server on the loopback, in a session of its own.

    Parameters
    ----------
    name : str
        Names its log in `folder`.
    command : list of str
    port : int
        Where it is to listen.
    core : int
        Where it is to run.
    folder : path
    env : dict of str to str, optional
        Further variables.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int,
        *,
        core: int,
        folder: Path,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name, self.port = name, port
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log, pinned(core):
            self.process = subprocess.Popen(
                [*_guard(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
                env={**surroundings(), **(env or {})},
            )

    def ready(self, probe: Callable[[int], str], seconds: float) -> str:
        """Nothing once the probe is content, else why it was not."""
        until, why = time.monotonic() + seconds, "no answer"
        while time.monotonic() < until:
            if self.process.poll() is not None:
                text = self.log.read_text(encoding="utf-8", errors="replace")
                return f"it stopped with status {self.process.returncode}: {last_line(text)}"
            try:
                why = probe(self.port)
            except (OSError, http.client.HTTPException) as error:
                why = f"{type(error).__name__}: {error}"
            if not why:
                return ""
            time.sleep(0.1)
        return f"not ready after {seconds:.0f} s: {why}"

    def members(self) -> dict[int, list[str]]:
        """Its processes, by id, with the fields of their `stat` from the third on."""
        found = {}
        for path in Path("/proc").iterdir():
            if path.name.isdecimal():
                with contextlib.suppress(OSError):
                    fields = (path / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self.process.pid and fields[0] != "Z":
                        found[int(path.name)] = fields
        return found

    def cpu(self) -> float:
        """Processor seconds of all its processes so far, user and system, ended ones included."""
        total = 0.0
        for pid, fields in self.members().items():
            own = (int(fields[11]) + int(fields[12])) / _TICKS
            with contextlib.suppress(OSError):
                # the kernel's clock of that process: the same sum, not rounded to ticks
                own = time.clock_gettime(~pid << 3 | 2)
            total += own + (int(fields[13]) + int(fields[14])) / _TICKS
        return total

    def memory(self) -> tuple[float, float]:
        """Resident megabytes of its largest process, and the proportional set of all."""
        resident, proportional = [0.0], 0.0
        for pid in self.members():
            with contextlib.suppress(OSError):
                resident.append(_kilobytes(Path(f"/proc/{pid}/status"), "VmRSS:") / 1e3)
                proportional += _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") / 1e3
        return max(resident), proportional

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until it works on nothing any more."""
        until, before = time.monotonic() + seconds, self.cpu()
        while time.monotonic() < until:
            time.sleep(0.05)
            now = self.cpu()
            if now - before < 0.0025:
                return
            before = now

    def stop(self) -> None:
        """End its processes, and wait until they have."""
        for sign, seconds in ((signal.SIGTERM, 12.0), (signal.SIGKILL, 5.0)):
            for pid in self.members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if self.process.poll() is not None and not self.members():
                    return
                time.sleep(0.02)


def _kilobytes(path: Path, name: str) -> float:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return float(line.split()[1]) * 1.024
    return 0.0


def core_time(core: int) -> tuple[float, float]:
    """Seconds a core has been busy since the machine started, and those taken from the machine."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _, _, irq, soft, steal = (
                int(x) / _TICKS for x in line.split()[1:9]
            )
            return user + nice + system + irq + soft + steal, steal
    return 0.0, 0.0


def yardstick(core: int) -> tuple[float, float]:
    """What a core does in its best moments: the CPU of two small things every gateway does a lot.

    Returns
    -------
    float
        Microseconds to send 400 bytes over the loopback and to take them.
    float
        Nanoseconds of a turn of a loop in Python.
    """
    with pinned(core), socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        taker, _ = listener.accept()
        with sender, taker:
            data, sums = bytes(400), range(20_000)
            sent, turned = [], []
            for _ in range(25):
                began = time.thread_time()
                for _ in range(500):
                    sender.send(data)
                    taker.recv(4096)
                sent.append((time.thread_time() - began) / 500)
                began, total = time.thread_time(), 0
                for number in sums:
                    total += number & 7
                turned.append((time.thread_time() - began) / len(sums))
    return min(sent) * 1e6, min(turned) * 1e9
