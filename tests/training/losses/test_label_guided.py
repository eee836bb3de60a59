"""ELCL compared with the cross-entropy, loops and tabulated numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.losses.focal_contrastive import FocalContrastiveLoss
from merc.training.losses.label_guided import LabelGuided, LabelGuidedLoss, anchor_spread
from merc.training.losses.supcon import SupConLoss

Z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1, 1, 2])
ANCHORS = torch.tensor([[0.8, 0.6], [-0.6, 0.8], [0.0, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_the_tabulated_numbers(dtype, atol):
    values = LabelGuidedLoss(temperature=0.5, reduction="none")(Z.to(dtype), labels=LABELS, anchors=ANCHORS.to(dtype))
    assert values.tolist() == pytest.approx(
        [0.23325750, 0.25173895, 0.52924127, 0.12035785, 0.30895735, 0.06586819], abs=atol
    )
    assert LabelGuidedLoss(temperature=0.5)(
        Z.to(dtype), labels=LABELS, anchors=ANCHORS.to(dtype)
    ).item() == pytest.approx(0.25157018, abs=atol)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_it_is_the_cross_entropy_of_cosines_plus_the_contrastive_loss_with_the_anchors_as_rows(seed):
    generator = torch.Generator().manual_seed(seed)
    z, anchors = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (7, 3))
    labels = torch.randint(-1, 3, (7,), generator=generator)
    known = labels >= 0
    cosines = torch.nn.functional.cosine_similarity(z[known, None], anchors[None], dim=2)
    expected = (
        torch.nn.functional.cross_entropy(cosines / 0.5, labels[known])
        if known.any()
        else torch.zeros((), dtype=torch.float64)
    )
    torch.testing.assert_close(LabelGuidedLoss(temperature=0.5)(z, labels=labels, anchors=anchors), expected)
    rows, row_labels = torch.cat([z[known], anchors]), torch.cat([labels[known], torch.arange(3)])
    all_rows = SupConLoss(temperature=0.5, reduction="none")(rows, labels=row_labels)[:-3]
    both = LabelGuidedLoss(temperature=0.5, supcon_weight=0.5)(z, labels=labels, anchors=anchors)
    torch.testing.assert_close(both, expected + 0.5 * all_rows.sum() / max(int(known.sum()), 1))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_with_focus_the_contrast_is_the_focal_contrastive_loss_with_the_anchors_as_rows(seed):
    generator = torch.Generator().manual_seed(seed)
    z, anchors = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (7, 3))
    labels, counts = torch.randint(-1, 3, (7,), generator=generator), torch.tensor([60.0, 30.0, 10.0])
    known = labels >= 0
    rows, row_labels = torch.cat([z[known], anchors]), torch.cat([labels[known], torch.arange(3)])
    focal = FocalContrastiveLoss(temperature=0.5, gamma=2.0, alpha=1.1, reduction="none")(
        rows, labels=row_labels, class_counts=counts
    )[:-3]
    to_anchors = LabelGuidedLoss(temperature=0.5)(z, labels=labels, anchors=anchors)
    both = LabelGuidedLoss(temperature=0.5, supcon_weight=0.5, gamma=2.0, alpha=1.1)(
        z, labels=labels, anchors=anchors, class_counts=counts
    )
    torch.testing.assert_close(both, to_anchors + 0.5 * focal.sum() / max(int(known.sum()), 1))


def test_a_negative_focus_is_refused():
    with pytest.raises(ValueError, match="gamma must be at least 0, not -1"):
        LabelGuidedLoss(gamma=-1.0)


def test_every_labelled_utterance_has_a_positive():
    loss = LabelGuidedLoss(supcon_weight=1.0)
    loss(Z, labels=LABELS.masked_fill(LABELS == 1, -1), anchors=ANCHORS)
    assert loss.valid.tolist() == [True, True, False, False, False, True]


def test_gradients_agree_with_finite_differences():
    loss = LabelGuidedLoss(temperature=0.5, supcon_weight=1.0, gamma=2.0)
    inputs = Z.clone().requires_grad_(), ANCHORS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z, anchors: loss(z, labels=LABELS, anchors=anchors), inputs)


def test_the_spread_is_the_mean_angle_to_the_nearest_other_anchor():
    # Seen from (0, 0) the directions are 0°, 90°, 180° and 270°: the nearest other is 90° away.
    square = torch.tensor([[2.0, 1.0], [1.0, 2.0], [0.0, 1.0], [1.0, 0.0]])
    assert anchor_spread(square).item() == pytest.approx(-math.pi / 2)


def test_equal_anchors_have_a_finite_gradient_of_their_spread():
    anchors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    anchor_spread(anchors).backward()
    assert torch.isfinite(anchors.grad).all()


def test_the_term_trains_its_anchors_and_spreads_them(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6], pad_to=8)
    output = make_output(batch)
    term = LabelGuided(
        LabelGuided.Config(temperature=0.5, gamma=2.0, alpha=1.0, spread_weight=0.3, projection_units=0), facts
    )
    value = term(output, batch)
    loss = LabelGuidedLoss(temperature=0.5, supcon_weight=1.0, gamma=2.0, alpha=1.0)
    expected = loss(
        output.hidden[batch.labelled],
        labels=batch.labels[batch.labelled],
        anchors=term.anchors_CD,
        class_counts=facts.class_counts,
    )
    torch.testing.assert_close(value, expected + 0.3 * anchor_spread(term.anchors_CD))
    value.backward()
    assert term.anchors_CD.grad.abs().sum() > 0
