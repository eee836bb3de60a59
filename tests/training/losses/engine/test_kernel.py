"""The kernel compared with its definition written with loops and with tabulated numbers, and what must hold for any
input.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.losses.engine.kernel import masked_contrastive, normalised, off_diagonal, pair_logits, valid_anchors

FORMS = ["out", "in_sum", "in_mean", "focal"]
Z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1, 1, 2])
OTHERS = ~torch.eye(6, dtype=torch.bool)
SAME = (LABELS[:, None] == LABELS) & OTHERS


def slow(logits, pos, cand, form, gamma=2.0):
    """Per anchor, in plain Python; None for an anchor without positives or candidates."""
    values = []
    for row, is_pos, is_cand in zip(logits.tolist(), pos.tolist(), cand.tolist(), strict=True):
        positives = [value for value, keep in zip(row, is_pos, strict=True) if keep]
        candidates = [value for value, keep in zip(row, is_cand, strict=True) if keep]
        if not positives or not candidates:
            values.append(None)
            continue
        everything = math.log(sum(math.exp(value) for value in candidates))
        if form == "out":
            value = sum(everything - one for one in positives) / len(positives)
        elif form == "in_sum":
            value = everything - math.log(sum(math.exp(one) for one in positives))
        elif form == "in_mean":
            value = everything - math.log(sum(math.exp(one) for one in positives) / len(positives))
        else:
            value = sum((1 - math.exp(one - everything)) ** gamma * (everything - one) for one in positives) / len(
                positives
            )
        values.append(value)
    return values


def problem(seed, anchors=5, others=7, share=0.4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(anchors, others, generator=generator, dtype=torch.float64) * 3
    pos = torch.rand(anchors, others, generator=generator) < share
    return logits, pos, pos | (torch.rand(anchors, others, generator=generator) < 0.5)


# Computed from the formulas with plain numpy, temperature 0.5.
TABLE = {
    ("out", "all"): [0.53295536, 1.07995496, 1.74262130, 0.87995496, 1.20006845],
    ("out", "neg"): [-0.35103276, 0.66502901, 1.20638002, -0.99247653, -0.43776987],
    ("in_sum", "all"): [0.53295536, 1.07995496, 0.87933884, 0.16693971, 0.21616771],
    ("in_sum", "neg"): [-0.35103276, 0.66502901, 0.34309755, -1.70549178, -1.42167061],
    ("in_mean", "all"): [0.53295536, 1.07995496, 1.57248602, 0.86008689, 0.90931489],
    ("in_mean", "neg"): [-0.35103276, 0.66502901, 1.03624473, -1.01234460, -0.72852343],
    ("focal", "all"): [0.09096378, 0.47098333, 1.22201978, 0.31824364, 0.76943423],
}


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("form", "candidates"), TABLE)
def test_the_tabulated_numbers(form, candidates, dtype, atol):
    logits = pair_logits(Z.to(dtype), Z.to(dtype), temperature=0.5)
    cand = OTHERS if candidates == "all" else LABELS[:, None] != LABELS
    expected = torch.tensor([*TABLE[form, candidates], 0.0], dtype=dtype)
    torch.testing.assert_close(
        masked_contrastive(logits, SAME, cand, form, reduction="none"), expected, atol=atol, rtol=0
    )
    torch.testing.assert_close(
        masked_contrastive(logits, SAME, cand, form, reduction="sum"), expected.sum(), atol=atol * 5, rtol=0
    )
    torch.testing.assert_close(masked_contrastive(logits, SAME, cand, form), expected.sum() / 5, atol=atol, rtol=0)


def test_the_first_number_by_hand():
    logits = pair_logits(Z, Z, temperature=0.5)
    by_hand = math.log(math.exp(1.2) + 1 + math.exp(-1.6) + math.exp(-2) + 1) - 1.2
    assert masked_contrastive(logits, SAME, OTHERS, "out", reduction="none")[0].item() == pytest.approx(
        by_hand, abs=1e-12
    )


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
@settings(max_examples=25, deadline=None)
def test_it_is_the_definition_written_with_loops(form, seed, gamma):
    logits, pos, cand = problem(seed, share=0.2)
    expected = slow(logits, pos, cand, form, gamma)
    values = masked_contrastive(logits, pos, cand, form, reduction="none", gamma=gamma)
    assert values.tolist() == pytest.approx([value or 0.0 for value in expected], abs=1e-9)
    known = [value for value in expected if value is not None]
    assert valid_anchors(pos, cand).tolist() == [value is not None for value in expected]
    assert masked_contrastive(logits, pos, cand, form, gamma=gamma).item() == pytest.approx(
        sum(known) / max(len(known), 1), abs=1e-9
    )


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_forms_are_ordered_and_focal_without_focus_is_out(seed):
    logits, pos, cand = problem(seed)
    out, in_mean, in_sum = (
        masked_contrastive(logits, pos, cand, form, reduction="none") for form in ("out", "in_mean", "in_sum")
    )
    assert (out - in_mean).min() > -1e-9
    assert (in_mean - in_sum).min() > -1e-9
    assert in_sum.min() > -1e-9
    torch.testing.assert_close(masked_contrastive(logits, pos, cand, "focal", reduction="none", gamma=0.0), out)


@pytest.mark.parametrize("form", FORMS)
def test_weights_scale_anchors_and_the_mean_stays_over_their_number(form):
    logits, pos, cand = problem(3, share=0.3)
    weights = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0])
    plain = masked_contrastive(logits, pos, cand, form, reduction="none")
    expected = (plain * weights).sum() / valid_anchors(pos, cand).sum()
    torch.testing.assert_close(masked_contrastive(logits, pos, cand, form, weights), expected)


@pytest.mark.parametrize("form", FORMS)
def test_anchors_without_positives_or_candidates_get_a_zero_loss_and_a_zero_gradient(form):
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pos = torch.tensor([[True, False, False, False], [False] * 4, [True] * 4])
    cand = torch.tensor([[True, True, False, True], [True] * 4, [False] * 4])
    values = masked_contrastive(logits, pos, cand, form, reduction="none")
    values.sum().backward()
    assert values[1:].tolist() == [0.0, 0.0]
    assert values[0] > 0
    assert torch.isfinite(logits.grad).all()
    assert torch.equal(logits.grad[1:], torch.zeros(2, 4))
    assert logits.grad[0, 2] == 0
    assert (logits.grad[0, [0, 1, 3]] != 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_not_even_nan_in_an_anchor_that_does_not_count_reaches_a_gradient(form):
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [float("inf"), 1.0]], requires_grad=True)
    pos = torch.tensor([[True, False], [False, False], [True, False]])
    cand = torch.tensor([[True, True], [True, True], [False, False]])
    loss = masked_contrastive(logits, pos, cand, form)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.equal(logits.grad[1:], torch.zeros(2, 2))
    assert logits.grad[0].abs().min() > 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (3, 3)])
@pytest.mark.parametrize("form", FORMS)
def test_without_a_valid_anchor_the_loss_is_exactly_zero_and_backward_runs(form, shape):
    logits = torch.randn(shape, requires_grad=True)
    nothing = torch.zeros(shape, dtype=torch.bool)
    loss = masked_contrastive(logits, nothing, nothing, form)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(shape))


@pytest.mark.parametrize("form", FORMS)
def test_equal_rows_stay_finite_at_a_tiny_temperature(form):
    z = torch.ones(4, 3, requires_grad=True)
    others = off_diagonal(4, z.device)
    loss = masked_contrastive(pair_logits(z, z, temperature=1e-3), others, others, form, gamma=0.5)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_a_certain_positive_has_a_finite_focal_gradient(gamma):
    logits = torch.tensor([[2.0, 0.0]], requires_grad=True)
    alone = torch.tensor([[True, False]])
    loss = masked_contrastive(logits, alone, alone, "focal", gamma=gamma)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("form", FORMS)
def test_gradients_agree_with_finite_differences(form):
    logits, pos, cand = problem(11)
    assert torch.autograd.gradcheck(
        lambda x: masked_contrastive(x, pos, cand, form, gamma=1.5), logits.requires_grad_()
    )


def test_what_is_not_finite_in_an_anchor_that_counts_is_not_hidden():
    logits, pos, cand = problem(2)
    row = int(valid_anchors(pos, cand).nonzero()[0])
    logits[row, int(pos[row].nonzero()[0])] = float("nan")
    assert masked_contrastive(logits, pos, cand, "out").isnan()


def test_half_precision_is_computed_in_float32_also_under_autocast():
    z = torch.randn(6, 8, generator=torch.Generator().manual_seed(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = pair_logits(z, z, temperature=0.1)
        loss = masked_contrastive(logits, SAME, OTHERS, "out")
    assert logits.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(logits, torch.nn.functional.normalize(z) @ torch.nn.functional.normalize(z).T / 0.1)
    assert masked_contrastive(logits.bfloat16(), SAME, OTHERS, "out").dtype == torch.float32


def test_a_zero_vector_has_cosine_zero_and_no_gradient():
    z = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    units = normalised(z)
    assert units.tolist() == [[0.0, 0.0], [0.6, 0.8]]
    units.sum().backward()
    assert z.grad[0].tolist() == [0.0, 0.0]
    torch.testing.assert_close(z.grad[1], (torch.ones(2) - 1.4 * torch.tensor([0.6, 0.8])).double() / 5)


def test_the_similarities_are_the_ones_they_are_named_after():
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    assert pair_logits(a, b, temperature=0.5, similarity="dot").tolist() == [[16.0, 0.0]]
    torch.testing.assert_close(pair_logits(a, b, temperature=0.5), torch.tensor([[1.6, 0.0]]))
    torch.testing.assert_close(
        pair_logits(a, b, temperature=0.5, similarity="shifted_cosine"), torch.tensor([[1.8, 1.0]])
    )


def test_what_is_misspelt_or_misshapen_is_refused():
    logits, pos, cand = problem(0)
    with pytest.raises(ValueError, match=r"'mid'; valid: focal, in_mean, in_sum, out"):
        masked_contrastive(logits, pos, cand, "mid")
    with pytest.raises(ValueError, match=r"'max'; valid: mean, none, sum"):
        masked_contrastive(logits, pos, cand, "out", reduction="max")
    with pytest.raises(ValueError, match=r"'euclid'; valid: cosine, dot"):
        pair_logits(Z, Z, temperature=1.0, similarity="euclid")
    with pytest.raises(ValueError, match=r"\(5, 7\), \(5, 7\) and \(5, 6\)"):
        masked_contrastive(logits, pos, cand[:, :6], "out")
    with pytest.raises(ValueError, match="must be bool"):
        masked_contrastive(logits, pos.long(), cand, "out")
