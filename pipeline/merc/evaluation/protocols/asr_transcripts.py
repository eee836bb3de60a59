"""A run's models on a speech recogniser's output instead of the transcripts (:mod:`merc.commands.heard` encodes
it).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from merc.errors import BadTable
from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run, SeedModel
from merc.evaluation.engine.summary import over_seeds
from merc.job import RECORD, finished_fingerprint
from merc.params import Settings
from merc.records import audit as audits
from merc.records import manifest
from merc.records.feature_parts import Features, open_features
from merc.shards.format import reader
from merc.training.data.dataset import DialogueSplit
from merc.training.loop.trainer import predict, scores

_ROWS = pa.schema(
    [
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("label", "written", "heard")),
        pa.field("asr_error", pa.float32()),
    ]
)


class AsrTranscripts(Protocol):
    """ASR transcripts on test: over the seeds, the scores with the texts as ``written`` and as ``heard``, everything
    else being equal.

    ``utterances`` is the number in the split, ``without_words`` the number with an empty output, which lack the
    modality, and ``mean_asr_error`` is the mean character error rate, where known. ``predictions.parquet`` has both
    predictions of every utterance.
    """

    class Config(Settings):
        """There are no settings: the recogniser is that of the audit, the encoder that of the run."""

    def lacks(self, run: Run) -> str:
        if "text" not in run.facts.modalities:
            return "the recipe sees no text"
        if not (run.layout.heard_text(run.facts.encoders["text"]) / RECORD).is_file():
            return f"there are no vectors of ASR transcripts; this makes them:\n  {_command(run)}"
        if next(run.models()).loaded.longest_sequence is not None:
            return "the model reads tokens, but ASR transcripts have one vector per utterance"
        return ""

    def inputs(self, run: Run) -> dict[str, Any]:
        """The fingerprint of the vectors of the recogniser's output."""
        return {"heard": finished_fingerprint(run.layout.heard_text(run.facts.encoders["text"]))}

    def evaluate(self, run: Run) -> Found:
        """Scores test twice.

        Raises:
            BadTable: if the vectors of the recogniser's output are damaged, or do not belong to the current transcripts
                and encoder.
        """
        table = manifest.read(run.layout.manifest)
        raw = run.raw_split("test")
        rows = _rows_of(table, raw, run)
        heard = _with(raw, _features(run, table), rows)
        errors = audits.read(run.layout, table).table["asr_error"].take(pa.array(rows))
        found, tables = {}, []
        for one in run.models():
            logits = {
                name: predict(one.model, one.ready(split)) for name, split in (("written", raw), ("heard", heard))
            }
            labels, classes = raw.labels_cpu[:-1].numpy(), one.model.classes
            found[one.seed] = {name: scores(labels, values_NC, classes) for name, values_NC in logits.items()}
            tables.append(_table(one, raw, logits, errors))
        facts = {
            "utterances": raw.utterances,
            "without_words": int((~heard.present["text"][:-1]).sum()),
            "mean_asr_error": pc.mean(errors).as_py(),
        }
        return Found(
            scores={"split": "test", **facts, **over_seeds(found)}, tables={"predictions": pa.concat_tables(tables)}
        )


def _command(run: Run) -> str:
    return (
        f"merc-extract heard --dataset {run.facts.dataset} --encoder {run.facts.encoders['text']} --out"
        f" {run.layout.out}"
    )


def _rows_of(table: pa.Table, split: DialogueSplit, run: Run) -> NDArray[np.int64]:
    """The manifest's row of each utterance."""
    places = {name: row for row, name in enumerate(table["utterance_id"].to_pylist())}
    missing = next((name for name in split.utterance_ids if name not in places), None)
    if missing is not None:
        raise BadTable(f"{run.layout.manifest}: has no utterance {missing!r}, which is in the shards")
    return np.array([places[name] for name in split.utterance_ids])


def _features(run: Run, table: pa.Table) -> Features:
    name = run.facts.encoders["text"]
    found = open_features(
        run.layout, audits.with_heard_text(run.layout, table), "text", name, run.layout.heard_text(name)
    )
    if found.info["settings"]["encoders"]["text"][name] != reader.info_of(run.layout)["encoders"]["text"]["settings"]:
        raise BadTable(
            f"{found.folder}: encoded with other settings than the text in the shards; make it again:\n "
            f" {_command(run)} --overwrite"
        )
    return found


def _with(split: DialogueSplit, heard: Features, rows: NDArray[np.int64]) -> DialogueSplit:
    """The split with other text vectors; ``rows`` are those of the utterances in the table of features."""
    first = int(rows.min())
    read = heard.read(first, int(rows.max()) + 1)
    values_ND, present_N = (
        torch.from_numpy(np.concatenate([of_span[rows - first], np.zeros_like(of_span[:1])]))
        for of_span in (read.values, read.present)
    )
    return replace(split, features={**split.features, "text": values_ND}, present={**split.present, "text": present_N})


def _table(one: SeedModel, split: DialogueSplit, logits: dict[str, Any], errors: pa.ChunkedArray) -> pa.Table:
    said = {name: pa.array(values_NC.argmax(dim=1).numpy()) for name, values_NC in logits.items()}
    columns = {
        "seed": pa.array(np.full(split.utterances, one.seed)),
        "utterance_id": pa.array(split.utterance_ids, pa.string()),
        "label": pa.array(split.labels_cpu[:-1].numpy()),
        **said,
        "asr_error": errors,
    }
    return pa.table([columns[field.name] for field in _ROWS], schema=_ROWS)
