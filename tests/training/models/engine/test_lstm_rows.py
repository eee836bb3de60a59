"""The LSTM over packed rows, compared with torch's."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from merc.training.models.engine import lstm_rows


@pytest.mark.parametrize("sizes", [[1], [1] * 7, [3], [2, 2, 1], [5, 4, 4, 2, 1, 1, 1], [2, 2] + [1] * 108])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_states_and_gradients_are_those_of_torch(sizes, bidirectional):
    torch.manual_seed(3)
    lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=bidirectional, dropout=0.4).double()
    input_NF = torch.randn(sum(sizes), 5, dtype=torch.float64)
    wanted_NU = torch.randn(sum(sizes), 4 * (1 + bidirectional), dtype=torch.float64)
    found = []
    for run in (
        lambda rows_NF: lstm(PackedSequence(rows_NF, torch.tensor(sizes)))[0].data,
        lambda rows_NF: lstm_rows.run(lstm, rows_NF, sizes),
    ):
        torch.manual_seed(7)  # of the dropout between the layers
        rows_NF = input_NF.clone().requires_grad_()
        lstm.zero_grad()
        states_NU = run(rows_NF)
        (states_NU * wanted_NU).sum().backward()
        found.append([states_NU, rows_NF.grad, *(parameter.grad.clone() for parameter in lstm.parameters())])
    for of_torch, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, of_torch, atol=1e-12, rtol=1e-10)
    lstm.eval()
    torch.testing.assert_close(
        lstm_rows.run(lstm, input_NF, sizes), lstm(PackedSequence(input_NF, torch.tensor(sizes)))[0].data
    )


def test_its_slopes_are_those_of_small_differences():
    torch.manual_seed(4)
    weights = [torch.randn(8, width, dtype=torch.float64, requires_grad=True) for width in (3, 2)]
    biases = [torch.randn(8, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    input_NF = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)

    def run(rows_NF, *of_layer):
        return lstm_rows.lstm_over(rows_NF, [3, 2, 1], of_layer)

    assert torch.autograd.gradcheck(run, (input_NF, *weights, *biases))
