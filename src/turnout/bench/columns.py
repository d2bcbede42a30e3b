"""A file's columns before anything is known about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Columns"]


@dataclass(frozen=True, eq=False)
class Columns:
    """Named columns of equal length, cells as the file holds them.

    Plain lists: no cell is converted before a layout says what its column means, and a prompt
    such as "1e3" or "None" stays what it is.

    Parameters
    ----------
    cells : mapping of str to list
    size : int
        Number of rows.
    """

    cells: Mapping[str, Sequence[Any]]
    size: int

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Columns:
        """Columns of records; a field that a record lacks is None."""
        names: Iterable[str] = dict.fromkeys(str(name) for row in rows for name in row)
        return cls({name: [row.get(name) for row in rows] for name in names}, len(rows))

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return list(self.cells)

    def __contains__(self, name: object) -> bool:
        return name in self.cells

    def __getitem__(self, name: str) -> Sequence[Any]:
        return self.cells[name]

    def __len__(self) -> int:
        return self.size
