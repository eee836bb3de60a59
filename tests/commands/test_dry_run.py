import csv
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from merc.commands.dry_run import _time
from merc.commands.extract import main
from merc.corpora.stage import build_manifest, choose
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params

PARAMS = str(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A table of 100 utterances of 36 s each, with an empty file for each clip."""
    root = tmp_path / "raw" / "own"
    (root / "media").mkdir(parents=True)
    with (root / "utterances.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["dialogue", "speaker", "text", "emotion", "split", "video", "start", "end"])
        for number in range(100):
            (root / "media" / f"{number}.mp4").touch()
            writer.writerow(["one", "Ann", "Oh.", "glad", "train", f"{number}.mp4", number, number + 36])
    return tmp_path


def _dry(corpus: Path, *arguments: str) -> Result:
    folders = ["--raw", str(corpus / "raw" / "own"), "--out", str(corpus / "features"), "--params", PARAMS]
    times = ["--set", "corpora.table.columns.start=start", "--set", "corpora.table.columns.end=end"]
    return CliRunner().invoke(main, ["--dataset", "table", "--dry-run", "--workers", "2", *folders, *times, *arguments])


def test_a_dry_run_estimates_the_time_of_what_would_run_and_writes_nothing(corpus: Path) -> None:
    lines = _dry(corpus, "--preset", "embedded").stdout.splitlines()
    assert lines[2].startswith(
        "media             would run: audio and visual of 100 utterances, about 5 minutes and 6 MB"
    )  # 3600 s x 0.171 / 2
    assert lines[-1].startswith(
        "in all            about 6 minutes on 2 processes, a rough estimate by clips of 640x360"
    )
    assert not (corpus / "features").exists()


def test_a_dry_run_asks_no_hub_and_says_that_the_model_would_be_fetched(
    corpus: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **how: object) -> str:
        assert how.get("local_files_only"), "a hub was asked"
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    monkeypatch.setattr("merc.hub.silence", lambda: pytest.fail("a hub was asked"))
    words = ["--modalities", "text", "--encoder", "text=minilm"]
    assert "text/minilm       would run: 100 utterances\n" in _dry(corpus, *words).stdout
    folders = ["--raw", str(corpus / "raw" / "own"), "--out", str(corpus / "features"), "--params", PARAMS]
    assert "and               what text/minilm takes, which depends on the device" in _dry(corpus, *words).stdout
    made = CliRunner().invoke(
        main, ["--dataset", "table", *folders, "--modalities", "text", "--preset", "embedded", "--workers", "1"]
    )
    assert made.exit_code == 0, made.output
    args = ["--dataset", "table", *folders, "--dry-run", *words]
    assert (
        "text/minilm       would run: 100 utterances, its model is not on this machine and would be downloaded first\n"
        in CliRunner().invoke(main, args).stdout
    )
    assert CliRunner().invoke(main, [*args, "--offline"]).exit_code == 6


@pytest.mark.parametrize("modalities", ["text", "text,audio,visual"])
def test_a_dry_run_opens_no_connection(
    corpus: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch, modalities: str
) -> None:
    """By any library to any address, also once the manifest exists, and with media whose networks come from a hub."""
    tried: list[object] = []

    def connect(_socket: object, address: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setattr("socket.getaddrinfo", lambda *address, **_: tried.append(address))
    params, layout = (
        Params.load(Path(PARAMS), ("corpora.table.columns.start=start", "corpora.table.columns.end=end")),
        Layout(corpus / "raw", corpus, "table"),
    )
    monkeypatch.setattr(Layout, "corpus_root", corpus / "raw" / "own")
    build_manifest(choose(params, "table"), layout, RunOptions(), modalities=tuple(modalities.split(",")))
    folders = ["--raw", str(corpus / "raw"), "--out", str(corpus), "--params", PARAMS]
    times = ["--set", "corpora.table.columns.start=start", "--set", "corpora.table.columns.end=end"]
    done = CliRunner().invoke(
        main, ["--dataset", "table", "--dry-run", "--preset", "base", "--modalities", modalities, *folders, *times]
    )
    assert done.exit_code == 0, done.output
    assert "manifest          is there" in done.stdout
    assert "its model is not on this machine and would be downloaded first" in done.stdout
    assert tried == []


@pytest.mark.parametrize(
    "given",
    [
        ["--set", "media.utterances_per_part=-1"],
        ["--set", "shards.row_group_dialogues=0"],
        ["--set", "trajectories.neighbours=-1"],
        ["--set", "extraction.level=frames"],
        ["--set", "corpora.table.links=maybe"],
        ["--set", "run.max_failed=many"],
        ["--max-failed", "many"],
        ["--device", "gpu"],
        ["--device", "cuda:x"],
    ],
)
def test_a_dry_run_checks_all_settings_as_the_run_itself_does(corpus: Path, given: list[str]) -> None:
    result = _dry(corpus, "--preset", "embedded", *given)
    assert result.exit_code == 2
    assert "would run" not in result.stdout


@pytest.mark.parametrize(("seconds", "words"), [(5, "a minute"), (720, "12 minutes"), (12_240, "3.4 hours")])
def test_times_are_in_words(seconds: float, words: str) -> None:
    assert _time(seconds) == words
