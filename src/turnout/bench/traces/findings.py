"""What a person should take away, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnout.bench.traces import measures
from turnout.bench.traces.results import Analysis, Transition
from turnout.core._check import Float

__all__ = [
    "findings",
    "fully",
    "load_distance",
    "moved",
    "telling_group",
    "telling_transition",
]

#: Choices below which a lift is not worth telling.
_ENOUGH = 200


def findings(analysis: Analysis) -> list[str]:
    """The main points of an analysis, the most pressing first."""
    parts = (_concentration, _shared, _dead, _drops, _labels, _next, _routing, _caches, _weights)
    return [sentence for part in parts for sentence in part(analysis)]


def moved(analysis: Analysis, other: Analysis) -> list[str]:
    """How far the loads of two traces of one model differ, in a sentence."""
    apart = load_distance(analysis, other)
    worst = int(np.nanargmax(apart))
    mean = fully(float(measures.known_mean(apart)))
    return [
        f"From {analysis.name} to {other.name}, {mean} of the choices go to other experts, "
        f"averaged over layers; most in layer {analysis.layers[worst]}, "
        f"{fully(float(apart[worst]))}."
    ]


def load_distance(analysis: Analysis, other: Analysis) -> Float:
    """Total variation distance (l,) of the loads of two traces, `sum_j |p_j - q_j| / 2`.

    The share of the choices that would have to go to other experts to make one load the other.
    """
    ours = analysis.counts / np.maximum(analysis.counts.sum(axis=1, keepdims=True), 1)
    theirs = other.counts / np.maximum(other.counts.sum(axis=1, keepdims=True), 1)
    distance: Float = 0.5 * np.abs(ours - theirs).sum(axis=1)
    return distance


def fully(share: float) -> str:
    """A share as a percentage of two digits or so."""
    percent = 100 * share
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.95 else f"{percent:.2g} %"


def telling_group(analysis: Analysis) -> tuple[str, int] | None:
    """The tag and the place of the layer in which it tells most of the expert."""
    best = [
        (float(np.nanmax(group.bits)), name, int(np.nanargmax(group.bits)))
        for name, group in analysis.groups.items()
        if len(group.names) > 1 and not np.isnan(group.bits).all()
    ]
    if not best:
        return None
    _, name, place = max(best, key=lambda found: found[0])
    return name, place


def telling_transition(analysis: Analysis) -> Transition | None:
    """The pair of layers whose experts tell most of each other."""
    told = [one for one in analysis.transitions if not np.isnan(one.bits)]
    return max(told, key=lambda one: one.bits, default=None)


def _concentration(analysis: Analysis) -> list[str]:
    even = measures.entropy(analysis.counts)
    if np.isnan(even).all() or analysis.e == 1:
        return []
    worst = int(np.nanargmin(even))
    busiest = measures.max_over_mean(analysis.counts)
    where = f"layer {analysis.layers[worst]}"
    if even[worst] >= 0.995:
        return [
            f"The load is even everywhere: its entropy is at least {even[worst]:.3f} of 1 in every "
            f"layer, and no expert carries more than {np.nanmax(busiest):.2f} times the mean."
        ]
    sizes = [n for n in (1, 2, 4, 8, 16, 32) if 4 * n <= analysis.e] or [1]
    shares = [float(measures.top_share(analysis.counts[worst], n)) for n in sizes]
    n, share = next(
        ((n, s) for n, s in zip(sizes, shares, strict=True) if s >= 0.25), (sizes[-1], shares[-1])
    )
    tokens = "choices" if analysis.k > 1 else "tokens"
    return [
        f"{where.capitalize()} is the least even: {n} of its {analysis.e} experts "
        f"{'takes' if n == 1 else 'take'} {fully(share)} of the {tokens}, where an even share is "
        f"{fully(n / analysis.e)}; its busiest expert carries {busiest[worst]:.1f} times the mean."
    ]


def _shared(analysis: Analysis) -> list[str]:
    if analysis.k <= 1.5:
        return []
    share = analysis.counts / max(analysis.t, 1)
    layer, expert = np.unravel_index(int(share.argmax()), share.shape)
    if share[layer, expert] < 0.5:
        return []
    return [
        f"Expert {expert} of layer {analysis.layers[layer]} is chosen by "
        f"{fully(float(share[layer, expert]))} of the tokens (even: "
        f"{fully(analysis.k / analysis.e)}), much like a shared expert."
    ]


def _dead(analysis: Analysis) -> list[str]:
    empty = analysis.counts == 0
    total = int(empty.sum())
    even = analysis.counts.sum(axis=1, keepdims=True) / analysis.e
    if total == 0:
        rest = analysis.counts / np.maximum(even, 1e-12)
        layer, expert = np.unravel_index(int(rest.argmin()), rest.shape)
        return [
            f"No expert is dead; the least used, expert {expert} of layer "
            f"{analysis.layers[layer]}, gets {fully(float(rest[layer, expert]))} of its even share."
        ]
    places = np.flatnonzero(empty.any(axis=1))
    told = [
        f"{_numbers(np.flatnonzero(empty[place]))} of layer {analysis.layers[place]}"
        for place in places[:3]
    ]
    more = f", and more in {len(places) - 3} other layers" if len(places) > 3 else ""
    few = "" if even.min() >= 50 else " The trace is short, so that chance may have a part in it."
    verb = "expert is" if total == 1 else "experts are"
    return [
        f"{total:,} of {analysis.counts.size:,} {verb} dead, that is never chosen: "
        f"{'; '.join(told)}{more}.{few}"
    ]


def _drops(analysis: Analysis) -> list[str]:
    if analysis.drops is None or not np.nansum(analysis.drops):
        return []
    worst = int(np.nanargmax(analysis.drops))
    mean = fully(float(measures.known_mean(analysis.drops)))
    text = (
        f"{mean} of the choices are dropped for want of capacity; most in layer "
        f"{analysis.layers[worst]}, {fully(float(analysis.drops[worst]))}."
    )
    if analysis.positions is not None and analysis.positions.drops is not None:
        along = analysis.positions.drops.mean(axis=0)
        text += (
            f" At the start of a sequence it is {fully(float(along[0]))}, at its end "
            f"{fully(float(along[-1]))}."
        )
    return [text]


def _labels(analysis: Analysis) -> list[str]:
    most = float(np.log2(analysis.e))
    lines = []
    if analysis.tokens is not None and not np.isnan(analysis.tokens.bits).all():
        bits = analysis.tokens.bits
        best = int(np.nanargmax(bits))
        layer = analysis.layers[analysis.tokens.layers[best]]
        lines.append(
            f"The token id alone tells {_span(bits)} bits of the expert, of {most:.1f} that there "
            f"are to tell; most in layer {layer}."
        )
    telling = telling_group(analysis)
    if telling is not None:
        name, place = telling
        group = analysis.groups[name]
        lift = measures.lift(group.counts[:, place])
        rare = group.counts[:, place].sum(axis=0) < _ENOUGH
        lift = np.where(np.isnan(lift) | rare[None, :], 0.0, lift)
        value, expert = np.unravel_index(int(lift.argmax()), lift.shape)
        text = f"The {name} tells {_span(group.bits)} bits; most in layer {analysis.layers[place]}"
        if lift[value, expert] > 1.2:
            text += (
                f", where expert {expert} takes {group.names[value]} {lift[value, expert]:.1f} "
                "times as often as all tokens"
            )
        lines.append(f"{text}.")
    return lines


def _next(analysis: Analysis) -> list[str]:
    told = telling_transition(analysis)
    if told is None or told.bits < 0.01:
        return []
    return [
        f"A token's expert in layer {told.source} tells {told.bits:.2f} bits of its expert in "
        f"layer {told.target}, the most of all pairs measured: that is what placing both on one "
        "device, or fetching ahead, can use."
    ]


def _routing(analysis: Analysis) -> list[str]:
    if analysis.routing is None:
        return []
    pairs = list(zip(analysis.routing.rows, analysis.routing.shuffled, strict=True))
    row, chance = next((pair for pair in pairs if pair[0].m == 16), pairs[0])
    return [
        f"Over {row.m} neighbouring tokens one fixed set of experts fits with F1 {row.value:.2f} "
        f"(SRP), against {chance.value:.2f} for the same tokens in random order."
    ]


def _caches(analysis: Analysis) -> list[str]:
    if analysis.caches is None:
        return []
    room = min(analysis.e, max(1, round(2 * analysis.k)))
    rate = {
        m: float(measures.known_mean(rates[:, room - 1]))
        for m, rates in analysis.caches.rates.items()
    }
    ahead, best = max(((m, value) for m, value in rate.items() if m), key=lambda found: found[1])
    return [
        f"A cache with room for {room} of {analysis.e} experts a layer holds the expert needed "
        f"{fully(rate[0])} of the time if it forgets the one unused longest, and {fully(best)} if "
        f"it knows {ahead} tokens ahead."
    ]


def _weights(analysis: Analysis) -> list[str]:
    if analysis.effective is None or analysis.k <= 1 or np.isnan(analysis.effective).all():
        return []
    return [
        f"By their weights, tokens really use {_span(analysis.effective)} of {analysis.k:.3g} "
        "experts a layer."
    ]


def _span(values: Float) -> str:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def _numbers(numbers: Sequence[int] | np.ndarray) -> str:
    words = [str(number) for number in numbers]
    if len(words) > 6:
        return f"{len(words)} experts"
    kind = "expert " if len(words) == 1 else "experts "
    return kind + (words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}")
