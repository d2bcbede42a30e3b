"""Every error Turnout raises on purpose.

::

    TurnoutError
    ├── InputError (ValueError)          a value handed in breaks a rule
    │   └── DataError                    a table or file of outcomes breaks a rule
    ├── ConfigError                      a configuration file breaks a rule
    ├── RouterFileError                  a saved router cannot be used here
    ├── MissingExtraError (ImportError)  an optional dependency is not installed
    ├── BudgetExceededError              a hard budget does not admit the request
    └── UpstreamError                    a destination failed to answer

Every message reads *"{field} must {rule}; got {value!r}. {next step}"*: the field, the rule,
the value, and what to do next. The command line prints it and exits with status 2.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BudgetExceededError",
    "ConfigError",
    "DataError",
    "InputError",
    "MissingExtraError",
    "RouterFileError",
    "TurnoutError",
    "UpstreamError",
]

_SHOWN = 120


def _show(value: Any) -> str:
    """`repr(value)`, cut to a length a person can read."""
    text = repr(value)
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}... ({len(text)} characters)"


class TurnoutError(Exception):
    """Root of the tree: `except TurnoutError` catches everything raised on purpose.

    Parameters
    ----------
    field : str
        The field, argument, column or file at fault.
    rule : str
        What it must do, to be read after the word "must".
    value : object
        What was found; shortened when long. Never a secret.
    hint : str
        The next step: one imperative sentence.
    """

    def __init__(self, field: str, rule: str, value: Any = None, hint: str = "") -> None:
        self.field = field
        self.rule = rule
        self.value = value
        self.hint = hint
        super().__init__(field, rule, value, hint)

    def __str__(self) -> str:
        text = f"{self.field} must {self.rule}; got {_show(self.value)}."
        return f"{text} {self.hint}" if self.hint else text


class InputError(TurnoutError, ValueError):
    """A value handed in breaks a rule."""


class DataError(InputError):
    """A table or file of outcomes breaks a rule."""


class ConfigError(TurnoutError):
    """A configuration file breaks a rule."""


class RouterFileError(TurnoutError):
    """A saved router is damaged, newer than this version, or made for another pool."""


class BudgetExceededError(TurnoutError):
    """A hard budget does not admit the request."""


class UpstreamError(TurnoutError):
    """A destination failed to answer."""


class MissingExtraError(TurnoutError, ImportError):
    """An optional dependency is not installed.

    Parameters
    ----------
    package : str
        Name of the import that failed.
    extra : str
        The extra of this distribution that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            package,
            "be installed",
            "no such package",
            f"Install it with: pip install 'turnout[{extra}]'.",
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.package, self.extra)
