"""One card from one file, by `ast`: the file is parsed, never run."""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from turnout.core import Card, InputError

__all__ = ["read_card", "read_docstring"]


def read_card(path: Path) -> Card | None:
    """The card a Python file declares, or None where it declares none.

    Parameters
    ----------
    path : Path
        A Python file. It is parsed only; nothing in it runs.

    Raises
    ------
    InputError
        `CARD` is not one call `Card(name=..., ...)` with constants only, or its values break the
        rules of `turnout.core.Card`.
    """
    text = path.read_text(encoding="utf-8")
    if "CARD" not in text:
        return None
    for node in ast.parse(text, filename=str(path)).body:
        value = _assigned(node)
        if value is not None:
            return Card(**_arguments(value, path))
    return None


def read_docstring(path: Path) -> str:
    """The module docstring of a Python file, cleaned of its indentation; "" where it has none."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _assigned(node: ast.stmt) -> ast.expr | None:
    """What a statement `CARD = ...` or `CARD: Card = ...` assigns."""
    if isinstance(node, ast.Assign):
        targets, value = node.targets, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets, value = [node.target], node.value
    else:
        return None
    named = any(isinstance(target, ast.Name) and target.id == "CARD" for target in targets)
    return value if named else None


def _arguments(value: ast.expr, path: Path) -> dict[str, Any]:
    if not _is_card_call(value):
        raise InputError(
            f"CARD in {path.name}",
            "be one call Card(name=..., ...)",
            ast.unparse(value),
            "Write the card as a literal.",
        )
    assert isinstance(value, ast.Call)
    arguments = {}
    for keyword in value.keywords:
        field = keyword.arg or "**"
        try:
            arguments[field] = ast.literal_eval(keyword.value)
        except ValueError:
            raise InputError(
                f"CARD.{field} in {path.name}",
                "be a constant",
                ast.unparse(keyword.value),
                "Write the value out: the card is read without running the file.",
            ) from None
    unknown = sorted(set(arguments) - set(Card.__dataclass_fields__))
    if unknown:
        fields = ", ".join(Card.__dataclass_fields__)
        raise InputError(f"CARD in {path.name}", f"use the fields {fields}", unknown, "Rename it.")
    missing = sorted(_REQUIRED - set(arguments))
    if missing:
        raise InputError(f"CARD in {path.name}", f"say {', '.join(missing)}", "nothing", "Add it.")
    return arguments


def _is_card_call(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id == "Card"
        and not value.args
    )


_REQUIRED = {field.name for field in dataclasses.fields(Card) if field.default is MISSING}
