"""The shards: one row per dialogue, all modalities side by side. The contract that other projects read.

dialogues/<split>-NNNNN-of-NNNNN.parquet     this schema
trajectories/<split>-NNNNN-of-NNNNN.parquet  :mod:`pipeline.trajectories.stage`
failures/<split>-NNNNN-of-NNNNN.parquet      :mod:`pipeline.corpora.failures`
meta/info.json, meta/stats.json, meta/manifest.json, README.md
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.extraction.tables import vectors_type
from pipeline.layout import MODALITIES

SCHEMA_VERSION = "1"

# List columns with one entry per utterance: name in the shards, name in the manifest, type.
PER_UTTERANCE: tuple[tuple[str, str, pa.DataType], ...] = (
    ("utterance_ids", "utterance_id", pa.string()),
    ("source_utterance_ids", "source_utterance_id", pa.string()),
    ("speakers", "speaker", pa.string()),
    ("speaker_index", "speaker_index", pa.int16()),
    ("texts", "text", pa.string()),
    ("emotions", "emotion", pa.string()),
    ("emotion_index", "emotion_index", pa.int16()),
    ("sentiments", "sentiment", pa.string()),
    ("valence", "valence", pa.float32()),
    ("arousal", "arousal", pa.float32()),
    ("dominance", "dominance", pa.float32()),
    ("start_seconds", "start_seconds", pa.float64()),
    ("end_seconds", "end_seconds", pa.float64()),
)


def schema(dims: Mapping[str, int], metadata: Mapping[str, Any], classes: Sequence[str]) -> pa.Schema:
    """Columns of a dialogue shard.

    Args:
        dims: modality → length of its vectors; modalities that were not extracted have no column.
        metadata: JSON-able; stored under the key ``merc``: schema version, corpus, label set, encoders.
        classes: the label set; a reader of Hugging Face ``datasets`` sees ``emotion_index`` as integers and the
            names in the ``merc`` metadata and ``meta/info.json`` (ClassLabel has no value for "outside the set").

    Returns:
        The schema; per modality m ``<m>`` (list of fixed-size lists of float32) and ``<m>_present`` (list of bool).
    """
    fields = [
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("dialogue_id", pa.string(), nullable=False),
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("n_utterances", pa.int32(), nullable=False),
        pa.field("n_speakers", pa.int32(), nullable=False),
    ]
    for name, source, kind in PER_UTTERANCE:
        may_be_null = source in ("valence", "arousal", "dominance")
        fields.append(pa.field(name, pa.list_(pa.field("element", kind, nullable=may_be_null)), nullable=False))
    for modality in MODALITIES:
        if modality in dims:
            fields.append(pa.field(modality, pa.list_(pa.field("element", vectors_type(dims[modality]), nullable=False)), nullable=False))
            fields.append(pa.field(f"{modality}_present", pa.list_(pa.field("element", pa.bool_(), nullable=False)), nullable=False))
    merc = {"schema_version": SCHEMA_VERSION, "classes": list(classes), **metadata}
    return pa.schema(fields, metadata={"merc": json.dumps(merc, sort_keys=True, ensure_ascii=False)})
