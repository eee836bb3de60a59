"""A small corpus with finished media and given audio, and Whispers with random weights, all generated on the fly."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from merc import files, parquet
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.job import Fingerprint, Job
from merc.layout import Layout
from merc.media import pack
from merc.media.tables import SCHEMA
from merc.records import failures, manifest
from merc.records.dialogue import Dialogue, Utterance
from merc.records.failures import Failure
from merc.records.features import FAILURES

RATE_HZ = 16_000
Corpus = Callable[..., Layout]


def voice(seconds: float, hz: float = 130.0, seed: int = 0) -> NDArray[np.float32]:
    """Syllables of a voice with harmonics, in faint noise."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    random = np.random.default_rng(seed)
    pitch = hz * (1 + 0.1 * np.interp(time, np.linspace(0, seconds, 8), random.normal(size=8)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    loud = np.interp(
        time, np.linspace(0, seconds, max(4, round(8 * seconds))), random.uniform(0.05, 0.3, max(4, round(8 * seconds)))
    )
    harmonics = sum(np.sin(number * phase) * random.uniform(0.2, 1) / number for number in range(1, 12))
    return (0.5 * loud * harmonics + 0.001 * random.normal(size=len(time))).astype(np.float32)


def noise(seconds: float, level: float = 0.1, seed: int = 1) -> NDArray[np.float32]:
    return (level * np.random.default_rng(seed).normal(size=round(seconds * RATE_HZ))).astype(np.float32)


def _jpeg(grey: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((16, 16, 3), grey, np.uint8))[1])


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Writes manifest and media of a train split.

    ``dialogues``: for each a list of (text, audio); audio is samples, or the status of an absent one. ``media``:
    row → columns of the media table.
    ``reasons``: row → reasons of failure rows. ``streams``: what was decoded. ``version``: of the media, another one
    for media that were made anew.
    ``columns``, ``without``: columns of the media table to add or leave out.
    """

    def write(
        *dialogues: Sequence[tuple[str, NDArray[np.float32] | str]],
        media: Mapping[int, Mapping[str, Any]] | None = None,
        reasons: Mapping[int, Sequence[str]] | None = None,
        streams: Sequence[str] = ("audio", "visual"),
        version: str = "1",
        columns: Sequence[pa.Field] = (),
        without: Sequence[str] = (),
    ) -> Layout:
        layout = Layout(tmp_path / "raw", tmp_path / "features", "tiny")
        table = _manifest(layout, dialogues)
        sounds = [sound for dialogue in dialogues for _, sound in dialogue]
        replaced = {*without, *(more.name for more in columns)}
        schema = pa.schema([*(one for one in SCHEMA if one.name not in replaced), *columns])
        job = Job(
            "media",
            layout.media,
            layout.scratch,
            Fingerprint({"media": {}}, {"streams": dict.fromkeys(streams, version)}),
            overwrite=True,
        )
        job.start()
        ids, of_dialogue = table["utterance_id"].to_pylist(), table["dialogue_id"].to_pylist()
        for index, (start, stop) in enumerate(manifest.dialogue_bounds(table)):
            rows = [
                _row(schema, ids[row], of_dialogue[row], sounds[row], (media or {}).get(row, {}))
                for row in range(start, stop)
            ]
            parquet.write(job.part(index), pa.Table.from_pylist(rows, schema=schema))
        failed = [
            Failure(ids[row], "media", "audio", reason).row()
            for row, of_row in (reasons or {}).items()
            for reason in of_row
        ]
        parquet.write(job.folder / FAILURES, failures.table(failed))
        job.finish({})
        return layout

    return write


def _manifest(layout: Layout, dialogues: Sequence[Sequence[tuple[str, Any]]]) -> pa.Table:
    built = [
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
                for turn, (text, _) in enumerate(dialogue)
            ),
        )
        for number, dialogue in enumerate(dialogues)
    ]
    table = building.build(layout.dataset, built, label_set("meld7"))
    manifest.write(layout.manifest, table)
    return table


def _row(schema: pa.Schema, utterance_id: str, dialogue_id: str, sound: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    def nothing(column: pa.Field) -> Any:
        return (
            None
            if column.nullable
            else []
            if pa.types.is_list(column.type)
            else ""
            if pa.types.is_string(column.type)
            else 0
        )

    row = {column.name: nothing(column) for column in schema} | {"truncated": False}
    heard = not isinstance(sound, str)
    return {
        **row,
        "utterance_id": utterance_id,
        "dialogue_id": dialogue_id,
        "audio": pack.flac(sound)[0] if heard else b"",
        "audio_status": "ok" if heard else sound,
        "visual_status": "ok",
        "faces": [_jpeg(90)],
        "face_seconds": [0.2],
        "face_scores": [1.0],
        "frames_seen": 8,
        "face_coverage": 1.0,
        **more,
    }


WORDS = ("hello", "dog", "the", "child", "small", "figures", "two", "add")
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|zh|>",
    "<|transcribe|>",
    "<|notimestamps|>",
    "<|0.00|>",
)


def save_whisper(folder: Path, words: Sequence[str] = WORDS, special: Sequence[str] = SPECIAL) -> Path:
    """Writes a Whisper of one second and a few words, with random weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    torch.manual_seed(3)
    made = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate([*words, *special])}, unk_token=words[0])
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece(prefix="##")
    made.add_special_tokens(list(special))
    PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(folder)
    end = len(words)
    settings = {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "num_mel_bins": 16, "max_source_positions": 50, "max_target_positions": 40,
        "vocab_size": len(words) + len(special),
        "init_std": 0.5, "pad_token_id": end, "bos_token_id": end, "eos_token_id": end,
        "decoder_start_token_id": end + 1,
    }  # fmt: skip
    WhisperForConditionalGeneration(WhisperConfig(**settings)).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="session")
def mute_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper that knows nothing but punctuation."""
    return save_whisper(tmp_path_factory.mktemp("mute"), words=(".", ",", "!", "?"))


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
