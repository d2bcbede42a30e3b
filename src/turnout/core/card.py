"""Card: the literal description of a method."""

from __future__ import annotations

from dataclasses import dataclass

from turnout.core import _check
from turnout.core.errors import InputError

__all__ = ["KINDS", "PROPERTIES", "Card"]

#: How a method decides.
KINDS = ("score", "threshold", "posterior", "transport", "policy")

#: What a card may claim about its method; the contract checks what is claimed.
PROPERTIES = {
    "learns": "gains over the best single destination on a planted problem, nothing on noise",
    "price_monotone": "raising the price of spending never raises the predicted spend",
    "per_item": "the route of one item does not depend on the others in its batch",
    "reads_inputs": "the route depends on what the item says",
    "sequential": "asks one destination after another, seeing each answer",
    "multi_step": "asks as often as it sees fit, and ends by itself on any replies",
    "quick": "fits soon enough to be compared unless others are named",
    "online": "learns from outcomes one by one",
    "causal_safe": "no token's route depends on a later token",
    "per_sequence": "no route depends on another sequence of the batch",
    "equivariant": "routes follow their tokens when the tokens are shuffled",
    "reads_states": "the route is read from the hidden state",
    "fixed_k": "every token goes to the same number of experts",
    "room": "no expert takes more than its room",
    "even": "every expert works on equally many tokens or slots",
    "biased_choice": "a balance bias moves who is chosen and never what the chosen weigh",
    "continuous": "a small change of a token never makes a jump in what it gets back",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a method is, where it was published, what it routes, and what it claims.

    Written as a literal at the top of the method's file (`CARD = Card(...)`, constants only), so
    that the catalogue reads it without importing the method.

    Parameters
    ----------
    name : str
        Catalogue name, `level.method`.
    system : str
        The name the literature uses.
    title, authors, id : str
        The publication; `id` such as "arXiv:2403.12031" or a DOI.
    year : int
        Year of publication.
    routes : str
        What is sent to what, in a few words.
    kind : str
        One of `KINDS`.
    recipe : str
        The class in this file to fit; "" where the entry is an analysis.
    signal : tuple of str
        What it learns from: "outcomes", "pairs", "answers", "gradient" (of the loss of the model
        it is in), "load" (what its experts received), "counts", "nothing".
    covers : tuple of str
        Equations, algorithms or sections built.
    differs : tuple of str
        What differs from the publication, and why.
    needs : tuple of str
        Extras to install; empty for the light core.
    properties : tuple of str
        Keys of `PROPERTIES`.
    knobs : tuple of (str, str)
        What a user turns to trade one thing for another, each with its unit; the first is what a
        budget is turned into.
    aliases : tuple of str
        Other names by which it is found.
    cost : str
        Time and memory, in the letters of the house.
    """

    name: str
    system: str
    title: str
    authors: str
    year: int
    id: str
    routes: str
    kind: str
    recipe: str
    signal: tuple[str, ...]
    covers: tuple[str, ...]
    differs: tuple[str, ...]
    needs: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    knobs: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    cost: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "system", "title", "authors", "id", "routes"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"card.{field}", "be a non-empty string", value, "Fill it in.")
        if self.name.count(".") != 1:
            raise InputError("card.name", "read level.method", self.name, "Such as llms.knn.")
        _check.integer("card.year", self.year, low=1900, high=2100)
        if self.kind not in KINDS:
            raise InputError("card.kind", f"be one of {', '.join(KINDS)}", self.kind, "Choose one.")
        for field in ("signal", "covers", "differs", "needs", "properties", "aliases"):
            value = getattr(self, field)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise InputError(f"card.{field}", "be a tuple of strings", value, "Add a comma.")
        for knob in self.knobs if isinstance(self.knobs, tuple) else (self.knobs,):
            pair = isinstance(knob, tuple) and len(knob) == 2
            if not pair or not all(isinstance(part, str) and part.strip() for part in knob):
                rule, hint = "hold pairs of a name and its unit", "Such as (('price', 'unit'),)."
                raise InputError("card.knobs", rule, knob, hint)
        unknown = sorted(set(self.properties) - set(PROPERTIES))
        if unknown:
            rule = f"be among {', '.join(PROPERTIES)}"
            raise InputError("card.properties", rule, unknown, "Correct the spelling.")

    @property
    def level(self) -> str:
        """The package the method lives in."""
        return self.name.partition(".")[0]

    @property
    def citation(self) -> str:
        """One line to cite."""
        return f"{self.authors} ({self.year}). {self.title}. {self.id}"
