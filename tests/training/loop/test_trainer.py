import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from merc.params import Params
from merc.shards.format import reader
from merc.training.data.batch import DialogueBatch
from merc.training.data.collate import collate
from merc.training.loop.ledger import LossNotFinite
from merc.training.loop.trainer import _Training, predict, scores, train_seed
from merc.training.losses.cross_entropy import CrossEntropy
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.recipes.resolution import resolve
from merc.training.stage import load_data

ROOT = Path(__file__).resolve().parents[3]
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
    assert all(
        torch.equal(one, other)
        for one, other in zip(found[0].model.state_dict().values(), found[1].model.state_dict().values(), strict=True)
    )
    assert found[0].test != found[1].test


def test_training_stops_when_dev_no_longer_gets_better(trained):
    result, _ = trained(epochs=40, patience_epochs=3)
    assert len(result.history) == min(40, result.epoch + 3)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1]),
        ("linear", [0.1, 0.075, 0.05, 0.025]),
        ("cosine", [0.1, 0.0853553, 0.05, 0.0146447]),
    ],
)
def test_the_learning_rate_follows_its_schedule(trained, schedule, expected):
    result, _ = trained(
        "text", schedule=schedule, epochs=4, optimizer={"name": "adam", "learning_rate": 0.1, "weight_decay": 0.0}
    )
    assert [row["learning_rate"] for row in result.history] == pytest.approx(expected, abs=1e-6)


def test_the_first_steps_have_a_growing_learning_rate(make_shards, tree, monkeypatch):
    tree["recipes"]["text"] |= {
        "schedule": "linear",
        "epochs": 2,
        "warmup_steps": 4,
        "optimizer": {"name": "adam", "learning_rate": 0.1, "weight_decay": 0.0},
    }
    plan, layout, rates = resolve(Params(tree), "text"), make_shards(), []
    data, _ = load_data(plan, reader.info(layout.shards), layout)
    training = _Training(plan.phases[0], plan.build(data.dims, 3).to(CPU), data.train, data.classes, 0, CPU)
    step = training.optimizer.step
    monkeypatch.setattr(
        training.optimizer,
        "step",
        lambda *given, **more: rates.append(training.optimizer.param_groups[0]["lr"]) or step(*given, **more),
    )
    training.epoch(1)
    training.epoch(2)
    assert rates == pytest.approx(
        [0.025, 0.05, 0.075, 0.05, 0.05, 0.05]
    )  # three steps of an epoch; half the rate in the second


def test_the_optimiser_has_the_settings_of_the_recipe(make_shards, tree):
    plain = {"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.2}
    layout, found = make_shards(), []
    for optimizer in (plain, {**plain, "betas": [0.8, 0.84], "epsilon": 1e-7}):
        tree["recipes"]["text"]["optimizer"] = optimizer
        plan = resolve(Params(tree), "text")
        data, _ = load_data(plan, reader.info(layout.shards), layout)
        group = _Training(
            plan.phases[0], plan.build(data.dims, 3).to(CPU), data.train, data.classes, 0, CPU
        ).optimizer.param_groups[0]
        found.append((group["lr"], group["weight_decay"], group["betas"], group["eps"]))
    assert found == [(0.1, 0.2, (0.9, 0.999), 1e-8), (0.1, 0.2, (0.8, 0.84), 1e-7)]


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
    assert all(
        torch.equal(one, two)
        for one, two in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    )


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


class NoSync(TorchDispatchMode):
    """Fails on operations that make the host wait for a GPU: reading a number, or a result whose size depends on the
    data.
    """

    FORBIDDEN = ("nonzero", "_local_scalar_dense", "item", "masked_select", "unique", "equal", "is_nonzero")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        assert name not in self.FORBIDDEN, func
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):  # a bool mask as an index hides a nonzero
            assert all(one is None or one.dtype != torch.bool for one in args[1]), func
        return func(*args, **(kwargs or {}))


class Plain(MERCModel):
    """A linear model: a GRU reads numbers that are on the host, which cannot be told here from numbers on a GPU."""

    def __init__(self, config, dims, classes):
        super().__init__(config, dims, classes)
        self.gives, self.causal = Gives(hidden=8, unimodal={}), False
        self.hide, self.classify = nn.Linear(sum(dims.values()), 8), nn.Linear(8, classes)

    def forward(self, batch):
        hidden = self.hide(torch.cat([batch.features[name] for name in self.modalities], dim=-1)).relu()
        return MERCOutput(logits=self.classify(hidden), hidden=hidden)


class Smooth(CrossEntropy):
    def forward(self, output, batch, **state):
        return output.logits.flatten(0, 1)[batch.labelled_positions].logsumexp(dim=-1).mean()


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": {"name": "adam", "learning_rate": 0.01, "weight_decay": 0.1}, "gradient_clip": None}]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_step_waits_for_a_number(make_shards, tree, settings, precision):
    tree["recipes"]["all"] |= {**settings, "precision": precision}
    plan, layout = resolve(Params(tree), "all"), make_shards()
    plan = replace(plan, model=Plain, losses=(replace(plan.losses[0], kind=Smooth),))
    data, _ = load_data(plan, reader.info(layout.shards), layout)
    training = _Training(plan.phases[0], plan.build(data.dims, 3).to(CPU), data.train, data.classes, 0, CPU)
    batch = collate(data.train, torch.arange(8))
    before = training.model.classify.weight.detach().clone()
    with NoSync():
        for _ in range(2):
            training.step(batch, 1)
    assert not torch.equal(before, training.model.classify.weight)


def test_values_of_the_modalities_that_a_recipe_names_are_dropped_in_training_alone(make_shards, tree):
    tree["recipes"]["all"]["feature_dropout"] = {"audio": 0.5, "visual": 0.0}
    plan, layout = resolve(Params(tree), "all"), make_shards()
    data, _ = load_data(plan, reader.info(layout.shards), layout)
    training = _Training(plan.phases[0], plan.build(data.dims, 3), data.train, data.classes, 0, CPU)
    batch = collate(data.train, torch.arange(8))
    seen = []
    training.model.register_forward_pre_hook(lambda model, given: seen.append(given[0].features))
    training.step(batch, 1)
    assert all(torch.equal(seen[0][name], batch.features[name]) for name in seen[0] if name != "audio")
    dropped, kept = seen[0]["audio"] == 0, batch.features["audio"] != 0
    torch.testing.assert_close(seen[0]["audio"][~dropped], 2 * batch.features["audio"][~dropped])
    assert 0.3 < dropped[kept].float().mean() < 0.7
    predict(training.model, data.dev)
    assert sum(int((one["audio"] != 0).sum()) for one in seen[1:]) == int((data.dev.features["audio"] != 0).sum())


@pytest.mark.needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_step_waits_for_the_gpu(make_shards, tree, precision):
    tree["recipes"]["all"]["precision"] = precision
    plan, layout, device = resolve(Params(tree), "all"), make_shards(), torch.device("cuda:0")
    plan = replace(plan, model=Plain, losses=(replace(plan.losses[0], kind=Smooth),))
    data = load_data(plan, reader.info(layout.shards), layout)[0].to(device)
    training = _Training(plan.phases[0], plan.build(data.dims, 3).to(device), data.train, data.classes, 0, device)
    training.step(collate(data.train, torch.arange(8)), 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.step(collate(data.train, torch.arange(8, 16)), 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("loss", ["cross_entropy", "inter_dialogue"])
@pytest.mark.parametrize("framework", [None, "dclf"])
def test_dialogues_are_pooled_only_for_a_loss_that_looks_at_it(trained, framework, loss):
    result, _ = trained(framework=framework, losses={"cross_entropy": {}, loss: {}}, epochs=1)
    inner = result.model.model if framework else result.model
    assert result.model.wants_pooled == inner.wants_pooled == (loss == "inter_dialogue")


def test_the_history_has_each_term_of_the_loss(trained):
    result, _ = trained(losses={"cross_entropy": {"weight": 0.5}})
    for row in result.history:
        assert row["train_loss"] == pytest.approx(0.5 * row["loss_cross_entropy"])
    assert result.history[-1]["loss_cross_entropy"] < result.history[0]["loss_cross_entropy"]


def test_the_last_epoch_is_kept_where_a_recipe_selects_none(trained):
    result, _ = trained(selection="last", patience_epochs=1, epochs=6)
    assert result.epoch == len(result.history) == 6
    assert result.dev["weighted_f1"] == result.history[-1]["dev_weighted_f1"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_nearly_the_same(trained, precision):
    full, half = trained()[0], trained(precision=precision)[0]
    assert half.history[0]["train_loss"] != full.history[0]["train_loss"]
    assert half.history[-1]["train_loss"] == pytest.approx(full.history[-1]["train_loss"], rel=0.1)
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())


def test_the_losses_are_given_float32_regardless_of_the_precision(trained, monkeypatch):
    seen, forward = set(), CrossEntropy.forward

    def noted(self, output, batch, **state):
        tensors = [output.logits, output.hidden, *output.unimodal.values(), *output.unimodal_logits.values()]
        seen.update(tensor.dtype for tensor in tensors)
        return forward(self, output, batch, **state)

    monkeypatch.setattr(CrossEntropy, "forward", noted)
    trained(precision="bfloat16", epochs=1)
    assert seen == {torch.float32}
