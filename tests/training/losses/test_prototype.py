"""Running prototypes and the distance from them, compared with loops."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.errors import BadSettings
from merc.params import fill
from merc.training.losses.prototype import Prototype, PrototypeLoss, RunningPrototypes

NAMES = ("text", "audio", "visual")


def drawn(seed, rows=6, dim=3, classes=3):
    """Vectors of each modality, labels from -1, and where the modalities are present."""
    generator = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(rows, dim, generator=generator, dtype=torch.float64) for name in NAMES}
    labels = torch.randint(-1, classes, (rows,), generator=generator)
    return features, labels, {name: torch.rand(rows, generator=generator) < 0.7 for name in NAMES}


def slow(features, labels, prototypes, mask, margin):
    groups = {}
    for name, rows in features.items():
        for row, label in enumerate(labels.tolist()):
            if label >= 0 and mask[name][row]:
                distance = sum(
                    (float(a) - float(p)) ** 2 for a, p in zip(rows[row], prototypes[label], strict=True)
                ) / len(rows[row])
                groups.setdefault((name, label), []).append(max(0.0, distance - margin))
    means = []
    for values in groups.values():
        above = [value for value in values if value > 0]
        means.append(sum(above) / len(above) if above else 0.0)
    return sum(means) / max(len(means), 1)


@given(seed=st.integers(0, 10**6), margin=st.sampled_from([0.0, 0.5, 2.0]))
@settings(max_examples=25, deadline=None)
def test_it_is_the_loop_over_classes_and_modalities(seed, margin):
    features, labels, mask = drawn(seed)
    prototypes = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    value = PrototypeLoss(margin=margin)(features, labels=labels, prototypes=prototypes, mask=mask)
    assert value.item() == pytest.approx(slow(features, labels, prototypes, mask, margin), abs=1e-9)


# Square distances of class 0: 1 and 0.05, of class 1: 4; margin 0.1. (0.9 + 3.9) / 2: vectors that are near enough do
# not enter the mean.
def test_a_vector_that_is_near_enough_is_in_no_mean():
    a = {"text": torch.tensor([[1.0, 1.0], [0.0, 0.1**0.5], [3.0, 3.0]])}
    labels, prototypes = torch.tensor([0, 0, 1]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert PrototypeLoss(margin=0.1)(a, labels=labels, prototypes=prototypes).item() == pytest.approx(2.4, abs=1e-6)
    known = torch.tensor([True, False])
    assert PrototypeLoss(margin=0.1)(a, labels=labels, prototypes=prototypes, known=known).item() == pytest.approx(
        0.9, abs=1e-6
    )


def test_the_gradient_agrees_with_finite_differences_and_does_not_reach_the_prototypes():
    features, labels, mask = drawn(3)
    prototypes = torch.ones(3, 3, dtype=torch.float64, requires_grad=True)
    inputs = tuple(features[name].requires_grad_() for name in NAMES)

    def loss(*vectors):
        return PrototypeLoss(margin=0.5)(
            dict(zip(NAMES, vectors, strict=True)), labels=labels, prototypes=prototypes, mask=mask
        )

    assert torch.autograd.gradcheck(loss, inputs)
    loss(*inputs).backward()
    assert prototypes.grad is None
    absent = [~mask[name] | (labels < 0) for name in NAMES]
    assert not any(vectors.grad[nothing].any() for vectors, nothing in zip(inputs, absent, strict=True))


@pytest.mark.parametrize("memory", [0.0, 0.5, 1.0])
def test_prototypes_are_means_in_which_older_batches_with_the_class_count_less(memory):
    running = RunningPrototypes(4, 3, memory=memory).double()
    history = {}
    for seed in range(6):
        features, labels, mask = drawn(seed)
        running.update(features, labels, mask)
        rows = {}
        for name in NAMES:
            for row, label in enumerate(labels.tolist()):
                if label >= 0 and mask[name][row]:
                    rows.setdefault(label, []).append(features[name][row])
        for label, vectors in rows.items():
            history.setdefault(label, []).append(torch.stack(vectors))
        means, known = running.means()
        assert known.tolist() == [label in history for label in range(4)]
        for label, batches in history.items():
            ages = range(len(batches) - 1, -1, -1)
            total = sum(memory**age * vectors.sum(dim=0) for age, vectors in zip(ages, batches, strict=True))
            count = sum(memory**age * len(vectors) for age, vectors in zip(ages, batches, strict=True))
            torch.testing.assert_close(means[label], total / count, atol=1e-9, rtol=0)
    assert not means[3].any()


def test_an_emotion_that_is_not_met_for_long_keeps_its_prototype():
    running = RunningPrototypes(2, 1, memory=0.1)
    running.update({"text": torch.tensor([[7.0]])}, torch.tensor([1]))
    for _ in range(100):
        running.update({"text": torch.tensor([[1.0]])}, torch.tensor([0]))
    means, known = running.means()
    assert means.squeeze(1).tolist() == pytest.approx([1.0, 7.0])
    assert known.all()


def build(facts, **changes):
    return Prototype(fill({"memory": 0.5, **changes}, Prototype.Config, where="losses.prototype"), facts)


def rows_of(output, batch):
    chosen = batch.labelled
    features = {name: values[chosen].detach().double() for name, values in output.aligned.items()}
    return features, batch.labels[chosen], {name: batch.modality_mask[name][chosen] for name in features}


def test_in_training_a_batch_enters_the_prototypes_before_it_is_compared_and_otherwise_never(
    make_batch, make_output, facts
):
    term, expected = build(facts), RunningPrototypes(3, facts.gives.aligned, memory=0.5).double()
    for seed in range(3):
        batch = make_batch([5, 3], pad_to=6, seed=seed)
        output = make_output(batch, seed)
        features, labels, mask = rows_of(output, batch)
        expected.update(features, labels, mask)
        assert term(output, batch).item() == pytest.approx(
            slow(features, labels, expected.means()[0], mask, 0.1), abs=1e-4
        )
    term.eval()
    before = [buffer.clone() for buffer in term.buffers()]
    batch = make_batch([4], seed=9)
    output = make_output(batch, 9)
    features, labels, mask = rows_of(output, batch)
    assert term(output, batch).item() == pytest.approx(slow(features, labels, expected.means()[0], mask, 0.1), abs=1e-4)
    assert all(torch.equal(one, other) for one, other in zip(before, term.buffers(), strict=True))


def test_a_lone_vector_of_its_emotion_is_compared_with_earlier_batches_and_not_with_itself(
    make_batch, make_output, facts
):
    """Differs from the published code, where such a vector costs nothing."""
    batch = make_batch([1], modalities=("text",))
    batch = replace(batch, labels=torch.tensor([[2]]), modality_mask={"text": torch.tensor([[True]])})
    for memory, nothing in [(0.0, True), (0.9, False)]:
        term = build(facts, memory=memory, margin=0.0)
        outputs = [
            replace(make_output(batch, seed), aligned={"text": make_output(batch, seed).aligned["text"]})
            for seed in (0, 1)
        ]
        term(outputs[0], batch)
        assert (term(outputs[1], batch).item() == 0.0) is nothing


def test_what_cannot_be_is_refused(facts):
    with pytest.raises(ValueError, match=r"at least 0, not -0\.1"):
        PrototypeLoss(margin=-0.1)
    labels, prototypes = torch.tensor([0, 1]), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"one shape, \[2, D\], not \{'text': \(2, 3\), 'audio': \(2, 4\)\}"):
        PrototypeLoss()({"text": torch.zeros(2, 3), "audio": torch.zeros(2, 4)}, labels=labels, prototypes=prototypes)
    with pytest.raises(ValueError, match=r"one shape, \[2, D\], not \{'text': \(5, 3\)\}"):
        PrototypeLoss()({"text": torch.zeros(5, 3)}, labels=labels, prototypes=prototypes)
    with pytest.raises(ValueError, match=r"\[C, 4\], not \(2, 3\)"):
        PrototypeLoss()({"text": torch.zeros(2, 4)}, labels=labels, prototypes=prototypes)
    with pytest.raises(BadSettings, match="in one space, such as df_erc"):
        build(replace(facts, gives=replace(facts.gives, aligned=None)))
    with pytest.raises(BadSettings, match=r"losses\.prototype\.memory.*given: 1\.5"):
        build(facts, memory=1.5)
