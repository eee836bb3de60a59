"""SPCL compared with loops and tabulated numbers, its queue with lists."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.losses.spcl import SPCL, PrototypeQueue, SPCLLoss

Z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1, 1, 2])
PROTOTYPES = torch.tensor([[1.0, 0.0], [-0.6, 0.8], [0.0, -1.0]], dtype=torch.float64)
PER_ANCHOR = [1.36690437, 1.66596031, 1.78316822, 1.47013141, 1.59981873, 1.01937711]


def slow(z, labels, anchors, known, temperature):
    values = []
    for i, label in enumerate(labels.tolist()):
        if label < 0:
            continue

        def weight(other, i=i):
            cosine = float(z[i] @ other / z[i].norm() / other.norm())
            return math.exp((1 + cosine) / 2 / temperature)

        others = [j for j, one in enumerate(labels.tolist()) if one >= 0 and j != i]
        prototypes = [c for c in range(len(anchors)) if known[c]]
        everything = sum(weight(z[j]) for j in others) + sum(weight(anchors[c]) for c in prototypes)
        positives = [weight(z[j]) for j in others if labels[j] == label] + [
            weight(anchors[c]) for c in prototypes if c == label
        ]
        if positives:
            values.append(math.log(everything / sum(positives) * len(positives)))
    return sum(values) / max(len(values), 1)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_the_tabulated_numbers(dtype, atol):
    loss = SPCLLoss(temperature=0.5, reduction="none")
    values = loss(Z.to(dtype), labels=LABELS, anchors=PROTOTYPES.to(dtype))
    torch.testing.assert_close(values, torch.tensor(PER_ANCHOR, dtype=dtype), atol=atol, rtol=0)
    assert SPCLLoss(temperature=0.5)(Z.to(dtype), labels=LABELS, anchors=PROTOTYPES.to(dtype)).item() == pytest.approx(
        1.48422669, abs=atol
    )


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_it_is_the_loop_over_rows_and_prototypes(seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    anchors = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 4, (7,), generator=generator)
    known = torch.rand(4, generator=generator) < 0.7
    value = SPCLLoss(temperature=0.3)(z, labels=labels, anchors=anchors, known=known)
    assert value.item() == pytest.approx(slow(z, labels, anchors, known, 0.3), abs=1e-9)


def test_rows_whose_loss_is_small_are_left_out_where_that_is_wanted():
    z = Z.clone().requires_grad_()
    kept = [value for value in PER_ANCHOR if value > 1.4]
    loss = SPCLLoss(temperature=0.5, drop_below=1.4)
    value = loss(z, labels=LABELS, anchors=PROTOTYPES)
    assert value.item() == pytest.approx(sum(kept) / len(kept), abs=1e-6)
    assert loss.valid.tolist() == [value > 1.4 for value in PER_ANCHOR]
    nothing = SPCLLoss(temperature=0.5, drop_below=9.0)(z, labels=LABELS, anchors=PROTOTYPES)
    nothing.backward()
    assert nothing.item() == 0
    assert not z.grad.any()


def test_a_single_row_has_its_prototype():
    z = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = SPCLLoss(temperature=1.0)(z, labels=torch.tensor([0]), anchors=torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert loss.item() == pytest.approx(math.log(math.e + 1) - 1, abs=1e-6)
    loss.backward()
    assert torch.isfinite(z.grad).all()


def test_prototypes_that_are_not_there_count_nowhere_whatever_they_hold():
    anchors = PROTOTYPES.clone()
    anchors[1] = float("nan")
    known = torch.tensor([True, False, True])
    z = Z.clone().requires_grad_()
    loss = SPCLLoss(temperature=0.5)(z, labels=LABELS, anchors=anchors, known=known)
    loss.backward()
    assert loss.item() == pytest.approx(slow(Z, LABELS, PROTOTYPES, known, 0.5), abs=1e-9)
    assert torch.isfinite(z.grad).all()


def test_gradients_agree_with_finite_differences():
    loss = SPCLLoss(temperature=0.5)
    assert torch.autograd.gradcheck(
        lambda z, anchors: loss(z, labels=LABELS, anchors=anchors),
        (Z.clone().requires_grad_(), PROTOTYPES.clone().requires_grad_()),
    )


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_queue_keeps_the_latest_of_each_class(seed):
    generator = torch.Generator().manual_seed(seed)
    queue, lists, number = PrototypeQueue(3, 1, length=4, sampled=4), {0: [], 1: [], 2: []}, 0
    for _ in range(6):
        labels = torch.randint(-1, 3, (int(torch.randint(0, 9, (), generator=generator)),), generator=generator)
        values = torch.arange(number, number + len(labels)).float()
        number += len(labels)
        queue.push(values[:, None], labels)
        for label, value in zip(labels.tolist(), values.tolist(), strict=True):
            if label >= 0:
                lists[label] = [*lists[label], value][-4:]
        prototypes, known = queue.prototypes()
        assert known.tolist() == [bool(lists[label]) for label in range(3)]
        assert prototypes[:, 0].tolist() == pytest.approx(
            [sum(kept) / len(kept) if kept else 0.0 for kept in lists.values()]
        )


def test_a_prototype_is_the_mean_of_as_many_as_asked_drawn_by_the_generator():
    queue = PrototypeQueue(1, 1, length=8, sampled=2)
    queue.push(2.0 ** torch.arange(8)[:, None], torch.zeros(8, dtype=torch.long))
    sums = [round(2 * queue.prototypes(torch.Generator().manual_seed(seed))[0].item()) for seed in range(20)]
    assert all(bin(total).count("1") == 2 for total in sums)  # two different powers of two
    assert len(set(sums)) > 5
    assert sums == [round(2 * queue.prototypes(torch.Generator().manual_seed(seed))[0].item()) for seed in range(20)]


def build(facts, **changes):
    return SPCL(
        SPCL.Config(**{"temperature": 0.5, "queue_length": 8, "sampled": 8, "projection_units": 0, **changes}), facts
    )


def test_the_term_compares_with_prototypes_of_the_batches_before(make_batch, make_output, facts):
    first, second = make_batch([5, 3], pad_to=6), make_batch([4, 4], seed=3)
    outputs = make_output(first), make_output(second, seed=1)
    term = build(facts, queue_length=64, sampled=64)
    term(outputs[0], first)
    seen, labels = outputs[0].hidden[first.labelled].detach(), first.labels[first.labelled]
    known = torch.stack([(labels == c).any() for c in range(3)])
    prototypes = torch.stack(
        [seen[labels == c].mean(dim=0) if known[c] else torch.zeros(facts.gives.hidden) for c in range(3)]
    )
    expected = SPCLLoss(temperature=0.5)(
        outputs[1].hidden[second.labelled], labels=second.labels[second.labelled], anchors=prototypes, known=known
    )
    torch.testing.assert_close(term(outputs[1], second), expected)


def test_evaluation_leaves_the_queue_alone_and_nothing_of_it_is_saved(make_batch, make_output, facts):
    batch = make_batch([5, 3])
    term = build(facts).eval()
    term(make_output(batch), batch)
    assert not term.queue.pushed.any()
    assert not term.state_dict()
