"""A third party's strategy: what it does stands in the prompt, one call a word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnout.core import Call, LimitReached


@dataclass(frozen=True)
class Steps:
    """`cheap dear+cheap`: asks cheap, then both at the same time, and joins what they say.

    `break` fails; `draw` asks one that is drawn; a word nobody has is not called.
    """

    names: tuple[str, ...] = ("cheap", "dear")

    def play(self, item, pool, *, budget, rng):  # type: ignore[no-untyped-def]
        said: list[str] = []
        try:
            for word in item.split():
                if word == "break":
                    raise RuntimeError(f"a bug that quotes {item}")
                if word == "draw":
                    word = pool.names[int(rng.integers(pool.m))]
                wanted = [name for name in word.split("+") if name in pool.names]
                calls = [
                    Call(to=name, prompt=f"step {len(said)}", system="be brief", max_tokens=7)
                    for name in wanted
                    if pool.available[pool.index(name)]
                ]
                replies = yield tuple(calls)
                said += [f"<{reply.text or reply.failed}>" for reply in replies if not reply.failed]
        except LimitReached:
            return "cut " + " ".join(said)
        return " ".join(said)


@dataclass(frozen=True)
class First:
    """A cascade that takes the first answer that says something."""

    names: tuple[str, ...] = ("cheap", "dear")

    def route(self, inputs, pool, *, budget, rng):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    def proceed(self, inputs, asked, answers, pool, *, budget, rng):  # type: ignore[no-untyped-def]
        step = asked.shape[1]
        return np.array([-1 if row and row[-1] else step for row in answers])
