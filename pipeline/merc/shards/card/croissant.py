"""``croissant.json``: describes the shards in the metadata format of MLCommons (Croissant 1.1), so that other tools can
read them.

A file per Parquet file with its sha256, a file set and a record set per table, a field per column. The specification
also requires a web page, an author and a date of publication: shards have none of them, since they must not be
published. https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from merc import files, parquet
from merc.layout import MODALITIES
from merc.records.audit import PREFIX, QUALITY
from merc.shards.format.row_groups import TABLES
from merc.shown import visible

NAME = "croissant.json"
_PARQUET = "application/x-parquet"  # Croissant's name for it; its readers know no other one
# The context of the specification, verbatim; tools look up its keys.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_MEANING = {
    "corpus": "name of the corpus",
    "split": "train, dev or test, as defined by the corpus's authors",
    "dialogue_id": "unique; begins with the split",
    "scenario": "dialogues with the same one share a script or a task; empty where there is none",
    "n_utterances": "length of every list of the row",
    "n_speakers": "number of speakers",
    "utterance_ids": "unique; begin with the split",
    "source_utterance_ids": "the corpus's own ids",
    "speakers": "who speaks",
    "speaker_index": "number of the speaker in the dialogue, by first appearance",
    "texts": "transcripts; must not be passed on",
    "emotions": "the corpus's emotion",
    "emotion_index": "index in the label set; -1: outside it",
    "sentiments": "positive, negative or neutral; empty where the corpus has none",
    "valence": "on the corpus's scale; null where it has none",
    "arousal": "on the corpus's scale; null where it has none",
    "dominance": "on the corpus's scale; null where it has none",
    "start_seconds": "start of the utterance in its recording, according to the corpus",
    "end_seconds": "end of the utterance in its recording, according to the corpus",
    "trajectory": "the labels in order; -1: unlabelled",
    "speaker_names": "the speakers by first appearance",
    "speaker_trajectories": "the labels of each of speaker_names",
    "shifts": "how often a speaker's emotion differs from that of their previous utterance",
    "shift_pairs": "how many pairs of a speaker's utterances were compared for shifts",
    "utterance_id": "whose failure it is",
    "stage": "the stage of the pipeline that recorded it",
    "modality": "text, audio, visual, or all",
    "reason": "code of what happened",
    "kind": "broken, absent or altered",
    "detail": "the library's own words, or the numbers",
}
_SCALARS = {
    pa.string(): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.int8(): "cr:Int8",
    pa.int16(): "cr:Int16",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.float32(): "cr:Float32",
    pa.float64(): "cr:Float64",
}


def write_croissant(
    root: Path, info: Mapping[str, Any], title: str, description: str, checksums: Mapping[str, Mapping[str, Any]]
) -> None:
    """Writes ``croissant.json`` of the shards in ``root``; the same shards give the same bytes.

    Args:
        root: folder of the shards.
        info: their ``meta/info.json``.
        title: title of the dataset.
        description: what it is and how it may be used.
        checksums: file → ``sha256`` and ``bytes``, for every Parquet file.
    """
    paths = {table: [name for name in sorted(checksums) if name.startswith(f"{table}/")] for table in TABLES}
    there = {table: names for table, names in paths.items() if names}
    metadata = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": title,
        "description": description,
        "license": "other: that of the corpus, which forbids passing it on",
        **({"citeAs": visible(info["source"])} if info.get("source") else {}),
        "version": info["versions"]["merc-pipeline"],
        "distribution": (
            [_file(name, checksums[name]) for names in there.values() for name in names]
            + [_file_set(table) for table in there]
        ),
        "recordSet": [_record_set(table, parquet.schema(root / names[0]), info) for table, names in there.items()],
    }
    files.write_json(root / NAME, metadata)


def _file(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{facts['bytes']} B",
        "encodingFormat": _PARQUET,
        "sha256": facts["sha256"],
    }


def _file_set(table: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{table}-files",
        "name": f"{table}-files",
        "encodingFormat": _PARQUET,
        "includes": f"{table}/*.parquet",
    }


def _record_set(table: str, schema: pa.Schema, info: Mapping[str, Any]) -> dict[str, Any]:
    key = {"key": {"@id": f"{table}/dialogue_id"}} if "dialogue_id" in schema.names else {}
    return {"@type": "cr:RecordSet", "@id": table, "name": table, **key, "field": list(_fields(table, schema, info))}


def _fields(table: str, schema: pa.Schema, info: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for column in schema:
        kind, shape = column.type, []
        while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            shape.append(kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
            kind = kind.value_type
        if kind not in _SCALARS:
            raise ValueError(f"{table}.{column.name}: {kind} has no name in Croissant")
        yield {
            "@type": "cr:Field",
            "@id": f"{table}/{column.name}",
            "name": column.name,
            "description": _meaning(column.name, info),
            "dataType": _SCALARS[kind],
            **({"isArray": True, "arrayShape": ",".join(map(str, shape))} if shape else {}),
            "source": {"fileSet": {"@id": f"{table}-files"}, "extract": {"column": column.name}},
        }


def _meaning(column: str, info: Mapping[str, Any]) -> str:
    if column in MODALITIES:
        return (
            f"a vector per utterance by {visible(str(info['encoders'][column].get('name', 'an encoder')))}; all zeros"
            f" where {column}_present is false"
        )
    if column.removeprefix(PREFIX) in QUALITY:
        return f"{QUALITY[column.removeprefix(PREFIX)]}; null where unknown"
    if column.removesuffix("_present") in MODALITIES:
        return f"whether there is a vector in {column.removesuffix('_present')}"
    if column.startswith("neighbours_"):
        return f"the nearest dialogues of the same split by {column.removeprefix('neighbours_')}, best first"
    if column.startswith("similarity_"):
        return f"how similar each of neighbours_{column.removeprefix('similarity_')} is"
    return _MEANING.get(column, column.replace("_", " "))
