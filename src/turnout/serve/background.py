"""The gateway in a thread of this process, for demonstrations and tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from turnout.core import ConfigError
from turnout.serve.app import create_app
from turnout.serve.config import Config
from turnout.serve.run import bind, server

__all__ = ["Running", "running"]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that runs.

    Parameters
    ----------
    url : str
        Such as `http://127.0.0.1:40123`.
    app : ASGI application
    """

    url: str
    app: ASGIApp


@contextmanager
def running(what: ASGIApp | Config, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Running]:
    """Serve an application, or the gateway of a configuration, while the block runs.

    On leaving, requests in progress are finished and the ledger is written.

    Parameters
    ----------
    what : ASGI application or Config
        A `Config`'s own host and port do not count here.
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
        app = create_app(what) if isinstance(what, Config) else what
        served = server(app)
        stopped: list[BaseException] = []

        def run() -> None:
            try:
                served.run(sockets=[listener])
            except BaseException as error:
                stopped.append(error)
                listener.close()  # whoever waits to be answered is not to wait for ever

        thread = threading.Thread(target=run, name="turnout-serve", daemon=True)
        # The socket already listens: whoever connects before the loop turns just waits.
        thread.start()
        try:
            yield Running(url="http://{}:{}".format(*listener.getsockname()[:2]), app=app)
        finally:
            served.should_exit = True
            thread.join()
    if stopped:
        hint = f"{type(stopped[0]).__name__}. Its log says why."
        raise ConfigError("the gateway", "start and stop in good order", None, hint)
