"""The command on trained runs: what it prints, and its exit codes."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from merc import lock
from merc.commands.evaluate import main

from ..evaluation.conftest import Place, make_shards, params, place, tree  # noqa: F401 - fixtures

FEW = [
    "--set",
    "evaluation.robustness.rates=[0.0, 0.5]",
    "--set",
    "evaluation.context_substitution.draw_seeds=[0]",
    "--set",
    "evaluation.significance.resamples=100",
]


def _run(place: Place, *arguments: str) -> Result:
    return CliRunner().invoke(
        main,
        [
            f"--params={Path(__file__).resolve().parents[2] / 'params.yaml'}",
            "--device=cpu",
            *place.arguments,
            *arguments,
        ],
    )


def test_all_runs_are_evaluated_and_compared_and_a_second_time_nothing_is_done(place: Place) -> None:
    first = _run(place, "--dataset", "tiny", *FEW)
    assert first.exit_code == 0, first.stderr
    printed = [str(Path(line).relative_to(place.evaluations)) for line in first.stdout.splitlines()]
    assert "runs/tiny/all/context_substitution/scores.json" in printed
    assert "comparisons/tiny/significance/scores.json" in printed
    assert len(printed) == 7 + 6 + 6 + 1
    again = _run(place, "--dataset", "tiny", *FEW)
    assert again.stdout == first.stdout
    assert again.stderr.count("already done") == len(printed)


def test_one_evaluation_of_one_run(place: Place) -> None:
    done = _run(place, "--dataset", "tiny", "--recipe", "text", "--protocol", "emotion_shift")
    assert done.stdout == f"{place.evaluations / 'runs/tiny/text/emotion_shift/scores.json'}\n"


def test_a_broken_run_does_not_stop_the_others(place: Place) -> None:
    (place.runs / "tiny" / "all" / "predictions.parquet").unlink()
    done = _run(place, "--dataset", "tiny", "--protocol", "calibration", "--protocol", "significance")
    assert done.exit_code == 4
    assert "all is left out: " in done.stderr
    assert "left out, as explained above: all, the comparison; finished work is kept" in done.stderr
    assert [Path(line).parts[-3] for line in done.stdout.splitlines()] == ["once", "text"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--dataset", "tiny", "--protocol", "shift"], 2, "no evaluation 'shift'"),
        (["--dataset", "tiny", "--set", "evaluation.calibration.bin=3"], 2, "did you mean 'bins'"),
        (["--dataset", "tiny", "--recipe", "al"], 4, "did you mean 'all'"),
        (["--dataset", "tini"], 4, "no finished run on 'tini'"),
        ([], 2, "Missing option '--dataset'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_exit_code(
    place: Place, arguments: list[str], code: int, words: str
) -> None:
    done = _run(place, *arguments)
    assert (done.exit_code, words in done.stderr) == (code, True)
    assert not place.evaluations.exists()


def test_other_settings_and_another_process_have_exit_codes_of_their_own(place: Place) -> None:
    one = ["--dataset", "tiny", "--recipe", "text", "--protocol", "calibration"]
    assert _run(place, *one).exit_code == 0
    other = _run(place, *one, "--set", "evaluation.calibration.bins=3")
    assert other.exit_code == 5
    assert "evaluation.calibration.bins: 15 there, 3 wanted" in other.stderr
    assert _run(place, *one, "--set", "evaluation.calibration.bins=3", "--overwrite").exit_code == 0
    with lock.held(place.evaluations / "runs" / "tiny" / "text"):
        assert _run(place, *one).exit_code == 7


def test_without_shards_the_significance_can_still_be_told_and_the_rest_says_how_to_make_them(place: Place) -> None:
    shutil.rmtree(place.layout.out)
    assert _run(place, "--dataset", "tiny", "--protocol", "significance", *FEW[4:]).exit_code == 0
    done = _run(place, "--dataset", "tiny", "--recipe", "text", "--protocol", "emotion_shift")
    assert done.exit_code == 4
    assert "merc-extract --dataset tiny" in done.stderr
