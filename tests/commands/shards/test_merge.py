from collections.abc import Callable
from pathlib import Path
from typing import Any

from merc.shards.format import reader

Run = Callable[..., Any]


def test_two_corpora_with_one_id_give_exit_code_4_and_the_way_out(
    make: Callable[..., Path], run: Run, tmp_path: Path, caplog: Any
) -> None:
    one, other, target = make("one"), make("other", corpus="small"), tmp_path / "whole"
    result = run("merge", one, other, "--out", target)
    assert result.exit_code == 4
    assert f"'train/dia0' is in {one} and in {other}" in result.stderr
    assert "--prefix" in result.stderr
    assert run("merge", one, other, "--out", target, "--prefix").exit_code == 0
    assert reader.info(target)["counts"]["train"]["dialogues"] == 6
    assert run("validate", target).exit_code == 0
    assert run("merge", one, other, "--out", target, "--prefix").exit_code == 5


def test_one_folder_is_a_usage_error(make: Callable[..., Path], run: Run, tmp_path: Path) -> None:
    assert run("merge", make("one"), "--out", tmp_path / "whole").exit_code == 2
