"""The frontier as one page that needs nothing else: no script, font or picture from outside."""

from __future__ import annotations

import math
from html import escape

from turnout.bench import picture, series, show
from turnout.bench.landmarks import LABELS
from turnout.bench.marks import Area, Dot, Mark, Words
from turnout.bench.picture import Picture
from turnout.bench.results import Evaluation, Row

__all__ = ["DAY", "NIGHT", "page"]

#: Colours by what they are for. Those of curves are Okabe and Ito's, told apart in any kind of
#: colour vision; they also differ in lightness, and the lines in width, for prints without colour.
DAY = {
    "ground": "#ffffff",
    "ink": "#1d2129",
    "soft": "#6b7280",
    "line": "#e5e7eb",
    "weak": "#8a94a3",
    "c0": "#0060a8",
    "c1": "#c14f00",
    "c2": "#00805f",
}
NIGHT = {
    "ground": "#14171c",
    "ink": "#e8eaed",
    "soft": "#9aa3af",
    "line": "#2b313a",
    "weak": "#7c8695",
    "c0": "#5ab4f5",
    "c1": "#ff9656",
    "c2": "#35d0a5",
}


def page(evaluation: Evaluation, *, title: str = "", currency: str = "") -> str:
    """The page: what was found, the picture, every figure in a table, how it was judged.

    Parameters
    ----------
    evaluation : Evaluation
    title : str
        What was judged.
    currency : str
        See `turnout.bench.plot.render`.
    """
    drawn = picture.compose(evaluation, currency=currency)
    heading = escape(show.headline(evaluation))
    about = f'<p class="about">{escape(title)}</p>' if title else ""
    top = series.best_single(evaluation)
    lines = [f"The best single model is {top.name}, quality {top.quality:.3f}."]
    lines += show.conclusion(evaluation)[1:]
    said = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{heading}</title><style>{_style()}</style></head><body><main>"
        f"<h1>{heading}</h1>{about}"
        f'<figure><div class="scroll">{_svg(drawn, heading)}</div><div id="told" hidden></div>'
        "</figure>"
        f"<section>{said}</section>"
        f'<div class="scroll">{_table(evaluation, drawn)}</div>'
        f"<footer>{escape(show.footer(evaluation))}</footer></main>"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _svg(drawn: Picture, name: str) -> str:
    parts = [_mark(mark) for mark in drawn.marks]
    frame = drawn.frame
    facts = {
        "left": frame.left,
        "right": frame.right,
        "top": frame.top,
        "bottom": frame.bottom,
        "low": drawn.cost[0] * drawn.scale.factor,
        "high": drawn.cost[1] * drawn.scale.factor,
        "worst": drawn.quality[0],
        "best": drawn.quality[1],
        "logged": int(drawn.logged),
        "suffix": drawn.scale.suffix,
        "title": drawn.scale.title,
    }
    data = " ".join(f'data-{key}="{escape(str(value))}"' for key, value in facts.items())
    hair = f'<line id="hair" y1="{_n(frame.top)}" y2="{_n(frame.bottom)}" hidden="hidden"/>'
    return (
        f'<svg viewBox="0 0 {_n(drawn.width)} {_n(drawn.height)}" role="img" '
        f'aria-label="{name}" {data}>{"".join(parts)}{hair}</svg>'
    )


def _mark(mark: Mark) -> str:
    if isinstance(mark, Words):
        bold = (" b" if mark.bold else "") + (" h" if mark.halo else "")
        named = f' data-of="{escape(mark.name)}"' if mark.name else ""
        place = f'x="{_n(mark.x)}" y="{_n(mark.y)}" dy=".35em" text-anchor="{mark.anchor}"'
        size = f'font-size="{_n(mark.size)}"'
        return f'<text class="{mark.ink}{bold}" {place} {size}{named}>{escape(mark.text)}</text>'
    note = f"<title>{escape(mark.note)}</title>" if mark.note else ""
    if isinstance(mark, Dot):
        kind = "d" if mark.full else "r"
        centre = f'cx="{_n(mark.x)}" cy="{_n(mark.y)}" r="{_n(mark.radius)}"'
        return f'<circle class="{kind} {mark.ink}" {centre}>{note}</circle>'
    points = " ".join(f"{_n(x)},{_n(y)}" for x, y in mark.points)
    if isinstance(mark, Area):
        return f'<polygon class="{mark.ink}" points="{points}">{note}</polygon>'
    dash = ""
    if mark.dash:
        dash = f' stroke-dasharray="{" ".join(_n(part) for part in mark.dash)}"'
    named = f' data-name="{escape(mark.name)}"' if mark.name else ""
    line = (
        f'<polyline class="{mark.ink}" points="{points}" stroke-width="{_n(mark.width)}"'
        f"{dash}{named}>{note}</polyline>"
    )
    if not mark.name:
        return line
    # a thin line is hard to point at: a wide one that is not seen lies over it
    of = f'data-of="{escape(mark.name)}"'
    return f'{line}<polyline class="hit" points="{points}" {of}>{note}</polyline>'


def _table(evaluation: Evaluation, drawn: Picture) -> str:
    full = float(series.best_single(evaluation).cost)
    methods = [row for row in evaluation.rows if not row.landmark]
    methods.sort(key=lambda row: -row.aiq if not math.isnan(row.aiq) else math.inf)
    landmarks = [row for row in evaluation.rows if row.landmark]
    two = len(evaluation.names) == 2
    titles = ["", "AIQ", "95 % interval", "best quality", "cost to match"]
    titles += ["APGR"] if two else []
    titles += ["ECE", "decision, µs (p50)", "fit, s"]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    best = evaluation.best_method()
    lines = [_line(row, full, two, "best" if row is best else "") for row in methods]
    lines += [_line(row, full, two, "landmark") for row in landmarks]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _line(row: Row, full: float, two: bool, kind: str) -> str:
    def cell(value: float, digits: int = 3, unit: str = "") -> str:
        return "-" if math.isnan(value) else f"{value:,.{digits}f}{unit}"

    interval = "-" if math.isnan(row.aiq) else f"{row.aiq_low:.3f} to {row.aiq_high:.3f}"
    share = 100 * row.cost_to_match / full if full > 0 else math.nan
    cells = [cell(row.aiq), interval, cell(row.quality), cell(share, 0, " %")]
    cells += [cell(row.apgr)] if two else []
    cells += [cell(row.ece), cell(row.decision_us_p50, 0), cell(row.fit_seconds, 1)]
    name = LABELS[row.method] if row.landmark else row.method
    body = "".join(f"<td>{escape(text)}</td>" for text in cells)
    return f'<tr class="{kind}" data-of="{escape(row.method)}"><th>{escape(name)}</th>{body}</tr>'


def _n(value: float) -> str:
    """A length without needless digits."""
    return f"{value:.1f}".removesuffix(".0")


def _style() -> str:
    def colours(of: dict[str, str]) -> str:
        return ";".join(f"--{name}:{colour}" for name, colour in of.items())

    inks = "".join(
        f"text.{ink}{{fill:var(--{ink})}}polyline.{ink}{{stroke:var(--{ink})}}"
        f"polygon.{ink},circle.d.{ink}{{fill:var(--{ink})}}circle.r.{ink}{{stroke:var(--{ink})}}"
        for ink in DAY
    )
    return (
        f":root{{color-scheme:light dark;{colours(DAY)}}}"
        f"@media(prefers-color-scheme:dark){{:root{{{colours(NIGHT)}}}}}{_CSS}{inks}"
    )


_CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 "DejaVu Sans",Verdana,
system-ui,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1160px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:1.75rem;line-height:1.2;margin:0;text-wrap:balance}
.about{color:var(--soft);margin:6px 0 0}
figure{margin:18px 0 6px;position:relative}figure .scroll{margin:0}
svg{display:block;width:100%;height:auto}
svg text{font-family:"DejaVu Sans",Verdana,system-ui,sans-serif}svg text.b{font-weight:700}
svg text.h{paint-order:stroke;stroke:var(--ground);stroke-width:4px;stroke-opacity:.8;
stroke-linejoin:round}
polyline{fill:none;stroke-linejoin:round}polygon{opacity:.16}
circle.d{stroke:var(--ground);stroke-width:1.2}circle.r{fill:var(--ground);stroke-width:1.4}
.hit{stroke:transparent;stroke-width:14;pointer-events:stroke}
#hair{stroke:var(--soft);stroke-width:1;pointer-events:none}[hidden]{display:none}
svg.on polyline[data-name]{opacity:.3}svg.on polyline.now{opacity:1;stroke-width:3.6}
svg.on text[data-of]{opacity:.45}svg.on text.now{opacity:1}
tr.now>*{background:var(--line)}
#told{position:absolute;pointer-events:none;background:var(--ground);border:1px solid var(--line);
border-radius:8px;padding:8px 12px;font-size:.8rem;line-height:1.45;box-shadow:0 2px 12px #0003}
#told b{display:block}#told i{font-style:normal;float:right;padding-left:1.4em}
#told .landmark{color:var(--soft)}
section p{margin:6px 0}.scroll{overflow-x:auto;margin-top:18px}
table{border-collapse:collapse;font-size:.875rem;min-width:100%}
th,td{padding:5px 12px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;
font-weight:400}th:first-child{text-align:left;padding-left:4px}
thead th{color:var(--soft)}
tr.best>*{font-weight:700}tr.landmark>*{color:var(--soft)}
footer{color:var(--soft);font-size:.8125rem;margin-top:18px}
@media(max-width:760px){h1{font-size:1.3rem}svg{min-width:760px}}
@media print{#told{display:none}}
"""

#: Reads the curves off at the pointer, and lights up the curve, name and row that belong together.
_SCRIPT = """
(() => {
  const svg = document.querySelector("svg"), told = document.getElementById("told");
  const hair = document.getElementById("hair"), is = svg.dataset;
  const lines = [...svg.querySelectorAll("polyline[data-name]")].map(line => ({
    name: line.dataset.name, soft: line.classList.contains("soft"),
    at: line.getAttribute("points").split(" ").map(pair => pair.split(",").map(Number))}));
  const all = [...document.querySelectorAll("[data-of],[data-name]")];
  const light = name => {
    svg.classList.toggle("on", !!name);
    all.forEach(one => one.classList.toggle("now", !!name &&
      (one.dataset.of === name || one.dataset.name === name)));
  };
  all.filter(one => one.dataset.of).forEach(one => {
    one.addEventListener("pointerenter", () => light(one.dataset.of));
    one.addEventListener("pointerleave", () => light(""));
  });
  const height = (at, x) => {
    if (x < at[0][0] - .5) return NaN;
    let k = 1;
    while (k < at.length - 1 && at[k][0] < x) k++;
    if (at.length < 2) return at[0][1];
    const [x0, y0] = at[k - 1], [x1, y1] = at[k];
    return x1 > x0 ? y0 + (y1 - y0) * Math.min(1, Math.max(0, (x - x0) / (x1 - x0))) : y1;
  };
  svg.addEventListener("pointermove", event => {
    const place = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    const inside = place.x >= +is.left && place.x <= +is.right && place.y >= +is.top - 20
      && place.y <= +is.bottom + 20;
    told.hidden = hair.hidden = !inside;
    inside ? hair.removeAttribute("hidden") : hair.setAttribute("hidden", "hidden");
    if (!inside) return;
    hair.setAttribute("x1", place.x); hair.setAttribute("x2", place.x);
    const part = (place.x - is.left) / (is.right - is.left), low = +is.low, high = +is.high;
    const cost = +is.logged ? low * (high / low) ** part : low + (high - low) * part;
    const found = lines.map(one => {
      const up = (is.bottom - height(one.at, place.x)) / (is.bottom - is.top);
      return {...one, quality: +is.worst + (is.best - is.worst) * up};
    }).filter(one => !Number.isNaN(one.quality)).sort((a, b) => b.quality - a.quality);
    told.replaceChildren();
    const line = (kind, left, right, type) => {
      const row = document.createElement(kind), value = document.createElement("i");
      value.textContent = right; row.textContent = left; row.append(value);
      if (type) row.className = type;
      told.append(row);
    };
    line("b", "cost", cost.toPrecision(3) * 1 + is.suffix);
    found.forEach(one => line("div", one.name.replaceAll("_", " "), one.quality.toFixed(3),
      one.soft ? "landmark" : ""));
    const box = told.parentNode.getBoundingClientRect(), x = event.clientX - box.left;
    told.style.left = told.style.right = "";
    if (x > box.width / 2) told.style.right = box.width - x + 16 + "px";
    else told.style.left = x + 16 + "px";
    told.style.top = Math.max(0, event.clientY - box.top - 40) + "px";
  });
  svg.addEventListener("pointerleave", () => {
    told.hidden = true; hair.setAttribute("hidden", "hidden");
  });
})();
"""
