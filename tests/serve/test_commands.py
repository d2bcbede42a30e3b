from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnout.cli import main
from turnout.core import InputError
from turnout.serve.why import explain

LONG = "a prompt that is longer than twenty characters"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command line."""
    code = 0
    try:
        main([str(arg) for arg in args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def config_file(tmp_path: Path, router_file: Path, fake: Any) -> Path:
    path = tmp_path / "turnout.toml"
    pool = "".join(
        f'[pool.{name}]\nupstream = "openai:{fake.url}/v1"\nmodel = "ok"\n'
        'key_env = "FAKE_KEY"\nfree = true\n'
        for name in ("cheap", "dear")
    )
    path.write_text(
        f'[server]\nport = 0\n[router]\nfile = "{router_file.name}"\ntrust = ["by_length"]\n'
        f'[budget]\nprice = 1.0\n[ledger]\npath = "ledger.sqlite"\n{pool}'
    )
    return path


def test_check_says_that_all_is_good_and_makes_nothing(
    capsys: pytest.CaptureFixture[str], config_file: Path
) -> None:
    code, out, _ = run(capsys, "serve", str(config_file), "--check")
    assert (code, "would serve cheap, dear" in out) == (0, True)
    assert not (config_file.parent / "ledger.sqlite").exists()


def test_a_port_in_use_is_one_clear_error(
    capsys: pytest.CaptureFixture[str], config_file: Path
) -> None:
    """Exit status 2, one line, and nothing has been written."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = run(capsys, "serve", str(config_file), "--port", port)
    assert (code, out) == (2, "")
    assert err == (
        f"error: server.port must be free on 127.0.0.1; got {port}. Address already in use. "
        "Choose another with --port, or 0 for any free one.\n"
    )
    assert not (config_file.parent / "ledger.sqlite").exists()


def test_a_missing_key_variable_is_one_clear_error(
    capsys: pytest.CaptureFixture[str], config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAKE_KEY")
    for flags in ((), ("--check",)):
        code, _, err = run(capsys, "serve", str(config_file), *flags)
        assert code == 2
        assert err.startswith("error: environment variable FAKE_KEY must be set; got 'nothing'.")
        assert err.count("\n") == 1
    assert not (config_file.parent / "ledger.sqlite").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--host", "256.1.1.1"), "server.host must be an address of this machine"),
        (("--port", "70000"), "port must be a whole number in [0, 65535]"),
        (("--port", "x"), "not a valid integer"),
    ],
)
def test_other_mistakes_of_the_command(
    capsys: pytest.CaptureFixture[str], config_file: Path, args: tuple[str, ...], said: str
) -> None:
    code, _, err = run(capsys, "serve", str(config_file), *args)
    assert (code, said in err) == (2, True), err


def test_serve_says_how_to_ask_and_stops_in_good_order(
    config_file: Path, fake: Any, ledger_rows: Callable[..., Any]
) -> None:
    """In a process of its own: ready line, one request, interrupt, exit status 0, full ledger."""
    import re

    from turnout.serve.config import load

    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "plugin")}
    process = subprocess.Popen(
        [sys.executable, "-m", "turnout", "serve", str(config_file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(9))
        found = re.match(r"ready: (http://127\.0\.0\.1:\d+) serves cheap, dear; ledger", said)
        assert found, said
        from urllib.request import Request, urlopen

        body = b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}]}'
        request = Request(f"{found[1]}/v1/chat/completions", body, {"content-type": "x"})
        with urlopen(request, timeout=30) as answer:
            name = answer.headers["x-turnout-id"]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), err
    assert "curl http://127.0.0.1" in said
    assert "OpenAI(base_url=" in said
    assert out == "stopped\n"
    assert [row["id"] for row in ledger_rows(load(config_file))] == [name]


def test_explain_tells_the_figures_and_the_reasons(
    capsys: pytest.CaptureFixture[str], router_file: Path
) -> None:
    args = ("explain", LONG, "--router", str(router_file), "--trust", "by_length")
    code, out, err = run(capsys, *args, "--price", "1")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["dear", "0.800", "0.02", "0.780", "<-", "chosen"]
    assert lines[2] == ["cheap", "0.200", "0.001", "0.199"]
    assert "dear is predicted to be the best, and worth its cost at a price of 1." in out
    assert "cheap would save 0.019 and lose 0.6 of quality; that pays at prices above 31.58." in out


def test_explain_agrees_with_the_gateway(
    capsys: pytest.CaptureFixture[str], config_file: Path
) -> None:
    """For the same prompt before serving, and afterwards from the ledger."""
    import http.client
    from urllib.parse import urlsplit

    from turnout.serve.background import running
    from turnout.serve.config import load

    args = ("explain", "--config", str(config_file), "--json", "-")
    before = json.loads(run(capsys, *args, LONG)[1])
    with running(load(config_file)) as served:
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=20)
        body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": LONG}]})
        connection.request("POST", "/v1/chat/completions", body)
        answer = connection.getresponse()
        answer.read()
        name = answer.headers["x-turnout-id"]
        connection.close()
    after = json.loads(run(capsys, *args, "--request", str(name))[1])
    assert before == after
    assert before["destination"] == answer.headers["x-turnout-destination"] == "dear"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((LONG,), "--router and --config must be given one of the two"),
        (("--router", "R"), "PROMPT and --request must be given one of the two"),
        ((LONG, "--router", "none"), "router file must exist"),
        ((LONG, "--router", "R"), "router class must belong to turnout"),
        ((LONG, "--router", "R", "--trust", "by_length", "--price", "-1"), "price must be"),
        (
            (LONG, "--router", "R", "--trust", "by_length", "--price", "1", "--budget", "1"),
            "target must be one alone",
        ),
        (("x" * 500_001, "--router", "R", "--trust", "by_length"), "at most 500000 characters"),
        (("a\0b", "--router", "R", "--trust", "by_length"), "hold no null character"),
        (("--request", "x", "--router", "R"), "--request must come with --config"),
        (("--request", "x", "--config", "C"), "ledger must exist"),
    ],
)
def test_mistakes_of_explain_are_one_clear_error(
    capsys: pytest.CaptureFixture[str],
    router_file: Path,
    config_file: Path,
    args: tuple[str, ...],
    said: str,
) -> None:
    paths = {"R": str(router_file), "C": str(config_file)}
    code, out, err = run(capsys, "explain", *(paths.get(arg, arg) for arg in args))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_reasons_by_hand() -> None:
    """Three destinations: the choice holds between the two prices at which it would turn."""
    told = explain(("a", "b", "c"), (0.2, 0.6, 0.7), (1.0, 2.0, 4.0), 0.1)
    assert told.chosen.name == "b"
    assert (told.low, told.high) == (pytest.approx(0.05), pytest.approx(0.4))
    assert [candidate.name for candidate in told.candidates] == ["b", "c", "a"]
    assert explain(("a", "b", "c"), (0.2, 0.6, 0.7), (1.0, 2.0, 4.0), 0.049).chosen.name == "c"
    assert explain(("a", "b", "c"), (0.2, 0.6, 0.7), (1.0, 2.0, 4.0), 0.401).chosen.name == "a"
    went = explain(("a", "b"), (0.2, 0.6), (1.0, 2.0), 0.0, went="a")
    assert went.chosen.name == "a"
    assert "Exploration sent it to a" in went.reasons[-1]
    barred = explain(("a", "b"), (0.2, 0.6), (1.0, 2.0), 0.0, went="a", propensity=1.0)
    assert barred.reasons[-1] == "It went to a: b was not open to it at that moment."
    assert went.record()["holds_to_price"] == pytest.approx(0.4)
    with pytest.raises(InputError, match="quality must have shape"):
        explain(("a",), (0.1, 0.2), (1.0,), 0.0)
