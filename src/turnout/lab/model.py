"""Inference of the laboratory's decoder in plain numpy: batched, greedy, with a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from turnout.core.errors import InputError
from turnout.lab import tokenizer
from turnout.lab.config import Config

__all__ = ["LanguageModel", "Reply"]

Array = NDArray[np.float32]
_MASKED = np.float32(-1e4)
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model wrote and what that took.

    Parameters
    ----------
    text : str
        The answer.
    prompt_tokens, completion_tokens : int
        Tokens read and written, marks included.
    flops : int
        Operations spent, see `Config.flops`.
    seconds : float
        This prompt's part of its batch's wall time, by operations.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    flops: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Layer:
    norm1: Array
    qkv: Array
    out: Array
    norm2: Array
    up: Array
    down: Array


def _normed(x: Array, scale: Array) -> Array:
    """Layer normalisation without a bias, epsilon 1e-5 as in torch."""
    x = x - x.mean(axis=-1, keepdims=True)
    variance = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    x /= np.sqrt(variance + np.float32(1e-5))
    x *= scale
    return x


class _Cache:
    """Keys and values of a batch, allocated once for the longest answer."""

    def __init__(self, config: Config, rows: int, length: int) -> None:
        d, h = config.width, config.heads
        shape = (config.layers, rows, h, length, d // h)
        self.keys = np.empty(shape, np.float32)
        self.values = np.empty(shape, np.float32)
        self.used = 0

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Drop all rows but these."""
        self.keys = self.keys[:, rows]
        self.values = self.values[:, rows]


@dataclass(frozen=True)
class LanguageModel:
    """A tiny decoder language model that reads a request and writes an answer.

    Parameters
    ----------
    name : str
        Name in the pool.
    config : Config
        Shape.
    weights : mapping of str to array
        As `Config.shapes` names them; kept as float32.
    """

    name: str
    config: Config
    weights: Mapping[str, Array]
    _layers: tuple[_Layer, ...] = field(init=False, repr=False, compare=False)
    _unembed: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shapes = self.config.shapes()
        if set(self.weights) != set(shapes):
            odd = sorted(set(self.weights) ^ set(shapes))
            raise InputError(
                "weights", "hold the config's arrays", odd, "Use weights and config of one file."
            )
        kept: dict[str, Array] = {}
        for name, shape in shapes.items():
            array = np.ascontiguousarray(self.weights[name], dtype=np.float32)
            if array.shape != shape:
                raise InputError(
                    f"weights[{name!r}]", f"have shape {shape}", array.shape, "Match the config."
                )
            if not np.isfinite(array).all():
                raise InputError(f"weights[{name!r}]", "be finite", "NaN or inf", "Train again.")
            kept[name] = array
        object.__setattr__(self, "weights", kept)
        parts = ("norm1", "qkv", "out", "norm2", "up", "down")
        layers = (
            _Layer(*(kept[f"{i}.{part}"] for part in parts)) for i in range(self.config.layers)
        )
        object.__setattr__(self, "_layers", tuple(layers))
        object.__setattr__(self, "_unembed", np.ascontiguousarray(kept["tokens"].T))

    def flops(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Operations to read and write so many tokens, see `Config.flops`."""
        return self.config.flops(prompt_tokens, completion_tokens)

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt with the mark that starts the answer.

        Raises
        ------
        InputError
            If there are more than the model can read.
        """
        ids = [*tokenizer.encode(prompt), tokenizer.ASK]
        limit = self.config.prompt_limit
        if len(ids) > limit:
            raise InputError(
                "prompt",
                f"be at most {limit - 1} tokens for model {self.name}",
                len(ids) - 1,
                "Shorten the prompt.",
            )
        return ids

    def logits(self, ids: NDArray[np.int64], lengths: NDArray[np.int64], answer: int) -> Array:
        """Scores of the next token at the answer's positions, without a cache.

        Parameters and shapes are those of `turnout.lab.network.forward`, its twin in torch; this
        is the reference that decoding with the cache is tested against.
        """
        scores = []
        total = ids.shape[1]
        prompt = total - answer + 1
        for stop in range(prompt, total + 1):
            cache = _Cache(self.config, len(ids), stop)
            scores.append(self._step(ids[:, :stop], cache, prompt - lengths, prompt))
        return np.stack(scores, axis=1)

    def _step(
        self, ids: NDArray[np.int64], cache: _Cache, padding: NDArray[np.int64], prompt: int
    ) -> Array:
        """Read `ids` (n, t) after what the cache holds; score (n, vocabulary) what comes next."""
        config = self.config
        n, t = ids.shape
        h, size = config.heads, config.width // config.heads
        begin, end = cache.used, cache.used + t
        cache.used = end
        place = config.prompt_limit - prompt + begin
        x = self.weights["tokens"][ids]
        x += self.weights["positions"][place : place + t]
        mask: Array | None = None
        if t > 1 or padding.any():
            mask = np.where(np.arange(end) < padding[:, None], _MASKED, np.float32(0))[
                :, None, None, :
            ]
            if t > 1:
                rows = np.arange(begin, end)[:, None]
                mask = mask + np.where(np.arange(end) > rows, _MASKED, np.float32(0))
        scale = np.float32(size**-0.5)
        for i, layer in enumerate(self._layers):
            y = _normed(x, layer.norm1)
            qkv = (y.reshape(n * t, -1) @ layer.qkv).reshape(n, t, 3, h, size)
            cache.keys[i, :, :, begin:end] = qkv[:, :, 1].transpose(0, 2, 1, 3)
            cache.values[i, :, :, begin:end] = qkv[:, :, 2].transpose(0, 2, 1, 3)
            q = qkv[:, :, 0]
            if i == config.layers - 1 and t > 1:
                # What the earlier prompt tokens would write in the last layer, nobody reads.
                x, q, t = x[:, -1:], q[:, -1:], 1
                mask = None if mask is None else mask[:, :, -1:]
            keys = cache.keys[i, :, :, :end].transpose(0, 1, 3, 2)
            attention: Array = np.matmul(q.transpose(0, 2, 1, 3), keys)
            attention *= scale
            if mask is not None:
                attention += mask
            attention -= attention.max(axis=-1, keepdims=True)
            np.exp(attention, out=attention)
            attention /= attention.sum(axis=-1, keepdims=True)
            mixed = np.matmul(attention, cache.values[i, :, :, :end]).transpose(0, 2, 1, 3)
            x = x + (mixed.reshape(n * t, -1) @ layer.out).reshape(n, t, -1)
            y = _normed(x, layer.norm2).reshape(n * t, -1) @ layer.up
            np.maximum(y, 0, out=y)
            y *= y
            x += (y @ layer.down).reshape(n, t, -1)
        return np.asarray(_normed(x[:, -1], self.weights["norm"]) @ self._unembed)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Reply]:
        """Answer prompts greedily.

        Parameters
        ----------
        prompts : sequence of str
            Requests; those of similar length are answered in one batch.
        max_tokens : int, optional
            Most tokens written per answer, the mark that ends it included; the model's limit by
            default.
        progress : callable, optional
            Called after every batch with the number of prompts just answered.

        Returns
        -------
        list of Reply
            In the order of `prompts`.

        Raises
        ------
        InputError
            If a prompt is too long for the model or `max_tokens` is beyond its limit.
        """
        limit = self._limit(max_tokens)
        ids = [self.tokens(prompt) for prompt in prompts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        replies: list[Reply | None] = [None] * len(ids)
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            begin = perf_counter()
            written = self._answer([ids[i] for i in chosen], limit)
            seconds = perf_counter() - begin
            spent = [
                self.flops(len(ids[i]), len(out)) for i, out in zip(chosen, written, strict=True)
            ]
            total = sum(spent)
            for i, out, flops in zip(chosen, written, spent, strict=True):
                share = seconds * flops / total
                replies[i] = Reply(tokenizer.decode(out), len(ids[i]), len(out), flops, share)
            if progress is not None:
                progress(len(chosen))
        return [reply for reply in replies if reply is not None]

    def _limit(self, max_tokens: int | None) -> int:
        limit = self.config.answer_limit
        if max_tokens is None:
            return limit
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise InputError(
                "max_tokens", "be a positive integer", max_tokens, "Ask for 1 or more."
            )
        return min(max_tokens, limit)

    def _answer(self, ids: list[list[int]], limit: int) -> list[list[int]]:
        """Tokens written for each prompt, the end mark included where it was reached."""
        lengths = np.array([len(row) for row in ids])
        prompt = int(lengths.max())
        padded = np.full((len(ids), prompt), tokenizer.PAD, np.int64)
        for row, values in zip(padded, ids, strict=True):
            row[prompt - len(values) :] = values
        padding = prompt - lengths
        cache = _Cache(self.config, len(ids), prompt + limit)
        written = np.full((len(ids), limit), tokenizer.END, np.int64)
        counts = np.full(len(ids), limit)
        alive = np.arange(len(ids))  # which prompt each row of the cache answers
        token = padded
        for i in range(limit):
            best = self._step(token, cache, padding, prompt).argmax(axis=-1)
            written[alive, i] = best
            ended = best == tokenizer.END
            counts[alive[ended]] = i + 1
            if ended.any():
                going = np.flatnonzero(~ended)
                if not going.size:
                    break
                cache.keep(going)
                alive, padding, best = alive[going], padding[going], best[going]
            token = best[:, None]
        return [row[:count].tolist() for row, count in zip(written, counts, strict=True)]

    def stream(self, prompt: str, *, max_tokens: int | None = None) -> Iterator[str]:
        """Answer one prompt piece by piece; the pieces join to what `generate` writes."""
        return tokenizer.pieces(self.write(prompt, max_tokens=max_tokens))

    def write(self, prompt: str, *, max_tokens: int | None = None) -> Iterator[int]:
        """Token ids of the answer to one prompt as they are chosen, the end mark included.

        As many as `generate` counts; `tokenizer.pieces` makes text of them.
        """
        return self._written(self.tokens(prompt), self._limit(max_tokens))

    def _written(self, ids: list[int], limit: int) -> Iterator[int]:
        cache = _Cache(self.config, 1, len(ids) + limit)
        padding = np.zeros(1, np.int64)
        token = np.array([ids])
        for _ in range(limit):
            best = int(self._step(token, cache, padding, len(ids))[0].argmax())
            yield best
            if best == tokenizer.END:
                return
            token = np.array([[best]])
