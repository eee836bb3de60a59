"""The layouts: distinguished by their structure, and each contradiction within a file refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from merc.errors import BadSettings, BadTable
from merc.shards.circulation import layouts


@pytest.mark.parametrize(
    ("make", "layout", "has_dev"),
    [
        ("mmgcn", "mmgcn", False),
        ("mmgcn_meld", "mmgcn_meld", False),
        ("bc_lstm_meld", "bc_lstm_meld", False),
        ("cosmic", "cosmic", True),
        ("cosmic_emorynlp", "cosmic", True),
        ("cosmic_dailydialog", "cosmic", True),
        ("sdt", "sdt", False),
        ("sdt_meld", "sdt_meld", False),
    ],
)
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_layout_is_found_by_its_structure(
    feature_files: Any, make: str, layout: str, has_dev: bool, kind: type
) -> None:
    found = layouts.read(kind(getattr(feature_files, make)()))
    assert (found.layout, found.has_dev) == (layout, has_dev)


def test_the_dictionaries_of_idcl_are_found(feature_files: Any) -> None:
    found = layouts.read(feature_files.idcl())
    assert (found.layout, found.has_dev) == ("idcl", True)
    assert [(one.key, one.split) for one in found.conversations] == list(
        zip(feature_files.iemocap, ("train", "dev", "test"), strict=True)
    )


def test_every_entry_of_a_dialogue_is_read(feature_files: Any) -> None:
    content = feature_files.mmgcn_meld()
    one = next(one for one in layouts.read(content).conversations if one.key == 1039)
    assert (one.split, one.ids, one.labels, one.sentiments) == ("train", (0, 1, 4, 5), (0, 4, 6, 1), (0, 1, 2, 2))
    assert one.speakers == (1, 2, 0, 1)
    assert one.sentences == tuple(f"Line {turn} of 1039." for turn in range(4))
    for modality, entry in (("text", 3), ("audio", 4), ("visual", 5)):
        np.testing.assert_array_equal(one.vectors[modality], np.stack(content[entry][1039]))


def test_the_text_of_cosmic_is_the_mean_of_its_layers_or_one_of_them(feature_files: Any) -> None:
    content = feature_files.cosmic()
    key = feature_files.iemocap[0]
    layer = [np.stack(content[entry][key]).astype(np.float64) for entry in range(2, 6)]
    np.testing.assert_allclose(
        layouts.read(content).conversations[0].vectors["text"],
        (layer[0] + layer[1] + layer[2] + layer[3]) / 4,
        rtol=1e-12,
    )
    np.testing.assert_array_equal(layouts.read(content, "3").conversations[0].vectors["text"], layer[2])


def test_the_sentiments_of_cosmic_for_meld_are_read(feature_files: Any) -> None:
    meld = feature_files.mmgcn_meld()
    content = [
        meld[1],
        meld[2],
        meld[9],
        *(feature_files.vectors(feature_files.meld, 6) for _ in range(4)),
        meld[6],
        [0, 61],
        [1154],
        [1039],
    ]
    found = layouts.read(content)
    assert found.layout == "cosmic_meld"
    assert [(one.key, one.split) for one in found.conversations] == [
        (0, "train"),
        (61, "train"),
        (1039, "dev"),
        (1154, "test"),
    ]
    assert found.conversations[2].sentiments == (0, 1, 2, 2)


@pytest.mark.parametrize(
    "extra", [None, {}, {0: "something else"}, [1, 2], {0: [0, 1, 2]}, {0: [0], 61: [0], 1039: [0], 1154: [0]}]
)
def test_an_unknown_last_entry_of_mmgcn_is_passed_over(feature_files: Any, extra: Any) -> None:
    content = feature_files.mmgcn_meld()
    content[9] = extra
    assert layouts.read(content).conversations[0].sentiments == ()


def test_numbers_written_as_text_are_the_same_ids(feature_files: Any) -> None:
    content = [
        {str(key): value for key, value in entry.items()} if isinstance(entry, dict) else [str(key) for key in entry]
        for entry in feature_files.mmgcn_meld()
    ]
    assert {one.key for one in layouts.read(content).conversations} == set(feature_files.meld)


def test_speakers_may_be_one_hot_for_iemocap_as_well(feature_files: Any) -> None:
    content = feature_files.mmgcn()
    content[1] = {key: np.array([[1, 0] if one == "M" else [0, 1] for one in row]) for key, row in content[1].items()}
    assert layouts.read(content).conversations[0].speakers in ((1, 0, 1), (1, 0))


def test_dialogues_in_no_split_are_named(feature_files: Any) -> None:
    content = feature_files.mmgcn()
    content[8] = []
    assert layouts.read(content).left_out == (feature_files.iemocap[2],)


def _set(entry: int, key: Any, value: Any) -> Callable[[list[Any]], None]:
    def change(content: list[Any]) -> None:
        content[entry][key] = value

    return change


def _entry(entry: int, value: Any) -> Callable[[list[Any]], None]:
    def change(content: list[Any]) -> None:
        content[entry] = value

    return change


FIRST = "Ses01F_impro01"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _set(3, FIRST, [np.zeros(5)] * 2),
            "differ in length: ids 3, speakers 3, labels 3, sentences 3, text 2, audio 3, visual 3",
        ),
        (_set(2, FIRST, [1]), "differ in length: .*labels 1"),
        (_set(6, FIRST, ["a"] * 4), "differ in length: .*sentences 4"),
        (_set(3, FIRST, [np.zeros(5), np.zeros(4), np.zeros(5)]), "text: its rows differ in length"),
        (_set(4, FIRST, [np.zeros(7)] * 3), "'Ses01F_impro01': audio has 7 features|audio has 4 features"),
        (_set(5, FIRST, [["x"] * 3] * 3), "visual is an array of <U1 .*instead of numbers"),
        (_set(5, FIRST, np.zeros((3, 1, 3))), r"of the shape \(3, 1, 3\) instead of numbers"),
        (_set(5, FIRST, np.zeros((3, 0))), "instead of numbers"),
        (_set(2, FIRST, [1, 2, None]), "labels are not whole numbers"),
        (_set(2, FIRST, [1, 2, 0.5]), "labels are not whole numbers"),
        (_set(1, FIRST, ["F", "M", "X"]), "speaker 'X' is neither M nor F"),
        (_set(1, FIRST, [[1, 1], [0, 1], [0, 1]]), r"speaker '\[1, 1\]' is neither"),
        (_set(1, FIRST, [[0, 0], [0, 1], [0, 1]]), r"speaker '\[0, 0\]' is neither"),
        (_set(6, FIRST, ["a", "b", 3]), "sentences are not all text"),
        (_set(6, FIRST, "abc"), "sentences is a str instead of a list"),
        (_set(0, FIRST, ["a", "b", None]), "utterance ids are neither names nor numbers"),
        (_entry(7, {FIRST, "Ses01F_impro07"}), "'Ses01F_impro07' is in train, but not in ids"),
        (_entry(7, [FIRST, FIRST]), "twice in one"),
        (_entry(8, [FIRST]), "in two splits"),
        (_entry(7, "Ses01F_impro01"), r"train \(entry 8 of 9\) is a str instead of a list"),
        (_entry(7, [None]), "the id of a dialogue is 'None'"),
        (
            _entry(4, [1, 2]),
            (
                r"mmgcn is the closest, but audio \(entry 5 of 9\) is a list instead of vectors by dialogue; layouts"
                r" that can be read"
            ),
        ),
        (
            _entry(2, {}),
            (
                "no labels where they should be: mmgcn has them in entry 3 and bc_lstm_meld has them in entry 3;"
                " layouts that can be read"
            ),
        ),
        (lambda content: content.pop(), "8 entries"),
        (lambda content: (content.__setitem__(7, []), content.__setitem__(8, [])), "the file holds no dialogue"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    feature_files: Any, change: Callable[[list[Any]], Any], message: str
) -> None:
    content = feature_files.mmgcn()
    change(content)
    with pytest.raises(BadTable, match=message):
        layouts.read(content)


def _swap(one: int, other: int) -> Callable[[list[Any]], None]:
    def change(content: list[Any]) -> None:
        content[one], content[other] = content[other], content[one]

    return change


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (
            "sdt",
            _swap(6, 9),
            (
                r"sdt is the closest, but roberta4 \(entry 7 of 12\) is text by dialogue .*; sentences \(entry 10 of"
                r" 12\) is vectors by dialogue"
            ),
        ),
        ("sdt", _swap(2, 3), "12 entries, but no labels where they should be: sdt has them in entry 3"),
        ("sdt", _set(7, FIRST, [np.zeros(4)] * 2), "'Ses01F_impro01': its entries differ in length: .*audio 2"),
        ("sdt", _set(5, FIRST, [np.zeros(7)] * 3), "the layers of RoBERTa differ in shape"),
        ("sdt_meld", _entry(11, [9999]), "the dialogue 9999 is in test, but not in ids"),
        (
            "sdt_meld",
            lambda content: content.append({}),
            "the file holds 14 entries; layouts that can be read: .*sdt_meld .13 entries.",
        ),
        ("bc_lstm_meld", _swap(4, 5), r"bc_lstm_meld is the closest, but audio \(entry 5 of 9\) is text by dialogue"),
        ("bc_lstm_meld", _set(5, 0, ["a"] * 2), "dialogue 0: its entries differ in length: .*sentences 2"),
        (
            "cosmic_emorynlp",
            _swap(1, 6),
            (
                "10 entries, but no labels where they should be: mmgcn_meld has them in entry 3 and cosmic has them in"
                " entry 2"
            ),
        ),
        (
            "cosmic_dailydialog",
            _set(0, "tr_c0", ["0", "1", "2"]),
            "the speaker '2' is neither M nor F, neither 0 nor 1",
        ),
    ],
)
def test_entries_that_do_not_fit_are_reported_by_name_and_place(
    feature_files: Any, make: str, change: Callable[[list[Any]], Any], message: str
) -> None:
    content = getattr(feature_files, make)()
    change(content)
    with pytest.raises(BadTable, match=message):
        layouts.read(content)


def test_bc_lstms_nine_entries_are_not_mmgcns(feature_files: Any) -> None:
    content = feature_files.bc_lstm_meld()
    one = next(one for one in layouts.read(content).conversations if one.key == 1039)
    assert set(one.vectors) == {"text", "audio"}
    np.testing.assert_array_equal(one.vectors["audio"], np.stack(content[4][1039]))
    assert (one.sentences[3], one.sentiments) == ("Line 3 of 1039.", (0, 1, 2, 2))


@pytest.mark.parametrize("make", ["sdt", "sdt_meld"])
def test_the_text_of_sdt_is_its_first_layer_unless_another_is_asked_for(feature_files: Any, make: str) -> None:
    content = getattr(feature_files, make)()
    key = next(iter(content[0]))
    one, mean, third = (
        next(each for each in layouts.read(content, layer).conversations if each.key == key)
        for layer in (None, "mean", "3")
    )
    layer = [np.stack(content[entry][key]).astype(np.float64) for entry in range(3, 7)]
    np.testing.assert_array_equal(one.vectors["text"], layer[0])
    np.testing.assert_allclose(mean.vectors["text"], sum(layer) / 4, rtol=1e-12)
    np.testing.assert_array_equal(third.vectors["text"], layer[2])
    np.testing.assert_array_equal(one.vectors["audio"], np.stack(content[7][key]))
    np.testing.assert_array_equal(one.vectors["visual"], np.stack(content[8][key]))


def test_a_layer_of_a_file_without_layers_is_refused(feature_files: Any) -> None:
    for content in (feature_files.mmgcn(), feature_files.idcl()):
        with pytest.raises(
            BadSettings,
            match=(
                r"--roberta 2: the file has the layout (mmgcn|idcl), which has no RoBERTa layers; cosmic, cosmic_meld,"
                r" sdt"
            ),
        ):
            layouts.read(content, "2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", "the file holds a str; layouts that can be read"),
        (None, "the file holds a NoneType"),
        ({}, "a dictionary of nothing"),
        ({"train": [], "valid": []}, "a dictionary of train, valid"),
        ({"train": [], "dev": [], "test": []}, "no dialogue"),
        ({"train": 3, "dev": [], "test": []}, "train is a int instead of a list"),
        ({"train": [{"vid": "a"}], "dev": [], "test": []}, "train: dialogue 0 is not a dictionary of vid, speakers"),
        ([{}] * 9, "9 entries"),
    ],
)
def test_another_structure_is_refused(content: Any, message: str) -> None:
    with pytest.raises(BadTable, match=message):
        layouts.read(content)


def test_layers_of_cosmic_that_differ_in_shape_are_refused(feature_files: Any) -> None:
    content = feature_files.cosmic()
    content[4] = feature_files.vectors(feature_files.iemocap, 7)
    with pytest.raises(BadTable, match=r"layers of RoBERTa differ in shape: \(3, 6\), \(3, 6\), \(3, 7\)"):
        layouts.read(content)


def test_a_dialogue_twice_in_idcl_is_refused(feature_files: Any) -> None:
    content = feature_files.idcl()
    content["dev"] += content["train"]
    with pytest.raises(BadTable, match="in two splits, or twice in one"):
        layouts.read(content)
