"""From a question with its context to the arrays of its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.nn.graph.agents import Asked
from turnout.parts.entities import KINDS, Facts, read
from turnout.parts.texts.encoder import Encoder, fit_encoder

__all__ = ["QuestionReader", "fit_reader"]


@dataclass(frozen=True, eq=False)
class QuestionReader:
    """Reads entities and relations and turns them into vectors.

    Parameters
    ----------
    encoder : Encoder
        Of questions and of the names of entities.
    relations : tuple of str
        Told apart; others count as one more. None of them: no edges between entities.
    most : int
        Most entities of a question.
    """

    encoder: Encoder
    relations: tuple[str, ...]
    most: int

    @property
    def edges(self) -> int:
        """Relations between entities, the rare ones as one."""
        return len(self.relations) + 1 if self.relations else 0

    @property
    def entity(self) -> int:
        """Length of an entity's features: its name's vector and its kind."""
        return self.encoder.d + len(KINDS)

    def asked(self, item: str) -> Asked:
        """The graph of one question with its context."""
        facts = read(item, most=self.most)
        kinds = np.eye(len(KINDS), dtype=np.float32)[np.array(facts.kinds, dtype=np.int64)]
        number = {words: place for place, words in enumerate(self.relations)}
        links = facts.links if self.relations else ()
        edges = [(one, two, number.get(words, len(number))) for one, words, two in links]
        source, target, relation = np.array(edges, dtype=np.int64).reshape(-1, 3).T
        names = self.encoder.encode(facts.entities) if facts.entities else kinds[:, :0]
        return Asked(
            question=self.encoder.encode([facts.question])[0],
            entities=np.hstack((names.reshape(len(kinds), self.encoder.d), kinds)),
            mentioned=facts.asked,
            source=source,
            target=target,
            relation=relation,
        )


def fit_reader(
    items: Sequence[str], *, encoder: str, d: int, relations: int, most: int, rng: Generator
) -> QuestionReader:
    """A reader that knows the words and the most frequent relations of some questions.

    Parameters
    ----------
    items : sequence of str
    encoder, d
        As of `turnout.parts.texts.encoder.fit_encoder`.
    relations, most : int
        Most relations told apart, and most entities of a question.
    rng : Generator
    """
    facts = [read(item, most=most) for item in items]
    told = [each for one in facts for each in (one.question, *one.entities)]
    fitted = fit_encoder(encoder, told, d=d, rng=rng)
    return QuestionReader(fitted, _common(facts, relations), most)


def _common(facts: Sequence[Facts], most: int) -> tuple[str, ...]:
    """The relations in most questions, ties by their words."""
    count = Counter(words for one in facts for words in {link[1] for link in one.links})
    return tuple(sorted(count, key=lambda words: (-count[words], words))[:most])
