"""An audit of finished media: every column, its thresholds, resumption, and what is reported when something is
missing.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from merc import files, parquet
from merc.audit import listening
from merc.audit.config import Config
from merc.audit.stage import make_audit, transcriber_of
from merc.audit.transcription import Transcriber
from merc.encoders.engine.checkpoint import Checkpoint
from merc.errors import BadSettings, BadTable, RawDataMissing, SettingsDiffer
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.records import audit as audits
from merc.records import failures, features, manifest
from merc.records.inputs import input_hashes

from .conftest import Corpus, noise, voice

RUN = RunOptions(workers=1, device="cpu")
OF_SPEAKER = (
    pa.field("speaking_logit", pa.float32()),
    pa.field("speaking_share", pa.float32()),
    pa.field("off_screen", pa.bool_()),
)


def _asr(folder: Path, **settings: Any) -> Transcriber:
    return Transcriber(Config(**settings), Checkpoint(str(folder)))


def _rows(layout: Layout) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = audits.read(layout, manifest.read(layout.manifest)).table.to_pylist()
    return rows


def _page(layout: Layout) -> str:
    return (layout.audit / audits.PAGE).read_text(encoding="utf-8")


def test_audio_gives_speech_its_rate_and_who_has_the_same(corpus: Corpus) -> None:
    said = voice(1.5)
    layout = corpus(
        [("Sixteen letters it has", said), ("Hm", voice(1.2, seed=3)), ("...", said[2000:])],
        [("Noise", noise(1)), ("Quiet", "silence"), ("Gone", "media_missing")],
    )
    make_audit(Config(), layout, RUN)
    rows = _rows(layout)
    assert rows[0]["speech_share"] > 0.8
    assert rows[0]["speech_rate"] == pytest.approx(19 / rows[0]["speech_seconds"], rel=1e-4)
    assert [row["same_sound_as"] for row in rows] == ["train/dia0_utt2", "", "train/dia0_utt0", "", "", None]
    assert [row["speech_seconds"] for row in rows[3:]] == [0.0, 0.0, None]
    assert [row["speech_rate"] for row in rows[2:]] == [None] * 4
    assert [row["doubts"] for row in rows] == [
        ["same_sound_as"], ["speech_rate"], ["same_sound_as"], ["speech_share", "speech_seconds"], ["speech_share",
        "speech_seconds"], []
    ]  # fmt: skip
    assert {row["asr_text"] for row in rows} == {None}
    assert "No speech recognition" in _page(layout)


def test_what_a_whisper_hears_is_compared_with_the_text(corpus: Corpus, whisper: Path) -> None:
    layout = corpus(
        [
            ("Hello dog", voice(0.8)),
            ("…", voice(0.7, seed=4)),
            ("", voice(0.6, seed=5)),
            ("Hello", "silence"),
            ("Hello", "media_missing"),
        ]
    )
    make_audit(Config(), layout, RUN, _asr(whisper, language="en"))
    rows = _rows(layout)
    assert rows[0]["asr_text"]
    assert rows[0]["asr_error"] > 0
    assert [(row["asr_error"], row["asr_note"]) for row in rows[1:]] == [
        (None, "the text has no letter or digit"), (None, "the text has no letter or digit"), (1.0,
         "no words were recognised"), (None, None)
    ]  # fmt: skip
    assert [row["asr_text"] for row in rows[3:]] == ["", None]
    assert files.read_json(layout.heard("transcripts") / "record.json")["language"] == "en"
    assert "Speech was recognised by the Whisper of sha256 " in _page(layout)


def test_a_model_that_returns_nothing_gives_an_error_of_one_and_says_so(corpus: Corpus, mute_whisper: Path) -> None:
    layout = corpus([("Hello dog", voice(0.8)), ("The child", voice(0.7, seed=4))])
    make_audit(Config(), layout, RUN, _asr(mute_whisper, language="en"))
    assert [(row["asr_error"], row["asr_note"]) for row in _rows(layout)] == [(1.0, "no words were recognised")] * 2
    assert "understands almost nothing" in _page(layout)


def test_columns_of_the_media_that_older_ones_lack_are_null(corpus: Corpus) -> None:
    said = [("Hello there", voice(1)), ("Hello again", voice(1, seed=2))]
    missing = dict.fromkeys(("speaking", "speaking_share", "off_screen"))
    make_audit(Config(), layout := corpus(said, without=[field.name for field in OF_SPEAKER]), RUN)
    assert [{name: row[name] for name in missing} for row in _rows(layout)] == [missing] * 2
    media = {
        0: {"speaking_logit": -1.5, "speaking_share": 0.1, "off_screen": True},
        1: {"speaking_logit": 2.0, "speaking_share": 0.9, "off_screen": False},
    }
    layout = corpus(said, columns=OF_SPEAKER, media=media, version="2")
    make_audit(Config(), layout, RUN)
    rows = _rows(layout)
    assert [(row["speaking"], row["off_screen"]) for row in rows] == [(-1.5, True), (2.0, False)]
    assert rows[0]["doubts"] == ["speaking", "speaking_share", "off_screen"]
    quality = audits.read(layout, manifest.read(layout.manifest)).quality()
    assert quality["off_screen"].to_pylist() == [1.0, 0.0]
    assert quality["same_sound"].to_pylist() == [0.0, 0.0]
    assert all(one.type == pa.float32() for one in quality.schema)


def test_faces_and_cuts_come_from_the_media(corpus: Corpus) -> None:
    layout = corpus(
        [("Hello there", voice(1)), ("Hello you", voice(1, seed=2)), ("And me", "media_missing")],
        media={
            0: {"face_coverage": 0.25},
            2: {"frames_seen": 0, "face_coverage": 0.0, "faces": [], "face_seconds": [], "face_scores": []},
        },
        reasons={1: ["truncated", "clipped", "cut_to_annotation"], 2: ["truncated"]},
    )
    make_audit(Config(), layout, RUN)
    rows = _rows(layout)
    assert [row["face_coverage"] for row in rows] == [0.25, 1.0, None]
    assert [row["cut_or_short"] for row in rows] == [False, True, None]
    assert [row["cut_reasons"] for row in rows] == ["", "truncated,cut_to_annotation", None]
    assert [row["doubts"] for row in rows] == [["face_coverage"], ["cut_or_short"], []]
    assert '<span class="tag">longer than the maximum</span> <span class="tag">longer than its annotation' in _page(
        layout
    )


def _write_faces(layout: Layout, vectors: np.ndarray, **inputs: Any) -> None:
    table = manifest.read(layout.manifest)
    fingerprint = Fingerprint({"encoders": {}}, input_hashes(layout.media, table, "visual") | inputs)
    job = Job("visual/sface", layout.features("visual", "sface"), layout.scratch, fingerprint, overwrite=True)
    job.start()
    count = table.num_rows
    columns = [table["utterance_id"], features.vectors(vectors), pa.array([True] * count), pa.array(["ok"] * count)]
    parquet.write(job.part(0), pa.table(columns, schema=features.schema(vectors.shape[1])))
    parquet.write(job.folder / features.FAILURES, failures.table([]))
    job.finish({"modality": "visual", "encoder": "sface", "dim": vectors.shape[1], "provenance": {}})


def test_a_face_unlike_the_same_names_others_is_found_where_features_tell_faces_apart(corpus: Corpus) -> None:
    layout = corpus([(f"Line {turn}", voice(0.5, seed=turn)) for turn in range(6)])
    _write_faces(
        layout, np.array([[1, 0], [0, 1], [1, 0.1], [0, 1], [0, 1], [0.1, 1]], dtype=np.float32)
    )  # the third face of A is B's
    make_audit(Config(), layout, RUN)
    assert [row["utterance_id"] for row in _rows(layout) if "face_unlike" in row["doubts"]] == ["train/dia0_utt4"]


def test_features_of_other_media_are_not_used_and_that_is_reported(corpus: Corpus) -> None:
    layout = corpus([("Hello", voice(0.5)), ("Hello", voice(0.5, seed=1)), ("Hello", voice(0.5, seed=2))])
    _write_faces(layout, np.ones((3, 2), dtype=np.float32), media="of another time")
    make_audit(Config(), layout, RUN)
    assert {row["face_unlike"] for row in _rows(layout)} == {None}
    assert "Faces were not compared" in _page(layout)


def test_text_of_the_corpus_is_escaped_and_what_would_act_is_shown(corpus: Corpus, whisper: Path) -> None:
    layout = corpus([('<script>alert(1)</script> \x1b[2J\u202e & "so"', noise(0.8))])
    make_audit(Config(), layout, RUN, _asr(whisper, language="en"))
    page = _page(layout)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert 'src="data:image/jpeg;base64,' in page


def test_a_second_run_does_nothing_and_one_from_scratch_gives_the_same_bytes(
    corpus: Corpus, whisper: Path, folder_digest: Callable[[Path], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = corpus([("Hello dog", voice(0.8)), ("The child", voice(0.7, seed=4))], [("Add two", voice(0.5, seed=6))])
    make_audit(Config(), layout, RUN, _asr(whisper))
    before = folder_digest(layout.folder)
    monkeypatch.setattr(Transcriber, "load", lambda *_: pytest.fail("was loaded again"))
    make_audit(Config(), layout, RUN, _asr(whisper))
    assert folder_digest(layout.folder) == before


def test_a_killed_run_resumes_with_the_parts_that_were_done_to_the_same_bytes(
    corpus: Corpus,
    whisper: Path,
    tmp_path: Path,
    folder_digest: Callable[[Path], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "_UTTERANCES_PER_PART", 1)
    layout = corpus([("Hello dog", voice(0.8))], [("The child", voice(0.7, seed=4))], [("Add two", voice(0.5, seed=6))])
    whole = Layout(layout.raw, tmp_path / "whole", layout.dataset)
    shutil.copytree(layout.folder, whole.folder)
    make_audit(Config(), whole, RUN, _asr(whisper))
    transcribe, asked = Transcriber.transcribe, []

    def dies(self: Transcriber, clips: Any, language: str) -> list[str]:
        asked.append(len(clips))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return transcribe(self, clips, language)

    monkeypatch.setattr(Transcriber, "transcribe", dies)
    with pytest.raises(KeyboardInterrupt):
        make_audit(Config(), layout, RUN, _asr(whisper))
    make_audit(Config(), layout, RUN, _asr(whisper))
    assert len(asked) == 4  # two parts were done, the third begun twice
    assert {name: digest for name, digest in folder_digest(layout.folder).items() if not name.startswith(".")} == {
        name: digest for name, digest in folder_digest(whole.folder).items() if not name.startswith(".")
    }


def test_other_thresholds_need_nothing_listened_to_again_and_are_reported(
    corpus: Corpus, whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = corpus([("Hello dog", voice(0.8))])
    make_audit(Config(), layout, RUN, _asr(whisper))
    monkeypatch.setattr(Transcriber, "load", lambda *_: pytest.fail("was loaded again"))
    with pytest.raises(SettingsDiffer, match=r"audit\.asr_error_max: 0\.5 there, 9\.0 wanted"):
        make_audit(Config(asr_error_max=9.0), layout, RUN, _asr(whisper))
    make_audit(Config(asr_error_max=9.0), layout, RunOptions(workers=1, overwrite=True), _asr(whisper))
    assert files.read_json(layout.audit / "record.json")["settings"]["audit"]["asr_error_max"] == 9.0


def test_new_media_make_the_audit_stale_and_it_is_made_again(corpus: Corpus) -> None:
    make_audit(Config(), layout := corpus([("Hello dog", voice(0.8))]), RUN)
    layout = corpus([("Hello dog", noise(0.8))], version="2")
    with pytest.raises(
        BadTable,
        match=(
            r"from other data than the current ones \(audio, visual changed\); make it again:\n  merc-extract audit"
            r" --dataset tiny"
        ),
    ):
        audits.read(layout, manifest.read(layout.manifest))
    make_audit(Config(), layout, RUN)
    assert _rows(layout)[0]["speech_seconds"] == 0


def test_a_changed_text_makes_the_audit_stale(corpus: Corpus) -> None:
    make_audit(Config(), layout := corpus([("Hello dog", voice(0.8))]), RUN)
    layout = corpus([("Hello cat", voice(0.8))])
    with pytest.raises(BadTable, match=r"\(text changed\)"):
        audits.read(layout, manifest.read(layout.manifest))


def test_media_without_audio_give_the_rest(corpus: Corpus) -> None:
    make_audit(Config(), layout := corpus([("Hello dog", "not_decoded")], streams=("visual",)), RUN)
    (row,) = _rows(layout)
    assert (row["speech_share"], row["same_sound_as"], row["face_coverage"]) == (None, None, 1.0)
    assert "No audio was decoded" in _page(layout)


def test_without_manifest_or_media_the_command_that_makes_them_is_named(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(RawDataMissing, match="merc-extract --dataset tiny"):
        make_audit(Config(), Layout(tmp_path, tmp_path / "none", "tiny"), RUN)
    layout = corpus([("Hello", voice(0.5))])
    (layout.media / "record.json").unlink()
    with pytest.raises(BadTable, match="no decoded media to audit; merc-extract --dataset tiny decodes them"):
        make_audit(Config(), layout, RUN)


def test_a_name_for_the_recogniser_is_a_folder_an_encoder_or_a_name_on_the_hub(whisper: Path) -> None:
    params = Params({})
    assert transcriber_of(params, Config(), offline=True) is None
    of_folder, of_encoder, of_hub = (
        transcriber_of(params, Config(asr=name, asr_revision="a" * 40), offline=True)
        for name in (str(whisper), "whisper_base", "openai/whisper-tiny")
    )
    assert of_folder is not None
    assert of_encoder is not None
    assert of_hub is not None
    assert of_folder.checkpoint.is_folder
    assert (of_encoder.checkpoint.repo, of_encoder.checkpoint.revision[:4]) == ("openai/whisper-base", "e379")
    assert (of_hub.checkpoint.repo, of_hub.checkpoint.revision) == ("openai/whisper-tiny", "a" * 40)
    with pytest.raises(
        BadSettings, match="no folder, no encoder and no name on the hub: 'whisper_bse'; did you mean 'whisper_base'"
    ):
        transcriber_of(params, Config(asr="whisper_bse"), offline=True)
    with pytest.raises(BadSettings, match="'acoustic' has no checkpoint that can transcribe"):
        transcriber_of(params, Config(asr="acoustic"), offline=True)


def test_a_damaged_audit_is_reported(corpus: Corpus) -> None:
    make_audit(Config(), layout := corpus([("Hello dog", voice(0.8))]), RUN)
    table = manifest.read(layout.manifest)
    found = parquet.read(layout.audit / audits.TABLE)
    parquet.write(layout.audit / audits.TABLE, found.drop_columns(["speaking"]))
    with pytest.raises(BadTable, match="not an audit of this version"):
        audits.read(layout, table)
    parquet.write(layout.audit / audits.TABLE, found.slice(0, 0))
    with pytest.raises(BadTable, match="has other utterances than the manifest"):
        audits.read(layout, table)
    (layout.audit / audits.TABLE).write_bytes(b"PAR1")
    with pytest.raises(BadTable, match="not a Parquet file"):
        audits.read(layout, table)
