"""Every command in the README is run, in the order in which a reader meets them."""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def turnout(line: str) -> list[str]:
    words = shlex.split(line)
    assert words[0] == "turnout"
    return [sys.executable, "-m", "turnout", *words[1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: their logs, and the README's configuration."""
    folder = tmp_path_factory.mktemp("reader")
    rng = np.random.default_rng(0)
    with (folder / "mylogs.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "model", "quality", "cost"])
        for i in range(200):
            hard = bool(rng.random() < 0.5)
            topic = "prove the theorem" if hard else "say hello"
            prompt = f"Please {topic} number {i}"
            rows.writerow([prompt, "small", int(rng.random() < (0.2 if hard else 0.9)), 0.0001])
            rows.writerow([prompt, "large", int(rng.random() < 0.9), 0.004])
    (folder / "turnout.toml").write_text(blocks("toml")[0], encoding="utf-8")
    return folder


def test_readme_shows_the_two_commands_first() -> None:
    """The first commands a newcomer sees are the demo and the tests."""
    assert commands()[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make")])
def test_make_targets_exist(line: str) -> None:
    """Every make command of the README names a target that make knows how to reach."""
    words = [*shlex.split(line), "--dry-run"]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)


def test_turnout_commands_run(folder: Path) -> None:
    """bench, fit and serve do what the README says on a reader's own logs, in that order."""
    lines = [line for line in commands() if line.startswith("turnout")]
    assert [shlex.split(line)[1] for line in lines] == ["bench", "fit", "serve", "trace"]
    for line in lines[:2]:
        done = subprocess.run(turnout(line), cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    assert (folder / "router.turnout").is_file()
    environment = {**os.environ, "LARGE_API_KEY": "a-key-for-the-test"}
    server = subprocess.Popen(
        [*turnout(lines[2]), "--port", "0"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    with server.stdout:
        said = ""
        for text in server.stdout:
            said += text
            if "ready:" in text:
                server.send_signal(signal.SIGINT)
                break
        said += server.stdout.read()
    code = server.wait(timeout=30)
    # a stop that comes before the loop turns is an interrupt like any other program's
    assert code in (0, 130), said
    assert "ready: http://127.0.0.1:" in said
    assert "a-key-for-the-test" not in said


def test_python_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of the README runs on the same logs, as it stands, and then its trace is drawn."""
    monkeypatch.chdir(folder)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert (folder / "router.turnout").is_file()
    (line,) = (line for line in commands() if line.startswith("turnout trace"))
    done = subprocess.run(turnout(line), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(folder.rglob("*.html"))


def test_links_lead_somewhere() -> None:
    """Every relative link of the README names a file of the project."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
