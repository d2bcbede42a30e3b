"""Worker processes behind one port: forked, watched, replaced, renewed and stopped in good order.

The supervisor holds the listening sockets, so that connections that wait in a dead worker's queue
are taken by the one that replaces it, and none is lost when a new generation of workers takes over
from an old one. It starts no thread and serves nothing itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Final, final

__all__ = ["Renew", "Supervisor", "Work"]

_log = logging.getLogger("turnout.serve")
_WATCHED: Final = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
#: A worker that lived shorter is started again only after a wait, doubled each time.
_SHORT: Final = 5.0
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0
#: Seconds in which a new worker has to serve.
_READY: Final = 60.0

#: What a worker does, given its place and what to call once it serves.
Work = Callable[[int, Callable[[], None]], None]
#: What workers are to do from now on, and what is told whether they do; None where the present ones
#: are to go on.
Renew = Callable[[], tuple[Work, Callable[[bool], None]] | None]


@final
class Supervisor:
    """Keeps `count` workers running until told to stop.

    SIGTERM and SIGINT stop every worker in good order; at SIGHUP new workers are started by what
    `renew` gives, and once they serve the old ones finish what they have and go. A worker that
    dies is replaced. Places 0 to `count` - 1 and `count` to 2 `count` - 1 are used in turn.

    Parameters
    ----------
    count : int
    work : Work
    renew : Renew
    grace : float
        Seconds a worker is given at a stop before it is killed.
    """

    def __init__(self, count: int, work: Work, renew: Renew, *, grace: float) -> None:
        self._count = count
        self._work = work
        self._renew = renew
        self._grace = grace
        self._half = 0
        self._workers: dict[int, int] = {}  # place by process
        self._leaving: dict[int, float] = {}  # when to be killed, by process
        self._born: dict[int, float] = {}
        self._wait: dict[int, float] = {}
        self._due: dict[int, float] = {}
        self._asked = False

    def run(self, ready: Callable[[], None]) -> int:
        """Start the workers and watch them.

        Parameters
        ----------
        ready : callable
            Called once all of them serve.

        Returns
        -------
        int
            Exit status: 0 after a stop in good order, 1 where the workers did not start.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            if not self._start_all():
                return 1
            ready()
            self._watch()
            return 0
        finally:
            self._stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _watch(self) -> None:
        while True:
            now = time.monotonic()
            for place in [place for place, due in self._due.items() if due <= now]:
                del self._due[place]
                os.close(self._start(place))  # nobody waits for it to serve
            for pid in [pid for pid, due in self._leaving.items() if due <= now]:
                _log.error("a worker did not finish in %g s and was killed", self._grace)
                self._leaving[pid] = now + self._grace
                os.kill(pid, signal.SIGKILL)
            if self._asked and not self._leaving and not self._due:
                self._asked = False
                self._change()
            dues = (*self._due.values(), *self._leaving.values(), now + 3600.0)
            told = signal.sigtimedwait(_WATCHED, max(min(dues) - time.monotonic(), 0.0))
            if told is None:
                continue
            if told.si_signo in (signal.SIGINT, signal.SIGTERM):
                return
            if told.si_signo == signal.SIGHUP:
                self._asked = True
            for place, status in self._reap():
                self._replace(place, status)

    def _change(self) -> None:
        """A new generation, if it can be made and serves; else the old one goes on."""
        made = self._renew()
        if made is None:
            return
        work, done = made
        old, before = dict(self._workers), self._work
        self._half ^= 1
        self._work = work
        if self._start_all():
            done(True)
            end = time.monotonic() + self._grace
            for pid in old:
                if self._workers.pop(pid, None) is not None:
                    os.kill(pid, signal.SIGTERM)
                    self._leaving[pid] = end
            _log.warning("%d new workers serve by the configuration as it is now", self._count)
            return
        _log.error("the new workers did not start; the old ones go on")
        for pid in [pid for pid in self._workers if pid not in old]:
            del self._workers[pid]
            os.kill(pid, signal.SIGKILL)
            self._leaving[pid] = time.monotonic() + self._grace
        self._half ^= 1
        self._work = before
        done(False)

    def _start_all(self) -> bool:
        """Start the workers of the present half; whether all of them serve."""
        first = self._half * self._count
        waiting = [self._start(place) for place in range(first, first + self._count)]
        end = time.monotonic() + _READY
        good = True
        for pipe in waiting:
            left = max(end - time.monotonic(), 0.0)
            good = good and bool(select.select([pipe], [], [], left)[0]) and bool(os.read(pipe, 1))
            os.close(pipe)
        return good

    def _start(self, place: int) -> int:
        """Fork one worker; the end of a pipe that tells when it serves."""
        sys.stdout.flush()
        sys.stderr.flush()
        here, there = os.pipe()
        pid = os.fork()
        if pid:
            os.close(there)
            self._workers[pid] = place
            self._born[place] = time.monotonic()
            return here
        status = 1
        try:
            os.close(here)
            for number in _WATCHED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            self._work(place, lambda: _tell(there))
            status = 0
        except BaseException as error:
            _log.error("worker: %s: %s", type(error).__name__, error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> list[tuple[int, int]]:
        """Place and exit status of each worker that has died; a signal counts as negative."""
        dead = []
        while self._workers or self._leaving:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            self._leaving.pop(pid, None)
            if pid in self._workers:
                dead.append((self._workers.pop(pid), os.waitstatus_to_exitcode(status)))
        return dead

    def _replace(self, place: int, status: int) -> None:
        now = time.monotonic()
        last = self._wait.get(place, 0.0)
        short = now - self._born[place] < _SHORT
        self._wait[place] = min(max(last * 2, _FIRST_WAIT), _LONGEST_WAIT) if short else 0.0
        self._due[place] = now + self._wait[place]
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        _log.error("a worker ended %s; another takes its place", how)

    def _stop(self) -> None:
        pids = (*self._workers, *self._leaving)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + self._grace
        while (self._workers or self._leaving) and (left := end - time.monotonic()) > 0:
            self._reap()
            if self._workers or self._leaving:
                signal.sigtimedwait((signal.SIGCHLD,), left)
        for pid in (*self._workers, *self._leaving):
            _log.error("a worker did not stop in %g s and was killed", self._grace)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._workers.clear()
        self._leaving.clear()


def _tell(pipe: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, b".")
    os.close(pipe)
