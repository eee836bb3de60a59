"""What is dropped, how much of it, and that nothing else changes."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from merc.training.data.sequences import Sequences
from merc.training.metrics.modality_dropout import without_modalities

EMOTIONS = [[0, 1, 2, 0], [1], [2, 2, -1], [0] * 30]


def test_a_share_of_the_utterances_that_have_it_loses_a_modality(make_split):
    split = make_split(EMOTIONS)
    poorer = without_modalities(split, {"text": 0.3}, seed=0)
    had, has = split.present["text"], poorer.present["text"]
    assert has.sum() == had.sum() - round(0.3 * int(had.sum()))
    assert not (has & ~had).any()
    assert poorer.features["text"][~has].eq(0).all()
    assert torch.equal(poorer.features["text"][has], split.features["text"][has])
    for name in ("audio", "visual"):
        assert poorer.features[name] is split.features[name]
        assert poorer.present[name] is split.present[name]
    assert poorer.labels is split.labels


def test_more_is_dropped_of_the_same_at_a_higher_rate(make_split):
    split = make_split(EMOTIONS)
    present = [without_modalities(split, {"audio": rate / 10}, seed=1).present["audio"] for rate in range(11)]
    assert torch.equal(present[0], split.present["audio"])
    assert not present[10].any()
    assert all(not (more & ~less).any() for less, more in pairwise(present))


def test_a_modality_loses_the_same_utterances_whichever_others_lose_some(make_split):
    split = make_split(EMOTIONS)
    alone = without_modalities(split, {"visual": 0.5}, seed=2)
    together = without_modalities(split, {"text": 0.5, "visual": 0.5}, seed=2)
    assert torch.equal(alone.present["visual"], together.present["visual"])
    assert not torch.equal(
        together.present["text"] | ~split.present["text"], together.present["visual"] | ~split.present["visual"]
    )  # each on its own
    assert not torch.equal(
        alone.present["visual"], without_modalities(split, {"visual": 0.5}, seed=3).present["visual"]
    )


def test_what_is_below_an_utterance_goes_with_it(make_split):
    split = make_split(EMOTIONS)
    count = split.utterances
    have = split.present["text"].long()
    sequences = Sequences(torch.ones(count + 1, 2, dtype=torch.float16), torch.arange(1, count + 2) * have, have)
    poorer = without_modalities(dataclasses.replace(split, sequences={"text": sequences}), {"text": 0.5}, seed=0)
    assert torch.equal(poorer.sequences["text"].counts > 0, poorer.present["text"])
    assert poorer.sequences["text"].starts[~poorer.present["text"]].eq(0).all()


@pytest.mark.parametrize("rates", [{"smell": 0.5}, {"text": 1.5}, {"text": -0.1}])
def test_a_modality_or_a_rate_that_is_invalid_is_refused(make_split, rates):
    with pytest.raises(ValueError, match=r"modalities: text, audio, visual, rates: 0 to 1"):
        without_modalities(make_split(EMOTIONS), rates, seed=0)
