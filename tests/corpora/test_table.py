"""Your own corpus: what happens to each column, how splits are drawn, and what is refused."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merc.corpora.engine.base import Reading
from merc.corpora.stage import build_manifest, choose
from merc.corpora.table import Table
from merc.errors import BadSettings, BadTable, RawDataMissing
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params

SPLITS = ("train", "dev", "test")
BOTH = frozenset({"audio", "visual"})
Rows = list[dict[str, str]]
ROWS: Rows = [
    {
        "dialogue": "walk",
        "speaker": "Ann",
        "text": "Look, a heron.",
        "emotion": "glad",
        "split": "train",
        "video": "w1.mp4",
    },
    {
        "dialogue": "soup",
        "speaker": "Ann",
        "text": "It is cold.",
        "emotion": "cross",
        "split": "dev",
        "video": "s1.mp4",
    },
    {"dialogue": "walk", "speaker": "Bob", "text": "Where?", "emotion": "", "split": "train", "video": "w2.mp4"},
    {
        "dialogue": "work",
        "speaker": "Bob",
        "text": "Done!",
        "emotion": "unlabelled",
        "split": "Validation",
        "video": "k1.mp4",
    },
    {"dialogue": "end", "speaker": "Cem", "text": "Bye.", "emotion": "calm", "split": "test", "video": "e1.mp4"},
]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Reading]:
    """Writes a table and reads it: ``rows``; ``media`` wanted; ``there``: files to create; other settings by name,
    columns as ``columns={…}``.

    ``more``: further tables, by file name.
    """

    def make(
        rows: Rows = ROWS,
        media: frozenset[str] = frozenset(),
        there: tuple[str, ...] = (),
        splits: tuple[str, ...] = SPLITS,
        more: dict[str, Rows] | None = None,
        **settings: Any,
    ) -> Reading:
        root = tmp_path / "raw" / "own"
        (root / "media").mkdir(parents=True, exist_ok=True)
        for file, of_file in {"utterances.csv": rows, **(more or {})}.items():
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, list(of_file[0]))
            writer.writeheader()
            writer.writerows(of_file)
            (root / file).write_text(text.getvalue(), encoding="utf-8")
        for name in there:
            (root / "media" / name).touch()
        reader = Table(Params({"own": {"reader": "table", **settings}}).fill("own", Table.Config))
        return reader.read(root, tmp_path / "raw", media=media, splits=splits)

    return make


def _changed(row: int, **cells: str) -> Rows:
    return [{**one, **(cells if number == row else {})} for number, one in enumerate(ROWS)]


def test_rows_become_dialogues_by_split_in_the_order_of_the_table(read: Callable[..., Reading]) -> None:
    reading = read()
    assert [(one.dialogue_id, len(one.utterances)) for one in reading.dialogues] == [
        ("train/walk", 2),
        ("dev/soup", 1),
        ("dev/work", 1),
        ("test/end", 1),
    ]
    first, second = reading.dialogues[0].utterances
    assert (first.source_utterance_id, first.speaker, first.text, first.emotion, first.sentiment) == (
        "walk_0",
        "Ann",
        "Look, a heron.",
        "glad",
        "",
    )
    assert (second.source_utterance_id, second.speaker, second.emotion) == ("walk_1", "Bob", "unlabelled")
    assert (first.start_seconds, first.end_seconds, first.valence) == (0.0, 0.0, None)
    assert (first.video_path, first.audio_path) == ("own/media/w1.mp4", "own/media/w1.mp4")
    assert (first.video_start_seconds, first.audio_end_seconds) == (None, None)
    assert (reading.failures, reading.deviations) == ([], [])


def test_the_classes_are_those_of_the_table_by_alphabet_or_those_of_the_settings_in_their_order(
    read: Callable[..., Reading],
) -> None:
    for classes, settings in (
        (("calm", "cross", "glad"), {}),
        (("glad", "sad", "cross", "calm"), {"labels": ["glad", "sad", "cross", "calm"]}),
    ):
        labels = read(**settings).labels
        assert labels is not None
        assert (labels.name, labels.classes) == ("own", classes)
        assert labels.index("unlabelled") == -1


@pytest.mark.parametrize(
    ("written", "name"), [(("JOY", "Joy", "joy", "Joy"), "Joy"), (("JOY", "joy", "joy", "Very  Joy"), "joy")]
)
def test_spellings_that_differ_in_capitals_alone_are_one_class_by_the_most_frequent_and_that_is_reported(
    read: Callable[..., Reading], written: tuple[str, ...], name: str
) -> None:
    rows = [{**ROWS[0], "emotion": emotion} for emotion in (*written, "very joy", "very joy", "UNLABELLED")]
    reading = read(rows)
    assert reading.labels is not None
    assert reading.labels.classes == tuple(sorted((name, "very joy")))
    found = [one.emotion for one in reading.dialogues[0].utterances]
    assert found == [
        *("very joy" if one == "Very  Joy" else name for one in written),
        "very joy",
        "very joy",
        "unlabelled",
    ]
    ways = {
        "Joy": "3 ways: 'JOY' (1 utterance), 'Joy' (2 utterances), 'joy' (1 utterance)",
        "joy": "2 ways: 'JOY' (1 utterance), 'joy' (2 utterances)",
    }
    more = [
        "the emotion 'very joy' is written in 2 ways: 'Very  Joy' (1 utterance), 'very joy' (2 utterances) were taken"
        " for one"
    ]
    assert reading.deviations == [
        f"the emotion {name!r} is written in {ways[name]} were taken for one",
        *more * ("Very  Joy" in written),
    ]


def test_an_accent_may_be_written_as_one_character_or_two(read: Callable[..., Reading]) -> None:
    labels = read([{**ROWS[0], "emotion": emotion} for emotion in ("ému", "e\u0301mu", "ému")]).labels
    assert labels is not None
    assert labels.classes == ("ému",)


@pytest.mark.parametrize("settings", [{"labels": ["joy", "anger"]}, {"label_set": "meld7"}])
def test_declared_labels_are_found_regardless_of_their_capitals(
    read: Callable[..., Reading], settings: dict[str, Any]
) -> None:
    reading = read([{**ROWS[0], "emotion": emotion} for emotion in ("Joy", "JOY", "Anger", "Joy", "")], **settings)
    assert [one.emotion for one in reading.dialogues[0].utterances] == ["joy", "joy", "anger", "joy", "unlabelled"]
    assert reading.deviations == [
        "the emotion 'joy' is written in 2 ways: 'JOY' (1 utterance), 'Joy' (2 utterances) were taken for one"
    ]


def test_declared_labels_that_differ_in_capitals_alone_stay_apart(read: Callable[..., Reading]) -> None:
    rows = [{**ROWS[0], "emotion": emotion} for emotion in ("Joy", "joy")]
    assert [one.emotion for one in read(rows, labels=["joy", "Joy"]).dialogues[0].utterances] == ["Joy", "joy"]
    with pytest.raises(BadTable, match="line 2: the emotion is 'JOY'"):
        read([{**ROWS[0], "emotion": "JOY"}], labels=["joy", "Joy"])


SCENES: Rows = [
    {
        "season": "1",
        "episode": episode,
        "scene": scene,
        "turn": turn,
        "speaker": "Ann",
        "text": f"{episode}.{scene}.{turn}",
        "emotion": "glad",
    }
    for episode in ("1", "12")
    for scene in ("1", "2")
    for turn in ("1", "2")
]
SCENE_COLUMNS = {"dialogue": ["season", "episode", "scene"], "utterance": "turn", "split": "", "video": ""}
ALL_TRAIN = {"train": 1, "dev": 0, "test": 0}


def test_several_columns_may_make_the_id_of_a_dialogue(read: Callable[..., Reading]) -> None:
    dialogues = read(SCENES, columns=SCENE_COLUMNS, split_shares=ALL_TRAIN).dialogues
    assert [one.dialogue_id for one in dialogues] == ["train/1_1_1", "train/1_1_2", "train/1_12_1", "train/1_12_2"]
    assert [(one.source_utterance_id, one.text) for one in dialogues[2].utterances] == [
        ("1_12_1_1", "12.1.1"),
        ("1_12_1_2", "12.1.2"),
    ]


def test_a_turn_that_is_there_twice_leads_to_the_columns_that_make_the_id_of_a_dialogue(
    read: Callable[..., Reading],
) -> None:
    told = (
        r"line 6: the utterance '1' of dialogue '1' is already in .*line 2\. If several dialogues were joined,"
        r" .*table\.columns\.dialogue=\["
    )
    with pytest.raises(BadTable, match=told):
        read(SCENES, columns={**SCENE_COLUMNS, "dialogue": "scene"}, split_shares=ALL_TRAIN)


def test_ids_of_several_columns_that_would_be_the_same_are_refused(read: Callable[..., Reading]) -> None:
    rows = [{**SCENES[0], "season": season, "episode": episode} for season, episode in (("1_2", "3"), ("1", "2_3"))]
    with pytest.raises(
        BadTable,
        match=(
            r"line 3: the dialogue '1_2_3_1' is made of \('1', '2_3', '1'\) here, and of \('1_2', '3', '1'\) elsewhere"
        ),
    ):
        read(rows, columns=SCENE_COLUMNS, split_shares=ALL_TRAIN)
    with pytest.raises(BadTable, match="line 3: the dialogue is ''; a name is expected"):
        read([SCENES[0], {**SCENES[1], "episode": ""}], columns=SCENE_COLUMNS, split_shares=ALL_TRAIN)
    with pytest.raises(RawDataMissing, match="the columns seasn are missing"):
        read(SCENES, columns={**SCENE_COLUMNS, "dialogue": ["seasn", "episode"]})


def test_a_table_for_each_split_may_be_named_and_ids_may_be_the_same_in_several(read: Callable[..., Reading]) -> None:
    more = {
        f"{split}_final.csv": SCENES[2 * place : 2 * place + 4] for place, split in enumerate(("training", "testing"))
    }
    files = {"train": "training_final.csv", "test": "testing_final.csv"}
    reading = read(more=more, files=files, columns=SCENE_COLUMNS)
    assert [one.dialogue_id for one in reading.dialogues] == ["train/1_1_1", "train/1_1_2", "test/1_1_2", "test/1_12_1"]
    assert [
        one.dialogue_id
        for one in read(more=more, files=files, columns={**SCENE_COLUMNS, "split": "split"}, splits=("test",)).dialogues
    ] == [
        "test/1_1_2",
        "test/1_12_1",
    ]
    with pytest.raises(
        RawDataMissing, match=r"(?s)valid\.csv not found.*Found: media, testing_final\.csv, training_final\.csv"
    ):
        read(more=more, files={**files, "dev": "valid.csv"}, columns=SCENE_COLUMNS)


def test_the_classes_are_the_same_whatever_split_is_read(read: Callable[..., Reading]) -> None:
    reading = read(splits=("dev",))
    assert [one.dialogue_id for one in reading.dialogues] == ["dev/soup", "dev/work"]
    assert reading.labels is not None
    assert reading.labels.classes == ("calm", "cross", "glad")


def test_a_known_label_set_can_be_used(read: Callable[..., Reading]) -> None:
    rows = [
        {**row, "emotion": emotion} for row, emotion in zip(ROWS, ("happy", "excited", "", "sad", "angry"), strict=True)
    ]
    labels = read(rows, label_set="iemocap4_merged").labels
    assert labels is not None
    assert (labels.name, labels.index("excited")) == ("iemocap4_merged", 0)


def test_columns_of_other_names_are_found(read: Callable[..., Reading]) -> None:
    rows = [
        {
            "Talk": "a",
            "Turn": turn,
            "Who": "Ann",
            "Said": "Hm.",
            "Feels": "calm",
            "V": v,
            "From": "1.5",
            "To": "2",
            "Mood": "neutral",
        }
        for turn, v in (("7", "2.5"), ("a_9", ""))
    ]
    columns = {
        "dialogue": "Talk",
        "utterance": "Turn",
        "speaker": "Who",
        "text": "Said",
        "emotion": "Feels",
        "valence": "V",
        "start": "From",
        "end": "To",
    }
    reading = read(
        rows,
        columns={**columns, "sentiment": "Mood", "split": "", "video": ""},
        split_shares={"train": 1, "dev": 0, "test": 0},
    )
    first, second = reading.dialogues[0].utterances
    assert [one.source_utterance_id for one in (first, second)] == ["a_7", "a_9"]
    assert (first.valence, second.valence, first.sentiment) == (2.5, None, "neutral")
    assert (first.start_seconds, first.end_seconds, first.video_path, first.audio_path) == (1.5, 2.0, "", "")


def test_an_utterance_is_cut_out_of_its_recording(read: Callable[..., Reading]) -> None:
    rows = [{**row, "from": "1", "to": "2.5", "sound": "all.wav"} for row in ROWS]
    columns = {"start": "from", "end": "to", "audio": "sound"}
    one = read(rows, media_are="recordings", columns=columns).dialogues[0].utterances[0]
    assert (one.video_path, one.video_start_seconds, one.video_end_seconds) == ("own/media/w1.mp4", 1.0, 2.5)
    assert (one.audio_path, one.audio_start_seconds, one.audio_end_seconds) == ("own/media/all.wav", 1.0, 2.5)
    clip = read(rows, columns=columns).dialogues[0].utterances[0]
    assert (clip.start_seconds, clip.video_start_seconds, clip.audio_end_seconds) == (1.0, None, None)


def test_text_alone_needs_neither_media_nor_their_columns(read: Callable[..., Reading]) -> None:
    rows = [{name: cell for name, cell in row.items() if name != "video"} for row in ROWS]
    assert read(rows).dialogues[0].utterances[0].video_path == ""
    with pytest.raises(RawDataMissing, match="the columns video are missing; there are dialogue, speaker"):
        read(rows, media=BOTH)


def test_wrongly_decoded_text_is_repaired_and_recorded(read: Callable[..., Reading]) -> None:
    reading = read(_changed(0, text="donâ€™t"))
    assert reading.dialogues[0].utterances[0].text == "don’t"
    (failure,) = reading.failures
    assert (failure.utterance_id, failure.reason, failure.modality) == ("train/walk_0", "text_repaired", "text")


@pytest.mark.parametrize(
    ("cell", "speaker"),
    [
        ("['Monica Geller']", "Monica Geller"),
        ("""["Phoebe's Assistant"]""", "Phoebe's Assistant"),
        ("['Ross Geller', \"Joey's Sisters\"]", "Ross Geller, Joey's Sisters"),
        ("[Waiter]", "[Waiter]"),
        ("['a' 'b']", "['a' 'b']"),
        ("[]", "[]"),
    ],
)
def test_speakers_written_as_a_python_list_are_read_as_their_names(
    read: Callable[..., Reading], cell: str, speaker: str
) -> None:
    """As in EmoryNLP."""
    utterance = read(_changed(0, speaker=cell)).dialogues[0].utterances[0]
    assert (utterance.speaker, utterance.source_speaker or utterance.speaker) == (speaker, cell)


def test_splits_are_drawn_by_dialogue_with_the_shares_asked_for(read: Callable[..., Reading]) -> None:
    rows = [{**ROWS[0], "dialogue": f"d{number // 2}"} for number in range(100)]
    drawn = {
        seed: [one.dialogue_id for one in read(rows, columns={"split": ""}, split_seed=seed).dialogues]
        for seed in (0, 1)
    }
    for ids in drawn.values():
        assert [sum(one.startswith(split) for one in ids) for split in SPLITS] == [40, 5, 5]
        assert len({one.partition("/")[2] for one in ids}) == 50
    assert drawn[0] != drawn[1]
    assert [one.dialogue_id for one in read(rows[::-1], columns={"split": ""}).dialogues if one.split == "dev"] == [
        one for one in reversed(drawn[0]) if one.startswith("dev")
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (_changed(2, dialogue=""), "line 4: the dialogue is ''; a name is expected"),
        (_changed(2, speaker=" "), "line 4: there is no speaker"),
        (_changed(2, split="tain"), "line 4: the split is 'tain'; did you mean 'train'"),
        (_changed(2, split=""), "line 4: the split is ''; valid: dev, test, train"),
        (_changed(2, split="test"), "line 4: the dialogue 'walk' is in test here, and in train in .*line 2"),
        (_changed(2, video="../../secret.mp4"), "line 4: the video '../../secret.mp4' leads outside"),
        (_changed(2, emotion="a,b"), "the emotion 'a,b' holds a comma"),
        ([{**row, "emotion": ""} for row in ROWS], "no row has an emotion; name the classes"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(read: Callable[..., Reading], rows: Rows, message: str) -> None:
    with pytest.raises(BadTable, match=message):
        read(rows)


@pytest.mark.parametrize(
    ("cells", "columns", "message"),
    [
        (
            {"turn": "1"},
            {"utterance": "turn"},
            "line 4: the utterance '1' of dialogue 'walk' is already in .*line 2",
        ),
        ({"from": "2", "to": "1"}, {"start": "from", "end": "to"}, "line 2: lasts from 2 to 1 s"),
        ({"from": "-2", "to": "1"}, {"start": "from", "end": "to"}, "line 2: lasts from -2 to 1 s"),
        ({"from": "2", "to": ""}, {"start": "from", "end": "to"}, "line 2: lasts from 2 to nothing s"),
        ({"from": "soon", "to": "1"}, {"start": "from", "end": "to"}, "line 2: start is 'soon' instead of a number"),
        ({"v": "high"}, {"valence": "v"}, "line 2: valence is 'high' instead of a number"),
    ],
)
def test_a_bad_cell_of_a_further_column_is_refused(
    read: Callable[..., Reading], cells: dict[str, str], columns: dict[str, str], message: str
) -> None:
    with pytest.raises(BadTable, match=message):
        read([{**row, **cells} for row in ROWS], columns=columns)


def test_an_utterance_without_times_cannot_be_cut_out_of_a_recording(read: Callable[..., Reading]) -> None:
    with pytest.raises(BadTable, match="line 2: no start and end"):
        read(
            [{**row, "from": "", "to": ""} for row in ROWS],
            media_are="recordings",
            columns={"start": "from", "end": "to"},
        )
    with pytest.raises(BadSettings, match="media_are recordings, but the settings' columns name no start and end"):
        read(media=BOTH, media_are="recordings")


def test_an_emotion_outside_of_the_labels_is_refused_with_the_nearest(read: Callable[..., Reading]) -> None:
    with pytest.raises(
        BadTable, match="line 6: the emotion is 'calm'; valid: cross, glad; leave it empty if there is none"
    ):
        read(labels=["glad", "cross"])
    with pytest.raises(BadTable, match="line 2: the emotion is 'glad'"):
        read(label_set="meld7")


def test_missing_columns_are_named(read: Callable[..., Reading]) -> None:
    with pytest.raises(
        RawDataMissing,
        match="the columns said, feels are missing; there are dialogue, speaker, text, emotion, split, video",
    ):
        read(columns={"text": "said", "emotion": "feels"})


def test_a_missing_table_prints_what_is_expected_and_found(tmp_path: Path, read: Callable[..., Reading]) -> None:
    with pytest.raises(
        RawDataMissing, match=r"(?s)other\.csv not found.*Expected in .*utterances\.csv .*Found: media, utterances\.csv"
    ):
        read(file="other.csv")


def test_media_of_which_none_is_there_are_refused(read: Callable[..., Reading]) -> None:
    with pytest.raises(RawDataMissing, match=r"visual: none of 5 files is in .*media, the first is own/media/w1\.mp4"):
        read(media=frozenset({"visual"}))


def test_media_that_are_missing_are_listed_by_utterance(read: Callable[..., Reading]) -> None:
    assert read().missing == {}
    missing = read(media=BOTH, there=("w1.mp4", "w2.mp4", "s1.mp4")).missing
    expected = {"dev/work_0": "own/media/k1.mp4", "test/end_0": "own/media/e1.mp4"}
    assert missing == {"audio": expected, "visual": expected}


def test_media_are_wanted_only_where_a_column_names_them(read: Callable[..., Reading]) -> None:
    with pytest.raises(BadSettings, match="the visual modality is requested, but the settings' columns name no video"):
        read(media=frozenset({"visual"}), columns={"video": ""})
    with pytest.raises(
        BadSettings, match="the audio modality is requested, but the settings' columns name no audio or video"
    ):
        read(media=frozenset({"audio"}), columns={"video": ""})


def test_a_split_without_dialogues_is_refused(read: Callable[..., Reading]) -> None:
    with pytest.raises(BadSettings, match="no dialogue is in test; the table has dev, train"):
        read(ROWS[:4], splits=("test",))


@pytest.mark.parametrize(
    ("encoding", "who", "said"),
    [("gbk", "小明", "你好，今天怎么样？"), ("cp1251", "Аня", "Привет"), ("utf-16", "Zoë", "Ça va")],
)
def test_a_table_in_another_encoding_is_asked_about_and_read_when_it_is_named(
    tmp_path: Path, encoding: str, who: str, said: str
) -> None:
    root = tmp_path / "raw" / "own"
    root.mkdir(parents=True)
    (root / "utterances.csv").write_bytes(
        f"dialogue;speaker;text;emotion;split\na;{who};{said};calm;train\n".encode(encoding)
    )

    def made(**settings: str) -> Reading:
        corpus = choose(Params({"corpora": {"own": {"reader": "table", **settings}}}), "own")
        return corpus.reader.read(root, tmp_path / "raw", media=frozenset(), splits=SPLITS)

    with pytest.raises(RawDataMissing, match=rf"utterances\.csv is (?s:.*)corpora\.own\.encoding={encoding}"):
        made()
    with pytest.raises(RawDataMissing, match=r"separated by ';', not by ',': set corpora\.own\.delimiter=semicolon"):
        made(encoding=encoding)
    reading = made(encoding=encoding, delimiter=";")
    (utterance,) = reading.dialogues[0].utterances
    assert (utterance.speaker, utterance.text, reading.failures) == (who, said, [])


def test_a_column_without_a_name_in_the_settings_is_none(read: Callable[..., Reading]) -> None:
    assert len(read(columns={"split": None, "video": None}).dialogues) == 4


def test_too_few_dialogues_to_draw_splits_from_are_refused(read: Callable[..., Reading]) -> None:
    with pytest.raises(BadSettings, match="1 dialogues are too few for the split_shares"):
        read(ROWS[:1], columns={"split": ""})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"columns": {"dialogue": ""}},
            "columns.dialogue: .*expected the name of a column, or a list of names",
        ),
        ({"columns": {"dialogue": ["a", ""]}}, "columns.dialogue: .*the name of a column, or a list"),
        ({"columns": {"dialogue": []}}, "columns.dialogue: .*the name of a column, or a list"),
        ({"columns": {"speaker": ""}}, "columns.speaker: String should have at least 1 character"),
        ({"files": {"train": "../train.csv"}}, "own.files.train: .*below the corpus's folder"),
        ({"columns": {"speakr": "x"}}, "unknown key own.columns.speakr; did you mean 'speaker'"),
        ({"columns": {"start": "from"}}, "start and end: name both columns, or neither"),
        ({"split_shares": {"train": 0.8, "dev": 0.1, "test": 0.2}}, "sum to 1.1 instead of 1"),
        ({"file": "../other/utterances.csv"}, "own.file: .*below the corpus's folder"),
        ({"media_folder": "/data"}, "own.media_folder: .*below the corpus's folder"),
        ({"labels": ["a"], "label_set": "meld7"}, "labels are those of the label set own; meld7 has its own"),
        ({"labels": ["a", "a"]}, "labels: each must occur once"),
        ({"labels": ["unlabelled"]}, "none may be unlabelled"),
    ],
)
def test_impossible_settings_are_refused_by_name(
    read: Callable[..., Reading], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSettings, match=message):
        read(**settings)


def test_the_manifest_has_the_tables_own_classes(tmp_path: Path, read: Callable[..., Reading]) -> None:
    read()  # writes the table
    corpus = choose(Params({"corpora": {"own": {"reader": "table"}}}), "own")
    table = build_manifest(
        corpus, Layout(tmp_path / "raw", tmp_path / "features", "own"), RunOptions(), modalities=("text",)
    )
    assert table["utterance_id"].to_pylist() == [
        "train/walk_0",
        "train/walk_1",
        "dev/soup_0",
        "dev/work_0",
        "test/end_0",
    ]
    assert table["emotion_index"].to_pylist() == [2, -1, 1, -1, 0]
    assert table.schema.metadata[b"classes"] == b"calm,cross,glad"
    assert table.schema.metadata[b"label_set"] == b"own"


def test_names_that_were_wrongly_decoded_are_those_of_one_speaker_and_one_class(read: Callable[..., Reading]) -> None:
    rows = [{**ROWS[0], "speaker": "René", "emotion": "fâché"}, {**ROWS[0], "speaker": "RenÃ©", "emotion": "fÃ¢chÃ©"}]
    reading = read(rows)
    assert {(one.speaker, one.emotion) for one in reading.dialogues[0].utterances} == {("René", "fâché")}
    assert [(one.utterance_id, one.reason, one.detail) for one in reading.failures] == [
        ("train/walk_1", "annotation_repaired", "speaker: wrongly decoded: 'RenÃ©'"),
        ("train/walk_1", "annotation_repaired", "emotion: wrongly decoded: 'fÃ¢chÃ©'"),
    ]


def test_turns_whose_numbers_do_not_rise_are_reported(read: Callable[..., Reading]) -> None:
    rows = [{**ROWS[0], "turn": number} for number in ("9", "10", "2")]
    reading = read(rows, columns={"utterance": "turn"})
    assert [one.source_utterance_id for one in reading.dialogues[0].utterances] == ["walk_9", "walk_10", "walk_2"]
    assert reading.deviations == [
        "the numbers of the column turn do not rise in 1 dialogue of 1, the first is walk; turns stand in the order of"
        " the table: is it shuffled?"
    ]
    assert read(rows[:2], columns={"utterance": "turn"}).deviations == []


def test_one_file_for_two_splits_is_refused(read: Callable[..., Reading]) -> None:
    with pytest.raises(BadSettings, match="named for several splits"):
        read(files={"train": "utterances.csv", "test": "utterances.csv"})
