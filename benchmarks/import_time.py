"""Measures what `import turnout` takes, beside an empty interpreter and `import numpy`.

    python benchmarks/import_time.py [--json FILE]

Each import is run in a fresh interpreter; the three take turns, and the time of the empty
interpreter of the same turn is taken off. Mark: at most 0.2 seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

MARK_SECONDS = 0.2
STATEMENTS = {
    "import turnout": "import turnout",
    "import numpy": "import numpy",
    "from turnout import fit, load": "from turnout import fit, load",
}


def seconds(statement: str) -> float:
    """Wall time of an interpreter that runs one statement."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Time of the import.")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    for statement in STATEMENTS.values():
        seconds(statement)  # once for the disk's sake
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(options.runs):
        empty = seconds("pass")
        for name, statement in STATEMENTS.items():
            taken[name].append(seconds(statement) - empty)
    rows = {
        name: {
            "median": float(np.median(values)),
            "least": float(np.min(values)),
            "most": float(np.max(values)),
        }
        for name, values in taken.items()
    }
    console = Console()
    table = Table(title=f"Import, seconds over an empty interpreter, {options.runs} runs")
    for column in ("", "median", "least", "most"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    console.print(table)
    value = rows["import turnout"]["median"]
    verdict = "met" if value <= MARK_SECONDS else "missed"
    console.print(f"mark import turnout <= {MARK_SECONDS} s: {verdict} ({value:.3f} s)")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
