import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merc import files
from merc.errors import BadSettings, BadTable, CannotWrite

needs_dev_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="/dev/full, where every write meets a full disk, is Linux's alone"
)


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.durable
def test_a_file_is_in_place_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "result.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename across file systems would not be atomic
    assert path.read_text() == "whole"
    assert _names(path.parent) == ["result.txt"]


def _fail_half_way(path: Path, error: type[BaseException]) -> None:
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, CannotWrite, KeyboardInterrupt])
@pytest.mark.parametrize("old", [[], ["old"]])
def test_an_error_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, error: type[BaseException], old: list[str]
) -> None:
    for content in old:
        (tmp_path / "result.txt").write_text(content)
    with pytest.raises(error):
        _fail_half_way(tmp_path / "result.txt", error)
    assert [file.read_text() for file in tmp_path.iterdir()] == old


def test_a_block_that_writes_nothing_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(CannotWrite, match="No such file"), files.replacing(path):
        pass
    assert path.read_text() == "old"


@needs_dev_full
@pytest.mark.parametrize("old", [None, "old"])
def test_a_full_disk_while_writing_leaves_the_old_file_and_no_half_written_one(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "result.json"
    if old is not None:
        path.write_text(old)
    files.temporary_beside(path).symlink_to("/dev/full")
    with pytest.raises(CannotWrite, match=r"result\.json cannot be written: .*No space left on device.*run again"):
        files.write_json(path, {"a": 1})
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == (
        [] if old is None else [("result.json", "old")]
    )


def test_a_full_disk_that_shows_only_when_flushing_leaves_the_old_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems with delayed allocation report a full disk on fsync."""

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "result.txt"
    files.write_text(path, "old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(CannotWrite, match="No space left on device"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["result.txt"]


@pytest.mark.durable
def test_content_is_flushed_before_it_is_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("flush") or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda source, target: done.append("rename") or replace(source, target))
    files.write_text(tmp_path / "result.txt", "new")
    assert done == ["flush", "rename", "flush"]  # the file and, after the rename, its folder


def test_text_is_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    files.write_text(tmp_path / "text", "it’s\nhere")
    assert (tmp_path / "text").read_bytes() == b"it\xe2\x80\x99s\nhere"


def test_json_has_the_same_bytes_regardless_of_the_order_of_keys(tmp_path: Path) -> None:
    files.write_json(tmp_path / "one", {"b": [1, 2.5, None], "a": "é"})
    files.write_json(tmp_path / "two", {"a": "é", "b": [1, 2.5, None]})
    expected = '{\n  "a": "é",\n  "b": [\n    1,\n    2.5,\n    null\n  ]\n}\n'
    assert (tmp_path / "one").read_text(encoding="utf-8") == (tmp_path / "two").read_text(encoding="utf-8") == expected
    assert files.read_json(tmp_path / "one") == {"a": "é", "b": [1, 2.5, None]}


def test_a_number_that_is_not_finite_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        files.write_json(tmp_path / "result", {"loss": float("nan")})
    assert _names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "some.json").write_bytes(content)
    with pytest.raises(BadTable, match=r"some\.json: not a JSON file"):
        files.read_json(tmp_path / "some.json")


def test_hashes_are_those_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "some").write_bytes(content)
    assert files.sha256(tmp_path / "some") == hashlib.sha256(content).hexdigest()
    assert files.digest({"a": 1, "b": "é"}) == hashlib.sha256('{"a":1,"b":"é"}'.encode()).hexdigest()


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)), st.randoms())
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, int | str], random: Random) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert files.digest(dict(items)) == files.digest(value)


def test_different_values_have_different_digests() -> None:
    values = [
        {},
        {"a": 1},
        {"a": "1"},
        {"a": 1.5},
        {"a": None},
        {"a": {"b": 1}},
        {"a.b": 1},
        {"a": [1, 2]},
        {"a": [2, 1]},
    ]
    assert len({files.digest(value) for value in values}) == len(values)


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize(
    "relative", ["a.mp4", "folder/a.mp4", "./folder/a.mp4", "folder//a.mp4", "a..b/..c", "ünï/cödé", "not/there/yet"]
)
def test_a_plain_path_stays_below_its_folder(tmp_path: Path, relative: str, follow: bool) -> None:
    assert files.confined(tmp_path, relative, follow_links=follow) == tmp_path / relative


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize(
    "relative",
    ["", "/etc/passwd", "..", "../x", "a/../../x", "a/../b", "a/..", "..\\x", "a\\b", "C:\\x", "a\0b", "//host/share"],
)
def test_a_path_that_could_lead_elsewhere_is_refused_whether_links_are_followed_or_not(
    tmp_path: Path, relative: str, follow: bool
) -> None:
    with pytest.raises(ValueError, match="is not a plain path below"):
        files.confined(tmp_path, relative, follow_links=follow)


@pytest.mark.parametrize("target", ["../outside", "/etc", "../root-beside"])
def test_a_link_that_leads_out_is_followed_unless_that_is_forbidden(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root-beside").mkdir()  # its name starts with the root's
    (root / "link").symlink_to(target)
    for relative in ("link", "link/clip.mp4"):
        assert files.confined(root, relative) == root / relative
        with pytest.raises(ValueError, match=r"leads outside .*root, to "):
            files.confined(root, relative, follow_links=False)


def test_a_link_that_stays_inside_is_followed_also_where_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert files.confined(tmp_path, "link/clip.mp4", follow_links=False) == (tmp_path / "real" / "clip.mp4").resolve()


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "raw").symlink_to("corpus")
    assert (
        files.confined(tmp_path / "raw", "clip.mp4", follow_links=False) == (tmp_path / "corpus" / "clip.mp4").resolve()
    )


def test_where_links_are_not_followed_the_corpus_folder_may_be_one_but_nothing_below_it_may_lead_out(
    tmp_path: Path,
) -> None:
    disk, raw = tmp_path / "disk", tmp_path / "raw"
    (disk / "clips").mkdir(parents=True)
    raw.mkdir()
    (raw / "meld").symlink_to(disk)
    (disk / "out").symlink_to(tmp_path)
    assert (
        files.confined(raw, "meld/clips/a.mp4", own="meld", follow_links=False) == (disk / "clips" / "a.mp4").resolve()
    )
    for relative, own in (("meld/clips/a.mp4", ""), ("meld/clips/a.mp4", "iemocap"), ("meld/out/a.mp4", "meld")):
        with pytest.raises(ValueError, match="leads outside"):
            files.confined(raw, relative, own=own, follow_links=False)


@pytest.mark.parametrize(
    ("links", "path", "words"),
    [
        ({"a": "b", "b": "a"}, "a/clip.mp4", "links in a circle"),
        ({"a": "a"}, "a", "links in a circle"),
        ({"a": "gone"}, "a", "a broken link"),
        ({"a": "gone/deeper"}, "a/clip.mp4", "a broken link"),
        ({"a": "folder"}, "a/clip.mp4", ""),
        ({"a": "folder"}, "folder", ""),
    ],
)
def test_links_that_lead_nowhere_have_words_of_their_own(
    tmp_path: Path, links: dict[str, str], path: str, words: str
) -> None:
    (tmp_path / "folder").mkdir()
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert files.broken_link(tmp_path / path) == words


def test_a_name_that_the_locale_cannot_write_is_refused_and_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsencode", lambda path: str(path).encode("ascii"))
    files.confined(tmp_path, "a.mp4")
    with pytest.raises(BadSettings, match=r"\\xe9\.mp4' cannot be written in ascii, .*PYTHONUTF8=1"):
        files.confined(tmp_path, "é.mp4")


def test_a_folder_goes_where_nothing_was(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    files.replace_folder(tmp_path / "scratch", tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out").is_dir()


def _folder(path: Path, content: str) -> Path:
    (path / "below").mkdir(parents=True)
    (path / "below" / "file").write_text(content)
    return path


def _content(folder: Path) -> str:
    return (folder / "below" / "file").read_text()


@pytest.mark.durable
@pytest.mark.parametrize("old", [False, True])
def test_a_folder_takes_the_place_of_another_and_leaves_nothing_behind(tmp_path: Path, old: bool) -> None:
    target = _folder(tmp_path / "target", "old") if old else tmp_path / "target"
    files.replace_folder(_folder(tmp_path / "source", "new"), target)
    assert (_content(target), _names(tmp_path)) == ("new", ["target"])


def test_a_link_to_a_folder_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    elsewhere = _folder(tmp_path / "elsewhere", "theirs")
    (tmp_path / "target").symlink_to(elsewhere)
    files.replace_folder(_folder(tmp_path / "source", "new"), tmp_path / "target")
    assert (_content(tmp_path / "target"), _content(elsewhere), _names(tmp_path)) == (
        "new",
        "theirs",
        ["elsewhere", "target"],
    )


class _Killed(BaseException):
    """In place of a signal."""


@pytest.mark.parametrize("number", range(1, 12))
def test_a_run_killed_at_any_operation_leaves_a_whole_folder_and_the_next_one_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    target, done = _folder(tmp_path / "target", "old"), 0

    def until_killed(operation: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **named: object) -> object:
            nonlocal done
            done += 1
            if done == number:
                raise _Killed
            return operation(*arguments, **named)

        return counted

    source = _folder(tmp_path / "source", "new")
    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "rmdir", "fsync"):
            patch.setattr(os, name, until_killed(getattr(os, name)))
        with suppress(_Killed):
            files.replace_folder(source, target)
    assert not target.exists() or _content(target) in ("old", "new")
    files.finish_replacing(target)
    assert _content(target) == ("old" if source.exists() else "new")
    if source.exists():
        files.replace_folder(source, target)
    assert (_content(target), _names(tmp_path)) == ("new", ["target"])


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_the_same_file(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    machine = files.temporary_beside(tmp_path / "x").name.split(".")[2].partition("-")[0]
    removed = [f".a[1].txt.{machine}-{ended.pid}.tmp", f".a[1].txt.0badcafe-{os.getpid()}.tmp"]
    kept = [
        f".a[1].txt.{machine}-{os.getppid()}.tmp",
        f".a[1].txt.0badcafe-{ended.pid}.tmp",  # whether that process on another machine is alive is unknown here
        f".b.txt.{machine}-{ended.pid}.tmp",
        ".a[1].txt.mine.tmp",
    ]
    for name in removed + kept:
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / removed[1], (0, 0))
    files.write_text(tmp_path / "a[1].txt", "whole")
    assert _names(tmp_path) == sorted([*kept, "a[1].txt"])


def test_a_pipe_a_socket_and_a_device_are_not_files_and_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "file").write_text("{}")
    for path, words in (
        (tmp_path / "pipe", "a named pipe"),
        (tmp_path / "link", "a named pipe"),
        (Path(os.devnull), "a device"),
    ):
        with pytest.raises(OSError, match=f"{words} instead of a file"):
            files.sha256(path)
        with pytest.raises(BadTable, match=f"cannot be read: {words} instead of a file"):
            files.read_json(path)
    files.check_kind(tmp_path / "file")


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CannotWrite, match=r"file/below/result\.json cannot be written: .*file"):
        files.write_json(tmp_path / "file" / "below" / "result.json", 1)
    (tmp_path / "new").mkdir()
    with pytest.raises(CannotWrite, match="cannot be written"):
        files.replace_folder(tmp_path / "new", tmp_path / "file" / "new")
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "new").is_dir()
