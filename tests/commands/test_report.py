from pathlib import Path

import pytest
from click.testing import CliRunner

from merc import lock
from merc.commands.report import main
from merc.encoders.engine.adapted import TAG
from merc.layout import Layout

from ..reports.conftest import make_run, make_shards


def test_a_report_on_a_folder_without_shards_leaves_the_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "index.html").write_text("the report")
    result = CliRunner().invoke(
        main,
        [
            f"--{name}={tmp_path / folder}"
            for name, folder in {"out": "typo", "runs": "runs", "reports": "reports"}.items()
        ],
    )
    assert result.exit_code == 4
    assert "merc-extract --dataset NAME" in result.stderr
    assert [path.read_text() for path in (tmp_path / "reports").iterdir()] == ["the report"]


def test_two_reports_are_not_written_to_one_folder_at_once(tmp_path: Path) -> None:
    with lock.held(tmp_path / "reports"):
        result = CliRunner().invoke(main, [f"--{name}={tmp_path / name}" for name in ("out", "runs", "reports")])
    assert result.exit_code == 7
    assert "is writing there" in result.stderr


def test_a_folder_that_holds_something_else_ends_with_exit_code_5(tmp_path: Path) -> None:
    make_shards(Layout(tmp_path / "raw", tmp_path / "features", "tiny"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<title>my home page</title>")
    folders = {"out": "features", "runs": "runs", "evaluations": "evaluations", "reports": "site"}
    result = CliRunner().invoke(main, [f"--{name}={tmp_path / folder}" for name, folder in folders.items()])
    assert result.exit_code == 5
    assert (
        "index.html: not made by merc-report, so it is not replaced; move it away, or name another folder with"
        " --reports" in result.stderr
    )
    assert (tmp_path / "site" / "index.html").read_text() == "<title>my home page</title>"


def test_where_lists_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    make_shards(Layout(Path("raw"), Path("features"), "tiny"))
    for name in (
        "runs/tiny/a/metrics.json",
        "evaluations/runs/tiny/a/robustness/scores.json",
        "evaluations/runs/tiny/a/calibration/scores.json",
        "evaluations/comparisons/tiny/significance/scores.json",
        "reports/index.html",
        "reports/results.tex",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert CliRunner().invoke(main, ["--where"]).stdout.splitlines() == [
        "shards   features/tiny/shards",
        "metrics  runs/tiny/a/metrics.json",
        "scores   evaluations/comparisons/tiny",
        "scores   evaluations/runs/tiny/a",
        "report   reports/index.html",
        "report   reports/results.tex",
        f"open     {(tmp_path / 'reports' / 'index.html').as_uri()}",
    ]


def test_where_ends_with_the_best_score_of_each_dataset_chosen_on_dev_and_the_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs"), recipe="better_on_dev", scores=((0.61, 0.5721), (0.61, 0.5781)))
    make_run(Path("runs"), recipe="better_on_test", scores=((0.60, 0.70),))
    make_run(Path("runs"), dataset="other", recipe="alone", scores=((0.5, 0.4),))
    make_run(Path("runs"), recipe="tuned", scores=((0.7, 0.65), (0.7, 0.65)), replace={"tag": TAG})
    Path("reports").mkdir()
    Path("reports/index.html").touch()
    assert CliRunner().invoke(main, ["--where"]).stdout.splitlines()[-4:] == [
        "best     other: alone 40.00 (test weighted F1, 1 seed, best of 1 on dev)",
        "best     tiny: better_on_dev 57.51 ± 0.42 (test weighted F1, 2 seeds, best of 2 on dev)",
        "best     tiny: tuned 65.00 ± 0.00 (test weighted F1, 2 seeds, best of 1 on dev, fine-tuned encoders)",
        f"open     {(tmp_path / 'reports' / 'index.html').as_uri()}",
    ]
