"""A small demonstration corpus through all stages, with the commands as a user runs them; killed, resumed, refused."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from merc.commands.extract import main
from merc.shards.format import reader

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


@dataclass
class World:
    """A folder with a small corpus and its settings; ``features`` comes from one undisturbed run."""

    folder: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(BIN / arguments[0]), *arguments[1:]]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, capture_output=True, text=True, timeout=240, check=False
        )

    def extract(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("merc-extract", "--dataset", "demo-meld", *arguments)

    def here(self, *arguments: str) -> Result:
        """The same as ``extract``, but in this process, which has already imported everything."""
        with contextlib.chdir(self.folder):
            return CliRunner().invoke(main, ["--dataset", "demo-meld", *arguments], catch_exceptions=False)

    def kill_when(self, condition: Callable[[], bool], *arguments: str) -> None:
        """Starts merc-extract and kills it and its workers with SIGKILL as soon as the condition holds."""
        process = subprocess.Popen(
            self.command("merc-extract", "--dataset", "demo-meld", *arguments),
            cwd=self.folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while not condition():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline, "nothing to kill it at came up"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".scratch" not in path.parts
    }


@pytest.fixture(scope="module")
def world(demonstration: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(demonstration / "raw", folder / "raw", copy_function=os.link)
    settings = yaml.safe_load((demonstration / "params.yaml").read_text())
    settings["media"] |= {"utterances_per_part": 8, "frames_per_clip": 2}
    settings["extraction"] = {"utterances_per_part": 8}
    settings["recipes"] = {"baseline": {"epochs": 3, "seeds": [0, 1]}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    made = World(folder)
    first = made.here("--max-failed", "20%", "--workers", "1")
    assert first.exit_code == 0, first.stderr
    return made


def test_one_command_goes_from_a_raw_corpus_to_shards_and_trajectories(world: World) -> None:
    shards = world.folder / "features" / "demo-meld" / "shards"
    assert sorted(path.name for path in shards.iterdir()) == [
        "README.md",
        "croissant.json",
        "dialogues",
        "failures",
        "meta",
        "trajectories",
    ]
    tables = [reader.read_split(shards, split) for split in ("train", "dev", "test")]
    assert [table.num_rows for table in tables] == [3, 1, 2]
    info = reader.info(shards)
    assert info["dims"] == {"text": 512, "audio": 179, "visual": 648}
    for table in tables:
        for modality in ("text", "audio", "visual"):
            values, _ = reader.vectors_of(table[modality])
            present = np.concatenate([np.array(one) for one in table[f"{modality}_present"].to_pylist()])
            assert values.shape == (len(present), info["dims"][modality])
            assert np.isfinite(values).all()
            assert ((values != 0).any(axis=1) == present).all()


def test_every_broken_clip_of_the_corpus_has_a_row_that_says_why(world: World) -> None:
    folder = world.folder / "features" / "demo-meld" / "shards" / "failures"
    reasons = {reason for path in folder.glob("*.parquet") for reason in pq.read_table(path)["reason"].to_pylist()}
    assert {"media_missing", "media_undecodable", "no_face", "padded"} <= reasons


def test_the_same_command_again_finds_everything_done(world: World) -> None:
    before = _bytes(world.folder / "features")
    times = {path: path.stat().st_mtime_ns for path in (world.folder / "features").rglob("part-*.parquet")}
    again = world.extract("--max-failed", "20%")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already done") >= 4
    assert _bytes(world.folder / "features") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_a_run_killed_while_decoding_and_while_encoding_ends_with_the_same_bytes(world: World) -> None:
    scratch = world.folder / "killed" / "demo-meld" / ".scratch"
    arguments = ("--out", "killed", "--max-failed", "20%")
    world.kill_when(lambda: any(scratch.glob("media/*.done/part-*.json")), *arguments, "--workers", "2")
    assert not (scratch.parent / "media").exists()
    world.kill_when(lambda: any(scratch.glob("audio-acoustic/*.done/part-*.json")), *arguments, "--workers", "1")
    assert not (scratch.parent / "audio" / "acoustic").exists()
    last = world.extract(*arguments, "--workers", "1")
    assert last.returncode == 0, last.stderr
    assert "parts were already done" in last.stderr
    assert _bytes(world.folder / "killed") == _bytes(world.folder / "features")


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("media.frames_per_clip=4", "media.frames_per_clip: 2 there, 4 wanted"),
        ("encoders.text.ngrams.word_dims=64", "encoders.text.ngrams.word_dims"),
        ("corpora.demo-meld.unlabelled=drop", "corpora.demo-meld.unlabelled: keep there, drop wanted"),
        ("shards.row_group_dialogues=7", "shards.row_group_dialogues"),
        ("trajectories.neighbours=2", "trajectories.neighbours"),
    ],
)
def test_a_changed_setting_is_refused_by_name(world: World, setting: str, key: str) -> None:
    before = _bytes(world.folder / "features")
    refused = world.here("--set", setting, "--max-failed", "20%")
    assert refused.exit_code == 5
    assert key in refused.stderr
    assert _bytes(world.folder / "features") == before


@pytest.mark.slow
def test_a_changed_setting_of_an_interrupted_run_is_refused_too_and_overwrite_replaces_it(world: World) -> None:
    scratch = world.folder / "half" / "demo-meld" / ".scratch"
    arguments = ("--out", "half", "--max-failed", "20%", "--modalities", "visual", "--workers", "1")
    world.kill_when(lambda: any(scratch.glob("media/*.done/part-*.json")), *arguments)
    refused = world.extract(*arguments, "--set", "media.max_clip_seconds=0.5")
    assert (refused.returncode, "media.max_clip_seconds" in refused.stderr) == (5, True)
    done = world.extract(*arguments, "--set", "media.max_clip_seconds=0.5", "--overwrite")
    assert done.returncode == 0, done.stderr
    failures = pq.read_table(world.folder / "half" / "demo-meld" / "media" / "failures.parquet").to_pylist()
    assert any(row["reason"] == "truncated" for row in failures)


@pytest.mark.usefixtures("without_workers")
def test_too_many_broken_clips_end_with_3_and_a_higher_limit_continues(world: World) -> None:
    arguments = ("--out", "strict", "--modalities", "visual", "--workers", "1")
    refused = world.here(*arguments, "--max-failed", "0")
    assert refused.exit_code == 3
    assert "the media of 1 of 54 utterances are missing" in refused.stderr
    arguments = (*arguments, "--split", "train", "--limit", "2")  # where nothing is missing
    refused = world.here(*arguments, "--max-failed", "0")
    assert refused.exit_code == 3
    assert "media_undecodable 1" in refused.stderr
    done = world.here(*arguments, "--max-failed", "50%")
    assert done.exit_code == 0, done.stderr
    assert "media: " in done.stderr


def test_missing_raw_data_end_with_4_and_the_expected_tree(world: World) -> None:
    missing = world.here("--dataset", "meld", "--out", "none")  # the last --dataset applies
    assert missing.exit_code == 4
    for words in ("train_sent_emo.csv", "Expected in", "Found", "https://github.com/declare-lab/MELD"):
        assert words in missing.stderr
    missing = world.here("--dataset", "iemocap", "--out", "none")
    assert missing.exit_code == 4
    assert "https://sail.usc.edu/iemocap/" in missing.stderr
    assert not (world.folder / "none").exists()


def test_wrong_usage_ends_with_2_and_names_the_nearest(world: World) -> None:
    for arguments, words in (
        (("--encoder", "text=ngram"), "did you mean 'ngrams'?"),
        (("--encoder", "txt=ngrams"), "expected MODALITY=NAME"),
        (("--modalities", "text,face"), "no modality 'face'"),
        (("--set", "media.frames_per_clp=3"), "did you mean 'frames_per_clip'?"),
        (("--max-failed", "many"), "a number or a share"),
    ):
        wrong = world.here("--out", "none", *arguments)
        assert (wrong.exit_code, words in wrong.stderr) == (2, True), (arguments, wrong.stderr)


def test_a_model_that_is_not_here_ends_with_6_and_says_how_to_get_it(world: World) -> None:
    absent = world.here("--out", "model", "--modalities", "text", "--encoder", "text=minilm", "--offline")
    assert absent.exit_code == 6
    assert "hf download sentence-transformers/all-MiniLM-L6-v2 --revision" in absent.stderr
    assert "merc-extract models --download text=minilm" in absent.stderr
    assert "--preset embedded need no download" in absent.stderr


def test_a_dry_run_says_what_is_there_and_imports_no_torch(world: World) -> None:
    before = _bytes(world.folder)
    code = (
        "import sys; from merc.commands.extract import main; main(sys.argv[1:], standalone_mode=False); print('torch'"
        " in sys.modules, 'cv2' in sys.modules)"
    )
    arguments = ["--dataset", "demo-meld", "--dry-run"]
    dry = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=world.folder, capture_output=True, text=True, check=True
    )
    lines = dry.stdout.splitlines()
    assert lines[-1] == "False False"
    assert [line.split()[0] for line in lines if line.endswith("is there")] == [
        "manifest",
        "media",
        "text/ngrams",
        "audio/acoustic",
        "visual/gradients",
        "shards",
        "trajectories",
    ]
    fresh = world.here("--dry-run", "--out", "none").stdout
    assert fresh.count("would run") == 7
    assert _bytes(world.folder) == before


def test_the_log_is_one_json_object_a_line_on_stderr(world: World) -> None:
    run = world.here("--max-failed", "20%", "--log-format", "json")
    assert run.exit_code == 0
    entries = [json.loads(line) for line in run.stderr.splitlines()]
    assert {"level", "message", "stage"} <= entries[0].keys()
    assert "shards" in run.stdout.splitlines()[0]


def test_a_limit_and_a_split_take_their_part(world: World) -> None:
    run = world.here("--out", "part", "--modalities", "text", "--split", "train", "--limit", "2", "--workers", "1")
    assert run.exit_code == 0, run.stderr
    shards = world.folder / "part" / "demo-meld" / "shards"
    assert (reader.splits(shards), reader.read_split(shards, "train").num_rows) == (["train"], 2)
    assert "audio" not in reader.read_split(shards, "train").column_names


@pytest.mark.slow
def test_the_iemocap_layout_goes_all_the_way_too_then_training_and_the_report(world: World) -> None:
    run = world.run("merc-extract", "--dataset", "demo-iemocap", "--workers", "1")
    assert run.returncode == 0, run.stderr
    shards = world.folder / "features" / "demo-iemocap" / "shards"
    assert reader.splits(shards) == ["train", "dev", "test"]
    assert reader.read_split(shards, "test")["dialogue_id"].to_pylist()[0].startswith("test/Ses05")
    trained = world.run("merc-train", "--dataset", "demo-iemocap", "--recipe", "baseline")
    assert trained.returncode == 0, trained.stderr
    folder = world.folder / trained.stdout.strip()
    assert set(json.loads(folder.read_text())) >= {"dev", "test"}
    assert {"model.safetensors"} == {path.name for path in folder.parent.glob("models/seed-*/*.safetensors")}
    reported = world.run("merc-report")
    assert reported.returncode == 0, reported.stderr
    page = (world.folder / "reports" / "index.html").read_text()
    assert "demo-iemocap" in page
    assert "demo-meld" in page
    assert "report   reports/index.html" in reported.stdout


def test_help_names_every_exit_code_and_the_datasets(world: World) -> None:
    text = world.here("--help").stdout
    for words in ("demo-iemocap", "130", "--max-failed", "--dry-run", "raw data missing", "Examples"):
        assert words in text


def test_the_documented_readers_run_on_what_the_first_command_made(world: World) -> None:
    section = (ROOT / "docs" / "shards.md").read_text().split("## Reading the shards\n")[1].split("\n## ")[0]
    blocks = [block.split("```")[0] for block in section.split("```python\n")[1:]]
    code = "\n".join(
        block for block in blocks if "ray" not in block
    )  # Ray is slow to start; tests/shards/test_readers.py runs it
    offline = {**os.environ, "HF_HOME": str(world.folder / "hub"), "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=world.folder,
        env=offline,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert len(blocks) == 8
