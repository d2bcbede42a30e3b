from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from turnout.core.errors import InputError
from turnout.lab import tokenizer
from turnout.lab.config import Config
from turnout.lab.model import LanguageModel
from turnout.lab.tasks import problems

TINY = Config(4, 2, 2, 10, prompt_limit=8, answer_limit=6)
SMALL = Config(24, 3, 3, tokenizer.VOCABULARY, prompt_limit=48, answer_limit=10)


def make(config: Config, seed: int = 0, name: str = "made") -> LanguageModel:
    """A model with random weights, loud enough that answers differ between prompts."""
    rng = np.random.default_rng(seed)
    weights = {
        key: rng.standard_normal(shape).astype(np.float32) * (0.4 if len(shape) == 2 else 1)
        for key, shape in config.shapes().items()
    }
    return LanguageModel(name, config, weights)


class Counting(np.ndarray):
    """An array that adds up the operations of the matrix products it takes part in."""

    spent = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(x) for x in inputs]
        if "out" in options:
            options["out"] = tuple(np.asarray(x) for x in options["out"])
        result = getattr(ufunc, method)(*plain, **options)
        if ufunc is np.matmul:
            Counting.spent += 2 * result.size * plain[0].shape[-1]
        return result.view(Counting)


def test_operations_are_the_hand_worked_number() -> None:
    """Width 4, two layers, ten tokens: 3 read and 2 written take 2,976 operations.

    First layer over 3 tokens: 3 * 24 * 16 + 4 * 4 * 9 = 1296. Last layer: keys, values and queries
    of 3 tokens, the rest of one, 288 + 48 + 288 = 624. One more token through both layers,
    reading 4 positions: 2 * (384 + 64) = 896. Vocabulary twice: 2 * 80 = 160.
    """
    assert TINY.flops(3, 2) == 1296 + 624 + 896 + 160 == 2976


@pytest.mark.parametrize("prompt", ["Add 2 and 3", "", "Spell qwertyuiop backwards."])
def test_operations_are_the_ones_really_spent(prompt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting every matrix product of an answer gives exactly what is charged for it."""
    model = make(SMALL)
    counted = {key: value.view(Counting) for key, value in model.weights.items()}
    object.__setattr__(model, "weights", counted)
    layers = tuple(
        type(layer)(*(counted[f"{i}.{part}"] for part in layer.__slots__))
        for i, layer in enumerate(model._layers)
    )
    object.__setattr__(model, "_layers", layers)
    object.__setattr__(model, "_unembed", model._unembed.view(Counting))
    monkeypatch.setattr(Counting, "spent", 0)
    (reply,) = model.generate([prompt], max_tokens=5)
    assert Counting.spent == reply.flops == model.flops(reply.prompt_tokens, 5)


def test_decoding_with_the_cache_equals_reading_everything_again() -> None:
    """Greedy tokens are the argmax of scores computed without any cache, step by step."""
    model = make(SMALL)
    for problem in problems(12, seed=0):
        ids = model.tokens(problem.prompt)
        written = model._answer([ids], 6)[0]
        full = np.array([ids + written[:-1]])
        scores = model.logits(full, np.array([len(ids)]), len(written))[0]
        assert scores.argmax(axis=-1).tolist() == written


def test_a_batch_answers_as_one_by_one() -> None:
    """Neither padding nor rows that end early change any answer, count or price."""
    model = make(SMALL)
    prompts = [p.prompt for p in problems(70, seed=1)]
    together = model.generate(prompts)
    assert len({reply.text for reply in together}) > 20
    for prompt, reply in zip(prompts, together, strict=True):
        (alone,) = model.generate([prompt])
        assert (alone.text, alone.prompt_tokens, alone.completion_tokens, alone.flops) == (
            reply.text,
            reply.prompt_tokens,
            reply.completion_tokens,
            reply.flops,
        )


def test_streaming_writes_what_generating_writes() -> None:
    """Pieces join to the answer, for a full answer and for one cut short."""
    model = make(SMALL)
    for problem in problems(12, seed=2):
        for limit in (None, 1, 3):
            (reply,) = model.generate([problem.prompt], max_tokens=limit)
            assert "".join(model.stream(problem.prompt, max_tokens=limit)) == reply.text


def test_progress_adds_up_and_order_is_kept() -> None:
    """Every prompt is reported once; answers come in the order asked."""
    model = make(SMALL)
    prompts = [p.prompt for p in problems(300, seed=4)]
    seen: list[int] = []
    replies = model.generate(prompts, max_tokens=2, progress=seen.append)
    assert sum(seen) == 300
    assert len(seen) > 1
    assert [r.prompt_tokens for r in replies] == [len(model.tokens(p)) for p in prompts]
    assert all(r.seconds > 0 for r in replies)


def test_no_prompts_no_replies() -> None:
    """An empty batch is answered by an empty list."""
    assert make(SMALL).generate([]) == []


def test_the_numpy_model_equals_the_torch_network() -> None:
    """Scores agree to 1e-4 over rows of unlike length, padded left here and right there."""
    torch = pytest.importorskip("torch")
    from turnout.lab import network

    model = make(SMALL)
    weights = {key: torch.from_numpy(value) for key, value in model.weights.items()}
    rows = []
    for problem in problems(24, seed=5):
        answer = [*tokenizer.encode(problem.answer), tokenizer.END][:4]
        rows.append((model.tokens(problem.prompt), answer + [7] * (4 - len(answer))))
    left = max(len(question) for question, _ in rows)
    size = left + 3
    lengths = np.array([len(question) for question, _ in rows])
    ours = np.full((len(rows), size), tokenizer.PAD)
    theirs = np.full((len(rows), size), tokenizer.PAD)
    scored: list[int] = []
    for i, (question, answer) in enumerate(rows):
        ours[i, left - len(question) :] = question + answer[:-1]
        theirs[i, : len(question) + 3] = question + answer[:-1]
        scored.extend(range(i * size + len(question) - 1, i * size + len(question) + 3))
    expected = network.forward(
        weights, SMALL, torch.from_numpy(theirs), torch.from_numpy(lengths), torch.tensor(scored)
    )
    found = model.logits(ours, lengths, 4)
    np.testing.assert_allclose(np.concatenate(found), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("call", ["generate", "stream", "tokens"])
def test_a_prompt_beyond_the_context_is_refused_with_the_limit(call: str) -> None:
    """The error says how many tokens fit; the longest prompt that fits is answered."""
    model = make(SMALL)
    model.generate(["x" * 47], max_tokens=1)
    prompt: Any = "x" * 48
    with pytest.raises(InputError, match="prompt must be at most 47 tokens for model made; got 48"):
        getattr(model, call)([prompt] if call == "generate" else prompt)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_a_bad_token_limit_is_refused(limit: Any) -> None:
    """`max_tokens` must be a positive integer."""
    with pytest.raises(InputError, match=r"^max_tokens must"):
        make(SMALL).generate(["x"], max_tokens=limit)


def test_weights_are_checked() -> None:
    """Missing arrays, wrong shapes and numbers that are none are named."""
    weights: dict[str, Any] = dict(make(TINY).weights)
    with pytest.raises(InputError, match=r"^weights must"):
        LanguageModel("x", TINY, {k: v for k, v in weights.items() if k != "norm"})
    with pytest.raises(InputError, match=r"^weights\['norm'\] must have shape"):
        LanguageModel("x", TINY, weights | {"norm": np.ones(5)})
    with pytest.raises(InputError, match=r"^weights\['norm'\] must be finite"):
        LanguageModel("x", TINY, weights | {"norm": np.full(4, np.nan)})


@pytest.mark.parametrize(
    ("change", "field"),
    [({"width": 0}, "width"), ({"layers": 1.5}, "layers"), ({"heads": 3}, "heads")],
)
def test_a_bad_config_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    """The error names the field."""
    with pytest.raises(InputError, match=f"^{field} must"):
        Config(**({"width": 4, "layers": 1, "heads": 2, "vocabulary": 9} | change))


def test_counting_no_tokens_is_refused() -> None:
    """There is always a mark to read and one to write."""
    with pytest.raises(InputError, match=r"^tokens must"):
        TINY.flops(0, 1)
