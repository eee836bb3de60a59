"""Small shards for the commands, written without a corpus, media or encoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from merc.commands.shards import main
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.records import failures
from merc.records.dialogue import Dialogue, Utterance
from merc.records.failures import Failure
from merc.records.feature_parts import Vectors
from merc.shards.config import Config as ShardsConfig
from merc.shards.facts import Facts
from merc.shards.joining.join import join
from merc.shards.rewriting import Rewriting

SPLITS = {"train": (3, 1, 2), "test": (2,)}


def _dialogue(split: str, number: int, utterances: int) -> Dialogue:
    turns = (
        Utterance(
            source_utterance_id=f"dia{number}_utt{turn}",
            speaker="Ross",
            text=f"secret {turn}",
            emotion=("joy", "anger")[turn % 2],
            start_seconds=0,
            end_seconds=1,
        )
        for turn in range(utterances)
    )
    return Dialogue(split=split, source_dialogue_id=f"dia{number}", utterances=tuple(turns))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Makes shards in a folder with that name: ``corpus``, and by how much their vectors are shifted."""

    def build(name: str, corpus: str = "tiny", moved: float = 0.0) -> Path:
        encoder = {
            "name": "fake",
            "encoder": "fake",
            "revision": "3",
            "licence": "CC0",
            "training_data_overlap": "none: made up",
            "settings_sha256": "0",
        }
        facts = Facts(corpus, label_set("meld7"), {"audio": 3}, {"audio": {**encoder, "dim": 3}}, transcripts=True)
        writing = Rewriting(tmp_path / name, facts, ShardsConfig(row_group_dialogues=2, max_file_bytes=1_000_000))
        (tmp_path / name).mkdir()
        for split, sizes in SPLITS.items():
            table = building.build(
                corpus, [_dialogue(split, number, count) for number, count in enumerate(sizes)], facts.labels
            )
            values_ND = np.random.default_rng(7).normal(size=(table.num_rows, 3)).astype(np.float32) + np.float32(moved)
            values_ND[1] = 0
            rows: pa.Table = join(table, {"audio": Vectors(values_ND, values_ND.any(axis=1))}, facts.schema)
            writing.write_split(
                split, [rows], failures.table([Failure(f"{split}/dia0_utt1", "media", "audio", "silence").row()])
            )
        writing.finish({}, {}, {"source": "nobody", "deviations": [], "corpus_settings": {}})
        return tmp_path / name

    return build


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs ``merc-shards`` with these words."""
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])
