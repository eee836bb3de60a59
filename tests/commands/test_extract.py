import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from merc.commands.extract import Order, chosen_encoders, main
from merc.errors import BadSettings, ModelUnavailable
from merc.params import Params, packaged_file

ALL = "text,audio,visual"
PARAMS = str(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture
def params() -> Params:
    tree: dict[str, Any] = {
        "corpora": {"other": {"reader": "table"}, "odd": {"reader": "table"}},
        "presets": {
            "embedded": {"text": "ngrams", "audio": "acoustic", "visual": "gradients"},
            "base": {"text": "roberta", "audio": "wav2vec2", "visual": "vit"},
            "words": {"text": "minilm"},
        },
        "default_encoders": {"meld": "base", "demo-meld": "embedded", "odd": {"text": "ngrams"}},
    }
    return Params(tree)


@pytest.mark.parametrize(
    ("dataset", "modalities", "given", "preset", "expected"),
    [
        ("meld", ALL, (), None, {"text": "roberta", "audio": "wav2vec2", "visual": "vit"}),
        ("demo-meld", ALL, (), None, {"text": "ngrams", "audio": "acoustic", "visual": "gradients"}),
        ("meld", ALL, (), "embedded", {"text": "ngrams", "audio": "acoustic", "visual": "gradients"}),
        ("other", "audio, text", (), "base", {"text": "roberta", "audio": "wav2vec2"}),
        ("meld", ALL, ("audio=hubert",), "embedded", {"text": "ngrams", "audio": "hubert", "visual": "gradients"}),
        ("meld", "visual,text", ("text=minilm",), None, {"text": "minilm", "visual": "vit"}),
        ("other", "text", ("text=a=b",), None, {"text": "a=b"}),
        ("other", "text", (), "words", {"text": "minilm"}),
        ("other", "text,audio", ("audio=hubert",), "words", {"text": "minilm", "audio": "hubert"}),
    ],
)
def test_an_encoder_comes_from_its_option_else_the_preset_else_the_default(
    params: Params, dataset: str, modalities: str, given: tuple[str, ...], preset: str | None, expected: dict[str, str]
) -> None:
    chosen = chosen_encoders(params, dataset, modalities, given, preset)
    assert chosen == expected
    assert list(chosen) == [modality for modality in ("text", "audio", "visual") if modality in expected]


@pytest.mark.parametrize(
    ("dataset", "modalities", "given", "preset", "words"),
    [
        (
            "meld",
            ALL,
            (),
            "bas",
            "--preset: no preset 'bas' under presets in params.yaml; did you mean 'base'? valid: base, embedded, words",
        ),
        ("other", ALL, (), None, "default_encoders in params.yaml has no preset for other"),
        ("odd", ALL, (), None, "default_encoders.odd: no preset"),
        ("meld", ALL, (), "words", "presets.words names no audio encoder; give --encoder audio=NAME"),
        ("meld", "text,face", (), None, "no modality 'face'"),
        ("mled", ALL, (), None, "did you mean 'meld'?"),
        ("meld", "text", ("audio=hubert",), None, "expected MODALITY=NAME, with a modality from text"),
        ("meld", ALL, ("text=a", "text=b"), None, "text is given twice"),
        ("meld", ALL, ("text=",), None, "expected MODALITY=NAME"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(
    params: Params, dataset: str, modalities: str, given: tuple[str, ...], preset: str | None, words: str
) -> None:
    with pytest.raises(BadSettings) as caught:
        chosen_encoders(params, dataset, modalities, given, preset)
    assert words in str(caught.value)


def test_the_help_names_presets_levels_and_the_list_of_models() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    for part in ("--preset", "embedded (no download)", "--level", "models"):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "level"),
    [((), "utterance"), (("--level", "sequences"), "sequences"), (("--level", "utterance"), "utterance")],
)
def test_the_level_is_a_setting_of_the_extraction(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], level: str
) -> None:
    seen: list[Order] = []
    monkeypatch.setattr("merc.commands.extract.extract_all", lambda order, *_: seen.append(order) or [])
    result = CliRunner().invoke(main, ["--dataset", "demo-meld", "--params", PARAMS, *arguments])
    assert result.exit_code == 0, result.output
    assert [order.extraction.level for order in seen] == [level]


@pytest.mark.parametrize(
    ("arguments", "transcripts"), [((), True), (("--no-text",), False), (("--no-text", "--level", "sequences"), False)]
)
def test_transcripts_are_a_setting_of_the_shards(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], transcripts: bool
) -> None:
    seen: list[Order] = []
    monkeypatch.setattr("merc.commands.extract.extract_all", lambda order, *_: seen.append(order) or [])
    result = CliRunner().invoke(main, ["--dataset", "demo-meld", "--params", PARAMS, *arguments])
    assert result.exit_code == 0, result.output
    assert [order.shards.transcripts for order in seen] == [transcripts]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("extraction.leevel=frames", "unknown key extraction.leevel; did you mean 'level'?"),
        ("extractoin.level=sequences", "no block 'extractoin'; did you mean 'extraction'?"),
        ("encoders.text.minilm.max_tokens=9", "nothing in this command uses encoders.text.minilm.max_tokens"),
        (
            "encoders.text.ngrams.word_dims=0",
            "encoders.text.ngrams.word_dims: Input should be greater than or equal to 1",
        ),
        ("demo.seed=-1", "demo.seed: Input should be greater than or equal to 0"),
        ("run.clip_timeout_seconds=soon", "run.clip_timeout_seconds: Input should be a valid number"),
    ],
)
def test_a_setting_that_is_invalid_is_refused_before_anything_is_made(tmp_path: Path, given: str, words: str) -> None:
    folders = ["--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "features")]
    result = CliRunner().invoke(main, ["--dataset", "demo-meld", "--params", PARAMS, *folders, "--set", given])
    assert result.exit_code == 2
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_to_be_had_is_explained_with_two_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_network(*_: object) -> list[str]:
        raise ModelUnavailable("the model org/model is not available")

    monkeypatch.setattr("merc.commands.extract.extract_all", without_network)
    result = CliRunner().invoke(
        main, ["--dataset", "meld", "--params", PARAMS, "--modalities", "text,visual", "--encoder", "text=minilm"]
    )
    assert result.exit_code == 6
    assert (
        result.stderr.partition(" ERROR ")[2]
        == "the model org/model is not available\nTo download all models of this run:\n  merc-extract models"
        " --download text=minilm visual=vit_face media=yunet media=light_asd\nThe encoders of --preset embedded need"
        " no download.\n"
    )


@pytest.mark.parametrize("wait", [False, True])
def test_where_another_process_writes_the_second_ends_with_7_or_waits_and_finds_the_work_done(
    demonstration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: Any, wait: bool
) -> None:
    shutil.copytree(demonstration, tmp_path, dirs_exist_ok=True, symlinks=True)
    monkeypatch.chdir(tmp_path)
    process = hold(Path("features/demo-meld"))
    threading.Timer(1.0, process.kill).start()
    result = CliRunner().invoke(main, ["--dataset", "demo-meld", "--modalities", "text", *(["--wait"] if wait else [])])
    if wait:
        assert result.exit_code == 0, result.output
        assert f"process {process.pid} on " in result.stderr
        assert "text/ngrams: already done" in result.stderr
    else:
        assert result.exit_code == 7
        assert "--wait" in result.stderr
    assert CliRunner().invoke(main, ["--dataset", "demo-meld", "--modalities", "text", "--dry-run"]).exit_code == 0


def test_settings_that_are_a_named_pipe_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    result = CliRunner().invoke(main, ["--dataset", "demo-meld", "--params", str(tmp_path / "params.yaml")])
    assert result.exit_code == 2
    assert "a named pipe instead of a file" in result.stderr


def test_an_output_that_cannot_be_is_one_sentence(demonstration: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    given = ["--dataset", "demo-meld", "--modalities", "text", "--raw", str(demonstration / "raw"), "--params", PARAMS]
    result = CliRunner().invoke(main, [*given, "--out", str(tmp_path / "file" / "features")])
    assert result.exit_code == 1
    assert "cannot be written: " in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_sentence_and_the_same_command_continues(demonstration: Path, tmp_path: Path) -> None:
    """A file size limit simulates a full disk: at 20 kB the manifest fits, the features do not."""
    given = [
        "--dataset",
        "demo-meld",
        "--modalities",
        "text",
        "--raw",
        str(demonstration / "raw"),
        "--out",
        str(tmp_path),
        "--params",
        PARAMS,
    ]
    code = (
        "import resource, sys; from merc.commands.extract import main; resource.setrlimit(resource.RLIMIT_FSIZE,"
        " (20_000, 20_000)); main(sys.argv[1:])"
    )
    full = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, timeout=60, check=False)
    assert full.returncode == 1
    assert "cannot be written: " in full.stderr
    assert "Traceback" not in full.stderr
    assert CliRunner().invoke(main, given).exit_code == 0


def test_the_settings_file_can_be_written_and_is_read_back_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()  # the shell truncates it before the command starts
    printed = CliRunner().invoke(main, ["params"])
    assert printed.exit_code == 0, printed.output
    (tmp_path / "params.yaml").write_text(printed.stdout, encoding="utf-8")
    assert yaml.safe_load(printed.stdout) == yaml.safe_load(packaged_file().read_text(encoding="utf-8"))
    assert printed.stdout.startswith("# ")
    own = CliRunner().invoke(main, ["params", "--dataset", "demo-meld"])
    (tmp_path / "params.yaml").unlink()
    assert own.stdout == CliRunner().invoke(main, ["params", "--dataset", "demo-meld"]).stdout.replace(
        "the package's params.yaml", "params.yaml"
    )
    refused = CliRunner().invoke(main, ["params", "--set", "run.max_failed=2"])
    assert refused.exit_code == 2
    assert "without --dataset" in refused.stderr


def test_who_has_no_settings_file_is_told_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["--dataset", "meld", "--preset", "bse"]
    how = "the package's params.yaml (`merc-extract params > params.yaml` writes your own copy)"
    assert f"no preset 'bse' under presets in {how}; did you mean 'base'?" in CliRunner().invoke(main, command).stderr
    (tmp_path / "params.yaml").write_text("presets:\n  mine:\n    text: ngrams\n")
    assert "no preset 'bse' under presets in params.yaml; valid: mine" in CliRunner().invoke(main, command).stderr
