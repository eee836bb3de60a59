"""Ids, splits, speakers and labels of the files in the terms of our corpora."""

from dataclasses import replace
from typing import Any

import pytest

from merc.corpora import iemocap, meld
from merc.corpora.engine.labels import label_set
from merc.errors import BadSettings, BadTable
from merc.records.dialogue import Dialogue, Utterance
from merc.shards.circulation import layouts, naming, text_corpora


def test_the_ids_of_the_dialogues_tell_the_corpus(feature_files: Any) -> None:
    assert naming.corpus_of(layouts.read(feature_files.mmgcn())) == "iemocap"
    assert naming.corpus_of(layouts.read(feature_files.mmgcn_meld())) == "meld"


def test_the_text_corpora_of_cosmic_are_recognised_by_scenes_and_by_speakers(feature_files: Any) -> None:
    for make, corpus in (("cosmic_emorynlp", "emorynlp"), ("cosmic_dailydialog", "dailydialog")):
        file = layouts.read(getattr(feature_files, make)())
        assert naming.corpus_of(file) == corpus
        assert naming.label_set_of(file, corpus, None).name == corpus


def test_ids_that_tell_nothing_are_of_the_corpus_that_the_label_set_names(feature_files: Any) -> None:
    file = layouts.read(feature_files.cosmic_emorynlp())
    numbered = replace(
        file, conversations=tuple(replace(one, key=index) for index, one in enumerate(file.conversations))
    )
    with pytest.raises(
        BadTable, match=r"the dialogue 0 belongs to no known corpus: .*--label-set emorynlp or dailydialog"
    ):
        naming.corpus_of(numbered)  # not MELD, of which COSMIC's file has another layout
    assert naming.corpus_of(numbered, "emorynlp") == "emorynlp"
    other = layouts.read(feature_files.cosmic())
    corpus = naming.corpus_of(other, "emorynlp")
    with pytest.raises(BadSettings, match="'emorynlp' does not fit a file of iemocap"):
        naming.label_set_of(other, corpus, "emorynlp")


@pytest.mark.parametrize(
    ("make", "speakers", "emotions"),
    [
        ("cosmic_emorynlp", ["speaker_0", "speaker_1", "speaker_2"], ["joyful", "scared", "neutral"]),
        ("cosmic_dailydialog", ["speaker_0", "speaker_1", "speaker_0"], ["neutral", "happiness", "disgust"]),
    ],
)
def test_labels_are_counted_as_cosmic_counts_them(
    feature_files: Any, make: str, speakers: list[str], emotions: list[str]
) -> None:
    one = layouts.read(getattr(feature_files, make)()).conversations[0]
    corpus = make.removeprefix("cosmic_")
    dialogue = naming.dialogue_of(one, "train", label_set(corpus), corpus)
    assert dialogue.dialogue_id == f"train/{one.key}"
    assert [utterance.source_utterance_id for utterance in dialogue.utterances] == [
        f"{one.key}_turn{turn}" for turn in range(3)
    ]
    assert [utterance.speaker for utterance in dialogue.utterances] == speakers
    assert [utterance.emotion for utterance in dialogue.utterances] == emotions


def test_an_id_that_is_not_a_plain_name_is_refused(feature_files: Any) -> None:
    one = layouts.read(feature_files.cosmic_dailydialog()).conversations[0]
    with pytest.raises(BadTable, match=r"the id of a dialogue is '\.\./up'"):
        naming.dialogue_of(replace(one, key="../up"), "train", label_set("dailydialog"), "dailydialog")


@pytest.mark.parametrize("corpus", ["emorynlp", "dailydialog"])
def test_the_counts_of_the_text_corpora_give_no_deviation_and_others_do(corpus: str) -> None:
    counts = {split: dict(emotions) for split, emotions in text_corpora.EMOTIONS[corpus].items()}
    sizes = dict(text_corpora.DIALOGUES[corpus])
    assert naming.deviations(_dialogues(counts, sizes), corpus, label_set(corpus), "file") == []
    counts["dev"]["neutral"] -= 1
    total = sum(text_corpora.EMOTIONS[corpus]["dev"].values())
    assert naming.deviations(_dialogues(counts, sizes), corpus, label_set(corpus), "file") == [
        f"dev: {total - 1} utterances instead of {total}",
        f"dev: {counts['dev']['neutral']} utterances with emotion neutral instead of {counts['dev']['neutral'] + 1}",
    ]


def test_other_ids_are_refused(feature_files: Any) -> None:
    file = layouts.read(feature_files.mmgcn())
    other = replace(file.conversations[0], key="friends_1")
    with pytest.raises(BadTable, match="'friends_1' is not the id of an IEMOCAP dialogue"):
        naming.corpus_of(replace(file, conversations=(*file.conversations, other)))


def test_the_label_set_follows_from_the_highest_label_and_may_be_named(feature_files: Any) -> None:
    file = layouts.read(feature_files.mmgcn())  # has a 5
    assert naming.label_set_of(file, "iemocap", None).name == "iemocap6"
    four = replace(
        file,
        conversations=tuple(
            replace(one, labels=tuple(min(label, 3) for label in one.labels)) for one in file.conversations
        ),
    )
    assert naming.label_set_of(four, "iemocap", None).name == "iemocap4"
    assert naming.label_set_of(four, "iemocap", "iemocap6").name == "iemocap6"
    assert naming.label_set_of(layouts.read(feature_files.mmgcn_meld()), "meld", None).name == "meld7"


def test_a_label_set_that_does_not_fit_is_refused(feature_files: Any) -> None:
    file = layouts.read(feature_files.mmgcn())
    with pytest.raises(
        BadSettings, match=r"--label-set: 'meld7' does not fit a file of iemocap; .*valid: iemocap4, iemocap6"
    ):
        naming.label_set_of(file, "iemocap", "meld7")
    with pytest.raises(BadTable, match="label 5 is outside of iemocap4, which has 0 to 3: happy, sad, neutral, angry"):
        naming.label_set_of(file, "iemocap", "iemocap4")
    below = replace(file, conversations=(replace(file.conversations[0], labels=(-1, 0, 5)),))
    with pytest.raises(BadTable, match="label -1 is outside of iemocap6"):
        naming.label_set_of(below, "iemocap", None)


def test_the_splits_of_iemocap_are_the_files_and_dev_is_drawn_from_train(feature_files: Any) -> None:
    file = layouts.read(feature_files.mmgcn())
    keys = [one.key for one in file.conversations]
    val12 = dict(zip(keys, naming.splits_of(file, "iemocap", "val12", 0), strict=True))
    assert val12 == {"Ses01F_impro01": "train", "Ses01M_impro01": "dev", "Ses05F_impro01": "test"}
    none = dict(zip(keys, naming.splits_of(file, "iemocap", "none", 0), strict=True))
    assert none == {"Ses01F_impro01": "train", "Ses01M_impro01": "train", "Ses05F_impro01": "test"}


def test_a_file_that_has_dev_keeps_it(feature_files: Any) -> None:
    file = layouts.read(feature_files.cosmic())
    swapped = replace(
        file,
        conversations=tuple(
            replace(one, split={"train": "dev", "dev": "train"}.get(one.split, one.split)) for one in file.conversations
        ),
    )
    by_key = dict(
        zip([one.key for one in swapped.conversations], naming.splits_of(swapped, "iemocap", "val12", 0), strict=True)
    )
    assert by_key == {"Ses01F_impro01": "dev", "Ses01M_impro01": "train", "Ses05F_impro01": "test"}


def test_the_numbers_of_meld_tell_dev_from_train(feature_files: Any) -> None:
    file = layouts.read(feature_files.mmgcn_meld())
    found = {
        one.key: split
        for one, split in zip(file.conversations, naming.splits_of(file, "meld", "val12", 0), strict=True)
    }
    assert found == {0: "train", 61: "train", 1039: "dev", 1154: "test"}


@pytest.mark.parametrize(("key", "split"), [(1153, "train"), (1038, "test"), (1039, "test")])
def test_a_number_of_meld_in_another_split_than_the_files_is_refused(feature_files: Any, key: int, split: str) -> None:
    file = layouts.read(feature_files.mmgcn_meld())
    odd = replace(file, conversations=(replace(file.conversations[0], key=key, split=split),))
    with pytest.raises(BadTable, match=f"dialogue {key} is in {split}, but that number is of"):
        naming.splits_of(odd, "meld", "val12", 0)


def test_a_number_below_all_of_melds_is_refused(feature_files: Any) -> None:
    file = layouts.read(feature_files.mmgcn_meld())
    odd = replace(file, conversations=(replace(file.conversations[0], key=-1),))
    with pytest.raises(BadTable, match="the dialogue -1 belongs to no split"):
        naming.splits_of(odd, "meld", "val12", 0)


def test_a_dialogue_of_meld_gets_its_own_number_back(feature_files: Any) -> None:
    file = layouts.read(feature_files.mmgcn_meld())
    one = next(one for one in file.conversations if one.key == 1039)
    dialogue = naming.dialogue_of(one, "dev", label_set("meld7"), "meld")
    assert (dialogue.dialogue_id, dialogue.scenario) == ("dev/dia0", "")
    assert [utterance.source_utterance_id for utterance in dialogue.utterances] == [
        "dia0_utt0",
        "dia0_utt1",
        "dia0_utt4",
        "dia0_utt5",
    ]
    assert [utterance.speaker for utterance in dialogue.utterances] == [
        "speaker_1",
        "speaker_2",
        "speaker_0",
        "speaker_1",
    ]
    assert [utterance.emotion for utterance in dialogue.utterances] == ["neutral", "joy", "anger", "surprise"]
    assert [utterance.sentiment for utterance in dialogue.utterances] == ["neutral", "positive", "negative", "negative"]


def test_a_dialogue_of_iemocap_has_actors_and_a_scenario(feature_files: Any) -> None:
    file = layouts.read(feature_files.cosmic())
    dialogue = naming.dialogue_of(file.conversations[0], "train", label_set("iemocap6"), "iemocap")
    assert (dialogue.dialogue_id, dialogue.scenario) == ("train/Ses01F_impro01", "impro01")
    assert [utterance.source_utterance_id for utterance in dialogue.utterances] == [
        f"Ses01F_impro01_turn{turn}" for turn in range(3)
    ]
    assert [utterance.speaker for utterance in dialogue.utterances] == ["Ses01_F", "Ses01_M", "Ses01_F"]
    assert [utterance.emotion for utterance in dialogue.utterances] == ["frustrated", "happy", "neutral"]
    assert {(utterance.start_seconds, utterance.end_seconds) for utterance in dialogue.utterances} == {(0.0, 0.0)}


def test_a_third_speaker_of_iemocap_is_refused(feature_files: Any) -> None:
    one = layouts.read(feature_files.cosmic()).conversations[0]
    assert (
        naming.dialogue_of(replace(one, speakers=(0, 1, 0)), "train", label_set("iemocap6"), "iemocap")
        .utterances[1]
        .speaker
        == "Ses01_F"
    )
    with pytest.raises(BadTable, match="'Ses01F_impro01': a speaker in slot 2; IEMOCAP's are M and F"):
        naming.dialogue_of(replace(one, speakers=(0, 1, 2)), "train", label_set("iemocap6"), "iemocap")


@pytest.mark.parametrize("sentiments", [(1, 1, 2, 2), (0, 2, 2, 2), (0, 1, 3, 0), (0, 1, -1, 0)])
def test_sentiments_that_cannot_be_melds_are_left_out(feature_files: Any, sentiments: tuple[int, ...]) -> None:
    file = layouts.read(feature_files.mmgcn_meld())
    assert naming.without_other_sentiments(file) is file
    # labels are neutral, joy, anger, surprise
    odd = replace(
        file,
        conversations=(next(replace(one, sentiments=sentiments) for one in file.conversations if one.key == 1039),),
    )
    assert naming.without_other_sentiments(odd).conversations[0].sentiments == ()


def _dialogues(
    counts: dict[str, dict[str, int]], dialogues: dict[str, int], names: dict[str, list[str]] | None = None
) -> list[Dialogue]:
    """A number of dialogues of each split that together contain the emotions."""
    made = []
    for split, emotions in counts.items():
        spoken = [emotion for emotion, count in emotions.items() for _ in range(count)]
        for index in range(dialogues[split]):
            utterances = tuple(
                Utterance(source_utterance_id="", speaker="", text="", emotion=emotion, start_seconds=0, end_seconds=0)
                for emotion in spoken[index :: dialogues[split]]
            )
            made.append(
                Dialogue(
                    split=split,
                    source_dialogue_id=names[split][index] if names else f"dia{index}",
                    utterances=utterances,
                )
            )
    return made


def test_the_official_counts_of_meld_give_no_deviation_and_others_do() -> None:
    counts = {split: dict(expected.emotions) for split, expected in meld.EXPECTED.items()}
    sizes = {split: expected.dialogues for split, expected in meld.EXPECTED.items()}
    assert naming.deviations(_dialogues(counts, sizes), "meld", label_set("meld7"), "file") == []
    counts["dev"]["joy"] -= 1
    assert naming.deviations(_dialogues(counts, sizes), "meld", label_set("meld7"), "file") == [
        "dev: 1108 utterances instead of 1109",
        "dev: 162 utterances with emotion joy instead of 163",
    ]


@pytest.mark.parametrize("validation", ["val12", "file"])
def test_the_counts_of_the_benchmark_of_iemocap_give_no_deviation(validation: str) -> None:
    classes = label_set("iemocap6").classes
    per_class = iemocap.PER_CLASS["iemocap6"]
    counts = {split: dict(zip(classes, per_class[f"{split} of val12"], strict=True)) for split in ("train", "dev")} | {
        "test": dict(zip(classes, per_class["session 5"], strict=True))
    }
    sizes = {"train": 108, "dev": 12, "test": 31}
    assert naming.deviations(_dialogues(counts, sizes), "iemocap", label_set("iemocap6"), validation) == []
    counts["test"]["happy"] -= 1
    assert len(naming.deviations(_dialogues(counts, sizes), "iemocap", label_set("iemocap6"), validation)) == 1
