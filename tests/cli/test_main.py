"""The command line as a whole: what it lists, how it fails."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from turnout import __version__
from turnout.cli import COMMANDS, cli, main


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "turnout", *words], capture_output=True, text=True)


def test_every_command_loads_and_explains_itself() -> None:
    """Each listed command can be imported, and its help begins with a sentence."""
    context = __import__("click").Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help, name
        assert command.help.strip()[0].isupper(), name


def test_help_loads_nothing_heavy() -> None:
    """`turnout --help` imports neither numpy-heavy parts nor torch."""
    code = (
        "import sys\n"
        "from turnout.cli import main\n"
        "try:\n    main(['--version'])\n"
        "finally:\n    print(*[m for m in ('torch', 'pandas', 'sklearn', 'starlette')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["turnout,", "version", __version__]


@pytest.mark.parametrize(
    "words",
    [
        ("bench", "no-such-file.csv"),
        ("fit", "no-such-file.csv", "-o", "x.turnout"),
        ("serve", "no-such-file.toml"),
        ("explain", "hello", "--router", "no-such-file.turnout"),
        ("methods", "--level", "nowhere"),
        ("claims", "run", "no.such.claim"),
        ("demo", "--json"),
        ("demo", "--once", "--requests", "1"),
    ],
)
def test_mistakes_are_one_clear_error(
    words: tuple[str, ...], tmp_path, monkeypatch, capsys
) -> None:  # type: ignore[no-untyped-def]
    """A mistake gives exit status 2 and a message with a rule, and no traceback."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "must" in said or "Error" in said
    assert list(tmp_path.iterdir()) == []


def test_unknown_command() -> None:
    """A command that does not exist is named, with exit status 2."""
    done = run("trains")
    assert done.returncode == 2
    assert "trains" in done.stderr


@pytest.mark.slow
def test_demo_reports_what_it_served(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A small demo serves, grades and reports every key, with the oracle on top."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "turnout", "demo", "--once", "--json"),
            *("--prompts", "300", "--requests", "20", "--out", str(tmp_path / "kept")),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    expected = {"requests", "quality", "cost", "best_single", "cheapest", "oracle", "seconds"}
    assert expected <= set(report)
    assert report["requests"] == 20
    assert 0 <= report["quality"] <= report["oracle"]["quality"] <= 1
    assert 0 < report["cheapest"]["cost"] < report["best_single"]["cost"]
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert {"outcomes.csv", "router.turnout", "turnout.toml", "turnout.sqlite"} <= kept
