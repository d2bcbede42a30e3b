"""Nothing that the gateway writes, tells or shows holds a key or a prompt."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from turnout.cli import main
from turnout.core import ConfigError
from turnout.serve.config import parse

from .fault.rig import Answer, Gateway, ask, make_keys, serving

UPSTREAM_KEY = "sk-upstream-5f1d9c77aa31"
PROMPT = "the quick brown fox keeps a secret"
ANSWER = "an answer that is nobody else's business"
MANNERS = ("good", "400", "401", "429", "500", "event", "odd-type", "cut")


class Echo(http.server.BaseHTTPRequestHandler):
    """An upstream that repeats the key and the prompt wherever it can."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        manner = orjson.loads(raw)["model"]
        key = self.headers["authorization"]
        told = f"{key} {PROMPT}"
        message = {"role": "assistant", "content": ANSWER}
        good = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": message}]}
        body, status, kind = orjson.dumps(good), 200, "application/json"
        if manner.isdigit():
            body, status = orjson.dumps({"error": {"message": told, "code": told}}), int(manner)
        elif orjson.loads(raw).get("stream"):
            kind = "text/event-stream"
            piece = {**good, "choices": [{"index": 0, "delta": {"content": ANSWER}}]}
            last = {"error": {"message": told}} if manner == "event" else None
            end = b"data: [DONE]\n\n" if last is None else b"data: %b\n\n" % orjson.dumps(last)
            body = b"data: %b\n\n" % orjson.dumps(piece) + (b"" if manner == "cut" else end)
        if manner == "odd-type":
            kind = f"text/{told}"
        self.send_response(status, told)
        self.send_header("content-type", kind)
        self.send_header("x-echo", told)
        self.send_header("set-cookie", told)
        self.send_header("content-length", str(len(body) + 9 * (manner == "cut")))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = manner == "cut"

    def log_message(self, *_: Any) -> None:
        """Nothing: the test looks at what is logged."""


@contextmanager
def echoing() -> Iterator[str]:
    """The upstream while a block runs; its base URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def config_of(url: str) -> str:
    pool = "".join(
        f'[pool.{name}]\nupstream = "openai:{url}"\nkey_env = "ECHO_KEY"\n'
        "usd_per_million_input_tokens = 1\nusd_per_million_output_tokens = 4\n"
        for name in MANNERS
    )
    return (
        '[keys]\nfile = "keys.json"\n[router]\nmodel = "good"\n'
        '[ledger]\npath = "ledger.sqlite"\n[retry]\ntries = 2\nbase_seconds = 0\n'
        f'[budgets.each]\nusd = 1\nper = "key"\n{pool}'
    )


def everything(gateway: Gateway, secrets: dict[str, str]) -> list[Answer]:
    """Good and bad requests of every kind, and all pages."""
    answers = []
    alice = {"authorization": f"Bearer {secrets['alice']}"}
    admin = {"authorization": f"Bearer {secrets['admin']}"}
    wrong = {"authorization": f"Bearer {secrets['alice'][:-4]}xxxx"}
    message = {"role": "user", "content": PROMPT}
    for name in MANNERS:
        for stream in (False, True):
            answers.append(gateway.chat(name, PROMPT, alice, stream=stream))
            answers.append(gateway.chat(f"{name}>500", PROMPT, alice, stream=stream))
            answers.append(gateway.chat(name, PROMPT, wrong, stream=stream))
    chat = "/v1/chat/completions"
    bad: list[Any] = [
        b'{"model": "good", "messages": [{"role": "user", "content": "' + PROMPT.encode(),
        {"model": "good", "messages": [{"role": "user", "content": [PROMPT]}]},
        {"model": "good", "messages": [{"role": "user", "content": {PROMPT: PROMPT}}]},
        {"model": "good", "messages": PROMPT},
        {"model": [PROMPT], "messages": [message]},
        {"model": "good", "stream": PROMPT, "messages": [message]},
        {"model": "good", "messages": [{"role": "user", "content": PROMPT + "\0"}]},
        {"model": "good", "messages": [{"role": "user", "content": PROMPT * 20_000}]},
        PROMPT,
    ]
    answers += [ask(gateway.url, chat, body, alice) for body in bad]
    rating = {"id": answers[0].id, "quality": 2.0, "comment": PROMPT}
    answers.append(ask(gateway.url, "/v1/feedback", rating, alice))
    answers.append(ask(gateway.url, f"/v1/models?key={secrets['alice']}", headers=alice))
    for path in ("/healthz", "/metrics", "/admin/state", "/v1/models", "/dashboard"):
        for headers in (alice, admin, wrong, {}):
            answers.append(ask(gateway.url, path, headers=headers))
    return answers


def written(folder: Path) -> dict[str, bytes]:
    """All that stands in the files of a folder and of those in it."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_key_and_no_prompt_gets_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not in ledger, journal, run folder, log, headers, errors, metrics, dashboard, health."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ECHO_KEY", UPSTREAM_KEY)
    secrets = make_keys(tmp_path, alice={})
    with echoing() as url:
        config = parse(config_of(url), tmp_path / "turnout.toml")
        with serving(config) as gateway:
            answers = everything(gateway, secrets)
            files = written(tmp_path)  # with journals and the write-ahead log
            gateway.desk.books.ledger.flush()
            state = ask(
                gateway.url,
                "/admin/state",
                headers={"authorization": f"Bearer {secrets['admin']}"},
            )
        files |= {f"{name} at the end": data for name, data in written(tmp_path).items()}
    assert any("journal" in name for name in files)
    # what is looked at is what was meant to be made
    statuses = {answer.status for answer in answers}
    assert {200, 400, 401, 403, 429, 502} <= statuses
    assert len(state.json["recent"]) == 30
    assert len(gateway.rows()) == 4 * len(MANNERS)
    assert caplog.records

    told = {f"log {i}": record.getMessage().encode() for i, record in enumerate(caplog.records)}
    told |= {f"exception {i}": str(r.exc_info).encode() for i, r in enumerate(caplog.records)}
    told |= {f"answer {i} {one.status}": one.body for i, one in enumerate(answers)}
    told |= {f"headers {i}": repr(one.headers).encode() for i, one in enumerate(answers)}
    told |= dict(zip(("out", "err"), (text.encode() for text in capfd.readouterr()), strict=True))
    told |= files | {"state": state.body}
    hidden = {
        "upstream key": UPSTREAM_KEY,
        **{f"key of {name}": secret[12:-4] for name, secret in secrets.items()},
        "prompt": "quick brown fox",
    }
    for what, text in hidden.items():
        for where, data in told.items():
            assert text.encode() not in data, f"{what} in {where}: {data[:300]!r}"
    # answers are for the client alone
    for where, data in told.items():
        if not where.startswith("answer"):
            assert ANSWER.encode() not in data, where
    assert not [answer for answer in answers if "x-echo" in answer.headers]
    assert not [answer for answer in answers if "set-cookie" in answer.headers]


def test_the_audit_log_holds_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys are made, rotated and revoked; the secrets are shown once, on the screen."""
    file = str(tmp_path / "keys.json")
    shown = ""
    codes: list[Any] = []
    for words in (["new", "alice"], ["rotate", "alice"], ["list"], ["revoke", "alice"]):
        try:
            main(["keys", *words, "--file", file])
        except SystemExit as stop:
            codes.append(stop.code)
        if words[0] != "list":
            shown += capsys.readouterr().out
        else:
            assert "tn-" not in capsys.readouterr().out
    secrets = {word for word in shown.split() if word.startswith("tn-") and len(word) == 55}
    assert len(secrets) == 2
    assert not any(codes)
    audit = [name for name in written(tmp_path) if "audit" in name]
    assert audit
    for name, data in written(tmp_path).items():
        for secret in secrets:
            assert secret[12:].encode() not in data, name


@pytest.mark.parametrize(
    "entry",
    [
        f'upstream = "openai:http://user:{UPSTREAM_KEY}@127.0.0.1:9/v1"',
        f'upstream = "openai:http://127.0.0.1:9/v1?key={UPSTREAM_KEY}"',
        f'upstream = "{UPSTREAM_KEY}"',
        f'upstream = "openai:http://127.0.0.1:9/v1"\nkey_env = "{UPSTREAM_KEY}"',
        f'upstream = "openai:http://127.0.0.1:9/v1"\nfree = "{UPSTREAM_KEY}"\nkey_env = 1',
        f'upstream = "openai:http://127.0.0.1:9/v1"\nkey = "{UPSTREAM_KEY}',
        f'upstream = "openai:http://127.0.0.1:9/v1"\nkey = "{UPSTREAM_KEY}"',
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(tmp_path: Path, entry: str) -> None:
    """A mistake in the configuration is told without the value, which may be a key."""
    with pytest.raises(ConfigError) as caught:
        parse(f"[pool.one]\n{entry}\n", tmp_path / "turnout.toml")
    assert UPSTREAM_KEY not in str(caught.value)
    assert "upstream-5f1d" not in repr(caught.value)
