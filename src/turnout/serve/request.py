"""What arrives: a chat request, checked as far as routing needs and otherwise left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from turnout.serve.errors import RequestError

__all__ = ["ChatRequest", "check_prompt", "last_user", "parse", "prompt_of"]

_ROUTED_ROLES = ("system", "developer", "user")
#: More answers to one request than anybody gives.
_MOST_CHOICES = 128


@dataclass(slots=True, eq=False, kw_only=True)
class ChatRequest:
    """One request for a chat completion.

    Parameters
    ----------
    body : bytes
        As it came.
    fields : mapping
        The parsed body; not to be changed.
    model : str
        What the client asked for: `auto`, or a name of the pool.
    prompt : str
        The text it is routed on, see `prompt_of`.
    stream : bool
        Whether the answer is to come in pieces.
    wants_usage : bool
        Whether the client asked for the usage chunk at the end of a stream.
    chars : int
        Characters of text in all messages, also those it is not routed on.
    choices : int
        Answers asked for (`n`).
    """

    body: bytes = field(repr=False)
    fields: Mapping[str, Any] = field(repr=False)
    model: str
    prompt: str = field(repr=False)
    stream: bool
    wants_usage: bool
    chars: int = 0
    choices: int = 1


def parse(body: bytes, *, max_prompt_chars: int) -> ChatRequest:
    """Check a request body.

    Raises
    ------
    RequestError
        It is not JSON, not an object, has no messages, or its prompt is too long or holds a
        null character.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "Send a JSON object in UTF-8."
        place = f"an error at line {error.lineno}, column {error.colno}"
        raise RequestError("body", "be JSON", place, hint, code="invalid_json") from None
    if not isinstance(data, dict):
        hint = 'Send {"model": "auto", "messages": [...]}.'
        raise RequestError("body", "be a JSON object", type(data).__name__, hint)
    model = data.get("model")
    if not isinstance(model, str) or not model:
        hint = 'Send "model": "auto" to have it routed.'
        raise RequestError("model", "be a string", _kind(model), hint, code="missing_model")
    stream = data.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise RequestError("stream", "be true or false", _kind(stream), "Send a boolean.")
    options = data.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise RequestError("stream_options", "be an object", _kind(options), "Send an object.")
    messages, n = data.get("messages"), data.get("n")
    prompt = check_prompt(prompt_of(messages), max_prompt_chars)
    return ChatRequest(
        body=body,
        fields=data,
        model=model,
        prompt=prompt,
        stream=bool(stream),
        wants_usage=bool(options and options.get("include_usage")),
        chars=len(prompt) + _unrouted(messages),
        choices=n if type(n) is int and 1 <= n <= _MOST_CHOICES else 1,
    )


def prompt_of(messages: Any) -> str:
    """The text a conversation is routed on: what its system and user messages say, in order.

    One line break between messages; assistant and tool messages, images and sounds do not count.
    A conversation of one user message is thereby routed on just that message, like the rows of
    the table a router was fitted on.

    Raises
    ------
    RequestError
        `messages` is missing, empty, or not made as the interface says.
    """
    if not isinstance(messages, list) or not messages:
        hint = 'Send "messages": [{"role": "user", "content": "..."}].'
        value = "an empty list" if isinstance(messages, list) else _kind(messages)
        rule = "be a list with at least one message"
        raise RequestError("messages", rule, value, hint, code="missing_messages")
    texts: list[str] = []
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            hint = 'Such as {"role": "user", "content": "..."}.'
            raise RequestError(f"messages[{i}]", "be an object with a role", _kind(message), hint)
        if message["role"] in _ROUTED_ROLES:
            texts.extend(_texts(message.get("content"), f"messages[{i}].content"))
    return "\n".join(texts)


def _unrouted(messages: Any) -> int:
    """Characters of the checked messages that are not routed on."""
    chars = 0
    for message in messages:
        if message["role"] not in _ROUTED_ROLES:
            content = message.get("content")
            if isinstance(content, str):
                chars += len(content)
            elif isinstance(content, list):
                texts = (part.get("text") for part in content if isinstance(part, dict))
                chars += sum(len(text) for text in texts if isinstance(text, str))
    return chars


def last_user(fields: Mapping[str, Any]) -> str:
    """Text of the last user message of a checked body; empty where there is none."""
    for message in reversed(fields["messages"]):
        if message["role"] == "user":
            return "\n".join(_texts(message.get("content"), "messages"))
    return ""


def _texts(content: Any, where: str) -> Sequence[str]:
    if isinstance(content, str):
        return (content,)
    if not isinstance(content, list):
        hint = "Send text, or a list of parts with a type."
        raise RequestError(where, "be text or a list of parts", _kind(content), hint)
    texts = []
    for j, part in enumerate(content):
        if not isinstance(part, dict):
            raise RequestError(f"{where}[{j}]", "be an object", _kind(part), "Send typed parts.")
        if part.get("type") == "text":
            if not isinstance(part.get("text"), str):
                kind = _kind(part.get("text"))
                raise RequestError(f"{where}[{j}].text", "be a string", kind, "Send text.")
            texts.append(part["text"])
    return texts


def check_prompt(prompt: str, max_chars: int) -> str:
    """The prompt itself, if it can be routed on.

    Raises
    ------
    RequestError
        It is too long, holds a null character, or is no Unicode text. It is never quoted.
    """
    if len(prompt) > max_chars:
        hint = "Shorten it, or raise server.max_prompt_chars in the configuration."
        rule = f"be at most {max_chars} characters"
        raise RequestError("prompt", rule, len(prompt), hint, code="prompt_too_long")
    place = prompt.find("\0")
    if place >= 0:
        value = f"one at character {place}"
        hint = "Remove it."
        raise RequestError("prompt", "hold no null character", value, hint, code="null_character")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        value = f"half a surrogate pair at character {error.start}"
        raise RequestError("prompt", "be Unicode text", value, "Send it as UTF-8.") from None
    return prompt


def _kind(value: Any) -> str:
    """What JSON calls a value: said in messages in place of the value, which may be private."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    if value is None:
        return "nothing"
    return names.get(type(value), "a number")
