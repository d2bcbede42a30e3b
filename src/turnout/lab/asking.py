"""The laboratory's models as destinations of a strategy: they really answer, and really cost."""

from __future__ import annotations

from collections.abc import Iterable

from turnout.core import Call, InputError, Reply
from turnout.lab import pool
from turnout.lab.model import LanguageModel
from turnout.parts.rounds.playing import Ask

__all__ = ["asking"]


def asking(of: Iterable[LanguageModel] | None = None) -> Ask:
    """What makes a call to one of the models, by its name.

    A prompt that a model cannot read (too long for it, no word of its language) is a failed
    reply that costs nothing; `system` is written before the prompt. Equal calls are answered once
    and remembered, at the same cost: the models are greedy, so asking again changes nothing.

    Parameters
    ----------
    of : iterable of LanguageModel, optional
        The models; the whole pool by default.

    Returns
    -------
    callable
        From a call to a reply, cost in USD as in `turnout.lab.pool.outcomes`.
    """
    models = {model.name: model for model in (pool.models().values() if of is None else of)}
    known: dict[Call, Reply] = {}

    def ask(call: Call) -> Reply:
        if call.to not in models:
            hint = f"Pick from {', '.join(models)}."
            raise InputError("call.to", "be a model of the laboratory", call.to, hint)
        if call not in known:
            known[call] = _asked(models[call.to], call)
        return known[call]

    return ask


def _asked(model: LanguageModel, call: Call) -> Reply:
    prompt = f"{call.system} {call.prompt}" if call.system else call.prompt
    limit = call.max_tokens
    if limit is not None:
        limit = min(limit, model.config.answer_limit)
    try:
        with pool.one_thread():
            (written,) = model.generate([prompt], max_tokens=limit)
    except InputError as error:
        return Reply(text="", failed=str(error))
    cost = pool.cost(model, written.prompt_tokens, written.completion_tokens)
    return Reply(text=written.text, cost=cost)
