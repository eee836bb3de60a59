"""The confidence loss compared with a loop over utterances."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.errors import BadSettings
from merc.training.losses.true_class_probability import TrueClassProbability, TrueClassProbabilityLoss

NAMES = ("text", "audio", "visual")


def slow(confidence, logits, labels, mask, weight):
    total = 0.0
    for name, kappa in confidence.items():
        terms = []
        for row, label in enumerate(labels.tolist()):
            if label >= 0 and mask[name][row]:
                scores = [math.exp(score) for score in logits[name][row].tolist()]
                p = scores[label] / sum(scores)
                terms.append((kappa[row].item() - p) ** 2 - weight * math.log(p))
        total += sum(terms) / max(len(terms), 1)
    return total


def drawn(seed, rows=6):
    generator = torch.Generator().manual_seed(seed)
    confidence = {name: torch.rand(rows, generator=generator, dtype=torch.float64) for name in NAMES}
    logits = {name: torch.randn(rows, 3, generator=generator, dtype=torch.float64) for name in NAMES}
    return (
        confidence,
        logits,
        torch.randint(-1, 3, (rows,), generator=generator),
        {name: torch.rand(rows, generator=generator) < 0.7 for name in NAMES},
    )


@given(seed=st.integers(0, 10**6), weight=st.sampled_from([0.0, 1.0, 0.3]))
@settings(max_examples=25, deadline=None)
def test_it_is_the_loop_over_utterances_and_modalities(seed, weight):
    confidence, logits, labels, mask = drawn(seed)
    value = TrueClassProbabilityLoss(classifier_weight=weight)(confidence, logits=logits, labels=labels, mask=mask)
    assert value.item() == pytest.approx(slow(confidence, logits, labels, mask, weight), abs=1e-9)


# p = (1/2, 1/2): (3/4 - 1/2)² + ln 2 = 0.0625 + 0.6931.
def test_the_value_by_hand():
    value = TrueClassProbabilityLoss()(
        {"text": torch.tensor([0.75])}, logits={"text": torch.zeros(1, 2)}, labels=torch.tensor([0])
    )
    assert value.item() == pytest.approx(0.7556, abs=1e-4)


def test_the_confidence_is_trained_towards_the_probability_and_the_classifier_by_its_cross_entropy_alone():
    confidence, logits, labels, mask = drawn(4)
    for values in (*confidence.values(), *logits.values()):
        values.requires_grad_()
    TrueClassProbabilityLoss(classifier_weight=0.0)(confidence, logits=logits, labels=labels, mask=mask).backward()
    assert not any(values.grad.any() for values in logits.values())
    TrueClassProbabilityLoss()(confidence, logits=logits, labels=labels, mask=mask).backward()
    for name in NAMES:
        counted = (labels >= 0) & mask[name]
        again = logits[name].detach().clone().requires_grad_()
        torch.nn.functional.cross_entropy(again[counted], labels[counted]).backward()
        torch.testing.assert_close(logits[name].grad, again.grad)
        p = logits[name].detach().softmax(dim=1).gather(1, labels.clamp(min=0)[:, None]).squeeze(1)
        expected = 2 * (confidence[name].detach() - p) / counted.sum() * counted
        torch.testing.assert_close(confidence[name].grad, 2 * expected)  # of both calls


def test_the_term_looks_at_labelled_utterances_where_the_modality_is_present(make_batch, make_output, facts):
    batch = make_batch([5, 3], pad_to=6)
    output, chosen = make_output(batch), batch.labelled
    term = TrueClassProbability(TrueClassProbability.Config(classifier_weight=0.5), facts)
    expected = slow(
        {name: values[chosen] for name, values in output.extras["confidence"].items()},
        {name: values[chosen] for name, values in output.unimodal_logits.items()},
        batch.labels[chosen],
        {name: batch.modality_mask[name][chosen] for name in NAMES},
        0.5,
    )
    assert term(output, batch).item() == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_is_refused(make_batch, make_output, facts):
    term = TrueClassProbability(TrueClassProbability.Config(classifier_weight=1.0), facts)
    batch = make_batch([2])
    for lacking in ({"extras": {}}, {"extras": {"confidence": {}}}, {"unimodal_logits": {}}):
        with pytest.raises(BadSettings, match="gives confidence and logits of each modality, such as df_erc"):
            term(replace(make_output(batch), **lacking), batch)
    with pytest.raises(ValueError, match=r"text: confidence is \(3,\) and logits \(2, 2\) for labels of \(2,\)"):
        TrueClassProbabilityLoss()(
            {"text": torch.zeros(3)}, logits={"text": torch.zeros(2, 2)}, labels=torch.tensor([0, 1])
        )
