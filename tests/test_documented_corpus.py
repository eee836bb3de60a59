"""The documentation's example of your own corpus works as described: its table is written literally, and its commands
are run.
"""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from merc.commands.extract import main
from merc.corpora.demo.clips import write_mp4
from merc.shards.format import reader

ROOT = Path(__file__).resolve().parents[1]


def _section(title: str) -> str:
    return (
        (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    )


def _block(section: str, language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.mark.slow
def test_the_corpus_of_ones_own_becomes_shards_by_each_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = _section("Your own corpus")
    monkeypatch.chdir(tmp_path)
    table = Path("own/utterances.csv")
    table.parent.mkdir()
    table.write_text(_block(section, "csv"), encoding="utf-8")
    tone = 0.3 * np.sin(np.arange(8000, dtype=np.float32) / 9)[None]
    for row in csv.DictReader(table.open(encoding="utf-8")):
        write_mp4(Path("own/media", row["video"]), [np.full((48, 64, 3), 90, np.uint8)] * 12, tone)
    for line in _block(section, "sh").replace("\\\n", "").splitlines():
        command = shlex.split(line, comments=True)
        assert command[:3] == ["merc-extract", "--dataset", "table"]
        result = CliRunner().invoke(main, [*command[1:], "--workers", "1", "--params", str(ROOT / "params.yaml")])
        assert result.exit_code == 0, result.output
    whole, words, drawn = (reader.info(Path(folder, "table", "shards")) for folder in ("features", "words", "drawn"))
    assert (whole["splits"], whole["classes"], whole["modalities"]) == (
        ["train", "dev", "test"],
        ["cross", "curious", "glad"],
        ["text", "audio", "visual"],
    )
    assert whole["counts"]["test"]["unlabelled"] == 1
    assert whole["counts"]["train"]["present"] == {"text": 2, "audio": 2, "visual": 0}  # grey frames show no face
    assert drawn["counts"]["train"]["dialogues"] == 1  # of three, dev and test get one each
    assert (words["modalities"], words["classes"], drawn["classes"]) == (
        ["text"],
        whole["classes"],
        ["glad", "cross", "curious"],
    )
