"""What is read from evaluations: each seed's values, curves, and nothing from an earlier training."""

import json

import pytest

from merc.errors import BadTable
from merc.reports.comparison.evaluated import EARLIER, of_run

from ..compared import write_evaluations


@pytest.fixture
def evaluations(tmp_path):
    write_evaluations(tmp_path, "baseline")
    return tmp_path


def test_each_seed_has_its_values(evaluations):
    found = of_run(evaluations / "runs" / "tiny" / "baseline", "1")
    assert found["emotion_shift"]["transcript"]["shift"] == {"support": 5, "values": [0.4, 0.41]}
    assert found["context_substitution"]["eics"] == [0.45, 0.46]
    assert found["calibration"]["raw"] == [0.1, 0.102]
    assert found["robustness"]["text"] == [[0.0, 0.505], [0.5, 0.38], [0.9, 0.28]]
    assert found["representations"]["silhouette"] == [0.05, 0.051]


def test_the_curve_of_calibration_leaves_out_empty_bins_and_what_a_temperature_changed(evaluations):
    assert of_run(evaluations / "runs" / "tiny" / "baseline", "1")["calibration"]["curve"] == [[0.75, 0.7, 10]]


def test_a_map_is_drawn_in_thousandths_of_its_larger_side(evaluations):
    points = of_run(evaluations / "runs" / "tiny" / "baseline", "1")["representations"]["points"]
    assert len(points) == 20
    sides = [[min(one[at] for one in points), max(one[at] for one in points)] for at in (1, 2)]
    assert [side[0] for side in sides] == [0, 0]
    assert max(side[1] for side in sides) == 1000
    assert {one[0] for one in points} == set(range(7))


def test_what_is_not_there_is_none_and_what_is_of_an_earlier_training_says_so(evaluations):
    home = evaluations / "runs" / "tiny"
    assert set(of_run(home / "other", "1").values()) == {None}
    assert set(of_run(home / "baseline", "2").values()) == {EARLIER}
    assert set(of_run(home / "baseline", None).values()) == {EARLIER}


@pytest.mark.parametrize("broken", [{"seeds": {"0": {"eccs": {}}}}, {"seeds": []}, {}])
def test_scores_of_another_shape_are_named_with_their_file(evaluations, broken):
    path = evaluations / "runs" / "tiny" / "baseline" / "context_substitution" / "scores.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(BadTable, match=r"context_substitution/scores\.json"):
        of_run(evaluations / "runs" / "tiny" / "baseline", "1")
