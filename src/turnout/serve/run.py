"""Runs the gateway: its port, its supervisor and its workers, until it is told to stop."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

from turnout.core import ConfigError, TurnoutError
from turnout.serve.build import check, renewed, resolve, store
from turnout.serve.config import Config
from turnout.serve.guard.audit import Audit, account, beside
from turnout.serve.guard.keys import check_open
from turnout.serve.money.store import Store
from turnout.serve.worker import Shared, Worker, counters
from turnout.serve.workers import Supervisor, Work

__all__ = ["bind", "ready", "serve"]

_log = logging.getLogger("turnout.serve")
#: Seconds that a worker is given at a stop beyond those its requests have.
_GRACE = 10.0


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Parameters
    ----------
    host, port
    shared : bool
        Whether other sockets of this user may listen there, too.

    Raises
    ------
    ConfigError
        The port is in use, or the address is not this machine's.
    """
    kind, address = resolve(host, port)
    # asyncio sends small pieces at once only where the protocol is said
    listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        hint = f"{error.strerror}. Choose another with --port, or 0 for any free one."
        raise ConfigError("server.port", f"be free on {host}", port, hint) from None
    return listener


def serve(
    config: Config,
    *,
    reread: Callable[[], Config],
    say: Callable[[str], None] = print,
    source: Path | None = None,
) -> int:
    """Serve until interrupted, then finish what is in progress and write the ledger.

    The port is taken before anything else, so that a second gateway started by mistake touches
    nothing. Start, reloads and stop are noted in the audit log of the key file, if there is one.

    Parameters
    ----------
    config : Config
    reread : callable
        Reads the configuration again, at SIGHUP.
    say : callable
        Prints a line for whoever started it.
    source : path, optional
        The configuration's file, of which the audit log tells a digest.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    ConfigError, RouterFileError
        Something the gateway needs is not as it has to be; nothing has been written.
    """
    count, grace = config.server.workers, config.server.drain_seconds + _GRACE
    digest = _digest(source)
    with contextlib.ExitStack() as stack:
        # each worker its own queue of new connections, and all of them ours to keep
        listeners = [stack.enter_context(one) for one in _listeners(config)]
        host, port = listeners[0].getsockname()[:2]
        local = check_open(host, keys=config.keys.file is not None, allowed=config.server.open)
        check(config)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        if not local and config.keys.file is None:
            say(f"warning: {host} can be reached by others, and nobody is asked for a key")
        kept = [store(config, workers=2 * count)]
        stack.callback(lambda: kept[-1].close())
        record = _Record(config.keys.file, f"{host}:{port}", count, digest)

        def working(settings: Config, of: Store) -> Work:
            memory = mmap.mmap(-1, counters(settings, 2 * count).nbytes)
            shared = Shared(settings, of, memory)

            def work(place: int, serving: Callable[[], None]) -> None:
                worker = Worker(shared, place, host)
                worker.run(listeners[place % count], signals=True, ready=lambda _: serving())

            return work

        def renew() -> tuple[Work, Callable[[bool], None]] | None:
            now = _digest(source)
            try:
                settings = reread()
                check(settings)
                _check_same(config, settings)
                new = renewed(kept[-1], settings)
            except TurnoutError as error:
                _log.error("the configuration stays as it was: %s", error)
                record.failed(now, "configuration")
                return None

            def done(good: bool) -> None:
                if good:
                    kept.append(new)
                    record.reloaded(settings.keys.file, now)
                else:
                    record.failed(now, "workers")

            return working(settings, new), done

        def serving() -> None:
            record.started()
            stack.callback(record.stopped)
            say(ready(config, host, port))

        supervisor = Supervisor(count, working(config, kept[0]), renew, grace=grace)
        status = supervisor.run(serving)
        if not status:
            say("stopped")
        return status


@final
class _Record:
    """Puts on record what is done to a gateway, in the audit log of its key file if there is one.

    It goes on where that cannot be written, as where the log is another account's: a gateway that
    could not be stopped or mended for want of a line would be worse.
    """

    def __init__(self, keys: Path | None, subject: str, workers: int, digest: str | None) -> None:
        self._keys = keys
        self._subject = subject
        self._workers = workers
        self._digest = digest

    def started(self) -> None:
        self._note("start", self._digest)

    def stopped(self) -> None:
        self._note("stop", self._digest)

    def reloaded(self, keys: Path | None, digest: str | None) -> None:
        """The line stands in the log that counted until now; the next ones where keys are now."""
        self._note("reload", digest)
        self._keys, self._digest = keys, digest

    def failed(self, digest: str | None, reason: str) -> None:
        self._note("reload_failed", digest, reason=reason)

    def _note(self, what: str, digest: str | None, **facts: str) -> None:
        if self._keys is None:
            return
        path = beside(self._keys)
        try:
            if path.exists():
                told = {"workers": self._workers, "config": digest, **facts}
                Audit(path, wall=time.time).note(
                    account(), f"gateway.{what}", self._subject, **told
                )
        except (ConfigError, OSError):
            _log.error("the audit log %s cannot be appended to: %s is not on record", path, what)


def _digest(source: Path | None) -> str | None:
    """Tells one configuration file from another, and nothing of what stands in it."""
    try:
        return None if source is None else hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def _listeners(config: Config) -> Iterator[socket.socket]:
    """A socket for each worker, all on one port that nobody else has."""
    host, port, count = config.server.host, config.server.port, config.server.workers
    first = bind(host, port)
    if count == 1:
        yield first
        return
    # sockets that share a port would share it with a gateway that runs already, too
    host, port = first.getsockname()[:2]
    first.close()
    for _ in range(count):
        yield bind(host, port, shared=True)


def _check_same(old: Config, new: Config) -> None:
    """Refuse a change that only a start anew can make."""
    for where, before, after in (
        ("server.host", old.server.host, new.server.host),
        ("server.port", old.server.port, new.server.port),
        ("server.workers", old.server.workers, new.server.workers),
        ("ledger.path", old.ledger.path, new.ledger.path),
    ):
        if before != after:
            raise ConfigError(where, f"stay {before} while it serves", after, "Stop and start.")


def ready(config: Config, host: str, port: int) -> str:
    """What to do now that it runs."""
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    return f"""\
ready: {url} serves {", ".join(config.names)}; ledger {config.ledger.path}

  curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is 2 + 3?"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none")
  client.chat.completions.create(model="auto", messages=[...])
"""
