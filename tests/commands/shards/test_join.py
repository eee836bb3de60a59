from collections.abc import Callable
from pathlib import Path
from typing import Any

from merc.shards.format import reader

Run = Callable[..., Any]


def test_modalities_of_two_shards_stand_side_by_side_and_are_valid(
    make: Callable[..., Path], run: Run, tmp_path: Path, caplog: Any
) -> None:
    one, other, target = make("one"), make("other", moved=1.0), tmp_path / "joined"
    result = run("join", one, other, "--modalities", "audio", "--out", target)
    assert (result.exit_code, result.stdout) == (0, f"{target}\n")
    assert reader.read_split(target, "test")["audio"].equals(reader.read_split(other, "test")["audio"])
    assert run("validate", target).exit_code == 0
    assert run("join", one, other, "--modalities", "audio", "--out", target).exit_code == 5
    assert run("join", one, other, "--modalities", "audio", "--out", target, "--overwrite").exit_code == 0


def test_what_cannot_be_joined_is_a_usage_error_or_has_exit_code_4(
    make: Callable[..., Path], run: Run, tmp_path: Path
) -> None:
    one, other, target = make("one"), make("other", corpus="small"), tmp_path / "joined"
    assert run("join", one, other, "--modalities", "audio", "--out", target).exit_code == 2
    assert run("join", one, one, "--modalities", "text", "--out", target).exit_code == 2
    assert run("join", one, tmp_path, "--out", target).exit_code == 4
    run("select", one, tmp_path / "part", "--split", "test")
    result = run("join", one, tmp_path / "part", "--modalities", "audio", "--out", target)
    assert result.exit_code == 4
    assert f"3 dialogues are only in {one}: train/dia0, train/dia1, train/dia2" in result.stderr
    assert not target.exists()
