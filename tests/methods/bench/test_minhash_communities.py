"""Near-duplicate prompts, test prompts that were learnt from, and communities."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.bench import minhash_communities as alike
from turnout.bench.prompt_files import read_prompts
from turnout.core import DataError, InputError
from turnout.parts.texts.shingles import jaccard, shingles

TOPICS = {
    "card": "replace lost bank card order new plastic number account",
    "rain": "weather forecast rain tomorrow sunny cloudy umbrella wind",
    "math": "add multiply subtract divide fraction integer equation solve",
}


def log(seed: int = 0, each: int = 30) -> tuple[list[str], list[str]]:
    """Prompts of five words of one topic each, and their topics, shuffled."""
    rng = np.random.default_rng(seed)
    rows = [
        (" ".join(rng.choice(words.split(), 5, replace=False)), topic)
        for topic, words in TOPICS.items()
        for _ in range(each)
    ]
    rng.shuffle(rows)
    return [text for text, _ in rows], [topic for _, topic in rows]


def made(texts: list[str], **more: object) -> alike.Index:
    return alike.index(texts, rng=np.random.default_rng(0), **more)  # type: ignore[arg-type]


def test_near_duplicates_by_hand() -> None:
    """Nine runs in common of ten are alike; seven of eleven are not at 0.8."""
    base = [f"w{chr(97 + i)}" for i in range(11)]
    texts = [
        " ".join(base),
        " ".join([*base, "more"]),
        " ".join([*base[:9], "x", "y"]),
        "something else entirely, with words of its own",
    ]
    found = alike.near_duplicates(made(texts))
    assert [group.tolist() for group in found.groups] == [[0, 1]]
    assert found.pairs.tolist() == [[0, 1]]
    assert found.similarity.tolist() == [0.9]
    assert found.share == 0.25
    wider = alike.near_duplicates(made(texts, similarity=0.5), similarity=0.5)
    assert [group.tolist() for group in wider.groups] == [[0, 1, 2]]


def test_every_pair_that_is_alike_is_found() -> None:
    """Against all pairs, exactly: none too many, and at most one in a hundred is missed."""
    rng = np.random.default_rng(1)
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    texts = []
    for _ in range(60):
        text = list(rng.choice(words, 30))
        for changes in range(5):
            copy = list(text)
            for place in rng.integers(0, 30, changes):
                copy[place] = "new" + str(rng.choice(words))
            texts.append(" ".join(copy))
    found = alike.near_duplicates(made(texts), similarity=0.8)
    every = np.array([(i, j) for i in range(300) for j in range(i + 1, 300)])
    exact = jaccard(shingles(texts), every)
    wanted = set(map(tuple, every[exact >= 0.8].tolist()))
    got = set(map(tuple, found.pairs.tolist()))
    assert got <= wanted
    assert len(got) >= 0.99 * len(wanted) > 50


def test_a_template_makes_nothing_alike() -> None:
    """Prompts that share a long preface and nothing else are told apart, unless it is kept."""
    preface = "you are a helpful assistant that answers in one short sentence without fuss "
    texts = [preface + text for text in log(each=10)[0]]
    assert alike.near_duplicates(made(texts, similarity=0.5), similarity=0.5).groups == ()
    kept = made(texts, similarity=0.5, common=None)
    assert len(alike.near_duplicates(kept, similarity=0.5).groups[0]) == 30


def test_prompts_that_are_all_the_same_are_still_found() -> None:
    """A prompt sent a hundred times is no template: runs are counted over different prompts."""
    texts = ["ping the server now please"] * 100 + ["nothing like it at all here"]
    found = alike.near_duplicates(made(texts))
    assert [len(group) for group in found.groups] == [100]


def test_what_was_learnt_from_is_found_in_what_is_judged_on() -> None:
    """The nearest training prompt of each, the lowest of equals; -1 where none is near."""
    train = made(
        [
            "how do I cook rice in a pot with a lid",
            "how do I cook rice in a pot with a lid!",
            "how do I cook rice in a pot with a lid",
            "what is the tallest mountain in the whole world",
        ]
    )
    row, similarity = alike.repeats(
        train, ["How do I cook rice in a pot with a lid", "unheard of before", ""]
    )
    assert row.tolist() == [0, -1, -1]
    assert similarity.tolist() == [1.0, 0.0, 0.0]


def test_communities_are_the_topics() -> None:
    """Every community is of one topic, nearly everyone is in one, and its words are the topic's."""
    texts, topics = log()
    found = alike.communities(texts, rng=np.random.default_rng(0), least=0.3)
    assert (found.label >= 0).mean() > 0.9
    for number, rows in enumerate(found.members):
        assert len({topics[row] for row in rows}) == 1
        assert (found.label[rows] == number).all()
        (words,) = alike.typical_words(texts, [rows])
        assert set(words) <= set(TOPICS[topics[rows[0]]].split())
    sizes = [len(rows) for rows in found.members]
    assert sizes == sorted(sizes, reverse=True)


def test_seeds_grow_their_own_community() -> None:
    """From two seeds of a topic the first twenty are of that topic; a walk agrees on most."""
    texts, topics = log()
    found = made(texts, size=1, bands=64)
    seeds = [i for i, topic in enumerate(topics) if topic == "rain"][:2]
    for rows, scores in (alike.grow(found, seeds, most=20), alike.page_rank(found, seeds)):
        assert not set(seeds) & set(rows.tolist())
        assert [topics[row] for row in rows[:20]] == ["rain"] * 20
        assert len(rows) == len(scores)
    assert len(alike.grow(found, seeds, least=0.99)[0]) == 0


def test_the_same_generator_finds_the_same() -> None:
    """Nothing is drawn from anywhere else."""
    texts, _ = log()
    one, two = (
        alike.communities(texts, rng=np.random.default_rng(4)).label.tolist() for _ in range(2)
    )
    assert one == two


def test_a_log_of_nothing() -> None:
    """No prompts, or none with a word, have no groups and no communities."""
    for texts in ([], ["", " "], ["one"]):
        assert alike.near_duplicates(made(texts)).groups == ()
        assert alike.communities(texts, rng=np.random.default_rng(0)).members == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: made(["a"], similarity=0.0), "similarity must be"),
        (lambda: made(["a"], k=0), "k must be a whole number >= 1"),
        (lambda: made(["a"], bands=7), "bands must divide the 128 hashes"),
        (lambda: made(["a"], common=2.0), "common must be"),
        (lambda: alike.grow(made(["a b"]), [1]), "seeds must be a whole number in"),
        (lambda: alike.grow(made(["a b"]), []), "seeds must hold at least one row"),
        (lambda: alike.page_rank(made(["a b"]), [0], beta=2.0), "beta must be"),
        (
            lambda: alike.communities(["a"], rng=np.random.default_rng(0), k=3),
            "k must be even",
        ),
        (
            lambda: alike.communities(["a"], rng=np.random.default_rng(0), smallest=1),
            "smallest must be",
        ),
    ],
)
def test_wrong_settings_are_refused(call: object, message: str) -> None:
    """Each is named."""
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]


def test_prompts_are_read_from_tables_and_exports(tmp_path: object) -> None:
    """The first column that holds prompts is taken; a long table gives each prompt once."""
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "wide.csv").write_text("prompt,small,large\nhello,1,0\nhello,0,1\n")
    assert read_prompts(folder / "wide.csv") == ("hello", "hello")
    (folder / "long.csv").write_text("prompt,model,quality\nhello,a,1\nhello,b,0\nbye,a,1\n")
    assert read_prompts(folder / "long.csv") == ("hello", "bye")
    (folder / "kept.jsonl").write_text(
        '{"id": "tn-1", "prompt": "hello", "model": "a"}\n'
        '{"id": "tn-2", "prompt": "hello", "model": "a"}\n'
    )
    assert read_prompts(folder / "kept.jsonl") == ("hello", "hello")
    (folder / "chat.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "hello"}, {"content": null}]}\n'
        '{"turns": ["first", "second"]}\n'
    )
    assert read_prompts(folder / "chat.jsonl") == ("hello\n", "")
    assert read_prompts(folder / "chat.jsonl", column="turns") == ("", "first\nsecond")
    with pytest.raises(InputError, match="column must be a column: messages, turns"):
        read_prompts(folder / "chat.jsonl", column="text")
    (folder / "none.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="have one of prompt, text"):
        read_prompts(folder / "none.csv")
