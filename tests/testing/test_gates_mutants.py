"""The contract of gates is itself tested: gates broken on purpose, each caught by its check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

from turnout.core import Card, InputError
from turnout.nn import dispatch
from turnout.nn.gates import (
    Bias,
    Capacity,
    Decision,
    Equal,
    Gate,
    LinearScorer,
    NoScorer,
    Plain,
    RouteContext,
    Scores,
    Slots,
    Softmax,
    TopK,
    Uniform,
)
from turnout.testing import ContractError
from turnout.testing.gates import CHECKS, GateCase, GateSubject, check, checks_for, run_check

CARD = Card(
    name="tests.plain",
    system="Plain",
    title="A gate made for the tests of the contract",
    authors="Nobody",
    year=2026,
    id="none",
    routes="tokens to planted experts",
    kind="score",
    recipe="Recipe",
    signal=("gradient",),
    covers=(),
    differs=(),
    properties=(
        "causal_safe",
        "per_sequence",
        "per_item",
        "equivariant",
        "reads_states",
        "fixed_k",
        "learns",
    ),
)


def correct(d: int, e: int, generator: torch.Generator) -> Gate:
    """Softmax, the best two, as they are: right in every way."""
    scorer = LinearScorer(d, e, generator=generator)
    return Gate(scorer, TopK(2), Plain(), e=e, processors=[Softmax()])


@dataclass(frozen=True)
class Recipe:
    """Builds whatever it is given; k is what its gates choose."""

    make: Callable[[int, int, torch.Generator], nn.Module] = correct
    k: int = 2

    def build(self, d: int, e: int, *, generator: torch.Generator) -> nn.Module:
        return self.make(d, e, generator)


class Wrapped(nn.Module):
    """A gate that is right, and what a mutant does to its decision."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.e = inner.e
        self.causal_safe = True
        self.batch_coupled = False
        self.needs: frozenset[str] = frozenset()

    def forward(self, x: torch.Tensor, context: RouteContext) -> Decision:
        return self.after(self.inner(self.before(x, context), context), x, context)

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        return x

    def after(self, decision: Decision, x: torch.Tensor, context: RouteContext) -> Decision:
        return decision


def wrapped(kind: type[Wrapped]) -> Callable[[int, int, torch.Generator], nn.Module]:
    return lambda d, e, generator: kind(correct(d, e, generator))


class Twice(Wrapped):
    """Names its first expert twice."""

    def after(self, decision: Decision, x: torch.Tensor, context: RouteContext) -> Decision:
        return replace(decision, experts=decision.experts[:, :1].expand_as(decision.experts))


class Outside(Wrapped):
    """Writes -1 for none, as traces do."""

    def after(self, decision: Decision, x: torch.Tensor, context: RouteContext) -> Decision:
        experts = decision.experts.clone()
        experts[1::7, 1] = -1
        return replace(decision, experts=experts)


class Stray(Wrapped):
    """Leaves the weight of a slot that it empties."""

    def after(self, decision: Decision, x: torch.Tensor, context: RouteContext) -> Decision:
        experts = decision.experts.clone()
        experts[:, 1] = self.e
        return replace(decision, experts=experts)


class NotANumber(Wrapped):
    """Divides a weight of zero by zero."""

    def after(self, decision: Decision, x: torch.Tensor, context: RouteContext) -> Decision:
        weights = decision.weights - decision.weights[:, 1:]
        return replace(decision, weights=weights / weights)


class Peeks(Wrapped):
    """Reads the mean of the whole sequence, later tokens included."""

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        return x + x.mean(dim=0) if len(x) else x


class Jumps(Wrapped):
    """Reads the token that follows."""

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        return x.roll(-1, dims=0)


class Unmasked(Wrapped):
    """Forgets the mask."""

    def forward(self, x: torch.Tensor, context: RouteContext) -> Decision:
        return self.inner(x, replace(context, mask=None))


class Swallows(Wrapped):
    """Routes NaN as if it were nothing."""

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        return x.nan_to_num()


class Flattens(Wrapped):
    """Takes any shape."""

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        return x.reshape(-1, x.shape[-1])


class Detached(Wrapped):
    """Weights that no gradient goes through."""

    def after(self, decision: Decision, x: torch.Tensor, context: RouteContext) -> Decision:
        return replace(decision, weights=decision.weights.detach() + 0.0 * x.sum())


class GlobalNoise(Wrapped):
    """Draws its noise from the global generator."""

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        return x + 0.1 * torch.randn_like(x)


class Writes(Wrapped):
    """Normalises the hidden states in place."""

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        x.div_(x.norm(dim=1, keepdim=True).clamp(min=1e-6))
        return x


class Remembers(Wrapped):
    """Takes the mean of the batch before away."""

    seen: torch.Tensor | float = 0.0

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        last, self.seen = self.seen, x.mean(dim=0).detach() if len(x) else 0.0
        return x - last


class Balances(Wrapped):
    """Moves its own bias at every call."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.register_buffer("bias", torch.zeros(inner.e))

    def after(self, decision: Decision, x: torch.Tensor, context: RouteContext) -> Decision:
        self.bias -= 0.001 * decision.load()
        return decision


class Loses(Wrapped):
    """Keeps a table that its state does not hold."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.offset = inner.scorer.weight.detach()[:, :1].clone()

    def before(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        return x + self.offset.mean()


class Unpickled(Wrapped):
    """Holds a function that cannot be pickled."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.act = lambda value: value


class Crowds(Wrapped):
    """Leaves out the second expert of every token but the first few."""

    def after(self, decision: Decision, x: torch.Tensor, context: RouteContext) -> Decision:
        drop = torch.zeros_like(decision.chosen)
        drop[3:, 1] = True
        return replace(decision.without(drop), dropped=None)


class LastTie(nn.Module):
    """A selector that breaks ties by the highest number."""

    causal_safe, batch_coupled, needs = True, False, frozenset()

    def forward(self, scores: Scores, context: RouteContext) -> torch.Tensor:
        order = scores.choice.flip(1).sort(dim=1, descending=True, stable=True).indices
        return scores.columns - 1 - order[:, :2]


def last_tie(d: int, e: int, generator: torch.Generator) -> nn.Module:
    gate = correct(d, e, generator)
    selector = TopK(2)
    selector.forward = LastTie().forward
    gate.selector = selector
    return gate


class LeakyBias(Bias):
    """A balance bias that weighs as well."""

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        moved = super().forward(scores, x, context)
        return replace(moved, value=moved.choice)


class DeafBias(Bias):
    """A balance bias that nothing reads."""

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        return scores


def biased(kind: type[Bias]) -> Callable[[int, int, torch.Generator], nn.Module]:
    def build(d: int, e: int, generator: torch.Generator) -> nn.Module:
        scorer = LinearScorer(d, e, generator=generator)
        return Gate(scorer, TopK(2), Plain(), e=e, processors=[Softmax(), kind(e)])

    return build


def favours_expert_0(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """Adds one to the score of expert 0, whoever it is."""

    class Favours(LinearScorer):
        def forward(self, x: torch.Tensor, context: RouteContext) -> Scores:
            logits = super().forward(x, context).logits
            return Scores.raw(logits + torch.eye(e)[0], e)

    scorer = Favours(d, e, generator=generator)
    return Gate(scorer, TopK(2), Plain(), e=e, processors=[Softmax()])


def unguarded(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """Scores in whatever precision autocast likes."""

    class Unguarded(LinearScorer):
        def forward(self, x: torch.Tensor, context: RouteContext) -> Scores:
            return Scores.raw(nn.functional.linear(x.float(), self.weight).float(), e)

    scorer = Unguarded(d, e, generator=generator)
    return Gate(scorer, TopK(2), Plain(), e=e, processors=[Softmax()])


def half(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """Scores in float16."""

    class Half(LinearScorer):
        def forward(self, x: torch.Tensor, context: RouteContext) -> Scores:
            return Scores.raw(super().forward(x, context).logits.half(), e)

    scorer = Half(d, e, generator=generator)
    return Gate(scorer, TopK(2), Plain(), e=e, processors=[Softmax()])


def global_start(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """Draws its first weights from the global generator."""
    return Gate(LinearScorer(d, e), TopK(2), Plain(), e=e, processors=[Softmax()])


def silent_k(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """Takes as many experts as there are where k is too large."""
    scorer = LinearScorer(d, e, generator=generator)
    return Gate(scorer, TopK(min(2, e)), Plain(), e=e, processors=[Softmax()])


def frozen(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """Rows that never learn."""
    scorer = LinearScorer(d, e, trainable=False, generator=generator)
    return Gate(scorer, TopK(2), Plain(), e=e, processors=[Softmax()])


def unused(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """A parameter that nothing reads."""
    gate = correct(d, e, generator)
    gate.extra = nn.Parameter(torch.zeros(3))
    return gate


def by_chance(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """Draws the experts and weighs them alike."""
    return Gate(NoScorer(e), Uniform(2), Equal(), e=e)


def crowded(d: int, e: int, generator: torch.Generator) -> nn.Module:
    """Drops tokens, and says it does not look at the batch."""
    limit = Capacity(1.0)
    limit.batch_coupled = False
    scorer = LinearScorer(d, e, generator=generator)
    return Gate(scorer, TopK(2), Plain(), e=e, processors=[Softmax()], limits=[limit])


#: What is broken, and the check that must say so.
MUTANTS: list[tuple[Callable[[int, int, torch.Generator], nn.Module], str]] = [
    (wrapped(Twice), "decision_valid"),
    (wrapped(Outside), "decision_valid"),
    (wrapped(Stray), "decision_valid"),
    (wrapped(NotANumber), "decision_valid"),
    (silent_k, "one_expert"),
    (wrapped(Flattens), "wrong_shape_refused"),
    (unguarded, "full_precision_kept"),
    (half, "full_precision_kept"),
    (half, "decision_valid"),
    (wrapped(Swallows), "non_finite_refused"),
    (last_tie, "ties_to_lowest"),
    (favours_expert_0, "experts_relabelled"),
    (global_start, "same_generator_same_route"),
    (global_start, "global_rng_untouched"),
    (wrapped(GlobalNoise), "global_rng_untouched"),
    (wrapped(GlobalNoise), "decide_is_pure"),
    (wrapped(Remembers), "decide_is_pure"),
    (wrapped(Writes), "inputs_not_mutated"),
    (wrapped(Unpickled), "pickle_round_trip"),
    (wrapped(Loses), "state_dict_round_trip"),
    (wrapped(Balances), "forward_moves_no_state"),
    (wrapped(Unmasked), "masked_go_nowhere"),
    (wrapped(Unmasked), "all_masked"),
    (wrapped(Peeks), "masked_change_nothing"),
    (wrapped(Peeks), "padding_is_absent"),
    (wrapped(Peeks), "causal_true"),
    (wrapped(Jumps), "causal_true"),
    (wrapped(Peeks), "per_sequence"),
    (crowded, "per_sequence"),
    (crowded, "per_item"),
    (crowded, "equivariant"),
    (wrapped(Jumps), "equivariant"),
    (wrapped(Crowds), "fixed_k"),
    (frozen, "gradients_as_said"),
    (unused, "gradients_as_said"),
    (wrapped(Detached), "gradients_as_said"),
    (by_chance, "gains_on_planted"),
]

#: Mutants of gates that claim something else; the check, and what the card claims.
OTHER: list[tuple[Callable[[int, int, torch.Generator], nn.Module], str, tuple[str, ...]]] = [
    (correct, "room_kept", ("room",)),
    (correct, "even_load", ("even",)),
    (correct, "continuous", ("continuous",)),
    (correct, "causal_enforced", ()),
    (correct, "promises_agree", ()),
    (crowded, "promises_agree", ("causal_safe",)),
    (biased(LeakyBias), "bias_moves_choice_alone", ("biased_choice",)),
    (biased(DeafBias), "bias_moves_choice_alone", ("biased_choice",)),
]


#: Exemption of a gate whose rows are random for good; its experts still learn from it.
FROZEN = {"gradients_as_said": "its rows are frozen"}


def by_name(name: str) -> Any:
    return next(item for item in CHECKS if item.name == name)


def label(value: object) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", "")


def test_a_gate_that_is_right_passes() -> None:
    """Nothing is found where nothing is wrong, and every check the card implies was run."""
    report = check(GateCase(Recipe()), card=CARD)
    assert {result.status for result in report.results} == {"passed"}
    assert len(report.results) == len(checks_for(CARD))


@pytest.mark.parametrize(("make", "name"), MUTANTS, ids=label)
def test_a_broken_gate_is_caught(make: Any, name: str) -> None:
    """The named check fails for the reason it states, not by an error of its own."""
    result = run_check(GateSubject(GateCase(Recipe(make)), CARD), by_name(name))
    assert result.status == "failed", f"{name} passed"
    assert not result.message.startswith("it raised"), result.message


@pytest.mark.parametrize(("make", "name", "claims"), OTHER, ids=label)
def test_a_false_claim_is_caught(make: Any, name: str, claims: tuple[str, ...]) -> None:
    """A card that claims what its gate does not keep is found out."""
    card = replace(CARD, properties=claims)
    result = run_check(GateSubject(GateCase(Recipe(make)), card), by_name(name))
    assert result.status == "failed"
    assert not result.message.startswith("it raised"), result.message


def test_an_honest_bias_is_let_through() -> None:
    """The part of the house passes where the two broken ones fail."""
    card = replace(CARD, properties=("biased_choice",))
    subject = GateSubject(GateCase(Recipe(biased(Bias))), card)
    assert run_check(subject, by_name("bias_moves_choice_alone")).status == "passed"


class Padded(nn.Module):
    """A soft gate that lets padding into its slots."""

    causal_safe, batch_coupled, needs = False, False, frozenset()

    def __init__(self, d: int, e: int, generator: torch.Generator) -> None:
        super().__init__()
        self.e = e
        self.phi = nn.Parameter(torch.randn(e, d, generator=generator))

    def forward(self, x: torch.Tensor, context: RouteContext) -> Slots:
        logits = (x.float() @ self.phi.t()).reshape(1, len(x), self.e, 1)
        dispatch, combine = logits.softmax(dim=1), logits.softmax(dim=2)
        if context.mask is not None:
            combine = combine * context.mask.reshape(1, -1, 1, 1)
        return Slots(dispatch=dispatch, combine=combine, logits=logits, mask=context.mask)


@pytest.mark.parametrize("name", ["masked_go_nowhere", "padding_is_absent", "non_finite_refused"])
def test_a_broken_soft_gate_is_caught(name: str) -> None:
    """Slots are held to the same rules as decisions."""
    card = replace(CARD, properties=("reads_states",))
    result = run_check(GateSubject(GateCase(Recipe(Padded, k=1)), card), by_name(name))
    assert result.status == "failed"
    assert not result.message.startswith("it raised"), result.message


def test_a_dispatch_that_differs_from_the_loop_is_caught(monkeypatch: Any) -> None:
    """One answer off by a hundredth is enough."""
    exact = dispatch.run

    def wrong(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return 1.01 * exact(x, *args, **kwargs)

    monkeypatch.setattr(dispatch, "run", wrong)
    result = run_check(GateSubject(GateCase(Recipe()), CARD), by_name("naive_is_fast"))
    assert result.status == "failed"
    assert "must equal the loop" in result.message


def test_every_check_is_known_to_fail() -> None:
    """Each check of the contract has a mutant that it catches, or says why it has none."""
    caught = {name for _, name in MUTANTS} | {name for _, name, _ in OTHER}
    caught |= {"naive_is_fast", "masked_go_nowhere", "padding_is_absent", "non_finite_refused"}
    assert {item.name for item in CHECKS} - caught == {"no_tokens", "no_gain_on_noise"}


def test_exemptions_are_strict_and_named() -> None:
    """An exemption needs a reason, must name a check, and is an error once the check passes."""
    with pytest.raises(InputError, match="give a reason"):
        GateCase(Recipe(), xfail={"fixed_k": " "})
    with pytest.raises(InputError, match=r"case\.xfail must name a check"):
        check(GateCase(Recipe(), xfail={"fixed_q": "no"}), card=CARD)
    with pytest.raises(ContractError, match="stale exemption"):
        check(GateCase(Recipe(), xfail={"fixed_k": "it drops"}), card=CARD)
    exempt = check(GateCase(Recipe(frozen), xfail=FROZEN), card=CARD)
    assert {r.check for r in exempt.results if r.status == "exempt"} == set(FROZEN)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": Recipe}, "case.recipe must be a recipe with a method build"),
        ({"d": 8}, "case.d must differ from case.e"),
        ({"e": 2}, "case.e must be a whole number >= 4"),
        ({"vocabulary": 0}, "case.vocabulary must be a whole number >= 1"),
        ({"capacity": -1.0}, "case.capacity must be a finite number >= 0"),
    ],
)
def test_wrong_cases_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        GateCase(**{"recipe": Recipe()} | fields)


def test_all_failures_are_listed() -> None:
    """The error names the method and every check it breaks."""
    with pytest.raises(ContractError, match=r"tests\.plain \(Recipe\) breaks") as caught:
        check(GateCase(Recipe(wrapped(Peeks))), card=CARD)
    for name in ("causal_true", "per_sequence", "per_item", "masked_change_nothing"):
        assert name in str(caught.value)
