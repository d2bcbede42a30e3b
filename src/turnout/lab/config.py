"""Shape of a tiny decoder language model and the arithmetic it costs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from turnout.core.errors import InputError

__all__ = ["Config"]


@dataclass(frozen=True, slots=True)
class Config:
    """Shape of a decoder: pre-norm, learned positions, squared ReLU, tied embeddings.

    Parameters
    ----------
    width : int
        Size d of the residual stream.
    layers : int
        Number of blocks.
    heads : int
        Attention heads; divides `width`.
    vocabulary : int
        Number of tokens.
    prompt_limit : int
        Most prompt tokens it reads, the mark that starts the answer included.
    answer_limit : int
        Most tokens it writes, the mark that ends the answer included.
    """

    width: int
    layers: int
    heads: int
    vocabulary: int
    prompt_limit: int = 160
    answer_limit: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(field.name, "be a positive integer", value, "Correct the config.")
        if self.width % self.heads:
            raise InputError("heads", f"divide width {self.width}", self.heads, "Pick a divisor.")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Config:
        """Read the config from JSON data."""
        return cls(**data)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight, matrices as (in, out)."""
        d = self.width
        shapes: dict[str, tuple[int, ...]] = {
            "tokens": (self.vocabulary, d),
            "positions": (self.prompt_limit + self.answer_limit, d),
            "norm": (d,),
        }
        for layer in range(self.layers):
            shapes |= {
                f"{layer}.norm1": (d,),
                f"{layer}.qkv": (d, 3 * d),
                f"{layer}.out": (d, d),
                f"{layer}.norm2": (d,),
                f"{layer}.up": (d, 4 * d),
                f"{layer}.down": (4 * d, d),
            }
        return shapes

    def parameters(self) -> int:
        """Number of weights."""
        total = 0
        for shape in self.shapes().values():
            size = 1
            for length in shape:
                size *= length
            total += size
        return total

    def flops(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Floating-point operations of the matrix products that answer one prompt.

        A multiply and an add count as two. Counted as they are spent: every layer reads the whole
        prompt (`p` tokens, each row of attention over all `p`), except that in the last layer
        only the last prompt token needs a query, an output and a feed-forward part; each further
        token reads the cache of keys and values; the vocabulary is scored once per token
        written. Normalisation, softmax and look-ups are left out, padding in a batch too.

        Parameters
        ----------
        prompt_tokens : int
            Prompt tokens p, at least 1, the mark that starts the answer included.
        completion_tokens : int
            Tokens written c, at least 1, the mark that ends the answer included.

        Returns
        -------
        int
            Operations.
        """
        p, c = prompt_tokens, completion_tokens
        if p < 1 or c < 1:
            raise InputError("tokens", "be at least 1", (p, c), "Count the marks as tokens too.")
        d, full = self.width, self.layers - 1
        rest = 18 * d * d  # out (2 d d), up (8 d d) and down (8 d d) of one token
        prompt = full * (p * (6 * d * d + rest) + 4 * d * p * p)
        last = p * 6 * d * d + 4 * d * p + rest
        # Token i of the c - 1 further ones attends to p + i cached positions, itself included.
        further = c - 1
        reach = further * p + further * (further + 1) // 2
        decode = self.layers * (further * (6 * d * d + rest) + 4 * d * reach)
        return prompt + last + decode + c * 2 * d * self.vocabulary
