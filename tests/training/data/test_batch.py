from dataclasses import replace

import pytest
import torch


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.zeros(2, 3, dtype=torch.long)}, "labels is"),
        ({"features": {"text": torch.zeros(2, 4)}}, "features of text"),
        ({"features": {"smell": torch.zeros(2, 4, 3)}}, "features of smell"),
        ({"lengths": torch.ones(3, dtype=torch.long)}, "lengths are"),
        ({"dialogue_ids": ("one",)}, "1 ids"),
        ({"sequences": {"text": torch.zeros(6, 3, 5)}}, "sequences of text"),
        (
            {
                "sequences": {"text": torch.zeros(6, 3, 5)},
                "sequence_mask": {"text": torch.zeros(6, 2, dtype=torch.bool)},
            },
            "sequences of text",
        ),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(make_batch, change, words):
    with pytest.raises(ValueError, match=words):
        replace(make_batch([4, 2]), **change)


def test_positions_address_the_flattened_batch(make_batch):
    batch = make_batch([4, 2, 6], pad_to=8)
    labels = batch.labels.flatten()
    assert batch.real_positions.tolist() == [place for place in range(24) if place % 8 < [4, 2, 6][place // 8]]
    assert batch.labelled_positions.tolist() == [place for place in batch.real_positions.tolist() if labels[place] >= 0]


def test_a_batch_with_other_labels_has_other_positions(make_batch):
    batch = make_batch([4, 2])
    assert len(batch.labelled_positions)
    assert replace(batch, labels=torch.full((2, 4), -1)).labelled_positions.tolist() == []
