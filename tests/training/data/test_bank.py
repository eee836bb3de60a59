import torch

from merc.training.data.bank import UtteranceBank
from merc.training.data.collate import collate
from merc.training.models.context_gru import ContextGRU

EMOTIONS = [[0, 1, 2], [1], [-1, 0]]


def build_model():
    torch.manual_seed(0)
    config = ContextGRU.Config(hidden_units=4)
    return ContextGRU(config, {"text": 6}, classes=3)


def test_it_is_filled_with_what_the_model_hides_without_dropout_and_gradient(make_split):
    split, model = make_split(EMOTIONS, modalities=("text",)), build_model().train()
    bank = UtteranceBank(6, model.gives.hidden)
    assert not bank.filled
    bank.fill(model, split)
    assert bank.filled
    assert model.training
    assert not bank.rows.requires_grad
    assert not bank.rows.is_inference()
    model.eval()
    alone = [model(collate(split, torch.tensor([number]))).hidden[0] for number in range(3)]
    torch.testing.assert_close(bank.rows, torch.cat(alone).detach())


def test_filling_takes_nothing_from_the_random_numbers(make_split):
    split, model = make_split(EMOTIONS, modalities=("text",)), build_model()
    torch.manual_seed(1)
    UtteranceBank(6, model.gives.hidden).fill(model, split)
    found = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(found, torch.rand(1))


def test_a_batch_overwrites_its_own_rows_alone_and_padding_none(make_split):
    split = make_split(EMOTIONS)
    bank = UtteranceBank(6, 2)
    hidden = torch.arange(12.0).reshape(2, 3, 2).requires_grad_()
    bank.write(hidden, collate(split, torch.tensor([2, 0])))
    assert bank.rows.tolist() == [[6, 7], [8, 9], [10, 11], [0, 0], [0, 1], [2, 3]]
    assert not bank.rows.requires_grad


def test_what_is_read_stays_when_the_bank_changes(make_split):
    bank = UtteranceBank(6, 2)
    read = bank.read(torch.tensor([[3, -1]]))
    assert read.shape == (1, 2, 2)
    bank.write(torch.ones(1, 1, 2), collate(make_split(EMOTIONS), torch.tensor([1])))
    assert not read.any()
    assert bank.read(torch.tensor([[3, -1]])).tolist() == [[[1, 1], [0, 0]]]


def test_it_is_not_part_of_what_is_saved():
    assert not UtteranceBank(3, 2).state_dict()
