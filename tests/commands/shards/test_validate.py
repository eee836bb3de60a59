import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merc import files

Run = Callable[..., Any]
TRAIN = "dialogues/train-00000-of-00001.parquet"


@pytest.fixture
def shards(make: Callable[..., Path]) -> Path:
    return make("one")


def test_sound_shards_give_exit_code_0(shards: Path, run: Run) -> None:
    result = run("validate", shards)
    assert (result.exit_code, result.stdout) == (0, f"{shards}: 4 dialogues, 8 utterances, 4 files, nothing wrong\n")


def test_what_is_wrong_is_reported_line_by_line_with_exit_code_1(shards: Path, run: Run) -> None:
    info = files.read_json(shards / "meta" / "info.json")
    info["counts"]["train"]["dialogues"] = 4
    files.write_json(shards / "meta" / "info.json", info)
    result = run("validate", shards)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "info: meta/info.json: counts.train.dialogues: 4 instead of 3" in lines
    assert "manifest: meta/info.json: another sha256: its content has changed" in lines
    assert "       1  info: meta/info.json contradicts the content" in lines
    assert lines[-1].endswith("4 dialogues, 8 utterances, 4 files, 2 problems")
    problems = [json.loads(line) for line in run("validate", shards, "--json").stdout.splitlines()]
    assert [problem["kind"] for problem in problems] == ["info", "manifest"]


def test_a_truncated_file_gives_exit_code_4(shards: Path, run: Run) -> None:
    (shards / TRAIN).write_bytes((shards / TRAIN).read_bytes()[:300])
    result = run("validate", shards)
    assert result.exit_code == 4
    assert f"unreadable: {TRAIN}: not a Parquet file, or a damaged one" in result.stdout


def test_another_schema_version_gives_exit_code_4(shards: Path, run: Run) -> None:
    info = files.read_json(shards / "meta" / "info.json")
    files.write_json(shards / "meta" / "info.json", {**info, "schema_version": "0"})
    assert run("validate", shards).exit_code == 4


def test_the_help_names_the_exit_codes(run: Run) -> None:
    assert "Exit codes" in run("validate", "--help").stdout
