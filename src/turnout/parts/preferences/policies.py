"""Policies in words, the look-up from policy to model, and the published prompt contract.

A policy is a name and a description; a request may be matched to one of them or to none
("other"). Everything here is text in, text out: what the router model is asked, and what is
accepted of its answer.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from turnout.core import InputError, _check

__all__ = [
    "INSTRUCTION",
    "OTHER",
    "Policies",
    "Policy",
    "Talked",
    "conversation_of",
    "parse_route",
    "route_prompt",
    "trimmed",
    "unique",
]

#: The route of a request that no policy is for.
OTHER = "other"

#: Messages (role, content), the oldest first.
Talked: TypeAlias = tuple[tuple[str, str], ...]

#: What the router model is told; {routes} and {conversation} are filled in as JSON.
INSTRUCTION = """You choose a route. Inside the routes tags stands a JSON list of the routes there are, each with a name and a description:

<routes>
{routes}
</routes>

<conversation>
{conversation}
</conversation>

Read the conversation and find the route whose description fits best what the user wants in the LATEST message. Answer with the exact name of that route. If no route fits, or if the user's wish has been met already and nothing new is asked, the route is "other". Write nothing but JSON of this form:
{{"route": "name of the route"}}"""  # noqa: E501

_CHARACTERS_PER_TOKEN = 4
_TRIES = 16


@dataclass(frozen=True)
class Policy:
    """One kind of request, in words.

    Parameters
    ----------
    name : str
        Unique; not "other", which stands for no policy.
    description : str
        A domain, an action, or both.

    Raises
    ------
    InputError
        The name is empty or "other".
    """

    name: str
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or self.name == OTHER:
            rule = f"be a non-empty string other than {OTHER!r}"
            raise InputError("policy.name", rule, self.name, "Name what the policy is for.")
        if not isinstance(self.description, str):
            hint = "Describe it in words."
            raise InputError("policy.description", "be a string", self.description, hint)

    @property
    def text(self) -> str:
        """Name and description in one line, the name's underscores as spaces."""
        return f"{self.name.replace('_', ' ')}: {self.description}"


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Which model serves which policy: a plain look-up that no fit depends on.

    Parameters
    ----------
    policies : tuple of Policy
        With unique names. None at all is allowed, with a warning: everything goes to `default`.
    models : tuple of str
        One a policy; a model may serve several.
    default : str
        Model of what no policy is for.

    Raises
    ------
    InputError
        Two policies share a name, or there is not one model a policy.
    """

    policies: tuple[Policy, ...]
    models: tuple[str, ...]
    default: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", unique(self.policies))
        models = tuple(self.models)
        object.__setattr__(self, "models", models)
        if len(models) != len(self.policies):
            rule = f"hold {len(self.policies)} models, one a policy"
            raise InputError("policies.models", rule, models, "Name a model for each policy.")
        for model in (*models, self.default):
            if not isinstance(model, str) or not model:
                rule = "hold non-empty strings"
                raise InputError("policies.models", rule, model, "Use names of the pool.")
        if not models:
            text = f"there are no policies: every request goes to {self.default!r}"
            warnings.warn(text, stacklevel=3)

    @property
    def destinations(self) -> tuple[str, ...]:
        """Every model it may send to, the default first."""
        return tuple(dict.fromkeys((self.default, *self.models)))

    def model(self, route: str) -> str:
        """Model of a route; the default for `OTHER` and for a name that is no policy."""
        found = {policy.name: j for j, policy in enumerate(self.policies)}
        return self.models[found[route]] if route in found else self.default

    @classmethod
    def of_providers(cls, spec: Sequence[Mapping[str, Any]], *, default: str = "") -> Policies:
        """The look-up of a gateway's list of models with their preferences.

        Parameters
        ----------
        spec : sequence of mappings
            `{"model": ..., "routing_preferences": [{"name": ..., "description": ...}]}`, one of
            them with `"default": true`. A request's own list has the same form.
        default : str
            Model of what no policy is for, where the list marks none.

        Raises
        ------
        InputError
            An entry has no model, a policy is malformed or named twice (over all models), or
            the default is missing or marked twice.
        """
        if isinstance(spec, Mapping | str) or not isinstance(spec, Sequence):
            hint = "List mappings with model and routing_preferences."
            raise InputError("providers", "be a list", type(spec).__name__, hint)
        policies: list[Policy] = []
        models: list[str] = []
        marked: list[str] = []
        for row, entry in enumerate(spec):
            where = f"providers[{row}]"
            if not isinstance(entry, Mapping) or not isinstance(entry.get("model"), str):
                raise InputError(f"{where}.model", "name a model", entry, "Such as openai/gpt-4o.")
            if entry.get("default") is True:
                marked.append(entry["model"])
            listed = entry.get("routing_preferences") or ()
            for item in listed:
                if not isinstance(item, Mapping) or "name" not in item:
                    hint = "Write a list of {name, description}."
                    raise InputError(f"{where}.routing_preferences", "hold names", item, hint)
                policies.append(Policy(item["name"], item.get("description") or ""))
                models.append(entry["model"])
        if len(marked) > 1 or not (marked or default):
            rule = "mark one model as default"
            raise InputError("providers", rule, marked, "Set default: true on one of them.")
        chosen = marked[0] if marked else default
        return cls(policies=tuple(policies), models=tuple(models), default=chosen)


def unique(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """The policies, if no two share a name."""
    if policies:
        _check.names("policies", [policy.name for policy in policies], what="policy")
    return tuple(policies)


def conversation_of(item: Any, field: str = "conversation") -> Talked:
    """An input as messages.

    Parameters
    ----------
    item : str, or sequence of (role, content) or of mappings with `role` and `content`
        A text is one message of the user. It is never parsed, whatever it looks like. Content
        may be a list of parts, of which those with a `text` are read.

    Raises
    ------
    InputError
        It is something else, or holds no message.
    """
    if isinstance(item, str):
        return (("user", item),)
    hint = "Pass a text, or messages with role and content."
    if not isinstance(item, Sequence):
        raise InputError(field, "be a text or messages", item, hint)
    found = []
    for message in item:
        if isinstance(message, Mapping):
            role, content = message.get("role"), message.get("content")
        elif isinstance(message, Sequence) and not isinstance(message, str) and len(message) == 2:
            role, content = message
        else:
            raise InputError(field, "hold messages", message, hint)
        if isinstance(content, list | tuple):
            parts = [part.get("text") for part in content if isinstance(part, Mapping)]
            content = "\n".join(part for part in parts if isinstance(part, str))
        if not isinstance(role, str) or not isinstance(content, str | None):
            raise InputError(field, "hold texts with a role", message, hint)
        found.append((role, content or ""))
    if not found:
        raise InputError(field, "hold at least one message", 0, hint)
    return tuple(found)


def trimmed(conversation: Talked, tokens: int, *, used: int = 0) -> Talked:
    """What of a conversation is read: its end, within some tokens.

    Messages of the system and of tools and those without content are left out. From the newest
    back, messages are kept while a fourth of their characters adds up to at most `tokens`; the
    one that would exceed it is kept too if it is the user's. At least one is kept.

    Parameters
    ----------
    conversation : messages
    tokens : int
        Most tokens, at four characters each: too many for scripts that pack more in one.
    used : int
        Tokens that are spent already.

    Raises
    ------
    InputError
        No message of a user or an assistant has content.
    """
    said = [(role, text) for role, text in conversation if role in ("user", "assistant")]
    some = [message for message in said if message[1].strip()] or said[-1:]
    if not some:
        rule = "hold a message of a user or an assistant"
        raise InputError("conversation", rule, [role for role, _ in conversation], "Add one.")
    kept: list[tuple[str, str]] = []
    for role, text in reversed(some):
        used += len(text) // _CHARACTERS_PER_TOKEN
        if used > tokens:
            if role == "user":
                kept.append((role, text))
            break
        kept.append((role, text))
    return tuple(reversed(kept or some[-1:]))


def route_prompt(
    policies: Sequence[Policy], conversation: Talked, tokens: int, instruction: str = INSTRUCTION
) -> str:
    """The one message that the router model is sent.

    Parameters
    ----------
    policies : sequence of Policy
    conversation : messages
        Trimmed to what `tokens` leave beside the rest.
    tokens : int
    instruction : str
        With {routes} and {conversation}.
    """
    routes = json.dumps(
        [{"name": policy.name, "description": policy.description} for policy in policies],
        ensure_ascii=False,
    )
    bare = instruction.format(routes=routes, conversation="")
    kept = trimmed(conversation, tokens, used=len(bare) // _CHARACTERS_PER_TOKEN)
    messages = [{"role": role, "content": text} for role, text in kept]
    # "<" in what was said is escaped, so that no message can close the tags around it
    said = json.dumps(messages, ensure_ascii=False).replace("<", "\\u003c")
    return instruction.format(routes=routes, conversation=said)


def parse_route(answer: str, names: Sequence[str]) -> str:
    """The route an answer names, `OTHER` where it names none of `names`.

    Strict JSON first, also inside other text or a fence; where that fails, once more without
    line-break literals and with single quotes made double.
    """
    fixed = answer.replace("\\n", "").replace("'", '"')
    for text in (answer, fixed):
        for found in list(re.finditer(r"\{", text))[:_TRIES]:
            try:
                value, _ = json.JSONDecoder().raw_decode(text, found.start())
            except (json.JSONDecodeError, RecursionError):
                continue
            if isinstance(value, dict) and isinstance(route := value.get("route"), str):
                return route if route in names else OTHER
    return OTHER
