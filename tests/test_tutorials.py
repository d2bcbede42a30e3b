"""Every tutorial is run, block by block, in the order in which a reader meets them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = sorted((ROOT / "docs").glob("tutorial-*.md"))

#: Page -> a line of it, and what the tests put in its place: a third of the training steps.
SHORTER = {"tutorial-gates": ("STEPS, B, S = 120, 8, 96\n", "STEPS, B, S = 40, 8, 96\n")}


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Whatever number of threads a page asks for is taken back after it."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """Its Python blocks run one after the other, and then its `turnout` commands."""
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "tutorial"}
    written = blocks(page, "python")
    long, short = SHORTER.get(page.stem, ("", ""))
    assert not long or sum(block.count(long) for block in written) == 1
    for number, block in enumerate(written):
        where = f"{page.name}, block {number}"
        block = block.replace(long, short) if long else block
        exec(compile(block, where, "exec", dont_inherit=True), names)
    for line in "".join(blocks(page, "console")).splitlines():
        words = shlex.split(line)
        if words[:1] == ["turnout"]:
            done = subprocess.run(
                [sys.executable, "-m", *words], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr


def test_the_strategy_of_the_guide_plays(capsys: pytest.CaptureFixture[str]) -> None:
    """The strategy that "Your own method" shows runs over the laboratory, and within its limit."""
    text = (ROOT / "docs" / "own-method.md").read_text(encoding="utf-8")
    section = text.partition("## A strategy")[2].partition("## A gate")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(block, "own-method.md", "exec", dont_inherit=True), names)
    assert 2 <= len(names["played"].calls) <= 3
    assert names["played"].answer in capsys.readouterr().out


def test_the_gate_of_the_guide_keeps_its_contract() -> None:
    """The gate that "Your own method" shows passes the checks its card implies."""
    pytest.importorskip("torch")
    _, _, section = (
        (ROOT / "docs" / "own-method.md").read_text(encoding="utf-8").partition("## A gate")
    )
    names: dict[str, Any] = {"__name__": "guide"}
    found = re.findall(r"^```python\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == 2
    for block in found:
        exec(compile(block, "own-method.md", "exec", dont_inherit=True), names)
