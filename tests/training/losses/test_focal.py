"""The focal loss compared with its formula, utterance by utterance, and with the formula in MMGCN's code."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.losses.cross_entropy import weights_of
from merc.training.losses.focal import Focal, FocalLoss


def drawn(seed, rows=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=generator, dtype=torch.float64) * 3, torch.randint(
        -1, 3, (rows,), generator=generator
    )


def slow(logits, labels, gamma, weights=(1.0, 1.0, 1.0), legacy=False):
    values = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label < 0:
            continue
        total = sum(math.exp(value) for value in row)
        p = [math.exp(value) / total for value in row]
        if legacy:
            terms = [(1 - (math.log(p[c]) if c == label else 0.0)) ** gamma * -math.log(p[c]) for c in range(3)]
            values.append(weights[label] * sum(terms) / 3)
        else:
            values.append(weights[label] * (1 - p[label]) ** gamma * -math.log(p[label]))
    return sum(values) / max(len(values), 1)


@pytest.mark.parametrize("legacy", [False, True])
@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.0, 0.5, 2.0, 2.5]))
@settings(max_examples=20, deadline=None)
def test_it_is_the_formula_utterance_by_utterance(legacy, seed, gamma):
    logits, labels = drawn(seed)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    assert FocalLoss(gamma=gamma, legacy_focal=legacy)(logits, labels=labels).item() == pytest.approx(
        slow(logits, labels, gamma, legacy=legacy), abs=1e-9
    )
    weighted = FocalLoss(gamma=gamma, legacy_focal=legacy, class_weights=weights)(logits, labels=labels)
    assert weighted.item() == pytest.approx(slow(logits, labels, gamma, weights.tolist(), legacy), abs=1e-9)


def test_without_focus_it_is_the_cross_entropy():
    logits, labels = drawn(1)
    torch.testing.assert_close(
        FocalLoss(gamma=0.0)(logits, labels=labels), torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1)
    )


def test_the_surer_the_model_the_more_it_is_below_the_cross_entropy():
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [6.0, 0.0]])
    labels = torch.zeros(3, dtype=torch.long)
    shares = FocalLoss(gamma=2.0, reduction="none")(logits, labels=labels) / FocalLoss(gamma=0.0, reduction="none")(
        logits, labels=labels
    )
    torch.testing.assert_close(shares, (1 - logits.softmax(dim=1)[:, 0]) ** 2)
    assert shares[0] > shares[1] > shares[2]


def test_the_legacy_formula_is_above_the_cross_entropy_where_it_should_be_below():
    logits, labels = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.5, 0.0]]), torch.tensor([0, 1])
    assert (
        FocalLoss(gamma=2.5)(logits, labels=labels)
        < FocalLoss(gamma=0.0)(logits, labels=labels)
        < FocalLoss(gamma=2.5, legacy_focal=True)(logits, labels=labels)
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_certain_prediction_has_a_finite_gradient(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = FocalLoss(gamma=gamma)(logits, labels=torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(100.0)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("legacy", [False, True])
def test_gradients_agree_with_finite_differences(legacy):
    logits, labels = drawn(4)
    assert torch.autograd.gradcheck(
        lambda x: FocalLoss(gamma=1.5, legacy_focal=legacy)(x, labels=labels), logits.requires_grad_()
    )


@pytest.mark.parametrize("legacy", [False, True])
def test_padded_and_unlabelled_rows_change_nothing_and_get_no_gradient(legacy):
    logits, labels = drawn(2)
    mask = torch.arange(8) != 3
    counted = mask & (labels >= 0)
    expected = FocalLoss(legacy_focal=legacy)(logits[counted], labels=labels[counted])
    logits[~counted] = float("nan")
    logits.requires_grad_()
    loss = FocalLoss(legacy_focal=legacy)(logits.view(2, 4, 3), labels=labels.view(2, 4), mask=mask.view(2, 4))
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[~counted].any()


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_labelled_costs_exactly_nothing(rows):
    logits = torch.randn(rows, 3, requires_grad=True)
    loss = FocalLoss()(logits, labels=torch.full((rows,), -1))
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_a_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        FocalLoss(gamma=-1.0)


@pytest.mark.parametrize("scheme", ["none", "inverse"])
def test_the_term_weighs_classes_as_the_cross_entropy_does(make_batch, make_output, facts, scheme):
    batch = make_batch([5, 3, 6], pad_to=8)
    output = make_output(batch)
    term = Focal(Focal.Config(class_weights=scheme, effective_beta=0.9), facts)
    weights = weights_of(facts.class_counts, scheme, 0.9)
    expected = slow(output.logits[batch.labelled], batch.labels[batch.labelled], 2.0, weights.tolist())
    assert term(output, batch).item() == pytest.approx(expected, abs=1e-5)
