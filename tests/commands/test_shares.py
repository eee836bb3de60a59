"""Shares of an extraction, made by independent processes and combined at the end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from merc import lock
from merc.commands.extract import main
from merc.commands.shares import Share

ROOT = Path(__file__).parents[2]
Run = Callable[..., Result]


@pytest.fixture
def run(demonstration: Path, without_workers: None) -> Run:
    """Extracts text and audio of a few dialogues of the demonstration corpus, in small parts."""

    def extract(out: Path, *more: str) -> Result:
        arguments = [
            "--dataset",
            "demo-meld",
            "--raw",
            str(demonstration / "raw"),
            "--out",
            str(out),
            "--params",
            str(demonstration / "params.yaml"),
        ]
        arguments += ["--modalities", "text,audio", "--limit", "2", "--workers", "1", "--max-failed", "50%"]
        arguments += ["--set", "media.utterances_per_part=4", "--set", "extraction.utterances_per_part=4"]
        return CliRunner().invoke(main, [*arguments, *more])

    return extract


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_shares_put_together_are_the_bytes_of_one_run(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (2, 3, 1):
        assert run(tmp_path / "shares", "--part", f"{number}/3").exit_code == 0
        assert not (tmp_path / "shares/demo-meld/media").exists()
    assert run(tmp_path / "shares", "--finish").exit_code == 0
    assert run(tmp_path / "whole").exit_code == 0
    assert content(tmp_path / "shares") == content(tmp_path / "whole")
    assert not list((tmp_path / "shares").rglob("*.lock"))


def test_a_share_is_not_made_on_a_cluster(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for more in (["--executor", "ray", "--address", "local"], ["--set", "run.executor=ray"]):
        ended = run(tmp_path, "--part", "1/2", *more)
        assert (ended.exit_code, content(tmp_path)) == (2, {})
        assert "give --executor local, or leave out --part" in ended.output + capfd.readouterr().err


def test_what_is_missing_is_named_and_not_made(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--part", "1/2").exit_code == 0
    before = content(tmp_path)
    ended = run(tmp_path, "--finish")
    assert ended.exit_code == 1
    said = ended.output + capfd.readouterr().err
    assert "media: " in said
    assert "text/ngrams: " in said
    assert "Give their --part K/N again" in said
    assert content(tmp_path) == before
    assert run(tmp_path, "--part", "2/2").exit_code == 0
    assert run(tmp_path, "--finish").exit_code == 0


def test_a_share_begins_where_a_part_of_every_encoder_does(run: Run, tmp_path: Path) -> None:
    """Ten shares of fewer parts: each part is made by one share, and some shares have none."""
    made: list[set[str]] = []
    for number in range(1, 11):
        before = {str(path) for path in tmp_path.rglob("part-*.parquet")}
        assert run(tmp_path, "--part", f"{number}/10").exit_code == 0
        made.append({str(path) for path in tmp_path.rglob("part-*.parquet")} - before)
    assert any(not one for one in made)
    assert run(tmp_path, "--finish").exit_code == 0


def test_a_share_that_is_being_made_keeps_others_from_the_whole_and_from_itself(
    run: Run, tmp_path: Path, hold: Callable[[Path], object]
) -> None:
    assert run(tmp_path, "--part", "1/2").exit_code == 0
    hold(lock.of_share(tmp_path / "demo-meld", 2, 2))
    assert run(tmp_path, "--part", "1/2").exit_code == 0
    assert run(tmp_path, "--part", "2/2").exit_code == 7
    assert run(tmp_path).exit_code == 7
    assert run(tmp_path, "--finish").exit_code == 7


@pytest.mark.parametrize("given", ["0/3", "4/3", "3", "1/0", "a/b", "1/3/5"])
def test_a_share_that_is_invalid_is_refused(run: Run, tmp_path: Path, given: str) -> None:
    ended = run(tmp_path, "--part", given)
    assert ended.exit_code == 2
    assert "K/N expected" in ended.output


def test_a_share_is_not_finished_at_the_same_time(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path, "--part", "1/2", "--finish").exit_code == 2


@pytest.mark.parametrize("of", [1, 2, 7, 50])
def test_every_thing_belongs_to_one_share(of: int) -> None:
    sizes = [3, 1, 9, 2, 2, 40, 1, 1, 5]
    taken = [index for number in range(1, of + 1) for index in sorted(Share(number, of).among(sizes))]
    assert taken == list(range(len(sizes)))
