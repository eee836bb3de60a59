"""Sequences below the utterance: written to a file, mapped from it, gathered into batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from merc import files
from merc.errors import BadSettings, BadTable, PipelineError
from merc.extraction import sequences
from merc.shards.format import reader
from merc.training.data.collate import collate, evaluation_batches
from merc.training.data.dataset import concatenated, read_split
from merc.training.data.sequences import condensed
from merc.training.data.splits import with_sequences

MODALITIES = ("text", "audio")


@pytest.fixture
def layout(make_shards, keep_frames):
    return keep_frames(make_shards(modalities=MODALITIES))


def read(layout, split="train", longest=4):
    return with_sequences(
        read_split(layout.shards, split, MODALITIES, 3), layout.shards, reader.info(layout.shards), longest
    )


def kept(layout, name):
    """utterance id → its frames, as written by the extraction."""
    return {
        utterance_id: vectors for utterance_id, vectors, _ in sequences.read(layout.features(name, f"{name}-encoder"))
    }


def shortened(vectors, longest):
    """Means of equal parts, part by part."""
    if len(vectors) <= longest:
        return vectors
    parts = [
        vectors[part * len(vectors) // longest : (part + 1) * len(vectors) // longest].astype(np.float64)
        for part in range(longest)
    ]
    return np.stack([part.mean(axis=0) for part in parts])


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_batch_has_the_frames_of_its_utterances_in_order(layout, split):
    found, chosen = read(layout, split), torch.tensor([5, 0, 7])
    batch = collate(found, chosen)
    ids = [
        found.utterance_ids[int(found.starts[index]) + step]
        for index in chosen
        for step in range(int(found.lengths[index]))
    ]
    for name in MODALITIES:
        expected = [shortened(kept(layout, name)[one], 4) for one in ids]
        values, mask = batch.sequences[name], batch.sequence_mask[name]
        assert values.dtype == torch.float32
        assert values.shape == (len(ids), max(map(len, expected)), found.dims[name])
        assert mask.sum(dim=1).tolist() == [len(one) for one in expected]
        assert mask.any(dim=1).tolist() == batch.modality_mask[name][batch.utterance_mask].tolist()
        assert not values[~mask].any()
        for row, one in enumerate(expected):
            np.testing.assert_allclose(values[row, : len(one)], one, atol=4e-3)  # half a step of float16 at 4


def test_splits_that_are_joined_find_their_frames(layout):
    info, parts = (
        reader.info(layout.shards),
        [read_split(layout.shards, split, MODALITIES, 3) for split in ("dev", "train")],
    )
    joined, apart = (
        with_sequences(concatenated(parts), layout.shards, info, 4),
        [with_sequences(part, layout.shards, info, 4) for part in parts],
    )
    for name in MODALITIES:
        found, _ = joined.sequences[name].gathered(torch.arange(joined.utterances))
        expected = torch.cat([part.sequences[name].gathered(torch.arange(part.utterances))[0] for part in apart])
        assert torch.equal(found, expected)


def test_without_being_asked_for_there_are_none(layout):
    batch = collate(read(layout, longest=None), torch.tensor([0, 1]))
    assert (batch.sequences, batch.sequence_mask) == ({}, {})


def test_utterances_that_all_lack_a_modality_have_one_entry_of_padding(layout):
    split = read(layout)
    row = int((~split.present["audio"][:-1]).nonzero()[0])
    values, mask = split.sequences["audio"].gathered(torch.tensor([row]))
    assert values.shape[:2] == (1, 1)
    assert not values.any()
    assert not mask.any()


def test_a_sequence_is_as_long_as_it_may_be(layout):
    lengths = {longest: read(layout, longest=longest).sequences["text"].counts for longest in (1, 4, 9)}
    for longest, counts in lengths.items():
        assert torch.equal(counts, lengths[9].clamp(max=longest))
    assert lengths[9].max() == 9


@pytest.mark.parametrize("length", [1, 4, 5, 7, 8, 31])
def test_a_shortened_sequence_holds_means_of_parts_that_differ_by_one_at_most(length):
    vectors = np.random.default_rng(0).normal(size=(length, 3)).astype(np.float16)
    found = condensed(vectors, 4)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, shortened(vectors, 4), atol=1e-3)


def test_the_file_is_made_once_and_another_when_the_features_change(layout):
    folder = layout.scratch / "sequences"
    read(layout)
    first = {path.name: (path / "values.float16").stat().st_mtime_ns for path in folder.iterdir()}
    assert {name.split("-")[0] for name in first} == set(MODALITIES)
    read(layout, "dev")
    assert {path.name: (path / "values.float16").stat().st_mtime_ns for path in folder.iterdir()} == first
    read(layout, longest=2)
    assert first.keys() < {path.name for path in folder.iterdir()}
    files.write_json(layout.features("text", "text-encoder") / "record.json", {"fingerprint": "f" * 64})
    with pytest.raises(BadTable, match="remake the shards"):
        read(layout)
    info = reader.info(layout.shards)
    info["encoders"]["text"]["fingerprint"] = "f" * 64
    files.write_json(layout.shards / "meta" / "info.json", info)
    read(layout)
    assert [path.name for path in folder.glob("text-*")] == [f"text-{'f' * 16}-4"]


def test_a_file_whose_writing_was_interrupted_is_written_again(layout):
    expected = read(layout).sequences["text"].values.clone()
    (folder,) = (layout.scratch / "sequences").glob("text-*")
    (folder / "utterances.parquet").unlink()
    (folder / "values.float16").write_bytes(b"half")
    assert torch.equal(read(layout).sequences["text"].values, expected)


def test_without_frames_it_is_said_how_to_get_them(make_shards):
    with pytest.raises(BadTable, match="--level sequences"):
        read(make_shards(modalities=MODALITIES))


def test_frames_of_another_length_than_the_vectors_are_refused(make_shards, keep_frames):
    layout = keep_frames(make_shards(modalities=MODALITIES), dims={"text": 3, "audio": 5})
    with pytest.raises(BadSettings, match="entries of 3 numbers and vectors of 6"):
        read(layout)
    assert not list((layout.scratch / "sequences").rglob("values.float16"))


def test_a_vector_without_frames_is_named(layout):
    split = read_split(layout.shards, "train", MODALITIES, 3)
    row = int((~split.present["text"][:-1]).nonzero()[0])
    wrong = replace(split, present={**split.present, "text": torch.ones_like(split.present["text"])})
    with pytest.raises(BadTable, match=f"{split.utterance_ids[row]} has 0 entries"):
        with_sequences(wrong, layout.shards, reader.info(layout.shards), 4)


def test_a_file_that_cannot_be_written_is_named(layout):
    layout.scratch.write_text("a file where a folder should be")
    with pytest.raises(PipelineError, match=r"cannot be written.*free some space"):
        read(layout)


def test_scoring_takes_fewer_dialogues_at_once(layout):
    split = read(layout)
    assert [len(batch.lengths) for batch in evaluation_batches(split)] == [8, 8, 8]
    assert [len(batch.lengths) for batch in evaluation_batches(replace(split, sequences={}))] == [24]


def test_a_split_that_goes_elsewhere_leaves_its_sequences_where_they_are(layout):
    moved = read(layout).to("meta")
    assert moved.sequences["text"].values.device.type == "cpu"
    assert collate(read(layout), torch.tensor([0])).to("meta").sequences["text"].device.type == "meta"
