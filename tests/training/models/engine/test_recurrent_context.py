"""The recurrence over dialogues: both ways of computing it, compared with torch's over packed dialogues."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from merc.training.models.engine.common import padded, real_rows
from merc.training.models.engine.recurrent_context import RecurrentContext, backwards


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("causal", [False, True])
def test_both_ways_are_that_of_torch(make_batch, cell, causal):
    torch.manual_seed(3)
    batch = make_batch([2, 5, 1, 3])
    context = RecurrentContext(cell, 3, 4, layers=2, dropout=0.4, causal=causal).double().eval()
    rows_ND = torch.randn(11, 3, dtype=torch.float64, requires_grad=True)
    wanted_NH = torch.randn(11, 4, dtype=torch.float64)

    def of_torch(rows_ND, batch):
        for number, ahead in enumerate(context.ahead):
            one = cell(ahead.input_size, ahead.hidden_size, batch_first=True, bidirectional=not causal).double()
            halves = {"": ahead} if causal else {"": ahead, "_reverse": context.back[number]}
            one.load_state_dict(
                {f"{name}{end}": value for end, half in halves.items() for name, value in half.state_dict().items()}
            )
            packed = pack_padded_sequence(padded(rows_ND, batch), batch.lengths, True, enforce_sorted=False)
            rows_ND = real_rows(pad_packed_sequence(one(packed)[0], True)[0], batch)
        return rows_ND

    expected_NH = of_torch(rows_ND, batch)
    expected_ND = torch.autograd.grad((expected_NH * wanted_NH).sum(), rows_ND)[0]
    for way in (context.over_rows, context.over_padded):
        found_NH = way(rows_ND, batch)
        torch.testing.assert_close(found_NH, expected_NH, atol=1e-12, rtol=1e-10)
        found_ND = torch.autograd.grad((found_NH * wanted_NH).sum(), rows_ND)[0]
        torch.testing.assert_close(found_ND, expected_ND, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_both_ways_drop_the_same_recurrent_weights_in_training(make_batch, causal):
    torch.manual_seed(3)
    context = RecurrentContext(nn.LSTM, 3, 8, layers=2, weight_dropout=0.5, causal=causal).double()
    batch, rows_ND = make_batch([4, 1, 6]), torch.randn(11, 3, dtype=torch.float64)
    found = []
    for way in (context.over_rows, context.over_padded):
        torch.manual_seed(8)
        found.append(way(rows_ND, batch))
    torch.testing.assert_close(*found)
    assert not torch.equal(context(rows_ND, batch), found[0])
    whole = context.eval()(rows_ND, batch)
    assert torch.equal(context(rows_ND, batch), whole)
    assert not torch.allclose(whole, found[0])


def test_in_training_values_between_the_layers_are_dropped(make_batch):
    context = RecurrentContext(nn.GRU, 3, 4, layers=2, dropout=0.4)
    one_layer = RecurrentContext(nn.GRU, 3, 4, layers=1, dropout=0.4)
    batch, rows_ND = make_batch([2, 3]), torch.randn(5, 3)
    assert not torch.equal(context(rows_ND, batch), context(rows_ND, batch))
    assert torch.equal(one_layer(rows_ND, batch), one_layer(rows_ND, batch))


def test_backwards_turns_each_dialogue_and_leaves_its_padding():
    values_BTD = torch.tensor([[1.0, 2.0, 3.0, 9.0], [4.0, 9.0, 9.0, 9.0], [5.0, 6.0, 7.0, 8.0]])[..., None]
    lengths_B = torch.tensor([3, 1, 4])
    turned_BTD = backwards(values_BTD, lengths_B)
    assert turned_BTD[..., 0].tolist() == [[3, 2, 1, 9], [4, 9, 9, 9], [8, 7, 6, 5]]
    assert torch.equal(backwards(turned_BTD, lengths_B), values_BTD)
