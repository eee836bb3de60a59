"""The cross-entropy, recomputed utterance by utterance."""

from dataclasses import replace

import pytest
import torch

from merc.errors import BadSettings
from merc.params import fill
from merc.training.losses.cross_entropy import CrossEntropy, weights_of
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.base import Gives, MERCOutput

COUNTS = torch.tensor([60.0, 30.0, 10.0])


def build(counts=COUNTS, **settings):
    config = fill({"effective_beta": 0.9, **settings}, CrossEntropy.Config, where="losses.cross_entropy")
    return CrossEntropy(
        config,
        TrainingFacts(class_counts=counts, gives=Gives(hidden=4, unimodal={}), classes=("neutral", "joy", "anger")),
    )


def scored(batch):
    logits = torch.randn(*batch.labels.shape, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    return logits, MERCOutput(logits=logits, hidden=logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("scheme", ["none", "inverse", "inverse_sqrt", "effective"])
def test_it_is_the_mean_over_labelled_utterances(make_batch, scheme, smoothing):
    batch = make_batch([4, 7, 1], pad_to=9)
    logits, output = scored(batch)
    weights = weights_of(COUNTS, scheme, 0.9)
    terms = []
    for row in range(3):
        for step in range(int(batch.lengths[row])):
            label = int(batch.labels[row, step])
            if label >= 0:
                logs = logits[row, step].log_softmax(dim=-1)
                terms.append(-(1 - smoothing) * weights[label] * logs[label] - smoothing / 3 * (weights * logs).sum())
    expected = sum(terms) / len(terms)
    torch.testing.assert_close(build(class_weights=scheme, label_smoothing=smoothing)(output, batch), expected)


def _by_hand(logits, batch, mask):
    chosen = [
        (row, step)
        for row in range(len(batch.lengths))
        for step in range(int(batch.lengths[row]))
        if batch.labels[row, step] >= 0 and mask[row, step]
    ]
    return sum(-logits[row, step].log_softmax(dim=-1)[batch.labels[row, step]] for row, step in chosen) / len(chosen)


def test_the_unimodal_term_is_the_mean_over_modalities_where_they_are_present(make_batch):
    batch = make_batch([4, 7, 1], pad_to=9)
    logits, output = scored(batch)
    own = {
        name: torch.randn(*batch.labels.shape, 3, generator=torch.Generator().manual_seed(seed))
        for seed, name in enumerate(batch.features)
    }
    assert len(own) > 1
    terms = [_by_hand(own[name], batch, batch.modality_mask[name]) for name in own]
    expected = _by_hand(logits, batch, batch.utterance_mask) + 0.5 * sum(terms) / len(terms)
    torch.testing.assert_close(build(unimodal_weight=0.5)(replace(output, unimodal_logits=own), batch), expected)


def test_a_model_without_unimodal_logits_has_no_such_term_and_one_with_a_single_head_has(make_batch):
    batch = make_batch([4, 2])
    _, output = scored(batch)
    own = {"text": torch.randn(*batch.labels.shape, 3)}
    joint = build()(output, batch)
    assert torch.equal(build(unimodal_weight=5.0)(output, batch), joint)
    expected = joint + 5.0 * _by_hand(own["text"], batch, batch.modality_mask["text"])
    torch.testing.assert_close(build(unimodal_weight=5.0)(replace(output, unimodal_logits=own), batch), expected)


@pytest.mark.parametrize("fused", [0.0, 0.3])
def test_the_logits_that_predict_weigh_as_much_as_is_said_where_there_are_others(make_batch, fused):
    batch = make_batch([4, 7, 1], pad_to=9)
    logits, output = scored(batch)
    own = {
        name: torch.randn(*batch.labels.shape, 3, generator=torch.Generator().manual_seed(seed))
        for seed, name in enumerate(batch.features)
    }
    terms = [_by_hand(own[name], batch, batch.modality_mask[name]) for name in own]
    expected = fused * _by_hand(logits, batch, batch.utterance_mask) + sum(terms) / len(terms)
    loss = build(fused_weight=fused, unimodal_weight=1.0)
    torch.testing.assert_close(loss(replace(output, unimodal_logits=own), batch), expected)
    assert torch.equal(loss(output, batch), build()(output, batch))


def test_a_loss_of_no_weight_is_refused():
    with pytest.raises(BadSettings, match="both 0"):
        build(fused_weight=0.0)


# Counts 60, 30, 10; by hand: inverse = N / (C n); the others scaled so that the mean over the 100 utterances is 1.
@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("none", [1.0, 1.0, 1.0]),
        ("inverse", [100 / 180, 100 / 90, 100 / 30]),
        ("inverse_sqrt", [0.78789, 1.11424, 1.92993]),
        ("effective", [0.93811, 0.97788, 1.43773]),
    ],
)
def test_weights_are_the_tabulated_ones_and_have_mean_one(scheme, expected):
    weights = weights_of(COUNTS, scheme, 0.9)
    torch.testing.assert_close(weights, torch.tensor(expected), atol=1e-4, rtol=0)
    assert float((weights * COUNTS).sum() / COUNTS.sum()) == pytest.approx(1.0)


# Counts 60, 30, 10. 1, 1.3, 1.3 have the mean 1.12 over the utterances; 100 / 180, 1.3 · 100 / 90, 1.3 · 100 / 30 the
# mean 1.2.
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"weight_by_class": {"neutral": 1.0}, "other_weight": 1.3}, [1 / 1.12, 1.3 / 1.12, 1.3 / 1.12]),
        (
            {"weight_by_class": {"neutral": 1.0}, "other_weight": 1.3, "class_weights": "inverse"},
            [1 / 2.16, 1.3 / 1.08, 1.3 / 0.36],
        ),
        ({"weight_by_class": {"anger": 0.0}}, [1 / 0.9, 1 / 0.9, 0.0]),
        ({"weight_by_class": {}, "other_weight": 1.3}, [1.0, 1.0, 1.0]),
    ],
)
def test_factors_by_emotion_change_the_weights_and_not_their_mean(settings, expected):
    torch.testing.assert_close(build(**settings).class_weights, torch.tensor(expected))


def test_a_factor_for_no_emotion_of_the_label_set_is_refused():
    with pytest.raises(
        BadSettings,
        match=(
            r"weight_by_class: no emotion 'neutrl' in the label set; did you mean 'neutral'\? valid: anger, joy,"
            r" neutral"
        ),
    ):
        build(weight_by_class={"neutrl": 1.0})
    with pytest.raises(BadSettings, match=r"losses\.cross_entropy\.weight_by_class\.joy: .*given: -1\.0"):
        build(weight_by_class={"joy": -1.0})


@pytest.mark.parametrize("scheme", ["none", "inverse", "inverse_sqrt", "effective"])
def test_a_class_that_does_not_occur_weighs_nothing(scheme):
    weights = weights_of(torch.tensor([5.0, 0.0, 5.0]), scheme, 0.9)
    assert weights.tolist() == [1.0, 0.0, 1.0]


def test_a_batch_without_labels_costs_exactly_nothing_and_backward_runs(make_batch):
    batch = make_batch([3, 2])
    batch = replace(batch, labels=torch.full_like(batch.labels, -1))
    logits, output = scored(batch)
    loss = build()(output, batch)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_padding_and_unlabelled_utterances_get_no_gradient(make_batch):
    batch = make_batch([4, 2], pad_to=6)
    logits, output = scored(batch)
    build()(output, batch).backward()
    touched = logits.grad.abs().sum(dim=-1) > 0
    assert torch.equal(touched, batch.labelled)


def test_half_precision_scores_are_summed_in_float32(make_batch):
    batch = make_batch([5])
    logits, _ = scored(batch)
    halves = MERCOutput(logits=logits.half(), hidden=logits)
    assert build()(halves, batch).dtype == torch.float32


def test_scores_where_a_modality_is_absent_reach_no_gradient_whatever_they_are(make_batch):
    batch = make_batch([4, 7, 1], pad_to=9)
    _, output = scored(batch)
    own = {
        name: torch.full((*batch.labels.shape, 3), float("nan")).masked_fill(mask[..., None], 0.5).requires_grad_()
        for name, mask in batch.modality_mask.items()
    }
    loss = build(unimodal_weight=1.0)(replace(output, unimodal_logits=own), batch)
    loss.backward()
    torch.testing.assert_close(loss, build()(output, batch) + torch.tensor(3.0).log())
    assert all(torch.isfinite(scores.grad).all() for scores in own.values())
