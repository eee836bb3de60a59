"""Dialogues and a label set become the manifest table."""

from collections.abc import Iterable
from dataclasses import asdict

import pyarrow as pa

from merc.corpora.engine.labels import LabelSet
from merc.records import manifest
from merc.records.dialogue import Dialogue

_FROM_UTTERANCE = (
    "source_utterance_id speaker text emotion sentiment valence arousal dominance start_seconds end_seconds video_path"
    " audio_path video_region video_start_seconds video_end_seconds audio_start_seconds audio_end_seconds audio_channel"
    " expected_seconds"
).split()


def build(
    corpus: str,
    dialogues: Iterable[Dialogue],
    labels: LabelSet,
    *,
    drop_unlabelled: bool = False,
    links: str = "follow",
) -> pa.Table:
    """Turns dialogues into the manifest table.

    Args:
        corpus: the dataset's name.
        dialogues: in the order of the table.
        labels: determines ``emotion_index``; its ``classes`` are stored in the schema's metadata.
        drop_unlabelled: leave out utterances whose emotion is outside the label set, and dialogues that become empty.
        links: ``follow`` or ``refuse``, for the readers of the media; ``refuse`` is stored in the schema's metadata.

    Raises:
        BadTable: if ids repeat, or for anything else that :func:`merc.records.manifest.check` finds.
    """
    columns: dict[str, list[object]] = {name: [] for name in manifest.SCHEMA.names}
    further: list[object] = []
    for dialogue in dialogues:
        kept = [
            utterance
            for utterance in dialogue.utterances
            if not drop_unlabelled or labels.index(utterance.emotion) >= 0
        ]
        speakers: dict[str, int] = {}
        for position, utterance in enumerate(kept):
            columns["corpus"].append(corpus)
            columns["split"].append(dialogue.split)
            columns["dialogue_id"].append(dialogue.dialogue_id)
            columns["utterance_id"].append(dialogue.utterance_id(utterance))
            columns["position"].append(position)
            columns["scenario"].append(dialogue.scenario)
            columns["speaker_index"].append(speakers.setdefault(utterance.speaker, len(speakers)))
            columns["source_speaker"].append(utterance.source_speaker or utterance.speaker)
            columns["text_characters"].append(len(utterance.text))
            columns["emotion_index"].append(labels.index(utterance.emotion))
            for name in _FROM_UTTERANCE:
                columns[name].append(getattr(utterance, name))
            further.append([asdict(span) for span in utterance.further_spans] or None)
    metadata = {
        "schema_version": manifest.SCHEMA_VERSION,
        "label_set": labels.name,
        "classes": ",".join(labels.classes),
    }
    schema = manifest.SCHEMA
    if any(further):
        schema, columns = schema.append(manifest.FURTHER_SPANS), columns | {manifest.FURTHER_SPANS.name: further}
    schema = schema.with_metadata(metadata if links == "follow" else metadata | {"links": links})
    table = pa.table({field.name: pa.array(columns[field.name], type=field.type) for field in schema}, schema=schema)
    manifest.check(table, corpus)
    return table
