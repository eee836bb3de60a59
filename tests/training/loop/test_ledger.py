import pytest
import torch

from merc.training.loop.ledger import Ledger, LossNotFinite, check_weights


@pytest.fixture
def ledger():
    return Ledger(["first", "second"], [1.0, 0.5])


def test_the_means_count_each_step_by_its_labelled_utterances(ledger, make_batch):
    batches = [make_batch([4, 2], seed=1), make_batch([5], seed=2)]
    counts = [int(batch.labelled.sum()) for batch in batches]
    assert counts[0] != counts[1]
    ledger.note(torch.tensor([1.0, 2.0]), batches[0])
    ledger.note(torch.tensor([3.0, 6.0]), batches[1])
    first = (1.0 * counts[0] + 3.0 * counts[1]) / sum(counts)
    assert ledger.close("now") == pytest.approx(
        {"train_loss": 2 * first, "loss_first": first, "loss_second": 2 * first}
    )


def test_steps_without_labels_count_alike(ledger, make_batch):
    batch = make_batch([3]).to("cpu").knowing(labelled_positions=torch.empty(0, dtype=torch.long))
    ledger.note(torch.tensor([1.0, 0.0]), batch)
    ledger.note(torch.tensor([2.0, 0.0]), batch)
    assert ledger.close("now")["train_loss"] == 1.5


def test_the_first_step_that_is_not_finite_is_named_with_its_terms(ledger, make_batch):
    ledger.note(torch.tensor([1.0, 2.0]), make_batch([3]))
    ledger.note(torch.tensor([1.0, float("inf")]), make_batch([2, 2]))
    ledger.note(torch.tensor([float("nan"), float("nan")]), make_batch([1, 1, 1]))
    with pytest.raises(
        LossNotFinite,
        match=r"^seed 0, epoch 3: .*\(first 1, second inf\) in the batch of dialogues train/dia0, train/dia1$",
    ):
        ledger.close("seed 0, epoch 3")


def test_weights_that_are_not_finite_are_named():
    model = torch.nn.Linear(2, 2)
    check_weights(model, "now")
    torch.nn.init.constant_(model.bias, float("nan"))
    with pytest.raises(LossNotFinite, match=r"now: .*weights of bias"):
        check_weights(model, "now")
