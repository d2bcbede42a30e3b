"""Conversations in which what is wanted changes from turn to turn, each turn with its policy.

Twelve domains by six actions make 72 routing policies, each with a name and a description. Users
open with a request, follow up on it without naming it again ("make it shorter"), ask for another
action on the same matter, change the subject, say thanks, or ask what no policy is for. A request
never holds the name of its domain or policy; its words come from lists of which the description
shows a third, so that most of what ties a request to a policy must be learnt or read from context.

For matching conversations to policies (`turnout.llms.arch_router`); unseen policies are new pairs
of a domain and an action, not new words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, _check

__all__ = [
    "ACTIONS",
    "DOMAINS",
    "OTHER",
    "Accuracy",
    "Talk",
    "accuracy",
    "policies",
    "split",
    "talks",
]

#: The label of a turn that no policy is for.
OTHER = "other"

#: Words of each domain; the first four stand in the descriptions.
DOMAINS = {
    "finance": (
        "loan dividend invoice budget mortgage payroll audit pension equity ledger refund bond"
    ),
    "law": "contract statute clause verdict lawsuit tenant patent witness appeal bail custody deed",
    "medicine": (
        "dose symptom vaccine surgery fever biopsy rash insulin fracture allergy clinic nausea"
    ),
    "travel": (
        "flight visa hostel luggage itinerary airport cruise passport layover resort ferry hiking"
    ),
    "cooking": "recipe oven dough spice broth marinade skillet garlic dessert pasta simmer yeast",
    "sport": (
        "league striker marathon referee tournament coach "
        "sprint penalty racket stadium relay goalie"
    ),
    "music": "melody chord drummer album guitar tempo lyric violin chorus concert rhythm soprano",
    "gardening": (
        "seedling compost pruning tulip mulch orchard weeds greenhouse fern irrigation hedge bulb"
    ),
    "software": (
        "compiler database thread server function kernel regex deploy cache socket pointer merge"
    ),
    "astronomy": (
        "comet telescope galaxy orbit nebula eclipse asteroid quasar meteor lunar supernova crater"
    ),
    "history": (
        "empire treaty medieval dynasty revolution archive "
        "colony monarch castle siege pharaoh crusade"
    ),
    "marketing": (
        "campaign slogan audience brand newsletter banner "
        "influencer funnel survey logo coupon outreach"
    ),
}

#: Ways of asking for each action; the first two stand in the descriptions.
ACTIONS = {
    "summarise": "condense shorten recap|boil down|give the gist of|sum up",
    "translate": (
        "translate rephrase in Spanish|put into French|render "
        "in German|say in Italian|turn to Latin"
    ),
    "draft": (
        "write compose|prepare a first version about|put together a "
        "text on|pen something about|sketch a note on"
    ),
    "explain": (
        "explain clarify|walk me through|tell me why people use|help me understand|teach me about"
    ),
    "compare": "compare contrast|weigh up|tell apart|list pros and cons of|which is better among",
    "correct": (
        "fix correct|find the mistake in|repair what is wrong with|proofread|clean up errors around"
    ),
}

_SAME = (
    "make it shorter", "can you redo that with more detail", "try that again please",
    "a bit longer this time", "less formal please", "not quite what i had in mind", "go on",
    "could that be a list instead", "keep going with the same thing", "add two more points to it",
)  # fmt: skip
_AGAIN = (
    "now {action} that",
    "and then {action} it",
    "next {action} this one",
    "also {action} it for me",
)
_THANKS = (
    "thanks", "thank you so much", "great that is all", "perfect cheers", "ok wonderful",
    "lovely much appreciated", "that helps a lot thanks", "brilliant bye for now", "nice one",
)  # fmt: skip
_ASIDE = (
    "how old are you", "do you ever sleep", "what is your favourite colour", "tell me a joke",
    "are you a robot", "what time is it there", "do you like cats", "who made you",
    "sing happy birthday", "flip a coin for me",
)  # fmt: skip
_OPEN = (
    "{action} the {a} and the {b}", "please {action} this {a} {b} business with {c}",
    "i need you to {action} my {a} , mostly the {b}", "{action} {a} {b} and {c} for my friend",
    "there is a {a} and some {b} here , {action} them", "hello , {action} the {a} near the {c}",
)  # fmt: skip
_REPLY = (
    "sure , here it is .",
    "done , see below .",
    "of course , here is the {a} part .",
    "here you go , with {b} .",
)


@dataclass(frozen=True)
class Talk:
    """One conversation with what each user turn wants.

    Parameters
    ----------
    messages : tuple of (role, content)
        "user" and "assistant" in turns; the last is the user's.
    routes : tuple of str
        Policy of each user turn, or `OTHER`.
    kinds : tuple of str
        "open", "same", "again", "thanks" or "aside", one a user turn.
    """

    messages: tuple[tuple[str, str], ...]
    routes: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """Shares of what was matched right.

    Parameters
    ----------
    turn, span, conversation : float
        Of user turns; of spans (neighbouring turns of one intent), all turns right; of
        conversations, all turns right.
    kind : mapping of str to float
        Turn accuracy by kind of turn.
    """

    turn: float
    span: float
    conversation: float
    kind: Mapping[str, float]


def policies() -> dict[str, str]:
    """Description of each of the 72 policies by name."""
    return {
        f"{domain}_{action}": (
            f"{' and '.join(_asks(action)[:2])} things such as {', '.join(_words(domain)[:4])}"
        )
        for domain in DOMAINS
        for action in ACTIONS
    }


def split(seen: int, rng: Generator) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of policies to learn from and of policies to judge on, at random.

    Parameters
    ----------
    seen : int
        How many to learn from, 1 to 71.
    rng : Generator
    """
    names = list(policies())
    seen = _check.integer("seen", seen, low=1, high=len(names) - 1)
    order = rng.permutation(len(names))
    return tuple(names[i] for i in order[:seen]), tuple(names[i] for i in order[seen:])


def talks(n: int, names: Sequence[str], *, rng: Generator) -> tuple[Talk, ...]:
    """Conversations of two to six user turns about some of the policies.

    Parameters
    ----------
    n : int
        How many, >= 1.
    names : sequence of str
        Policies that are wanted; those of one domain may follow on each other.
    rng : Generator

    Raises
    ------
    InputError
        A name is no policy.
    """
    n = _check.integer("n", n, low=1)
    known = policies()
    for name in names:
        if name not in known:
            raise InputError("names", "be policies", name, "Take them from policies().")
    _check.names("names", names, what="policy")
    return tuple(_talk(tuple(names), rng) for _ in range(n))


def accuracy(asked: Sequence[Talk], found: Sequence[Sequence[str]]) -> Accuracy:
    """How much of some conversations was matched right.

    Parameters
    ----------
    asked : sequence of Talk
    found : sequence of sequence of str
        Route of each user turn of each conversation.
    """
    turns: list[bool] = []
    spans: list[bool] = []
    whole: list[bool] = []
    kinds: dict[str, list[bool]] = {}
    for talk, routes in zip(asked, found, strict=True):
        right = [want == got for want, got in zip(talk.routes, routes, strict=True)]
        turns += right
        whole.append(all(right))
        last = None
        for want, good, kind in zip(talk.routes, right, talk.kinds, strict=True):
            if want == last:
                spans[-1] = spans[-1] and good
            else:
                spans.append(good)
            last = want
            kinds.setdefault(kind, []).append(good)
    return Accuracy(
        turn=float(np.mean(turns)),
        span=float(np.mean(spans)),
        conversation=float(np.mean(whole)),
        kind={kind: float(np.mean(kinds[kind])) for kind in sorted(kinds)},
    )


def _words(domain: str) -> list[str]:
    return DOMAINS[domain].split()


def _asks(action: str) -> list[str]:
    first, _, rest = ACTIONS[action].partition(" ")
    return [first, *rest.split("|")]


def _pick(choices: Sequence[str], rng: Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _talk(names: tuple[str, ...], rng: Generator) -> Talk:
    wanted = _pick(names, rng)
    messages: list[tuple[str, str]] = []
    routes: list[str] = []
    kinds: list[str] = []
    for turn in range(int(rng.integers(2, 7))):
        kind = "open"
        if turn:
            kind = str(rng.choice(["same", "again", "open", "thanks", "aside"], p=_SHARES))
        domain, _, action = wanted.rpartition("_")
        near = [name for name in names if name.startswith(f"{domain}_") and name != wanted]
        if kind == "again" and not near:
            kind = "same"
        if kind == "again":
            wanted = _pick(near, rng)
        elif kind == "open" and turn:
            wanted = _pick([name for name in names if name != wanted] or list(names), rng)
        domain, _, action = wanted.rpartition("_")
        a, b, c = (str(word) for word in rng.choice(_words(domain), size=3, replace=False))
        pattern = {"same": _SAME, "again": _AGAIN, "open": _OPEN, "thanks": _THANKS}
        said = _pick(pattern.get(kind, _ASIDE), rng)
        messages.append(("user", said.format(action=_pick(_asks(action), rng), a=a, b=b, c=c)))
        messages.append(("assistant", _pick(_REPLY, rng).format(a=a, b=b)))
        if kind in ("thanks", "aside"):
            messages[-1] = ("assistant", "you are welcome .")
        routes.append(OTHER if kind in ("thanks", "aside") else wanted)
        kinds.append(kind)
    return Talk(tuple(messages[:-1]), tuple(routes), tuple(kinds))


_SHARES = (0.3, 0.15, 0.25, 0.2, 0.1)
