import errno
import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from merc import lock, log
from merc.command_line import echo, echo_json, exiting, stage_command
from merc.errors import (
    BadSettings,
    BadTable,
    HubRefuses,
    ModelUnavailable,
    PipelineError,
    RawDataMissing,
    SettingsDiffer,
    TooManyFailures,
)
from merc.job import RunOptions
from merc.layout import Layout
from merc.log import logger
from merc.params import Params


@pytest.fixture(autouse=True)
def as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores the log for other tests; relative folders are created in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def _end_with(error: BaseException) -> Any:
    with pytest.raises(SystemExit) as raised, exiting():
        raise error
    return raised.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PipelineError("m"), 1),
        (BadTable("m"), 4),
        (BadSettings("m"), 2),
        (TooManyFailures("m"), 3),
        (RawDataMissing("m"), 4),
        (SettingsDiffer("m"), 5),
        (ModelUnavailable("m"), 6),
        (HubRefuses("m"), 6),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_that_a_user_can_mend_has_its_exit_code(error: BaseException, code: int) -> None:
    assert _end_with(error) == code


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exiting():
        raise ZeroDivisionError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EMFILE])
def test_what_the_system_refuses_is_a_sentence(
    number: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    assert _end_with(OSError(number, os.strerror(number), "out/file")) == 1
    assert os.strerror(number) in caplog.text
    assert "'out/file'; finished work is kept" in caplog.text


def test_any_other_error_of_the_system_keeps_its_traceback() -> None:
    with pytest.raises(FileNotFoundError), exiting():
        raise FileNotFoundError(errno.ENOENT, "No such file")


def test_a_line_of_a_result_shows_what_would_act_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    echo("Joey\x1b[2J\x9b\u202e\udce9")
    echo_json({"speaker": "Joey\x1b[2J\x9b\u202e"})
    assert capsys.readouterr().out == 'Joey\\x1b[2J\\x9b\\u202e\\udce9\n{"speaker": "Joey\\u001b[2J\\u009b\\u202e"}\n'


@pytest.mark.parametrize("program", ["extract", "train", "shards", "report", "adapt"])
@pytest.mark.parametrize(
    "arguments", [["\x1b[2J"], ["--\x1b[2J"], ["inspect", "--\x1b[2J"], ["validate", "a", "b\x1b[2J"]]
)
def test_an_error_of_usage_shows_what_would_act_on_a_terminal(program: str, arguments: list[str]) -> None:
    result = CliRunner().invoke(importlib.import_module(f"merc.commands.{program}").main, arguments)
    assert result.exit_code == 2
    assert "\x1b" not in result.output


def test_work_without_error_ends_without_exit() -> None:
    with exiting():
        done = True
    assert done


@pytest.fixture
def seen() -> dict[str, Any]:
    return {}


@pytest.fixture
def command(seen: dict[str, Any]) -> click.Command:
    @stage_command
    @click.option("--modality", required=True, help="Which one.")
    def main(params: Params, layout: Layout, run: RunOptions, modality: str) -> None:
        """Does one stage."""
        seen.update(params=params, layout=layout, run=run, modality=modality)
        if modality == "smell":
            raise BadSettings("no modality 'smell'")

    return main


def _run(command: click.Command, tmp_path: Path, *arguments: str) -> Result:
    (tmp_path / "other.yaml").write_text("{media: {max_clip_seconds: 1}, run: {max_failed: 2%}}")
    return CliRunner().invoke(command, ["--params", str(tmp_path / "other.yaml"), *arguments])


def test_a_stage_gets_settings_paths_and_its_own_options(
    command: click.Command, seen: dict[str, Any], tmp_path: Path
) -> None:
    result = _run(command, tmp_path, "--dataset", "meld", "--raw", "r", "--out", "o", "--modality", "text")
    assert result.exit_code == 0, result.output
    assert seen["params"].get("media") == {"max_clip_seconds": 1}
    assert seen["run"].max_failed == "2%"
    assert seen["layout"] == Layout(Path("r"), Path("o"), "meld")
    assert seen["modality"] == "text"


def test_the_usual_folders_are_the_defaults_and_older_work_is_replaced(
    command: click.Command, seen: dict[str, Any], tmp_path: Path
) -> None:
    _run(command, tmp_path, "--dataset", "meld", "--modality", "text")
    assert seen["layout"] == Layout(Path("raw"), Path("features"), "meld")
    assert seen["run"].overwrite
    assert seen["run"].workers >= 1


def test_an_error_of_a_stage_is_one_message_on_stderr_and_its_exit_code(command: click.Command, tmp_path: Path) -> None:
    result = _run(command, tmp_path, "--dataset", "meld", "--modality", "smell")
    assert result.exit_code == 2
    assert re.fullmatch(r"\S+ \S+ ERROR no modality 'smell'\n", result.stderr)
    assert result.stdout == ""


def test_settings_that_cannot_be_read_are_an_error_of_usage(command: click.Command, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        command, ["--params", str(tmp_path / "nothing.yaml"), "--dataset", "meld", "--modality", "text"]
    )
    assert result.exit_code == 2
    assert "nothing.yaml" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_ends_a_command_as_interrupted(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # it is ignored when a shell starts the tests in the background
    try:
        with pytest.raises(SystemExit) as ended, exiting():
            signal.raise_signal(number)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert ended.value.code == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_two_stages_of_a_dataset_do_not_write_at_once(command: click.Command, tmp_path: Path) -> None:
    with lock.held(tmp_path / "features" / "meld"):
        result = _run(command, tmp_path, "--dataset", "meld", "--modality", "text", "--out", str(tmp_path / "features"))
    assert result.exit_code == 7
    assert "is writing there" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--modality", "text"], ["--dataset", "meld"], ["--dataset", "meld", "--modality", "text", "--wrong"]]
)
def test_missing_and_unknown_options_are_errors_of_usage(
    command: click.Command, tmp_path: Path, arguments: list[str]
) -> None:
    assert _run(command, tmp_path, *arguments).exit_code == 2


@pytest.mark.parametrize("option", ["--raw", "--out"])
def test_a_file_in_place_of_a_folder_is_an_error_of_usage(command: click.Command, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").touch()
    done = _run(command, tmp_path, "--dataset", "meld", "--modality", "text", option, str(tmp_path / "file"))
    assert (done.exit_code, "is a file" in done.stderr) == (2, True)


def test_the_help_explains_the_stage_and_all_its_options(command: click.Command, tmp_path: Path) -> None:
    text = _run(command, tmp_path, "--help").output
    for part in ("Does one stage.", "--dataset", "--raw", "--out", "--params", "--modality", "Which one."):
        assert part in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "media/é.mp4",
            (
                r"'media/\xe9.mp4' cannot be written in ascii, the encoding of this locale; set PYTHONUTF8=1, or"
                r" LC_ALL=C.UTF-8"
            ),
        ),
        ("media/\udce9.mp4", r"the name 'media/\udce9.mp4' has bytes that are not characters in "),
    ],
)
def test_what_the_locale_cannot_write_is_an_error_of_usage_and_no_traceback(
    capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    log.set_up()
    with pytest.raises(SystemExit) as ended, exiting():
        text.encode("ascii")
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_in_a_locale_without_the_characters_of_a_clips_name_the_clip_is_not_taken_for_missing(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom merc import log\nfrom merc.command_line import exiting\nfrom merc.files import"
        " confined\nlog.set_up()\n"
    )
    code += "with exiting():\n    confined(Path('raw'), 'm\\xe9ld/a.mp4')\n"
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | ascii_locale,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert r"'raw/m\xe9ld/a.mp4' cannot be written in ascii" in result.stderr
