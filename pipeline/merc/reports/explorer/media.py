"""Copies of the chosen faces, one small image per dialogue, and, if permitted, of the audio.

A dialogue's image contains the middle crop of each utterance, in the order of the utterances, row by row:

    0  1  2 …  COLUMNS - 1
    COLUMNS …
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import files, parquet
from merc.errors import BadTable
from merc.job import RECORD
from merc.layout import Layout
from merc.reports.explorer import face_doubts
from merc.reports.explorer.corpus import Corpus
from merc.shown import visible

SIDE_PIXELS = 64
COLUMNS = 32
_QUALITY_PERCENT = 80
_Crop = NDArray[np.uint8]


@dataclass(frozen=True)
class Media:
    """What was copied for the utterances.

    Attributes:
        cells: place of an utterance's face in the image of its dialogue; -1 if it has none, or none was copied.
        heard: whether its audio was copied.
        doubts: utterance → why its face is doubtful; without utterances that have no face, or no doubts.
    """

    cells: NDArray[np.int64]
    heard: NDArray[np.bool_]
    doubts: dict[int, list[str]] = field(default_factory=dict)


def picture(home: Path, dialogue: int) -> Path:
    """Destination of the faces of a dialogue."""
    return home / "faces" / f"{dialogue}.jpg"


def sound(home: Path, utterance: int) -> Path:
    """Destination of the audio of an utterance."""
    return home / "sound" / f"{utterance}.flac"


def copy_media(layout: Layout, corpus: Corpus, home: Path, *, faces: bool, sounds: bool) -> Media:
    """Copies the stored media of the utterances, one row group at a time.

    Args:
        layout: layout of the dataset; without finished media nothing is copied.
        corpus: its utterances; the media may contain others, too.
        home: the folder to copy to.
        faces, sounds: whether to copy them.

    Raises:
        BadTable: if the media are damaged, or have another version.
        CannotWrite: if ``home`` cannot be written.
    """
    copying = _Copying(corpus, home)
    wanted = ["utterance_id", *face_doubts.COLUMNS, *["faces"] * faces, *["audio"] * sounds]
    for path, rows in _row_groups(layout, wanted):
        for place, row in zip(corpus.places(rows["utterance_id"]).tolist(), rows.to_pylist(), strict=True):
            if place >= 0:
                copying.take(place, row, path)
        copying.write(only_whole=True)
    copying.write(only_whole=False)
    return copying.found


class _Copying:
    """Copies while the media are read; keeps the small crops of dialogues that are not completely read yet."""

    def __init__(self, corpus: Corpus, home: Path) -> None:
        self._corpus, self._home = corpus, home
        self._left_K = corpus.lengths.copy()
        self._crops: dict[int, dict[int, _Crop]] = {}
        self.found = Media(np.full(corpus.utterances, -1), np.zeros(corpus.utterances, dtype=bool))

    def take(self, place: int, row: Mapping[str, Any], path: Path) -> None:
        """A row of the media table."""
        dialogue = int(np.searchsorted(self._corpus.bounds, place, side="right")) - 1
        self._left_K[dialogue] -= 1
        doubts = face_doubts.face_doubts(row)
        if doubts and row["visual_status"] == face_doubts.OK:
            self.found.doubts[place] = doubts
        if row.get("faces"):
            self._crops.setdefault(dialogue, {})[place] = _small(
                row["faces"][len(row["faces"]) // 2], row["utterance_id"], path
            )
        if row.get("audio"):
            _write(sound(self._home, place), row["audio"])
            self.found.heard[place] = True

    def write(self, *, only_whole: bool) -> None:
        """Writes the images of the completely read dialogues, or of all."""
        for dialogue in [one for one in self._crops if not only_whole or self._left_K[one] <= 0]:
            crops = dict(sorted(self._crops.pop(dialogue).items()))
            self.found.cells[list(crops)] = np.arange(len(crops))
            _write(picture(self._home, dialogue), _jpeg(list(crops.values())))


def _row_groups(layout: Layout, columns: Sequence[str]) -> Iterator[tuple[Path, pa.Table]]:
    for path in sorted(layout.media.glob("part-*.parquet")) if (layout.media / RECORD).is_file() else []:
        with parquet.opened(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise BadTable(
                    f"{path}: no column {missing[0]!r}; these media are of another version; remake them: merc-extract"
                    f" --dataset {layout.dataset}"
                )
            for group in range(file.num_row_groups):
                yield path, file.read_row_group(group, columns=list(columns))


def _small(crop: bytes, utterance_id: str, path: Path) -> _Crop:
    """A small crop in OpenCV's colour order."""
    read: Any = cv2.imdecode(np.frombuffer(crop, np.uint8), cv2.IMREAD_COLOR)
    if read is None:
        raise BadTable(f"{path}: a face of {visible(utterance_id)} is not a readable image; remake the media")
    small: _Crop = cv2.resize(read, (SIDE_PIXELS, SIDE_PIXELS), interpolation=cv2.INTER_AREA)
    return small


def _jpeg(crops: Sequence[_Crop]) -> bytes:
    columns = min(len(crops), COLUMNS)
    rows = -(-len(crops) // columns)
    sheet_HWC = np.zeros((rows * SIDE_PIXELS, columns * SIDE_PIXELS, 3), dtype=np.uint8)
    for cell, crop_HWC in enumerate(crops):
        top, left = cell // columns * SIDE_PIXELS, cell % columns * SIDE_PIXELS
        sheet_HWC[top : top + SIDE_PIXELS, left : left + SIDE_PIXELS] = crop_HWC
    return bytes(cv2.imencode(".jpg", sheet_HWC, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY_PERCENT])[1])


def _write(path: Path, content: bytes) -> None:
    """Writes to a folder that is flushed and moved into place only when the whole report is complete."""
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
