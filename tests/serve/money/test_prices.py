from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import ConfigError, InputError
from turnout.serve.money.estimate import Estimator
from turnout.serve.money.prices import MAX_PRICE, Price, PriceTable, Tariff, choose
from turnout.serve.money.units import MAX_PICO
from turnout.serve.money.usage import MAX_TOKENS, Usage, output_cap, read_usage

TABLE = """
version = "2026-11"

[[models.mini]]
usd_per_million_input_tokens = 0.15
usd_per_million_output_tokens = 0.6

[[models.mini]]
since = 2026-11-01
usd_per_million_input_tokens = 0.1
usd_per_million_output_tokens = 0.4
usd_per_million_cached_input_tokens = 0.025
usd_per_request = 0.00001

[[models."grand/1"]]
since = 2026-11-01T12:00:00Z
usd_per_million_input_tokens = 10
usd_per_million_output_tokens = 40
"""
SOURCE = Path("prices.toml")

prices = st.decimals(0, MAX_PRICE, places=4) | st.decimals(0, 1, places=9)
counts = st.integers(0, 10**6)


@given(prices, prices, prices, prices, counts, counts, counts)
def test_costs_are_exact(
    read: Decimal, written: Decimal, kept: Decimal, once: Decimal, n: int, m: int, cached: int
) -> None:
    """The cost is the exact sum in pico-dollars, a fraction of one counted as a whole one."""
    price = Price(read, written, usd_per_million_cached_input_tokens=kept, usd_per_request=once)
    exact = (
        n * Fraction(read) + cached * Fraction(kept) + m * Fraction(written)
    ) * 10**6 + Fraction(once) * 10**12
    assert price.cost(n + cached, m, cached) == math.ceil(exact)


def test_cost_by_hand() -> None:
    """1,000 tokens in of which 400 cached, 200 out, at 0.15, 0.075 and 0.6 a million."""
    price = Price(0.15, 0.6, usd_per_million_cached_input_tokens=0.075)
    assert price.cost(1000, 200, 400) == 90_000_000 + 30_000_000 + 120_000_000
    assert Price(0.15, 0.6).cost(1000, 0, 400) == 150_000_000
    assert Price("0.0000004", 0).cost(2, 0) == 1
    assert Price().free
    assert not price.free


def test_no_believable_request_costs_more_than_a_cell_holds() -> None:
    """The highest price times the most tokens stays below 2**63."""
    most = Price(MAX_PRICE, MAX_PRICE, usd_per_request=MAX_PRICE).cost(MAX_TOKENS, MAX_TOKENS)
    assert most < MAX_PICO


@pytest.mark.parametrize("value", [-1, math.nan, "x", MAX_PRICE + 1, "1e-40", True])
def test_odd_prices_are_refused(value: Any) -> None:
    """Negative, not a number, absurd."""
    with pytest.raises(InputError, match="usd_per_million_output_tokens must"):
        Price(1, value)


def test_a_table_knows_prices_through_time() -> None:
    """The latest entry that has begun holds; before all of them, the first."""
    table = PriceTable.parse(TABLE, SOURCE)
    mini = table.tariff("mini", "pool.mini")
    november = 1_793_491_200_000
    assert mini.at(november - 1).cost(1000, 0) == 150_000_000
    assert mini.at(november).cost(1000, 0, 1000) == 25_000_000 + 10_000_000
    assert mini.at(november - 1).cost(1000, 0) == 150_000_000
    assert mini.at(0).cost(1, 0) == 150_000
    assert mini.at(november).version == table.version == "2026-11"
    assert table.tariff("grand/1", "pool.grand").at(0).cost(1, 1) == 50_000_000


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (('version = "2026-11"', ""), "version must be a short text"),
        (("[[models.mini]]", "[[model.mini]]"), "must be a known key; got 'model'"),
        (("usd_per_request", "usd_per_reqest"), "Did you mean 'usd_per_request'"),
        (("since = 2026-11-01\n", 'since = "2026-11-01"\n'), "since must be a date"),
        (("since = 2026-11-01\n", ""), "since must be there once"),
        (("= 0.6", "= -0.6"), "usd_per_million_output_tokens must be an amount"),
        (("usd_per_million_output_tokens = 0.6", ""), "output_tokens must be given"),
        (("[[models.mini]]\nusd", "[models.mini]\nusd"), "must be"),
        (('"2026-11"', "2026-11"), "must be TOML"),
    ],
)
def test_mistakes_in_a_table_are_named(change: tuple[str, str], rule: str) -> None:
    """Each mistake is refused with the file and the key."""
    with pytest.raises(ConfigError, match=rule) as caught:
        PriceTable.parse(TABLE.replace(*change, 1), SOURCE)
    assert "prices.toml" in str(caught.value)


def test_a_model_may_not_be_an_empty_list_or_a_plain_table() -> None:
    """What stands under models is a list of tables."""
    for text in ("mini = []", "mini = 1", "[models.mini]\nusd_per_request = 1"):
        with pytest.raises(ConfigError, match="must be a list of tables"):
            PriceTable.parse(f'version = "1"\n[models]\n{text}', SOURCE)


def test_a_table_is_read_from_a_file(tmp_path: Path) -> None:
    """UTF-8, and a clear refusal where it cannot be read."""
    path = tmp_path / "prices.toml"
    path.write_text(TABLE, encoding="utf-8")
    assert PriceTable.load(path).version == "2026-11"
    path.write_bytes(b"\xff")
    for wrong in (path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="price file must be readable"):
            PriceTable.load(wrong)


def test_every_entry_has_a_price_or_says_that_it_is_free() -> None:
    """Its own prices, else free, else the table's; an unknown model names the nearest known one."""
    table = PriceTable.parse(TABLE, SOURCE)
    own = {"usd_per_million_input_tokens": 2.0, "usd_per_million_output_tokens": 3.0}
    assert choose("pool.a", model="mini", table=table, prices=own).at(0).cost(1, 1) == 5_000_000
    assert choose("pool.a", model="x", free=True).at(0).free
    assert choose("pool.a", model="mini", table=table).at(0).cost(1, 0) == 150_000
    with pytest.raises(ConfigError, match=r"pool\.a must be in price table.*Did you mean 'mini'"):
        choose("pool.a", model="minni", table=table)
    with pytest.raises(ConfigError, match=r"pool\.a must have a price"):
        choose("pool.a", model="mini")
    with pytest.raises(ConfigError, match=r"pool\.a\.free must not come with prices"):
        choose("pool.a", model="mini", prices=own, free=True)
    with pytest.raises(ConfigError, match=r"pool\.a\.usd_per_request must be at most"):
        choose("pool.a", model="mini", prices={"usd_per_request": 10**6})


def test_usage_is_read() -> None:
    """OpenAI's shape, cached tokens included."""
    told = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    assert read_usage(told) == Usage(11, 3)
    details = {"prompt_tokens_details": {"cached_tokens": 8}}
    assert read_usage({**told, **details}) == Usage(11, 3, 8)


odd = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.text(), st.lists(st.integers()),
    st.integers(min_value=MAX_TOKENS + 1), st.dictionaries(st.text(), st.integers()),
)  # fmt: skip


@given(odd, odd, odd, odd)
def test_hostile_usage_is_not_believed_and_breaks_nothing(a: Any, b: Any, c: Any, d: Any) -> None:
    """Whatever a destination says, the counts are possible ones or not known."""
    for data in (
        a,
        {"prompt_tokens": a, "completion_tokens": b, "prompt_tokens_details": c},
        {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": d}},
    ):
        usage = read_usage(data)
        if usage is not None:
            assert all(type(count) is int and 0 <= count <= MAX_TOKENS for count in usage)
            assert usage.cached_tokens <= usage.input_tokens


@pytest.mark.parametrize("value", [True, 1.0, -1, MAX_TOKENS + 1, "5", None])
def test_odd_counts_are_not_known(value: Any) -> None:
    """Booleans, floats, negative and huge counts are not counts."""
    assert read_usage({"prompt_tokens": value, "completion_tokens": 1}) is None
    assert read_usage({"prompt_tokens": 1, "completion_tokens": value}) is None
    details = {"prompt_tokens_details": {"cached_tokens": value}}
    assert read_usage({"prompt_tokens": 1, "completion_tokens": 1, **details}) == Usage(1, 1)


def test_the_cap_of_a_request() -> None:
    """The newer name counts before the older one; several choices add up; odd values do not."""
    assert output_cap({"max_tokens": 5}) == 5
    assert output_cap({"max_tokens": 5, "max_completion_tokens": 7, "n": 3}) == 21
    assert output_cap({"max_tokens": True, "n": 2}) is None
    assert output_cap({"max_tokens": MAX_TOKENS, "n": MAX_TOKENS}) == MAX_TOKENS
    assert output_cap({}) is None


def test_estimates_follow_the_traffic() -> None:
    """After many alike requests the estimate is what they took."""
    estimator = Estimator()
    for _ in range(3000):
        estimator.learn(3000, 1000, 50)
    read, written = estimator.tokens(1500)
    assert read == pytest.approx(500, abs=2)
    assert written == pytest.approx(50, abs=2)
    assert estimator.tokens(1500, cap=7)[1] == 7
    assert estimator.tokens(1500, choices=3)[1] == pytest.approx(150, abs=4)


def test_one_absurd_count_does_not_blow_up_the_estimates() -> None:
    """A destination that once reports 100 million tokens moves them by a bounded factor."""
    estimator = Estimator()
    for _ in range(500):
        estimator.learn(2000, 500, 100)
    estimator.learn(2000, MAX_TOKENS, MAX_TOKENS)
    read, written = estimator.tokens(2000)
    assert read < 700
    assert written < 200


@given(st.lists(st.tuples(counts, counts, counts)), counts)
def test_estimates_are_whole_and_not_negative(seen: list[tuple[int, int, int]], n: int) -> None:
    """Whatever was learnt."""
    estimator = Estimator()
    for chars, read, written in seen:
        estimator.learn(chars, read, written)
    assert all(type(count) is int and count >= 0 for count in estimator.tokens(n))


def test_tariffs_change_at_their_moment() -> None:
    """From each step's time on, in any order of asking."""
    first, second = Price(1, 1), Price(2, 2)
    tariff = Tariff([(100, first), (200, second)])
    assert [tariff.at(ms) for ms in (50, 100, 199, 200, 10**15, 150)] == [
        first, first, first, second, second, first,
    ]  # fmt: skip
