"""Runs the gateway under uvicorn until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from turnout.core import ConfigError
from turnout.serve.app import create_app
from turnout.serve.config import Config

__all__ = ["bind", "ready", "serve", "server"]

#: Seconds that requests in progress are given at a stop.
GRACE = 10


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises
    ------
    ConfigError
        The port is in use, or the address is not this machine's.
    """
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        hint = f"{error.strerror}. Use 127.0.0.1."
        raise ConfigError("server.host", "be an address of this machine", host, hint) from None
    listener = socket.socket(kind, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        hint = f"{error.strerror}. Choose another with --port, or 0 for any free one."
        raise ConfigError("server.port", f"be free on {host}", port, hint) from None
    return listener


def server(app: ASGIApp) -> uvicorn.Server:
    """A server for the application, quiet: no access log, no request in any message."""
    config = uvicorn.Config(
        app,
        loop="auto",  # uvloop where it is installed
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def serve(config: Config, *, say: Callable[[str], None] = print) -> None:
    """Serve until interrupted, then finish what is in progress and write the ledger.

    The port is taken before anything else, so that a second gateway started by mistake touches
    nothing.

    Raises
    ------
    ConfigError, RouterFileError
        Something the gateway needs is not as it has to be; nothing has been written.
    """
    with bind(config.server.host, config.server.port) as listener:
        app = create_app(config)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        host, port = listener.getsockname()[:2]
        if not _is_loopback(host):
            say(f"warning: {host} can be reached by others, and there is no authentication")
        try:
            say(ready(config, host, port))  # who reads it may already stop it
            server(app).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn has already stopped in good order
            say("stopped")


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


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
