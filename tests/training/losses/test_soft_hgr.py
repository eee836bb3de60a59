"""Soft-HGR compared with loops over utterances and features."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.errors import BadSettings
from merc.training.losses.engine.base import TrainingFacts
from merc.training.losses.soft_hgr import SoftHGR, SoftHGRLoss
from merc.training.models.engine.base import Gives


def of_pair(f, g):
    """Vectors as lists of numbers; expectations and covariances one number at a time."""
    if len(f) < 2:
        return 0.0
    n, width = len(f), len(f[0])
    f, g = ([[row[d] - sum(other[d] for other in rows) / n for d in range(width)] for row in rows] for rows in (f, g))

    def covariance(rows, d, e):
        return sum(row[d] * row[e] for row in rows) / (n - 1)

    expected = sum(f[i][d] * g[i][d] for i in range(n) for d in range(width)) / (n - 1)
    trace = sum(covariance(f, d, e) * covariance(g, e, d) for d in range(width) for e in range(width))
    return -(expected - trace / 2)


@given(seed=st.integers(0, 10**6), modalities=st.integers(2, 3), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_it_is_the_loop_over_pairs_of_modalities(seed, modalities, share):
    generator = torch.Generator().manual_seed(seed)
    names = ["text", "audio", "visual"][:modalities]
    features = {name: torch.randn(7, 3, generator=generator, dtype=torch.float64) + 2.0 for name in names}
    mask = {name: torch.rand(7, generator=generator) <= share for name in names}
    terms = []
    for a, b in combinations(names, 2):
        rows = [i for i in range(7) if mask[a][i] and mask[b][i]]
        terms.append(of_pair(features[a][rows].tolist(), features[b][rows].tolist()))
    for values in features.values():
        values.requires_grad_()
    value = SoftHGRLoss()(features, mask=mask)
    assert value.item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)
    value.backward()
    assert all(values.grad.isfinite().all() for values in features.values())


def test_of_dialogues_it_is_that_of_their_present_utterances():
    generator = torch.Generator().manual_seed(0)
    padded = {name: torch.randn(2, 4, 3, generator=generator, dtype=torch.float64) for name in ("text", "audio")}
    there = torch.tensor([[True, True, False, False], [True, False, True, True]])
    expected = SoftHGRLoss()({name: values[there] for name, values in padded.items()})
    for values in padded.values():
        values[~there] = math.nan
    torch.testing.assert_close(SoftHGRLoss()(padded, mask={"text": there, "audio": torch.ones_like(there)}), expected)


def random_pair(n=9, width=3):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, width, generator=generator, dtype=torch.float64) for _ in range(2)]


def test_it_does_not_change_with_means_and_with_a_map_that_the_other_modality_undoes():
    f, g = random_pair()
    around = torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = SoftHGRLoss()({"text": f, "audio": g})
    torch.testing.assert_close(SoftHGRLoss()({"text": f + 3.0, "audio": g - 1.0}), expected)
    torch.testing.assert_close(SoftHGRLoss()({"text": f @ around, "audio": g @ torch.linalg.inv(around).T}), expected)
    torch.testing.assert_close(SoftHGRLoss()({"text": g, "audio": f}), expected)


def test_its_least_value_is_half_the_sum_of_squared_canonical_correlations():
    """The maximum over linear maps f = A x, g = B y, by gradient descent, compared with the singular values of the
    whitened cross-covariance.
    """
    x, y = random_pair(n=12)
    y = y + 0.5 * x
    bases = [torch.linalg.qr(values - values.mean(dim=0)).Q for values in (x, y)]
    least = -0.5 * torch.linalg.svdvals(bases[0].T @ bases[1]).square().sum()
    maps = [torch.eye(3, dtype=torch.float64).requires_grad_() for _ in range(2)]
    optimizer = torch.optim.LBFGS(
        maps, max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=1e-14
    )

    def value():
        optimizer.zero_grad()
        loss = SoftHGRLoss()({"text": x @ maps[0], "audio": y @ maps[1]})
        loss.backward()
        return loss

    optimizer.step(value)
    torch.testing.assert_close(value(), least)


def test_whitened_features_that_agree_cost_minus_a_half_each():
    white = torch.linalg.qr(random_pair()[0] - random_pair()[0].mean(dim=0)).Q * math.sqrt(8)
    assert SoftHGRLoss()({"text": white, "audio": white}).item() == pytest.approx(-1.5)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_utterances_in_common_cost_nothing(rows):
    features = {name: torch.randn(rows, 3, requires_grad=True) for name in ("text", "audio")}
    value = SoftHGRLoss()(features)
    value.backward()
    assert value.item() == 0.0
    assert not any(values.grad.any() for values in features.values())


@pytest.mark.parametrize("shapes", [{}, {"text": (4, 3), "audio": (4, 2)}, {"text": (4, 3), "audio": (5, 3)}])
def test_modalities_of_different_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match="one shape"):
        SoftHGRLoss()({name: torch.zeros(shape) for name, shape in shapes.items()})


def term(facts, **block):
    return SoftHGR(SoftHGR.Config(**{"projection_units": 0, **block}), facts)


def test_the_term_compares_aligned_vectors_of_real_utterances_where_both_are_present(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6], pad_to=8)
    output = make_output(batch)
    assert not batch.labelled[batch.utterance_mask].all()
    real = batch.utterance_mask
    features, mask = (
        {name: values[real] for name, values in part.items()} for part in (output.aligned, batch.modality_mask)
    )
    torch.testing.assert_close(term(facts)(output, batch), SoftHGRLoss()(features, mask=mask))


def test_of_a_model_without_such_vectors_it_compares_the_modalities_own_ones(make_batch, make_output):
    batch = make_batch([5, 3])
    output = make_output(batch)
    output.aligned = {}
    dims = {"text": 4, "audio": 5, "visual": 3}
    with pytest.raises(BadSettings, match=r"losses\.soft_hgr\.projection_units above 0"):
        term(TrainingFacts(class_counts=torch.ones(3), gives=Gives(hidden=6, unimodal=dims)))
    loss = term(TrainingFacts(class_counts=torch.ones(3), gives=Gives(hidden=6, unimodal=dims)), projection_units=2)
    loss(output, batch).backward()
    assert all(values.grad.any() for values in output.unimodal.values())


def test_with_one_modality_it_costs_nothing(make_batch, make_output):
    batch = make_batch([5, 3])
    output = make_output(batch)
    value = term(TrainingFacts(class_counts=torch.ones(3), gives=Gives(hidden=6, unimodal={"text": 4})))(output, batch)
    value.backward()
    assert value.item() == 0.0
