"""LSTM and GRU over packed rows, compared with torch's."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from merc.training.models.engine import recurrent_rows


@pytest.mark.parametrize("sizes", [[1], [1] * 7, [3], [2, 2, 1], [5, 4, 4, 2, 1, 1, 1], [2, 2] + [1] * 108])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("modules", [1, 3])
def test_states_and_gradients_are_those_of_torch(kind, modules, sizes, bidirectional):
    torch.manual_seed(3)
    recurrences = [
        kind(5, 4, num_layers=2, bidirectional=bidirectional, dropout=0.4 * (modules == 1)).double()
        for _ in range(modules)
    ]
    inputs = torch.randn(modules, sum(sizes), 5, dtype=torch.float64)
    wanted = torch.randn(modules, sum(sizes), 4 * (1 + bidirectional), dtype=torch.float64)

    def of_torch(rows):
        packed = [PackedSequence(rows_NF, torch.tensor(sizes)) for rows_NF in rows]
        return [run(one)[0].data for run, one in zip(recurrences, packed, strict=True)]

    def of_ours(rows):
        return recurrent_rows.run(recurrences, rows, sizes)

    found = []
    for run in (of_torch, of_ours):
        torch.manual_seed(7)  # of the dropout between the layers
        rows = [rows_NF.clone().requires_grad_() for rows_NF in inputs]
        weights = [parameter for one in recurrences for parameter in one.parameters()]
        states = run(rows)
        total = (torch.stack(states) * wanted).sum()
        found.append([*states, *torch.autograd.grad(total, [*rows, *weights])])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)
    for one in recurrences:
        one.eval()
    torch.testing.assert_close(of_ours(list(inputs)), of_torch(list(inputs)))


def test_large_weights_take_their_steps_one_after_the_other_with_the_same_states(monkeypatch):
    torch.manual_seed(6)
    recurrence, rows_NF = nn.GRU(3, 2, bidirectional=True), torch.randn(4, 3)
    (together_NU,) = recurrent_rows.run([recurrence], [rows_NF], [2, 1, 1])
    monkeypatch.setattr(recurrent_rows, "TOGETHER_BYTES", 0)
    calls, over = [], recurrent_rows.states_over
    monkeypatch.setattr(
        recurrent_rows, "states_over", lambda rows, *rest: (calls.append(len(rows)), over(rows, *rest))[1]
    )
    (separate_NU,) = recurrent_rows.run([recurrence], [rows_NF], [2, 1, 1])
    torch.testing.assert_close(separate_NU, together_NU)
    assert calls == [2, 1, 1]


@pytest.mark.parametrize("gates", [4, 3])
def test_its_slopes_are_those_of_small_differences(gates):
    torch.manual_seed(4)
    weights = [torch.randn(2 * gates, width, dtype=torch.float64, requires_grad=True) for width in (3, 2)]
    biases = [torch.randn(2 * gates, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    input_NF = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)

    def run(rows_NF, *of_layer):
        return recurrent_rows.states_over([rows_NF], [3, 2, 1], [of_layer])

    assert torch.autograd.gradcheck(run, (input_NF, *weights, *biases))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_under_mixed_precision_it_computes_in_float32(kind):
    torch.manual_seed(5)
    recurrence, rows_NF = kind(3, 2, num_layers=2, bidirectional=True), torch.randn(4, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found_NU,) = recurrent_rows.run([recurrence], [rows_NF], [2, 1, 1])
    (expected_NU,) = recurrent_rows.run([recurrence], [rows_NF.float()], [2, 1, 1])
    assert found_NU.dtype == torch.float32
    assert torch.equal(found_NU, expected_NU)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_second_derivative_is_refused_even_if_the_loss_is_linear(kind):
    rows_NF = torch.randn(4, 3, requires_grad=True)
    (states_NU,) = recurrent_rows.run([kind(3, 2)], [rows_NF], [2, 1, 1])
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(states_NU.sum(), rows_NF, create_graph=True)


@pytest.mark.parametrize(
    ("modules", "rows"),
    [
        ([nn.LSTM(3, 2), nn.LSTM(3, 2, num_layers=2)], [4, 4]),
        ([nn.LSTM(3, 2), nn.GRU(3, 2)], [4, 4]),
        ([nn.GRU(3, 2, bias=False)], [4]),
        ([nn.LSTM(3, 2, proj_size=1)], [4]),
        ([nn.GRU(3, 2)], [5]),
    ],
)
def test_what_it_cannot_run_is_refused(modules, rows):
    with pytest.raises(ValueError, match="expected one kind and size"):
        recurrent_rows.run(modules, [torch.randn(one, 3) for one in rows], [2, 1, 1])
