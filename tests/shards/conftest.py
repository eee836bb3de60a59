"""A small dataset with all features extracted, written without any encoder, decoder or corpus."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from merc import files, parquet
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.records import audit as audits
from merc.records import failures, manifest
from merc.records import features as feature_tables
from merc.records.dialogue import Dialogue, Utterance
from merc.records.failures import Failure
from merc.records.inputs import input_hashes
from merc.shards.card.writing import write_card
from merc.shards.config import Config
from merc.shards.format import reader
from merc.shards.format.schema import merc_metadata
from merc.shards.stage import build_shards

EMOTIONS = ("neutral", "joy", "anger", "boredom")  # boredom is not in the label set
DIMS = {"text": 4, "audio": 3, "visual": 2}
NEIGHBOURS = {
    "train": [["train/dia2", "train/dia1"], ["train/dia2"], ["train/dia0", "train/dia1"]],
    "dev": [[]],
    "test": [["test/dia1"], ["test/dia0"]],
}


@dataclass
class Extracted:
    """Manifest and features of a dataset, and everything needed to build its shards."""

    layout: Layout
    config: Config
    table: pa.Table
    vectors: dict[str, NDArray[np.float32]]
    encoders: dict[str, str] = field(default_factory=dict)
    run: RunOptions = field(default_factory=RunOptions)

    def build(self, **settings: int) -> Path:
        self.config = Config(**{**self.config.model_dump(), **settings})
        return build_shards(self.config, self.layout, self.run, encoders=self.encoders)

    def write_features(
        self, modality: str, absent: Mapping[int, str], *, failed: bool = True, rows: list[int] | None = None
    ) -> None:
        """Writes the features of a modality in two parts; ``absent``: row → reason, with a failure row if ``failed``;
        ``rows``: which, in which order.
        """
        values, dim = self.vectors[modality].copy(), self.vectors[modality].shape[1]
        chosen = list(range(len(values))) if rows is None else rows
        present = np.array([row not in absent for row in range(len(values))])
        values[~present] = 0
        ids = self.table["utterance_id"].to_pylist()
        status = [absent.get(row, "ok") for row in range(len(values))]
        fingerprint = Fingerprint(
            {"encoders": {modality: {"fake": {"family": "fake", "scale": 1.0}}}},
            input_hashes(self.layout.media, self.table, modality),
        )
        job = Job(
            f"{modality}/fake", self.layout.features(modality, "fake"), self.layout.scratch, fingerprint, overwrite=True
        )
        job.start()
        for index, part in enumerate(np.array_split(np.array(chosen, dtype=int), 2)):
            columns = [
                [ids[row] for row in part],
                feature_tables.vectors(values[part]),
                present[part],
                [status[row] for row in part],
            ]
            parquet.write(job.part(index), pa.table(columns, schema=feature_tables.schema(dim)))
        why = (
            [Failure(ids[row], "extraction", modality, reason).row() for row, reason in absent.items()]
            if failed
            else []
        )
        parquet.write(job.folder / feature_tables.FAILURES, failures.table(why))
        provenance = {"encoder": "fake", "revision": "3", "licence": "CC0", "training_data_overlap": "none"}
        counts = {"utterances": len(ids), "present": int(present.sum()), "absent": {}}
        job.finish(
            {
                "modality": modality,
                "encoder": "fake",
                "dim": dim,
                "provenance": provenance,
                "counts": counts,
                "versions": {"numpy": "0"},
            }
        )
        self.encoders[modality] = "fake"

    def write_audit(self, columns: Mapping[str, list[Any]], *, asr: str | None = None) -> None:
        """Writes a finished audit with the given ``columns``."""
        schema, count = audits.SCHEMA, self.table.num_rows
        given = {"utterance_id": self.table["utterance_id"].to_pylist(), "doubts": [[]] * count, **columns}
        settings = {"audit": {"asr": None if asr is None else {"checkpoint": {"repo": asr, "revision": "0" * 40}}}}
        inputs = {"sources": audits.source_hashes(self.layout, self.table), "columns": files.digest(columns)}
        job = Job("audit", self.layout.audit, self.layout.scratch, Fingerprint(settings, inputs), overwrite=True)
        job.start()
        arrays = [
            pa.array(given[one.name], one.type) if one.name in given else pa.nulls(count, one.type) for one in schema
        ]
        parquet.write(job.folder / audits.TABLE, pa.table(arrays, schema=schema))
        job.finish({})


def _dialogue(split: str, number: int, utterances: int) -> Dialogue:
    return Dialogue(
        split=split,
        source_dialogue_id=f"dia{number}",
        scenario="impro01",
        utterances=tuple(
            Utterance(
                source_utterance_id=f"dia{number}_utt{turn}",
                speaker=("Ross", "Zoë")[turn % 2],
                text=f"Line {turn} of {number}, “quoted”",
                emotion=EMOTIONS[(number + turn) % 4],
                valence=None if turn % 2 else 2.5,
                start_seconds=turn,
                end_seconds=turn + 0.5,
            )
            for turn in range(utterances)
        ),
    )


@pytest.fixture
def extracted(tmp_path: Path) -> Callable[..., Extracted]:
    """Makes a dataset: ``sizes`` (split → utterances of each dialogue), ``modalities``, and the features of each
    without any missing.

    The dialogues of a split are together in the manifest, or, if ``interleaved``, first number 0 of all splits, then
    number 1, …
    """

    def make(
        sizes: Mapping[str, tuple[int, ...]] | None = None,
        modalities: tuple[str, ...] = ("text", "audio", "visual"),
        folder: str = "features",
        interleaved: bool = False,
    ) -> Extracted:
        sizes = sizes or {"train": (3, 1, 2), "dev": (2,), "test": (2, 2)}
        layout = Layout(tmp_path / "raw", tmp_path / folder, "tiny")
        numbered = [(number, split, count) for split, counts in sizes.items() for number, count in enumerate(counts)]
        if interleaved:
            numbered.sort(key=lambda one: one[0])
        dialogues = [_dialogue(split, number, count) for number, split, count in numbered]
        table = building.build("tiny", dialogues, label_set("meld7"))
        manifest.write(layout.manifest, table)
        altered = Failure("train/dia0_utt0", "manifest", "text", "text_repaired", "one character").row()
        settings = {"corpora": {"tiny": {"reader": "meld", "label_set": "meld7"}}}
        record = {
            "settings": settings,
            "source": "MELD, from its authors",
            "deviations": ["train has 6 utterances"],
            "failures": [altered],
        }
        files.write_json(layout.folder / "manifest.json", record)
        media = Job("media", layout.media, layout.scratch, Fingerprint({}, {"streams": {"audio": "1", "visual": "1"}}))
        media.start()
        parquet.write(media.folder / feature_tables.FAILURES, failures.table([]))
        media.finish({})
        random = np.random.default_rng(7)
        vectors = {
            modality: random.normal(size=(table.num_rows, dim)).astype(np.float32) for modality, dim in DIMS.items()
        }
        made = Extracted(layout, Config(row_group_dialogues=2, max_file_bytes=1_000_000), table, vectors)
        for modality in modalities:
            made.write_features(modality, {})
        return made

    return make


ASR_ERROR = [0.125, 0.75, None, 0.25, 1.5, 0.0, 0.5, 0.9, 0.125, 0.25, 0.75, 0.5]
SPEAKING = [1.5, None, -2.0, 0.5, 2.5, -0.5, 1.0, 1.0, -1.0, 2.0, 3.0, None]


@pytest.fixture
def audited(extracted: Callable[..., Extracted]) -> Extracted:
    """The dataset with one face missing, and an audit: 12 utterances with :data:`ASR_ERROR` and :data:`SPEAKING`."""
    made = extracted()
    made.write_features("visual", {1: "no_face"})
    made.write_audit(
        {
            "asr_error": ASR_ERROR,
            "speaking": SPEAKING,
            "same_sound_as": ["train/dia0_utt1", *[""] * 10, None],
            "off_screen": [True, *[False] * 11],
        }
    )
    return made


@pytest.fixture
def folder_digest() -> Callable[[Path], dict[str, Any]]:
    """File → sha256 of everything in a folder."""

    def digest(folder: Path) -> dict[str, Any]:
        return {
            path.relative_to(folder).as_posix(): files.sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return digest


@pytest.fixture
def sound(made_once: Callable[..., Path], extracted: Callable[..., Extracted], tmp_path: Path) -> Path:
    """Valid shards with one face missing and with trajectories; made once, and copied."""
    shutil.copytree(
        made_once("shards", lambda folder: _write_sound(extracted, folder)), tmp_path / "features", dirs_exist_ok=True
    )
    return tmp_path / "features" / "tiny" / "shards"


def _write_sound(extracted: Callable[..., Extracted], folder: Path) -> None:
    made = extracted({"train": (3, 1, 2), "dev": (2,), "test": (2, 2)}, folder=str(folder))
    made.write_features("visual", {1: "no_face"})
    root = made.build()
    for split, neighbours in NEIGHBOURS.items():
        rows = reader.read_split(root, split, ["dialogue_id", "split", "n_utterances", "emotion_index"])
        lists = pa.array(neighbours, pa.list_(pa.string()))
        columns = {
            "trajectory": pa.array(rows["emotion_index"].to_pylist(), pa.list_(pa.int16())),
            "neighbours_edit": lists,
            "similarity_edit": pa.array(
                [list(np.linspace(1, 0.5, len(one))) for one in neighbours], pa.list_(pa.float32())
            ),
            "same_scenario_edit": pa.array([[True] * len(one) for one in neighbours], pa.list_(pa.bool_())),
        }
        table = pa.table({**{name: rows[name] for name in ("dialogue_id", "split", "n_utterances")}, **columns})
        parquet.write(
            root / "trajectories" / f"{split}-00000-of-00001.parquet",
            table.replace_schema_metadata(merc_metadata({"corpus": "tiny"})),
        )
    write_card(root)


@pytest.fixture
def change(sound: Path) -> Callable[[str, Callable[[dict[str, Any]], None]], None]:
    """Changes the rows of a table, given as a dictionary of lists, and updates the checksums, so that only the change
    is wrong.
    """

    def edit(name: str, how: Callable[[dict[str, Any]], None]) -> None:
        table = pq.read_table(sound / name)
        columns = table.to_pydict()
        how(columns)
        parquet.write(sound / name, pa.table(columns, schema=table.schema), 2)
        write_card(sound)

    return edit
