"""A plain torch DataLoader over the shards: tensors, and workers and ranks without overlap."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from merc.errors import BadSettings
from merc.shards.format.reader import Dialogues
from merc.shards.torch_batches import TorchBatches

Make = Callable[..., Any]
ALL = [f"train/dia{number}" for number in range(9)]


@pytest.fixture
def root(extracted: Make) -> Path:
    return Path(extracted({"train": (3, 1, 2, 4, 1, 1, 2, 5, 2)}, modalities=("text",)).build())


def _batches(
    root: Path, workers: int, *, start: int = 0, epoch: int = 0, size: int = 2, **which: int
) -> list[list[str]]:
    data = TorchBatches(Dialogues(root, "train", ["dialogue_id"]), size, **which)
    data.set_epoch(epoch, start)
    return [batch["dialogue_id"] for batch in DataLoader(data, batch_size=None, num_workers=workers)]


def test_batches_are_the_reader_s_as_tensors(root: Path) -> None:
    dialogues = Dialogues(root, "train")
    for found, wanted in zip(
        DataLoader(TorchBatches(dialogues, 4, seed=None), batch_size=None), dialogues.batches(4), strict=True
    ):
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            if isinstance(value, np.ndarray):
                assert isinstance(found[name], torch.Tensor)
                np.testing.assert_array_equal(found[name].numpy(), value)
            else:
                assert found[name] == value
    assert (found["text"].dtype, found["text_present"].dtype, found["emotion_index"].dtype) == (
        torch.float32,
        torch.bool,
        torch.int64,
    )


def test_two_workers_on_two_ranks_read_every_dialogue_once(root: Path) -> None:
    ranks = [_batches(root, 2, seed=3, rank=rank, ranks=2) for rank in (0, 1)]
    assert [sum(map(len, batches)) for batches in ranks] == [5, 4]
    assert sorted(one for batches in ranks for batch in batches for one in batch) == ALL


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_continues_in_the_middle_with_workers(root: Path, workers: int) -> None:
    whole = _batches(root, workers, size=1, seed=3, epoch=5)
    assert sorted(one for batch in whole for one in batch) == ALL
    for start in (1, 4, 8, 9):
        assert _batches(root, workers, size=1, seed=3, epoch=5, start=start) == whole[start:]


def test_every_epoch_and_seed_has_an_order_of_its_own(root: Path) -> None:
    orders = [_batches(root, 0, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert _batches(root, 0, epoch=4) == [
        ALL[index : index + 2] for index in range(0, 9, 2)
    ]  # without a seed every epoch is in the stored order


def test_impossible_ranks_and_sizes_are_refused(root: Path) -> None:
    dialogues = Dialogues(root, "train")
    with pytest.raises(BadSettings, match="rank 2 of 2"):
        TorchBatches(dialogues, 2, rank=2, ranks=2)
    with pytest.raises(BadSettings, match="batches of 0"):
        TorchBatches(dialogues, 0)
