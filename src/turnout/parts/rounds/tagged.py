"""Text with tags, as reasoning models write it: read it leniently, or check it strictly.

>>> first("<think>so</think><answer> 5 </answer>", ("search", "answer"))
('answer', '5')
"""

from __future__ import annotations

import re

__all__ = ["balanced", "blocks", "first", "without"]


def first(text: str, tags: tuple[str, ...]) -> tuple[str, str] | None:
    """The first block of any of the tags, as (tag, content); None where there is none.

    A block that is never closed ends at the next tag of any name, or with the text.
    """
    names = "|".join(map(re.escape, tags))
    found = re.search(rf"<({names})>(.*?)(?:</\1>|<[/a-z-]+>|\Z)", text, re.DOTALL | re.IGNORECASE)
    return None if found is None else (found[1].lower(), found[2].strip())


def blocks(text: str, tag: str) -> list[str]:
    """Contents of the closed blocks of one tag, in order."""
    return re.findall(rf"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", text, re.DOTALL)


def balanced(text: str, tags: tuple[str, ...]) -> bool:
    """Whether every tag is closed before another opens, and none is closed unopened."""
    names = "|".join(map(re.escape, tags))
    opened = ""
    for close, name in re.findall(rf"<(/?)({names})>", text):
        if bool(close) != bool(opened) or (close and name != opened):
            return False
        opened = "" if close else name
    return not opened


def without(text: str, tags: tuple[str, ...]) -> str:
    """A text that opens and closes none of the tags: what others wrote must not end a block."""
    return re.sub(rf"</?(?:{'|'.join(map(re.escape, tags))})>", " ", text, flags=re.IGNORECASE)
