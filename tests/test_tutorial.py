"""The tutorial runs as printed: its settings, its commands in order, and its code."""

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from merc.commands import evaluate, extract, report, shards, train

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "tutorial.md").read_text(encoding="utf-8")
COMMANDS: dict[str, click.Command] = {
    "merc-extract": extract.main,
    "merc-shards": shards.main,
    "merc-train": train.main,
    "merc-evaluate": evaluate.main,
    "merc-report": report.main,
}


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def _run(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name, *words = shlex.split(line, comments=True)
    if name == "python":
        monkeypatch.setattr(sys, "argv", words)
        runpy.run_path(words[0], run_name="__main__")
        return ""
    result = CliRunner().invoke(COMMANDS[name], words)
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return result.output


@pytest.mark.slow
def test_the_tutorial_goes_from_a_folder_of_clips_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "make_corpus.py").symlink_to(DOCS / "examples" / "tutorial" / "make_corpus.py")
    (tmp_path / "params.yaml").write_bytes((DOCS / "examples" / "tutorial" / "params.yaml").read_bytes())
    said = {line: _run(line, monkeypatch) for block in _blocks("sh") for line in block.replace("\\\n", "").splitlines()}
    assert len(said) == 11
    assert (
        (tmp_path / "own" / "utterances.csv").read_text(encoding="utf-8").startswith(_blocks("csv")[0].splitlines()[0])
    )
    for made in ("runs/cafe/small/metrics.json", "reports/index.html", "out.parquet", "look"):
        assert (tmp_path / made).exists(), made
    (code,) = _blocks("python")
    variables: dict[str, Any] = {}
    exec(compile(code, "docs/tutorial.md", "exec"), variables)  # noqa: S102
    assert variables["vectors"].shape[0] == 24
