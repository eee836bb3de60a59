"""Sentiment dynamics compared with loops over blocks and pairs of utterances."""

import csv
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from merc.corpora.engine.labels import LABEL_SETS
from merc.errors import BadSettings
from merc.params import fill
from merc.training.losses.engine.base import TrainingFacts
from merc.training.losses.sentiment_dynamics import SENTIMENT_OF, SentimentDynamics, SentimentShift
from merc.training.models.engine.base import Gives, MERCOutput

CLASSES = ("joy", "surprise", "anger", "neutral", "sadness")
SENTIMENT = [2, None, 0, 1, 0]


def build(classes=CLASSES, **settings):
    torch.manual_seed(4)
    facts = TrainingFacts(class_counts=torch.ones(len(classes)), gives=Gives(hidden=6, unimodal={}), classes=classes)
    config = fill(settings, SentimentDynamics.Config, where="losses.sentiment_dynamics")
    return SentimentDynamics(config, facts).double()


def some(make_batch, lengths=(7, 1, 4), seed=0):
    """A batch, and vectors for it in which padding is NaN."""
    batch = make_batch(lengths, pad_to=9)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, len(CLASSES), batch.labels.shape, generator=generator).where(batch.utterance_mask, -1)
    hidden = torch.randn(*batch.labels.shape, 6, generator=generator, dtype=torch.float64)
    hidden = hidden.masked_fill(~batch.utterance_mask[..., None], math.nan).requires_grad_()
    return replace(batch, labels=labels), MERCOutput(logits=hidden, hidden=hidden)


def cost(logits, target):
    """Cross-entropy of one vector of logits."""
    return math.log(sum(math.exp(value) for value in logits)) - logits[target]


def by_loops(loss, output, batch, lengths):
    """Both means without their weights."""
    sentiment_costs, shift_costs = [], []
    for index, length in enumerate(lengths):
        labels = batch.labels[index, :length].tolist()
        sentiments = [None if label < 0 else SENTIMENT[label] for label in labels]
        vectors = list(output.hidden[index, :length])
        for vector, sentiment in zip(vectors, sentiments, strict=True):
            if sentiment is not None and loss.sentiment is not None:
                sentiment_costs.append(cost(loss.sentiment(vector).tolist(), sentiment))
        if loss.shift is None:
            continue
        for start in range(0, length, loss.config.shift_window):
            block = range(start, min(start + loss.config.shift_window, length))
            for i in block:
                for j in block:
                    if sentiments[i] is not None and sentiments[j] is not None:
                        logits = loss.shift.head(torch.cat([vectors[i], vectors[j]])).tolist()
                        shift_costs.append(cost(logits, int(sentiments[i] != sentiments[j])))
    return [sum(costs) / max(len(costs), 1) for costs in (sentiment_costs, shift_costs)]


@pytest.mark.parametrize("window", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_weighed_sum_of_the_loops_over_utterances_and_pairs(make_batch, window, seed):
    lengths = (7, 1, 4)
    batch, output = some(make_batch, lengths, seed)
    loss = build(sentiment_weight=0.5, shift_weight=0.2, shift_window=window)
    sentiment, shift = by_loops(loss, output, batch, lengths)
    value = loss(output, batch)
    assert value.item() == pytest.approx(0.5 * sentiment + 0.2 * shift, abs=1e-12)
    value.backward()
    counted = torch.tensor(
        [[label >= 0 and SENTIMENT[label] is not None for label in row] for row in batch.labels.tolist()]
    )
    assert output.hidden.grad.isfinite().all()
    assert torch.equal(output.hidden.grad.any(dim=-1), counted)


@pytest.mark.parametrize(("off", "left"), [("sentiment_weight", 1), ("shift_weight", 0)])
def test_a_weight_of_0_leaves_a_term_out_with_its_weights(make_batch, off, left):
    batch, output = some(make_batch)
    loss = build(**{off: 0.0})
    assert loss(output, batch).item() == pytest.approx(by_loops(loss, output, batch, (7, 1, 4))[left], abs=1e-12)
    assert [name for name, _ in loss.named_children()] == [["sentiment"], ["shift"]][left]


def test_heads_of_zeros_cost_the_logarithm_of_their_classes(make_batch):
    batch, output = some(make_batch)
    loss = build()
    for weight in loss.parameters():
        torch.nn.init.zeros_(weight)
    assert loss(output, batch).item() == pytest.approx(math.log(3) + math.log(2))


def test_no_pair_crosses_a_block_or_a_dialogue():
    shift = SentimentShift(1, 2)
    with torch.no_grad():
        shift.head.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 10.0]]))
        shift.head.bias.zero_()
    hidden = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [math.nan], [math.nan]]])
    sentiments = torch.tensor([[0, 1, 0], [2, -1, -1]])
    pairs = {(1, 1): 0, (1, 2): 1, (2, 1): 1, (2, 2): 0, (3, 3): 0, (4, 4): 0}
    costs = [math.log(1 + math.exp(i + 10 * j)) - shifts * (i + 10 * j) for (i, j), shifts in pairs.items()]
    assert shift(hidden, sentiments).item() == pytest.approx(sum(costs) / 6)


@pytest.mark.parametrize("seed", range(5))
def test_two_utterances_of_different_sentiments_cost_at_least_ln_2(seed):
    torch.manual_seed(seed)
    shift, sentiments = SentimentShift(4, 2), torch.tensor([[0, 2]])
    assert shift(5 * torch.randn(1, 2, 4), sentiments).item() >= math.log(2)


def test_the_settings_may_change_or_take_out_the_sentiment_of_an_emotion():
    loss = build(sentiment_of={"surprise": "positive", "sadness": None})
    assert loss.sentiment_by_class.tolist() == [2, 2, 0, 1, -1]


def test_every_label_set_that_ships_has_at_least_two_sentiments_and_only_surprise_has_none():
    without = set()
    for label_set in LABEL_SETS.values():
        classes = tuple(label_set.classes)
        loss = build(classes)
        without |= {
            one for one, sentiment in zip(classes, loss.sentiment_by_class.tolist(), strict=True) if sentiment < 0
        }
    assert without == {"surprise"}


def test_meld_has_these_sentiments_and_those_of_surprise_are_mixed(real_data):
    with (real_data / "meld" / "train_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        counts = Counter((row["Emotion"], row["Sentiment"]) for row in csv.DictReader(file))
    surprise = {sentiment: count for (emotion, sentiment), count in counts.items() if emotion == "surprise"}
    assert surprise == {"negative": 614, "positive": 591}
    others = {emotion: sentiment for emotion, sentiment in counts if emotion != "surprise"}
    assert others == {emotion: SENTIMENT_OF[emotion] for emotion in others}
    assert len(counts) == len(others) + len(surprise)
    assert counts.total() == 9989


@pytest.mark.parametrize("classes", [("calm", "tense"), ("sadness", "anger", "surprise"), ()])
def test_emotions_of_fewer_than_two_sentiments_are_refused(classes):
    with pytest.raises(BadSettings, match=r"losses\.sentiment_dynamics\.sentiment_of: .*at least two sentiments"):
        build(classes)


def test_two_weights_of_0_are_refused():
    with pytest.raises(BadSettings, match="sentiment_weight and shift_weight are both 0"):
        build(sentiment_weight=0, shift_weight=0)
