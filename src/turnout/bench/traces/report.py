"""A report on disk: one page, and pictures beside it where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from turnout.bench import output
from turnout.bench.traces import png
from turnout.bench.traces.analysis import analyse
from turnout.bench.traces.panels import check_same_model, compared, panels
from turnout.bench.traces.readers import read_trace
from turnout.bench.traces.results import Analysis
from turnout.bench.traces.statistics import Statistics
from turnout.bench.traces.summary import summarise
from turnout.core import InputError, Trace

__all__ = ["place", "read_and_analyse", "write_pictures"]

Tick = Callable[[str, int, int], None]


def place(option: str, wanted: Path | None, source: Path) -> Path:
    """Where the page goes: the file named, `report.html` in the folder named, or here.

    A folder that does not exist yet is made, if the one above it exists.

    Parameters
    ----------
    option : str
        Name of the option, for messages.
    wanted : Path, optional
        A file that ends in .html, or a folder.
    source : Path
        What is reported on; its name makes the default.

    Raises
    ------
    InputError
        The path cannot be a page: another ending, or no folder above.
    """
    if wanted is None:
        return Path(f"{source.name.partition('.')[0] or 'trace'}-report.html")
    if wanted.suffix == ".html" and not wanted.is_dir():
        output.check_folder(option, wanted)
        return wanted
    if wanted.suffix and not wanted.is_dir():
        hint = "Name a .html file or a folder."
        raise InputError(option, "be a folder or end in .html", str(wanted), hint)
    try:
        wanted.mkdir(exist_ok=True)
    except OSError as error:
        hint = f"{error.strerror or error}. Choose another folder."
        raise InputError(option, "be a folder that can be made", str(wanted), hint) from error
    return wanted / "report.html"


def read_and_analyse(
    source: Path,
    *,
    compare: Path | None = None,
    e: int | None = None,
    k: int | None = None,
    seed: int = 0,
    tick: Tick = lambda label, done, total: None,
) -> tuple[list[Analysis], Analysis | None]:
    """Analyses of a file, one for each model it tells of, and of the trace to compare with.

    Parameters
    ----------
    source : Path
    compare : Path, optional
        Another trace of the same model.
    e, k : int, optional
        As in `read_trace`.
    seed : int
        Seed of bootstrap samples and shuffled order.
    tick : callable, optional
        Told of progress: label, done, total.

    Raises
    ------
    InputError
        A file cannot be read, holds nothing to look at, or the two are of different models.
    """
    found = read_trace(source, e=e, k=k)
    if isinstance(found, Statistics):
        if compare is not None:
            rule = "compare two traces"
            hint = "Statistics tell their domains apart already."
            raise InputError("--compare", rule, f"statistics in {source.name}", hint)
        return summarise(found, source.name), None
    second = None if compare is None else _trace(compare, e, k)
    if second is not None and compare is not None:
        first = (source.name, found.e, found.layer_numbers)
        check_same_model(*first, compare.name, second.e, second.layer_numbers)
    rng = np.random.default_rng(seed)
    analysis = analyse(found, source.name, rng=rng, tick=tick)
    if second is None or compare is None:
        return [analysis], None
    return [analysis], analyse(second, compare.name, rng=rng, tick=tick)


def write_pictures(
    page: Path, analyses: Sequence[Analysis], other: Analysis | None = None
) -> list[Path]:
    """A PNG of each chart, beside the page.

    Parameters
    ----------
    page : Path
        Its name begins the names of the pictures.
    analyses : sequence of Analysis
    other : Analysis, optional
        A trace that the first was compared with.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    written = []
    for number, analysis in enumerate(analyses):
        model = f"-{number + 1}" if len(analyses) > 1 else ""
        drawn = panels(analysis)
        if other is not None:
            drawn += compared(analysis, other)
        for panel in drawn:
            path = page.with_name(f"{page.stem}{model}-{panel.key}.png")
            output.write("--png", path, png.png(panel))
            written.append(path)
    return written


def _trace(path: Path, e: int | None, k: int | None) -> Trace:
    found = read_trace(path, e=e, k=k)
    if isinstance(found, Statistics):
        hint = "Name a recorded trace."
        raise InputError("--compare", "name a trace", f"statistics in {path.name}", hint)
    return found
