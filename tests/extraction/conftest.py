"""A small dataset up to the stage before extraction: manifest, and media made of tones and coloured squares."""

import importlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from merc import files
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.encoders.engine.registry import ChosenEncoder
from merc.job import Fingerprint, Job
from merc.layout import Layout
from merc.media import tables as media_tables
from merc.records import failures, manifest
from merc.records.dialogue import Dialogue, Utterance


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ChosenEncoder]:
    """Chooses a fake encoder: modality, name, and optionally ``scale``; spawned processes find its module as well."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    choose: Callable[..., ChosenEncoder] = importlib.import_module("fake_encoders").chosen
    return choose


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "raw", tmp_path / "features", "tiny")


@pytest.fixture
def write_manifest() -> Callable[..., pa.Table]:
    """Writes the manifest of one train dialogue per list of texts."""

    def write(layout: Layout, *dialogues: Sequence[str]) -> pa.Table:
        records = [
            Dialogue(
                split="train",
                source_dialogue_id=f"dia{number}",
                utterances=tuple(
                    Utterance(
                        source_utterance_id=f"dia{number}_utt{turn}",
                        speaker="AB"[turn % 2],
                        text=text,
                        emotion="joy",
                        start_seconds=turn,
                        end_seconds=turn + 1,
                    )
                    for turn, text in enumerate(texts)
                ),
            )
            for number, texts in enumerate(dialogues)
        ]
        table = building.build(layout.dataset, records, label_set("meld7"))
        manifest.write(layout.manifest, table)
        return table

    return write


def _flac(samples: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(samples, 0.5, dtype=np.float32), 16_000, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _jpeg(red: int) -> bytes:
    bgr = np.zeros((16, 16, 3), dtype=np.uint8)
    bgr[..., 2] = red
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 100])[1])


@pytest.fixture
def write_media() -> Callable[..., None]:
    """Writes finished media for a manifest: a tone of 100 * (row + 1) samples, and two faces of red 200, in parts of
    two dialogues.

    The rows in ``audio`` and ``visual`` (row → reason) have no content.
    """

    def write(
        layout: Layout,
        table: pa.Table,
        audio: dict[int, str] | None = None,
        visual: dict[int, str] | None = None,
        streams: tuple[str, ...] = ("audio", "visual"),
    ) -> None:
        rows: list[dict[str, Any]] = []
        for row, (utterance, dialogue) in enumerate(
            zip(table["utterance_id"].to_pylist(), table["dialogue_id"].to_pylist(), strict=True)
        ):
            heard, seen = (audio or {}).get(row, "ok"), (visual or {}).get(row, "ok")
            empty = {
                one.name: None
                if one.nullable
                else []
                if pa.types.is_list(one.type)
                else ""
                if pa.types.is_string(one.type)
                else 0
                for one in media_tables.SCHEMA
            }
            faces = [_jpeg(200), _jpeg(200)] if seen == "ok" else []
            rows.append(
                {
                    **empty,
                    "utterance_id": utterance,
                    "dialogue_id": dialogue,
                    "audio": _flac(100 * (row + 1)) if heard == "ok" else b"",
                    "audio_status": heard,
                    "visual_status": seen,
                    "faces": faces,
                    "face_seconds": [0.25, 0.75][: len(faces)],
                    "face_scores": [1.0, 1.0][: len(faces)],
                    "truncated": False,
                }
            )
        job = Job(
            "media",
            layout.media,
            layout.scratch,
            Fingerprint({"media": {}}, {"streams": dict.fromkeys(streams, table["utterance_id"].to_pylist())}),
        )
        job.start()
        for index, (start, stop) in enumerate(manifest.cut_into_parts(table, 4)):
            pq.write_table(pa.Table.from_pylist(rows[start:stop], schema=media_tables.SCHEMA), job.part(index))
            job.mark_done(index, [])
        pq.write_table(failures.table([]), job.folder / "failures.parquet")
        job.finish({})

    return write


@pytest.fixture
def folder_digest() -> Callable[[Path], dict[str, str]]:
    """File → sha256 of everything in a folder."""

    def digest(folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): files.sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return digest
