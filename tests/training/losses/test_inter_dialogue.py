"""IDCL compared with loops over dialogues and tabulated numbers, and batches in which it has no effect."""

import logging
import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from merc.errors import BadSettings
from merc.training.losses.inter_dialogue import InterDialogue, InterDialogueLoss, masked_mean

AUDIO = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, -0.8]], dtype=torch.float64)
TEXT = torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0], [0.8, -0.6]], dtype=torch.float64)
# (K, τ) → audio picks, loss in text; text picks, loss in audio; both.
TABLE = {
    (1, 1.0): (1.07357679, 1.08120448, 1.07739064),
    (1, 0.1): (4.06377984, 4.07011260, 4.06694622),
    (2, 1.0): (0.31679056, 0.27970430, 0.29824743),
    (2, 0.1): (0.53134486, 0.49232136, 0.51183311),
    (3, 1.0): (0.0, 0.0, 0.0),
    (3, 0.1): (0.0, 0.0, 0.0),
    (15, 1.0): (0.0, 0.0, 0.0),
}


def members(mask):
    return [set(row.nonzero().flatten().tolist()) for row in mask]


def cosine(values, i, j):
    return float(values[i] @ values[j] / values[i].norm() / values[j].norm())


def slow_neighbours(values, present, k, cap):
    """Sets of the nearest, dialogue by dialogue."""
    there = [i for i in range(len(values)) if present[i]]
    if cap:
        k = min(k, (len(there) - 1) // 2)
    return {
        i: set(sorted((j for j in there if j != i), key=lambda j, i=i: -cosine(values, i, j))[: max(k, 0)])
        for i in there
    }


def slow_direction(values, present, neighbours, temperature, include_self=False):
    """The loss of each dialogue that has the modality and a neighbour with it."""
    there = [i for i in range(len(values)) if present[i]]
    result = []
    for i in there:
        weights = {j: math.exp(cosine(values, i, j) / temperature) for j in there if j != i or include_self}
        near = [weights[j] for j in neighbours.get(i, set()) if j in there and j != i]
        if near:
            result.append(math.log(sum(weights.values()) / sum(near)))
    return result


def mean(values):
    return sum(values) / max(len(values), 1)


def drawn(seed, dialogues=7):
    generator = torch.Generator().manual_seed(seed)
    pooled = {
        name: torch.randn(dialogues, width, generator=generator, dtype=torch.float64)
        for name, width in {"text": 4, "audio": 3, "visual": 5}.items()
    }
    return pooled, {name: torch.rand(dialogues, generator=generator) < 0.8 for name in pooled}


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("k", "temperature"), TABLE)
def test_the_tabulated_numbers(k, temperature, dtype, atol):
    loss = InterDialogueLoss(k=k, temperature=temperature, k_cap=False)
    audio, text = AUDIO.to(dtype), TEXT.to(dtype)
    everywhere = torch.ones(4, dtype=torch.bool)
    into_text = loss(pooled={"text": text}, neighbours=loss.nearest(audio, everywhere))
    into_audio = loss(pooled={"audio": audio}, neighbours=loss.nearest(text, everywhere))
    both = loss(pooled={"audio": audio, "text": text})
    assert [into_text.item(), into_audio.item(), both.item()] == pytest.approx(list(TABLE[k, temperature]), abs=atol)


@pytest.mark.parametrize(("k", "temperature"), TABLE)
def test_called_with_two_modalities_it_has_one_direction_and_both_make_the_mean(k, temperature):
    loss = InterDialogueLoss(k=k, temperature=temperature, k_cap=False)
    into_text, into_audio = loss(AUDIO, TEXT), loss(TEXT, AUDIO)
    assert [into_text.item(), into_audio.item()] == pytest.approx(TABLE[k, temperature][:2], abs=1e-6)
    assert ((into_text + into_audio) / 2).item() == pytest.approx(TABLE[k, temperature][2], abs=1e-6)


def test_two_modalities_by_utterance_are_pooled_over_those_of_the_mask():
    generator = torch.Generator().manual_seed(2)
    audio, text = (torch.randn(5, 4, width, generator=generator, dtype=torch.float64) for width in (3, 6))
    mask = torch.arange(4) < torch.tensor([4, 1, 3, 2, 0])[:, None]  # the last dialogue is empty
    pooled = {"audio": audio, "text": text}
    means = {
        name: torch.stack([values[row, : max(1, int(mask[row].sum()))].mean(dim=0) for row in range(4)])
        for name, values in pooled.items()
    }
    loss = InterDialogueLoss(k=1, temperature=0.3)
    wanted = mean(
        slow_direction(means["text"], [True] * 4, slow_neighbours(means["audio"], [True] * 4, 1, cap=True), 0.3)
    )
    assert loss(audio, text, mask=mask).item() == pytest.approx(wanted)
    noise = {name: values.masked_fill(~mask[..., None], float("nan")) for name, values in pooled.items()}
    assert torch.equal(
        loss(noise["audio"], noise["text"], mask={"anchor": mask, "other": mask}), loss(audio, text, mask=mask)
    )
    assert torch.equal(loss(pooled=pooled, mask=mask), loss(pooled=pooled, mask=dict.fromkeys(pooled, mask)))


def test_the_tabulated_neighbours_and_terms():
    everywhere = torch.ones(4, dtype=torch.bool)
    loss = InterDialogueLoss(k=1, temperature=1.0, reduction="none")
    assert members(loss.nearest(AUDIO, everywhere)) == [{1}, {0}, {1}, {0}]
    assert members(loss.nearest(TEXT, everywhere)) == [{1}, {0}, {3}, {2}]
    two = InterDialogueLoss(k=2, k_cap=False)
    assert members(two.nearest(AUDIO, everywhere)) == [{1, 2}, {0, 2}, {0, 1}, {0, 2}]
    assert members(two.nearest(TEXT, everywhere)) == [{1, 2}, {0, 2}, {1, 3}, {1, 2}]
    into_text = loss(pooled={"text": TEXT}, neighbours=loss.nearest(AUDIO, everywhere))
    torch.testing.assert_close(
        into_text,
        torch.tensor([0.52822886, 0.81892472, 1.01892472, 1.92822886], dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("k_cap", [False, True])
@given(seed=st.integers(0, 10**6), k=st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_it_is_the_loop_over_dialogues_and_ordered_pairs_of_modalities(k_cap, include_self, seed, k):
    pooled, present = drawn(seed)
    near = {name: slow_neighbours(values, present[name], k, k_cap) for name, values in pooled.items()}
    terms = [
        mean(slow_direction(pooled[other], present[other], near[name], 0.3, include_self))
        for name, other in permutations(pooled, 2)
    ]
    assert len(terms) == 6
    loss = InterDialogueLoss(k=k, temperature=0.3, k_cap=k_cap, include_self=include_self)
    value = loss(pooled=pooled, mask=present)
    assert value.item() == pytest.approx(mean(terms), abs=1e-9)
    assert value >= 0


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_one_modality_finds_its_own_neighbours(seed):
    pooled, present = drawn(seed)
    near = slow_neighbours(pooled["text"], present["text"], 2, cap=True)
    value = InterDialogueLoss(k=2, temperature=0.3)(pooled={"text": pooled["text"]}, mask={"text": present["text"]})
    assert value.item() == pytest.approx(mean(slow_direction(pooled["text"], present["text"], near, 0.3)), abs=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_neighbours_from_elsewhere_serve_every_modality(seed):
    pooled, present = drawn(seed)
    given_BB = torch.rand(7, 7, generator=torch.Generator().manual_seed(seed)) < 0.3  # the diagonal counts for nothing
    near = dict(enumerate(members(given_BB)))
    terms = [mean(slow_direction(values, present[name], near, 0.3)) for name, values in pooled.items()]
    value = InterDialogueLoss(temperature=0.3)(pooled=pooled, mask=present, neighbours=given_BB)
    assert value.item() == pytest.approx(mean(terms), abs=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_order_rotation_and_length_of_the_vectors_change_nothing(seed):
    pooled, present = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(7, generator=generator)
    turned = {}
    for name, values in pooled.items():
        turn = torch.linalg.qr(torch.randn(values.shape[1], values.shape[1], generator=generator, dtype=torch.float64))[
            0
        ]
        turned[name] = (values @ turn * (torch.rand(7, 1, generator=generator) + 0.1))[order]
    loss = InterDialogueLoss(k=2)
    torch.testing.assert_close(
        loss(pooled=turned, mask={name: there[order] for name, there in present.items()}),
        loss(pooled=pooled, mask=present),
    )


def test_dialogues_without_a_modality_change_nothing_there_whatever_is_in_them():
    pooled, _ = drawn(3, dialogues=6)
    there = torch.tensor([True, True, False, True, True, True])
    expected = InterDialogueLoss(k=2)(pooled={name: values[there] for name, values in pooled.items()})
    for values in pooled.values():
        values[2] = float("nan")
        values.requires_grad_()
    loss = InterDialogueLoss(k=2)
    value = loss(pooled=pooled, mask=dict.fromkeys(pooled, there))
    value.backward()
    torch.testing.assert_close(value.detach(), expected)
    assert loss.valid.tolist() == there.tolist()
    assert all(torch.isfinite(values.grad).all() and not values.grad[2].any() for values in pooled.values())


def test_equal_vectors_cost_the_logarithm_of_others_over_neighbours():
    pooled = dict.fromkeys(("text", "audio"), torch.ones(9, 3))
    assert InterDialogueLoss(k=2)(pooled=pooled).item() == pytest.approx(math.log(8 / 2), abs=1e-5)


def test_small_temperatures_are_exact_and_keep_their_gradient():
    # The published code gives 4.0425 at τ = 0.1, and no gradient at 0.02.
    text = TEXT.clone().requires_grad_()
    loss = InterDialogueLoss(k=1, temperature=0.02, k_cap=False)
    loss(pooled={"audio": AUDIO, "text": text}).backward()
    assert text.grad.abs().max() > 1
    near = {0: {1}, 1: {0}, 2: {1}, 3: {0}}
    expected = mean(slow_direction(TEXT, [True] * 4, near, 0.02))
    assert loss(
        pooled={"text": TEXT}, neighbours=loss.nearest(AUDIO, torch.ones(4, dtype=torch.bool))
    ).item() == pytest.approx(expected)


def test_gradients_agree_with_finite_differences_and_none_comes_from_finding_neighbours():
    loss = InterDialogueLoss(k=2, temperature=0.5, k_cap=False)
    everywhere = torch.ones(4, dtype=torch.bool)
    near = {"audio": loss.nearest(AUDIO, everywhere), "text": loss.nearest(TEXT, everywhere)}

    def fixed(audio, text):
        return (
            loss(pooled={"text": text}, neighbours=near["audio"])
            + loss(pooled={"audio": audio}, neighbours=near["text"])
        ) / 2

    inputs = AUDIO.clone().requires_grad_(), TEXT.clone().requires_grad_()
    assert torch.autograd.gradcheck(fixed, inputs)
    found = torch.autograd.grad(loss(pooled={"audio": inputs[0], "text": inputs[1]}), inputs)
    torch.testing.assert_close(found, torch.autograd.grad(fixed(*inputs), inputs))


def test_pooling_leaves_padding_out_and_a_dialogue_without_utterances_is_zero():
    features = torch.tensor(
        [[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]], [[2.0, 0.0], [2.0, 2.0], [2.0, 4.0]], [[float("nan")] * 2] * 3]
    )
    mask = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    assert masked_mean(features, mask).tolist() == [[0.5, 0.5], [2.0, 2.0], [0.0, 0.0]]


def test_codes_of_positions_are_taken_off_so_that_length_does_not_count():
    content, codes = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20.0).view(5, 4)
    mask = torch.arange(5) < torch.tensor([5, 2, 1])[:, None]
    torch.testing.assert_close(masked_mean(content + codes, mask, codes), masked_mean(content, mask))


def test_a_zero_vector_stays_finite_and_gets_no_gradient():
    vectors = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    vectors[2] = 0
    vectors.requires_grad_()
    loss = InterDialogueLoss(k=2, temperature=1e-3)(pooled={"text": vectors, "audio": vectors * 2})
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(vectors.grad).all()
    assert not vectors.grad[2].any()


def test_padded_dialogues_are_pooled():
    generator = torch.Generator().manual_seed(0)
    features, mask = (
        torch.randn(6, 4, 3, generator=generator),
        torch.arange(4) < torch.tensor([4, 2, 0, 1, 3, 4])[:, None],
    )
    expected = InterDialogueLoss(k=1)(pooled={"text": masked_mean(features, mask)}, mask={"text": mask.any(dim=1)})
    torch.testing.assert_close(InterDialogueLoss(k=1)(pooled={"text": features}, mask={"text": mask}), expected)


@pytest.mark.parametrize(("dialogues", "k_cap"), [(0, True), (1, True), (2, True), (2, False), (16, False)])
def test_a_batch_in_which_it_cannot_act_costs_nothing_and_is_warned_of_once(dialogues, k_cap, caplog):
    vectors = torch.randn(dialogues, 4, requires_grad=True)
    loss = InterDialogueLoss(k=15, k_cap=k_cap)
    with caplog.at_level(logging.WARNING, logger="merc"):
        for _ in range(3):
            value = loss(pooled={"text": vectors, "audio": vectors * 2})
    value.backward()
    assert value.item() == 0.0
    assert not vectors.grad.any()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"a batch of {dialogues} dialogues" in caplog.text


def test_a_batch_in_which_it_can_act_is_not_warned_of(caplog):
    with caplog.at_level(logging.WARNING, logger="merc"):
        assert InterDialogueLoss(k=15)(pooled={"text": torch.randn(16, 4), "audio": torch.randn(16, 4)}) > 0
    assert not caplog.records


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="batch of 1 dialogues"):
        InterDialogueLoss(strict=True)(pooled={"text": torch.ones(1, 2)})
    with pytest.raises(ValueError, match="no modality"):
        InterDialogueLoss()(pooled={})
    with pytest.raises(ValueError, match="at least 1"):
        InterDialogueLoss(k=0)
    for one in (
        {"anchor": AUDIO},
        {"anchor": AUDIO, "other": TEXT, "pooled": {"text": TEXT}},
        {"anchor": AUDIO, "other": TEXT, "neighbours": torch.eye(4) > 0},
    ):
        with pytest.raises(ValueError, match="anchor and other, or else pooled"):
            InterDialogueLoss()(**one)
    with pytest.raises(ValueError, match=r"'text': \(3, 2\), 'audio': \(4, 2\)"):
        InterDialogueLoss()(pooled={"text": torch.ones(3, 2), "audio": torch.ones(4, 2)})
    with pytest.raises(ValueError, match=r"the neighbours \(2, 2\)"):
        InterDialogueLoss()(pooled={"text": torch.ones(3, 2)}, neighbours=torch.ones(2, 2, dtype=torch.bool))


def build(facts, **changes):
    return InterDialogue(InterDialogue.Config(**{"k": 2, "temperature": 0.5, **changes}), facts)


def test_the_term_pools_where_the_model_does_not(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6, 1, 4, 2, 7], pad_to=8)
    batch.modality_mask["text"][2] = False
    output = make_output(batch)
    pooled, present = {}, {}
    for name, values in output.unimodal.items():
        rows = [values[i][batch.modality_mask[name][i]] for i in range(7)]
        pooled[name] = torch.stack([row.mean(dim=0) if len(row) else torch.zeros(values.shape[2]) for row in rows])
        present[name] = torch.tensor([len(row) > 0 for row in rows])
    loss = InterDialogueLoss(k=2, temperature=0.5)
    torch.testing.assert_close(build(facts)(output, batch), loss(pooled=pooled, mask=present))
    own = {"text": torch.randn(7, 9), "audio": torch.randn(7, 2)}
    torch.testing.assert_close(
        build(facts)(replace(output, pooled=own), batch), loss(pooled=own, mask={name: present[name] for name in own})
    )


def test_neighbours_of_the_index_are_those_that_are_in_the_batch(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6, 2])
    places = torch.tensor([40, 7, 12, 3])
    index = torch.tensor([[99, 12, 3], [40, -1, -1], [-1, -1, -1], [7, 40, 12]])
    batch = replace(batch, dialogue_index=places, neighbours=index)
    own = {"text": torch.randn(4, 3), "audio": torch.randn(4, 3)}
    output = replace(make_output(batch), pooled=own)
    expected = torch.tensor(
        [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.bool
    )  # the two nearest of the index
    present = {name: batch.modality_mask[name].any(dim=1) for name in own}
    loss = InterDialogueLoss(temperature=0.5)
    torch.testing.assert_close(
        build(facts, neighbours_from="trajectory")(output, batch), loss(pooled=own, mask=present, neighbours=expected)
    )


def test_an_epoch_in_which_no_neighbours_met_is_warned_of_once(make_batch, make_output, facts, caplog):
    batch = make_batch([5, 3, 6, 2])
    term = build(facts, neighbours_from="trajectory")
    alone, met = (replace(batch, neighbours=torch.tensor(rows)) for rows in ([[77]] * 4, [[1], [0], [3], [2]]))
    with caplog.at_level(logging.WARNING, logger="merc"):
        for epoch, this in enumerate([met, alone, alone, alone]):
            term.begin_epoch(epoch, None, torch.Generator())
            value = term(make_output(this), this)
            assert len(caplog.records) == (epoch > 1)
    assert value.item() == 0.0
    assert "whole epoch" in caplog.text


def test_a_recipe_without_a_trajectory_index_is_reported(make_batch, make_output, facts):
    batch = make_batch([2, 2, 2])
    with pytest.raises(BadSettings, match="names no similarity of trajectories"):
        build(facts, neighbours_from="trajectory")(make_output(batch), batch)


def everywhere(batch):
    return replace(batch, modality_mask=dict.fromkeys(batch.modality_mask, batch.utterance_mask))


def test_what_is_seen_of_an_epoch_is_how_far_equal_length_makes_dialogues_alike(make_batch, make_output, facts):
    term, lengths = build(facts), [1, 2, 5, 10, 12]  # no two pairs differ equally
    batch = everywhere(make_batch(lengths))
    angles = torch.tensor(lengths) / 10
    by_length = torch.stack(
        [angles.cos(), angles.sin()], dim=1
    )  # the cosine of two decreases with the difference of their lengths
    assert term.observed() == {}
    for pooled, expected in ((by_length, pytest.approx(1.0)), (torch.ones(5, 2), None)):
        term.begin_epoch(0, None, None)
        for values in (pooled, torch.randn(5, 2)):  # the first batch counts
            term(replace(make_output(batch), pooled={"text": values, "audio": values}), batch)
        assert term.observed() == {"length_correlation": expected}


def test_the_correlation_with_length_is_that_of_scipy_among_dialogues_with_the_modality(make_batch, make_output, facts):
    lengths = [3, 9, 1, 4, 4, 6, 2]
    batch, vectors = everywhere(make_batch(lengths)), torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    batch.modality_mask["text"] = batch.utterance_mask & (torch.arange(7) != 5)[:, None]
    term = build(facts)
    term(replace(make_output(batch), pooled={"text": vectors}), batch)
    pairs = [(i, j) for i in range(7) for j in range(i) if 5 not in (i, j)]
    expected = stats.spearmanr(
        [cosine(vectors, i, j) for i, j in pairs], [-abs(lengths[i] - lengths[j]) for i, j in pairs]
    ).statistic
    assert term.observed()["length_correlation"] == pytest.approx(expected, abs=1e-6)
