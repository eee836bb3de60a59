"""Packed rows compared with one sequence after another. The module's docstring shows the layout."""

import pytest
import torch
from torch import nn

from merc.training.models.engine.sequences import Sequences, counted

CPU = torch.device("cpu")


@pytest.mark.parametrize("owners", [[7, 4, 7, 7, 9, 4], [0], [3, 3, 3], [2, 1, 0]])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_recurrence_sees_each_sequence_alone(kind, owners):
    torch.manual_seed(0)
    recurrence, rows_NMD = (
        kind(4, 3, num_layers=2, bidirectional=True).double(),
        torch.randn(len(owners), 2, 4, dtype=torch.float64),
    )
    found_NMH = Sequences.of(torch.tensor(owners), CPU).run(recurrence, rows_NMD)
    for owner in set(owners):
        own = [row for row, one in enumerate(owners) if one == owner]
        torch.testing.assert_close(found_NMH[own], recurrence(rows_NMD[own])[0])


def test_order_and_places_are_inverse():
    sequences = Sequences.of(torch.tensor([5, 5, 2, 5, 8, 2, 2]), CPU)
    assert sequences.order[sequences.places].tolist() == list(range(7))
    assert sequences.sizes.tolist() == [3, 2, 2]


def test_counts_of_nothing_are_not_numbers():
    assert counted(torch.tensor([0, 2, 0, 1])).tolist() == [0, 1, 0]
    assert counted(torch.tensor([0])).tolist() == []
