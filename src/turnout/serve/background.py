"""The gateway in a thread of this process, for demonstrations and tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from turnout.core import ConfigError
from turnout.serve.build import Make, build, store
from turnout.serve.config import Config
from turnout.serve.run import bind
from turnout.serve.worker import Shared, Worker, counters

__all__ = ["Running", "running"]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A gateway that runs.

    Parameters
    ----------
    url : str
        Such as `http://127.0.0.1:40123`.
    """

    url: str


@contextmanager
def running(
    config: Config, make: Make = build, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Running]:
    """Serve the gateway of a configuration with one worker while the block runs.

    On leaving, requests in progress are finished and the ledger is written.

    Parameters
    ----------
    config : Config
        Its own host, port and number of workers do not count here.
    make : callable
        Makes what decides and what answers.
    host, port
        Where to listen; port 0 takes any free one.

    Yields
    ------
    Running

    Raises
    ------
    ConfigError, RouterFileError
        As `turnout.serve.run.serve`.
    """
    with bind(host, port) as listener:
        kept = store(config, workers=1)
        try:
            memory = bytearray(counters(config, 1).nbytes)
            worker = Worker(Shared(config, kept, memory), 0, host, make)
            stops: list[Callable[[], None]] = []
            stopped: list[BaseException] = []
            serving = threading.Event()

            def ready(stop: Callable[[], None]) -> None:
                stops.append(stop)
                serving.set()

            def run() -> None:
                try:
                    worker.run(listener, signals=False, ready=ready)
                except BaseException as error:
                    stopped.append(error)
                finally:
                    serving.set()

            thread = threading.Thread(target=run, name="turnout-serve", daemon=True)
            thread.start()
            serving.wait()
            try:
                if not stopped:
                    yield Running(url="http://{}:{}".format(*listener.getsockname()[:2]))
            finally:
                for stop in stops:
                    stop()
                thread.join()
        finally:
            kept.close()
    if stopped:
        hint = f"{type(stopped[0]).__name__}. Its log says why."
        raise ConfigError("the gateway", "start and stop in good order", None, hint)
