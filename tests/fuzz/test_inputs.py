"""The fuzz targets over the committed inputs, and over inputs made from them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
INPUTS = sorted(path for path in (HERE / "inputs").rglob("*") if path.is_file())


@cache
def target(name: str) -> Callable[[bytes], None]:
    path = HERE / f"fuzz_{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    one_input: Callable[[bytes], None] = module.one_input
    return one_input


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_inputs(path: Path) -> None:
    """Nothing that was once found, or thought of, breaks a target."""
    target(path.parent.name)(path.read_bytes())


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in INPUTS if path.parent.name == name]


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """Some inputs in a row, with pieces cut out, doubled, or replaced."""
    stream = b"".join(draw(st.lists(st.sampled_from(seeds(name)), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(stream)))
        stop = min(len(stream), start + draw(st.integers(0, 12)))
        piece = stream[start:stop]
        other = draw(
            st.just(b"")
            | st.just(piece * 2)
            | st.binary(max_size=3)
            | st.sampled_from([b"\r\n", b"\n", b"\r", b":", b" ", b"0", b"\0", b"\xff", b"chunked"])
        )
        stream = stream[:start] + other + stream[stop:]
    return stream


@settings(deadline=None, max_examples=150)
@given(mutated("requests"))
def test_requests_like_them(data: bytes) -> None:
    """The server's side keeps its promises on what resembles the inputs."""
    target("requests")(data)


@settings(deadline=None, max_examples=150)
@given(mutated("answers"))
def test_answers_like_them(data: bytes) -> None:
    """The client's side keeps its promises on what resembles the inputs."""
    target("answers")(data)
