"""Policies that write the turns of an inquiry: a small network, or a chat destination.

Both are generators that yield calls of their own and return one turn
(`turnout.parts.rounds.turns`). The network asks nobody. The chat destination is told the rules and
the pool, reads the transcript, and writes tags; what cannot be read is asked for once more, and
then given up.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from turnout.core import Call, Pool, Reply, _check
from turnout.parts.learners.actor import Actor
from turnout.parts.rounds import tagged
from turnout.parts.rounds.inquiry import Inquiry, expected_costs, look
from turnout.parts.rounds.turns import Turn, called

__all__ = ["ChatPolicy", "NetworkPolicy", "Policy", "Speaking", "turned"]

#: Yields calls of its own and returns a turn; `kind` "" where none could be read.
Speaking: TypeAlias = Generator[tuple[Call, ...], tuple[Reply, ...], Turn]

_RULES = """\
Answer the question below. In every turn first think, inside <think> and </think>. Then either ask \
one of the models listed here, by writing <search>its name: what you ask it</search>, or end with \
<answer>the answer alone</answer>. What a model says comes back between <information> and \
</information>. Ask for one fact at a time, of the model that suits it best, dear ones only where \
cheap ones will not do. You can ask {left} more.

Models:
{models}"""
_LAST = "You can ask no more. Write <answer>the answer alone</answer>."
_AGAIN = "That could not be read. Write one <search>name: question</search> or one <answer>."
_BRIEF = "Answer the question as shortly as you can."


class Policy(Protocol):
    """Decides what to do next in an inquiry."""

    def turn(self, inquiry: Inquiry, pool: Pool, alpha: float, *, last: bool) -> Speaking:
        """The next turn; where `last`, one that answers."""
        ...

    def word(self, turn: Turn) -> Call:
        """The call that a turn makes."""
        ...


@dataclass(frozen=True, eq=False)
class NetworkPolicy:
    """A trained network as the policy.

    Parameters
    ----------
    actor : Actor
    known : tuple of str
        The destinations it was trained with.
    charge : tuple of float
        What a call to each was seen to cost.
    """

    actor: Actor
    known: tuple[str, ...]
    charge: tuple[float, ...]

    def turn(self, inquiry: Inquiry, pool: Pool, alpha: float, *, last: bool) -> Speaking:
        """The likeliest turn."""
        costs = expected_costs(pool, dict(zip(self.known, self.charge, strict=True)))
        seen = look(inquiry, pool, costs, alpha, last=last)
        return turned(inquiry, seen.says[self.actor.pick(seen.state, seen.actions, seen.allowed)])
        yield ()  # a generator, as every policy is

    def word(self, turn: Turn) -> Call:
        """The sub-question and nothing else."""
        return Call(to=turn.to, prompt=turn.text)


@dataclass(frozen=True)
class ChatPolicy:
    """A chat destination as the policy, told the rules in words.

    Parameters
    ----------
    to : str
        The destination. It is not among those that it may ask, unless it stands alone.
    max_tokens : int
        Most that it writes in a turn, >= 1.
    """

    to: str
    max_tokens: int = 512

    def __post_init__(self) -> None:
        _check.integer("chat_policy.max_tokens", self.max_tokens, low=1)

    def turn(self, inquiry: Inquiry, pool: Pool, alpha: float, *, last: bool) -> Speaking:
        """What it writes, read leniently; unreadable where it is down or fails."""
        if self.to not in pool.names or not pool.available[pool.index(self.to)]:
            return Turn("")
        names = sorted(name for name in pool.names if name != self.to) or [self.to]
        system = _RULES.format(
            left=max(inquiry.rounds - len(inquiry.asked), 0), models=_listed(pool, names)
        )
        told = [f"Question: {inquiry.item}", *inquiry.log]
        if last:
            told.append(_LAST)
        for _ in range(2):
            prompt = "\n\n".join(told)
            call = Call(to=self.to, prompt=prompt, system=system, max_tokens=self.max_tokens)
            (reply,) = yield (call,)
            if reply.failed:
                break
            found = _read(reply.text, names, last=last)
            if found.kind:
                return found
            told.append(_AGAIN)
        return Turn("")

    def word(self, turn: Turn) -> Call:
        """The sub-question, to be answered shortly."""
        return Call(to=turn.to, prompt=turn.text, system=_BRIEF)


def turned(inquiry: Inquiry, said: tuple[str, str]) -> Turn:
    """The turn of an action of `parts.rounds.inquiry.look`: whom it asks what, or ("", "")."""
    to, query = said
    if not to:
        return Turn("answer", text=inquiry.last, why="The last reply settles it.")
    return Turn("search", to, query)


def _read(text: str, names: list[str], *, last: bool) -> Turn:
    """The first action in what was written; where `last`, only an answer is one."""
    block = tagged.first(text, ("answer",) if last else ("search", "answer"))
    if block is None or not block[1]:
        return Turn("")
    thought = tagged.first(text, ("think",))
    why = thought[1] if thought and thought[1] else Turn("").why
    kind, said = block
    if kind == "answer":
        return Turn("answer", text=said, why=why)
    to, query = called(said, names)
    return Turn("search", to, query or said, why)


def _listed(pool: Pool, names: list[str]) -> str:
    """One line a destination that is up: its name, and what is said of it."""
    about = pool.description or ("",) * pool.m
    lines = []
    for name in names:
        j = pool.index(name)
        if pool.available[j]:
            lines.append(f"- {name}: {about[j]}" if about[j] else f"- {name}")
    return "\n".join(lines)
