"""How epochs are timed, and where the times are kept."""

from pathlib import Path

import pytest

from merc import timing


def test_a_stopwatch_gives_the_medians_of_what_ended_well(monkeypatch: pytest.MonkeyPatch) -> None:
    walls, cpus = iter([0.0, 1.0, 10.0, 12.0, 20.0, 29.0, 30.0]), iter([0.0, 0.5, 1.0, 1.75, 2.0, 2.25, 3.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(walls))
    monkeypatch.setattr("time.process_time", lambda: next(cpus))
    watch = timing.Stopwatch()
    for _ in range(3):
        with watch.lap():
            pass
    with pytest.raises(KeyboardInterrupt), watch.lap():
        raise KeyboardInterrupt
    assert watch.times("1", "cpu", 2) == timing.Times(
        fingerprint="1", device="cpu", threads=2, epochs=3, wall_seconds=2.0, cpu_seconds=0.5
    )


def test_where_nothing_was_timed_there_are_no_times() -> None:
    assert timing.Stopwatch().times("1", "cpu", 1) is None


def test_times_are_next_to_the_runs_where_git_and_dvc_do_not_look() -> None:
    assert timing.path_of(Path("runs"), "meld", "mmgcn", 0) == Path("runs/.times/meld/mmgcn/seed-0.json")
    root = Path(__file__).resolve().parents[1]
    for name in (".gitignore", ".dvcignore"):
        assert "/runs/.times/" in (root / name).read_text(encoding="utf-8").splitlines()
