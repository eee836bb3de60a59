"""Tab completion: through click's own protocol, in bash itself, and without loading slow modules."""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete, get_completion_class

from merc.commands.completion import _joined

_LIGHT = """
import json, sys
from click.shell_completion import ShellComplete
from importlib import import_module

for module, words in json.loads(sys.argv[1]):
    assert ShellComplete(import_module(f"merc.commands.{module}").main, {}, "", "").get_completions(words[:-1], words[-1]), words
print(json.dumps([name for name in ("torch", "transformers", "pandas", "cv2", "huggingface_hub") if name in sys.modules]))
"""  # noqa: E501


def _given(name: str, *words: str) -> list[str]:
    main: click.Command = import_module(f"merc.commands.{name}").main
    return [str(one.value) for one in ShellComplete(main, {}, "", "").get_completions(list(words[:-1]), words[-1])]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "words", "given"),
    [
        ("extract", ["--dataset", "demo"], ["demo-iemocap", "demo-meld"]),
        ("extract", ["inspect", "--dataset", "tab"], ["table"]),
        ("extract", ["--encoder", "text=mini"], ["text=minilm", "text=minilm_meld", "text=minilm_meld_context"]),
        ("extract", ["models", "text=minilm", "media="], ["media=yunet", "media=light_asd"]),
        ("extract", ["--preset", ""], ["base", "embedded", "large"]),
        ("extract", ["--modalities", "text,"], ["text,audio", "text,visual"]),
        (
            "train",
            ["--recipe", "baseline"],
            ["baseline", "baseline_audio", "baseline_iemocap", "baseline_text", "baseline_visual"],
        ),
        ("train", ["--recipe", "mmgcn+f"], ["mmgcn+faster", "mmgcn+focal"]),
        ("train", ["show", "mmgcn+focal@text-"], ["mmgcn+focal@text-audio", "mmgcn+focal@text-visual"]),
        ("train", ["sweep", "mmgcn", "--sweep", "idcl"], ["idcl_neighbours", "idcl_temperature"]),
        ("train", ["losses", "foc"], ["focal", "focal_contrastive"]),
        ("train", ["models", "mm"], ["mm_dfn", "mmgcn"]),
        ("adapt", ["--encoder", "hubert"], ["hubert_large"]),
        ("shards", ["neighbours", "--similarity", "p"], ["path", "path_speakers", "pooled"]),
        ("shards", ["neighbours", "--sim"], ["--similarity"]),
        ("shards", ["pu"], ["pull", "push"]),
    ],
)
def test_names_are_completed(name: str, words: list[str], given: list[str]) -> None:
    assert _given(name, *words) == given


def test_names_of_the_users_own_settings_are_completed_and_unreadable_settings_give_none(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        "corpora:\n  mine:\n    reader: table\nrecipes:\n  mine_too:\n    base: baseline\n"
    )
    assert _given("extract", "--dataset", "mi") == ["mine"]
    assert _given("train", "--recipe", "mine") == ["mine_too"]
    (tmp_path / "other.yaml").write_text("corpora:\n  theirs:\n    reader: table\n")
    assert _given("extract", "--params", "other.yaml", "--dataset", "th") == ["theirs"]
    (tmp_path / "params.yaml").write_text("corpora: [")
    assert _given("extract", "--dataset", "mi") == []


def test_a_command_that_reads_shards_completes_the_datasets_that_have_some(tmp_path: Path) -> None:
    assert "meld" in _given("train", "--dataset", "")
    (tmp_path / "features" / "demo-meld" / "shards" / "meta").mkdir(parents=True)
    (tmp_path / "features" / "demo-meld" / "shards" / "meta" / "info.json").write_text("{}")
    assert _given("train", "--dataset", "") == ["demo-meld"]


def test_completing_loads_neither_torch_nor_pandas() -> None:
    asked = [
        ["extract", ["--dataset", ""]],
        ["extract", ["--encoder", ""]],
        ["train", ["--recipe", ""]],
        ["train", ["--recipe", "mmgcn+"]],
        ["shards", ["neighbours", "--similarity", ""]],
    ]
    done = subprocess.run(
        [sys.executable, "-c", _LIGHT, json.dumps(asked)], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["text", "=", "mini"], ["text=mini"]),
        (["--encoder", "text", "="], ["--encoder", "text="]),
        (["mmgcn", "@", "text-"], ["mmgcn@text-"]),
        (["--dataset", "=", "me"], ["--dataset=me"]),
        (["a", "b"], ["a", "b"]),
        (["=", "b"], ["=b"]),
    ],
)
def test_words_that_bash_split_are_put_together(words: list[str], typed: list[str]) -> None:
    assert _joined(words) == typed


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_behind_the_equals_sign() -> None:
    command = Path(sys.executable).parent / "merc-extract"
    kind = get_completion_class("bash")
    assert kind is not None
    script = kind(import_module("merc.commands.extract").main, {}, "merc-extract", "_MERC_EXTRACT_COMPLETE").source()
    ask = (
        f"COMP_WORDS=(merc-extract --encoder text = minilm_m); COMP_CWORD=4; _merc_extract_completion {command}; echo"
        ' "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{ask}"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["minilm_meld", "minilm_meld_context"]
