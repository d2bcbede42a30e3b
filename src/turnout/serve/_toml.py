"""From a TOML table to a frozen dataclass, with every mistake named by its dotted key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from turnout.core import ConfigError, InputError

T = TypeVar("T")

#: What people write instead, and what it is called here.
_ALSO_CALLED = {
    "api_key": "key_env",
    "api_key_env": "key_env",
    "api_key_file": "key_file",
    "authentication": "keys",
    "auth": "keys",
    "base_url": "upstream",
    "budget": "mean_cost_usd",
    "database": "path",
    "db": "path",
    "key": "key_env",
    "mean_cost": "mean_cost_usd",
    "limit": "usd",
    "max_body_bytes": "body_bytes",
    "max_concurrency": "parallel",
    "processes": "workers",
    "timeout": "timeout_seconds",
    "url": "upstream",
}
_WORDS = {
    str: "text in quotes",
    Path: "a path in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list of texts in quotes",
}


def unknown(source: Path, key: str, known: Iterable[str]) -> ConfigError:
    """The error for a key nobody knows, with the nearest one that somebody does."""
    options = sorted(known)
    last = key.rpartition(".")[2]
    alias = _ALSO_CALLED.get(last.lower())
    near = [alias] if alias in options else get_close_matches(last, options, n=1, cutoff=0.6)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    hint = f"{guess}Known keys: {', '.join(options)}."
    return ConfigError(f"{source}: {key}", "be a known key", last, hint)


def table(source: Path, where: str, value: Any) -> Mapping[str, Any]:
    """`value` if it is a table."""
    if isinstance(value, Mapping):
        return value
    hint = f"Write it as [{where}] with keys below it."
    raise ConfigError(f"{source}: {where}", "be a table", type(value).__name__, hint)


def section(
    source: Path, where: str, data: Mapping[str, Any], kind: type[T], folder: Path, **given: Any
) -> T:
    """Make `kind` from a table; `given` are fields that do not come from it."""
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind) if item.name not in given}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise unknown(source, f"{where}.{key}", known)
    for name, item in known.items():
        if name not in data and item.default is MISSING and item.default_factory is MISSING:
            raise ConfigError(f"{source}: {where}.{name}", "be given", None, f"Add {name} = ... .")
    # a default path is beside the file, as one that stands in it is
    values = {
        name: folder / item.default
        for name, item in known.items()
        if isinstance(item.default, Path)
    }
    values |= {
        key: _typed(source, f"{where}.{key}", value, hints[key], folder)
        for key, value in data.items()
    }
    try:
        return kind(**values, **given)
    except InputError as error:
        name = f"{source}: {where}.{error.field}"
        raise ConfigError(name, error.rule, error.value, error.hint) from None


def _typed(source: Path, where: str, value: Any, hint: Any, folder: Path) -> Any:
    """`value` as the annotated type; text is never shown, it may be a pasted key."""
    union = get_origin(hint) in (Union, UnionType)
    options = [item for item in (get_args(hint) if union else (hint,)) if item is not type(None)]
    for option in options:
        wanted = get_origin(option) or option
        if wanted is tuple and isinstance(value, list):
            if all(isinstance(item, str) for item in value):
                return tuple(value)
        elif wanted is Path and isinstance(value, str) and value:
            return folder / Path(value).expanduser()
        elif wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        elif wanted is not Path and type(value) is wanted:
            return value
    rule = f"be {_WORDS[get_origin(options[0]) or options[0]]}"
    shown = "text" if isinstance(value, str) else value
    raise ConfigError(f"{source}: {where}", rule, shown, "Correct the value.")
