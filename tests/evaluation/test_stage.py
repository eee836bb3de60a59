"""Evaluations in their folders: complete or absent, resumed, and repeated when the run was."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from merc import files
from merc.errors import BadTable, SettingsDiffer
from merc.evaluation import comparing, stage
from merc.evaluation.choice import choose
from merc.evaluation.comparing import all_runs, compare
from merc.evaluation.engine.base import Found
from merc.evaluation.protocols.calibration import Calibration
from merc.evaluation.stage import evaluate
from merc.job import RunOptions
from merc.params import Params

from .conftest import OPTIONS, Place

FEW = Params(
    {
        "evaluation": {
            "robustness": {"rates": [0.0, 0.5]},
            "context_substitution": {"draw_seeds": [0]},
            "significance": {"resamples": 100},
            "trajectory_alignment": {"order_permutations": 2},
        }
    }
)

UNPREPARED = ("cross_corpus", "asr_transcripts")
"""Without another dataset and without vectors of recognised speech."""


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _evaluated(
    place: Place, *names: str, params: Params = FEW, options: RunOptions = OPTIONS, recipe: str = "all"
) -> list[Path]:
    return evaluate(place.run(recipe), choose(params, names).protocols, options, place.evaluations)


def test_every_evaluation_has_a_folder_with_scores_and_a_record_and_the_same_work_gives_the_same_bytes(
    place: Place,
) -> None:
    made = _evaluated(place)
    home = place.evaluations / "runs" / "tiny" / "all"
    names = [name for name in choose(FEW).protocols if name not in UNPREPARED]
    assert made == [home / name / "scores.json" for name in names]
    assert all((home / name / "record.json").is_file() for name in names)
    tables = {str(path.relative_to(home)) for path in home.rglob("*.parquet")}
    assert {
        "calibration/reliability.parquet", "context_substitution/scores.parquet", "robustness/scores.parquet",
        "any_modality_oracle/unimodal.parquet"
    } <= tables  # fmt: skip
    first = _contents(home)
    shutil.rmtree(home)
    _evaluated(place)
    assert _contents(home) == first


def test_what_is_done_is_not_done_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _evaluated(place, "calibration")
    monkeypatch.setattr(Calibration, "evaluate", lambda *_: pytest.fail("evaluated again"))
    _evaluated(place, "calibration")


def test_a_protocol_that_fits_no_run_of_its_kind_is_left_out_and_that_is_said(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        made = _evaluated(place, "any_modality_oracle", "calibration", recipe="text")
    assert [path.parent.name for path in made] == ["calibration"]
    assert "text on tiny: any_modality_oracle left out, since the recipe sees one modality" in caplog.text


def test_other_settings_are_refused_until_told_to_replace(place: Place) -> None:
    _evaluated(place, "calibration")
    other = Params({"evaluation": {"calibration": {"bins": 3}}})
    with pytest.raises(SettingsDiffer, match=r"evaluation\.calibration\.bins: 15 there, 3 wanted"):
        _evaluated(place, "calibration", params=other)
    _evaluated(place, "calibration", params=other, options=RunOptions(device="cpu", overwrite=True))
    assert files.read_json(place.evaluations / "runs/tiny/all/calibration/record.json")["settings"] == {
        "evaluation": {"calibration": {"bins": 3}}
    }


def test_a_run_that_was_trained_again_is_evaluated_again(place: Place) -> None:
    (path,) = _evaluated(place, "calibration")
    record = place.runs / "tiny" / "all" / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "fingerprint": "another"}))
    before = files.read_json(path.parent / "record.json")
    _evaluated(place, "calibration")
    assert files.read_json(path.parent / "record.json")["inputs"]["run"] == "another" != before["inputs"]["run"]


def test_a_run_that_goes_while_it_is_evaluated_leaves_nothing_and_what_was_there_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _evaluated(place, "emotion_shift")

    def going(*_: object) -> Found:
        shutil.rmtree(place.runs / "tiny" / "all")
        return Found(scores={})

    monkeypatch.setattr(Calibration, "evaluate", going)
    run = place.run("all")
    with pytest.raises(BadTable, match="removed or retrained while it was evaluated"):
        evaluate(run, choose(FEW, ("calibration", "robustness")).protocols, OPTIONS, place.evaluations)
    assert [path.name for path in (place.evaluations / "runs" / "tiny" / "all").iterdir()] == ["emotion_shift"]
    with pytest.raises(BadTable, match=r"model\.safetensors: cannot be read"):
        evaluate(run, choose(FEW, ("robustness",)).protocols, OPTIONS, place.evaluations)


def test_all_finished_runs_are_compared_and_again_when_one_more_is_finished(place: Place) -> None:
    shutil.move(place.runs / "tiny" / "text", place.runs / "kept")
    comparisons = choose(FEW).comparisons
    (path,) = compare(all_runs(place.runs, place.layout), comparisons, OPTIONS, place.evaluations)
    assert path == place.evaluations / "comparisons" / "tiny" / "significance" / "scores.json"
    assert files.read_json(path)["tables"][0]["recipes"] == ["all", "once"]
    shutil.move(place.runs / "kept", place.runs / "tiny" / "text")
    compare(all_runs(place.runs, place.layout), comparisons, OPTIONS, place.evaluations)
    assert files.read_json(path)["tables"][0]["recipes"] == ["all", "once", "text"]


def test_the_stages_of_dvc_do_the_same(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merc.params.Params.load", lambda *_: FEW)
    done = CliRunner().invoke(stage.main, ["--dataset", "tiny", "--recipe", "text", *place.arguments])
    assert done.exit_code == 0, done.output
    made = {path.name for path in (place.evaluations / "runs" / "tiny" / "text").iterdir()}
    assert made == choose(FEW).protocols.keys() - {"any_modality_oracle", *UNPREPARED}
    done = CliRunner().invoke(comparing.main, place.arguments)
    assert done.exit_code == 0, done.output
    assert [path.parent.parent.name for path in place.evaluations.glob("comparisons/*/significance/scores.json")] == [
        "tiny"
    ]
