"""InfoNCE compared with loops, tabulated numbers and closed forms."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.errors import BadSettings
from merc.training.losses.engine.base import TrainingFacts
from merc.training.losses.info_nce import InfoNCE, InfoNCELoss
from merc.training.models.engine.base import Gives

A = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
B = torch.tensor([[0.6, 0.8], [0.0, 1.0], [0.8, -0.6]], dtype=torch.float64)


def slow(a, b, temperature):
    """One direction, row by row."""
    values = []
    for i, row in enumerate(a):
        scores = [float(row @ other / row.norm() / other.norm() / temperature) for other in b]
        values.append(math.log(sum(math.exp(score) for score in scores)) - scores[i])
    return values


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_the_tabulated_numbers(dtype, atol):
    views = A.to(dtype), B.to(dtype)
    one_way = InfoNCELoss(temperature=0.5, symmetric=False, reduction="none")(views=views)
    torch.testing.assert_close(
        one_way, torch.tensor([1.02712306, 0.99092359, 3.73712607], dtype=dtype), atol=atol, rtol=0
    )
    assert InfoNCELoss(temperature=0.5, symmetric=False)(views=views).item() == pytest.approx(1.91839090, abs=atol)
    assert InfoNCELoss(temperature=0.5)(views=views).item() == pytest.approx(1.88843405, abs=atol)


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_it_is_the_loop_over_rows_and_blind_to_padding(seed, rows):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, rows, 3, generator=generator, dtype=torch.float64)
    expected = (sum(slow(a, b, 0.2)) + sum(slow(b, a, 0.2))) / 2 / rows
    loss = InfoNCELoss(temperature=0.2)
    assert loss(views=(a, b)).item() == pytest.approx(expected, abs=1e-9)
    padding = torch.full((2, 3), float("nan"), dtype=torch.float64)
    mask = torch.tensor([True] * rows + [False] * 2)
    assert loss(views=(torch.cat([a, padding]), torch.cat([b, padding])), mask=mask).item() == pytest.approx(
        expected, abs=1e-9
    )
    assert loss.valid.tolist() == mask.tolist()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_order_rotation_and_length_change_nothing_and_the_views_may_be_swapped(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    order = torch.randperm(6, generator=generator)
    expected = InfoNCELoss()(views=(a, b))
    torch.testing.assert_close(InfoNCELoss()(views=(a[order] @ turn * 3, b[order] @ turn * 0.2)), expected)
    torch.testing.assert_close(InfoNCELoss()(views=(b, a)), expected)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_cost_exactly_nothing(rows):
    views = torch.randn(2, rows, 3, requires_grad=True)
    loss = InfoNCELoss()(views=(views[0], views[1]))
    loss.backward()
    assert loss.item() == 0.0
    assert not views.grad.any()


def test_equal_and_zero_rows_stay_finite_at_a_tiny_temperature():
    views = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]] * 2, requires_grad=True)
    loss = InfoNCELoss(temperature=1e-3)(views=(views[0], views[1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(views.grad).all()


def test_gradients_agree_with_finite_differences():
    assert torch.autograd.gradcheck(
        lambda a, b: InfoNCELoss(temperature=0.5)(views=(a, b)),
        (A.clone().requires_grad_(), B.clone().requires_grad_()),
    )


def test_views_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(2, 2\)"):
        InfoNCELoss()(views=(A, B[:2]))


def build(facts, units):
    return InfoNCE(InfoNCE.Config(temperature=0.5, projection_units=units), facts)


def test_the_term_is_the_mean_over_pairs_of_modalities_where_both_are_present(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6], pad_to=8)
    output = make_output(batch)
    term = build(facts, 2)
    values = []
    for one, other in combinations(facts.gives.unimodal, 2):
        both = batch.modality_mask[one] & batch.modality_mask[other]
        views = tuple(term.project[name](output.unimodal[name][both]) for name in (one, other))
        values.append(InfoNCELoss(temperature=0.5)(views=views))
    assert len(values) == 3
    torch.testing.assert_close(term(output, batch), sum(values) / 3)


def test_one_modality_or_widths_that_differ_without_a_projection_are_refused(facts):
    with pytest.raises(BadSettings, match="has only text"):
        build(TrainingFacts(class_counts=facts.class_counts, gives=Gives(hidden=4, unimodal={"text": 4})), 2)
    with pytest.raises(BadSettings, match=r"differ in width, .*losses\.info_nce\.projection_units"):
        build(facts, 0)
