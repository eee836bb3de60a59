"""The time of an epoch, and what is shown if it is unknown; no file of times ever causes an error."""

from collections.abc import Callable
from pathlib import Path

import pytest

from merc import timing
from merc.reports.pace import Pace, read_pace
from merc.reports.results import read_recipes, read_record

from .conftest import make_times

WriteRun = Callable[..., Path]


def _pace(tmp_path: Path) -> Pace:
    (recipe,) = read_recipes(tmp_path / "runs", "tiny")
    return read_pace(tmp_path / "runs", recipe, read_record(tmp_path / "runs", recipe))


def test_it_is_the_mean_over_the_seeds_and_says_where_it_was_measured(write_run: WriteRun, tmp_path: Path) -> None:
    write_run()
    make_times(tmp_path / "runs")
    make_times(tmp_path / "runs", seed=1, wall_seconds=4, cpu_seconds=0.5, device="NVIDIA H200")
    assert _pace(tmp_path) == Pace(
        3.0,
        "wall-clock time; 1 of processor time; training, and scoring dev and test; the median over the epochs, the"
        " mean over the seeds; cpu, 1 thread; NVIDIA H200, 1 thread",
    )


def test_a_seed_without_times_is_named(write_run: WriteRun, tmp_path: Path) -> None:
    write_run()
    make_times(tmp_path / "runs", seed=1)
    assert _pace(tmp_path).seconds == 2.0
    assert _pace(tmp_path).words.endswith("; seed 0 not timed: trained elsewhere, or before times were kept")


DAMAGES: dict[str, tuple[bytes | None, str]] = {
    "nothing": (None, "not timed: trained elsewhere"),
    "cut": (b'{"fingerprint": "1", "dev', "not a JSON file"),
    "a list": (b"[]", "not the times of a seed"),
    "of another training": (
        b'{"fingerprint":"0","device":"cpu","threads":1,"epochs":1,"wall_seconds":1,"cpu_seconds":1}',
        "belong to another training",
    ),
    "infinite": (
        b'{"fingerprint":"1","device":"cpu","threads":1,"epochs":1,"wall_seconds":1e999,"cpu_seconds":1}',
        "wall_seconds",
    ),
    "no float": (
        b'{"fingerprint":"1","device":"cpu","threads":1,"epochs":1,"wall_seconds":1%s,"cpu_seconds":1}' % (b"0" * 400),
        "wall_seconds",
    ),
    "negative": (
        b'{"fingerprint":"1","device":"cpu","threads":1,"epochs":1,"wall_seconds":-1,"cpu_seconds":1}',
        "wall_seconds",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_times_that_are_missing_or_damaged_are_no_error_and_it_is_said_why(
    write_run: WriteRun, tmp_path: Path, damage: str
) -> None:
    write_run(scores=[(0.5, 0.4)])
    content, words = DAMAGES[damage]
    if content is not None:
        make_times(tmp_path / "runs").write_bytes(content)
    pace = _pace(tmp_path)
    assert (pace.seconds, str(pace)) == (None, "–")
    assert words in pace.words


def test_a_folder_in_the_place_of_times_is_not_an_error(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(scores=[(0.5, 0.4)])
    timing.path_of(tmp_path / "runs", "tiny", "baseline", 0).mkdir(parents=True)
    assert _pace(tmp_path).seconds is None
