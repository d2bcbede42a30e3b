"""Memory that dispatch works in: buffers of a thread, and zeros that cost nothing until read."""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
from collections.abc import Iterator

import torch

#: Bytes that a thread keeps between calls; larger buffers are given back.
BOUND = 64 << 20
#: From here on zeros are mapped instead of written.
MAPPED = 1 << 20


class Workspace(threading.local):
    """Buffers of one thread, reused from call to call. Nothing handed out outlives its lease."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        self.leased = False

    @contextlib.contextmanager
    def lease(self) -> Iterator[Lease]:
        """Buffers until the end of the block; a call within a call gets fresh ones."""
        if self.leased:
            yield Lease({})
            return
        self.leased = True
        try:
            yield Lease(self.buffers)
        finally:
            self.leased = False
            size = sum(b.numel() * b.element_size() for b in self.buffers.values())
            if size > BOUND:
                self.buffers.clear()


class Lease:
    """Hands out buffers by name."""

    def __init__(self, buffers: dict[tuple[str, torch.dtype], torch.Tensor]) -> None:
        self.buffers = buffers

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of unspecified content; the same memory the next time under this name."""
        size = math.prod(shape)
        held = self.buffers.get((name, dtype))
        if held is None or held.numel() < size:
            # in inference mode too it must be a tensor that may be written outside of it
            with torch.inference_mode(False):
                held = torch.empty(size, dtype=dtype)
            self.buffers[name, dtype] = held
        return held[:size].view(shape)


WORKSPACE = Workspace()


def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Zeros on the processor; pages of large ones exist only once something is written.

    A gradient of 64 experts of which two were used takes the memory and the time of two.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < MAPPED or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros(shape, dtype=dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    flat = torch.frombuffer(pages, dtype=dtype, count=math.prod(shape))
    return flat.view(shape)
