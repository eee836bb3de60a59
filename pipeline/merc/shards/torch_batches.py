"""Padded batches for torch's ``DataLoader``, whose workers and ranks read parts without overlap."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from merc.errors import BadSettings
from merc.shards.format.reader import Dialogues, Part


class TorchBatches(IterableDataset[dict[str, Any]]):
    """Batches of :meth:`merc.shards.format.reader.Dialogues.batches` as tensors.

    ``DataLoader(TorchBatches(dialogues, 32), batch_size=None, num_workers=4)``: the dataset makes the batches. Do not
    use ``persistent_workers``, which would not notice a new epoch.

    Args:
        dialogues: the split.
        size: dialogues per batch.
        seed: seed of the shuffle, combined with the epoch; None: the order of the files.
        rank: number of this process among ``ranks``; ranks do not overlap and differ by at most one dialogue.
        ranks: number of ranks.

    Raises:
        BadSettings: if there is no such rank, or ``size`` is below 1.
    """

    def __init__(
        self, dialogues: Dialogues, size: int, *, seed: int | None = None, rank: int = 0, ranks: int = 1
    ) -> None:
        Part(rank=rank, ranks=ranks)
        if size < 1:
            raise BadSettings(f"batches of {size} dialogues; valid: from 1")
        self.dialogues, self.size, self.seed, self.rank, self.ranks = dialogues, size, seed, rank, ranks
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Switches to the order of another epoch; call it before the loader is iterated.

        Args:
            epoch: from 0.
            start: number of batches of the epoch that the ``DataLoader`` has already returned, to continue in the
                middle; requires the same number of workers.
        """
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        number, workers = (0, 1) if info is None else (info.id, info.num_workers)
        # A DataLoader takes one batch from each worker in turn, starting with the first, which need not be next where
        # the epoch was interrupted. Since no worker has more batches than an earlier one, the rotation stays complete.
        worker = (number + self.start) % workers
        done = (self.start - worker + workers - 1) // workers
        part = Part(self.rank, self.ranks, worker, workers)
        seed = None if self.seed is None else int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0])
        for batch in self.dialogues.batches(self.size, seed=seed, part=part, start=done * self.size):
            yield {name: value if isinstance(value, list) else torch.from_numpy(value) for name, value in batch.items()}
