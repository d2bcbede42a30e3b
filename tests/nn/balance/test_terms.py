"""Loss terms by name and layer; a loss on an activation."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from turnout.core import InputError
from turnout.nn.balance import Losses, attach, switch_loss, z_loss
from turnout.nn.gates import Decision, RouteContext, RouteLog, Slots


def _collapsed(pair: int, e: int = 8, *, t: int = 4) -> Decision:
    """Every token surely on experts 2 pair and 2 pair + 1."""
    experts = torch.tensor([[2 * pair, 2 * pair + 1]]).expand(t, 2).contiguous()
    logits = torch.zeros(t, e).scatter(1, experts, 40.0).requires_grad_()
    return Decision(experts=experts, weights=torch.full((t, 2), 0.5), e=e, logits=logits)


def _log(*decisions: Decision | Slots) -> RouteLog:
    log = RouteLog()
    for layer, decision in enumerate(decisions):
        log.add(decision, RouteContext(layer=layer))
    return log


def test_eight_collapsed_layers() -> None:
    """Each layer is judged by itself: mean 4 = e / k, sum 32, whichever pairs they collapse to."""
    log = _log(*(_collapsed(n % 4) for n in range(8)))
    mean = Losses({"switch": (switch_loss, 1.0)})(log)
    assert mean.total.item() == pytest.approx(4.0)
    summed = Losses({"switch": (switch_loss, 1.0)}, over="sum")(log)
    assert summed.total.item() == pytest.approx(32.0)
    assert [value.item() for value in mean.terms["switch"].values()] == pytest.approx([4.0] * 8)


def test_terms_are_told_apart() -> None:
    """Every term comes by name and layer, unweighted; the total is weighted."""
    losses = Losses({"switch": (switch_loss, 0.5), "z": (z_loss, 0.25)})
    values = losses(_log(_collapsed(0), _collapsed(1)))
    told = values.floats()
    z = (40.0 + torch.tensor(2.0).log().item()) ** 2
    assert told["switch/0"] == told["switch"] == pytest.approx(4.0)
    assert told["z/1"] == pytest.approx(z, rel=1e-5)
    assert values.total.item() == pytest.approx(0.5 * 4.0 + 0.25 * z, rel=1e-5)
    assert set(told) == {"switch", "switch/0", "switch/1", "z", "z/0", "z/1"}
    assert values.weights == {"switch": 0.5, "z": 0.25}


def test_the_total_reaches_the_logits() -> None:
    """The gradient of the total is the weighted sum of the terms' gradients."""
    decision = _collapsed(0)
    Losses({"z": (z_loss, 0.5)})(_log(decision)).total.backward()
    assert decision.logits is not None
    whole = decision.logits.grad
    assert whole is not None
    other = _collapsed(0)
    z_loss(other).backward()
    assert other.logits is not None
    assert other.logits.grad is not None
    assert torch.allclose(whole, 0.5 * other.logits.grad)


def test_passes_of_one_layer_are_averaged() -> None:
    """A chain that goes through a layer twice has one value there."""
    log = RouteLog()
    even = Decision(
        experts=torch.arange(8).reshape(4, 2),
        weights=torch.full((4, 2), 0.5),
        e=8,
        logits=torch.zeros(4, 8),
    )
    for iteration, decision in enumerate((_collapsed(0), even)):
        log.add(decision, RouteContext(layer=3, iteration=iteration))
    values = Losses({"switch": (switch_loss, 1.0)})(log)
    assert float(values.terms["switch"][3].detach()) == pytest.approx(2.5)


def test_attach_is_the_identity_with_a_loss_on_it() -> None:
    """Values are unchanged, the gradient of x too, and the loss gets `scale` whatever arrives."""
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    router = torch.tensor(2.0, requires_grad=True)
    y = attach(x, router.square(), scale=0.5)
    assert torch.equal(y, x)
    (7.0 * y).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full((3, 2), 7.0))
    assert router.grad is not None
    assert float(router.grad) == pytest.approx(0.5 * 4.0)


def test_attach_equals_adding() -> None:
    """Training with the loss attached is training with it added."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 3, generator=generator)
    weight = torch.randn(3, 3, generator=generator)
    grads = []
    for hang in (True, False):
        w = weight.clone().requires_grad_()
        hidden = x @ w
        extra = hidden.square().mean()
        loss = attach(hidden, extra).sum() if hang else hidden.sum() + extra
        loss.backward()
        grads.append(w.grad)
    assert torch.allclose(grads[0], grads[1])  # type: ignore[arg-type]


def test_attach_where_x_is_a_leaf_without_gradient() -> None:
    """The loss is reached although x itself learns nothing."""
    router = torch.tensor(3.0, requires_grad=True)
    attach(torch.ones(2), router * 2).sum().backward()
    assert router.grad is not None
    assert float(router.grad) == 2.0


def _soft() -> Slots:
    share = torch.full((1, 2, 2, 1), 0.5)
    return Slots(dispatch=share, combine=share, logits=share)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: Losses({}), "terms"),
        (lambda: Losses({"z": (z_loss, float("nan"))}), "terms['z'] weight"),
        (lambda: Losses({"z": (z_loss, 1.0)}, over="max"), "over"),  # type: ignore[arg-type]
        (lambda: Losses({"z": (z_loss, 1.0)})(RouteLog()), "log"),
        (lambda: Losses({"z": (z_loss, 1.0)})(_log(_soft())), "log, layer 0,"),
        (lambda: attach(torch.ones(2), torch.ones(2)), "loss"),
    ],
)
def test_refusals(call: object, field: str) -> None:
    """What cannot be summed is refused by name."""
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.field == field


def test_arguments_are_bound_with_partial() -> None:
    """A loss of more arguments is a term once they are bound."""
    from turnout.nn.balance import sequence_loss

    losses = Losses({"sequence": (partial(sequence_loss, shape=(2, 2)), 1.0)})
    assert losses(_log(_collapsed(0))).total.item() == pytest.approx(4.0)
