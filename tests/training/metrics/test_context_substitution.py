"""The replaced dialogues: what stays, what is replaced, and by what."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.data.collate import evaluation_batches
from merc.training.data.dataset import DialogueSplit
from merc.training.data.sequences import Sequences
from merc.training.metrics import context_substitution
from merc.training.metrics.context_substitution import substituted_logits, substituted_splits


def make_split(seed=0, dialogues=6, classes=3, unlabelled=True):
    """Utterance r has the text vector (r, label), which shows where every replacement comes from."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, dialogues)
    total = int(lengths.sum())
    labels = rng.integers(-1 if unlabelled else 0, classes, total)
    vectors = np.stack([np.arange(total), labels], axis=1)
    return DialogueSplit(
        name="test",
        features={"text": torch.tensor(np.vstack([vectors, [0, 0]]), dtype=torch.float32)},
        present={"text": torch.tensor([*(np.arange(total) % 5 != 0), False])},
        labels=torch.tensor([*labels, -1]),
        speakers=torch.tensor([*rng.integers(0, 2, total), 0]),
        identities=torch.arange(total + 1) % 3,
        starts=torch.tensor(np.cumsum(lengths) - lengths),
        lengths=torch.tensor(lengths),
        dialogue_ids=tuple(f"test/dia{k}" for k in range(dialogues)),
        scenario_ids=tuple(f"scene{k}" for k in range(dialogues)),
        utterance_ids=tuple(f"test/u{r}" for r in range(total)),
    )


def copies_of(split, kind, causal=False, seed=0):
    """(original rows of the dialogue, target's row, source rows, copy's speakers, copy's labels) for every rebuilt
    dialogue, by target.
    """
    found = []
    for substituted, targets in substituted_splits(split, kind, causal=causal, seed=seed):
        assert len(substituted.lengths) == len(targets)
        for copy, target in enumerate(targets.tolist()):
            place = next(
                k for k in range(len(split.starts)) if split.starts[k] <= target < split.starts[k] + split.lengths[k]
            )
            own = list(range(int(split.starts[place]), int(split.starts[place] + split.lengths[place])))
            assert substituted.lengths[copy] == len(own)
            assert substituted.dialogue_ids[copy] == f"test/dia{place}/test/u{target}"
            rows = slice(int(substituted.starts[copy]), int(substituted.starts[copy]) + len(own))
            sources = substituted.features["text"][rows, 0].long().tolist()
            assert torch.equal(substituted.present["text"][rows], split.present["text"][sources])
            found.append((own, target, sources, substituted.speakers[rows].tolist(), substituted.labels[rows].tolist()))
        assert substituted.features["text"][-1].tolist() == [0, 0]
        assert (substituted.labels[-1], substituted.present["text"][-1]) == (-1, False)
    return sorted(found, key=lambda one: one[1])


@pytest.mark.parametrize("kind", ["eccs", "eics", "identity"])
@pytest.mark.parametrize("causal", [False, True])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_target_and_the_speakers_stay_and_the_context_is_replaced_by_the_rule(kind, causal, seed):
    split = make_split(seed)
    labels = split.labels.tolist()
    targets = []
    for own, target, sources, speakers, shown in copies_of(split, kind, causal, seed):
        targets.append(target)
        assert speakers == split.speakers[own].tolist()
        assert shown == [labels[row] if row == target else -1 for row in own]
        for row, source in zip(own, sources, strict=True):
            pool = [r for r in range(split.utterances) if r not in own and labels[r] >= 0]
            fitting = {
                "eccs": [r for r in pool if labels[r] == labels[row]],
                "eics": [r for r in pool if labels[r] != labels[row]],
                "identity": [],
            }[kind]
            replaced = row != target and not (causal and row > target) and labels[row] >= 0 and fitting
            assert source in fitting if replaced else source == row
    assert targets == [row for row in range(split.utterances) if labels[row] >= 0]


@pytest.mark.parametrize("kind", ["eccs", "eics"])
def test_every_fitting_utterance_is_drawn_alike(kind):
    split = make_split(4, unlabelled=False)
    labels = split.labels[:-1].numpy()
    own, row, drawn = None, None, []
    for seed in range(600):
        own, target, sources = copies_of(split, kind, seed=seed)[0][:3]
        row = next(r for r in own if r != target)
        drawn.append(sources[own.index(row)])
    outside = np.setdiff1d(np.arange(len(labels)), own)
    fitting = outside[labels[outside] == labels[row]] if kind == "eccs" else outside[labels[outside] != labels[row]]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == fitting.tolist()
    expected = 600 / len(fitting)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_copies_of_one_dialogue_are_drawn_apart_and_a_seed_repeats_them():
    split = make_split(2, dialogues=12)
    first, again, other = ([copy[2] for copy in copies_of(split, "eics", seed=seed)] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def context_model(split):
    """Logits that depend on the utterance, on the mean of its dialogue and on the speakers."""
    logits = torch.zeros(split.utterances, 3)
    for batch in evaluation_batches(split):
        values = batch.features["text"].masked_fill(~batch.utterance_mask[..., None], 0.0)
        mean = values.sum(dim=1, keepdim=True) / batch.lengths[:, None, None]
        scores = torch.stack(
            [
                values[..., 0].sin(),
                mean[..., 0].cos().expand_as(values[..., 0]),
                (values[..., 1] + batch.speakers).sin(),
            ],
            dim=-1,
        )
        logits[batch.utterance_index[batch.utterance_mask]] = scores[batch.utterance_mask]
    return logits


def said(split, predict, kind, **how):
    """What is predicted of the labelled utterances."""
    logits = substituted_logits(split, predict, kind, **{"causal": False, "seed": 0, **how})
    assert len(logits) == split.utterances
    return logits[split.labelled]


def test_with_the_identity_the_predictions_are_those_on_the_split_itself():
    split = make_split(1)
    assert torch.equal(said(split, context_model, "identity"), context_model(split)[split.labelled])


def test_a_model_that_looks_at_nothing_but_the_utterance_is_not_moved():
    split = make_split(3)

    def alone(one):
        return torch.nn.functional.one_hot(one.features["text"][:-1, 0].long() % 3, 3).float()

    for kind in ("eccs", "eics"):
        assert torch.equal(said(split, alone, kind), alone(split)[split.labelled])
    assert not torch.equal(said(split, context_model, "eics"), said(split, context_model, "identity"))


@pytest.mark.parametrize("kind", ["eccs", "eics"])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_score_of_dialogues_rebuilt_one_by_one(kind, causal):
    split = make_split(7)
    found = substituted_logits(split, context_model, kind, causal=causal, seed=3)
    assert all(found[row].eq(0).all() for row in range(split.utterances) if split.labels[row] < 0)
    for own, target, sources, speakers, _ in copies_of(split, kind, causal, 3):
        alone = dataclasses.replace(
            split,
            features={"text": split.features["text"][[*sources, -1]]},
            present={"text": split.present["text"][[*sources, -1]]},
            labels=torch.tensor([-1] * len(own) + [-1]),
            speakers=torch.tensor([*speakers, 0]),
            starts=torch.tensor([0]),
            lengths=torch.tensor([len(own)]),
            dialogue_ids=("one",),
            scenario_ids=("one",),
            utterance_ids=tuple(map(str, own)),
        )
        assert torch.allclose(found[target], context_model(alone)[own.index(target)])


def test_a_large_split_is_cut_into_several_and_each_target_comes_once(monkeypatch):
    split = make_split(2, dialogues=12)
    whole = said(split, context_model, "eccs")
    monkeypatch.setattr(context_substitution, "_UTTERANCES", 20)
    splits = list(substituted_splits(split, "eccs", causal=False, seed=0))
    assert len(splits) > 5
    assert max(one.utterances for one, _ in splits) < 20 + max(split.lengths.tolist())
    assert sorted(np.concatenate([targets for _, targets in splits])) == [
        row for row in range(split.utterances) if split.labels[row] >= 0
    ]
    assert torch.equal(said(split, context_model, "eccs"), whole)


def test_what_is_below_an_utterance_comes_along_with_it():
    split = make_split(6)
    count = split.utterances
    values = torch.arange(count + 1, dtype=torch.float16)[:, None]  # entry r of utterance r - 1
    sequences = Sequences(values, torch.tensor([*range(1, count + 1), 0]), torch.tensor([1] * count + [0]))
    split = dataclasses.replace(
        split, sequences={"text": sequences}, neighbours=torch.zeros(len(split.lengths), 2, dtype=torch.long)
    )
    for substituted, _ in substituted_splits(split, "eics", causal=False, seed=0):
        for batch in evaluation_batches(substituted):
            rows = batch.features["text"][batch.utterance_mask][:, 0]
            assert batch.sequences["text"][:, 0, 0].tolist() == (rows + 1).tolist()


@pytest.mark.parametrize("kind", ["eccs", "eics"])
def test_a_split_of_one_dialogue_stays_as_it_is(kind):
    split = make_split(5, dialogues=1)
    assert split.utterances > 1
    assert all(own == sources for own, _, sources, _, _ in copies_of(split, kind))


def test_unlabelled_dialogues_are_left_out_and_unknown_kinds_refused():
    split = make_split(0)
    nothing = dataclasses.replace(split, labels=torch.full_like(split.labels, -1))
    assert not list(substituted_splits(nothing, "eccs", causal=False, seed=0))
    with pytest.raises(ValueError, match="nothing is labelled"):
        substituted_logits(nothing, context_model, "eccs", causal=False, seed=0)
    with pytest.raises(ValueError, match="'ecs'; valid: eccs, eics, identity"):
        list(substituted_splits(split, "ecs", causal=False, seed=0))
