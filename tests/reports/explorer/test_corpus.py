"""What is read from the shards."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from merc import parquet
from merc.errors import BadTable
from merc.layout import Layout
from merc.records import failures
from merc.records.failures import Failure
from merc.reports.explorer.corpus import read_corpus, read_failed, read_neighbours

IDS = ["test/dia0", "test/dia1", "dev/dia0", "train/dia0", "train/dia1", "train/dia2"]


def test_what_recipes_speak_of_comes_first_and_arrays_are_flat(layout: Layout, retell: Callable[..., None]) -> None:
    retell(layout, {"test/dia0_utt1": ("Ann", "Hello"), "train/dia2_utt0": ("Bob", "")})
    corpus = read_corpus(layout.shards, texts=True)
    assert corpus.dialogue_ids.to_pylist() == IDS
    assert corpus.lengths.tolist() == [3, 2, 2, 4, 3, 1]
    assert corpus.bounds.tolist() == [0, 3, 5, 7, 11, 14, 15]
    assert corpus.labels.tolist() == [4, 0, 6, 4, 4, 0, -1, 0, 4, 4, 6, 0, 4, 6, 6]
    assert corpus.utterance_ids[1].as_py() == "test/dia0_utt1"
    assert corpus.speakers == ("Joey", "Ann", "Bob")
    assert corpus.speaker_of.tolist() == [0, 1, *[0] * 12, 2]
    assert corpus.texts is not None
    assert corpus.texts.to_pylist()[1] == "Hello"
    assert list(corpus.present) == ["text", "audio"]
    assert corpus.present["audio"].tolist() == [at != 3 and at != 10 for at in range(15)]
    assert corpus.places(pa.array(["nobody", "test/dia1_utt0"])).tolist() == [-1, 3]


def test_no_text_is_read_where_none_is_wanted(layout: Layout) -> None:
    assert read_corpus(layout.shards, texts=False).texts is None


def test_quality_columns_are_read_with_nan_for_what_is_not_known(layout: Layout) -> None:
    for path in (layout.shards / "dialogues").glob("*.parquet"):
        table = parquet.read(path)
        kind = pa.list_(pa.field("element", pa.float32()))
        values = [[None if at else 0.25 for at in range(size)] for size in table["n_utterances"].to_pylist()]
        parquet.write(
            path, table.append_column(pa.field("quality_asr_error", kind, nullable=False), pa.array(values, kind))
        )
    quality = read_corpus(layout.shards, texts=False).quality
    assert list(quality) == ["quality_asr_error"]
    assert quality["quality_asr_error"][0] == 0.25
    assert np.isnan(quality["quality_asr_error"][1])


def test_a_label_that_is_not_a_class_is_reported(write_shards: Callable[..., Layout], layout: Layout) -> None:
    path = next((layout.shards / "dialogues").glob("dev-*.parquet"))
    table = parquet.read(path)
    column = table.schema.get_field_index("emotion_index")
    parquet.write(
        path, table.set_column(column, table.schema.field(column), pa.array([[0, 7]], table.schema.field(column).type))
    )
    with pytest.raises(BadTable, match=r"a label outside the 7 classes; merc-shards validate says where"):
        read_corpus(layout.shards, texts=False)


def test_failures_are_in_the_order_of_the_utterances_and_those_of_others_are_left_out(layout: Layout) -> None:
    rows = [
        Failure("train/dia2_utt0", "media", "visual", "no_face", "0 of 8"),
        Failure("elsewhere", "media", "audio", "silence"),
    ]
    parquet.write(
        layout.shards / "failures" / "train-00000-of-00001.parquet", failures.table(one.row() for one in rows)
    )
    corpus = read_corpus(layout.shards, texts=False)
    failed = read_failed(layout.shards, corpus)
    told = list(
        zip(
            corpus.utterance_ids.take(pa.array(failed.utterance)).to_pylist(),
            failed.reasons,
            failed.modalities,
            failed.details,
            strict=True,
        )
    )
    assert told == [
        ("test/dia0_utt0", "truncated", "all", "kept 60 of 305 s"),
        ("test/dia1_utt0", "silence", "audio", ""),
        ("dev/dia0_utt0", "truncated", "all", "kept 60 of 305 s"),
        ("train/dia2_utt0", "no_face", "visual", "0 of 8"),
    ]


def test_the_nearest_are_given_by_number_and_only_train_has_some(layout: Layout) -> None:
    corpus = read_corpus(layout.shards, texts=False)
    neighbours = read_neighbours(layout.shards, corpus, 1)
    assert list(neighbours) == ["path", "edit"]
    (nearest, similarity), *more = neighbours["edit"][IDS.index("train/dia0")]
    assert (IDS[nearest], similarity, more) == ("train/dia1", 0.75, [])
    assert neighbours["edit"][: IDS.index("train/dia0")] == [[], [], []]


def test_a_neighbour_that_is_not_a_dialogue_is_reported(layout: Layout) -> None:
    path = layout.shards / "trajectories" / "train-00000-of-00001.parquet"
    table = parquet.read(path)
    column = table.schema.get_field_index("neighbours_path")
    strange = pa.array(
        [["train/gone\x1b"] * len(one) for one in table["neighbours_path"].to_pylist()], table.schema.field(column).type
    )
    parquet.write(path, table.set_column(column, table.schema.field(column), strange))
    with pytest.raises(BadTable, match=r"neighbours_path names 'train/gone\\x1b', which is not a dialogue of .*shards"):
        read_neighbours(layout.shards, read_corpus(layout.shards, texts=False))


def test_a_similarity_that_is_not_a_number_is_reported(layout: Layout) -> None:
    path = layout.shards / "trajectories" / "train-00000-of-00001.parquet"
    table = parquet.read(path)
    column = table.schema.get_field_index("similarity_path")
    strange = pa.array(
        [[float("nan")] * len(one) for one in table["similarity_path"].to_pylist()], table.schema.field(column).type
    )
    parquet.write(path, table.set_column(column, table.schema.field(column), strange))
    with pytest.raises(BadTable, match=r"similarity_path holds a value that is not a number"):
        read_neighbours(layout.shards, read_corpus(layout.shards, texts=False))


def test_without_trajectories_there_are_no_neighbours(layout: Layout) -> None:
    for path in (layout.shards / "trajectories").glob("*.parquet"):
        path.unlink()
    assert read_neighbours(layout.shards, read_corpus(layout.shards, texts=False)) == {}
