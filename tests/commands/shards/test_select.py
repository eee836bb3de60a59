from collections.abc import Callable
from pathlib import Path
from typing import Any

from merc.shards.format import reader

Run = Callable[..., Any]


def test_a_part_is_written_and_is_valid(make: Callable[..., Path], run: Run, tmp_path: Path) -> None:
    shards, target = make("one"), tmp_path / "part"
    result = run("select", shards, target, "--split", "test", "--modalities", "audio", "--no-text")
    assert (result.exit_code, result.stdout) == (0, f"{target}\n")
    assert "texts" not in reader.read_split(target, "test").column_names
    assert run("validate", target).exit_code == 0
    assert run("select", shards, target).exit_code == 5
    assert run("select", shards, target, "--overwrite", "--dialogue", "train/dia1").exit_code == 0
    assert reader.splits(target) == ["train"]


def test_parts_that_are_not_there_are_a_usage_error(make: Callable[..., Path], run: Run, tmp_path: Path) -> None:
    shards, target = make("one"), tmp_path / "part"
    for words in (("--split", "trein"), ("--modalities", "text"), ("--dialogue", "train/dia9")):
        assert run("select", shards, target, *words).exit_code == 2
    assert not target.exists()


def test_a_link_is_not_written_through(make: Callable[..., Path], run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert run("select", make("one"), tmp_path / "link").exit_code == 2


def test_a_condition_on_shards_without_an_audit_and_drop_without_a_condition_are_usage_errors(
    make: Callable[..., Path], run: Run, tmp_path: Path
) -> None:
    shards, target = make("one"), tmp_path / "part"
    result = run("select", shards, target, "--where", "asr_error < 0.5")
    assert result.exit_code == 2
    assert "merc-extract audit --dataset NAME" in result.output
    assert run("select", shards, target, "--drop").exit_code == 2
    assert run("select", shards, target, "--where", "__import__('os')", "--where-split", "train").exit_code == 2
    assert not target.exists()
