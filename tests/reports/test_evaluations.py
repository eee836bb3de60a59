"""Evaluations are read as written, arranged in columns, and left out if they belong to other runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merc import files
from merc.errors import BadTable
from merc.reports.evaluations import Block, Evaluations, Value, read_evaluations

from .conftest import make_comparison, over_seeds

WriteEvaluation = Callable[..., Path]


def _read(tmp_path: Path, **runs: str) -> Evaluations:
    return read_evaluations(tmp_path / "evaluations", "tiny", runs or {"baseline": "1"})


def _block(tmp_path: Path) -> Block:
    (block,) = _read(tmp_path).blocks
    return block


def _f1(value: float | None) -> dict[str, float | None]:
    return {"weighted_f1": value, "accuracy": value}


def _shift(*values: float | None) -> dict[str, Any]:
    return {name: {"shift": _f1(values[0]), "no_shift": _f1(values[1])} for name in ("transcript", "labelled")}


def test_without_evaluations_there_are_none(tmp_path: Path) -> None:
    assert _read(tmp_path) == Evaluations([], None, [])


def test_emotion_shift_has_one_definition_where_both_are_the_same(
    write_evaluation: WriteEvaluation, tmp_path: Path
) -> None:
    support = {name: {"shift": 1003, "no_shift": 861} for name in ("transcript", "labelled")}
    write_evaluation("emotion_shift", {"support": support, **over_seeds(_shift(0.5, 0.7), _shift(0.6, None))})
    block = _block(tmp_path)
    assert block.rows == {
        "baseline": {"Shift": Value(0.55, pytest.approx(0.0707, abs=1e-4))}
    }  # no_shift is missing from a seed
    assert "(1,003 utterances)" in block.about
    support["labelled"] = {"shift": 410, "no_shift": 1151}
    write_evaluation("emotion_shift", {"support": support, **over_seeds(_shift(0.5, 0.7))})
    assert _block(tmp_path).columns == ["Shift", "No shift", "Shift (labelled)", "No shift (labelled)"]


@pytest.mark.parametrize(
    ("protocol", "scores", "expected"),
    [
        (
            "asr_transcripts",
            {"mean_asr_error": 0.25, **over_seeds({"written": _f1(0.6), "heard": _f1(0.5)})},
            {"Official transcripts": 0.6, "As heard": 0.5},
        ),
        (
            "asr_transcripts",
            {"mean_asr_error": None, **over_seeds({"written": _f1(0.6), "heard": _f1(0.5)})},
            {"Official transcripts": 0.6, "As heard": 0.5},
        ),
        (
            "context_substitution",
            {"replaced": "earlier utterances", **over_seeds({"raw": _f1(0.6), "eccs": _f1(0.5), "eics": _f1(0.25)})},
            {"As it is": 0.6, "Same emotions (ECCS)": 0.5, "Other emotions (EICS)": 0.25},
        ),
        (
            "calibration",
            over_seeds(
                {
                    "temperature": 1.5,
                    "raw": {"expected_calibration_error": 0.2, "negative_log_likelihood": 1.25},
                    "tempered": {"expected_calibration_error": 0.1, "negative_log_likelihood": 1.0},
                }
            ),
            {
                "ECE": 0.2,
                "ECE, tempered": 0.1,
                "Likelihood loss": 1.25,
                "Likelihood loss, tempered": 1.0,
                "Temperature": 1.5,
            },
        ),
        (
            "any_modality_oracle",
            {"source": "heads of the model", **over_seeds({"fused": _f1(0.5), "text": _f1(0.4), "oracle": _f1(0.8)})},
            {"Fused": 0.5, "Text": 0.4, "Oracle": 0.8},
        ),
        (
            "robustness",
            over_seeds({"text": {"0": _f1(0.5), "0.4": _f1(0.4), "0.6": _f1(0.3)}, "text+audio": {"0.9": _f1(0.1)}}),
            {"text, 40 %": 0.4, "text + audio, 90 %": 0.1},
        ),
        (
            "cross_corpus",
            {"datasets": {"other": {"own_test": over_seeds(_f1(0.5)), "there": over_seeds(_f1(0.25))}}},
            {"Own test, emotions of other": 0.5, "Test of other": 0.25},
        ),
        (
            "trajectory_alignment",
            {"k": 10, **over_seeds({"path": {"raw": {"fusion": {"before": {"ta": 0.1}, "after": {"ta": 0.2}}}}})},
            {"path, before": 0.1, "path, after": 0.2},
        ),
    ],
)
def test_each_evaluation_becomes_columns(
    protocol: str, scores: dict[str, Any], expected: dict[str, float], write_evaluation: WriteEvaluation, tmp_path: Path
) -> None:
    write_evaluation(protocol, scores)
    assert _block(tmp_path).rows == {"baseline": {head: Value(mean) for head, mean in expected.items()}}


def test_an_evaluation_of_a_run_that_was_trained_again_is_named_and_not_shown(
    write_evaluation: WriteEvaluation, tmp_path: Path
) -> None:
    write_evaluation("robustness", over_seeds({"text": {"0.5": _f1(0.5)}}), run="older")
    make_comparison(
        tmp_path / "evaluations", [{"first": "baseline", "second": "other"}], runs={"baseline": "1", "other": "older"}
    )
    assert _read(tmp_path, baseline="1", other="1") == Evaluations([], None, ["baseline/robustness", "significance"])


def test_a_comparison_with_a_recipe_that_is_gone_is_not_shown(tmp_path: Path) -> None:
    make_comparison(tmp_path / "evaluations", [{"first": "baseline", "second": "gone", "significant": True}])
    assert _read(tmp_path).outdated == ["significance"]


def test_pairs_are_read_with_their_reference(tmp_path: Path) -> None:
    pairs = [
        {"first": "baseline", "second": "other", "difference": 0.1, "significant": True},
        {"first": "third", "second": "other", "significant": False},
    ]
    make_comparison(tmp_path / "evaluations", pairs, reference="other")
    significance = _read(tmp_path, baseline="1", other="1", third="1").significance
    assert significance is not None
    assert (significance.reference, significance.level) == ("other", 0.05)
    assert {name: pair.significant for name, pair in significance.with_one("other").items()} == {
        "baseline": True,
        "third": False,
    }


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"mean": {"text": {}}}, "not what robustness writes"),
        ([], "not what robustness writes"),
        ({"mean": {"text": {"half": {}}}, "std": {}}, "not what robustness writes .*ValueError"),
    ],
)
def test_scores_of_another_shape_are_refused(
    scores: Any, message: str, write_evaluation: WriteEvaluation, tmp_path: Path
) -> None:
    write_evaluation("robustness", scores)
    with pytest.raises(BadTable, match=rf"robustness/scores.json: {message}"):
        _read(tmp_path)


def test_a_comparison_or_record_of_another_shape_is_refused(write_evaluation: WriteEvaluation, tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "evaluations", [{"first": "baseline", "second": "other"}])
    files.write_json(folder / "scores.json", {"tables": [{"recipes": ["a"]}]})
    with pytest.raises(BadTable, match=r"not a comparison of recipes: tables.0.pairs: Field required"):
        _read(tmp_path)
    folder = write_evaluation("robustness", {})
    (folder / "record.json").unlink()
    with pytest.raises(BadTable, match=r"record.json: cannot be read"):
        _read(tmp_path)
