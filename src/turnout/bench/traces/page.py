"""The report as one page that needs nothing else: no script, no font, no picture from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from textwrap import shorten

import numpy as np

from turnout.bench.traces import measures
from turnout.bench.traces.charts import Heat, Panel
from turnout.bench.traces.colours import LINES, LINES_DARK, NEVER, NEVER_DARK, scale
from turnout.bench.traces.findings import findings, fully, moved
from turnout.bench.traces.panels import compared, panels
from turnout.bench.traces.results import Analysis
from turnout.bench.traces.show import columns
from turnout.bench.traces.svg import heat_svg, legend, lines_svg

__all__ = ["page"]

#: Experts whose tokens are listed.
_LISTED = 12

#: Characters of a text about the trace.
_LONGEST = 240


def page(
    analyses: Sequence[Analysis],
    *,
    title: str,
    source: str,
    other: Analysis | None = None,
    words: Mapping[int, str] | None = None,
) -> str:
    """The page of one trace, or of the models of some statistics.

    Parameters
    ----------
    analyses : sequence of Analysis
        At least one.
    title : str
    source : str
        What was read.
    other : Analysis, optional
        A trace to compare the first with.
    words : mapping of int to str, optional
        Text of token ids.
    """
    many = len(analyses) > 1
    links = ""
    if many:
        items = (f'<a href="#{_slug(one.name)}">{escape(one.name)}</a>' for one in analyses)
        links = f"<nav>{''.join(items)}</nav>"
    sections = [_section(one, many, words or {}) for one in analyses]
    if other is not None:
        figures = _grids(compared(analyses[0], other))
        heading = f"{escape(other.name)} compared"
        said = "".join(f"<li>{escape(line)}</li>" for line in moved(analyses[0], other))
        about = f'<div class="card findings"><ul>{said}</ul></div>'
        sections.append(f"<section><h2>{heading}</h2>{about}{figures}</section>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head><body><main>"
        f'<header><p class="kicker">Routing report</p><h1>{escape(title)}</h1>'
        f'<p class="source">{escape(source)}</p>{links}</header>'
        f"{''.join(sections)}{_FOOT}</main></body></html>\n"
    )


def _section(analysis: Analysis, named: bool, words: Mapping[int, str]) -> str:
    said = "".join(f"<li>{escape(line)}</li>" for line in findings(analysis))
    heading = f"<h2>{escape(analysis.name)}</h2>" if named else ""
    notes = "".join(f"<li>{escape(note)}.</li>" for note in analysis.notes)
    facts = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(shorten(value, _LONGEST))}</dd>"
        for key, value in analysis.meta.items()
        if value
    )
    about = f"<dl>{facts}</dl>" if facts else ""
    about += f"<ul>{notes}</ul>" if notes else ""
    about = (
        f'<section class="card about"><h3>About this trace</h3>{about}</section>' if about else ""
    )
    return (
        f'<section id="{_slug(analysis.name)}">{heading}{_tiles(analysis)}'
        f'<div class="card findings"><h3>What stands out</h3><ul>{said}</ul></div>'
        f"{_grids(panels(analysis))}{_vocabulary(analysis, words)}"
        f"{_table(analysis)}{about}</section>"
    )


def _tiles(analysis: Analysis) -> str:
    even = measures.entropy(analysis.counts)
    busiest = measures.max_over_mean(analysis.counts)
    worst = int(np.nanargmax(busiest))
    tiles = [
        (f"{analysis.t:,}" if analysis.t < 1e6 else f"{analysis.t / 1e6:.2f} M", "tokens"),
        (f"{len(analysis.layers)} × {analysis.e}", "layers × experts"),
        (f"{analysis.k:.3g}", "experts a token"),
        (f"{float(measures.known_mean(even)):.3f}", "mean entropy of the load, of 1"),
        (f"{busiest[worst]:.2f}×", f"busiest expert over mean, layer {analysis.layers[worst]}"),
        (f"{int((analysis.counts == 0).sum()):,}", f"dead of {analysis.counts.size:,} experts"),
    ]
    if analysis.drops is not None:
        tiles.append((fully(float(measures.known_mean(analysis.drops))), "choices dropped"))
    if analysis.routing is not None:
        row = analysis.routing.rows[min(1, len(analysis.routing.rows) - 1)]
        tiles.append((f"{row.value:.2f}", f"SRP over {row.m} tokens"))
    cells = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _grids(found: Sequence[Panel]) -> str:
    """The figures, side by side where two fit; maps of pairs beside each other."""
    grids = []
    for _, run in groupby(found, key=lambda panel: _kind(panel) == "square"):
        group = list(run)
        halves = [panel for panel in group if _kind(panel) != "wide"]
        # The last of an odd number has its words beside it instead of a neighbour.
        alone = halves[-1] if len(halves) % 2 else None
        figures = (_figure(panel, panel is alone) for panel in group)
        grids.append(f'<div class="figures">{"".join(figures)}</div>')
    return "".join(grids)


def _kind(panel: Panel) -> str:
    if isinstance(panel.chart, Heat):
        return "square" if panel.chart.square else "wide"
    return "half"


def _figure(panel: Panel, alone: bool) -> str:
    if isinstance(panel.chart, Heat):
        names, drawn = "", heat_svg(panel.chart)
    else:
        names, drawn = legend(panel.chart), lines_svg(panel.chart)
    kind = f"{_kind(panel)} alone" if alone else _kind(panel)
    return (
        f'<figure class="card {kind}"><h3>{escape(panel.title)}</h3>'
        f'<div class="drawn">{names}<div class="scroll">{drawn}</div></div>'
        f"<figcaption>{escape(panel.caption)}</figcaption></figure>"
    )


def _vocabulary(analysis: Analysis, words: Mapping[int, str]) -> str:
    """Tokens of the experts whose tokens are most their own, in the most telling layer."""
    use = analysis.tokens
    if use is None or np.isnan(use.bits).all():
        return ""
    best = int(np.nanargmax(use.bits))
    leaning = np.nan_to_num(use.leaning[best])
    rows = []
    for expert in np.argsort(-leaning, kind="stable")[:_LISTED]:
        cells = "".join(
            f'<td><span class="word">{escape(_word(int(token), words))}</span>'
            f'<span class="bar" style="width:{min(80, 80 * share):.0f}%"></span>'
            f"<small>{fully(float(share))}</small></td>"
            for token, share in zip(use.ids[best, expert], use.shares[best, expert], strict=True)
            if token >= 0
        )
        if cells:
            rows.append(f"<tr><th>{expert}</th><td>{leaning[expert]:.2f}</td>{cells}</tr>")
    if not rows:
        return ""
    layer = analysis.layers[use.layers[best]]
    what = "tokens" if words else "token ids"
    return (
        f'<figure class="card"><h3>What the most specialised experts get, layer {layer}</h3>'
        '<div class="scroll"><table class="words"><tr><th>expert</th><th>bits</th>'
        f'<th colspan="5">its own {what}, and how often such a token comes here</th></tr>'
        f"{''.join(rows)}</table></div><figcaption>The layer in which token ids tell most, and "
        "the experts whose tokens differ most from all tokens (in bits). Of each, the five tokens "
        "that make the difference; the share is that of the token's occurrences which choose the "
        "expert.</figcaption></figure>"
    )


def _table(analysis: Analysis) -> str:
    found = columns(analysis)
    head = "".join(f"<th>{escape(name)}</th>" for name in found)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for cells in zip(*found.values(), strict=True)
    )
    return (
        '<details class="card"><summary>All figures, layer by layer</summary><div class="scroll">'
        f"<table><tr>{head}</tr>{rows}</table></div></details>"
    )


def _word(token: int, words: Mapping[int, str]) -> str:
    text = words.get(token, str(token))
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "∅"


def _slug(name: str) -> str:
    return "".join(mark if mark.isalnum() else "-" for mark in name.lower())


_FOOT = (
    "<footer><details><summary>How the figures are computed</summary><dl>"
    "<dt>entropy</dt><dd>−Σ p log p / log e over the shares p of a layer's choices.</dd>"
    "<dt>max / mean, variation</dt><dd>Load of the busiest expert, and standard deviation of the "
    "load, over the mean load.</dd>"
    "<dt>bits</dt><dd>Mutual information Σ p(v, j) log₂ p(v, j) / p(v) p(j) of a label v and the "
    "expert j, less what chance gives, (labels − 1)(experts − k) / 2 n ln 2 with n choices.</dd>"
    "<dt>times chance</dt><dd>Tokens that choose both experts, over n<sub>i</sub> n<sub>j</sub> / "
    "t, corrected for a token not choosing one twice.</dd>"
    "<dt>SRP, hit rate</dt><dd>Segment routing best performance and segment cache best hit rate, "
    "arXiv:2505.16056.</dd></dl></details><p>Made by <code>turnout trace report</code>. Hover "
    "over a chart for its figures.</p></footer>"
)


def _style() -> str:
    day = [f"--h{at}:{colour}" for at, colour in enumerate(scale(night=False))]
    day += [f"--c{at}:{colour}" for at, colour in enumerate(LINES)]
    night = [f"--h{at}:{colour}" for at, colour in enumerate(scale(night=True))]
    night += [f"--c{at}:{colour}" for at, colour in enumerate(LINES_DARK)]
    fills = "".join(
        f".h{at}{{fill:var(--h{at})}}" for at in range(math.ceil(len(scale(night=False))))
    )
    strokes = "".join(
        f".c{at}{{stroke:var(--c{at})}}.c{at}.p{{fill:var(--c{at})}}" for at in range(len(LINES))
    )
    return (
        f":root{{color-scheme:light dark;{';'.join(day)};--never:{NEVER};--ground:#f4f3f0;"
        "--card:#fff;--ink:#1d2129;--soft:#5c6370;--line:#e2e0db}"
        f"@media(prefers-color-scheme:dark){{:root{{{';'.join(night)};--never:{NEVER_DARK};"
        "--ground:#111418;--card:#1a1e24;--ink:#e7e9ec;--soft:#a2a9b4;--line:#2f353e}}"
        f"{_CSS}{fills}{strokes}"
    )


_CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:28px 20px 48px}
header{margin-bottom:20px}h1{font-size:2rem;line-height:1.15;margin:0;overflow-wrap:anywhere}
h2{font-size:1.45rem;margin:36px 0 14px;overflow-wrap:anywhere}h3{font-size:1.05rem;margin:0 0 8px}
.kicker{margin:0 0 4px;color:var(--soft);text-transform:uppercase;letter-spacing:.09em;
font-size:.75rem;font-weight:600}.source{margin:6px 0 0;color:var(--soft);overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:8px;margin-top:14px}nav a{color:inherit;border:1px solid
var(--line);background:var(--card);border-radius:99px;padding:3px 12px;text-decoration:none}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px;
margin:0 0 16px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(116px,1fr));gap:12px;
margin:0 0 16px}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:11px 12px}
.tiles b{display:block;font-size:1.4rem;line-height:1.2;white-space:nowrap}
.tiles span{display:block;font-size:.8rem;
line-height:1.3;color:var(--soft);margin-top:2px}
.findings ul{margin:0;padding-left:20px}.findings li{margin:5px 0}
.findings li::marker{color:var(--c1)}
.figures{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:16px;
grid-auto-flow:dense;margin-bottom:16px}
.figures .card{margin:0}.wide,.alone{grid-column:1/-1}
.alone{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));column-gap:36px}
.alone h3{grid-column:1/-1}.alone figcaption{align-self:center}
figure{min-width:0}figcaption{color:var(--soft);font-size:.875rem;margin-top:8px;max-width:80ch}
.scroll{overflow-x:auto;overscroll-behavior-x:contain}
svg.heat,svg.lines{display:block;width:100%;height:auto}
svg text{font:11.5px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--soft)}
svg text.t{fill:var(--ink);font-size:12.5px}svg text.s{font-size:11px}
.n{fill:none}.z{fill:none;stroke:var(--never);stroke-width:.8}.x{stroke:var(--never);stroke-width:1.1;
fill:none;pointer-events:none}rect.z{pointer-events:all}
rect:hover{stroke:var(--ink);stroke-width:1.5}
.g{stroke:var(--line)}.a{stroke:var(--soft)}
polyline{fill:none;stroke-width:2;stroke-linejoin:round}.w{stroke-width:5;opacity:.3}
circle.p{stroke:var(--card);stroke-width:1}circle.p:hover{stroke:var(--ink);stroke-width:2}
circle.q{opacity:0}circle.q:hover{opacity:1}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:.82rem;color:var(--soft);margin:0 0 6px}
.legend span{display:inline-flex;align-items:center;gap:6px}.legend line{stroke-width:2.5}
table{border-collapse:collapse;font-size:.85rem;min-width:100%}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
tr:first-child th{color:var(--soft);font-weight:600}
.words td{position:relative;min-width:104px;text-align:left}.words th:first-child{text-align:left}
.words tr:first-child th{text-align:left}
.word{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin-right:6px}
.words small{color:var(--soft)}.bar{position:absolute;left:10px;bottom:1px;height:3px;
border-radius:2px;background:var(--c0)}
summary{cursor:pointer;font-weight:600}details>div,details>dl{margin-top:12px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0;font-size:.9rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}.about ul{margin:10px 0 0;padding-left:20px;
font-size:.9rem}footer{color:var(--soft);font-size:.875rem;margin-top:24px}
@media(max-width:760px){main{padding:18px 12px 32px}
.figures,.alone{grid-template-columns:minmax(0,1fr)}
.card{padding:14px}h1{font-size:1.5rem}.tiles{grid-template-columns:repeat(2,1fr)}
dl{grid-template-columns:1fr}dd{margin-bottom:6px}}
@media print{body{background:#fff}.card,.tiles div{break-inside:avoid}}
"""
