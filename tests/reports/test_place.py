"""A report replaces only a report; whatever happens in between, one of the two exists."""

from pathlib import Path

import pytest

from merc import files
from merc.errors import CannotWrite, SettingsDiffer
from merc.reports import place
from merc.reports.pages.base import MARK, MARKER

PAGE = '<!doctype html>\n<html>\n<head><meta name="generator" content="merc-report">\n'


def _make(folder: Path, words: str) -> None:
    for name in ("index.html", *place.TABLES):
        files.write_text(folder / name, PAGE + words)
    files.write_text(folder / MARKER, MARK)
    files.write_text(folder / "pages" / "a" / "index.html", words)


def _words(reports: Path) -> set[str]:
    return {
        path.read_text().removeprefix(PAGE)
        for path in (reports / "index.html", reports / "pages/a/index.html", reports / "results.md")
    }


def _put(reports: Path, words: str) -> None:
    place.check(reports)
    with place.making(reports) as folder:
        _make(folder, words)
        place.put(folder, reports)


def test_a_report_takes_the_place_of_one_and_leaves_what_else_is_there(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    _put(reports, "old")
    (reports / "notes.txt").write_text("mine")
    _put(reports, "new")
    assert _words(reports) == {"new"}
    assert (reports / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in reports.iterdir()) == sorted(
        ["index.html", "pages", "notes.txt", *place.TABLES]
    )


@pytest.mark.parametrize("name", ["index.html", "pages/index.html", "results.md", "scores.json"])
def test_a_folder_with_something_else_is_refused_and_nothing_in_it_is_changed(name: str, tmp_path: Path) -> None:
    files.write_text(tmp_path / name, "<!doctype html>\n<p>someone else's</p>\n")
    with pytest.raises(
        SettingsDiffer,
        match=rf"{name.split('/')[0]}: not made by merc-report, .* or name another folder with --reports",
    ):
        place.check(tmp_path)
    assert (tmp_path / name).read_text() == "<!doctype html>\n<p>someone else's</p>\n"


def test_a_file_in_the_place_of_the_folder_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("mine")
    with pytest.raises(SettingsDiffer, match="reports: a file, where the report's folder should be"):
        place.check(tmp_path / "reports")
    assert (tmp_path / "reports").read_text() == "mine"


def test_a_report_of_a_run_that_was_killed_before_the_overview_was_in_place_is_ours(tmp_path: Path) -> None:
    files.write_text(tmp_path / MARKER, MARK)
    files.write_text(tmp_path / "results.md", "")
    place.check(tmp_path)


def test_a_single_page_of_an_earlier_version_is_ours(tmp_path: Path) -> None:
    files.write_text(tmp_path / "index.html", PAGE)
    place.check(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    with pytest.raises((CannotWrite, SettingsDiffer)):
        _put(tmp_path / "reports", "new")
    assert (tmp_path / "reports").read_text() == "a file"


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    files.write_text(tmp_path / place.SCRATCH / "half", "")
    with place.making(tmp_path) as folder:
        assert not folder.exists()


def test_an_old_report_is_back_after_a_run_that_was_killed_between_its_two_renames(tmp_path: Path) -> None:
    _put(tmp_path, "old")
    (tmp_path / "pages").rename(tmp_path / ".pages.replaced")
    place.check(tmp_path)
    assert _words(tmp_path) == {"old"}


def test_an_error_on_the_way_leaves_the_old_report_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _put(tmp_path, "old")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("merc.files.replace_folder", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _put(tmp_path, "new")
    assert sorted(tmp_path.rglob("*")) == before
    assert _words(tmp_path) == {"old"}
