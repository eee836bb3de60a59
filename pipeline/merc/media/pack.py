"""How audio, faces and rows are stored: FLAC, JPEG, and Parquet parts whose bytes depend only on their content."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from numpy.typing import NDArray

from merc import parquet
from merc.media.tables import SCHEMA
from merc.records.media import SAMPLE_RATE_HZ

# Encoders read a part in pieces of this many utterances: about 10 MB.
_ROW_GROUP_UTTERANCES = 64
_COMPRESSED_ALREADY = {"audio", "faces.list.element"}


def flac(waveform_S: NDArray[np.float32]) -> tuple[bytes, float]:
    """Audio as 16-bit FLAC.

    16 bits, because no corpus has more (IEMOCAP has 16, MELD's AAC effectively less), every reader supports them, and
    each encoder then gets exactly the same numbers; without dither, so that the same audio gives the same bytes.

    Args:
        waveform_S: (samples,) float32 at 16 kHz; values beyond full scale are limited.

    Returns:
        The file's bytes, and the share of samples that had to be limited.
    """
    scaled = np.round(waveform_S.astype(np.float64) * 2**15)
    limited = np.clip(scaled, -(2**15), 2**15 - 1)
    buffer = io.BytesIO()
    soundfile.write(buffer, limited.astype(np.int16), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    # 1.0 has no 16-bit value; audio that just reaches it is not counted as clipped.
    beyond = np.count_nonzero((scaled > 2**15) | (scaled < -(2**15)))
    return buffer.getvalue(), beyond / max(1, len(waveform_S))


def write_part(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the rows of one part, completely or not at all; audio and faces as they are, the other columns with
    zstd.
    """
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    leaves = [table_leaf for field in SCHEMA for table_leaf in _leaves(field)]
    parquet.write(
        path,
        table,
        _ROW_GROUP_UTTERANCES,
        use_dictionary=[
            "audio_status",
            "visual_status",
            "audio_channel_used",
            "audio_track_used",
            "video_track_used",
            "dialogue_id",
        ],
        compression={leaf: "none" if leaf in _COMPRESSED_ALREADY else "zstd" for leaf in leaves},
        write_statistics=[leaf for leaf in leaves if leaf not in _COMPRESSED_ALREADY],
    )


def _leaves(field: pa.Field) -> list[str]:
    return [f"{field.name}.list.element"] if pa.types.is_list(field.type) else [field.name]
