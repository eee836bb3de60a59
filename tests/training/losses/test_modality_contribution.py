"""The modality-contribution loss: tabulated numbers, Algorithm 1 written with loops, and what must hold for any
input.
"""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.errors import BadSettings
from merc.training.losses.engine.base import TrainingFacts
from merc.training.losses.modality_contribution import ModalityContribution, ModalityContributionLoss
from merc.training.models.engine.base import Gives, MERCOutput

FEATURES = {
    "text": [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6]],
    "audio": [[0.0, 1.0], [-0.8, 0.6], [-1.0, 0.0], [0.0, -1.0]],
    "visual": [[0.0, -1.0], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]],
}
CORRECT = {"text": [1, 1, 0, 0], "audio": [1, 1, 1, 1], "visual": [1, 0, 0, 0]}
# Computed from Algorithm 1 with plain numpy, temperature 0.5: sums over anchors. The first visual utterance has no
# positive.
TABLE = {
    "neg": {"text": -0.86439704, "audio": 0.0, "visual": -6.88075692, "all": -7.74515396},
    "all": {"text": 2.67216081, "audio": 4.39444915, "visual": 2.33424444, "all": 9.40085441},
}
ANCHORS = {"neg": {"text": 4, "audio": 0, "visual": 3}, "all": {"text": 4, "audio": 4, "visual": 3}}


def vectors(names, dtype=torch.float64):
    return {name: torch.tensor(FEATURES[name], dtype=dtype) for name in names}, {
        name: torch.tensor(CORRECT[name]).bool() for name in names
    }


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize("denominator", ["neg", "all"])
def test_the_tabulated_numbers(denominator, dtype, atol):
    summed = ModalityContributionLoss(temperature=0.5, denominator=denominator, reduction="sum")
    averaged = ModalityContributionLoss(temperature=0.5, denominator=denominator)
    expected, means = TABLE[denominator], []
    for name in FEATURES:
        assert summed(*vectors([name], dtype)).item() == pytest.approx(expected[name], abs=atol * 5)
        means.append(expected[name] / max(1, ANCHORS[denominator][name]))
        assert averaged(*vectors([name], dtype)).item() == pytest.approx(means[-1], abs=atol)
    assert summed(*vectors(FEATURES, dtype)).item() == pytest.approx(expected["all"], abs=atol * 15)
    assert averaged(*vectors(FEATURES, dtype)).item() == pytest.approx(sum(means), abs=atol * 3)


def algorithm(u, correct, there, labels, temperature, denominator):
    """Algorithm 1 for one modality: the terms of its anchors."""

    def f(one, two):
        return math.exp(
            sum(x * y for x, y in zip(one, two, strict=True)) / math.hypot(*one) / math.hypot(*two) / temperature
        )

    terms, everyone = [], [index for index in range(len(u)) if there[index]]
    for i in everyone:
        above = [
            f(u[i], u[j])
            for j in everyone
            if j != i and correct[j] == correct[i] and (labels is None or labels[j] == labels[i])
        ]
        below = [f(u[i], u[j]) for j in everyone if j != i and (denominator == "all" or correct[j] != correct[i])]
        if above and below:
            terms.append(-math.log(sum(above) / len(above) / sum(below)))
    return terms


def problem(seed, modalities=2, anchors=6):
    """Features, pseudo-labels, masks and labels."""
    generator = torch.Generator().manual_seed(seed)
    names = list(FEATURES)[:modalities]
    features = {
        name: torch.randn(anchors, 3 + place, generator=generator, dtype=torch.float64)
        for place, name in enumerate(names)
    }
    correct, mask = ({name: torch.rand(anchors, generator=generator) < share for name in names} for share in (0.5, 0.8))
    return features, correct, mask, torch.randint(0, 2, (anchors,), generator=generator)


@given(seed=st.integers(0, 10**6), denominator=st.sampled_from(["neg", "all"]), same_emotion=st.booleans())
@settings(max_examples=50, deadline=None)
def test_it_is_the_algorithm_written_with_loops(seed, denominator, same_emotion):
    features, correct, mask, labels = problem(seed)
    labels = labels if same_emotion else None
    each = [
        algorithm(
            u.tolist(),
            correct[name].tolist(),
            mask[name].tolist(),
            None if labels is None else labels.tolist(),
            0.3,
            denominator,
        )
        for name, u in features.items()
    ]
    loss = ModalityContributionLoss(temperature=0.3, denominator=denominator, reduction="sum")
    summed = loss(features, correct, mask=mask, labels=labels)
    assert loss.valid.sum(dim=1).tolist() == list(map(len, each))
    averaged = ModalityContributionLoss(temperature=0.3, denominator=denominator)(
        features, correct, mask=mask, labels=labels
    )
    assert summed.item() == pytest.approx(sum(map(sum, each)), abs=1e-9)
    assert averaged.item() == pytest.approx(sum(sum(terms) / max(1, len(terms)) for terms in each), abs=1e-9)


@given(seed=st.integers(0, 10**6), denominator=st.sampled_from(["neg", "all"]))
@settings(max_examples=30, deadline=None)
def test_order_length_rotation_absent_rows_and_swapped_pseudo_labels_change_nothing(seed, denominator):
    features, correct, mask, _ = problem(seed, modalities=1)
    (name,) = features
    u, p, there = features[name], correct[name], mask[name]
    loss = ModalityContributionLoss(temperature=0.2, denominator=denominator)

    def value(u, p, there):
        return loss({name: u}, {name: p}, mask={name: there})

    order = torch.randperm(6)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    others = [
        value(u[order], p[order], there[order]),
        value(u * (torch.rand(6, 1, dtype=torch.float64) + 0.1), p, there),
        value(u @ rotation, p, there),
        value(torch.cat([u, u[:2] * float("nan")]), torch.cat([p, ~p[:2]]), torch.cat([there, torch.zeros(2).bool()])),
        value(u[there], p[there], there[there]),
        value(u, ~p, there),
    ]
    torch.testing.assert_close(torch.stack(others), value(u, p, there).expand(6))


@given(seed=st.integers(0, 10**6), right=st.booleans())
@settings(max_examples=20, deadline=None)
def test_equal_pseudo_labels_cost_exactly_nothing(seed, right):
    features, _, mask, _ = problem(seed)
    features = {name: u.requires_grad_() for name, u in features.items()}
    correct = {name: torch.full((6,), right) for name in features}
    loss = ModalityContributionLoss(temperature=0.07, denominator="neg")(features, correct, mask=mask)
    loss.backward()
    assert loss.item() == 0.0
    assert not any(u.grad.any() for u in features.values())


def test_positives_alone_cost_a_constant_that_moves_nothing():
    """With the positives in the denominator too, and no utterance with the other pseudo-label: ln of their number."""
    features, _, _, _ = problem(3)
    features = {name: u.requires_grad_() for name, u in features.items()}
    loss = ModalityContributionLoss(temperature=0.07)(features, {name: torch.ones(6).bool() for name in features})
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(5))
    assert max(u.grad.abs().max() for u in features.values()) < 1e-12


def test_modalities_are_added_up_and_one_that_is_nowhere_present_adds_nothing():
    features, correct, mask, _ = problem(4)
    loss = ModalityContributionLoss(temperature=0.3)
    each = [loss({name: features[name]}, {name: correct[name]}, mask={name: mask[name]}) for name in features]
    assert loss(features, correct, mask=mask).item() == pytest.approx(float(sum(each)))
    empty = (
        {"audio": torch.full((6, 4), float("nan"), dtype=torch.float64)},
        {"audio": correct["audio"]},
        {"audio": torch.zeros(6).bool()},
    )
    absent = loss(
        {"text": features["text"], **empty[0]},
        {"text": correct["text"], **empty[1]},
        mask={"text": mask["text"], **empty[2]},
    )
    assert absent.item() == pytest.approx(each[list(features).index("text")].item())


@pytest.mark.parametrize("anchors", [0, 1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_without_pairs_the_loss_is_exactly_zero_and_backward_runs(anchors, reduction):
    u = torch.randn(anchors, 3, requires_grad=True)
    loss = ModalityContributionLoss(temperature=0.07, reduction=reduction)(
        {"text": u}, {"text": torch.ones(anchors).bool()}
    )
    loss.backward()
    assert loss.item() == 0.0
    assert not u.grad.any()


def test_zero_and_equal_vectors_stay_finite_at_a_tiny_temperature():
    for u in (torch.zeros(4, 3), torch.ones(4, 3)):
        u.requires_grad_()
        loss = ModalityContributionLoss(temperature=1e-3)(
            {"text": u}, {"text": torch.tensor([True, True, False, False])}
        )
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize("denominator", ["neg", "all"])
def test_gradients_agree_with_finite_differences(denominator):
    features, correct, mask, _ = problem(9)
    loss = ModalityContributionLoss(temperature=0.3, denominator=denominator)
    inputs = tuple(u.requires_grad_() for u in features.values())
    assert torch.autograd.gradcheck(lambda *us: loss(dict(zip(features, us, strict=True)), correct, mask=mask), inputs)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="above 0, not -1"):
        ModalityContributionLoss(temperature=-1)
    with pytest.raises(ValueError, match="'positives'; valid: all, neg"):
        ModalityContributionLoss(temperature=0.1, denominator="positives")
    with pytest.raises(ValueError, match="'none'; valid: mean, sum"):
        ModalityContributionLoss(temperature=0.1, reduction="none")
    loss = ModalityContributionLoss(temperature=0.1)
    with pytest.raises(ValueError, match="at least one"):
        loss({}, {})
    with pytest.raises(ValueError, match=r"the mask must be \(2,\)"):
        loss({"text": torch.ones(2, 2)}, {"text": torch.ones(2).bool()}, mask={"text": torch.ones(3).bool()})
    with pytest.raises(ValueError, match=r"features: \['text'\], pseudo-labels: \['audio'\]"):
        loss({"text": torch.ones(2, 2)}, {"audio": torch.ones(2).bool()})


# The loss of a recipe.


def build(**settings):
    config = ModalityContribution.Config(**{"temperature": 0.3, **settings})
    return ModalityContribution(
        config, TrainingFacts(class_counts=torch.ones(3), gives=Gives(hidden=2, unimodal={"text": 4, "audio": 3}))
    )


def outputs(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    unimodal = {
        name: torch.randn(*batch.labels.shape, dim, generator=generator, requires_grad=True)
        for name, dim in [("text", 4), ("audio", 3)]
    }
    logits = {name: torch.randn(*batch.labels.shape, 3, generator=generator, requires_grad=True) for name in unimodal}
    return MERCOutput(logits=logits["text"], hidden=unimodal["text"], unimodal=unimodal, unimodal_logits=logits)


@pytest.mark.parametrize("same_emotion_only", [False, True])
def test_a_batch_is_the_algorithm_over_labelled_utterances_that_have_the_modality(make_batch, same_emotion_only):
    batch = make_batch([5, 1, 8], pad_to=9, modalities=("text", "audio"))
    output = outputs(batch)
    means = []
    for name in ("text", "audio"):
        chosen = [
            (row, step) for row in range(3) for step in range(int(batch.lengths[row])) if batch.labels[row, step] >= 0
        ]
        u = [output.unimodal[name][at].tolist() for at in chosen]
        correct = [int(output.unimodal_logits[name][at].argmax()) == int(batch.labels[at]) for at in chosen]
        there = [bool(batch.modality_mask[name][at]) for at in chosen]
        terms = algorithm(
            u, correct, there, [int(batch.labels[at]) for at in chosen] if same_emotion_only else None, 0.3, "all"
        )
        assert 0 < len(terms) <= 14
        means.append(sum(terms) / len(terms))
    assert build(same_emotion_only=same_emotion_only)(output, batch).item() == pytest.approx(sum(means), abs=1e-5)


def test_a_projection_of_each_modality_stands_before_the_loss(make_batch):
    batch, loss = make_batch([5, 1, 8], modalities=("text", "audio")), build(projection_units=2)
    output = outputs(batch)
    projected = replace(output, unimodal={name: loss.project[name](values) for name, values in output.unimodal.items()})
    assert {values.shape[-1] for values in projected.unimodal.values()} == {2}
    torch.testing.assert_close(loss(output, batch), build()(projected, batch))


def test_gradient_goes_through_the_features_and_not_through_the_pseudo_labels(make_batch):
    batch = make_batch([6, 6], modalities=("text", "audio"))
    output = outputs(batch)
    build()(output, batch).backward()
    for name, u in output.unimodal.items():
        touched = u.grad.abs().sum(dim=-1) > 0
        assert touched.any()
        assert not (touched & ~(batch.labelled & batch.modality_mask[name])).any()
        assert output.unimodal_logits[name].grad is None


def test_a_batch_without_labels_costs_exactly_nothing_and_backward_runs(make_batch):
    batch = make_batch([3, 2], modalities=("text", "audio"))
    batch = replace(batch, labels=torch.full_like(batch.labels, -1))
    output = outputs(batch)
    loss = build()(output, batch)
    loss.backward()
    assert loss.item() == 0.0
    assert not output.unimodal["text"].grad.any()


def test_a_model_without_unimodal_logits_is_refused_with_the_cure(make_batch):
    batch = make_batch([3])
    with pytest.raises(BadSettings, match="framework dclf"):
        build()(MERCOutput(logits=torch.zeros(1, 3, 3), hidden=torch.zeros(1, 3, 2)), batch)
