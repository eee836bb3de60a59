"""The data passed to the comparison page: everything about every recipe, shared data only once, and only numbers valid
in JSON.
"""

import json

import pytest

from merc.errors import BadTable
from merc.reports.comparison.data import compare_data
from merc.reports.evaluations import read_evaluations
from merc.reports.results import read_recipes, read_record

from ..compared import write_evaluations, write_predictions, write_significance


@pytest.fixture
def data(tmp_path):
    def read(evaluations="evaluations", **more):
        recipes = read_recipes(tmp_path / "runs", "tiny")
        records = {recipe.recipe: read_record(tmp_path / "runs", recipe) for recipe in recipes}
        found = compare_data(
            "tiny", recipes, records, tmp_path / "runs", evaluations and tmp_path / evaluations, **more
        )
        return json.loads(json.dumps(found, allow_nan=False))

    return read


def test_recipes_on_the_same_shards_share_one_list_of_utterances(write_run, data):
    for recipe, labels in (("a", [0, 1]), ("b", [0, 1]), ("c", [0, 2])):
        write_predictions(write_run(recipe=recipe), [[0, 1], [0, 1]], labels)
    write_run(recipe="d")
    found = data()
    assert [one["said"] and one["said"]["list"] for one in found["recipes"]] == [0, 0, 1, None]
    assert found["lists"][0] == {
        "utterances": ["test/dia0_utt0", "test/dia0_utt1"],
        "dialogues": [["test/dia0", 2]],
        "labels": "01",
    }


def test_other_classes_are_another_group_with_colours_of_their_own(write_run, data):
    write_run(recipe="seven")
    write_run(recipe="two", classes=("sad", "other"))
    found = data()
    assert [one["group"] for one in found["recipes"]] == [0, 1]
    assert found["groups"][1]["classes"] == ["sad", "other"]
    assert len(set(found["groups"][0]["colours"])) == 7


def test_a_history_has_the_place_of_the_chosen_epoch_also_of_the_last_of_several_phases(write_run, data):
    folder = write_run(recipe="a", epochs=4)
    lines = (folder / "history.csv").read_text().splitlines()
    first, second = lines[1:5], lines[5:]
    (folder / "history.csv").write_text("\n".join([lines[0], *first, *first, *second]) + "\n")
    curves = data()["recipes"][0]["history"]
    assert [(len(one["loss"]), one["chosen"]) for one in curves] == [(8, 6), (4, 3)]


def test_what_is_not_a_number_in_a_history_is_left_out(write_run, data):
    folder = write_run(recipe="a", epochs=1, scores=[(0.5, 0.4)])
    (folder / "history.csv").write_text("seed,epoch,train_loss,dev_weighted_f1\n0,3,nan,0.5\n")
    assert data()["recipes"][0]["history"] == [{"seed": "0", "loss": [None], "dev": [0.5], "chosen": 0}]


def test_settings_of_two_recipes_stand_under_the_same_keys_and_say_inputs_too(write_run, data):
    write_run(recipe="a")
    write_run(recipe="b", shards="7")
    one, other = (recipe["settings"] for recipe in data()["recipes"])
    assert one == {"inputs.shards": "0", "recipe.model": "recurrent"}
    assert other == {"inputs.shards": "7", "recipe.model": "recurrent"}


def test_without_evaluations_everything_else_is_there(write_run, data):
    write_run(recipe="a")
    found = data(evaluations=None)
    assert (found["recipes"][0]["evaluated"], found["pairs"]) == ({}, [])
    assert set(data()["recipes"][0]["evaluated"].values()) == {None}


def test_evaluations_and_pairs_are_those_of_the_runs(write_run, data, tmp_path):
    for recipe in ("a", "b"):
        write_run(recipe=recipe)
    write_evaluations(tmp_path / "evaluations", "a")
    write_significance(tmp_path / "evaluations", [{"first": "a", "second": "b"}], {"a": "1", "b": "1"})
    significance = read_evaluations(tmp_path / "evaluations", "tiny", {"a": "1", "b": "1"}).significance
    found = data(points={"b"}, outdated={"a"}, significance=significance)
    assert found["recipes"][0]["evaluated"]["context_substitution"]["raw"] == [0.5, 0.51]
    assert (found["pairs"][0]["first"], found["pairs"][0]["difference"]) == ("a", 0.02)
    assert [(one["point"], one["outdated"]) for one in found["recipes"]] == [(False, True), (True, False)]


def test_damaged_predictions_are_named(write_run, data):
    (write_run(recipe="a") / "predictions.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(BadTable, match=r"a/predictions\.parquet"):
        data()
