"""The text of token ids, from the files that tokenizers come with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from turnout.bench import files
from turnout.core import DataError

__all__ = ["read_words"]

#: Marks that vocabularies write for a space and a line end.
_MARKS = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "ĉ": "\t"})


def read_words(path: str | Path) -> dict[int, str]:
    """Token ids and their text.

    Reads `tokenizer.json` and `vocab.json` of Hugging Face, an object of id to text, and a list
    of texts. Characters that a byte-level vocabulary writes for bytes are left as they are,
    except for the space, the line end and the tab.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    DataError
        There is no such file, or it is none of these.
    """
    document = files.load_json(Path(path))
    found = _pairs(document)
    if not found:
        hint = "Name a tokenizer.json, a vocab.json, or a list of texts."
        raise DataError(str(path), "hold token ids and texts", type(document).__name__, hint)
    return {number: text.translate(_MARKS) for number, text in found.items()}


def _pairs(document: Any) -> dict[int, str]:
    if isinstance(document, list):
        return dict(enumerate(document)) if all(isinstance(one, str) for one in document) else {}
    if not isinstance(document, dict):
        return {}
    if isinstance(document.get("model"), dict):
        found = _pairs(document["model"].get("vocab"))
        for one in document.get("added_tokens") or []:
            found[int(one["id"])] = str(one["content"])
        return found
    if all(isinstance(value, int) for value in document.values()):
        return {number: text for text, number in document.items()}
    if all(key.isdigit() and isinstance(value, str) for key, value in document.items()):
        return {int(key): value for key, value in document.items()}
    return {}
