import json
import logging
from datetime import datetime, timedelta

import pytest

from merc import log
from merc.log import logger


def _words(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr, without date and time."""
    return [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]


def test_json_logs_are_one_object_a_line_on_stderr_with_the_fields_of_the_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.set_up("json")
    logger.info("%d clips", 3, extra={"stage": "media", "seconds": 1.5})
    logger.warning("two\nlines, it’s “quoted”")
    captured = capsys.readouterr()
    assert captured.out == ""
    entries = [json.loads(line) for line in captured.err.splitlines()]
    assert all(datetime.fromisoformat(entry.pop("time")).utcoffset() == timedelta(0) for entry in entries)
    assert entries == [
        {"level": "info", "message": "3 clips", "stage": "media", "seconds": 1.5},
        {"level": "warning", "message": "two\nlines, it’s “quoted”"},
    ]


def test_a_json_log_leaves_out_what_another_library_adds_to_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("json")
    logger.info("one", extra={"_ray_timestamp_ns": 1795612051626107715, "stage": "media"})
    assert json.loads(capsys.readouterr().err).keys() == {"time", "level", "message", "stage"}


def test_a_json_log_holds_the_traceback_and_whatever_has_no_json_form_as_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
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


def test_text_logs_show_time_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    logger.info("%s: started", "media", extra={"stage": "media"})
    captured = capsys.readouterr()
    moment, _, words = captured.err.partition(" INFO ")
    assert abs(datetime.now() - datetime.fromisoformat(moment)) < timedelta(seconds=5)
    assert words == "media: started\n"
    assert captured.out == ""


def test_the_level_decides_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(level=logging.WARNING)
    logger.info("not shown")
    logger.error("shown")
    assert _words(capsys) == ["ERROR shown"]


def test_setting_up_twice_does_not_print_twice(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    log.set_up()
    logger.info("once")
    assert _words(capsys) == ["INFO once"]


def test_without_a_terminal_what_takes_less_than_a_minute_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    with log.progress(3, "decoding", "clip") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_progress_is_a_line_a_minute_with_count_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    log.set_up()
    with log.progress(1100, "decode", "utterance", done=100) as bar:
        bar.set_postfix({"loss": "0.5"})
        for second in range(150):
            now = 1000.0 + second
            bar.update(1 if second % 2 else 0)
    assert _words(capsys) == [
        "INFO decode: 130 of 1100, 30 a minute (utterance), about 0:32:20 left, loss 0.5",
        "INFO decode: 160 of 1100, 30 a minute (utterance), about 0:31:20 left, loss 0.5",
    ]


def test_progress_in_a_json_log_has_its_numbers_as_fields(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    log.set_up("json")
    with log.progress(4, "decode", "utterance") as bar:
        now = 60.0
        bar.update(0)
        now = 120.0
        bar.update(1)
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(entry["progress"], entry["done"], entry["total"], entry["seconds_left"]) for entry in entries] == [
        ("decode", 0, 4, None),
        ("decode", 1, 4, 360),
    ]


def test_there_is_a_progress_bar_on_a_terminal_and_logs_are_next_to_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_what_acts_on_a_terminal_is_shown_in_both_formats(capsys: pytest.CaptureFixture[str]) -> None:
    words = "dia\x1b]0;owned\x07\x9b2J\u202e\r\x7f\nsecond line\ttab"
    log.set_up()
    logger.warning("%s", words)
    text = capsys.readouterr().err
    assert r"dia\x1b]0;owned\x07\x9b2J\u202e\r\x7f" in text
    assert "\nsecond line\ttab\n" in text
    log.set_up("json")
    logger.warning("%s", words, extra={"dialogue": words})
    line = capsys.readouterr().err.removesuffix("\n")
    assert line.isprintable()
    assert (json.loads(line)["message"], json.loads(line)["dialogue"]) == (words, words)
