"""DDM compared with numbers from its authors' code, and with loops."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.errors import BadSettings
from merc.training.losses.disentanglement import Disentanglement, DisentanglementLoss
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.base import Gives

VIEWS = {
    "text": torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64),
    "audio": torch.tensor([[0.0, 1.0], [-0.8, 0.6]], dtype=torch.float64),
    "visual": torch.tensor([[-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64),
}


def slow(views, present, level, temperature):
    rows = [(name, i, z[i].detach()) for name, z in views.items() for i in range(len(z)) if present[name][i]]
    terms = []
    for name, i, row in rows:
        scores = {
            (n, j): float(row @ other / row.norm() / other.norm() / temperature)
            for n, j, other in rows
            if (n, j) != (name, i)
        }
        positives = [score for (n, j), score in scores.items() if (n == name if level == "modality" else j == i)]
        if positives:
            terms.append(math.log(sum(math.exp(score) for score in scores.values())) - sum(positives) / len(positives))
    return temperature * sum(terms) / max(len(terms), 1)


# Before the multiplication with τ.
@pytest.mark.parametrize(
    ("level", "temperature", "expected"),
    [
        ("modality", 1.0, 1.24053974),
        ("utterance", 1.0, 2.04053974),
        ("modality", 0.5, 1.13428959),
        ("utterance", 0.5, 2.73428959),
    ],
)
def test_the_tabulated_numbers(level, temperature, expected):
    assert DisentanglementLoss(level, temperature=temperature)(views=VIEWS).item() == pytest.approx(
        temperature * expected, abs=1e-6
    )
    floats = {name: z.float() for name, z in VIEWS.items()}
    assert DisentanglementLoss(level, temperature=temperature)(views=floats).item() == pytest.approx(
        temperature * expected, abs=1e-5
    )


@pytest.mark.parametrize("level", ["modality", "utterance"])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_it_is_the_loop_over_pairs_where_modalities_are_present(level, seed):
    generator = torch.Generator().manual_seed(seed)
    views = {name: torch.randn(4, 3, generator=generator, dtype=torch.float64) for name in VIEWS}
    present = {name: torch.rand(4, generator=generator) < 0.7 for name in VIEWS}
    value = DisentanglementLoss(level, temperature=0.5)(views=views, mask=present)
    assert value.item() == pytest.approx(slow(views, present, level, 0.5), abs=1e-9)


@pytest.mark.parametrize("rows", [0, 1])
def test_where_no_row_has_a_positive_it_costs_exactly_nothing(rows):
    views = {name: torch.randn(rows, 3, requires_grad=True) for name in VIEWS}
    loss = DisentanglementLoss("modality")(views=views)
    loss.backward()
    assert loss.item() == 0.0
    assert not any(z.grad.any() for z in views.values())


@pytest.mark.parametrize("level", ["modality", "utterance"])
def test_gradients_agree_with_finite_differences(level):
    inputs = tuple(z.clone().requires_grad_() for z in VIEWS.values())
    assert torch.autograd.gradcheck(
        lambda *z: DisentanglementLoss(level, temperature=0.5)(views=dict(zip(VIEWS, z, strict=True))), inputs
    )


def test_what_cannot_be_is_refused(facts):
    with pytest.raises(ValueError, match="'speaker'; valid: modality, utterance"):
        DisentanglementLoss("speaker")
    with pytest.raises(ValueError, match=r"'text': \(2, 2\), 'audio': \(1, 2\)"):
        DisentanglementLoss("modality")(views={"text": VIEWS["text"], "audio": VIEWS["audio"][:1]})
    with pytest.raises(BadSettings, match="has only audio"):
        build(TrainingFacts(class_counts=facts.class_counts, gives=Gives(hidden=4, unimodal={"audio": 4})))


def build(facts):
    return Disentanglement(Disentanglement.Config(temperature=0.5, units=3), facts)


LEVELS = frozenset({"of_modality", "of_utterance"})


def given_levels(output, seed=1):
    """The output with both levels, as from a model that disentangles."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*output.logits.shape[:2], 3)
    first, second = (
        {name: torch.randn(shape, generator=generator, requires_grad=True) for name in output.unimodal}
        for _ in range(2)
    )
    return replace(output, extras={"of_modality": first, "of_utterance": second})


def test_the_levels_of_a_model_that_disentangles_are_taken_as_they_are(make_batch, make_output, facts):
    batch = make_batch([5, 3], pad_to=6)
    output, real = given_levels(make_output(batch)), batch.utterance_mask
    term = build(replace(facts, gives=replace(facts.gives, extras=LEVELS)))
    present = {name: batch.modality_mask[name][real] for name in output.unimodal}
    levels = {"modality": output.extras["of_modality"], "utterance": output.extras["of_utterance"]}
    expected = sum(
        slow({name: z[real] for name, z in views.items()}, present, level, 0.5) for level, views in levels.items()
    )
    value = term(output, batch)
    assert value.item() == pytest.approx(expected, abs=1e-4)
    assert list(term.parameters()) == []
    value.backward()
    assert all(z.grad.any() for views in levels.values() for z in views.values())
    assert all(z.grad is None for z in output.unimodal.values())


def test_one_modality_of_a_model_that_disentangles_costs_exactly_nothing_and_backward_runs(
    make_batch, make_output, facts
):
    batch = make_batch([5, 3], modalities=("text",))
    output = given_levels(make_output(batch))
    output = replace(output, extras={level: {"text": views["text"]} for level, views in output.extras.items()})
    value = build(replace(facts, gives=replace(facts.gives, unimodal={"text": 4}, extras=LEVELS)))(output, batch)
    value.backward()
    assert value.item() == 0.0
    assert not output.extras["of_modality"]["text"].grad.any()


def test_the_term_is_the_sum_of_both_levels_over_real_utterances(make_batch, make_output, facts):
    batch = make_batch([5, 3], pad_to=6)
    output = make_output(batch)
    term = build(facts)
    first = {name: term.of_modality[name](z[batch.utterance_mask]) for name, z in output.unimodal.items()}
    second = {name: term.of_utterance[name](z) for name, z in first.items()}
    present = {name: batch.modality_mask[name][batch.utterance_mask] for name in first}
    expected = slow(first, present, "modality", 0.5) + slow(second, present, "utterance", 0.5)
    assert term(output, batch).item() == pytest.approx(expected, abs=1e-4)
