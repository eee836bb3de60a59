from pathlib import Path

from click.testing import CliRunner

from merc import lock
from merc.commands.report import main


def test_a_report_on_a_folder_without_shards_leaves_the_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "index.html").write_text("the report")
    result = CliRunner().invoke(main, [f"--{name}={tmp_path / folder}" for name, folder in {"out": "typo", "runs": "runs", "reports": "reports"}.items()])
    assert result.exit_code == 4
    assert "merc-extract --dataset NAME" in result.stderr
    assert [path.read_text() for path in (tmp_path / "reports").iterdir()] == ["the report"]


def test_two_reports_are_not_written_to_one_folder_at_once(tmp_path: Path) -> None:
    with lock.held(tmp_path / "reports"):
        result = CliRunner().invoke(main, [f"--{name}={tmp_path / name}" for name in ("out", "runs", "reports")])
    assert result.exit_code == 7
    assert "is writing there" in result.stderr
