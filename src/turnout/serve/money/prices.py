"""What tokens cost: prices in USD per million tokens, and a versioned file of them.

A price is exact: its decimal text is turned into whole pico-dollars a token, or into a fraction of
one with a power of ten below it. The cost of a request is then a sum of whole numbers; only where
a price is finer than a pico-dollar a token is the sum rounded, once, up to the next whole one.

::

    version = "2026-11"

    [[models."gpt-4o-mini"]]
    since = 2024-07-18
    usd_per_million_input_tokens = 0.15
    usd_per_million_cached_input_tokens = 0.075
    usd_per_million_output_tokens = 0.6
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, final

from turnout.core import ConfigError, InputError
from turnout.serve._toml import table, unknown
from turnout.serve.money.units import Pico, amount

__all__ = ["MAX_PRICE", "Price", "PriceTable", "Tariff", "choose"]

#: Highest price there may be, USD per million tokens or per request: a tenth of a cent a token,
#: so that no request that is believed costs more than a cell can hold.
MAX_PRICE = 1_000

_Amount = Decimal | float | int | str
_KEYS = (
    "since",
    "usd_per_million_input_tokens",
    "usd_per_million_output_tokens",
    "usd_per_million_cached_input_tokens",
    "usd_per_request",
)


@final
class Price:
    """What a request costs at one destination.

    Parameters
    ----------
    usd_per_million_input_tokens, usd_per_million_output_tokens : number or decimal text
        In [0, `MAX_PRICE`].
    usd_per_million_cached_input_tokens : number or decimal text, optional
        Of the input tokens that the destination had cached; as other input tokens unless said.
    usd_per_request : number or decimal text
        Added once.
    version : str
        Where the price comes from, kept with each request.

    Raises
    ------
    InputError
        A price is no number or out of range.

    Examples
    --------
    >>> Price("0.15", "0.6", usd_per_million_cached_input_tokens="0.075").cost(1000, 200, 400)
    240000000
    """

    __slots__ = ("_cached", "_input", "_output", "_request", "_scale", "version")

    def __init__(
        self,
        usd_per_million_input_tokens: _Amount = 0,
        usd_per_million_output_tokens: _Amount = 0,
        *,
        usd_per_million_cached_input_tokens: _Amount | None = None,
        usd_per_request: _Amount = 0,
        version: str = "",
    ) -> None:
        cached = usd_per_million_cached_input_tokens
        if cached is None:
            cached = usd_per_million_input_tokens
        # USD per million tokens are micro-dollars a token, each a million pico-dollars
        parts = (
            _price("usd_per_million_input_tokens", usd_per_million_input_tokens, 6),
            _price("usd_per_million_output_tokens", usd_per_million_output_tokens, 6),
            _price("usd_per_million_cached_input_tokens", cached, 6),
            _price("usd_per_request", usd_per_request, 12),
        )
        places = max(0, *(-_exponent(part) for part in parts))
        self._input, self._output, self._cached, self._request = (
            int(part.scaleb(places)) for part in parts
        )
        self._scale = 10**places
        self.version = version

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Pico:
        """Pico-dollars of so many tokens; a fraction of one counts as a whole one.

        Parameters
        ----------
        input_tokens : int
            Those cached included.
        output_tokens : int
        cached_tokens : int
            At most `input_tokens`.
        """
        exact = (
            (input_tokens - cached_tokens) * self._input
            + cached_tokens * self._cached
            + output_tokens * self._output
            + self._request
        )
        return exact if self._scale == 1 else -(-exact // self._scale)

    @property
    def free(self) -> bool:
        """Nothing is ever charged."""
        return not (self._input or self._output or self._cached or self._request)


@final
class Tariff:
    """The prices of one destination through time.

    Parameters
    ----------
    steps : sequence of (int, Price)
        From when on (milliseconds since 1970) each price holds, by rising time. The first one
        holds before its time too: better an old price than none.
    """

    __slots__ = ("_from", "_now", "_steps", "_until")

    def __init__(self, steps: Sequence[tuple[int, Price]]) -> None:
        self._steps = tuple(steps)
        self._from = 1
        self._until = 0
        self._now = self._steps[0][1]

    def at(self, ms: int) -> Price:
        """The price that holds at a moment, milliseconds since 1970."""
        if not self._from <= ms < self._until:
            starts = [start for start, _ in self._steps]
            step = max(bisect_right(starts, ms), 1)
            self._now = self._steps[step - 1][1]
            self._from = starts[step - 1] if step > 1 else 0
            self._until = starts[step] if step < len(starts) else 2**62
        return self._now


@final
class PriceTable:
    """A price file.

    Parameters
    ----------
    version : str
    tariffs : mapping of str to Tariff
        By model.
    """

    __slots__ = ("_tariffs", "version")

    def __init__(self, version: str, tariffs: Mapping[str, Tariff]) -> None:
        self.version = version
        self._tariffs = dict(tariffs)

    @classmethod
    def load(cls, path: Path) -> PriceTable:
        """Read and check a price file.

        Raises
        ------
        ConfigError
            It cannot be read, is not TOML, or breaks a rule.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            hint = f"{type(error).__name__}. Check the path."
            raise ConfigError("price file", "be readable as UTF-8", str(path), hint) from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, source: Path) -> PriceTable:
        """Check the text of a price file.

        Raises
        ------
        ConfigError
            As `load`.
        """
        try:
            data = tomllib.loads(text, parse_float=Decimal)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(str(source), "be TOML", str(error), "Correct that line.") from None
        for key in data:
            if key not in ("version", "models"):
                raise unknown(source, key, ("version", "models"))
        version = data.get("version")
        if not isinstance(version, str) or not version.strip() or len(version) > 64:
            hint = 'Write version = "2026-11" at the top, and change it with the prices.'
            raise ConfigError(f"{source}: version", "be a short text", version, hint)
        models = table(source, "models", data.get("models", {}))
        return cls(
            version,
            {model: _tariff(source, model, steps, version) for model, steps in models.items()},
        )

    def tariff(self, model: str, where: str) -> Tariff:
        """The prices of a model; `where` names who asks, for the error.

        Raises
        ------
        ConfigError
            The table does not have it.
        """
        found = self._tariffs.get(model)
        if found is None:
            near = get_close_matches(model, self._tariffs, n=1, cutoff=0.5)
            guess = f"Did you mean {near[0]!r}? " if near else ""
            hint = f"{guess}Add it to the table, give prices here, or say free = true."
            raise ConfigError(where, f"be in price table {self.version}", model, hint)
        return found


def choose(
    where: str,
    *,
    model: str,
    table: PriceTable | None = None,
    prices: Mapping[str, _Amount] | None = None,
    free: bool = False,
) -> Tariff:
    """The tariff of one pool entry: its own prices, or free, or the table's.

    Parameters
    ----------
    where : str
        The entry, such as `pool.mini`, for errors.
    model : str
        What the table calls it.
    table : PriceTable, optional
    prices : mapping, optional
        The entry's own prices, by the parameters of `Price`; empty or None where it gives none.
    free : bool
        Nothing is charged, on purpose.

    Raises
    ------
    ConfigError
        No price is known, or it is told twice.
    """
    if free and prices:
        hint = "Drop free, or the prices."
        raise ConfigError(f"{where}.free", "not come with prices", True, hint)
    if free:
        return Tariff([(0, Price(version="free"))])
    if prices:
        try:
            return Tariff([(0, Price(**prices, version="own"))])
        except InputError as error:
            raise ConfigError(
                f"{where}.{error.field}", error.rule, error.value, error.hint
            ) from None
    if table is None:
        hint = (
            "Set usd_per_million_input_tokens and usd_per_million_output_tokens, name a price "
            "table, or say free = true."
        )
        raise ConfigError(where, "have a price", None, hint)
    return table.tariff(model, where)


def _tariff(source: Path, model: str, steps: Any, version: str) -> Tariff:
    """The entries of one model, checked."""
    where = f'models."{model}"'
    if not isinstance(steps, list) or not steps:
        hint = f"Write it as [[{where}]] with keys below it."
        raise ConfigError(f"{source}: {where}", "be a list of tables", None, hint)
    found: dict[int, Price] = {}
    for step in steps:
        values = dict(table(source, where, step))
        for key in values:
            if key not in _KEYS:
                raise unknown(source, f"{where}.{key}", _KEYS)
        since = _since(source, where, values.pop("since", None))
        if since in found:
            hint = "Give each entry its own date."
            raise ConfigError(f"{source}: {where}.since", "be there once", since, hint)
        for key in _KEYS[1:3]:
            if key not in values:
                raise ConfigError(f"{source}: {where}.{key}", "be given", None, "Use 0 if free.")
        try:
            found[since] = Price(**values, version=version)
        except InputError as error:
            name = f"{source}: {where}.{error.field}"
            raise ConfigError(name, error.rule, error.value, error.hint) from None
    return Tariff(sorted(found.items()))


def _since(source: Path, where: str, value: Any) -> int:
    """Milliseconds since 1970 of a date or a moment; a moment without zone counts as UTC."""
    if value is None:
        return 0
    if not isinstance(value, date):
        hint = "Write it as since = 2026-11-28, without quotes."
        raise ConfigError(f"{source}: {where}.since", "be a date", value, hint)
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return int(value.timestamp() * 1000)


def _price(name: str, value: _Amount, shift: int) -> Decimal:
    """A price in pico-dollars, with its last non-zero digit last."""
    usd = amount(name, value)
    if usd > MAX_PRICE:
        raise InputError(name, f"be at most {MAX_PRICE}", value, "Mind the unit: per million.")
    if _exponent(usd) < -30:
        raise InputError(name, "have at most 30 decimals", value, "Round it.")
    return usd.scaleb(shift).normalize()


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent
