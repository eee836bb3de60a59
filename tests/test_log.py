import json
import logging

import pytest

from merc import log
from merc.log import logger


def test_json_logs_are_one_object_a_line_on_stderr_with_the_fields_of_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("json")
    logger.info("%d clips", 3, extra={"stage": "media", "seconds": 1.5})
    logger.warning("two\nlines, it’s “quoted”")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line) for line in captured.err.splitlines()] == [
        {"level": "info", "message": "3 clips", "stage": "media", "seconds": 1.5},
        {"level": "warning", "message": "two\nlines, it’s “quoted”"},
    ]


def test_a_json_log_leaves_out_what_another_library_adds_to_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("json")
    logger.info("one", extra={"_ray_timestamp_ns": 1795612051626107715, "stage": "media"})
    assert json.loads(capsys.readouterr().err) == {"level": "info", "message": "one", "stage": "media"}


def test_a_json_log_holds_the_traceback_and_whatever_has_no_json_form_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("json")
    try:
        int("x")
    except ValueError:
        logger.exception("failed", extra={"kinds": {"a"}})
    entry = json.loads(capsys.readouterr().err)
    assert entry["level"] == "error"
    assert entry["kinds"] == "{'a'}"
    assert entry["traceback"].startswith("Traceback (most recent call last):")
    assert entry["traceback"].endswith("ValueError: invalid literal for int() with base 10: 'x'")


def test_text_logs_show_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    logger.info("%s: started", "media", extra={"stage": "media"})
    captured = capsys.readouterr()
    assert captured.err == "INFO media: started\n"
    assert captured.out == ""


def test_the_level_decides_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(level=logging.WARNING)
    logger.info("not shown")
    logger.error("shown")
    assert capsys.readouterr().err == "ERROR shown\n"


def test_setting_up_twice_does_not_print_twice(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    log.set_up()
    logger.info("once")
    assert capsys.readouterr().err == "INFO once\n"


def test_there_is_no_progress_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with log.progress(3, "decoding", "clip") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_there_is_a_progress_bar_on_a_terminal_and_logs_stand_beside_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    log.set_up()
    with log.progress(3, "decoding", "clip") as bar:
        bar.update(1)
        logger.info("a remark")
        bar.refresh()
    err = capsys.readouterr().err
    assert "decoding" in err
    assert "clip" in err
    assert any(line.endswith("INFO a remark") for line in err.replace("\r", "\n").splitlines())
