"""Imports a circulating feature file: it is converted to the same tables as those of an extraction, from which the same
stage builds the shards.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import files, parquet, provenance
from merc.corpora import iemocap, meld
from merc.corpora.engine import building
from merc.encoders.engine import adapted
from merc.errors import BadSettings, BadTable
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import MODALITIES, Layout
from merc.records import failures, manifest
from merc.records import features as feature_tables
from merc.records.dialogue import SPLITS
from merc.records.failures import Failure
from merc.records.inputs import input_hashes
from merc.shards.circulation import layouts, meld_baseline, naming, text_corpora, unpickling
from merc.shards.circulation.choices import RobertaLayer
from merc.shards.circulation.layouts import Conversation, FeatureFile
from merc.shards.config import Config
from merc.shards.stage import build_shards

ENCODER = "imported"
"""Recorded in the shards as the name of the encoder."""


_CORPORA = {"iemocap": iemocap.Iemocap.SOURCE, "meld": meld.Meld.SOURCE, **text_corpora.SOURCES}
_SPEAKERS = {
    (True, False): "",
    (False, False): "Speakers are numbered within their dialogue.",
    (False, True): "It does not say who speaks: all utterances have the same speaker.",
}  # of IEMOCAP, of MELD's baseline


@dataclass(frozen=True)
class Wishes:
    """The options of an import.

    Attributes:
        label_set: label set of the file; None: determined from its labels.
        validation: for IEMOCAP, if the file does not distinguish dev from train; None: that of the block
            ``corpora.iemocap``.
        layer: which of COSMIC's four layers of RoBERTa; None: the authors' choice.
        annotations: ``data_emotion.p``, for the pickles of MELD's baseline.
        modality: modality of those pickles' vectors, if the file's name does not start with it.
    """

    label_set: str | None = None
    validation: str | None = None
    layer: RobertaLayer | None = None
    annotations: Path | None = None
    modality: str | None = None


@dataclass(frozen=True)
class Imported:
    """The imported content of a file.

    Attributes:
        layout: its layout (:mod:`merc.shards.circulation.layouts`).
        corpus: ``iemocap``, ``meld``, ``emorynlp`` or ``dailydialog``.
        table: the manifest.
        vectors: modality → float32 [N, D], zeros where absent.
        failures: one per absent vector.
        record: content of ``manifest.json``; ``deviations`` has a line per count that differs from the corpus's.
        sha256: hash of the file. learnt: modality → labels from which its vectors were learnt.
    """

    layout: str
    corpus: str
    table: pa.Table
    vectors: Mapping[str, NDArray[np.float32]]
    failures: tuple[Failure, ...]
    record: Mapping[str, Any]
    sha256: str
    learnt: Mapping[str, str]


def read_file(path: Path, iemocap_config: iemocap.Iemocap.Config, wishes: Wishes) -> Imported:
    """Reads and checks a feature file.

    Args:
        path: a pickle in one of the layouts of :mod:`merc.shards.circulation.layouts`.
        iemocap_config: determines how dev is chosen.
        wishes: options.

    Raises:
        BadTable: if it is damaged, refused or has another structure, or its ids or labels are not those of a known
            corpus.
        BadSettings: if an option does not fit the file.
    """
    content = unpickling.load(path)
    try:
        file = naming.without_other_sentiments(_understood(content, path, wishes))
        corpus = naming.corpus_of(file, wishes.label_set)
        labels = naming.label_set_of(file, corpus, wishes.label_set)
        validation = wishes.validation or iemocap_config.validation
        splits = naming.splits_of(file, corpus, validation, iemocap_config.validation_seed)
        order = sorted(
            range(len(splits)),
            key=lambda index: (SPLITS.index(splits[index]), *_sorting(file.conversations[index].key)),
        )
        conversations = [file.conversations[index] for index in order]
        dialogues = [
            naming.dialogue_of(one, splits[index], labels, corpus)
            for index, one in zip(order, conversations, strict=True)
        ]
        table = building.build(corpus, dialogues, labels)
    except BadTable as error:
        raise BadTable(f"{path}: {error}") from error
    sha256 = files.sha256(path)
    vectors, absent = _vectors(conversations, table["utterance_id"].to_pylist())
    chosen = "file" if file.has_dev or corpus != "iemocap" else validation
    settings = {
        "reader": ENCODER,
        "layout": file.layout,
        "sha256": sha256,
        "label_set": labels.name,
        "validation": chosen,
    }
    if file.layer is not None:
        settings["roberta_layer"] = file.layer
    if wishes.annotations is not None:
        settings["annotations_sha256"] = files.sha256(wishes.annotations)
    record = {
        "settings": {"corpora": {corpus: settings}},
        "source": _source(path, file, corpus),
        "deviations": [*_left_out(file), *naming.deviations(dialogues, corpus, labels, chosen)],
        "failures": [],
    }
    return Imported(file.layout, corpus, table, vectors, tuple(absent), record, sha256, file.learnt)


def _sorting(key: str | int) -> tuple[int, str]:
    """Numbers in order, then names."""
    return (key, "") if isinstance(key, int) else (sys.maxsize, key)


def _understood(content: Any, path: Path, wishes: Wishes) -> FeatureFile:
    """The file in one form; the pickles of MELD's baseline together with their annotations."""
    if meld_baseline.is_one(content):
        if wishes.annotations is None:
            raise BadSettings(
                f"{path} holds only vectors, in a dictionary for each of train, val and test, as in the files of"
                " MELD's authors: give their data_emotion.p, which has the labels and texts, with --annotations"
            )
        return meld_baseline.read(content, unpickling.load(wishes.annotations), path.name, wishes.modality)
    for option, value in (("--annotations", wishes.annotations), ("--modality", wishes.modality)):
        if value is not None:
            raise BadSettings(
                f"{option} is only for the three dictionaries of MELD's authors; {path} holds something else"
            )
    return layouts.read(content, wishes.layer)


def build(imported: Imported, config: Config, layout: Layout) -> None:
    """Writes the imported data in the format of the stages, and builds the shards.

    Args:
        imported: see :func:`read_file`.
        config: settings of the shards.
        layout: the shards go to ``layout.shards``, with manifest and features next to them.
    """
    manifest.write(layout.manifest, imported.table)
    files.write_json(layout.folder / "manifest.json", imported.record)
    # Replaces the media of an extraction, so that audio and face features are tied to this file.
    media = Job(
        "media",
        layout.media,
        layout.scratch,
        Fingerprint({}, {"streams": dict.fromkeys(imported.vectors, imported.sha256)}),
    )
    media.start()
    parquet.write(media.folder / feature_tables.FAILURES, failures.table([]))
    media.finish({})
    for modality in imported.vectors:
        _write_features(imported, modality, layout)
    build_shards(config, layout, RunOptions(), encoders=dict.fromkeys(imported.vectors, ENCODER))


def _write_features(imported: Imported, modality: str, layout: Layout) -> None:
    """One feature table, and the failure rows next to it."""
    values_ND = imported.vectors[modality]
    rows = [failure.row() for failure in imported.failures if failure.modality == modality]
    reasons = {row["utterance_id"]: row["reason"] for row in rows}
    ids = imported.table["utterance_id"].to_pylist()
    settings = {"family": ENCODER, **imported.record["settings"]["corpora"][imported.corpus]}
    fingerprint = Fingerprint(
        {"encoders": {modality: {ENCODER: settings}}}, input_hashes(layout.media, imported.table, modality)
    )
    job = Job(f"{modality}/{ENCODER}", layout.features(modality, ENCODER), layout.scratch, fingerprint)
    job.start()
    status = [reasons.get(one, feature_tables.OK) for one in ids]
    present = [one == feature_tables.OK for one in status]
    parquet.write(
        job.part(0),
        pa.table(
            [ids, feature_tables.vectors(values_ND), present, status], schema=feature_tables.schema(values_ND.shape[1])
        ),
    )
    parquet.write(job.folder / feature_tables.FAILURES, failures.table(rows))
    job.finish(
        {
            "modality": modality,
            "encoder": ENCODER,
            "dim": values_ND.shape[1],
            "provenance": {
                "encoder": f"a file of the layout {imported.layout}",
                "revision": f"sha256 {imported.sha256}",
                "licence": "not stated in the file",
                "training_data_overlap": imported.learnt.get(modality, "not stated in the file"),
                **({"tag": adapted.TAG} if modality in imported.learnt else {}),
            },
            "versions": provenance.versions(),
        }
    )


def _vectors(
    conversations: Sequence[Conversation], utterance_ids: Sequence[str]
) -> tuple[dict[str, NDArray[np.float32]], list[Failure]]:
    """All vectors of each modality; non-finite or zero vectors are absent, with a failure row that says so."""
    vectors: dict[str, NDArray[np.float32]] = {}
    absent: list[Failure] = []
    for modality in (one for one in MODALITIES if one in conversations[0].vectors):
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are found below
            values_ND = np.concatenate([one.vectors[modality] for one in conversations]).astype(np.float32)
        wrong_ND = ~np.isfinite(values_ND)
        for row in np.flatnonzero(wrong_ND.any(axis=1)).tolist():
            told = f"{int(wrong_ND[row].sum())} of {values_ND.shape[1]} numbers in the file are not finite in float32"
            absent.append(Failure(utterance_ids[row], "import", modality, "not_finite", told))
        values_ND[wrong_ND.any(axis=1)] = 0
        missing_N = _missing(conversations)
        absent += [
            Failure(utterance_ids[row], "import", modality, "vector_missing", "not in the file")
            for row in np.flatnonzero(missing_N).tolist()
        ]
        zeros_N = ~values_ND.any(axis=1) & ~wrong_ND.any(axis=1) & ~missing_N
        absent += [
            Failure(utterance_ids[row], "import", modality, "zero_vector", "all zeros in the file")
            for row in np.flatnonzero(zeros_N).tolist()
        ]
        vectors[modality] = values_ND
    return vectors, absent


def _missing(conversations: Sequence[Conversation]) -> NDArray[np.bool_]:
    """The utterances without a vector in the file."""
    flags = [np.isin(np.arange(len(one.labels)), one.missing) for one in conversations]
    return np.concatenate(flags)


def _source(path: Path, file: FeatureFile, corpus: str) -> str:
    """What the dataset card says about the corpus."""
    lines = [
        (
            f"Imported from the feature file `{path.name}`, layout *{file.layout}*. It holds no times: every utterance"
            " begins and ends at 0."
        ),
        "" if file.conversations[0].ids else "It holds no ids of utterances: `turn3` is the fourth of its dialogue.",
        _SPEAKERS[corpus == "iemocap", file.layout == meld_baseline.LAYOUT],
        "" if corpus != "meld" or file.conversations[0].sentiments else "Sentiments were not found in it.",
        _CORPORA[corpus],
    ]
    return " ".join(line for line in lines if line)


def _left_out(file: FeatureFile) -> list[str]:
    return (
        [
            f"{len(file.left_out)} dialogues of the file are in no split and were left out, the first is"
            f" {file.left_out[0]!r}"
        ]
        if file.left_out
        else []
    )


def summary(imported: Imported, out: Path) -> list[str]:
    """Lines on what was imported: layout, counts by split, absent vectors by reason, and each count that differs from
    the corpus's.
    """
    splits = imported.table["split"].to_pylist()
    starts = [splits[start] for start, _ in manifest.dialogue_bounds(imported.table)]
    lines = [f"{out}: {imported.corpus}, layout {imported.layout}"]
    lines += [
        f"  {split}: {starts.count(split)} dialogues, {splits.count(split)} utterances"
        for split in SPLITS
        if split in starts
    ]
    for modality, values_ND in imported.vectors.items():
        reasons = Counter(failure.reason for failure in imported.failures if failure.modality == modality)
        told = "".join(f"; {reason} {count}" for reason, count in sorted(reasons.items()))
        lines.append(
            f"  {modality}: {len(values_ND) - reasons.total()} of {len(values_ND)} utterances, {values_ND.shape[1]}"
            f" numbers each{told}"
        )
    return lines + [f"  differs: {line}" for line in imported.record["deviations"]]
