import json

import numpy as np
import pytest
import torch

from pipeline.params import Params
from pipeline.shards import reader
from pipeline.training.batch import DialogueBatch
from pipeline.training.collate import collate
from pipeline.training.losses.cross_entropy import CrossEntropy
from pipeline.training.recipe import resolve
from pipeline.training.stage import load_data
from pipeline.training.trainer import LossNotFinite, predict, repeatable, scores, train_seed

CPU = torch.device("cpu")


@pytest.fixture
def trained(make_shards, tree):
    """Trains a recipe of the small settings; keywords as ``make_shards``, and ``change`` of the recipe."""
    layout = make_shards()

    def run(recipe="all", seed=0, **settings):
        tree["recipes"][recipe] = {**tree["recipes"][recipe], **settings}
        plan = resolve(Params(tree), recipe)
        data, _ = load_data(plan, reader.info(layout.shards), layout)
        return train_seed(plan, data, seed, CPU), data

    return run


@pytest.mark.parametrize("modality", ["text", "audio", "visual"])
def test_a_small_train_split_is_learned_by_heart_from_each_modality(make_shards, tree, modality):
    train_rows = []

    def dev_is_train(split, rows):
        if split == "train":
            train_rows.extend(rows)
        if split == "dev":
            rows[:] = train_rows

    tree["recipes"][modality] |= {"epochs": 25, "patience_epochs": 25}
    plan, layout = resolve(Params(tree), modality), make_shards(change=dev_is_train)
    data, _ = load_data(plan, reader.info(layout.shards), layout)
    result = train_seed(plan, data, 0, CPU)
    labels, present = data.dev.labels[:-1].numpy(), data.dev.present[modality][:-1].numpy()
    assert scores(np.where(present, labels, -1), predict(result.model, data.dev), 3)["accuracy"] > 0.97


def test_the_epoch_is_chosen_on_dev_and_the_earliest_of_equal_ones(trained):
    result, _ = trained()
    dev = [row["dev_weighted_f1"] for row in result.history]
    assert result.epoch == 1 + dev.index(max(dev))
    assert result.dev["weighted_f1"] == max(dev)


def test_the_weights_of_the_chosen_epoch_are_the_ones_that_score_test(trained):
    result, data = trained()
    row = result.history[result.epoch - 1]
    assert result.test["weighted_f1"] == row["test_weighted_f1_not_used"]
    again = scores(data.test.labels[:-1].numpy(), predict(result.model, data.test), 3)
    assert again == result.test
    assert result.best_test["weighted_f1"] == max(row["test_weighted_f1_not_used"] for row in result.history)


def test_test_labels_decide_nothing_but_the_test_scores(make_shards, tree):
    def flipped(split, rows):
        if split == "test":
            for row in rows:
                row["emotion_index"] = [2 - one for one in row["emotion_index"]]

    plan, found = resolve(Params(tree), "all"), []
    for dataset, change in (("one", lambda split, rows: None), ("two", flipped)):
        layout = make_shards(change=change, dataset=dataset)
        data, _ = load_data(plan, reader.info(layout.shards), layout)
        found.append(train_seed(plan, data, 0, CPU))
    assert found[0].epoch == found[1].epoch
    assert all(torch.equal(one, other) for one, other in zip(found[0].model.state_dict().values(), found[1].model.state_dict().values(), strict=True))
    assert found[0].test != found[1].test


def test_training_stops_when_dev_no_longer_gets_better(trained):
    result, _ = trained(epochs=40, patience_epochs=3)
    assert len(result.history) == min(40, result.epoch + 3)


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [0.1, 0.1, 0.1, 0.1]), ("linear", [0.1, 0.075, 0.05, 0.025]), ("cosine", [0.1, 0.0853553, 0.05, 0.0146447])]
)
def test_the_learning_rate_follows_its_schedule(trained, schedule, expected):
    result, _ = trained("text", schedule=schedule, epochs=4, optimizer={"name": "adam", "learning_rate": 0.1, "weight_decay": 0.0})
    assert [row["learning_rate"] for row in result.history] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("least", "expected"), [(1, [8, 8, 8]), (6, [4] * 6), (100, [1] * 24)])
def test_few_dialogues_are_cut_into_smaller_batches(trained, monkeypatch, least, expected):
    sizes, forward = [], CrossEntropy.forward

    def noted(self, output, batch, **state):
        sizes.append(len(batch.dialogue_ids))
        return forward(self, output, batch, **state)

    monkeypatch.setattr(CrossEntropy, "forward", noted)
    trained("text", epochs=1, min_steps_per_epoch=least)
    assert sizes == expected


def test_the_same_seed_gives_the_same_run_and_another_seed_another(trained):
    first, second, other = (trained(seed=seed)[0] for seed in (3, 3, 4))
    assert json.dumps(first.history) == json.dumps(second.history) != json.dumps(other.history)
    assert all(torch.equal(one, two) for one, two in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True))


def test_the_state_of_torch_is_put_back():
    torch.manual_seed(11)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with repeatable(5, CPU):
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_loss_that_is_not_finite_stops_the_training_naming_the_dialogues(trained, monkeypatch):
    forward = CrossEntropy.forward

    def poisoned(self, output, batch: DialogueBatch, **state):
        return forward(self, output, batch, **state) * (float("nan") if "train/dia5" in batch.dialogue_ids else 1.0)

    monkeypatch.setattr(CrossEntropy, "forward", poisoned)
    with pytest.raises(LossNotFinite, match=r"seed 0, epoch 1: .*cross_entropy nan.*train/dia5\b"):
        trained()


def test_scores_of_a_padded_batch_are_those_of_the_flat_list(trained):
    result, data = trained()
    batch = collate(data.test, torch.randperm(len(data.test.dialogue_ids), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        logits = result.model(batch).logits
    padded = scores(batch.labels.flatten().numpy(), logits.flatten(0, 1), 3)
    assert padded == scores(data.test.labels[:-1].numpy(), predict(result.model, data.test), 3) == result.test


def test_unlabelled_utterances_count_nowhere(make_shards, tree):
    layout = make_shards(labels=lambda label: -1 if label == 2 else label)
    plan = resolve(Params(tree), "text")
    data, _ = load_data(plan, reader.info(layout.shards), layout)
    result = train_seed(plan, data, 0, CPU)
    assert data.class_counts[2] == 0
    assert int(data.class_counts.sum()) < data.train.utterances
    assert result.test["accuracy"] > 0.8
