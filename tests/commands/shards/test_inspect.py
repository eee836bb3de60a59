import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_a_table_tells_what_is_inside(make: Callable[..., Path], run: Run) -> None:
    result = run("inspect", make("one"))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tiny: labels meld7, with transcripts, schema version 2, 4 files, ")
    squeezed = [" ".join(line.split()) for line in lines]
    for line in (
        "train test",
        "dialogues 3 1",
        "utterances 6 2",
        "joy 4 1",
        "with audio 83.3 % 50.0 %",
        "audio fake 3 3 - CC0 none",
        "silence, audio (absent) 1 1",
        "no nearest dialogues",
    ):
        assert line in squeezed
    assert max(map(len, lines)) <= 120


def test_json_is_one_object(make: Callable[..., Path], run: Run) -> None:
    found = json.loads(run("inspect", make("one"), "--json").stdout)
    assert found["corpora"] == {
        "tiny": {"train": {"dialogues": 3, "utterances": 6}, "test": {"dialogues": 1, "utterances": 2}}
    }


def test_merged_corpora_have_a_line_each(make: Callable[..., Path], run: Run, tmp_path: Path) -> None:
    assert (
        run("merge", make("one"), make("other", corpus="small"), "--prefix", "--out", tmp_path / "whole").exit_code == 0
    )
    squeezed = [" ".join(line.split()) for line in run("inspect", tmp_path / "whole").stdout.splitlines()]
    assert squeezed[squeezed.index("dialogues 6 2") :][:3] == ["dialogues 6 2", "tiny 3 1", "small 3 1"]
    assert squeezed[-1] == "made from shards of tiny, small"


def test_a_folder_without_shards_gives_exit_code_4(run: Run, tmp_path: Path) -> None:
    assert run("inspect", tmp_path).exit_code == 4
