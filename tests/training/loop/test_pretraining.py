import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from merc import files
from merc.errors import BadSettings
from merc.job import RunOptions
from merc.params import Params
from merc.training.data.dataset import concatenated, read_split
from merc.training.loop import pretraining
from merc.training.loop.pretraining import PreparedPretraining, fitting, head_names
from merc.training.losses.cross_entropy import CrossEntropy
from merc.training.models.context_gru import ContextGRU
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

RUN = RunOptions(device="cpu", workers=1)
CPU = torch.device("cpu")


@pytest.fixture
def two(make_shards, tree):
    """Shards ``first`` and ``tiny``, and the recipe ``second``, which starts with ``stage_one`` on ``first``."""
    tree["recipes"]["stage_one"] = {**tree["recipes"]["all"], "selection": "last", "epochs": 2}
    tree["recipes"]["second"] = {**tree["recipes"]["text"], "pretraining": {"dataset": "first", "recipe": "stage_one"}}
    make_shards(dataset="first")
    return make_shards(splits={"train": 12, "dev": 6, "test": 6})


def relabelled(layout, dataset, classes):
    path = layout.out / dataset / "shards" / "meta" / "info.json"
    info = files.read_json(path) | {"classes": list(classes)}
    for counts in info["counts"].values():
        counts["labels"] = dict.fromkeys(classes, 0)
    files.write_json(path, info)


def stage_one(params, layout, runs, recipe="second", classes=("neutral", "joy", "anger")):
    return PreparedPretraining.of(resolve(params, recipe), layout, classes, runs)


def test_training_begins_with_the_weights_of_the_first_stage_of_the_same_seed(two, tree, tmp_path):
    tree["recipes"]["second"] |= {
        "epochs": 1,
        "optimizer": {"name": "adamw", "learning_rate": 1e-12, "weight_decay": 0.0},
    }
    made = train(resolve(Params(tree), "second"), two, RUN, runs=tmp_path / "runs")
    results = json.loads((made / "results.json").read_text())["pretraining"]
    assert (results["dataset"], results["recipe"], results["splits"]) == ("first", "stage_one@text", ["train"])
    assert results["not_transferred"] == ["classifiers.text.weight", "classifiers.text.bias"]
    folder = next((tmp_path / "runs" / "first" / ".pretraining").iterdir())
    assert results["fingerprint"].startswith(folder.name.rpartition("-")[2])
    for seed in (0, 1):
        first, second = (
            load_file(folder / f"seed-{seed}.safetensors"),
            load_file(made / "models" / f"seed-{seed}" / "model.safetensors"),
        )
        assert results["transferred"]
        for name in results["transferred"]:
            torch.testing.assert_close(second[f"model.{name}"], first[f"model.{name}"], atol=1e-9, rtol=0)
        assert not torch.equal(second["model.classifiers.text.weight"], first["model.classifiers.text.weight"])


def test_a_first_stage_is_trained_once_for_all_who_ask_for_the_same(two, tree, tmp_path, monkeypatch):
    trained, pretrain_seed = [], pretraining.pretrain_seed
    monkeypatch.setattr(
        pretraining,
        "pretrain_seed",
        lambda plan, train, classes, seed, *more: (
            trained.append(seed) or pretrain_seed(plan, train, classes, seed, *more)
        ),
    )
    tree["recipes"]["third"] = {**tree["recipes"]["second"], "gradient_clip": None}
    for recipe in ("second", "third"):
        train(resolve(Params(tree), recipe), two, RUN, runs=tmp_path / "runs")
    assert trained == [0, 1]
    tree["recipes"]["stage_one"] |= {"seeds": [7]}  # the second training's seeds apply
    assert stage_one(Params(tree), two, tmp_path / "runs").folder.is_dir()
    tree["recipes"]["stage_one"] |= {"epochs": 3}
    assert not stage_one(Params(tree), two, tmp_path / "runs").folder.exists()


def test_a_first_stage_leaves_its_epochs(two, tree, tmp_path):
    tree["losses"]["inter_dialogue"] = {
        "neighbours_from": "features",
        "k": 2,
        "temperature": 0.5,
        "k_cap": True,
        "include_self": False,
        "strict": False,
    }
    tree["recipes"]["stage_one"] |= {"losses": {"inter_dialogue": {"weight": 1.0}}}
    train(resolve(Params(tree), "second"), two, RUN, runs=tmp_path / "runs")
    rows = list(csv.DictReader((stage_one(Params(tree), two, tmp_path / "runs").folder / "seed-1.csv").open()))
    assert list(rows[0]) == [
        "seed",
        "epoch",
        "learning_rate",
        "train_loss",
        "loss_inter_dialogue",
        "inter_dialogue_length_correlation",
    ]
    assert [(row["seed"], row["epoch"]) for row in rows] == [("1", "1"), ("1", "2")]
    assert all(
        -1 <= float(row["inter_dialogue_length_correlation"]) <= 1 and float(row["loss_inter_dialogue"]) > 0
        for row in rows
    )


def test_a_killed_two_stage_training_ends_alike(two, params, tmp_path, monkeypatch):
    def contents(folder):
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }

    undisturbed = contents(train(resolve(params, "second"), two, RUN, runs=tmp_path / "one"))
    with monkeypatch.context() as patched:
        patched.setattr("merc.training.loop.seeds.train_seed", lambda *more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(resolve(params, "second"), two, RUN, runs=tmp_path / "two")
    assert contents(train(resolve(params, "second"), two, RUN, runs=tmp_path / "two")) == undisturbed


def test_a_changed_first_stage_makes_the_second_another_run(two, tree, tmp_path):
    train(resolve(Params(tree), "second"), two, RUN, runs=tmp_path / "runs")
    before = stage_one(Params(tree), two, tmp_path / "runs").digest
    tree["losses"]["cross_entropy"]["label_smoothing"] = 0.1
    assert stage_one(Params(tree), two, tmp_path / "runs").digest != before
    settings = resolve(Params(tree), "second").settings()
    assert settings["pretraining"]["losses"]["cross_entropy"]["label_smoothing"] == 0.1
    assert "seeds" not in settings["pretraining"]["recipes"]["stage_one@text"]


def test_a_head_goes_over_only_where_it_is_wanted_and_the_labels_are_the_same(two, tree, tmp_path):
    tree["recipes"]["second"]["pretraining"]["transfer_head"] = True
    plan = resolve(Params(tree), "second")
    first = stage_one(Params(tree), two, tmp_path / "runs")
    assert first.start(plan, {"text": 6}, 3, 0, CPU).left == []
    relabelled(two, "first", ["neutral", "anger", "joy"])
    with pytest.raises(BadSettings, match=r"second\.pretraining\.transfer_head: the label sets .* differ"):
        stage_one(Params(tree), two, tmp_path / "runs")


@pytest.mark.parametrize("classes", [("neutral", "anger", "joy"), ("neutral", "joy", "anger", "fear")])
def test_a_head_of_another_label_set_does_not_go_over_even_where_it_fits(two, params, tmp_path, classes):
    relabelled(two, "first", classes)
    start = stage_one(params, two, tmp_path / "runs").start(resolve(params, "second"), {"text": 6}, 3, 0, CPU)
    assert start.left == ["classifiers.text.weight", "classifiers.text.bias"]


def test_heads_are_the_tensors_that_hang_on_the_number_of_classes(params):
    heads = head_names(resolve(params, "all"), {"text": 6, "audio": 5, "visual": 4}, 3)
    assert heads == {
        f"classifiers.{name}.{part}" for name in ("text", "audio", "visual") for part in ("weight", "bias")
    }


def test_tensors_of_another_shape_stay(params):
    config = ContextGRU.Config(hidden_units=8, dropout=0.0)
    source, target = ContextGRU(config, {"text": 6}, 3), ContextGRU(config, {"text": 7}, 3)
    start = fitting(source, target, set())
    assert start.left == ["branches.text.project.1.weight"]
    assert torch.equal(
        start.tensors["branches.text.gru.weight_hh_l0"], source.state_dict()["branches.text.gru.weight_hh_l0"]
    )


@pytest.mark.usefixtures("toy_framework")
@pytest.mark.parametrize(("first", "second", "left"), [("", "+toy", 4), ("+toy", "", 2), ("+toy", "+toy", 4)])
def test_the_model_inside_a_framework_takes_part(two, tree, tmp_path, first, second, left):
    tree["recipes"]["second"]["pretraining"]["recipe"] = f"stage_one{first}"
    params = Params(tree)
    start = stage_one(params, two, tmp_path / "runs", f"second{second}").start(
        resolve(params, f"second{second}"), {"text": 6}, 3, 0, CPU
    )
    assert len(start.left) == left
    assert any("gru" in name for name in start.tensors)


def test_held_out_splits_are_for_recipes_called_official(two, tree, tmp_path, monkeypatch):
    tree["recipes"]["second"]["pretraining"]["splits"] = ["train", "test"]
    tree["recipes"]["second_official"] = tree["recipes"]["second"]
    with pytest.raises(BadSettings, match=r"second\.pretraining\.splits: test is held out"):
        resolve(Params(tree), "second")
    tree["recipes"]["unofficial"] = tree["recipes"]["second"]
    with pytest.raises(BadSettings, match=r"unofficial.*held out"):
        resolve(Params(tree), "unofficial")
    seen, forward = set(), CrossEntropy.forward
    monkeypatch.setattr(
        CrossEntropy,
        "forward",
        lambda self, output, batch, **state: seen.update(batch.dialogue_ids) or forward(self, output, batch, **state),
    )
    stage_one(Params(tree), two, tmp_path / "runs", "second_official").model(0, CPU)
    assert {one.partition("/")[0] for one in seen} == {"train", "test"}
    tree["recipes"]["second_official"]["pretraining"]["dataset"] = "tiny"
    with pytest.raises(BadSettings, match="trained on test of tiny"):
        stage_one(Params(tree), two, tmp_path / "runs", "second_official")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda recipes: recipes["second"]["pretraining"].update(recipe="stage_on"),
            "no recipe 'stage_on'; did you mean 'stage_one'",
        ),
        (
            lambda recipes: recipes["second"]["pretraining"].update(split=["train"]),
            r"recipes\.second\.pretraining\.split; did you mean 'splits'",
        ),
        (lambda recipes: recipes["second"]["pretraining"].update(recipe="second"), "only one pre-training is allowed"),
        (lambda recipes: recipes["stage_one"].update(selection="dev_weighted_f1"), "needs selection: last"),
    ],
)
def test_stages_that_do_not_fit_together_are_refused(two, tree, change, words):
    change(tree["recipes"])
    with pytest.raises(BadSettings, match=words):
        resolve(Params(tree), "second")


def test_splits_are_joined_dialogue_after_dialogue(two):
    parts = [read_split(two.shards, name, ["text", "audio"], 3) for name in ("train", "dev")]
    joined = concatenated(parts)
    assert joined.dialogue_ids == parts[0].dialogue_ids + parts[1].dialogue_ids
    assert len(joined.labels) == joined.utterances + 1 == sum(part.utterances for part in parts) + 1
    for place, (part, index) in enumerate((one, index) for one in parts for index in range(len(one.dialogue_ids))):
        rows, own = (
            slice(int(one.starts[at]), int(one.starts[at] + one.lengths[at]))
            for one, at in ((joined, place), (part, index))
        )
        assert torch.equal(joined.features["audio"][rows], part.features["audio"][own])
        assert torch.equal(joined.labels[rows], part.labels[own])
        assert joined.utterance_ids[rows] == part.utterance_ids[own]
    assert joined.features["text"][-1].abs().sum() == 0
    assert joined.labels[-1] == -1
