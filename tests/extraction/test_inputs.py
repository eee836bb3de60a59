"""What the encoders receive from media parts, and invalid bytes."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from merc import parquet
from merc.errors import BadTable
from merc.extraction.inputs import MediaSource, TextSource


def _flac(waveform: np.ndarray, rate_hz: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _jpeg(pixels: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.zeros((pixels, pixels, 3), dtype=np.uint8))[1])


def _source(folder: Path, modality: str, **columns: Any) -> MediaSource:
    """A part of one utterance with these columns, and one that no encoder reads."""
    path = folder / "part-00000.parquet"
    row = {"utterance_id": "train/u0", f"{modality}_status": "ok", "frames_seen": 8, **columns}
    pq.write_table(pa.table({name: [value] for name, value in row.items()}), path)
    return MediaSource(((path,),), (1,), modality)


def test_a_waveform_is_exact_to_sixteen_bits(tmp_path: Path) -> None:
    waveform = (np.arange(-100, 100) / 32768).astype(np.float32)
    [utterance] = _source(tmp_path, "audio", audio=_flac(waveform)).read(0, 0).utterances
    assert utterance.waveform is not None
    assert utterance.waveform.dtype == np.float32
    np.testing.assert_array_equal(utterance.waveform, waveform)
    assert utterance.faces is None


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (b"RIFF nonsense", "train/u0: not a FLAC file"),
        (_flac(np.zeros(10), 8000), r"audio of 8000 Hz and shape \(10,\) instead of 16000 Hz mono"),
        (_flac(np.zeros((10, 2))), r"audio of 16000 Hz and shape \(10, 2\) instead of 16000 Hz mono"),
    ],
)
def test_bytes_that_are_not_audio_are_refused_with_their_utterance(tmp_path: Path, audio: bytes, message: str) -> None:
    with pytest.raises(BadTable, match=message):
        _source(tmp_path, "audio", audio=audio).read(0, 0)


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([_jpeg(8), b"no picture"], "train/u0: a face of 10 bytes is not a JPEG"),
        ([b""], "train/u0: a face of 0 bytes is not a JPEG"),
        ([_jpeg(8), _jpeg(16)], "train/u0: all input arrays must have the same shape"),
        ([], "train/u0: status ok, but no face"),
    ],
)
def test_bytes_that_are_not_faces_are_refused_with_their_utterance(
    tmp_path: Path, faces: list[bytes], message: str
) -> None:
    source = _source(tmp_path, "visual", faces=faces, face_seconds=[0.0] * len(faces), face_scores=[1.0] * len(faces))
    with pytest.raises(BadTable, match=message):
        source.read(0, 0)


def test_each_modality_reads_its_own_columns_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = parquet.read
    asked: list[set[str]] = []

    def recorded(path: Path, columns: list[str]) -> pa.Table:
        asked.append(set(columns))
        return read(path, columns)

    monkeypatch.setattr(parquet, "read", recorded)
    content = {
        "audio": _flac(np.ones(10) / 2),
        "audio_status": "ok",
        "faces": [_jpeg(8)],
        "face_seconds": [0.0],
        "face_scores": [1.0],
    }
    for modality in ("audio", "visual"):
        _source(tmp_path, modality, **{"visual_status": "ok", **content}).read(0, 0)
    assert asked[0] & asked[1] == {"utterance_id"}  # so that encoding both reads audio and faces once each


def test_texts_are_read_from_the_row_groups_of_their_part_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"u{row}" for row in range(20)]
    columns = {
        "utterance_id": ids,
        "dialogue_id": [f"d{row // 4}" for row in range(20)],
        "speaker": ["Ann", "Bob"] * 10,
        "text": [f"said {one}" for one in ids],
    }
    parquet.write(tmp_path / "manifest.parquet", pa.table(columns), 6)
    monkeypatch.setattr(parquet, "read", lambda *_: pytest.fail("the whole manifest was read for one part"))
    parts = [
        TextSource(tmp_path / "manifest.parquet", ((0, 8), (8, 20))).read(index, history_turns=2) for index in (0, 1)
    ]
    assert [part.utterance_ids for part in parts] == [ids[:8], ids[8:]]
    assert parts[1].utterances[2].history == (("Ann", "said u8"), ("Bob", "said u9"))
    assert parts[1].utterances[4].history == ()


def test_decoding_in_threads_keeps_the_order(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.parquet"
    sounds = [_flac(np.full(100 + row, 0.25)) for row in range(40)]
    pq.write_table(
        pa.table({"utterance_id": [f"u{row}" for row in range(40)], "audio": sounds, "audio_status": ["ok"] * 40}), path
    )
    part = MediaSource(((path,),), (40,), "audio").read(0, 0, threads=8)
    assert [(one.utterance_id, len(one.waveform)) for one in part.utterances if one.waveform is not None] == [
        (f"u{row}", 100 + row) for row in range(40)
    ]
