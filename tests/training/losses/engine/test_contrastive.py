"""What holds for every loss over labelled rows, for any input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.losses.engine.contrastive import ContrastiveLoss
from merc.training.losses.focal_contrastive import FocalContrastiveLoss
from merc.training.losses.label_guided import LabelGuidedLoss
from merc.training.losses.spcl import SPCLLoss
from merc.training.losses.supcon import SupConLoss

ANCHORS = torch.tensor([[1.0, 0.0, 0.5, 0.0], [0.0, -1.0, 0.0, 2.0], [0.3, 0.3, -1.0, 0.0]], dtype=torch.float64)
COUNTS = torch.tensor([5, 1, 3])


def supcon(**settings):
    return lambda z, labels, mask=None, **options: SupConLoss(temperature=0.5, **settings, **options)(
        z, labels=labels, mask=mask
    )


def fcl(z, labels, mask=None, **options):
    return FocalContrastiveLoss(temperature=0.5, **options)(z, labels=labels, mask=mask, class_counts=COUNTS)


def spcl(z, labels, mask=None, **options):
    return SPCLLoss(temperature=0.5, **options)(z, labels=labels, mask=mask, anchors=ANCHORS.to(z.dtype))


def elcl(z, labels, mask=None, **options):
    return LabelGuidedLoss(temperature=0.5, supcon_weight=0.7, **options)(
        z, labels=labels, mask=mask, anchors=ANCHORS.to(z.dtype)
    )


# Called with (z, labels, mask, reduction).
WITHOUT_ANCHORS = {
    "supcon": supcon(),
    "supcon in_mean": supcon(form="in_mean"),
    "supcon in_sum": supcon(form="in_sum"),
    "supcon neg": supcon(candidates="neg"),
    "supcon balanced": supcon(class_balanced=True),
    "fcl": fcl,
}
LOSSES = {**WITHOUT_ANCHORS, "spcl": spcl, "elcl": elcl}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
examples = settings(max_examples=10, deadline=None)
seeds = given(seed=st.integers(0, 10**6))


def drawn(seed, rows=9, width=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64), torch.randint(
        -1, 3, (rows,), generator=generator
    )


@every_loss
@seeds
@examples
def test_the_order_of_rows_changes_nothing(loss, seed):
    z, labels = drawn(seed)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(loss(z[order], labels[order]), loss(z, labels))
    torch.testing.assert_close(
        loss(z[order], labels[order], reduction="none"), loss(z, labels, reduction="none")[order]
    )


@pytest.mark.parametrize("loss", WITHOUT_ANCHORS.values(), ids=list(WITHOUT_ANCHORS))
@seeds
@examples
def test_lengths_and_rotations_of_the_vectors_change_nothing(loss, seed):
    z, labels = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    stretch = torch.rand(len(z), 1, generator=generator, dtype=torch.float64) * 5 + 0.1
    torch.testing.assert_close(loss(z @ turn * stretch, labels), loss(z, labels))


@every_loss
@seeds
@examples
def test_padded_and_unlabelled_rows_change_nothing_whatever_is_in_them(loss, seed):
    z, labels = drawn(seed)
    mask = torch.arange(len(z)) % 4 != 2
    counted = mask & (labels >= 0)
    padded = z.clone()
    padded[~counted] = float("nan")
    padded.requires_grad_()
    value = loss(padded, labels, mask)
    value.backward()
    torch.testing.assert_close(value.detach(), loss(z[counted], labels[counted]))
    assert torch.isfinite(padded.grad).all()
    assert not padded.grad[~counted].any()


@every_loss
def test_dialogues_may_come_padded(loss):
    z, labels = drawn(7, rows=8)
    mask = torch.tensor([True, True, True, True, True, True, False, False])
    torch.testing.assert_close(loss(z.view(2, 4, 4), labels.view(2, 4), mask.view(2, 4)), loss(z[:6], labels[:6]))


@every_loss
@pytest.mark.parametrize("labels", [[], [-1, -1, -1]], ids=["no row", "no label"])
def test_nothing_to_act_on_costs_exactly_nothing_and_backward_runs(loss, labels):
    z = torch.randn(len(labels), 4, requires_grad=True)
    value = loss(z, torch.tensor(labels, dtype=torch.long))
    value.backward()
    assert value.shape == ()
    assert value.item() == 0.0
    assert torch.equal(z.grad, torch.zeros_like(z))


@every_loss
@pytest.mark.parametrize("temperature_like", [1.0, 1e6])
def test_equal_rows_and_zero_rows_give_finite_values_and_gradients(loss, temperature_like):
    z = torch.tensor([[1.0, 2.0, 0.0, 0.0]] * 3 + [[0.0] * 4] * 2) * temperature_like
    z.requires_grad_()
    value = loss(z, torch.tensor([0, 0, 1, 0, 1]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()
    assert not z.grad[3:].any()


@every_loss
@pytest.mark.parametrize("seed", [1, 2])
def test_gradients_agree_with_finite_differences(loss, seed):
    z, labels = drawn(seed, rows=6)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), z.requires_grad_())


@every_loss
def test_sum_mean_and_none_belong_together(loss):
    z, labels = drawn(5)
    values = loss(z, labels, reduction="none")
    assert values.shape == (len(z),)
    torch.testing.assert_close(loss(z, labels, reduction="sum"), values.sum())
    assert not values[labels < 0].any()


@every_loss
def test_half_precision_gives_float32_also_under_autocast(loss):
    z, labels = drawn(3)
    expected = loss(z.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(z.float(), labels), expected)
    assert loss(z.half(), labels).dtype == torch.float32
    assert loss(z, labels).dtype == torch.float64


@every_loss
def test_what_is_not_finite_goes_through_or_is_raised_in_debug_mode(loss):
    z, labels = drawn(3)
    labels = labels.clamp(min=0)
    z[0, 0] = float("inf")
    assert not torch.isfinite(loss(z, labels))
    with pytest.raises(ValueError, match="not finite"):
        loss(z, labels, debug=True)
    labels[0] = -1
    assert torch.isfinite(loss(z, labels, debug=True))


@every_loss
def test_no_step_waits_for_a_gpu(loss, no_waiting):
    z, labels = drawn(3)
    z, mask = z.requires_grad_(), torch.ones(len(z), dtype=torch.bool)
    with no_waiting():
        loss(z, labels, mask).backward()


@every_loss
def test_shapes_that_do_not_fit_are_refused(loss):
    z, labels = drawn(3)
    with pytest.raises(ValueError, match=r"labels must be \(9,\)"):
        loss(z, labels[:5])
    with pytest.raises(ValueError, match=r"mask must be \(9,\)"):
        loss(z, labels, torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\[N, D\] or \[B, T, D\]"):
        loss(z[0], labels[0])


def test_the_watch_notices_what_waits(no_waiting):
    mask = torch.tensor([True, False])
    for waits in (
        lambda: mask.nonzero(),
        lambda: mask[mask],
        lambda: mask.any().item(),
        lambda: bool(mask.any()),
        lambda: float(mask.sum()),
    ):
        with pytest.raises(AssertionError, match="makes the host wait"), no_waiting():
            waits()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_the_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="above 0"):
        ContrastiveLoss(temperature=temperature, form="out")
