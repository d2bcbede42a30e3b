from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest

USER = [{"role": "user", "content": "hi"}]

REFUSED: dict[str, tuple[Any, int, str, str | None]] = {
    # name: body, status, code, param
    "not JSON": (b"{", 400, "invalid_json", "body"),
    "not UTF-8": (b'{"model": "\xff"}', 400, "invalid_json", "body"),
    "half a surrogate pair": (b'{"model": "\\ud800"}', 400, "invalid_json", "body"),
    "not an object": ([1], 400, "invalid_request", "body"),
    "empty": (b"", 400, "invalid_json", "body"),
    "no model": ({"messages": USER}, 400, "missing_model", "model"),
    "a model of no text": ({"model": 3, "messages": USER}, 400, "missing_model", "model"),
    "an unknown model": ({"model": "huge", "messages": USER}, 404, "model_not_found", "model"),
    "no messages": ({"model": "auto"}, 400, "missing_messages", "messages"),
    "empty messages": ({"model": "auto", "messages": []}, 400, "missing_messages", "messages"),
    "messages of text": ({"model": "auto", "messages": "hi"}, 400, "missing_messages", "messages"),
    "a message of text": (
        {"model": "auto", "messages": ["hi"]}, 400, "invalid_request", "messages[0]",
    ),
    "no role": (
        {"model": "auto", "messages": [{"content": "hi"}]}, 400, "invalid_request", "messages[0]",
    ),
    "content of numbers": (
        {"model": "auto", "messages": [{"role": "user", "content": 3}]},
        400, "invalid_request", "messages[0].content",
    ),
    "a part without a text": (
        {"model": "auto", "messages": [{"role": "user", "content": [{"type": "text"}]}]},
        400, "invalid_request", "messages[0].content[0].text",
    ),
    "stream of text": (
        {"model": "auto", "messages": USER, "stream": "yes"}, 400, "invalid_request", "stream",
    ),
    "stream_options of a list": (
        {"model": "auto", "messages": USER, "stream_options": [1]},
        400, "invalid_request", "stream_options",
    ),
    "a null character": (
        {"model": "auto", "messages": [{"role": "user", "content": "a\0b"}]},
        400, "null_character", "prompt",
    ),
    "a prompt of a megabyte": (
        {"model": "auto", "messages": [{"role": "user", "content": "x" * 1_048_576}]},
        400, "prompt_too_long", "prompt",
    ),
    "a body of five megabytes": (
        {"model": "auto", "messages": USER, "padding": "x" * 5_000_000},
        413, "body_too_long", "body",
    ),
}  # fmt: skip


def test_bad_requests_get_one_typed_error_each(
    gateway: Callable[..., Any], fake: Any, ledger_rows: Callable[..., Any]
) -> None:
    """Every kind of bad request is told apart, reaches no upstream, and leaves no ledger row."""
    with gateway() as served:
        answers = {
            name: served.post("/v1/chat/completions", body) for name, (body, *_) in REFUSED.items()
        }
    for name, (_, status, code, param) in REFUSED.items():
        answer = answers[name]
        error = answer.error
        assert (answer.status, error["code"], error["param"]) == (status, code, param), name
        assert error["type"] == "invalid_request_error", name
        assert " must " in error["message"], name
        assert len(error["message"]) < 300, name
    assert fake.bodies == []
    assert ledger_rows(served.config) == []


def test_an_unknown_model_is_told_what_there_is(gateway: Callable[..., Any]) -> None:
    with gateway() as served:
        message = served.chat("hi", "huge").error["message"]
    assert message == (
        "model must be one of auto, cheap, dear; got 'huge'. Ask for 'auto' to have it routed."
    )


def test_a_long_prompt_passes_where_the_limit_is_raised(
    gateway: Callable[..., Any], fake: Any, ledger_rows: Callable[..., Any]
) -> None:
    """The limits are settings: a megabyte goes through whole when they allow it."""
    text = "x" * 1_048_576
    with gateway(server="max_prompt_chars = 2000000") as served:
        answer = served.chat(text)
    assert answer.status == 200
    assert orjson.loads(fake.bodies[0])["messages"][0]["content"] == text
    (row,) = ledger_rows(served.config)
    assert row["prompt_chars"] == len(text)


def test_unknown_paths_and_methods_are_typed_errors_too(gateway: Callable[..., Any]) -> None:
    with gateway() as served:
        lost, wrong = served.get("/v1/nothing"), served.get("/v1/chat/completions")
    assert (lost.status, lost.error["code"]) == (404, "not_found")
    assert (wrong.status, wrong.error["code"]) == (405, "method_not_allowed")
    assert "POST /v1/chat/completions" in lost.error["message"]


def test_an_unforeseen_error_tells_nothing_of_the_prompt(
    gateway: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A predictor that fails with the prompt in its message is told and logged by place only."""
    import by_length  # type: ignore[import-not-found]

    def fail(self: Any, inputs: Any) -> Any:
        raise KeyError(inputs[0])

    monkeypatch.setattr(by_length.ByLength, "predict", fail)
    with gateway() as served, caplog.at_level(logging.DEBUG):
        answer = served.chat("my private prompt")
    assert answer.status == 500
    assert answer.error["type"] == "server_error"
    assert "private" not in answer.body.decode()
    assert "private" not in caplog.text
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, "body"),
        ([], 400, "body"),
        ({"quality": 1}, 400, "id"),
        ({"id": "tn-none"}, 400, "quality"),
        ({"id": "tn-none", "quality": True}, 400, "quality"),
        ({"id": "tn-none", "quality": 1.5}, 400, "quality"),
        ({"id": "tn-none", "quality": 1, "comment": 3}, 400, "comment"),
        ({"id": "tn-none", "quality": 1, "score": 3}, 400, "score"),
        ({"id": "tn-none", "quality": 1}, 404, "id"),
        ({"id": "x" * 20_000, "quality": 1}, 413, "body"),
    ],
)
def test_bad_feedback_is_refused(feedback_gateway: Any, body: Any, status: int, param: str) -> None:
    answer = feedback_gateway.post("/v1/feedback", body)
    assert (answer.status, answer.error["param"]) == (status, param)


@pytest.fixture
def feedback_gateway(gateway: Callable[..., Any]) -> Any:
    with gateway() as served:
        yield served
