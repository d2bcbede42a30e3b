"""The clients that people use: the official one, sync and async, and curl."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from turnout.serve.background import running
from turnout.serve.config import parse

QUESTION = [{"role": "user", "content": "What is the weather like in Z\u00fcrich? \u2603"}]
WORDS = ("It ", "rains ", "in ", "Z\u00fcrich \u2614.")
TEXT = "".join(WORDS)
ARGUMENTS = ('{"city":', ' "Z\u00fcrich"', "}")
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
USAGE = {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            "strict": True,
        },
    }
]
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {"name": "w", "schema": {"type": "object", "additionalProperties": False}},
}
#: A picture of one pixel, and then bytes enough for several reads.
PICTURE = (
    "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(300_000)).decode()
)


class Model(http.server.BaseHTTPRequestHandler):
    """An upstream that answers with what was asked for, and keeps what it was sent."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        self.bodies.append(raw)
        data = json.loads(raw)
        message: dict[str, Any] = {"role": "assistant", "content": TEXT}
        deltas: list[dict[str, Any]] = [{"content": word} for word in WORDS]
        if "tools" in data:
            whole = {**CALL, "function": {"name": "weather", "arguments": "".join(ARGUMENTS)}}
            message = {"role": "assistant", "content": None, "tool_calls": [whole]}
            deltas = [{"tool_calls": [{"index": 0, **CALL}]}]
            deltas += [
                {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
                for part in ARGUMENTS
            ]
        elif "response_format" in data:
            message["content"] = '{"city": "Z\u00fcrich"}'
            deltas = [{"content": '{"city": '}, {"content": '"Z\u00fcrich"}'}]
        head = {"id": "chatcmpl-7", "created": 7, "model": "model-7", "system_fingerprint": "fp_7"}
        finish = "tool_calls" if "tools" in data else "stop"
        if not data.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
            told = {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}
            self.send("application/json", json.dumps(told).encode())
            return
        head["object"] = "chat.completion.chunk"
        pieces: list[dict[str, Any]] = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            for delta in ({"role": "assistant", "content": None}, *deltas)
        ]
        pieces += [{**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}]
        if data["stream_options"]["include_usage"]:
            pieces += [{**head, "choices": [], "usage": USAGE}]
        lines = [*(json.dumps(piece) for piece in pieces), "[DONE]"]
        self.send("text/event-stream", "".join(f"data: {line}\n\n" for line in lines).encode())

    def send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def _upstream() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []
    kept = type("Kept", (Model,), {"bodies": bodies})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kept) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", bodies
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def url(_upstream: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway in front of it."""
    folder: Path = tmp_path_factory.mktemp("clients")
    text = (
        '[ledger]\npath = "ledger.sqlite"\n[budgets.all]\nusd = 1000\n'
        f'[pool.m]\nupstream = "openai:{_upstream[0]}"\nmodel = "model-7"\n'
        "usd_per_million_input_tokens = 1\nusd_per_million_output_tokens = 4\n"
    )
    with running(parse(text, folder / "turnout.toml")) as served:
        yield served.url


@pytest.fixture
def bodies(_upstream: Any) -> list[bytes]:
    """What the upstream was sent in this test."""
    found: list[bytes] = _upstream[1]
    found.clear()
    return found


Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, url: str) -> Iterator[Ask]:
    """Ask through the official client; a stream comes back as the list of its pieces.

    What was sent stands in `ask.sent`.
    """
    sent: list[bytes] = []
    settings: Any = {"base_url": f"{url}/v1", "api_key": "none", "max_retries": 0}

    def keep(told: Any) -> None:
        sent.append(told.content)

    async def keep_async(told: Any) -> None:
        keep(told)

    async def through(**fields: Any) -> Any:
        hooks = {"request": [keep_async]}
        async with (
            openai.DefaultAsyncHttpxClient(event_hooks=hooks) as http_client,
            openai.AsyncOpenAI(**settings, http_client=http_client) as client,
        ):
            answer = await client.chat.completions.create(**fields)
            return [piece async for piece in answer] if fields.get("stream") else answer

    def asked(**fields: Any) -> Any:
        fields = {"model": "auto", "messages": QUESTION, **fields}
        if request.param == "async":
            return asyncio.run(through(**fields))
        with (
            openai.DefaultHttpxClient(event_hooks={"request": [keep]}) as http_client,
            openai.OpenAI(**settings, http_client=http_client) as client,
        ):
            answer = client.chat.completions.create(**fields)
            return list(answer) if fields.get("stream") else answer

    asked.sent = sent  # type: ignore[attr-defined]
    return asked


def unchanged(sent: bytes, seen: bytes) -> None:
    """What the upstream saw is what the client sent, but for the model and the usage wanted."""
    told = b'"stream_options":{"include_usage":true},'
    if told in seen and told not in sent:
        seen = seen.replace(told, b"", 1)
    assert seen == sent.replace(b'"model":"auto"', b'"model":"model-7"')


def text_of(pieces: list[Any]) -> str:
    return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)


def test_a_whole_answer(ask: Any, bodies: list[bytes]) -> None:
    """With every field that the upstream told, also those that nobody here knows."""
    answer = ask(temperature=0.1, extra_body={"x": [1, None, 2.50]})
    assert answer.choices[0].message.content == TEXT
    assert (answer.id, answer.model, answer.system_fingerprint) == ("chatcmpl-7", "model-7", "fp_7")
    assert answer.usage.total_tokens == 16
    unchanged(*ask.sent, *bodies)
    assert b"2.5" in bodies[0]


@pytest.mark.parametrize("usage", [False, True])
def test_a_streamed_answer(ask: Any, bodies: list[bytes], usage: bool) -> None:
    """Piece by piece; with the usage where it was asked for, and else without."""
    options = {"stream_options": {"include_usage": True}} if usage else {}
    pieces = ask(stream=True, **options)
    assert text_of(pieces) == TEXT
    assert len(pieces) == len(WORDS) + 2 + usage
    assert [piece.usage.total_tokens for piece in pieces if piece.usage] == [16] * usage
    unchanged(*ask.sent, *bodies)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls(ask: Any, bodies: list[bytes], stream: bool) -> None:
    """The tools reach the upstream, its calls the client, and the result the upstream again."""
    answer = ask(tools=TOOLS, tool_choice="auto", parallel_tool_calls=False, stream=stream)
    if stream:
        deltas = [piece.choices[0].delta for piece in answer]
        calls = [call for delta in deltas for call in delta.tool_calls or ()]
        assert (calls[0].id, calls[0].function.name) == ("call_1", "weather")
        arguments = "".join(call.function.arguments or "" for call in calls)
        assert answer[-1].choices[0].finish_reason == "tool_calls"
    else:
        (call,) = answer.choices[0].message.tool_calls
        assert (call.id, call.function.name) == ("call_1", "weather")
        arguments = call.function.arguments
        assert answer.choices[0].finish_reason == "tool_calls"
    assert json.loads(arguments) == {"city": "Z\u00fcrich"}
    whole = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    then = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [whole]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    after = ask(messages=then, stream=stream)
    assert (text_of(after) if stream else after.choices[0].message.content) == TEXT
    for sent, seen in zip(ask.sent, bodies, strict=True):
        unchanged(sent, seen)


@pytest.mark.parametrize("how", [{"type": "json_object"}, SCHEMA])
@pytest.mark.parametrize("stream", [False, True])
def test_json_mode(ask: Any, bodies: list[bytes], how: Any, stream: bool) -> None:
    """The wanted form reaches the upstream, and the JSON comes back as it was written."""
    answer = ask(response_format=how, stream=stream)
    text = text_of(answer) if stream else answer.choices[0].message.content
    assert json.loads(text) == {"city": "Z\u00fcrich"}
    assert json.loads(bodies[0])["response_format"] == how
    unchanged(*ask.sent, *bodies)


@pytest.mark.parametrize("stream", [False, True])
def test_an_image(ask: Any, bodies: list[bytes], stream: bool) -> None:
    """All its bytes reach the upstream, and the answer comes back."""
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
    ]
    answer = ask(messages=[{"role": "user", "content": parts}], stream=stream)
    assert (text_of(answer) if stream else answer.choices[0].message.content) == TEXT
    assert PICTURE.encode() in bodies[0]
    unchanged(*ask.sent, *bodies)


def test_errors_have_their_classes(ask: Any, bodies: list[bytes]) -> None:
    """The client raises what it raises for the same mistake elsewhere."""
    with pytest.raises(openai.NotFoundError, match="be one of auto, m"):
        ask(model="no-such-model")
    with pytest.raises(openai.BadRequestError, match="at least one message"):
        ask(messages=[])
    assert bodies == []


def test_the_models_are_listed(url: str) -> None:
    """As the official client reads them."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["auto", "m"]


CURL = shutil.which("curl")


@pytest.mark.skipif(CURL is None, reason="curl is not installed here")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [10, 200_000])
def test_curl(url: str, bodies: list[bytes], stream: bool, size: int) -> None:
    """As the documentation says, also with a body for which curl asks leave first."""
    text = "x" * size
    body = json.dumps(
        {"model": "auto", "stream": stream, "messages": [{"role": "user", "content": text}]}
    )
    command = [str(CURL), "-sS", "-i", "-N", f"{url}/v1/chat/completions"]
    command += ["-H", "content-type: application/json", "-H", "Expect: 100-continue"]
    done = subprocess.run(
        [*command, "--data-binary", "@-"], input=body.encode(), capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    head, _, answer = done.stdout.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"x-turnout-destination: m\r\n" in head
    if stream:
        assert answer.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(answer)["choices"][0]["message"]["content"] == TEXT
    assert json.loads(bodies[0])["messages"][0]["content"] == text


@pytest.mark.skipif(CURL is None, reason="curl is not installed here")
def test_curl_is_told_what_is_wrong(url: str) -> None:
    """A refusal is JSON with a message, on one line."""
    command = [str(CURL), "-sS", f"{url}/v1/chat/completions", "-d", "{"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert json.loads(done.stdout)["error"]["code"] == "invalid_json"
