from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from .rig import Gateway, configure, serving
from .upstream import BadUpstream

#: Runs a gateway over some manners while a block runs.
Serve = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture(scope="session")
def _bad_server() -> Iterator[BadUpstream]:
    with BadUpstream(pace=3600.0) as bad:
        yield bad


@pytest.fixture
def bad(_bad_server: BadUpstream) -> BadUpstream:
    """The bad upstream, with nothing on record."""
    _bad_server.clear()
    return _bad_server


@pytest.fixture
def serve(bad: BadUpstream, tmp_path: Path) -> Serve:
    """Run a gateway over some manners of the bad upstream; nothing of it may be left behind."""

    @contextmanager
    def run(*names: str, **tables: Any) -> Iterator[Gateway]:
        with serving(configure(bad, tmp_path, names, **tables)) as gateway:
            yield gateway
        # the gateway lets go of every connection, also of those that nobody answers on
        bad.wait(lambda bad: all(link.closed is not None for link in bad.links))

    return run
