import numpy as np
import pytest
import torch

from merc.adaptation.batches import shuffled_batches

LENGTHS = np.array([3, 50, 7, 7, 1, 20, 21, 22, 4, 2, 9], dtype=np.int64)


@pytest.mark.parametrize(("size", "pool"), [(1, 1), (4, 1), (2, 3), (4, 2), (100, 3)])
def test_every_item_occurs_once_and_batches_are_full_within_their_pool(size: int, pool: int) -> None:
    batches = shuffled_batches(LENGTHS, size, pool, torch.Generator().manual_seed(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(11))
    assert max(map(len, batches)) <= size
    assert len(batches) == -(-11 // size)


def test_items_of_a_pool_are_sorted_by_length_before_they_are_cut() -> None:
    one_pool = shuffled_batches(LENGTHS, 4, 100, torch.Generator().manual_seed(0))
    assert sorted(sorted(LENGTHS[batch].tolist()) for batch in one_pool) == [[1, 2, 3], [4, 7, 7, 9], [20, 21, 22, 50]]


def test_the_order_is_another_in_the_next_epoch_and_the_same_for_the_same_seed() -> None:
    generator = torch.Generator().manual_seed(4)
    first, second = ([batch.tolist() for batch in shuffled_batches(LENGTHS, 2, 2, generator)] for _ in range(2))
    again = [batch.tolist() for batch in shuffled_batches(LENGTHS, 2, 2, torch.Generator().manual_seed(4))]
    assert first == again
    assert first != second
