"""The shards: one row per dialogue, all modalities side by side. The contract that other projects read.

dialogues/<split>-NNNNN-of-NNNNN.parquet     this schema
trajectories/<split>-NNNNN-of-NNNNN.parquet  :mod:`merc.trajectories.stage`
failures/<split>-NNNNN-of-NNNNN.parquet      :mod:`merc.records.failures`
meta/info.json, meta/stats.json, meta/manifest.json, README.md, croissant.json
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from merc.errors import BadTable
from merc.layout import MODALITIES
from merc.records.audit import PREFIX
from merc.records.features import vectors_type

SCHEMA_VERSION = "2"  # 2: every page has a checksum

# List columns with one entry per utterance: name in the shards, name in the manifest, type.
PER_UTTERANCE: tuple[tuple[str, str, pa.DataType], ...] = (
    ("utterance_ids", "utterance_id", pa.string()),
    ("source_utterance_ids", "source_utterance_id", pa.string()),
    ("speakers", "speaker", pa.string()),
    ("speaker_index", "speaker_index", pa.int16()),
    ("texts", "text", pa.string()),
    ("emotions", "emotion", pa.string()),
    ("emotion_index", "emotion_index", pa.int64()),
    ("sentiments", "sentiment", pa.string()),
    ("valence", "valence", pa.float32()),
    ("arousal", "arousal", pa.float32()),
    ("dominance", "dominance", pa.float32()),
    ("start_seconds", "start_seconds", pa.float64()),
    ("end_seconds", "end_seconds", pa.float64()),
)
_MAY_BE_NULL = ("valence", "arousal", "dominance")
TRANSCRIPTS = "texts"  # the column that is left out if the transcripts must not be redistributed

# Never null, but declared nullable, and int64: Hugging Face datasets 5.2 takes the class names from the file only if
# the column's type is exactly that of its own ClassLabel. It accepts -1, the index of an emotion outside the label set.
_CLASS_LABEL = "emotion_index"


def schema(
    dims: Mapping[str, int],
    metadata: Mapping[str, Any],
    classes: Sequence[str],
    *,
    transcripts: bool = True,
    quality: Sequence[str] = (),
) -> pa.Schema:
    """Columns of a dialogue shard.

    Args:
        dims: modality → length of its vectors; modalities that were not extracted have no column.
        metadata: JSON-able; stored under the key ``merc``: corpus, label set, encoders.
        classes: the label set, index = position.
        transcripts: False: without the column ``texts``.
        quality: columns from an audit, :func:`quality_columns`.

    Returns:
        The schema; per modality m ``<m>`` (list of fixed-size lists of float32) and ``<m>_present`` (list of bool).
        Metadata: ``merc`` (JSON), and ``huggingface``, by which ``datasets`` makes ``emotion_index`` a list of
        ClassLabel.
    """
    fields = [
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("dialogue_id", pa.string(), nullable=False),
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("n_utterances", pa.int32(), nullable=False),
        pa.field("n_speakers", pa.int32(), nullable=False),
    ]
    for name, _, kind in per_utterance(transcripts=transcripts, quality=quality):
        label = name == _CLASS_LABEL
        fields.append(
            pa.field(name, pa.list_(pa.field("element", kind, nullable=label or may_be_null(name))), nullable=label)
        )
    for modality in MODALITIES:
        if modality in dims:
            fields.append(
                pa.field(
                    modality,
                    pa.list_(pa.field("element", vectors_type(dims[modality]), nullable=False)),
                    nullable=False,
                )
            )
            fields.append(
                pa.field(
                    f"{modality}_present", pa.list_(pa.field("element", pa.bool_(), nullable=False)), nullable=False
                )
            )
    features = {field.name: _feature(field.type) for field in fields}
    features[_CLASS_LABEL] = {"feature": {"names": list(classes), "_type": "ClassLabel"}, "_type": "List"}
    return pa.schema(
        fields,
        metadata={
            **merc_metadata({**metadata, "classes": list(classes)}),
            "huggingface": json.dumps({"info": {"features": features}}),
        },
    )


def check_dialogues(found: pa.Schema, path: Path) -> None:
    """Raises ``BadTable`` if a column of the dialogues in ``path`` has another type than in :func:`schema`; nullability
    is not checked.
    """
    dims = {
        name: found.field(name).type.value_type.list_size
        for name in MODALITIES
        if name in found.names and _holds_vectors(found.field(name).type)
    }
    wanted = schema(dims, {}, [], transcripts=TRANSCRIPTS in found.names, quality=quality_columns(found.names))
    for field in found:
        if field.name in wanted.names and not _alike(field.type, wanted.field(field.name).type):
            raise BadTable(
                f"{path}: the column {field.name} holds {field.type} instead of {wanted.field(field.name).type}"
            )
        if field.name in MODALITIES and field.name not in dims:
            raise BadTable(f"{path}: the column {field.name} holds {field.type} instead of vectors")


def _holds_vectors(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_fixed_size_list(kind.value_type))


def _alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Equal, except for the names of elements and their nullability."""
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _alike(one.value_type, other.value_type)
    if pa.types.is_fixed_size_list(one) and pa.types.is_fixed_size_list(other):
        return bool(one.list_size == other.list_size) and _alike(one.value_type, other.value_type)
    return bool(one == other)


_TRAJECTORIES: dict[str, Callable[[pa.DataType], bool]] = {
    "trajectory": pa.types.is_integer,
    "neighbours_": pa.types.is_string,
    "similarity_": pa.types.is_floating,
    "order_excess_": pa.types.is_floating,
    "same_scenario_": pa.types.is_boolean,
}


def check_trajectories(found: pa.Schema, path: Path) -> None:
    """Raises ``BadTable`` if a column of the trajectories in ``path`` is missing, or has another type than the stage
    writes.
    """
    for name in ("dialogue_id", "split", "trajectory"):
        if name not in found.names:
            raise BadTable(f"{path}: no trajectories: there is no column {name!r}")
    for field in found:
        kind = next((kind for prefix, kind in _TRAJECTORIES.items() if field.name.startswith(prefix)), None)
        right = (
            pa.types.is_string(field.type)
            if field.name in ("dialogue_id", "split")
            else kind is None or (pa.types.is_list(field.type) and kind(field.type.value_type))
        )
        if not right:
            raise BadTable(f"{path}: the column {field.name} holds {field.type}, which is none of a trajectory's")


def per_utterance(*, transcripts: bool, quality: Sequence[str] = ()) -> tuple[tuple[str, str, pa.DataType], ...]:
    """:data:`PER_UTTERANCE`, without ``texts`` if there are no ``transcripts``, followed by the columns of an audit."""
    return (
        *(one for one in PER_UTTERANCE if transcripts or one[0] != TRANSCRIPTS),
        *((name, name, pa.float32()) for name in quality),
    )


def quality_columns(names: Iterable[str]) -> tuple[str, ...]:
    """The columns that come from an audit: ``quality_asr_error`` and the like
    (:data:`merc.records.audit.QUALITY`).
    """
    return tuple(name for name in names if name.startswith(PREFIX))


def may_be_null(name: str) -> bool:
    """Whether entries of a list column may be null: numbers unknown to a corpus or an audit."""
    return name in _MAY_BE_NULL or name.startswith(PREFIX)


def merc_metadata(facts: Mapping[str, Any]) -> dict[str, str]:
    """Schema metadata of every table of the shards: ``facts`` and the schema version as JSON under the key ``merc``."""
    return {"merc": json.dumps({"schema_version": SCHEMA_VERSION, **facts}, sort_keys=True, ensure_ascii=False)}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A column's type in terms of Hugging Face ``datasets``."""
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    names = {pa.float32(): "float32", pa.float64(): "float64", pa.bool_(): "bool"}
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}
