"""What is inside shards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merc import files
from merc.errors import BadTable
from merc.shards.config import Config as ShardsConfig
from merc.shards.merge import merge
from merc.shards.overview import overview
from merc.shards.select import select

CONFIG = ShardsConfig(row_group_dialogues=2, max_file_bytes=1_000_000)


def test_corpora_labels_coverage_encoders_failures_and_neighbours_are_reported(sound: Path) -> None:
    found = overview(sound)
    assert found.corpora == {
        "tiny": {
            "train": {"dialogues": 3, "utterances": 6},
            "dev": {"dialogues": 1, "utterances": 2},
            "test": {"dialogues": 2, "utterances": 4},
        }
    }
    assert (found.label_set, found.transcripts, found.splits, found.files) == (
        "meld7",
        True,
        ["train", "dev", "test"],
        9,
    )
    assert list(found.counts["train"]["labels"].items())[4:] == [("joy", 2), ("disgust", 0), ("anger", 2)]
    assert found.counts["train"]["present"] == {"text": 6, "audio": 6, "visual": 5}
    assert found.encoders["audio"] == {
        "name": "fake", "encoder": "fake", "tag": None, "revision": "3", "layer": None, "pooling": None, "dim": 3,
        "licence": "CC0",
        "training_data_overlap": "none",
    }  # fmt: skip
    assert found.failures == [
        {"reason": "no_face", "kind": "absent", "modality": "visual", "splits": {"train": 1, "dev": 0, "test": 0}},
        {"reason": "text_repaired", "kind": "altered", "modality": "text", "splits": {"train": 1, "dev": 0, "test": 0}},
    ]
    assert found.neighbours == ["edit"]
    assert found.bytes == sum(path.stat().st_size for path in sound.rglob("*.parquet"))


def test_merged_corpora_are_distinguished(sound: Path, tmp_path: Path) -> None:
    select(sound, tmp_path / "other", CONFIG, splits=["dev"])
    info = files.read_json(tmp_path / "other" / "meta" / "info.json")
    files.write_json(tmp_path / "other" / "meta" / "info.json", {**info, "corpus": "small"})
    merge([sound, tmp_path / "other"], tmp_path / "whole", CONFIG, prefix=True)
    assert overview(tmp_path / "whole").made_from == ["tiny", "small"]


def test_other_folders_are_refused(tmp_path: Path, extracted: Callable[..., Any]) -> None:
    with pytest.raises(BadTable, match="not a folder of shards"):
        overview(tmp_path)
    root = extracted().build()
    info = files.read_json(root / "meta" / "info.json")
    del info["dims"], info["counts"]
    files.write_json(root / "meta" / "info.json", info)
    with pytest.raises(
        BadTable, match=r"info.json: not the record of shards: dims: Field required; counts: Field required"
    ):
        overview(root)
