"""Files written whole or not at all, and a progress bar for work that takes a while."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnout.core import InputError
from turnout.parts.files import replace_file

__all__ = ["check_folder", "progress", "write", "write_json"]


def check_folder(option: str, path: str | Path) -> None:
    """Refuse a path whose folder does not exist or that is a folder; "-" is standard output.

    Raises
    ------
    InputError
    """
    target = Path(path)
    if str(path) == "-":
        return
    if target.is_dir():
        raise InputError(option, "be a file", str(path), "Name a file in that folder.")
    if not target.absolute().parent.is_dir():
        hint = "Make the folder first."
        raise InputError(option, "be in a folder that exists", str(path), hint)


def write(option: str, path: str | Path, content: bytes) -> None:
    """Replace a file by new content in one step.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        hint = f"{error.strerror or error}. Choose another path."
        raise InputError(option, "be a path that can be written", str(path), hint) from error


def write_json(option: str, path: str | Path, document: Any) -> None:
    """A document as JSON, to a file or ("-") to standard output; NaN is refused."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        write(option, path, text.encode())


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Something to tell of progress; a bar appears on stderr after two seconds, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    began = time.monotonic()
    task = bar.add_task("", total=None)
    shown = False

    def tick(label: str, done: int, total: int) -> None:
        nonlocal shown
        bar.update(task, description=label, completed=done, total=total)
        if not shown and console.is_terminal and time.monotonic() - began > 2:
            bar.start()
            shown = True

    try:
        yield tick
    finally:
        if shown:
            bar.stop()
