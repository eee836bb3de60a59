"""How shards differ: matched by ids, whatever the order and files; every kind of change is reported and counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files, parquet
from merc.errors import BadTable
from merc.shards.config import Config as ShardsConfig
from merc.shards.diff import diff
from merc.shards.difference import VectorChange
from merc.shards.select import select

Change = Callable[[str, Callable[[dict[str, Any]], None]], None]
TRAIN = "dialogues/train-00000-of-00001.parquet"


@pytest.fixture
def before(sound: Path, tmp_path: Path) -> Path:
    """A copy of the shards from before ``change``."""
    select(sound, tmp_path / "before", ShardsConfig(row_group_dialogues=1, max_file_bytes=1))
    return tmp_path / "before"


def test_where_files_are_cut_makes_no_difference(sound: Path, before: Path) -> None:
    found = diff(sound, before)
    assert not found.differs
    assert {split: (one.dialogues.both, one.utterances.both) for split, one in found.splits.items()} == {
        "train": (3, 6),
        "dev": (1, 2),
        "test": (2, 4),
    }
    assert found.splits["train"].vectors == {
        "text": VectorChange(compared=6),
        "audio": VectorChange(compared=6),
        "visual": VectorChange(compared=5),
    }


def test_the_order_of_dialogues_makes_no_difference(sound: Path, before: Path) -> None:
    table = pq.read_table(sound / TRAIN)
    parquet.write(sound / TRAIN, table.take(pa.array([2, 0, 1])), 2)
    assert not diff(sound, before).differs
    assert not diff(before, sound).differs


def test_changed_vectors_are_measured(sound: Path, before: Path, change: Change, extracted: Any) -> None:
    was = np.array(pq.read_table(sound / TRAIN)["audio"].to_pylist()[2])
    now = was + np.array([[0.5, 0, 0], [0, -0.25, 0]])

    def how(columns: dict[str, Any]) -> None:
        columns["audio"][2] = now.tolist()

    change(TRAIN, how)
    cosines = (was * now).sum(axis=1) / np.sqrt((was**2).sum(axis=1) * (now**2).sum(axis=1))
    for one, other in ((before, sound), (sound, before)):
        found = diff(one, other)
        audio = found.splits["train"].vectors["audio"]
        assert (audio.compared, audio.changed, audio.worst) == (6, 2, "train/dia2_utt0")
        np.testing.assert_allclose(
            [audio.largest, audio.lowest_cosine, audio.mean_cosine], [0.5, cosines.min(), cosines.mean()], rtol=1e-6
        )
        assert found.differs
        assert not found.splits["train"].vectors["text"].differs
    assert diff(before, sound, tolerance=0.3).splits["train"].vectors["audio"].changed == 1
    assert not diff(before, sound, tolerance=0.6).differs


def test_a_vector_that_became_nan_is_changed(sound: Path, before: Path, change: Change) -> None:
    def how(columns: dict[str, Any]) -> None:
        columns["audio"][1] = [[float("nan"), 0.0, 0.0]]

    change(TRAIN, how)
    audio = diff(before, sound, tolerance=1e9).splits["train"].vectors["audio"]
    assert (audio.changed, audio.worst) == (1, "train/dia1_utt0")
    assert np.isnan(audio.largest)


def test_presence_labels_texts_and_speakers_are_counted(sound: Path, before: Path, change: Change) -> None:
    def how(columns: dict[str, Any]) -> None:
        columns["visual"][0], columns["visual_present"][0] = [[1.0, 1.0]] * 3, [True, True, False]
        columns["emotion_index"][0], columns["emotion_index"][2] = [0, 4, 5], [3, -1]
        columns["texts"][1] = ["What?"]
        columns["speakers"][2] = ["Ross", "Ross"]
        columns["valence"][0] = [2.5, 1.0, None]
        columns["n_speakers"][2] = 1

    change(TRAIN, how)
    train = diff(before, sound).splits["train"]
    assert (train.vectors["visual"].gained, train.vectors["visual"].lost, train.vectors["visual"].compared) == (1, 1, 4)
    assert train.columns == {
        "n_speakers": (1, "train/dia2"),
        "speakers": (1, "train/dia2_utt1"),
        "texts": (1, "train/dia1_utt0"),
        "emotion_index": (2, "train/dia0_utt2"),
        "valence": (2, "train/dia0_utt1"),
    }
    assert not diff(before, sound).splits["test"].differs


def test_what_is_in_one_alone_is_named(sound: Path, before: Path, tmp_path: Path) -> None:
    config = ShardsConfig(row_group_dialogues=2, max_file_bytes=10_000)
    select(
        sound,
        tmp_path / "part",
        config,
        dialogues=["train/dia0", "train/dia2", "test/dia1"],
        modalities=["audio"],
        transcripts=False,
    )
    for one, other, swap in ((before, tmp_path / "part", 1), (tmp_path / "part", before, -1)):
        found = diff(one, other)
        assert found.differs
        assert found.only == (["dev"], [])[::swap]
        assert found.columns == (["texts", "text", "text_present", "visual", "visual_present"], [])[::swap]
        assert found.splits["train"].dialogues.both == 2
        assert found.splits["train"].dialogues.only == (1, 0)[::swap]
        assert found.splits["train"].dialogues.first == ("train/dia1", "")[::swap]
        assert found.splits["train"].failures == (1, 0)[::swap]
        assert found.splits["test"].trajectories == ["the whole table"]
        assert found.info == {}


def test_utterances_are_found_by_their_ids(sound: Path, before: Path, change: Change) -> None:
    def how(columns: dict[str, Any]) -> None:
        columns["utterance_ids"][0] = ["train/dia0_utt0", "train/dia0_utt9", "train/dia0_utt2"]
        for name in columns:  # the two utterances of a dialogue in the other order
            if isinstance(columns[name][2], list):
                columns[name][2] = columns[name][2][::-1]

    change(TRAIN, how)
    train = diff(before, sound).splits["train"]
    assert (train.utterances.both, train.utterances.only, train.utterances.first) == (
        5,
        (1, 1),
        ("train/dia0_utt1", "train/dia0_utt9"),
    )
    assert train.columns == {"utterance_ids": (1, "train/dia2_utt1")}
    assert not any(one.differs for one in train.vectors.values())


def test_what_made_them_is_compared_key_by_key(sound: Path, before: Path) -> None:
    info = files.read_json(sound / "meta" / "info.json")
    info["encoders"]["audio"]["revision"] = "4"
    info["encoders"]["audio"]["settings"]["scale"] = 2.0
    info["encoders"]["audio"]["fingerprint"] = "other"
    info["corpus_settings"]["label_set"] = "iemocap4"
    info["versions"]["numpy"] = "1.0"
    files.write_json(sound / "meta" / "info.json", info)
    found = diff(before, sound)
    assert found.info == {
        "corpus_settings.label_set": ("meld7", "iemocap4"),
        "encoders.audio.revision": ("3", "4"),
        "encoders.audio.settings.scale": (1.0, 2.0),
    }
    assert list(found.versions) == ["versions.numpy"]
    assert found.differs


def test_library_versions_alone_make_no_difference(sound: Path, before: Path) -> None:
    info = files.read_json(sound / "meta" / "info.json")
    files.write_json(sound / "meta" / "info.json", {**info, "versions": {**info["versions"], "numpy": "1.0"}})
    found = diff(before, sound)
    assert not found.differs
    assert found.versions["versions.numpy"][1] == "1.0"


def test_failures_and_trajectories_are_compared(sound: Path, before: Path, change: Change) -> None:
    def fail(columns: dict[str, Any]) -> None:
        columns["detail"][0] = "two characters"

    def move(columns: dict[str, Any]) -> None:
        columns["similarity_edit"][0] = [0.75, 0.5]

    change("failures/train-00000-of-00001.parquet", fail)
    change("trajectories/train-00000-of-00001.parquet", move)
    train = diff(before, sound).splits["train"]
    assert train.failures == (1, 1)
    assert train.trajectories == ["similarity_edit"]


def test_vectors_of_another_length_are_not_compared(extracted: Callable[..., Any]) -> None:
    one = extracted(modalities=("text", "audio"), folder="one").build()
    made = extracted(modalities=("text",), folder="other")
    made.vectors["audio"] = made.vectors["visual"]
    made.write_features("audio", {})
    audio = diff(one, made.build()).splits["train"].vectors["audio"]
    assert (audio.lengths, audio.compared, audio.differs) == ((3, 2), 0, True)


def test_lists_of_different_length_are_refused(sound: Path, before: Path, change: Change) -> None:
    def how(columns: dict[str, Any]) -> None:
        columns["texts"][2] = ["one"]

    change(TRAIN, how)
    for one, other in ((sound, before), (before, sound)):
        with pytest.raises(
            BadTable, match=r"train-00000-of-00001.parquet: train/dia2: 1 entries in texts for 2 utterances"
        ):
            diff(one, other)


def test_truncated_files_and_other_columns_are_refused(sound: Path, before: Path) -> None:
    whole = (sound / TRAIN).read_bytes()
    (sound / TRAIN).write_bytes(whole[: len(whole) // 2])
    for one, other in ((sound, before), (before, sound)):
        with pytest.raises(BadTable, match=r"train-00000-of-00001.parquet: not a Parquet file, or a damaged one"):
            diff(one, other)
    (sound / TRAIN).write_bytes(whole)
    pq.write_table(pq.read_table(sound / TRAIN).drop_columns(["texts"]), sound / TRAIN)
    with pytest.raises(BadTable, match=r"columns other than those in meta/info.json; `merc-shards validate"):
        diff(before, sound)


def test_the_order_of_trajectories_makes_no_difference(sound: Path, before: Path) -> None:
    name = "trajectories/train-00000-of-00001.parquet"
    parquet.write(sound / name, pq.read_table(sound / name).take(pa.array([1, 2, 0])), 2)
    assert not diff(sound, before).differs


def test_a_wholly_other_order_of_many_row_groups_makes_no_difference(
    extracted: Callable[..., Any], tmp_path: Path
) -> None:
    root = extracted({"train": (1, 2, 3) * 10}, modalities=("audio",)).build()
    select(root, tmp_path / "other", ShardsConfig(row_group_dialogues=1, max_file_bytes=1_000_000))
    path = tmp_path / "other" / TRAIN
    table = pq.read_table(path)
    parquet.write(path, table.take(pa.array(np.random.default_rng(3).permutation(30))), 1)
    for one, other in ((root, tmp_path / "other"), (tmp_path / "other", root)):
        found = diff(one, other)
        assert not found.differs
        assert (found.splits["train"].dialogues.both, found.splits["train"].vectors["audio"].compared) == (30, 60)
