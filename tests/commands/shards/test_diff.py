import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from merc import files

Run = Callable[..., Any]


def test_equal_shards_give_exit_code_0(make: Callable[..., Path], run: Run) -> None:
    result = run("diff", make("one"), make("other"))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "equal"


def test_what_changed_and_by_how_much_is_reported_with_exit_code_1(make: Callable[..., Path], run: Run) -> None:
    one, other = make("one"), make("other", moved=0.25)
    info = files.read_json(other / "meta" / "info.json")
    info["encoders"]["audio"]["revision"] = "4"
    files.write_json(other / "meta" / "info.json", info)
    result = run("diff", one, other)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "train: 3 dialogues in both; 6 utterances in both"
    assert lines[1].startswith("  audio    5 of 5 vectors changed: by up to 0.25 (train/")
    assert '  encoders.audio.revision: "3" in A, "4" in B' in lines
    found = json.loads(run("diff", one, other, "--json").stdout)
    assert found["splits"]["train"]["vectors"]["audio"]["changed"] == 5


def test_a_tolerance_lets_small_changes_pass(make: Callable[..., Path], run: Run) -> None:
    one, other = make("one"), make("other", moved=0.25)
    assert run("diff", one, other, "--tolerance", 0.3).exit_code == 0


def test_what_is_not_shards_gives_exit_code_4(make: Callable[..., Path], run: Run, tmp_path: Path) -> None:
    assert run("diff", make("one"), tmp_path).exit_code == 4


def test_a_page_is_written_instead_with_the_same_exit_code(make: Callable[..., Path], run: Run, tmp_path: Path) -> None:
    one, other, page = make("one"), make("other", moved=0.25), tmp_path / "difference.html"
    result = run("diff", one, other, "--html", page)
    assert (result.exit_code, result.stdout) == (1, f"{page}\n")
    assert "They differ." in page.read_text()
    assert run("diff", one, one, "--html", page).exit_code == 0
    assert "They are equal." in page.read_text()
    assert run("diff", one, other, "--html", page, "--json").exit_code == 2
