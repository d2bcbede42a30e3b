"""The report: a page that needs nothing else, pictures, tables, and the text of tokens."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from turnout.bench.traces import Analysis, analyse, read_words, report, show
from turnout.bench.traces import png as pictures
from turnout.bench.traces.charts import STEPS, Curve, Heat, Lines, Panel, step, ticks
from turnout.bench.traces.colours import LINES, LINES_DARK, scale
from turnout.bench.traces.page import page
from turnout.bench.traces.panels import compared, panels
from turnout.bench.traces.png import png
from turnout.bench.traces.svg import heat_svg, legend, lines_svg
from turnout.core import DataError, InputError, MissingExtraError, Trace

VOID = {"meta", "br", "link", "hr", "img", "input"}


class Checker(HTMLParser):
    """Opens and closes; remembers what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("script", "iframe", "link", "img", "object"):
            self.outside.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (
                name in ("src", "href") and not str(value).startswith("#")
            ):
                self.outside.append(f"{name}={value}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def found(routers: SimpleNamespace) -> Analysis:
    """The trace with every field, analysed; names that HTML would take for its own."""
    trace = routers.full(600, tag_names={"domain": ("ar<xiv", "co<de&")})
    return analyse(trace, "tiny <&>", rng=np.random.default_rng(0))


def test_the_page_stands_alone(found: Analysis) -> None:
    """Well-formed, no script, no handler, nothing fetched, and names are escaped."""
    text = page([found], title="tiny <&>", source="file <x>")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.outside == []
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in re.sub(r"arXiv:\S+", "", text)
    assert "<h1>tiny &lt;&amp;&gt;</h1>" in text
    assert "<x>" not in text
    assert "co&lt;de&amp;" in text
    assert "co<de" not in text
    assert "ar<xiv" not in text
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text


def test_the_page_says_what_the_trace_tells(found: Analysis) -> None:
    """Findings, every chart with title and caption, the table of layers, where it is from."""
    text = page([found], title="t", source="s")
    for panel in panels(found):
        assert f"<h3>{panel.title}</h3>".replace("'", "&#x27;") in text
    for words in ("What stands out", "All figures, layer by layer", "About this trace"):
        assert words in text
    assert text.count("<figcaption>") == len(panels(found)) + 1
    assert text.count("<title>") > 3 * 8 + 2 * 7 * 6


def test_several_models_have_sections(found: Analysis) -> None:
    """Each with its name, reached from the top."""
    text = page([found, found], title="t", source="s")
    assert text.count('<a href="#tiny----">') == 2
    assert text.count("<h2>") == 2


def test_comparisons_have_charts_of_their_own(found: Analysis, routers: SimpleNamespace) -> None:
    """Load over load, how much moved, and both entropies."""
    other = analyse(routers.full(600, seed=1), "other<2>", rng=np.random.default_rng(0))
    text = page([found], title="t", source="s", other=other)
    assert "other&lt;2&gt; compared" in text
    assert "other<2>" not in text
    assert "How much of the load moved" in text
    narrow = analyse(routers.full(80, layers=[0, 1, 2]), "narrow", rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="have 8 experts in layers 1, 3, 5"):
        compared(found, narrow)


def test_tokens_are_shown_as_text(found: Analysis) -> None:
    """With a vocabulary the tokens stand there in words, their spaces visible."""
    words = dict(enumerate(["the", " cat", "\n", "<b>", ""]))
    text = page([found], title="t", source="s", words=words)
    for shown in ("the", "␣cat", "⏎", "&lt;b&gt;", "∅"):
        assert f'<span class="word">{shown}</span>' in text


def test_every_chart_is_sound(found: Analysis) -> None:
    """SVG parses, says no NaN, and has axes with titles and marks that tell."""
    for panel in panels(found):
        chart = panel.chart
        text = heat_svg(chart) if isinstance(chart, Heat) else lines_svg(chart)
        tree = ElementTree.fromstring(text)
        written = [node.text for node in tree.iter("text")]
        assert {chart.x, chart.y} <= set(written)
        assert tree.find(".//title") is not None
        assert not re.search(r"\bnan\b", text)
        assert panel.caption.endswith(".")
    keys = [panel.key for panel in panels(found)]
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_pictures_are_pngs(found: Analysis) -> None:
    """Each kind of chart as a picture of some size."""
    pytest.importorskip("matplotlib")
    for key in ("load", "together", "consistency"):
        (panel,) = (panel for panel in panels(found) if panel.key == key)
        raw = png(panel)
        assert raw.startswith(b"\x89PNG")
        assert len(raw) > 5000


def test_pictures_need_their_extra(found: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib the message is the line that installs it."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"turnout\[plot\]"):
        pictures.check()
    with pytest.raises(MissingExtraError, match=r"turnout\[plot\]"):
        png(panels(found)[0])


def test_colours_by_half_octaves() -> None:
    """1 is the middle, 8 and 1/8 the ends, never and unknown are none."""
    assert [step(value) for value in (1 / 64, 1 / 8, 0.5, 1, 1.1, 2, 8, 99)] == [
        0, 0, 4, 6, 6, 8, 12, 12,
    ]  # fmt: skip
    assert step(0.0) is None
    assert step(float("nan")) is None
    for night in (False, True):
        colours = scale(night=night)
        assert len(colours) == len(set(colours)) == STEPS
        assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in colours)
    assert len(LINES) == len(LINES_DARK)


def test_round_numbers_on_the_axes() -> None:
    """Within the range, evenly, a handful of them."""
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0.83, 0.97) == pytest.approx([0.85, 0.9, 0.95])
    assert ticks(-3, 120) == pytest.approx([0, 25, 50, 75, 100])


def test_flat_lines_have_an_axis() -> None:
    """Equal values, one point, and points that are not told do not break a chart."""
    for y in ([0.5, 0.5], [0.0, 0.0], [1.0, np.nan]):
        curve = Curve(name="c", x=np.arange(2.0), y=np.array(y), notes=("a", "b"))
        for top in (None, 1.0):
            chart = Lines(curves=(curve,), places=((0.0, "0"),), x="x", y="y", top=top)
            low, high = chart.heights()
            assert low < high
            ElementTree.fromstring(lines_svg(chart))
            assert legend(chart) == ""


def test_dead_cells_are_crossed_out() -> None:
    """A zero is marked, and a cell that is not told is left blank."""
    values = np.array([[0.0, 1.0, np.nan]])
    chart = Heat(
        rows=("r",),
        columns=("a", "b", "c"),
        values=values,
        x="x",
        y="y",
        unit="u",
        note=lambda row, column: f"cell {column}",
    )
    text = heat_svg(chart)
    assert "cell 0" in text
    assert "cell 1" in text
    assert "cell 2" not in text
    # One cross in the legend, one in the map.
    assert text.count('class="x"') == 2
    assert Panel(key="k", title="t", chart=chart, caption="c").chart is chart


def test_terminal_tables_fit_the_line(found: Analysis) -> None:
    """Columns that do not fit go into a further table; each row is a layer."""
    from rich.console import Console

    for width in (40, 80, 200):
        console = Console(width=width, force_terminal=False)
        with console.capture() as capture:
            for table in show.tables(found, width):
                assert table.row_count == 3
                console.print(table)
        lines = capture.get().splitlines()
        assert all(len(line.rstrip()) <= width for line in lines)
        assert not any("…" in line for line in lines)
    assert len(show.tables(found, 200)) == 1
    assert set(show.columns(found)) >= {"layer", "entropy", "max/mean", "dead", "dropped"}


def test_profiles_of_loads() -> None:
    """Busiest first; an even load is a full block throughout, nothing is the lowest."""
    assert show.profile(np.full(4, 3.0)) == "████"
    assert show.profile(np.array([0.0, 8.0, 4.0])) == "█▄▁"
    assert show.profile(np.zeros(2)) == "▁▁"


def test_where_the_page_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file as named, `report.html` in a folder, or a name made from the trace."""
    monkeypatch.chdir(tmp_path)
    assert report.place("-o", None, Path("x/run.tar.npz")) == Path("run-report.html")
    assert report.place("-o", tmp_path / "a.html", Path("x")) == tmp_path / "a.html"
    assert report.place("-o", tmp_path / "new", Path("x")) == tmp_path / "new" / "report.html"
    assert report.place("-o", tmp_path / "new", Path("x")) == tmp_path / "new" / "report.html"
    for wanted in (tmp_path / "a.pdf", tmp_path / "no" / "a.html", tmp_path / "no" / "folder"):
        with pytest.raises(InputError, match="-o must be"):
            report.place("-o", wanted, Path("x"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can be made"):
        report.place("-o", tmp_path / "file", Path("x"))


def test_words_of_a_tokenizer(tmp_path: Path) -> None:
    """tokenizer.json with added tokens, vocab.json, id to text, and a list."""
    path = tmp_path / "w.json"
    whole = {"model": {"vocab": {"a": 0, "Ġb": 1}}, "added_tokens": [{"id": 2, "content": "<s>"}]}
    for document, expected in (
        (whole, {0: "a", 1: " b", 2: "<s>"}),
        ({"a": 0, "▁b": 1}, {0: "a", 1: " b"}),
        ({"0": "a", "7": "Ċ"}, {0: "a", 7: "\n"}),
        (["a", "b"], {0: "a", 1: "b"}),
    ):
        path.write_text(json.dumps(document))
        assert read_words(path) == expected
    for document in ([1], {"a": "b"}, 3, {}):
        path.write_text(json.dumps(document))
        with pytest.raises(DataError, match="token ids and texts"):
            read_words(path)


def test_one_expert_one_layer_one_choice() -> None:
    """The least there can be still makes a page."""
    trace = Trace(experts=np.zeros((5, 1, 1), dtype=int), e=1)
    least = analyse(trace, "least", rng=np.random.default_rng(0))
    assert "<h1>least</h1>" in page([least], title="least", source="s")
    assert show.heading(least) == "5 tokens, 1 layer, 1 experts, 1 expert a token"
