"""The LSTM of few dialogues, compared with torch's."""

import pytest
import torch
from torch import nn

from merc.training.models.engine.few_dialogues import lstm_of_few


@pytest.mark.parametrize(("dialogues", "steps"), [(1, 1), (2, 1), (2, 7), (4, 110)])
def test_states_and_gradients_are_those_of_torch(dialogues, steps):
    torch.manual_seed(3)
    lstm = nn.LSTM(5, 4, batch_first=True).double()
    input_BTF = torch.randn(dialogues, steps, 5, dtype=torch.float64)
    wanted = torch.randn(dialogues, steps, 4, dtype=torch.float64)
    found = []
    for run in (lambda values: lstm(values)[0], lambda values: lstm_of_few(values, lstm.all_weights[0])):
        values = input_BTF.clone().requires_grad_()
        lstm.zero_grad()
        states_BTU = run(values)
        (states_BTU * wanted).sum().backward()
        found.append([states_BTU, values.grad, *(parameter.grad.clone() for parameter in lstm.parameters())])
    for ours, of_torch in zip(*found, strict=True):
        torch.testing.assert_close(ours, of_torch, atol=1e-12, rtol=1e-10)


def test_its_slopes_are_those_of_small_differences():
    torch.manual_seed(4)
    weights = [torch.randn(8, width, dtype=torch.float64, requires_grad=True) for width in (3, 2)]
    biases = [torch.randn(8, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    input_BTF = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: lstm_of_few(given[0], given[1:]), (input_BTF, *weights, *biases))
