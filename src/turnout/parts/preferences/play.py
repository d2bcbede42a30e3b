"""A chat model asked for the route by the published prompt, then the model of that route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import Budget, Call, InputError, LimitReached, Play, Pool, _check
from turnout.parts.preferences.policies import (
    INSTRUCTION,
    OTHER,
    Policies,
    Talked,
    conversation_of,
    parse_route,
    route_prompt,
)
from turnout.parts.priced import columns

__all__ = ["PolicyPlay"]


@dataclass(frozen=True, kw_only=True)
class PolicyPlay:
    """Asks a chat model for the route by the published prompt, then the model of that route.

    Two calls. The router model is not asked where it is down or where there is no policy; what it
    answers counts only if it is a policy in force. A model that is down or fails gives way to the
    default, and that to whatever is up, in the pool's order of names. The look-up is of people's
    making, so a budget changes nothing: see `FittedArchRouter.table` for one at a price.

    Parameters
    ----------
    table : Policies
        Which model serves which policy.
    router : str
        Destination of the router model; may be one of the models.
    instruction : str
        With {routes} and {conversation}; other braces doubled.
    tokens : int
        Most of the router's prompt, in fours of characters, >= 1.
    answer_tokens : int
        Most tokens the router may write, >= 1.

    Raises
    ------
    InputError
        The instruction has no place for routes or conversation, or a value is out of range.
    """

    table: Policies
    router: str
    instruction: str = INSTRUCTION
    tokens: int = 2048
    answer_tokens: int = 64

    def __post_init__(self) -> None:
        _check.names("policy_play.router", (self.router,))
        for place in ("{routes}", "{conversation}"):
            if place not in self.instruction:
                hint = "Keep both places."
                raise InputError("policy_play.instruction", f"hold {place}", "none", hint)
        _check.integer("policy_play.tokens", self.tokens, low=1)
        _check.integer("policy_play.answer_tokens", self.answer_tokens, low=1)

    @property
    def names(self) -> tuple[str, ...]:
        """The models and the router."""
        return tuple(dict.fromkeys((*self.table.destinations, self.router)))

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: Generator) -> Play:
        """The steps for a text, taken as one turn of the user whatever it looks like."""
        return (yield from self.converse(item, pool))

    def converse(
        self, item: Any, pool: Pool, *, table: Policies | None = None, previous: str = ""
    ) -> Play:
        """The steps for a conversation.

        Parameters
        ----------
        item : str or messages
        pool : Pool
        table : Policies, optional
            The request's own look-up, in place of the configured one; its models are in the pool.
        previous : str
            Route of the turn before: kept where the router says that nothing new is asked.

        Raises
        ------
        InputError
            The conversation is empty, or the pool holds a destination that is not known.
        """
        table = table or self.table
        columns(tuple(dict.fromkeys((*self.names, *table.destinations))), pool)
        talk = conversation_of(item)
        up = [pool.names[j] for j in np.flatnonzero(pool.available)]
        route, answer = OTHER, ""
        try:
            if table.policies and self.router in up and set(table.destinations) & set(up):
                prompt = route_prompt(table.policies, talk, self.tokens, self.instruction)
                call = Call(to=self.router, prompt=prompt, max_tokens=self.answer_tokens)
                (reply,) = yield (call,)
                if not reply.failed:
                    names = [policy.name for policy in table.policies]
                    route = parse_route(reply.text, names)
            if route == OTHER and previous:
                route = previous
            wanted = (table.model(route), table.default, *sorted(up))
            system, prompt = _rendered(talk)
            for model in dict.fromkeys(name for name in wanted if name in up):
                (reply,) = yield (Call(to=model, prompt=prompt, system=system),)
                answer = "" if reply.failed else reply.text
                if answer:
                    break
        except LimitReached:
            pass
        return answer


def _rendered(talk: Talked) -> tuple[str, str]:
    """System text and prompt of a conversation: one turn as it is, several with their roles."""
    system = "\n".join(text for role, text in talk if role == "system")
    said = [(role, text) for role, text in talk if role != "system"]
    if len(said) == 1:
        return system, said[0][1]
    return system, "\n\n".join(f"{role}: {text}" for role, text in said)
