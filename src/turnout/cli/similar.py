"""`turnout similar`: prompts that nearly repeat each other, and communities of alike ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.bench.minhash_communities import Communities, Duplicates
    from turnout.core._check import Float, Int

__all__ = ["command"]

#: Groups and communities shown, and characters of a prompt.
_SHOWN, _WIDE = 10, 60


@click.command("similar")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--test", type=click.Path(path_type=Path), help="Look for DATA's prompts in here.")
@click.option(
    "--similarity",
    default=0.8,
    show_default=True,
    type=click.FloatRange(0.05, 1.0),
    help="Share of word runs in common from which prompts nearly repeat.",
)
@click.option("--communities", is_flag=True, help="Also find communities of alike prompts.")
@click.option(
    "--least",
    default=0.15,
    show_default=True,
    type=click.FloatRange(0.01, 1.0),
    help="Mean share of words in common inside a community.",
)
@click.option("--column", help="Column of the prompts, where it is not the first of its kind.")
@click.option("--trust-pickle", is_flag=True, help="Open pickles, which can run any code.")
@click.option("--seed", default=0, show_default=True, help="Seed of the hash functions.")
@click.option("--json", "json_file", metavar="FILE", help="Write all groups as JSON; - is stdout.")
def command(
    data: Path,
    test: Path | None,
    similarity: float,
    communities: bool,
    least: float,
    column: str | None,
    trust_pickle: bool,
    seed: int,
    json_file: str | None,
) -> None:
    """Find prompts of DATA that nearly repeat each other, and communities of alike prompts.

    DATA is a table, a log, or what `turnout prompts export` wrote; its grades are not needed. A
    hundred thousand prompts take some fifteen seconds.
    """
    import numpy as np
    from rich.console import Console

    from turnout.bench import minhash_communities as alike
    from turnout.bench import output
    from turnout.bench.prompt_files import read_prompts

    if json_file is not None:
        output.check_folder("--json", json_file)
    texts = read_prompts(data, column=column, trust_pickle=trust_pickle)
    held = None if test is None else read_prompts(test, column=column, trust_pickle=trust_pickle)
    # With --json - the groups alone go to standard output, so that they can be piped.
    stream = sys.stderr if json_file == "-" else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else 120, highlight=False)
    with Console(stderr=True).status("comparing"):
        found = alike.index(texts, rng=np.random.default_rng(seed), similarity=similarity)
        groups = alike.near_duplicates(found, similarity=similarity)
        again = None if held is None else alike.repeats(found, held, similarity=similarity)
        grown = None
        if communities:
            rng = np.random.default_rng([seed, 1])
            grown = alike.communities(texts, rng=rng, least=least)
    record: dict[str, Any] = {
        "prompts": len(texts),
        "similarity": similarity,
        "groups": [group.tolist() for group in groups.groups],
    }
    _tell_groups(console, data.name, texts, groups)
    if again is not None and held is not None and test is not None:
        record["test"] = {"prompts": len(held), "repeats": _pairs(*again)}
        _tell_repeats(console, test.name, texts, held, *again)
    if grown is not None:
        words = alike.typical_words(texts, grown.members[:_SHOWN])
        record["communities"] = [
            {"rows": rows.tolist(), "similarity": float(score)}
            for rows, score in zip(grown.members, grown.similarity, strict=True)
        ]
        _tell_communities(console, texts, grown, words)
    if json_file is not None:
        output.write_json("--json", json_file, record)


def _pairs(row: Int, similarity: Float) -> list[dict[str, Any]]:
    return [
        {"row": i, "of": int(row[i]), "similarity": float(similarity[i])}
        for i in range(len(row))
        if row[i] >= 0
    ]


def _tell_groups(console: Any, name: str, texts: tuple[str, ...], found: Duplicates) -> None:
    console.print(name, style="bold", markup=False)
    held = sum(map(len, found.groups))
    _say(console, f"  {len(texts):,} prompts, {len(set(texts)):,} of them different.")
    if not found.groups:
        _say(console, "  No two nearly repeat each other.")
        return
    _say(
        console,
        f"  {held:,} nearly repeat another, in {_many(len(found.groups), 'group')}: one of each "
        f"kept, {found.share:.1%} would go.",
    )
    table = _table("rows", "prompts", "spellings", "one of them")
    for group in found.groups[:_SHOWN]:
        first = ", ".join(str(row + 1) for row in group[:3].tolist())
        more = ", ..." if len(group) > 3 else ""
        spellings = len({texts[row] for row in group.tolist()})
        table.add_row(
            f"{first}{more}",
            f"{len(group):,}",
            f"{spellings:,}",
            _short(texts[int(group[0])], texts),
        )
    console.print(table)
    if len(found.groups) > _SHOWN:
        _say(console, f"... and {len(found.groups) - _SHOWN:,} groups more: --json has them all.")


def _tell_repeats(
    console: Any,
    name: str,
    texts: tuple[str, ...],
    held: tuple[str, ...],
    row: Int,
    similarity: Float,
) -> None:
    console.print()
    console.print(name, style="bold", markup=False)
    known = set(texts)
    same = sum(text in known for text in held)
    near = [i for i in range(len(held)) if row[i] >= 0]
    share = len(near) / max(len(held), 1)
    _say(
        console,
        f"  {len(near):,} of {len(held):,} prompts ({share:.1%}) nearly repeat one learnt from, "
        f"{same:,} to the letter.",
    )
    shown = sorted((i for i in near if held[i] not in known), key=lambda i: -similarity[i])
    if shown:
        table = _table("row", "similarity", "judged on", "learnt from")
        for i in shown[:_SHOWN]:
            table.add_row(
                f"{i + 1}",
                f"{similarity[i]:.2f}",
                _short(held[i], texts, 44),
                _short(texts[int(row[i])], texts, 44),
            )
        console.print(table)
    if share > 0.01:
        _say(console, "  Figures on them flatter: judge on the others, or leave them out of DATA.")


def _tell_communities(
    console: Any, texts: tuple[str, ...], found: Communities, words: list[tuple[str, ...]]
) -> None:
    console.print()
    inside = int((found.label >= 0).sum())
    _say(
        console,
        f"{_many(len(found.members), 'community')} of alike prompts hold {inside:,} of them "
        f"({inside / max(len(texts), 1):.0%}).",
    )
    if not found.members:
        return
    table = _table("prompts", "similarity", "typical words", "its first prompt")
    for rows, score, some in zip(found.members, found.similarity, words, strict=False):
        table.add_row(
            f"{len(rows):,}", f"{score:.2f}", " ".join(some), _short(texts[int(rows[0])], texts)
        )
    console.print(table)
    if len(found.members) > _SHOWN:
        _say(console, f"... and {len(found.members) - _SHOWN:,} more: --json has them all.")


def _table(*titles: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        number = title in ("prompts", "spellings", "similarity", "row")
        table.add_column(title, justify="right" if number else "left", overflow="ellipsis")
    return table


def _short(text: str, texts: tuple[str, ...], width: int = _WIDE) -> Any:
    """One line of a prompt, from where it leaves the template that many share."""
    from rich.text import Text

    some = texts[:: max(1, len(texts) // 20)]
    shared = max((_common(text, other) for other in some if other != text), default=0)
    if shared > width // 2:
        # from the start of the word in which they part
        text = f"... {text[text.rfind(' ', 0, shared) + 1 :]}"
    line = " ".join(text.split())
    return Text(line if len(line) <= width else f"{line[: width - 3]}...")


def _common(one: str, other: str) -> int:
    """Characters that two texts have in common at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((k for k, (a, b) in pairs if a != b), min(len(one), len(other)))


def _many(count: int, thing: str) -> str:
    if count == 1:
        return f"1 {thing}"
    return f"{count:,} {thing[:-1]}ies" if thing.endswith("y") else f"{count:,} {thing}s"


def _say(console: Any, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
