"""Read a table of outcomes, whatever its layout, and say what is odd about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnout.bench import files
from turnout.bench.layouts import LAYOUTS, Draft, Prices
from turnout.bench.layouts._costs import parse_prices
from turnout.core import DataError, Outcomes
from turnout.core._check import Float

__all__ = ["Report", "Table", "leaks", "read"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a reader of the table must know.

    Parameters
    ----------
    rows, models : int
    complete : int
        Rows in which every model has both a quality and a cost.
    blanks : tuple of (str, int)
        Models with cells never seen, and how many.
    duplicates : int
        Rows whose prompt stands further up already.
    constant : tuple of (str, float)
        Models whose quality never changes, and the quality.
    leaks : int
        Rows marked test whose prompt is also marked train.
    groups : int
        Different group labels; 0 where there are none.
    notes : tuple of str
        Assumptions and repairs.
    """

    rows: int
    models: int
    complete: int
    blanks: tuple[tuple[str, int], ...] = ()
    duplicates: int = 0
    constant: tuple[tuple[str, float], ...] = ()
    leaks: int = 0
    groups: int = 0
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report as sentences, the plain facts first."""
        groups = f", {self.groups} groups" if self.groups else ""
        lines = [f"{self.rows:,} rows, {self.models} models{groups}"]
        if self.blanks:
            cells = sum(count for _, count in self.blanks)
            worst, most = max(self.blanks, key=lambda item: item[1])
            lines.append(
                f"{cells:,} blank cells in {len(self.blanks)} models (most: {worst}, {most:,}) "
                f"stay unseen; {self.complete:,} rows are complete"
            )
        if self.duplicates:
            lines.append(f"{self.duplicates:,} rows repeat an earlier prompt")
        for name, value in self.constant:
            lines.append(f"{name} scores {value:g} on every row: nothing can be learnt about it")
        if self.leaks:
            lines.append(f"{self.leaks:,} test rows repeat a train prompt")
        return lines + list(self.notes)


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """A table as it was read.

    Parameters
    ----------
    outcomes : Outcomes
        The figures; blanks are NaN.
    layout : str
        Name of the layout that was recognised.
    report : Report
        What is odd about it.
    split : tuple of str, optional
        The file's own split label of each row.
    """

    outcomes: Outcomes
    layout: str
    report: Report
    split: tuple[str, ...] | None = None


def read(
    path: str | Path, *, trust_pickle: bool = False, prices: str | Path | None = None
) -> Table:
    """Read a table of outcomes; the layout is recognised by its columns.

    Parameters
    ----------
    path : path
        CSV, TSV, JSON Lines, JSON (each also gzipped), Parquet, pickle, or a folder of
        LLMRouterBench result files.
    trust_pickle : bool
        Open pickles. Opening one runs whatever code it holds.
    prices : path, optional
        Price table, JSON: `{model: {"input_price": ..., "output_price": ...}}` in US$ per million
        tokens, or `{model: price of one answer}`. By default a file `*prices*.json` in the same
        folder is taken if it names every score column.

    Raises
    ------
    DataError
        The file cannot be read, no layout fits, or a figure breaks a rule.
    MissingExtraError
        A Parquet file and no pyarrow.
    """
    source = Path(path)
    frame, notes = files.load(source, trust_pickle=trust_pickle)
    table = (
        _prices_beside(source, set(frame.names))
        if prices is None
        else parse_prices(files.load_json(Path(prices)), str(prices))
    )
    layout = next((layout for layout in LAYOUTS if layout.matches(frame, table)), None)
    if layout is None:
        raise _unknown(source, frame.names)
    draft = layout.build(frame, table)
    draft.notes[:0] = notes
    return _finish(draft, layout.NAME, source)


def leaks(train: Outcomes, test: Outcomes) -> int:
    """Rows of `test` whose prompt also stands in `train`."""
    if isinstance(train.inputs, np.ndarray) or isinstance(test.inputs, np.ndarray):
        return 0
    known = set(train.inputs)
    return sum(prompt in known for prompt in test.inputs)


def _prices_beside(source: Path, columns: set[str]) -> Prices | None:
    """A price table in the same folder that names two or more of the columns."""
    folder = source if source.is_dir() else source.parent
    for path in sorted(folder.glob("*prices*.json")):
        try:
            table = parse_prices(files.load_json(path), str(path))
        except DataError:
            continue  # some other file that happens to bear the name
        if len(table.names() & columns) >= 2:
            return table
    return None


def _unknown(source: Path, columns: Sequence[str]) -> DataError:
    shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    known = "; ".join(f"{layout.NAME}: {layout.NEEDS}" for layout in LAYOUTS)
    rule = "have the columns of a known layout"
    return DataError(f"{source} (columns: {shown})", rule, list(columns[:3]), f"Known: {known}.")


def _finish(draft: Draft, layout: str, source: Path) -> Table:
    names, quality = draft.names, draft.quality
    cost = np.full(quality.shape, np.nan) if draft.cost is None else draft.cost
    _names(names)
    _inside("quality", quality, names, 1.0)
    _inside("cost", cost, names, np.inf)
    if draft.latency is not None:
        _inside("latency", draft.latency, names, np.inf)
    seen = ~np.isnan(quality)
    for column, name in enumerate(names):
        if not seen[:, column].any():
            rule = "have a quality in at least one row"
            raise DataError(f"column {name!r}", rule, "only blanks", "Drop it or fill it.")
    prompts, repaired = _sound(draft.prompts)
    empty = sum(not prompt.strip() for prompt in prompts)
    notes = list(draft.notes)
    if repaired:
        notes.append(f"{repaired} prompts held half of a character pair: replaced by U+FFFD")
    if empty:
        notes.append(f"{empty} prompts are blank")
    outcomes = Outcomes(
        inputs=prompts,
        names=tuple(names),
        quality=quality,
        cost=cost,
        latency=draft.latency,
        propensity=draft.propensity,
        group=None if draft.group is None else tuple(draft.group),
        answers=draft.answers,
    )
    missing = (~seen).sum(axis=0)
    spread = np.nanmax(quality, axis=0) - np.nanmin(quality, axis=0)
    report = Report(
        rows=outcomes.n,
        models=outcomes.m,
        complete=int((seen & ~np.isnan(cost)).all(axis=1).sum()),
        blanks=tuple((names[j], int(missing[j])) for j in np.flatnonzero(missing)),
        duplicates=sum(Counter(prompts).values()) - len(set(prompts)),
        constant=tuple((names[j], float(np.nanmax(quality[:, j]))) for j in _flat(spread)),
        leaks=_split_leaks(prompts, draft.split),
        groups=0 if draft.group is None else len(set(draft.group)),
        notes=tuple(notes),
    )
    split = None if draft.split is None else tuple(draft.split)
    return Table(outcomes=outcomes, layout=layout, report=report, split=split)


def _flat(spread: Float) -> list[int]:
    return [int(column) for column in np.flatnonzero(spread == 0)]


def _names(names: Sequence[str]) -> None:
    for name in names:
        if not name.strip():
            raise DataError("model", "have a name", name, "Fill it in or drop its rows.")
        if list(names).count(name) > 1:
            raise DataError("models", "be named once each", name, "Rename or drop the repeat.")


def _inside(what: str, table: Float, names: Sequence[str], high: float) -> None:
    wrong = ~np.isnan(table) & ((table < 0) | (table > high) | np.isinf(table))
    if not wrong.any():
        return
    row, column = (int(place) for place in np.argwhere(wrong)[0])
    rule = f"lie in [0, {high:g}]" if np.isfinite(high) else "be finite and >= 0"
    percent = what == "quality" and 1 < np.nanmax(table) <= 100 and np.nanmin(table) >= 0
    hint = "Divide the scores by their greatest possible value." if percent else "Correct it."
    field = f"{what} of {names[column]!r}, row {row + 1},"
    raise DataError(field, rule, float(table[row, column]), hint)


def _sound(prompts: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Prompts that can be written as UTF-8, and how many could not."""
    result, repaired = [], 0
    for prompt in prompts:
        try:
            prompt.encode()
            result.append(prompt)
        except UnicodeEncodeError:
            result.append(prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
            repaired += 1
    return tuple(result), repaired


def _split_leaks(prompts: Sequence[str], split: Sequence[str] | None) -> int:
    if split is None:
        return 0
    train = {prompt for prompt, label in zip(prompts, split, strict=True) if label == "train"}
    held = ("test", "val", "valid", "validation", "dev")
    return sum(p in train for p, label in zip(prompts, split, strict=True) if label in held)
