import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from merc.compute import pool
from merc.compute.pool import Crew, Lost
from merc.errors import PipelineError
from merc.interrupts import stoppable

Run = Callable[[str], object]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The function of ``tests/compute/errands.py``, which worker processes find by name."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    return importlib.import_module("errands").run


def outcomes(
    run: Run, errands: Sequence[str], *, workers: int = 2, attempts: int = 1, limit_seconds: float = 60.0
) -> list[object]:
    """The outcome of each errand, in order; for a lost one, (reason, message)."""
    done = {}
    with Crew(run, workers, attempts) as crew:
        for key, errand in enumerate(errands):
            crew.submit(key, errand, limit_seconds=limit_seconds)
        for _ in errands:
            key, outcome = crew.next_outcome()
            assert key not in done
            done[key] = (outcome.why, outcome.words) if isinstance(outcome, Lost) else outcome
    return [done[key] for key in range(len(errands))]


def test_one_worker_computes_in_this_process():
    assert list(pool.in_order(os.path.basename, ["a/b", "c/d"], 1)) == ["b", "d"]


def test_workers_give_results_in_order_and_a_dead_one_is_an_error_that_names_its_task():
    assert list(pool.in_order(abs, range(-50, 0), 2)) == list(range(50, 0, -1))
    with pytest.raises(PipelineError, match=r"died .*:\n  9: its process ended with exit code 9\n"):
        list(pool.in_order(os._exit, [9, 9, 9], 2))


def test_an_error_in_a_worker_is_raised_here_and_ends_the_others():
    with pytest.raises(FileNotFoundError, match="no-such-file") as raised:
        list(pool.in_order(os.stat, ["/", "no-such-file", *["/"] * 50], 2))
    assert "Traceback" in str(raised.value.__cause__)


def test_results_come_in_order_whatever_each_takes(run):
    errands = ["sleep 0.3", *[f"say {number}" for number in range(30)]]
    assert list(pool.in_order(run, errands, 2)) == [None, *[str(number) for number in range(30)]]


def test_whoever_dies_hangs_or_breaks_its_connection_is_lost_alone(run):
    told = [f"say {number}" for number in range(12)]
    bad = ["segfault", "exit 3", "close", "scribble", "raise oh", "sleep 1000", "half"]
    errands = [errand for pair in zip(told, bad, strict=False) for errand in pair] + told[len(bad) :]
    found = outcomes(run, errands, limit_seconds=1.0)
    assert [outcome for errand, outcome in zip(errands, found, strict=True) if errand.startswith("say")] == [
        str(number) for number in range(12)
    ]
    lost = {errand: outcome for errand, outcome in zip(errands, found, strict=True) if not errand.startswith("say")}
    assert len(lost) == 7
    assert lost["segfault"] == ("crashed", "its process was killed by SIGSEGV")
    assert lost["exit 3"] == ("crashed", "its process ended with exit code 3")
    assert lost["close"][0] == "crashed"
    assert lost["scribble"] == ("crashed", "it wrote something other than an answer")
    assert lost["raise oh"][0] == "raised"
    assert "LookupError: oh" in lost["raise oh"][1]
    assert lost["sleep 1000"] == lost["half"] == ("timeout", "not done within 1 s")


def test_a_second_try_in_a_new_process_saves_whom_the_system_killed_for_the_memory_of_another(run, tmp_path):
    errands = [f"note {tmp_path / 'log'} before", f"once {tmp_path / 'died'} saved", "segfault"]
    assert outcomes(run, errands, workers=1, attempts=2) == [
        "before",
        "saved",
        ("crashed", "its process was killed by SIGSEGV, 2 times"),
    ]


def test_the_second_try_is_in_a_process_that_did_nothing_before(run, tmp_path):
    log, died = tmp_path / "log", tmp_path / "died"
    with Crew(run, 2, attempts=2) as crew:
        for key in range(6):
            crew.submit(key, f"note {log} other")
        assert sorted(crew.next_outcome()[0] for _ in range(6)) == list(range(6))
        crew.submit(6, f"once {died} saved")
        assert crew.next_outcome() == (6, "saved")
    busy_before = {line.split()[1] for line in log.read_text().splitlines()}
    first, second = died.read_text().split()
    assert second not in {first, *busy_before}


def test_the_heaviest_are_begun_first(run, tmp_path):
    log = tmp_path / "log"
    with Crew(run, 1) as crew:
        for key, weight in enumerate([1.0, 5.0, 3.0, 5.0, 2.0]):
            crew.submit(key, f"note {log} {key}", weight=weight)
        assert [crew.next_outcome()[0] for _ in range(5)] == [1, 3, 2, 4, 0]
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["1", "3", "2", "4", "0"]


def test_an_answer_of_many_megabytes_comes_whole(run):
    assert outcomes(run, ["big 30000000", "say x"]) == [bytes(30_000_000), "x"]


def test_what_cannot_be_sent_is_an_error_of_its_task_alone(run):
    found = outcomes(run, ["raise-stubborn", "unpicklable", "say x"])
    assert [found[0][0], found[1][0], found[2]] == ["raised", "raised", "x"]
    assert "Stubborn" in found[0][1]
    assert "pickle" in found[1][1]


def test_time_in_which_everything_stood_still_makes_no_one_late(run, monkeypatch):
    """The clock jumps by a day at each reading, as for a run stopped with Ctrl-Z."""
    days = iter(range(10**6))
    monkeypatch.setattr(pool.time, "monotonic", lambda: 86_400.0 * next(days))
    assert outcomes(run, ["sleep 0.3", "say x"], limit_seconds=30.0) == [None, "x"]


def test_workers_have_one_thread_for_linear_algebra_and_this_process_keeps_its_own(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert outcomes(run, ["threads"]) == [{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_worker_that_is_killed_before_it_is_ready_is_replaced(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DIES_ONCE_AT_IMPORT", str(tmp_path / "died"))
    assert outcomes(run, ["threads"]) == [{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}]
    assert (tmp_path / "died").exists()


def test_workers_that_cannot_begin_end_the_run_instead_of_being_started_for_ever(run, monkeypatch):
    monkeypatch.setattr(run, "__qualname__", "there_is_no_such_function")
    monkeypatch.setattr(importlib.import_module("errands"), "there_is_no_such_function", run, raising=False)
    with pytest.raises(PipelineError, match="could not start"):
        outcomes(run, ["say x"])


def leave_early(run, children):
    with Crew(run, 2) as crew:
        for key, errand in enumerate(["sleep 1000", "say x", "sleep 1000"]):
            crew.submit(key, errand)
        assert crew.next_outcome() == (1, "x")
        children += [worker._process.pid for worker in crew._workers]
        raise KeyError


def test_leaving_early_ends_workers_at_once_whatever_they_are_at(run):
    began, children = time.monotonic(), []
    with pytest.raises(KeyError):
        leave_early(run, children)
    assert time.monotonic() - began < 30
    assert children
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_ctrl_c_ends_workers_whatever_they_are_at(run, tmp_path, monkeypatch):
    """A process started by a shell in the background ignores SIGINT, and so would these tests, except for this one."""
    log, started = tmp_path / "log", []
    monkeypatch.setattr(
        pool.Crew,
        "_start",
        lambda self, first=None, start=pool.Crew._start: (
            start(self, first),
            started.append(self._workers[-1]._process),
        )[0],
    )

    def interrupt():
        while not log.exists() or len(log.read_text().splitlines()) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt), stoppable():
            list(pool.in_order(run, [f"stay {log} {number}" for number in range(3)], 2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(started) == 2
    assert not any(process.is_alive() for process in started)


def test_waiting_for_nothing_is_an_error(run):
    with Crew(run, 2) as crew, pytest.raises(IndexError):
        crew.next_outcome()


def test_terminate_is_taken_as_an_interruption_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
