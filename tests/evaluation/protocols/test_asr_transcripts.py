"""Scores on what a speech recogniser heard, compared with vectors put in by hand; omitted where there are none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from merc import files, parquet
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.errors import BadTable
from merc.evaluation.protocols.asr_transcripts import AsrTranscripts
from merc.job import Fingerprint, Job
from merc.layout import Layout
from merc.records import audit as audits
from merc.records import features as feature_tables
from merc.records import manifest
from merc.records.dialogue import Dialogue, Utterance
from merc.records.inputs import input_hashes
from merc.training.loop.checkpoint import Loaded
from merc.training.loop.trainer import predict, scores

from ..conftest import Place

Heard = Callable[..., Layout]
SILENT = "test/dia0_utt0"
PROTOCOL = AsrTranscripts(AsrTranscripts.Config())


def _manifest(layout: Layout) -> pa.Table:
    """The manifest of the small shards, as their extraction would have written it."""
    dialogues = []
    for path in sorted((layout.shards / "dialogues").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            pairs = zip(row["source_utterance_ids"], row["emotions"], strict=True)
            said = tuple(
                Utterance(
                    source_utterance_id=name,
                    speaker="A",
                    text=f"written {name}",
                    emotion=emotion,
                    start_seconds=0,
                    end_seconds=1,
                )
                for name, emotion in pairs
            )
            dialogues.append(
                Dialogue(split=row["split"], source_dialogue_id=row["dialogue_id"].partition("/")[2], utterances=said)
            )
    table = building.build(layout.dataset, dialogues, label_set("meld7"))
    manifest.write(layout.manifest, table)
    return table


def _audit(layout: Layout, table: pa.Table) -> None:
    media = Job(
        "media", layout.media, layout.scratch, Fingerprint({"media": {}}, {"streams": {"audio": "1"}}), overwrite=True
    )
    media.start()
    media.finish({})
    rows: list[dict[str, Any]] = [
        dict.fromkeys(audits.SCHEMA.names) | {"utterance_id": name, "doubts": []}
        for name in table["utterance_id"].to_pylist()
    ]
    for row in rows:
        heard = row["utterance_id"] != SILENT
        row |= {"asr_text": "heard" if heard else None, "asr_error": 0.5 if heard else None}
    made = Job(
        "audit",
        layout.audit,
        layout.scratch,
        Fingerprint({}, {"sources": audits.source_hashes(layout, table)}),
        overwrite=True,
    )
    made.start()
    parquet.write(made.folder / audits.TABLE, pa.Table.from_pylist(rows, schema=audits.SCHEMA))
    made.finish({})


def _features(
    layout: Layout, table: pa.Table, vectors: np.ndarray, present: np.ndarray, settings: dict[str, Any]
) -> None:
    heard = audits.with_heard_text(layout, table)
    fingerprint = Fingerprint(
        {"encoders": {"text": {"text-encoder": settings}}}, input_hashes(layout.media, heard, "text")
    )
    made = Job("heard", layout.heard_text("text-encoder"), layout.scratch, fingerprint, overwrite=True)
    made.start()
    columns = [
        table["utterance_id"],
        feature_tables.vectors(vectors * present[:, None]),
        pa.array(present),
        pa.array(["ok"] * len(table)),
    ]
    parquet.write(made.part(0), pa.table(columns, schema=feature_tables.schema(vectors.shape[1])))
    made.finish({"modality": "text", "encoder": "text-encoder", "dim": vectors.shape[1], "provenance": {}})


@pytest.fixture
def heard(place: Place) -> Heard:
    """Writes manifest, audit and vectors of the recognised speech for the small shards; in one test utterance nothing
    is heard.
    """

    def write(
        settings: dict[str, Any] | None = None, vectors: np.ndarray | None = None, present: np.ndarray | None = None
    ) -> Layout:
        layout = place.layout
        info = files.read_json(layout.shards / "meta" / "info.json")
        info["encoders"]["text"]["settings"] = {"family": "small"}
        files.write_json(layout.shards / "meta" / "info.json", info)
        table = _manifest(layout)
        _audit(layout, table)
        if vectors is None or present is None:
            vectors = np.random.default_rng(3).normal(size=(len(table), info["dims"]["text"])).astype(np.float32)
            present = np.array([name != SILENT for name in table["utterance_id"].to_pylist()])
        _features(layout, table, vectors, present, settings or {"family": "small"})
        return layout

    return write


def test_the_words_heard_stand_in_for_the_texts_and_all_else_is_the_same(place: Place, heard: Heard) -> None:
    layout = heard()
    run = place.run("all")
    assert PROTOCOL.lacks(run) == ""
    found = PROTOCOL.evaluate(run)
    table = manifest.read(layout.manifest)["utterance_id"].to_pylist()
    drawn = np.random.default_rng(3).normal(size=(len(table), 6)).astype(np.float32)
    for one in run.models():
        split = one.split("test")
        labels, classes = split.labels[:-1].numpy(), one.model.classes
        assert found.scores["seeds"][str(one.seed)]["written"] == scores(labels, predict(one.model, split), classes)
        raw = run.raw_split("test")
        for row, name in enumerate(raw.utterance_ids):
            raw.features["text"][row] = torch.from_numpy(drawn[table.index(name)]) * (name != SILENT)
            raw.present["text"][row] = name != SILENT
        expected = predict(one.model, one.split("test"))
        assert found.scores["seeds"][str(one.seed)]["heard"] == scores(labels, expected, classes)
        rows = [row for row in found.tables["predictions"].to_pylist() if row["seed"] == one.seed]
        assert [row["heard"] for row in rows] == expected.argmax(dim=1).tolist()
        assert [row["utterance_id"] for row in rows] == list(raw.utterance_ids)
        place.run("all")._raw_splits.clear()
        run._raw_splits.clear()
    assert (
        found.scores["mean"]["heard"]["weighted_f1"] < found.scores["mean"]["written"]["weighted_f1"]
    )  # noise instead of the class
    assert (found.scores["without_words"], found.scores["mean_asr_error"]) == (1, 0.5)


def test_with_the_shards_own_vectors_nothing_changes(place: Place, heard: Heard) -> None:
    own = {
        name: (vector, there)
        for path in (place.layout.shards / "dialogues").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
        for name, vector, there in zip(row["utterance_ids"], row["text"], row["text_present"], strict=True)
    }
    vectors, present = zip(*(own[name] for name in _manifest(place.layout)["utterance_id"].to_pylist()), strict=True)
    heard(vectors=np.array(vectors, np.float32), present=np.array(present))
    found = PROTOCOL.evaluate(place.run("text"))
    assert found.scores["mean"]["heard"] == found.scores["mean"]["written"]
    assert all(row["written"] == row["heard"] for row in found.tables["predictions"].to_pylist())


def test_it_is_left_out_where_nothing_was_heard_or_no_text_is_seen(
    place: Place, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "merc-extract heard --dataset tiny --encoder text-encoder" in PROTOCOL.lacks(place.run("all"))
    heard()
    run = place.run("all")
    facts = run.facts.model_copy(update={"modalities": ("audio",)})
    object.__setattr__(run, "facts", facts)
    assert PROTOCOL.lacks(run) == "the recipe sees no text"
    monkeypatch.setattr(Loaded, "longest_sequence", 64)
    assert PROTOCOL.lacks(place.run("text")).startswith("the model reads tokens")


def test_vectors_of_what_is_heard_are_part_of_what_decides_the_result(place: Place, heard: Heard) -> None:
    heard()
    before = PROTOCOL.inputs(place.run("text"))
    heard(settings={"family": "other"})
    assert PROTOCOL.inputs(place.run("text")) != before


def test_vectors_by_other_settings_or_of_other_transcripts_are_refused(place: Place, heard: Heard) -> None:
    layout = heard(settings={"family": "other"})
    with pytest.raises(
        BadTable, match=r"other settings than the text in the shards; make it again:\n  merc-extract heard"
    ):
        PROTOCOL.evaluate(place.run("text"))
    heard()
    path: Path = layout.audit / audits.TABLE
    table = pq.read_table(path)
    changed = table.set_column(
        table.schema.get_field_index("asr_text"), table.schema.field("asr_text"), pa.array(["other"] * len(table))
    )
    parquet.write(path, changed)
    with pytest.raises(BadTable, match=r"made from another manifest"):
        PROTOCOL.evaluate(place.run("text"))
