"""Shards become the files that research code unpacks, and can be restored from them without loss of what the layouts
hold.
"""

import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc import files
from merc.errors import BadSettings, BadTable, PipelineError
from merc.layout import Layout
from merc.shards.circulation.exporting import export
from merc.shards.circulation.importing import Imported, build
from merc.shards.config import Config
from merc.shards.format import reader

Pickled = Callable[..., Path]


@pytest.fixture
def shards(tmp_path: Path, read: Callable[..., Imported]) -> Callable[..., Path]:
    """Imports a file and returns the folder of its shards."""

    def make(path: Path, folder: str) -> Path:
        imported = read(path)
        layout = Layout(tmp_path / folder, tmp_path / folder, imported.corpus)
        build(imported, Config(), layout)
        return layout.shards

    return make


def _same(found: Any, wanted: Any) -> None:
    """Equal, with arrays compared by type and value; a NaN is equal to a NaN."""
    if isinstance(wanted, np.ndarray):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, dict):
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            _same(found[key], value)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            _same(one, other)
    else:
        assert (type(found), found) == (type(wanted), wanted)


@pytest.mark.parametrize(
    ("layout", "form"), [("mmgcn", "mmgcn"), ("mmgcn", "cogmen"), ("mmgcn_meld", "mmgcn"), ("idcl", "idcl")]
)
def test_a_file_comes_back_as_it_was(
    feature_files: Any, pickled: Pickled, shards: Callable[..., Path], tmp_path: Path, layout: str, form: Any
) -> None:
    content = getattr(feature_files, layout)()
    export(shards(pickled(content), "out"), tmp_path / "again.pkl", form)
    again = pickle.loads((tmp_path / "again.pkl").read_bytes())  # noqa: S301 - as research code does
    if form == "idcl":
        content = {
            split: [
                {name: list(value) if isinstance(value, np.ndarray) else value for name, value in one.items()}
                for one in content[split]
            ]
            for split in content
        }
    else:
        assert set(again[7]) == set(content[7])
        assert set(again[8]) == set(content[8])
        content, again = content[:7] + content[9:], again[:7] + again[9:]
    _same(again, content)


@pytest.mark.parametrize("absent", ["zeros", "nan"])
@pytest.mark.parametrize(("layout", "form"), [("mmgcn", "mmgcn"), ("mmgcn_meld", "mmgcn"), ("idcl", "idcl")])
def test_shards_come_back_from_a_file_as_they_were(
    feature_files: Any,
    pickled: Pickled,
    shards: Callable[..., Path],
    tmp_path: Path,
    layout: str,
    form: Any,
    absent: Any,
) -> None:
    content = getattr(feature_files, layout)()
    vectors = content["train"][0]["text"] if layout == "idcl" else content[3][content_key(content)]
    vectors[1][0] = np.nan
    before = shards(pickled(content), "before")
    done = export(before, tmp_path / "again.pkl", form, absent=absent)
    assert done.absent == {"text": 1, "audio": 0, "visual": 0}
    after = shards(tmp_path / "again.pkl", "after")
    for split in ("train", "dev", "test"):
        assert reader.read_split(before, split).equals(reader.read_split(after, split))


def content_key(content: Any) -> Any:
    """The first dialogue."""
    return next(iter(content[3]))


@pytest.mark.parametrize(("absent", "value"), [("zeros", 0.0), ("nan", np.nan)])
def test_what_stands_for_an_absent_vector_can_be_chosen(
    extracted: Any, tmp_path: Path, absent: Any, value: float
) -> None:
    made = extracted()
    made.write_features("audio", {0: "silence"})
    export(made.build(), tmp_path / "out.pkl", "mmgcn", absent=absent)
    audio = pickle.loads((tmp_path / "out.pkl").read_bytes())[4]  # noqa: S301
    np.testing.assert_array_equal(audio[0][0], np.full(3, value, np.float32))


def test_what_the_layouts_have_no_place_for_is_counted_and_all_else_is_kept(
    extracted: Any, shards: Callable[..., Path], tmp_path: Path
) -> None:
    # Of the alternating emotions neutral, joy, anger, boredom, boredom is outside the label set.
    before = extracted({"train": (4, 4), "dev": (2,), "test": (1, 1, 1, 1)}).build()
    done = export(before, tmp_path / "out.pkl", "mmgcn")
    assert (done.dialogues, done.utterances, done.unlabelled, done.emptied) == (6, 11, 3, 1)
    after = shards(tmp_path / "out.pkl", "after")
    for split in ("train", "dev", "test"):
        old, new = (reader.read_split(root, split) for root in (before, after))
        rows = {row["dialogue_id"]: row for row in new.to_pylist()}
        for row in old.to_pylist():
            kept = [turn for turn, index in enumerate(row["emotion_index"]) if index >= 0]
            if not kept:
                assert row["dialogue_id"] not in rows
                continue
            found = rows[row["dialogue_id"]]
            for name in (
                "utterance_ids",
                "source_utterance_ids",
                "texts",
                "emotions",
                "emotion_index",
                "text",
                "audio",
                "visual",
                "text_present",
            ):
                assert found[name] == [row[name][turn] for turn in kept], name
            assert found["speakers"] == [f"speaker_{row['speaker_index'][turn]}" for turn in kept]
            assert found["start_seconds"] == [0.0] * len(kept)


def test_the_dialogues_of_dev_are_the_first_that_code_takes_for_validation(extracted: Any, tmp_path: Path) -> None:
    root = extracted({"train": (1, 1, 1), "dev": (2, 2), "test": (2,)}).build()
    export(root, tmp_path / "out.pkl", "mmgcn")
    *_, train, test, _ = pickle.loads((tmp_path / "out.pkl").read_bytes())  # noqa: S301
    assert (train, test) == ([1039, 1040, 0, 1, 2], [1153])


def test_a_numpy_before_version_2_finds_its_functions(extracted: Any, tmp_path: Path) -> None:
    root = extracted().build()
    export(root, tmp_path / "out.pkl", "mmgcn")
    data = (tmp_path / "out.pkl").read_bytes()
    opcodes = list(pickletools.genops(data))
    assert {
        argument for opcode, argument, _ in opcodes if opcode.name == "GLOBAL" and argument.startswith("numpy")
    } == {
        "numpy.core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
    }
    assert data[:2] == b"\x80\x02"
    assert max(opcode.proto for opcode, _, _ in opcodes) == 2


def test_two_exports_give_the_same_bytes(extracted: Any, tmp_path: Path) -> None:
    root = extracted().build()
    for name in ("one", "other"):
        export(root, tmp_path / name, "mmgcn")
    assert files.sha256(tmp_path / "one") == files.sha256(tmp_path / "other")


def test_more_speakers_than_the_layout_has_places_are_refused(
    feature_files: Any, pickled: Pickled, shards: Callable[..., Path], tmp_path: Path
) -> None:
    content = feature_files.mmgcn_meld()
    content[1][0][0] = np.eye(12, dtype=int)[10].tolist()
    with pytest.raises(BadTable, match="train/dia0 has 11 speakers; the layout has only 9 slots"):
        export(shards(pickled(content), "out"), tmp_path / "again.pkl", "mmgcn")
    assert not (tmp_path / "again.pkl").exists()


def test_shards_that_a_layout_cannot_hold_are_refused(extracted: Any, tmp_path: Path) -> None:
    root = extracted(modalities=("text", "visual")).build()
    with pytest.raises(BadSettings, match="the layout mmgcn needs text, audio, visual; these shards have no audio"):
        export(root, tmp_path / "out.pkl", "mmgcn")
    with pytest.raises(BadSettings, match="the layout cogmen supports only IEMOCAP; write MELD as mmgcn"):
        export(root, tmp_path / "out.pkl", "cogmen")
    with pytest.raises(BadSettings, match="no format 'mmgnc'; did you mean 'mmgcn'"):
        export(root, tmp_path / "out.pkl", "mmgnc")  # type: ignore[arg-type]
    with pytest.raises(BadTable, match="not a folder of shards"):
        export(tmp_path, tmp_path / "out.pkl", "mmgcn")
    info = files.read_json(root / "meta" / "info.json")
    files.write_json(root / "meta" / "info.json", {**info, "label_set": "iemocap4_merged"})
    with pytest.raises(
        BadSettings, match="labels of iemocap6, iemocap4, meld7; these shards have iemocap4_merged: neutral"
    ):
        export(root, tmp_path / "out.pkl", "mmgcn")


@pytest.mark.parametrize(
    ("name", "label_set", "message"),
    [("dia0", "iemocap6", "'dia0' is not the id of an IEMOCAP"), ("", "meld7", "numbers dialogues")],
)
def test_ids_that_are_not_the_corpuss_are_refused(
    extracted: Any,
    feature_files: Any,
    pickled: Pickled,
    shards: Callable[..., Path],
    tmp_path: Path,
    name: str,
    label_set: str,
    message: str,
) -> None:
    root = extracted().build() if name else shards(pickled(feature_files.mmgcn()), "out")
    info = files.read_json(root / "meta" / "info.json")
    files.write_json(root / "meta" / "info.json", {**info, "label_set": label_set})
    with pytest.raises(BadSettings, match=message):
        export(root, tmp_path / "out.pkl", "mmgcn")


def test_a_file_that_cannot_be_written_is_named(extracted: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=r"out\.pkl cannot be written"):
        export(extracted().build(), tmp_path / "file" / "out.pkl", "mmgcn")
