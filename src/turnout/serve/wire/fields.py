"""Headers of an upstream's answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final, overload

__all__ = ["Fields"]


@final
class Fields(Sequence[tuple[bytes, bytes]]):
    """Headers of an answer, taken apart when somebody looks: names in lower case, and values.

    Most answers bring a score of headers of which nobody reads more than one or two.

    Parameters
    ----------
    head : bytes
        Status line and headers; each line but the last ended by CR LF.
    """

    __slots__ = ("_head", "_pairs")

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._pairs: list[tuple[bytes, bytes]] | None = None

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header, or None.

        Parameters
        ----------
        name : bytes
            In lower case.
        """
        if self._pairs is None:
            at = self._head.lower().find(b"\r\n%b:" % name)
            if at < 0:
                return None
            start = at + len(name) + 3
            end = self._head.find(b"\r\n", start)
            return self._head[start : end if end >= 0 else None].strip(b" \t")
        return next((value for key, value in self._pairs if key == name), None)

    @overload
    def __getitem__(self, index: int) -> tuple[bytes, bytes]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[bytes, bytes]]: ...

    def __getitem__(self, index: int | slice) -> tuple[bytes, bytes] | list[tuple[bytes, bytes]]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._all())

    def _all(self) -> list[tuple[bytes, bytes]]:
        if self._pairs is None:
            parted = [line.partition(b":") for line in self._head.split(b"\r\n")[1:]]
            self._pairs = [(name.lower(), value.strip(b" \t")) for name, _, value in parted]
        return self._pairs
