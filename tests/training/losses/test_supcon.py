"""The supervised contrastive loss compared with loops over pairs, tabulated numbers and closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.losses.supcon import SupCon, SupConLoss

Z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1, 1, 2])


def slow(z, labels, temperature, form, candidates, class_balanced=False):
    """Pair by pair; the mean over anchors with a positive and a candidate."""
    z, labels = z.tolist(), labels.tolist()
    rows = [index for index, label in enumerate(labels) if label >= 0]

    def similarity(i, j):
        dot = sum(a * b for a, b in zip(z[i], z[j], strict=True))
        return dot / math.hypot(*z[i]) / math.hypot(*z[j]) / temperature

    values = []
    for i in rows:
        positives = [similarity(i, j) for j in rows if j != i and labels[j] == labels[i]]
        everything = 0.0
        for j in rows:
            if j != i and (candidates == "all" or labels[j] != labels[i]):
                everything += math.exp(similarity(i, j)) / (labels.count(labels[j]) if class_balanced else 1)
        if not positives or not everything:
            continue
        if form == "out":
            values.append(math.log(everything) - sum(positives) / len(positives))
        else:
            inner = sum(math.exp(one) for one in positives)
            values.append(math.log(everything / inner) + (math.log(len(positives)) if form == "in_mean" else 0.0))
    return sum(values) / max(len(values), 1)


@pytest.mark.parametrize("class_balanced", [False, True])
@pytest.mark.parametrize("candidates", ["all", "neg"])
@pytest.mark.parametrize("form", ["out", "in_mean", "in_sum"])
@given(seed=st.integers(0, 10**6), temperature=st.sampled_from([0.07, 0.5, 2.0]))
@settings(max_examples=10, deadline=None)
def test_it_is_the_loop_over_pairs(form, candidates, class_balanced, seed, temperature):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 3, (7,), generator=generator)
    loss = SupConLoss(temperature=temperature, form=form, candidates=candidates, class_balanced=class_balanced)
    assert loss(z, labels=labels).item() == pytest.approx(
        slow(z, labels, temperature, form, candidates, class_balanced), abs=1e-9
    )


@pytest.mark.parametrize(
    ("form", "candidates", "expected"),
    [
        ("out", "all", 1.08711101),
        ("out", "neg", 0.01802597),
        ("in_sum", "all", 0.57507131),
        ("in_sum", "neg", -0.49401372),
        ("in_mean", "all", 0.99095962),
        ("in_mean", "neg", -0.07812541),
    ],
)
def test_the_tabulated_means(form, candidates, expected):
    loss = SupConLoss(temperature=0.5, form=form, candidates=candidates)
    assert loss(Z, labels=LABELS).item() == pytest.approx(expected, abs=1e-6)
    assert loss.valid.tolist() == [True] * 5 + [False]
    assert loss(Z.float(), labels=LABELS).item() == pytest.approx(expected, abs=1e-5)


def test_the_authors_code_averages_over_all_rows():
    # HobbitLong's SupConLoss gives 0.90592584 on these rows.
    assert SupConLoss(temperature=0.5)(Z, labels=LABELS).item() * 5 / 6 == pytest.approx(0.90592584, abs=1e-6)


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_identical_rows_of_one_class_cost_the_logarithm_of_the_others(rows):
    z = torch.ones(rows, 4)
    labels = torch.zeros(rows, dtype=torch.long)
    assert SupConLoss()(z, labels=labels).item() == pytest.approx(math.log(rows - 1), abs=1e-5)
    assert SupConLoss(form="in_sum")(z, labels=labels).item() == 0.0
    assert SupConLoss(candidates="neg")(z, labels=labels).item() == 0.0


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_more_candidates_cost_more(seed):
    generator = torch.Generator().manual_seed(seed)
    z, labels = torch.randn(9, 3, generator=generator), torch.arange(9) % 3
    assert SupConLoss()(z, labels=labels) >= SupConLoss(candidates="neg")(z, labels=labels)


def test_a_base_temperature_scales_the_loss():
    plain = SupConLoss(temperature=0.1)(Z, labels=LABELS)
    torch.testing.assert_close(SupConLoss(temperature=0.1, base_temperature=0.4)(Z, labels=LABELS), plain / 4)


def test_candidates_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="'some'; valid: all, neg"):
        SupConLoss(candidates="some")


def build(facts, **changes):
    return SupCon(SupCon.Config(**{"temperature": 0.5, "projection_units": 0, **changes}), facts)


def test_the_term_is_the_loss_of_the_labelled_utterances(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6], pad_to=8)
    output = make_output(batch)
    expected = SupConLoss(temperature=0.5)(output.hidden[batch.labelled], labels=batch.labels[batch.labelled])
    torch.testing.assert_close(build(facts)(output, batch), expected)


def test_a_projection_is_trained_and_takes_the_place_of_the_representation(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6])
    output = make_output(batch)
    term = build(facts, projection_units=2)
    term(output, batch).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in term.parameters())
    projected = term.project(output.hidden[batch.labelled])
    assert projected.shape[1] == 2
    torch.testing.assert_close(
        term(output, batch), SupConLoss(temperature=0.5)(projected, labels=batch.labels[batch.labelled])
    )
