"""FCL compared with loops over pairs and tabulated numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.losses.focal_contrastive import FocalContrastive, FocalContrastiveLoss, class_weights
from merc.training.losses.supcon import SupConLoss

Z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1, 1, 2])
COUNTS = torch.tensor([2.0, 3.0, 1.0])
# γ, α → per anchor, mean over the five with a positive.
TABLE = {
    (0.0, 0.0): ([0.53295536, 1.07995496, 1.74262130, 0.87995496, 1.20006845], 1.08711101),
    (2.0, 0.0): ([0.09096378, 0.47098333, 1.22201978, 0.31824364, 0.76943423], 0.57432895),
    (0.0, 1.0): ([0.43605438, 0.88359951, 0.95052071, 0.47997543, 0.65458279], 0.68094657),
    (2.0, 1.0): ([0.07442491, 0.38535000, 0.66655624, 0.17358744, 0.41969140], 0.34392200),
}


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("gamma", "alpha"), TABLE)
def test_the_tabulated_numbers(gamma, alpha, dtype, atol):
    per_anchor, mean = TABLE[gamma, alpha]
    values = FocalContrastiveLoss(gamma=gamma, alpha=alpha, temperature=0.5, reduction="none")(
        Z.to(dtype), labels=LABELS, class_counts=COUNTS
    )
    assert values.tolist() == pytest.approx([*per_anchor, 0.0], abs=atol)
    loss = FocalContrastiveLoss(gamma=gamma, alpha=alpha, temperature=0.5)
    assert loss(Z.to(dtype), labels=LABELS, class_counts=COUNTS).item() == pytest.approx(mean, abs=atol)


@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.0, 0.5, 2.0]))
@settings(max_examples=20, deadline=None)
def test_it_is_the_loop_over_pairs(seed, gamma):
    generator = torch.Generator().manual_seed(seed)
    z, labels = (
        torch.randn(7, 3, generator=generator, dtype=torch.float64),
        torch.randint(-1, 3, (7,), generator=generator),
    )
    rows = [i for i in range(7) if labels[i] >= 0]
    terms = []
    for i in rows:
        weights = {j: math.exp(float(z[i] @ z[j] / z[i].norm() / z[j].norm()) / 0.5) for j in rows if j != i}
        p = [weights[j] / sum(weights.values()) for j in weights if labels[j] == labels[i]]
        if p:
            weight = (6 / COUNTS[labels[i]] / (6 / COUNTS).mean()).item()
            terms.append(weight * sum((1 - one) ** gamma * -math.log(one) for one in p) / len(p))
    value = FocalContrastiveLoss(gamma=gamma, temperature=0.5)(z, labels=labels, class_counts=COUNTS)
    assert value.item() == pytest.approx(sum(terms) / max(len(terms), 1), abs=1e-6)  # the counts above are float32


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_more_focus_costs_less_and_none_is_the_supervised_contrastive_loss(seed):
    generator = torch.Generator().manual_seed(seed)
    z, labels = torch.randn(8, 3, generator=generator, dtype=torch.float64), torch.arange(8) % 3
    values = [FocalContrastiveLoss(gamma=gamma)(z, labels=labels).item() for gamma in (0.0, 0.5, 1.0, 3.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(SupConLoss()(z, labels=labels).item())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_weights_have_mean_one_over_the_classes_that_occur(alpha):
    weights = class_weights(torch.tensor([4.0, 0.0, 1.0]), alpha)
    assert weights[1] == 0
    assert weights.sum().item() == pytest.approx(2)
    assert (weights[2] / weights[0]).item() == pytest.approx(4**alpha)


def test_a_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        FocalContrastiveLoss(gamma=-0.1)


def test_the_term_weighs_by_the_counts_of_the_train_split(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6], pad_to=8)
    output = make_output(batch)
    term = FocalContrastive(FocalContrastive.Config(temperature=0.5, projection_units=0), facts)
    loss = FocalContrastiveLoss(temperature=0.5)
    expected = loss(output.hidden[batch.labelled], labels=batch.labels[batch.labelled], class_counts=facts.class_counts)
    torch.testing.assert_close(term(output, batch), expected)
