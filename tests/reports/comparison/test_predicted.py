"""A run's predictions for the test utterances: the class with the highest mean probability, and files without them."""

import numpy as np
import pytest

from merc import parquet
from merc.errors import BadTable
from merc.reports.comparison import predicted

from ..compared import DIALOGUES, IDS, write_predictions


def test_the_class_is_that_of_the_highest_probability_averaged_over_the_seeds(tmp_path):
    labels = [0, 1, 2, -1]
    write_predictions(tmp_path, [[0, 1, 3, 4], [0, 2, 3, 4], [1, 2, 3, 5]], labels)
    said = predicted.read(tmp_path, 7)
    assert (said.utterance_ids, said.dialogue_ids) == (IDS[:4], DIALOGUES[:4])
    assert (said.labels, said.classes) == ("012/", "0234")


def test_one_seed_says_what_it_says(tmp_path):
    write_predictions(tmp_path, [[6, 5]], [6, 6])
    assert predicted.read(tmp_path, 7).classes == "65"


def test_a_run_without_predictions_says_nothing(tmp_path):
    assert predicted.read(tmp_path, 7) is None


def test_no_test_utterance_is_an_empty_list(tmp_path):
    write_predictions(tmp_path, [[0]], [0])
    path = tmp_path / "predictions.parquet"
    table = parquet.read(path)
    parquet.write(path, table.filter(np.array(table["split"].to_pylist()) == "dev"))
    assert predicted.read(tmp_path, 7) == predicted.Said((), (), "", "")


@pytest.mark.parametrize(
    ("change", "words"), [("shorter", "do not cover the same"), ("classes", "instead of 6 numbers")]
)
def test_seeds_that_differ_and_other_classes_are_refused(tmp_path, change, words):
    write_predictions(tmp_path, [[0, 1], [0, 1]], [0, 1])
    path = tmp_path / "predictions.parquet"
    if change == "shorter":
        parquet.write(path, parquet.read(path).slice(0, 7))
    with pytest.raises(BadTable, match=words):
        predicted.read(tmp_path, 6 if change == "classes" else 7)
