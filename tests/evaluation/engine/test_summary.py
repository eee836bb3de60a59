"""Scores over seeds."""

import statistics

from merc.evaluation.engine.summary import over_seeds


def test_mean_and_deviation_have_the_form_of_what_each_seed_scored() -> None:
    found = over_seeds({3: {"a": {"f1": 0.5, "none": None}, "b": 1.0}, 4: {"a": {"f1": 0.7, "none": 0.2}, "b": 3.0}})
    assert found["seeds"] == {
        "3": {"a": {"f1": 0.5, "none": None}, "b": 1.0},
        "4": {"a": {"f1": 0.7, "none": 0.2}, "b": 3.0},
    }
    assert found["mean"] == {"a": {"f1": statistics.fmean([0.5, 0.7]), "none": None}, "b": 2.0}
    assert found["std"] == {"a": {"f1": statistics.stdev([0.5, 0.7]), "none": None}, "b": statistics.stdev([1.0, 3.0])}


def test_one_seed_has_no_deviation() -> None:
    assert over_seeds({0: {"f1": 0.5}})["std"] == {"f1": None}
