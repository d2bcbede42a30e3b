"""The picture of the frontiers: what is in it, where its words stand, and both ways to draw it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.bench import evaluate, page, picture, plot, series, ticks
from turnout.bench.bands import Band, frontier_band
from turnout.bench.labels import Box, Ground, shortened, spread, width_of, wrapped
from turnout.bench.marks import Area, Dot, Words
from turnout.bench.marks import Path as Line
from turnout.bench.results import Evaluation
from turnout.core import Frontier, InputError, Outcomes


@pytest.fixture(scope="module")
def found(kit: SimpleNamespace) -> Evaluation:
    """A method that knows everything, with a band, beside a coin."""
    table = kit.two_models(80)
    truth = {str(t): tuple(row) for t, row in zip(table.inputs, table.quality, strict=True)}
    methods = {"coin": kit.Coin(), "known": kit.Known(truth, (1.0, 5.0))}
    made = evaluate(table, methods, folds=2, resamples=50)
    return replace(made, rows=tuple(_with_band(row) for row in made.rows))


def _with_band(row):  # type: ignore[no-untyped-def]
    if row.method != "known":
        return row
    hull = row.frontier.hull()
    band = Band(cost=hull.cost, low=hull.quality - 0.02, high=hull.quality + 0.02, resamples=50)
    object.__setattr__(made := replace(row), "band", band)
    return made


def many_models(m: int, *, cost: tuple[float, float], seed: int = 0) -> Outcomes:
    """M models whose quality rises with their cost, some with names that are long."""
    rng = np.random.default_rng(seed)
    inputs = [f"prompt {i} " * (i % 7 + 1) for i in range(60)]
    rate = np.linspace(0.3, 0.9, m)
    names = tuple(f"vendor/model-{j}-with-a-name-that-is-rather-long-{j}" for j in range(m))
    return Outcomes(
        inputs=inputs,
        names=names,
        quality=(rng.random((60, m)) < rate).astype(float),
        cost=np.tile(np.geomspace(*cost, m) if cost[0] else np.linspace(*cost, m), (60, 1)),
    )


def boxes(drawn: picture.Picture) -> list[tuple[str, Box]]:
    """Where all words of a picture stand, by their estimated widths."""
    result = []
    for mark in drawn.marks:
        if isinstance(mark, Words):
            width = width_of(mark.text, mark.size, bold=mark.bold)
            left = {"start": 0.0, "end": width, "middle": width / 2}[mark.anchor]
            half = 0.5 * mark.size
            at = mark.x - left
            result.append((mark.text, Box(at, mark.y - half, at + width, mark.y + half)))
    return result


@pytest.mark.parametrize("m", [2, 5, 12])
@pytest.mark.parametrize("cost", [(1e-5, 2e-3), (0.0, 1.0), (1.0, 1.0), (30.0, 40.0)])
def test_no_words_lie_on_others_and_none_leave_the_picture(
    m: int, cost: tuple[float, float]
) -> None:
    """Labels of curves, of single destinations and of axes, with long names and close costs."""
    found = evaluate(many_models(m, cost=cost), {}, folds=2, resamples=5)
    drawn = picture.compose(found)
    placed = boxes(drawn)
    assert len(placed) > 8
    for k, (text, box) in enumerate(placed):
        assert box.left >= 0, text
        assert box.right <= drawn.width + 0.5, text
        assert 0 <= box.top <= box.bottom <= drawn.height, text
        for other_text, other in placed[k + 1 :]:
            assert not box.meets(other), (text, other_text)


def test_every_curve_is_named_at_its_end(found: Evaluation) -> None:
    """No legend: each name stands to the right of the frame, in the colour of its curve."""
    drawn = picture.compose(found)
    lines = {mark.name: mark for mark in drawn.marks if isinstance(mark, Line) and mark.name}
    names = {mark.name: mark for mark in drawn.marks if isinstance(mark, Words) and mark.name}
    assert set(lines) == set(names) == {
        "coin", "known", "zero_router", "prompt_length", "group_mean", "oracle"
    }  # fmt: skip
    for name, words in names.items():
        assert words.x > drawn.frame.right
        assert words.ink == lines[name].ink


def test_the_best_method_is_heavy_and_landmarks_are_thin(found: Evaluation) -> None:
    """Told apart without colour: by width and dashes; the band belongs to the best alone."""
    drawn = picture.compose(found)
    lines = {mark.name: mark for mark in drawn.marks if isinstance(mark, Line) and mark.name}
    assert lines["known"].width > 1.5 * lines["coin"].width
    for name in ("oracle", "zero_router", "prompt_length", "group_mean"):
        assert lines[name].dash
        assert lines[name].ink == "soft"
        assert lines[name].width < lines["coin"].width
    areas = [mark for mark in drawn.marks if isinstance(mark, Area)]
    assert [area.ink for area in areas] == ["c0"]
    frame = drawn.frame
    assert all(frame.top <= y <= frame.bottom for area in areas for _, y in area.points)


def test_beyond_the_third_method_lines_go_thin(kit: SimpleNamespace) -> None:
    """Of many methods three are plain to see, the rest are a background of one colour."""
    table = kit.two_models(40)
    made = evaluate(table, {f"coin{k}": kit.Coin() for k in range(6)}, folds=2, resamples=5)
    drawn = picture.compose(made)
    inks = [m.ink for m in drawn.marks if isinstance(m, Line) and m.name.startswith("coin")]
    assert sorted(inks) == ["c0", "c1", "c2", "weak", "weak", "weak"]
    widths = {m.ink: m.width for m in drawn.marks if isinstance(m, Line) and m.name}
    assert widths["weak"] < widths["c2"] < widths["c0"]


def test_the_saving_is_drawn_where_the_curve_crosses(found: Evaluation) -> None:
    """A dot at the cost at which the best method is as good as the best single destination."""
    drawn = picture.compose(found)
    row, top = found.row("known"), series.best_single(found)
    low, high = drawn.cost
    part = math.log(row.cost_to_match / low) / math.log(high / low) if drawn.logged else (
        row.cost_to_match - low) / (high - low)  # fmt: skip
    x = drawn.frame.left + part * (drawn.frame.right - drawn.frame.left)
    dots = [mark for mark in drawn.marks if isinstance(mark, Dot) and mark.ink == "c0"]
    assert [dot.x for dot in dots] == pytest.approx([x])
    words = [mark.text for mark in drawn.marks if isinstance(mark, Words)]
    assert f"as good at {100 * row.cost_to_match / top.cost:.0f} % of the cost" in words


@pytest.mark.parametrize(
    ("cost", "currency", "title", "first"),
    [
        ((2e-5, 2e-4), "US$", "mean cost of a million requests, US$ (logarithmic)", 20.0),
        ((2e-3, 3e-3), "US$", "mean cost of 1,000 requests, US$", 2.0),
        ((3.0, 4.0), "", "mean cost of a request, in the currency of the table", 3.0),
        ((0.0, 0.0), "US$", "mean cost of a request, US$", 0.0),
    ],
)
def test_costs_are_told_in_numbers_a_person_reads(
    cost: tuple[float, float], currency: str, title: str, first: float
) -> None:
    """By the request, the thousand or the million, so that the dearest is at least 1."""
    found = evaluate(many_models(3, cost=cost), {}, folds=2, resamples=5)
    drawn = picture.compose(found, currency=currency)
    words = [mark.text for mark in drawn.marks if isinstance(mark, Words)]
    assert title in words
    assert drawn.scale.factor * float(found.single_cost.min()) == pytest.approx(first)


def test_two_models_that_cost_nothing_and_one_are_shares_of_calls(kit: SimpleNamespace) -> None:
    """Where cost counts calls to the dearer model, that is what the axis says."""
    table = replace(kit.two_models(40), cost=np.tile([0.0, 1.0], (40, 1)))
    drawn = picture.compose(evaluate(table, {}, folds=2, resamples=5), currency="US$")
    words = [mark.text for mark in drawn.marks if isinstance(mark, Words)]
    assert "share of requests that go to large" in words
    assert {"0 %", "100 %"} <= set(words)


@pytest.mark.slow
def test_png_is_a_whole_picture_for_a_slide(found: Evaluation) -> None:
    """1920 dots by 1080; the same bytes each time."""
    png = plot.render(found, ".png", title="x < y", currency="US$")
    assert png.startswith(b"\x89PNG")
    assert png.endswith(b"IEND\xaeB`\x82")
    assert (int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")) == (1920, 1080)
    assert png == plot.render(found, ".png", title="x < y", currency="US$")


def test_estimated_widths_are_those_of_the_letters_drawn() -> None:
    """No word is wider than it was taken to be by more than a tenth."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    for bold in (False, True):
        font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
        for text in (
            "matrix_factorization  0.762", "prompt length alone", "llama-3.1-nemotron-51b-instruct",
            "WizardLM/WizardLM-13B-V1.2", "group mean (sees label)", "0.65", "mean quality",
            "as good at 30 % of the cost", "MMMWWW", "illicit till",
        ):  # fmt: skip
            real = TextPath((0, 0), text, size=15, prop=font).get_extents().width
            assert 0.97 * real <= width_of(text, 15, bold=bold) <= 1.3 * real, text


def test_the_page_needs_nothing_from_outside(found: Evaluation) -> None:
    """No address, no source; every name is escaped; one table row a landmark and a method."""
    wild = replace(found, names=("<b>small", "large & co"))
    text = plot.render(wild, ".html", title="x < y").decode()
    assert text.startswith("<!doctype html>")
    assert "x &lt; y" in text
    assert "<b>small" not in text
    assert "large &amp; co" in text
    assert not re.search(r"(src|href)=|https?://|@import|url\(", text)
    assert text.count("<tr") == 1 + len(found.rows)
    drawing = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    curves = [line for line in drawing.iter("polyline") if line.get("data-name")]
    assert len(curves) == 6
    assert all(line.find("title") is not None for line in curves)
    assert "prefers-color-scheme:dark" in text


def test_the_page_names_what_belongs_together(found: Evaluation) -> None:
    """Curve, label and row of a method share a name, by which the script lights them up."""
    text = page.page(found)
    for name in ("known", "coin", "oracle"):
        assert f'data-name="{name}"' in text
        assert text.count(f'data-of="{name}"') == 3  # the wide line, the words, the row


def test_day_and_night_have_the_same_colours_and_can_be_read() -> None:
    """Every ink stands out from its ground at least three to one, words four and a half."""

    def light(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        line = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * line[0] + 0.7152 * line[1] + 0.0722 * line[2]

    assert page.DAY.keys() == page.NIGHT.keys()
    for inks in (page.DAY, page.NIGHT):
        ground = light(inks["ground"])
        for name, colour in inks.items():
            if name in ("ground", "line"):
                continue
            ratio = (max(ground, light(colour)) + 0.05) / (min(ground, light(colour)) + 0.05)
            assert ratio >= (3.0 if name == "weak" else 4.5), name


@pytest.mark.slow
def test_plots_survive_odd_tables() -> None:
    """Costs a thousandfold apart, all the same, zero; one method that never ran."""
    for cost in ((0.001, 1.0), (1.0, 1.0), (0.0, 0.0), (0.0, 3.0)):
        found = evaluate(many_models(3, cost=cost), {}, folds=2, resamples=5)
        assert plot.render(found, ".png").startswith(b"\x89PNG")
        assert "<svg" in plot.render(found, ".html").decode()


def test_a_wrong_ending_is_refused(tmp_path: Path) -> None:
    """Before minutes are spent."""
    with pytest.raises(InputError, match=r"\.png or \.html"):
        plot.check_path(tmp_path / "x.pdf")
    plot.check_path(tmp_path / "x.html")


def test_a_curve_dearer_than_every_destination_ends_at_the_frame(kit: SimpleNamespace) -> None:
    """A cascade may pay for several answers; what lies beyond the dearest is cut off."""
    found = evaluate(kit.two_models(40), {"coin": kit.Coin()}, folds=2, resamples=5)
    dear = Frontier(np.array([1.0, 9.0]), np.array([0.5, 0.9]))
    beyond = Frontier(np.array([6.0, 9.0]), np.array([0.5, 0.9]))
    for frontier, kept in ((dear, True), (beyond, False)):
        rows = tuple(
            replace(row, frontier=frontier) if row.method == "coin" else row for row in found.rows
        )
        made = series.curves(replace(found, rows=rows))
        names = [one.name for one in made]
        assert ("coin" in names) == kept
        assert max(one.cost[-1] for one in made) == pytest.approx(5.0)


# --- the small parts ---------------------------------------------------------------------------


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=12),
    st.floats(0.5, 8),
)
def test_spread_keeps_the_gap_the_order_and_the_range(wanted: list[float], gap: float) -> None:
    """Whatever is wanted: no two are closer than the gap where they fit, none has overtaken."""
    made = spread(wanted, gap, 0.0, 100.0)
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    placed = [made[k] for k in order]
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in placed)
    room = min(gap, 100 / max(1, len(wanted) - 1))
    assert all(b - a >= room - 1e-6 for a, b in pairwise(placed))


@given(st.floats(1e-9, 1e6), st.floats(1.001, 1e6))
def test_ticks_are_few_round_and_inside(low: float, times: float) -> None:
    """On both kinds of axis."""
    high = low * times
    for made in (ticks.ticks(low, high), ticks.log_ticks(low, high)):
        assert 1 <= len(made) <= 8
        assert made == sorted(made)
        assert all(low * 0.999 <= mark <= high * 1.001 for mark in made)


@given(st.floats(-1e12, 1e12, allow_nan=False))
def test_numbers_have_no_exponent(value: float) -> None:
    """And are the value to within half a per cent."""
    text = ticks.number(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=5e-3)


def test_words_find_free_ground() -> None:
    """Beside the point; off a curve that is there; nowhere if all is taken."""
    frame = Box(0, 0, 400, 200)
    free = Ground(frame, np.empty((0, 2)))
    first = free.place(100, 100, "a name", 12)
    assert first is not None
    assert (first.anchor, first.joint) == ("start", None)
    curve = np.column_stack((np.linspace(0, 400, 200), np.full(200, 100.0)))
    crossed = Ground(frame, curve).place(100, 100, "a name", 12)
    assert crossed is not None
    assert abs(crossed.y - 100) >= 7
    full = Ground(frame, np.empty((0, 2)), [frame])
    assert full.place(100, 100, "a name", 12) is None


def test_shortened_and_wrapped() -> None:
    """A long name keeps its start and end; lines hold all the words in order."""
    assert shortened("short") == "short"
    name = shortened("a-model-with-a-name-longer-than-anybody-reads-v1.2", 24)
    assert len(name) == 24
    assert name.startswith("a-model")
    assert name.endswith("-v1.2")
    lines = wrapped("one two three four", 10, 60)
    assert len(lines) > 1
    assert " ".join(lines) == "one two three four"


def test_the_band_lies_around_the_hull_and_narrows_with_rows() -> None:
    """Two settings of which every row is known: the width falls as one over the root of n."""
    widths = []
    for n in (100, 1600):
        rng = np.random.default_rng(1)
        quality = (rng.random((n, 2)) < [0.4, 0.8]).astype(float)
        cost = np.tile([1.0, 3.0], (n, 1))
        frontier = Frontier(cost.mean(axis=0), quality.mean(axis=0))
        band = frontier_band(cost, quality, frontier, 5.0, resamples=200, rng=rng)
        assert band.cost[0] == 1.0
        assert band.cost[-1] == 5.0
        middle = frontier.quality_at(band.cost)
        assert (band.low <= middle).all()
        assert (middle <= band.high).all()
        widths.append(float((band.high - band.low).mean()))
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.3)


def test_a_band_is_moved_to_the_curve_it_belongs_to() -> None:
    """A frontier with a point that was not kept for the resamples lies within its band."""
    quality = np.tile([0.5, 0.7], (50, 1))
    cost = np.tile([1.0, 3.0], (50, 1))
    frontier = Frontier(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.69, 0.7]))
    rng = np.random.default_rng(0)
    band = frontier_band(cost, quality, frontier, 3.0, resamples=20, rng=rng)
    assert band.low == pytest.approx(frontier.quality_at(band.cost))
    with pytest.raises(InputError, match=r"band\.high must"):
        Band(cost=np.ones(3), low=np.ones(3), high=np.ones(2), resamples=1)


def test_of_many_models_a_dozen_are_named() -> None:
    """The best and those on the hull among them; every one has its dot and its note."""
    found = evaluate(many_models(30, cost=(0.01, 1.0)), {}, folds=2, resamples=5)
    drawn = picture.compose(found)
    inside = [mark for mark in drawn.marks if isinstance(mark, Words) and mark.halo]
    assert len(inside) <= 12
    assert any(mark.text.startswith("best single: ") for mark in inside)
    dots = [mark for mark in drawn.marks if isinstance(mark, Dot)]
    assert len(dots) == 30 - drawn.below
    assert all("quality" in dot.note for dot in dots)
