"""The laboratory's tokenizer: whole words where it knows them, bytes everywhere else.

Tokens 0 to 255 are the bytes of UTF-8, so every text encodes and decodes without loss; then come
three marks (padding, end of the answer, start of the answer) that no text can produce; then the
fixed words of :mod:`turnout.lab.words`. A word token only stands for a whole run of letters, so
the letters of a made-up word stay one token each, digits too.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

from turnout.core.errors import InputError
from turnout.lab.words import WORDS

__all__ = ["ASK", "END", "PAD", "VOCABULARY", "decode", "encode", "fingerprint", "pieces"]

PAD: Final = 256
END: Final = 257
ASK: Final = 258
_FIRST: Final = 259
VOCABULARY: Final = _FIRST + len(WORDS)

_IDS: Final = {word: _FIRST + i for i, word in enumerate(WORDS)}
_BYTES: Final = (
    *(bytes([i]) for i in range(256)),
    b"", b"", b"",
    *(word.encode() for word in WORDS),
)  # fmt: skip
_CHUNK: Final = re.compile(r" ?[A-Za-z]+|[^A-Za-z]", re.DOTALL)


def encode(text: str) -> list[int]:
    """Token ids of `text`.

    Raises
    ------
    InputError
        If `text` is not a string that UTF-8 can hold.

    Examples
    --------
    >>> decode(encode("Add 2 and 3"))
    'Add 2 and 3'
    >>> len(encode("Add 2 and 3"))
    6
    """
    if not isinstance(text, str):
        raise InputError("text", "be a string", text, "Pass the request as text.")
    ids: list[int] = []
    try:
        for chunk in _CHUNK.findall(text):
            token = _IDS.get(chunk)
            if token is None:
                ids.extend(chunk.encode())
            else:
                ids.append(token)
    except UnicodeEncodeError as error:
        raise InputError(
            "text", "be text that UTF-8 can hold", text, "Remove lone surrogates."
        ) from error
    return ids


def decode(ids: Iterable[int]) -> str:
    """Text of token ids; marks are silent and bytes that are no UTF-8 become U+FFFD."""
    return b"".join(_BYTES[i] for i in ids).decode("utf-8", errors="replace")


def pieces(ids: Iterable[int]) -> Iterator[str]:
    """Text of token ids as it becomes readable; the pieces join to what `decode` returns."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for i in ids:
        piece = decoder.decode(_BYTES[i])
        if piece:
            yield piece
    piece = decoder.decode(b"", final=True)
    if piece:
        yield piece


def fingerprint() -> str:
    """Digest of the vocabulary, stored with weights so that they are never read with another."""
    return hashlib.sha256("\n".join(WORDS).encode()).hexdigest()[:16]
