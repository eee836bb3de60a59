import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from merc import lock
from merc.errors import OutputInUse, PipelineError

Hold = Callable[[Path], "subprocess.Popen[str]"]


def test_the_second_process_says_who_holds_the_output_and_ends_with_7(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path / "meld")
    with (
        pytest.raises(
            OutputInUse, match=rf"meld: process {process.pid} on \S+, since 20\d\d-.* is writing there; .*--wait"
        ) as raised,
        lock.held(tmp_path / "meld"),
    ):
        pass
    assert raised.value.exit_code == 7


def test_another_output_is_free(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path / "meld")
    with lock.held(tmp_path / "iemocap"):
        held = {name: json.loads((tmp_path / f".{name}.lock").read_text())["process"] for name in ("meld", "iemocap")}
    assert held == {"meld": process.pid, "iemocap": os.getpid()}


def test_a_lock_is_gone_with_the_process_that_was_killed(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path / "meld")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".meld.lock").exists()
    with lock.held(tmp_path / "meld"):
        assert json.loads((tmp_path / ".meld.lock").read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_whoever_waits_continues_when_the_other_has_finished(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path / "meld")
    order: list[str] = []

    def wait() -> None:
        with lock.held(tmp_path / "meld", wait=True):
            order.append("waited")

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    order.append("finished")
    process.communicate()  # its input ends
    thread.join(timeout=20)
    assert order == ["finished", "waited"]
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), lock.held(tmp_path / "meld"):
            raise ValueError("inside")
    assert list(tmp_path.iterdir()) == []


def test_folders_made_for_the_lock_alone_are_removed_and_those_that_were_written_to_stay(tmp_path: Path) -> None:
    with lock.held(tmp_path / "a" / "b" / "c"):
        assert (tmp_path / "a" / "b" / ".c.lock").exists()
    assert list(tmp_path.iterdir()) == []
    with lock.held(tmp_path / "a" / "b" / "c"):
        (tmp_path / "a" / "b" / "c").write_text("made")
    assert (tmp_path / "a" / "b" / "c").read_text() == "made"


def test_an_output_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="file/meld cannot be written"), lock.held(tmp_path / "file" / "meld"):
        pass


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(37, "No locks available")])
def test_a_file_system_without_locks_is_written_to_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def acquire(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    monkeypatch.setattr("merc.log.logger.propagate", True)
    with pytest.raises(ValueError, match="inside"), lock.held(tmp_path / "meld"):
        raise ValueError("inside")
    assert "without locks" in caplog.text
