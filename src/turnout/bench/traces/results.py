"""What an analysis of a trace holds; None and empty stand for what the source does not tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from turnout.bench.traces.consistency import SegmentRouting
from turnout.core._check import Float, Int

__all__ = ["Analysis", "Caches", "Group", "Positions", "Routing", "TokenUse", "Transition"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """Choices by the values of one tag.

    Parameters
    ----------
    names : tuple of str
        The v values.
    counts : int array (v, l, e)
    bits : array (l,)
        Mutual information of value and expert in a layer, bias taken off.
    """

    names: tuple[str, ...]
    counts: Int
    bits: Float


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenUse:
    """Which tokens each expert gets.

    Parameters
    ----------
    layers : int array (n,)
        Places, in the analysis' layers, that were counted.
    bits : array (n,)
        Mutual information of token id and expert, bias taken off, frequent ids only.
    covered : array (n,)
        Share of the choices whose token id is frequent enough to count.
    ids : int array (n, e, 5)
        Token ids that make each expert's tokens most its own, the first most; -1 where there are
        fewer.
    shares : array (n, e, 5)
        Share of the occurrences of the token that choose the expert.
    leaning : array (n, e)
        Bits by which an expert's tokens differ from all tokens; NaN where it got less than a
        quarter of an even share of them, which is too few to tell.
    """

    layers: Int
    bits: Float
    covered: Float
    ids: Int
    shares: Float
    leaning: Float


@dataclass(frozen=True, eq=False, kw_only=True)
class Positions:
    """How choices and drops change along the sequence.

    Parameters
    ----------
    starts, ends : int array (b,)
        First and last position of each range; the ranges hold about equally many tokens.
    bits : array (l, b)
        Bits by which the choices in a range differ from all choices, bias taken off.
    drops : array (l, b), optional
        Share of the choices in a range that were dropped.
    """

    starts: Int
    ends: Int
    bits: Float
    drops: Float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Transition:
    """Pairs of experts in two layers.

    Parameters
    ----------
    source, target : int
        Numbers of the layers.
    matrix : array (e, e)
        Tokens by expert in the source and in the target.
    bits : float
        Mutual information, bias taken off.
    """

    source: int
    target: int
    matrix: Float
    bits: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Routing:
    """SRP by window length, beside the same tokens in random order.

    Parameters
    ----------
    rows, shuffled : tuple of SegmentRouting
    tokens : int
        Tokens measured.
    """

    rows: tuple[SegmentRouting, ...]
    shuffled: tuple[SegmentRouting, ...]
    tokens: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Caches:
    """Hit rates by cache size.

    Parameters
    ----------
    rates : mapping of int to array (l, e)
        By tokens known ahead: hit rate with room for 1 to e experts a layer; 0 is LRU.
    tokens : int
        Tokens measured.
    """

    rates: Mapping[int, Float]
    tokens: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Analysis:
    """Everything measured of one router; None and empty where the source does not tell.

    Parameters
    ----------
    name : str
        What was read.
    t, e : int
        Tokens that are not masked, and experts in a layer.
    k : float
        Choices of a token in a layer, on average.
    layers : int array (l,)
        Layer numbers.
    counts : int array (l, e)
        Choices by layer and expert.
    groups : mapping of str to Group
    tokens : TokenUse, optional
    positions : Positions, optional
    top_weight, effective : array (l,), optional
        Mean share of the strongest choice; mean number of experts really used.
    drops : array (l,), optional
        Share of the choices dropped.
    together : array (l, e, e), optional
        Tokens by pair of experts in a layer.
    overlap : array (l - 1,), optional
        Mean share of the experts of a layer that keep their number in the next.
    transitions : tuple of Transition
    routing : Routing, optional
    caches : Caches, optional
    notes : tuple of str
        What a reader of the figures should know.
    meta : mapping of str to str
    """

    name: str
    t: int
    e: int
    k: float
    layers: Int
    counts: Int
    groups: Mapping[str, Group] = field(default_factory=dict)
    tokens: TokenUse | None = None
    positions: Positions | None = None
    top_weight: Float | None = None
    effective: Float | None = None
    drops: Float | None = None
    together: Float | None = None
    overlap: Float | None = None
    transitions: tuple[Transition, ...] = ()
    routing: Routing | None = None
    caches: Caches | None = None
    notes: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
