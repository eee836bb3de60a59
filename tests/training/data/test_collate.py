from dataclasses import replace

import pytest
import torch

from merc.training.data.collate import collate, evaluation_batches, shuffled_batches
from merc.training.data.dataset import read_split


@pytest.fixture
def split(make_shards):
    return read_split(make_shards().shards, "train", ["text", "audio"], classes=3)


def test_a_batch_is_its_dialogues_padded(split):
    chosen = torch.tensor([5, 0, 9])
    batch = collate(split, chosen)
    assert batch.utterance_mask.shape == (3, int(split.lengths[chosen].max()))
    for place, index in enumerate(chosen.tolist()):
        start, length = int(split.starts[index]), int(split.lengths[index])
        rows = slice(start, start + length)
        assert batch.dialogue_ids[place] == split.dialogue_ids[index]
        assert batch.utterance_index[place].tolist() == [
            *range(start, start + length),
            *[-1] * (batch.utterance_mask.shape[1] - length),
        ]
        assert torch.equal(batch.labels[place, :length], split.labels[rows])
        assert torch.equal(batch.speakers[place, :length], split.speakers[rows])
        for name in ("text", "audio"):
            assert torch.equal(batch.features[name][place, :length], split.features[name][rows])
            assert torch.equal(batch.modality_mask[name][place, :length], split.present[name][rows])


def test_padding_is_zero_absent_and_unlabelled(split):
    batch = collate(split, torch.arange(8))
    padding = ~batch.utterance_mask
    assert padding.any()
    assert batch.features["text"][padding].abs().sum() == 0
    assert not batch.modality_mask["text"][padding].any()
    assert (batch.labels[padding] == -1).all()
    assert not batch.labelled[padding].any()


def test_an_epoch_holds_every_dialogue_once_and_the_seed_decides_the_order(split):
    def order(seed):
        return [
            one
            for batch in shuffled_batches(split, 7, torch.Generator().manual_seed(seed))
            for one in batch.dialogue_ids
        ]

    assert sorted(order(0)) == sorted(split.dialogue_ids)
    assert order(0) == order(0) != order(1)
    assert sorted(one for batch in evaluation_batches(split) for one in batch.dialogue_ids) == sorted(
        split.dialogue_ids
    )


def test_a_batch_moves_with_all_its_tensors(split):
    batch = collate(split, torch.arange(3)).to("meta")
    assert {
        tensor.device.type
        for tensor in (
            batch.labels,
            batch.utterance_index,
            batch.lengths,
            *batch.features.values(),
            *batch.modality_mask.values(),
        )
    } == {"meta"}


def test_what_a_batch_knows_on_the_host_is_what_it_would_work_out(make_shards):
    split = read_split(make_shards(labels=lambda label: label - 1).shards, "train", ["text"], classes=3)
    batch = collate(split, torch.tensor([5, 0, 9]))
    known = (
        "real_positions",
        "labelled_positions",
        "lengths_cpu",
        "speakers_cpu",
        "dialogue_index_cpu",
        "utterance_index_cpu",
    )
    assert set(known) <= vars(batch).keys()
    worked_out = replace(batch)
    for name in known:
        assert name not in vars(worked_out)
        assert torch.equal(getattr(batch, name), getattr(worked_out, name))
    assert len(batch.labelled_positions) < len(batch.real_positions)
    assert torch.equal(batch.to("cpu").labelled_positions, batch.labelled_positions)


def test_a_split_that_moved_knows_its_labels_and_speakers_on_the_host(split):
    assert torch.equal(split.to("meta").labels_cpu, split.labels)
    assert torch.equal(split.to("meta").speakers_cpu, split.speakers)
