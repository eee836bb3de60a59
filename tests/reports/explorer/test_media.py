"""Copies of faces and audio."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from merc import parquet
from merc.errors import BadTable
from merc.layout import Layout
from merc.reports.explorer.corpus import read_corpus
from merc.reports.explorer.media import SIDE_PIXELS, Media, copy_media, picture, sound

WriteFaces = Callable[..., None]


def _copy(layout: Layout, home: Path, *, faces: bool = True, sounds: bool = False) -> Media:
    return copy_media(layout, read_corpus(layout.shards, texts=False), home, faces=faces, sounds=sounds)


def test_a_dialogue_has_one_image_with_a_face_of_each_utterance_that_has_one(
    layout: Layout, write_faces: WriteFaces, tmp_path: Path
) -> None:
    write_faces(layout, without=["test/dia0_utt1", "train/dia0_utt3", "train/dia2_utt0"])
    media = _copy(layout, tmp_path / "home")
    assert media.cells.tolist() == [0, -1, 1, 0, 1, 0, 1, 0, 1, 2, -1, 0, 1, 2, -1]
    assert not media.heard.any()
    assert sorted(path.name for path in (tmp_path / "home").rglob("*.*")) == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "4.jpg",
    ]
    sheet = cv2.imread(str(picture(tmp_path / "home", 0)))
    assert sheet.shape == (SIDE_PIXELS, 2 * SIDE_PIXELS, 3)
    greys = sheet.mean(axis=(0, 2)).reshape(2, SIDE_PIXELS).mean(axis=1)
    ids = [
        f"{split}/dia{k}_utt{at}"
        for split, lengths in {"train": [4, 3, 1], "dev": [2], "test": [3, 2]}.items()
        for k, n in enumerate(lengths)
        for at in range(n)
    ]
    assert greys == pytest.approx(
        [20 * (ids.index(one) % 12) + 10 for one in ("test/dia0_utt0", "test/dia0_utt2")], abs=3
    )


def test_faces_beyond_doubt_and_those_that_are_not_there_are_not_doubtful(
    layout: Layout, write_faces: WriteFaces, tmp_path: Path
) -> None:
    write_faces(layout, without=["test/dia0_utt1"], doubtful=["test/dia0_utt1", "test/dia0_utt2"])
    assert _copy(layout, tmp_path / "home", faces=False).doubts == {2: ["in 20 % of the frames"]}
    assert not (tmp_path / "home").exists()


def test_the_audio_is_copied_as_it_is_where_that_is_asked_for(
    layout: Layout, write_faces: WriteFaces, tmp_path: Path
) -> None:
    write_faces(layout)
    media = _copy(layout, tmp_path / "home", sounds=True)
    assert media.heard.all()
    assert (
        sound(tmp_path / "home", 3).read_bytes()
        == parquet.read(layout.media / "part-00000.parquet")["audio"][13 - 3].as_py()
    )


def test_a_long_dialogue_has_its_faces_in_several_rows(
    write_shards: Callable[..., Layout], write_faces: WriteFaces, tmp_path: Path
) -> None:
    layout = write_shards(dialogues={"train": [("train/dia0", [0] * 70)]})
    write_faces(layout)
    assert _copy(layout, tmp_path / "home").cells.tolist() == [*range(70)]
    assert cv2.imread(str(picture(tmp_path / "home", 0))).shape == (3 * SIDE_PIXELS, 32 * SIDE_PIXELS, 3)


def test_unfinished_media_are_not_looked_at_and_others_are_no_fault(
    layout: Layout, write_faces: WriteFaces, tmp_path: Path
) -> None:
    write_faces(layout)
    (layout.media / "record.json").unlink()
    assert (_copy(layout, tmp_path / "home").cells == -1).all()
    write_faces(layout)
    table = parquet.read(layout.media / "part-00000.parquet")
    ids = np.array(table["utterance_id"].to_pylist(), dtype=object)
    ids[0] = "of other shards"
    parquet.write(layout.media / "part-00000.parquet", table.set_column(0, table.schema.field(0), [ids.tolist()]))
    assert np.count_nonzero(_copy(layout, tmp_path / "home").cells < 0) == 1


def test_media_of_another_version_and_faces_that_are_invalid_are_reported(
    layout: Layout, write_faces: WriteFaces, tmp_path: Path
) -> None:
    write_faces(layout)
    path = layout.media / "part-00000.parquet"
    table = parquet.read(path)
    parquet.write(path, table.drop_columns(["off_screen"]))
    with pytest.raises(
        BadTable,
        match=(r"no column 'off_screen'; these media are of another version; remake them: merc-extract --dataset tiny"),
    ):
        _copy(layout, tmp_path / "home")
    column = table.schema.get_field_index("faces")
    parquet.write(
        path,
        table.set_column(
            column,
            table.schema.field(column),
            pa.array([[b"no picture"]] * len(table), table.schema.field(column).type),
        ),
    )
    with pytest.raises(BadTable, match=r"a face of train/dia0_utt0 is not a readable image"):
        _copy(layout, tmp_path / "home")
