"""What a modality's features are made from, identified by hashes: the inputs in the fingerprint of everything that
depends on them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from merc import files, job
from merc.errors import BadTable

TEXT_COLUMNS = ("utterance_id", "dialogue_id", "speaker", "text")


def input_hashes(layout_media: Path, table: pa.Table, modality: str) -> dict[str, Any]:
    """What a modality's features are made from, for :class:`merc.job.Fingerprint`.

    For audio and faces, only what their own stream was decoded from and with, so features of audio stay valid when the
    faces are decoded later.

    Raises:
        BadTable: if the modality needs media and there are no finished ones, or they do not contain its stream.
    """
    if modality == "text":
        return {"manifest": files.digest_of_columns({name: table[name].to_pylist for name in TEXT_COLUMNS})}
    require_media(layout_media)
    record = files.read_record(layout_media / job.RECORD, job.Record, "the record of media")
    streams = record["inputs"].get("streams", {})
    if modality not in streams:
        raise BadTable(
            f"{layout_media}: the {modality} stream was not decoded, only {sorted(streams)}; run the media stage"
            " with it"
        )
    return media_hashes(record["settings"], record["inputs"], modality)


def media_hashes(settings: Mapping[str, Any], inputs: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """The same for media with this fingerprint, finished or not."""
    return {"media": files.digest({"settings": settings, "inputs": {**inputs, "streams": inputs["streams"][modality]}})}


def require_media(folder: Path) -> None:
    """Raises ``BadTable`` if there are no decoded media."""
    if not (folder / job.RECORD).is_file():
        raise BadTable(f"{folder}: there are no decoded media; run the media stage first")
