import numpy as np
import pytest
import torch

from merc import parquet
from merc.errors import BadSettings, BadTable
from merc.shards.format import reader
from merc.training.data.dataset import (
    PRIOR_UTTERANCES,
    Standardisation,
    check_modalities,
    concatenated,
    normalised_by_speaker,
    read_split,
)


def test_a_split_holds_the_shards_row_after_row(make_shards):
    layout = make_shards()
    split = read_split(layout.shards, "dev", ["text", "visual"], classes=3)
    rows = reader.read_split(layout.shards, "dev").to_pylist()
    assert split.dialogue_ids == tuple(row["dialogue_id"] for row in rows)
    assert split.utterance_ids == tuple(one for row in rows for one in row["utterance_ids"])
    assert split.labels[:-1].tolist() == [one for row in rows for one in row["emotion_index"]]
    assert split.speakers[:-1].tolist() == [one for row in rows for one in row["speaker_index"]]
    assert split.present["visual"][:-1].tolist() == [one for row in rows for one in row["visual_present"]]
    np.testing.assert_array_equal(split.features["text"][:-1].numpy(), np.concatenate([row["text"] for row in rows]))
    for row, start, length in zip(rows, split.starts.tolist(), split.lengths.tolist(), strict=True):
        assert split.utterance_ids[start : start + length] == tuple(row["utterance_ids"])
    assert set(split.features) == {"text", "visual"}


def test_the_last_row_is_padding(make_shards):
    split = read_split(make_shards().shards, "dev", ["text"], classes=3)
    assert (
        split.labels[-1],
        split.speakers[-1],
        split.present["text"][-1],
        split.features["text"][-1].abs().sum(),
    ) == (-1, 0, False, 0)


def test_present_train_features_are_standardised_and_absent_ones_stay_zero(make_shards):
    layout = make_shards()
    standardisation = Standardisation.from_stats(reader.stats(layout.shards), ["audio"], limit=50.0)
    split = standardisation.apply_(read_split(layout.shards, "train", ["audio"], classes=3))
    present = split.present["audio"]
    assert 0 < present.sum() < split.utterances
    torch.testing.assert_close(split.features["audio"][present].mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(split.features["audio"][present].std(0, correction=0), torch.ones(5), atol=1e-5, rtol=0)
    assert split.features["audio"][~present].abs().sum() == 0


def test_a_constant_feature_becomes_zero_and_an_outlier_is_cut(make_shards):
    def change(split, rows):
        for row in rows:
            for vector in row["text"]:
                vector[0] = 3.0
        if split == "dev":
            rows[0]["text"][0][1], rows[0]["text_present"][0] = 1e6, True

    layout = make_shards(change=change)
    standardisation = Standardisation.from_stats(reader.stats(layout.shards), ["text"], limit=4.0)
    split = standardisation.apply_(read_split(layout.shards, "dev", ["text"], classes=3))
    assert split.features["text"][:, 0].abs().max() < 1e-5
    assert split.features["text"].abs().max() == 4.0


def test_identities_are_those_of_names_in_all_dialogues(make_shards):
    layout = make_shards()
    split = read_split(layout.shards, "train", ["text"], classes=3)
    names = [one for row in reader.read_split(layout.shards, "train").to_pylist() for one in row["speakers"]]
    assert len(set(names)) > 1
    order = list(dict.fromkeys(names))
    assert split.identities.tolist() == [*(order.index(name) for name in names), 0]


def test_speakers_of_two_splits_are_kept_apart(make_shards):
    layout = make_shards()
    train, dev = (read_split(layout.shards, name, ["text"], classes=3) for name in ("train", "dev"))
    both = concatenated([train, dev]).identities
    first = int(train.identities.max()) + 1
    assert both.tolist() == [*train.identities[:-1].tolist(), *(first + dev.identities[:-1]).tolist(), 0]


def by_hand(values_ND, present_N, identities_N):
    """The same, one speaker and one feature after the other."""
    found = torch.zeros_like(values_ND)
    for speaker in set(identities_N.tolist()):
        rows = [row for row in range(len(values_ND)) if present_N[row] and identities_N[row] == speaker]
        for feature in range(values_ND.shape[1]):
            heard = [float(values_ND[row, feature]) for row in rows]
            count = len(heard) + PRIOR_UTTERANCES
            mean = sum(heard) / count
            deviation = ((PRIOR_UTTERANCES + sum(one**2 for one in heard)) / count - mean**2) ** 0.5
            for row in rows:
                found[row, feature] = (float(values_ND[row, feature]) - mean) / deviation
    return found


def test_vectors_are_normalised_by_speaker():
    torch.manual_seed(0)
    identities_N = torch.tensor([0] * 7 + [1] + [2] * 40 + [0, 3])
    values_ND = torch.randn(50, 3) + 5 * torch.randn(4, 3)[identities_N]
    present_N = torch.rand(50) > 0.2
    values_ND[~present_N] = 0
    found = normalised_by_speaker(values_ND, present_N, identities_N)
    torch.testing.assert_close(found, by_hand(values_ND, present_N, identities_N), atol=1e-5, rtol=1e-5)
    assert not found[~present_N].any()


def test_a_speaker_who_is_silent_or_always_the_same_gives_numbers():
    values_ND, present_N = torch.ones(4, 2), torch.tensor([True, True, False, False])
    values_ND[2:] = 0
    found = normalised_by_speaker(values_ND, present_N, torch.tensor([0, 0, 1, 0]))
    assert found.isfinite().all()
    assert not found[2:].any()
    assert not normalised_by_speaker(torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool), torch.arange(3)).any()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_every_vector_is_normalised_by_speaker(make_shards, share):
    layout = make_shards()
    read, stats = (
        [read_split(layout.shards, "train", ["text", "audio"], classes=3) for _ in range(2)],
        reader.stats(layout.shards),
    )
    plain = Standardisation.from_stats(stats, ["text", "audio"], limit=50.0).apply_(read[0])
    mixed = Standardisation.from_stats(
        stats, ["text", "audio"], limit=50.0, speaker_shares={"audio": share, "visual": 0.5}
    ).apply_(read[1])
    whole = normalised_by_speaker(plain.features["audio"], plain.present["audio"], plain.identities)
    assert not torch.allclose(whole, plain.features["audio"], atol=1e-2)
    torch.testing.assert_close(mixed.features["audio"], (1 - share) * plain.features["audio"] + share * whole)
    torch.testing.assert_close(mixed.features["text"], plain.features["text"], atol=0, rtol=0)


def break_length(rows):
    rows[1]["speaker_index"] = [*rows[1]["speaker_index"], 0]


def test_vectors_of_several_row_groups_are_those_of_the_table_and_standardising_copies_none(make_shards):
    layout = make_shards()
    whole = reader.read_split(layout.shards, "train")
    path = next((layout.shards / "dialogues").glob("train-*"))
    parquet.write(path, whole, 3)
    split = read_split(layout.shards, "train", ["audio"], classes=3)
    np.testing.assert_array_equal(split.features["audio"][:-1].numpy(), np.concatenate(whole["audio"].to_pylist()))
    before = split.features["audio"].data_ptr()
    assert (
        Standardisation.from_stats(reader.stats(layout.shards), ["audio"], limit=4.0)
        .apply_(split)
        .features["audio"]
        .data_ptr()
        == before
    )


def break_label(rows):
    rows[1]["emotion_index"][0] = 3


def break_vector(rows):
    rows[1]["text"][0][2] = float("nan")


@pytest.mark.parametrize(
    ("fault", "words"),
    [(break_length, "entries in speaker_index"), (break_label, "emotion_index 3"), (break_vector, "not finite")],
)
def test_faulty_shards_are_refused_naming_the_dialogue(make_shards, fault, words):
    layout = make_shards(change=lambda split, rows: fault(rows) if split == "train" else None)
    with pytest.raises(BadTable, match=words) as raised:
        read_split(layout.shards, "train", ["text"], classes=3)
    assert "train/dia1" in str(raised.value)


def test_a_modality_that_is_not_there_is_named_next_to_those_that_are(make_shards):
    layout = make_shards(modalities=["text", "audio"])
    with pytest.raises(BadSettings, match=r"needs visual.*valid: audio, text"):
        check_modalities(["text", "visual"], reader.info(layout.shards), layout.shards)
