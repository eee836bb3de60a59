"""``merc-extract audit`` and ``--quality``: the command writes, resumes and refuses, with the documented exit codes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from merc import parquet
from merc.commands.extract import main
from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.registry import build
from merc.params import Params
from merc.records import audit as audits
from merc.records import manifest
from merc.records.feature_parts import open_features
from merc.records.features import FAILURES

from .conftest import Corpus, voice

Run = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def invoke(*words: Any) -> Result:
        given = [
            "audit",
            "--dataset",
            "tiny",
            "--out",
            tmp_path / "features",
            "--workers",
            1,
            "--device",
            "cpu",
            "--params",
            ROOT / "params.yaml",
            *words,
        ]
        return CliRunner().invoke(main, [str(word) for word in given])

    return invoke


def test_an_audit_is_written_and_its_page_named(corpus: Corpus, whisper: Path, run: Run) -> None:
    layout = corpus([("Hello dog", voice(0.8))])
    result = run("--asr", whisper, "--set", "audit.language=en")
    assert (result.exit_code, result.stdout) == (0, f"{layout.audit / audits.PAGE}\n")
    assert sorted(path.name for path in layout.audit.iterdir()) == ["audit.html", "audit.parquet", "record.json"]
    assert run("--asr", whisper, "--set", "audit.language=en").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--asr", "nothing_here"], 2),
        (["--asr", "a: b"], 2),
        (["--set", "audit.asr_error_mx=1"], 2),
        (["--set", "audit.language=German"], 2),
        (["--asr", "openai/whisper-base"], 2),  # without a revision
        (["--asr", "whisper_base", "--offline"], 6),
        (["--set", "audit.speech_share_min=0.5"], 5),
        (["--set", "audit.speech_share_min=0.5", "--overwrite"], 0),
    ],
)
def test_each_refusal_has_its_exit_code(corpus: Corpus, run: Run, hub_cache: Path, words: list[str], code: int) -> None:
    corpus([("Hello dog", voice(0.8))])
    assert run().exit_code == 0
    assert run(*words).exit_code == code


def test_a_folder_that_is_not_a_whisper_is_exit_code_2_and_names_what_it_is(
    corpus: Corpus, run: Run, tmp_path: Path
) -> None:
    corpus([("Hello dog", voice(0.8))])
    (tmp_path / "model").mkdir()
    assert run("--asr", tmp_path / "model").exit_code == 2


def test_without_media_it_is_exit_code_4(run: Run) -> None:
    assert run().exit_code == 4


def test_another_process_at_the_same_output_is_exit_code_7(corpus: Corpus, run: Run, hold: Any) -> None:
    layout = corpus([("Hello dog", voice(0.8))])
    hold(layout.folder)
    assert run().exit_code == 7


def test_quality_without_an_audit_ends_before_anything_is_decoded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [
        "--dataset",
        "demo-meld",
        "--raw",
        tmp_path / "raw",
        "--out",
        tmp_path / "out",
        "--quality",
        "--params",
        ROOT / "params.yaml",
    ]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 4
    assert "merc-extract audit --dataset demo-meld" in result.output
    assert not (tmp_path / "raw").exists()


def _heard(tmp_path: Path, *words: Any) -> Result:
    given = [
        "heard",
        "--dataset",
        "tiny",
        "--out",
        tmp_path / "features",
        "--workers",
        1,
        "--params",
        ROOT / "params.yaml",
        *words,
    ]
    return CliRunner().invoke(main, [str(word) for word in given])


def test_what_is_heard_is_encoded_as_the_texts_would_be(
    corpus: Corpus, whisper: Path, run: Run, tmp_path: Path
) -> None:
    layout = corpus(
        [("Written otherwise", voice(0.8)), ("Nothing is heard", "silence")],
        [("No sound", "media_missing"), ("Other", voice(0.7, seed=4))],
    )
    assert run("--asr", whisper, "--set", "audit.language=en").exit_code == 0
    result = _heard(tmp_path, "--encoder", "ngrams")
    assert (result.exit_code, result.stdout) == (0, f"{layout.heard_text('ngrams')}\n")
    table = manifest.read(layout.manifest)
    heard = audits.with_heard_text(layout, table)
    texts = heard["text"].to_pylist()
    assert (bool(texts[0]), texts[1:3], bool(texts[3])) == (True, ["", ""], True)
    found = open_features(layout, heard, "text", "ngrams", layout.heard_text("ngrams")).read(0, 4)
    encoder = build(Params({}), "text", "ngrams")
    encoder.load("cpu")
    alone = encoder.encode([UtteranceInput(utterance_id=str(row), text=texts[row], speaker="A") for row in (0, 3)])
    np.testing.assert_array_equal(found.values[[0, 3]], alone.embeddings)
    assert found.present.tolist() == [True, False, False, True]
    assert not layout.features("text", "ngrams").exists()
    rows = parquet.read(layout.heard_text("ngrams") / FAILURES).to_pylist()
    assert [(row["utterance_id"], row["reason"]) for row in rows] == [
        ("train/dia0_utt1", "no_text"),
        ("train/dia1_utt0", "no_text"),
    ]


def test_where_nothing_was_heard_there_is_nothing_to_encode(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    corpus([("Hello dog", voice(0.8))])
    assert _heard(tmp_path, "--encoder", "ngrams").exit_code == 4  # no audit
    assert run().exit_code == 0
    assert _heard(tmp_path, "--encoder", "ngrams").exit_code == 4  # an audit without speech recognition
    assert _heard(tmp_path).exit_code == 4  # no shards that name an encoder
    assert _heard(tmp_path, "--encoder", "ngram").exit_code == 2
