"""A trained model and shards → a label for every utterance, even if the shards have none."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from merc import parquet
from merc.errors import BadSettings, BadTable, nearest
from merc.log import logger
from merc.shards.format import reader
from merc.training.data.batch import UNLABELLED
from merc.training.data.dataset import check_modalities, read_split
from merc.training.data.splits import with_sequences
from merc.training.loop import checkpoint
from merc.training.loop.results import predictions, predictions_schema
from merc.training.loop.trainer import predict


def labelled_schema(classes: int) -> pa.Schema:
    """Columns of the table: those of a run's ``predictions.parquet``, and ``emotion``, the predicted class's name."""
    return predictions_schema(classes).append(pa.field("emotion", pa.string(), nullable=False))


def label(
    model_file: Path, shards: Path, out: Path, *, split: str | None = None, force: bool = False, device: str = "cpu"
) -> pa.Table:
    """Labels the utterances of shards, and writes the table completely or not at all.

    Args:
        model_file: a run's ``seed-<n>/model.safetensors``.
        shards: folder of the shards; their features are standardised like those that the model was trained on.
        out: the Parquet file to write.
        split: only this one; None: all.
        force: accept vectors of an encoder that the model was not trained on, if they have the right length.
        device: device of the model.

    Returns:
        The table, columns as in :func:`labelled_schema`. ``label`` is that of the shards if they have the model's
        classes, else -1.

    Raises:
        BadTable: if the file is not a trained model or does not fit one, or there are no shards or no such split.
        BadSettings: if the shards lack a modality of the model, or their vectors have another length or come from
            another encoder.
    """
    loaded = checkpoint.load(model_file)
    info = reader.info(shards)
    check_features(loaded.header, info, shards, force)
    there = reader.splits(shards)
    if split is not None and split not in there:
        raise BadTable(f"{shards}: no split {split!r}; {nearest(split, there)}")
    known = tuple(info["classes"]) == loaded.header.classes
    model = loaded.model.to(device)
    tables = []
    for name in there if split is None else [split]:
        read = loaded.standardisation.apply_(read_split(shards, name, model.modalities, len(info["classes"])))
        read = with_sequences(read, shards, info, loaded.longest_sequence)
        probabilities_NC = predict(model, read.to(device)).softmax(dim=1).numpy()
        table = predictions(read, probabilities_NC, loaded.header.seed)
        if not known:
            table = table.set_column(
                table.schema.get_field_index("label"),
                table.schema.field("label"),
                pa.array([UNLABELLED] * len(table), pa.int64()),
            )
        emotions = pa.array(loaded.header.classes, pa.string()).take(table["predicted"])
        tables.append(pa.table([*table.columns, emotions], schema=labelled_schema(len(loaded.header.classes))))
    made = pa.concat_tables(tables).combine_chunks()
    parquet.write(out, made, compression="zstd")
    counts = {one["values"]: one["counts"] for one in made["emotion"].value_counts().to_pylist()}
    logger.info(
        "%d utterances labelled: %s",
        len(made),
        ", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
        extra={"counts": counts},
    )
    return made


def check_features(header: checkpoint.Header, info: dict[str, Any], shards: Path, force: bool) -> None:
    """Raises ``BadSettings`` if shards lack a modality of a model, or have vectors of another length or, unless
    ``force``, of another encoder.
    """
    check_modalities(list(header.dims), info, shards, who="the model")
    for name, dim in header.dims.items():
        if info["dims"][name] != dim:
            raise BadSettings(
                f"the model was trained on {name} vectors of {dim} numbers, and those at {shards} have"
                f" {info['dims'][name]}"
            )
        encoder = info["encoders"][name]["name"]
        if encoder != header.encoders[name] and not force:
            raise BadSettings(
                f"the model was trained on {name} vectors of the encoder {header.encoders[name]}, and those at"
                f" {shards} are of {encoder}; extract them with the former, or use --force to label anyway"
            )
