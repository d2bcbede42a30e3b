"""The table of all methods of requests side by side, from the committed results of benchmarks.

`benchmarks/results/routers.json` holds what each method reaches on each table
(`benchmarks/routers.py`), `benchmarks/results/learning.json` what it learns from how many labels
(`benchmarks/learning.py`). Where a file is missing its columns say so; nothing is computed here
but which figures are set apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from turnout import catalog
from turnout.catalog import Entry
from turnout.llms.routing_survey import imports_of, place

__all__ = ["RESULTS", "comparison"]

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
CLAIMS = Path(__file__).resolve().parents[1] / "claims"

#: Tasks with a column of their own, and what it is called.
_COLUMNS = {
    "two": "two models",
    "subjects": "subjects left out",
    "to_gsm8k": "MMLU → GSM8K",
    "to_mmlu": "GSM8K → MMLU",
    "nine": "nine models",
    "tasks": "tasks left out",
    "arc": "ARC",
    "winogrande": "WinoGrande",
}
#: Landmarks that stand above the methods.
_LANDMARKS = {
    "zero_router": "zero-router hull",
    "prompt_length": "prompt length alone",
    "group_mean": "group mean (sees the label)",
    "oracle": "oracle",
}
_ABOUT = """\
APGR of two models (0.5 is a random mixture of the two, the oracle may be above 1), AIQ of more.
**Bold**: the greatest of the column, often not by much. (In parentheses): not told apart from
*prompt length alone*, or below it, by the paired 95 % interval of AIQ. Methods stand in the order
of their mean AIQ above prompt length. Cost to match is the share of the best single model's cost
at which a method is as good, on two and on nine models; - where it never is. The decision is the
median processor time for one prompt and the fit that of all folds, both on nine models (else on
the first table that judged the method).
Peers are routers of other packages, each in its own code on the same prompts, rows and expected
costs; their times are taken inside their own process, with the encoder that turns a prompt into a
vector and (in parentheses) without it. Those that only say which model to prefer are held to it,
and of two models every threshold on the difference is tried. Labels: the fewest labelled prompts,
of 100, 300, 1,000 and 3,000, from which on the method is above prompt length however the prompts
were chosen (two choices), on two and on nine models. Every method at its own settings.
Where all columns of tables are empty, destinations or questions are not those of tables of single
answers: pipelines, retrievers, knowledge bases, teams, several calls for one request. There, as
everywhere, *its figure* is the main one of the method's own claim, in small, with the band in which
it was to be; the method's page says against what."""


def comparison(level: str, link: Callable[[Entry], str], folder: Path = RESULTS) -> str:
    """The section of a level's page; "" where nothing was measured of it.

    Parameters
    ----------
    level : str
        Only "llms" is compared.
    link : callable
        From an entry to what its name links to.
    folder : Path
        Of the results.
    """
    document = _load(folder / "routers.json")
    if level != "llms" or not document.get("tasks"):
        return ""
    tasks: dict[str, Any] = document["tasks"]
    points = _load(folder / "learning.json").get("curves", {}).get("points", [])
    shown = [name for name in _COLUMNS if name in tasks]
    head = ["method", "sends to", *(f"{_COLUMNS[name]}" for name in shown)]
    head += ["cost to match", "decision, µs", "fit, s", "labels", "learns from", "needs"]
    head += ["claim", "its figure"]
    lines = [_row(head), _row(["---"] * 2 + ["--:"] * (len(head) - 6) + ["---"] * 4)]
    for name, title in _LANDMARKS.items():
        cells = [_figure(tasks[task], name) for task in shown]
        lines.append(
            _row([f"*{title}*", "", *cells, _match(tasks, name), "-", "-", "-", *[""] * 4])
        )
    for entry in sorted(
        catalog.methods(level), key=lambda one: (-_rank(tasks, one.method), one.name)
    ):
        method = entry.method
        cells = [_told(tasks[task], method) for task in shown]
        cells += [_match(tasks, method), _time(tasks, method, "decision_us")]
        cells += [_time(tasks, method, "fit_seconds"), _labels(points, method)]
        cells += [", ".join(entry.card.signal), _needs(entry), entry.claim, _claimed(entry)]
        lines.append(_row([f"[`{method}`]({link(entry)})", _destination(entry), *cells]))
    for peer in sorted(_peers(tasks), key=lambda one: -_rank(tasks, one)):
        cells = [_told(tasks[task], peer) for task in shown]
        cells += [_match(tasks, peer), _peer_decision(tasks, peer)]
        cells += [_time(tasks, peer, "fit_seconds"), "-", *[""] * 4]
        lines.append(_row([f"{peer} (peer)", "language model", *cells]))
    return "\n\n".join(
        [
            "## All of them, side by side",
            "\n".join(lines),
            _ABOUT,
            _made(document, tasks, shown),
        ]
    )


def _destination(entry: Entry) -> str:
    """What a method chooses among, as the taxonomy of strategies has it; "-" where nothing."""
    if not entry.card.recipe:
        return "-"
    return place(entry.card, imports_of(entry.file.read_text(encoding="utf-8"))).what


def _claimed(entry: Entry) -> str:
    """The main figure of its claim, and the band that it should be in."""
    found = _load(CLAIMS / entry.level / entry.method / "result.json")
    if not found:
        return "-"
    low, high = (float(end) for end in found["band"])
    measure = found["measure"].replace("_", " ")
    return f"{measure} {found['value']:.3g} ({low:g} to {high:g})"


def _load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(task: dict[str, Any], method: str) -> float | None:
    """The figure that a task compares by."""
    found = task["rows"].get(method, {}).get(task["measure"])
    value: float | None = found[0] if isinstance(found, list) else found
    return value


def _figure(task: dict[str, Any], method: str) -> str:
    value = _value(task, method)
    return "-" if value is None else f"{value:.3f}"


def _told(task: dict[str, Any], method: str) -> str:
    """The figure, set apart where it is the best or no better than prompt length."""
    text = _figure(task, method)
    above = task["rows"].get(method, {}).get("above_length")
    if above is None:
        return text
    if above[1] <= 0:
        return f"({text})"
    return f"**{text}**" if _value(task, method) == _best(task) else text


def _best(task: dict[str, Any]) -> float:
    """The greatest figure of a method."""
    ran = [name for name, row in task["rows"].items() if not row["landmark"]]
    return max((value for name in ran if (value := _value(task, name)) is not None), default=0.0)


def _rank(tasks: dict[str, Any], method: str) -> float:
    """How far above prompt length it is on average over the tasks it was judged on."""
    found = [
        row["above_length"][0]
        for task in tasks.values()
        if (row := task["rows"].get(method)) and row.get("above_length")
    ]
    return sum(found) / len(found) if found else -1.0


def _match(tasks: dict[str, Any], method: str) -> str:
    shares = []
    for task in ("two", "nine"):
        share = tasks.get(task, {}).get("rows", {}).get(method, {}).get("cost_to_match")
        shares.append("-" if share is None else f"{100 * share:.0f} %")
    return "-" if shares == ["-", "-"] else " / ".join(shares)


def _time(tasks: dict[str, Any], method: str, key: str) -> str:
    for task in ("nine", *_COLUMNS):
        value = tasks.get(task, {}).get("rows", {}).get(method, {}).get(key)
        if value is not None:
            return f"{value:,.0f}" if value >= 10 else f"{value:g}"
    return "-"


def _peer_decision(tasks: dict[str, Any], peer: str) -> str:
    """With its encoder, and without it where it has one."""
    whole = _time(tasks, peer, "decision_us")
    rest = _time(tasks, peer, "decision_us_without_encoder")
    return whole if rest == "-" else f"{whole} ({rest})"


def _labels(points: Sequence[dict[str, Any]], method: str) -> str:
    """From how many labelled prompts on it is above prompt length, on two and on nine models."""
    told = []
    for table in ("routellm", "llmrouter"):
        curve, bar = (
            {
                point["prompts"]: point["values"]
                for point in points
                if (point["table"], point["protocol"]) == (table, "in domain")
                and point["method"] == name
            }
            for name in (method, "prompt length")
        )
        passed = ""
        for size in sorted(curve):
            pairs = zip(curve[size], bar.get(size, ()), strict=True)
            above = all(own is not None and own > other for own, other in pairs)
            passed = (passed or f"{size:,}") if above else ""
        told.append(passed or ("never" if curve else "-"))
    return "-" if told == ["-", "-"] else " / ".join(told)


def _needs(entry: Entry) -> str:
    needs = [f"`{extra}`" for extra in entry.card.needs]
    needs += ["answers"] if "sequential" in entry.card.properties else []
    return ", ".join(needs)


def _peers(tasks: dict[str, Any]) -> set[str]:
    return {
        name for task in tasks.values() for name, row in task["rows"].items() if row.get("peer")
    }


def _made(document: dict[str, Any], tasks: dict[str, Any], shown: Sequence[str]) -> str:
    """How each column was judged, and by which command."""
    lines = ["How each column was judged (`python benchmarks/routers.py --data DIR --write`, seed "]
    lines[0] += f"{document['settings']['seed']}):"
    body = [
        f"* *{_COLUMNS[name]}*: {tasks[name]['title']}; {tasks[name]['protocol']}; "
        f"{tasks[name]['judged']:,} rows judged."
        for name in shown
    ]
    return lines[0] + "\n\n" + "\n".join(body)
