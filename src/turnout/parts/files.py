"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["replace_file", "replacing"]


def replace_file(path: str | Path, content: bytes, *, private: bool = False) -> None:
    """Put new content in a file's place in one step; a failure leaves what was there.

    Parameters
    ----------
    path : path
    content : bytes
    private : bool
        A new file is the owner's alone (mode 0600), one that is there keeps its owner, its group
        and what the group may read, and the content is on the disk at the return. Else everybody
        may read it.

    Raises
    ------
    OSError
        The folder or the file cannot be written.
    """
    with replacing(path) as file:
        file.write(content)
        if private:
            _keep_private(file.fileno(), Path(path))
            file.flush()
            os.fsync(file.fileno())
        else:
            os.fchmod(file.fileno(), 0o644)


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A file, its owner's alone, that takes the place of another where the block ends well.

    Raises
    ------
    OSError
        It cannot be written there.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _keep_private(handle: int, target: Path) -> None:
    """Owner, group and mode of a private file, as far as the one that is there has them."""
    if target.exists():
        before = target.stat()
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(handle, before.st_uid, before.st_gid)
        os.fchmod(handle, before.st_mode & 0o640 | 0o600)
