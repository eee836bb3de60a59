"""The order in which a training sees its items: shuffled, with items of similar length in a step.

shuffled:     7 2 9 4 │ 1 8 3 6     pools of ``pool_batches`` batches
sorted:       9 7 4 2 │ 8 6 3 1     by length within a pool, so that a batch has little padding
batches:      86 │ 97 │ 31 │ 42     shuffled again
"""

import numpy as np
import torch
from numpy.typing import NDArray


def shuffled_batches(
    lengths: NDArray[np.int64], size: int, pool_batches: int, generator: torch.Generator
) -> list[NDArray[np.int64]]:
    """The batches of an epoch.

    Args:
        lengths: (items,) number of units of each.
        size: number of items per batch; the last batch of a pool may be smaller.
        pool_batches: number of batches per pool.
        generator: determines the order.

    Returns:
        Indices of the items, batch by batch; each occurs once.
    """
    order = torch.randperm(len(lengths), generator=generator).numpy()
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), size * pool_batches):
        pool = order[start : start + size * pool_batches]
        if pool_batches > 1:
            pool = pool[np.argsort(-lengths[pool], kind="stable")]
        batches += [pool[at : at + size] for at in range(0, len(pool), size)]
    return [batches[at] for at in torch.randperm(len(batches), generator=generator).tolist()]
