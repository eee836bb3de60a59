"""MELD realigned: which spans belong to which utterance, where they are, and everything that may be wrong with the
files.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from merc import files
from merc.corpora.engine import building, meld_realignment
from merc.corpora.engine.base import Reading
from merc.corpora.engine.labels import label_set
from merc.corpora.meld import Meld
from merc.corpora.stage import build_manifest, choose
from merc.errors import BadTable, PipelineError, RawDataMissing, SettingsDiffer
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.records import manifest
from merc.records.dialogue import MediaSpan, Utterance

VISUAL, BOTH = frozenset({"visual"}), frozenset({"audio", "visual"})


def _read(
    meld: Any,
    *,
    media: frozenset[str] = frozenset(),
    where: str = "meld/realigned",
    splits: tuple[str, ...] = ("train",),
    **settings: Any,
) -> Reading:
    reader = Meld(Meld.Config(reader="meld", check_counts=False, realignment=where, **settings))
    return reader.read(meld.root, meld.raw, media=media, splits=splits)


def _utterances(reading: Reading) -> dict[str, Utterance]:
    return {dialogue.utterance_id(one): one for dialogue in reading.dialogues for one in dialogue.utterances}


def _spans(utterance: Utterance) -> list[tuple[str, float | None, float | None]]:
    first = utterance.video_path.rpartition("/")[2], utterance.video_start_seconds, utterance.video_end_seconds
    return [
        first,
        *((one.video_path.rpartition("/")[2], one.start_seconds, one.end_seconds) for one in utterance.further_spans),
    ]


@pytest.fixture
def two_dialogues(meld: Any) -> Any:
    """Train with dia0_utt0, dia0_utt1, dia0_utt2 and dia1_utt0, and their clips."""
    meld.csv("train", [meld.row(0, 0), meld.row(0, 1), meld.row(0, 2), meld.row(1, 0)])
    meld.clips("train", [f"dia{name}.mp4" for name in ("0_utt0", "0_utt1", "0_utt2", "1_utt0")])
    return meld


def test_an_utterance_is_the_spans_of_the_file_in_their_order(two_dialogues: Any) -> None:
    two_dialogues.realigned(
        ("train", 0, 0, 0, 0, 0.1, 0.9), ("train", 0, 1, 0, 1, 0.0, 0.5), ("train", 0, 1, 0, 0, 1.0, 1.25), ("train", 0,
         1, 0, 1, 0.75, 1.5),
        ("train", 0, 2, 0, 1, 1.5, 2.0), ("train", 1, 0, 1, 0, 0.0, 1.0),
    )  # fmt: skip
    reading = _read(two_dialogues, media=BOTH)
    found = _utterances(reading)
    assert _spans(found["train/dia0_utt0"]) == [("dia0_utt0.mp4", 0.1, 0.9)]
    assert _spans(found["train/dia0_utt1"]) == [
        ("dia0_utt1.mp4", 0.0, 0.5),
        ("dia0_utt0.mp4", 1.0, 1.25),
        ("dia0_utt1.mp4", 0.75, 1.5),
    ]
    one = found["train/dia0_utt1"]
    assert (one.audio_path, one.audio_start_seconds, one.audio_end_seconds) == (one.video_path, 0.0, 0.5)
    assert {span.audio_path for span in one.further_spans} == {
        "meld/train_splits/dia0_utt0.mp4",
        "meld/train_splits/dia0_utt1.mp4",
    }
    assert (one.start_seconds, one.end_seconds, one.expected_seconds) == (1.0, 2.5, None)  # in the episode, as always
    assert (reading.failures, reading.deviations, reading.missing) == ([], [], {"audio": {}, "visual": {}})


def test_the_numbers_of_the_realigned_tables_lead_to_melds_own(two_dialogues: Any) -> None:
    # By time, the third comes first; in another dialogue MELD's numbers have a gap.
    two_dialogues.csv(
        "train",
        [
            two_dialogues.row(0, 0),
            two_dialogues.row(0, 1),
            two_dialogues.row(0, 2),
            two_dialogues.row(1, 0),
            two_dialogues.row(1, 2),
        ],
    )
    two_dialogues.renumbered("train", (0, 0, 2), (0, 1, 0), (0, 2, 1), (1, 0, 0), (1, 1, 2))
    two_dialogues.realigned(
        *(
            ("train", dialogue, utterance, dialogue, 0, utterance, utterance + 0.5)
            for dialogue, utterance in ((0, 0), (0, 1), (0, 2), (1, 1))
        )
    )
    reading = _read(two_dialogues)
    starts = {name: one.video_start_seconds for name, one in _utterances(reading).items()}
    assert starts == {
        "train/dia0_utt0": 1.0,
        "train/dia0_utt1": 2.0,
        "train/dia0_utt2": 0.0,
        "train/dia1_utt0": None,
        "train/dia1_utt2": 1.0,
    }
    assert reading.checks["realignment"]["splits"]["train"] == {
        "utterances": 5, "realigned": 4, "spans": 4, "of_several_spans": 0, "with_a_span_of_another_clip": 3,
    }  # fmt: skip


def test_an_utterance_that_the_file_lacks_keeps_its_own_cut_and_is_marked(two_dialogues: Any) -> None:
    two_dialogues.realigned(("train", 0, 0, 0, 0, 0.1, 0.9), ("train", 0, 2, 0, 2, 0.0, 0.9))
    reading = _read(two_dialogues)
    assert _spans(_utterances(reading)["train/dia0_utt1"]) == [("dia0_utt1.mp4", None, None)]
    words = "MELD_video_realignment_timestamps.csv has no span of it; MELD's own cut was used"
    told = [(one.utterance_id, one.stage, one.modality, one.reason, one.kind, one.detail) for one in reading.failures]
    assert told == [
        (f"train/{name}", "manifest", "all", "not_realigned", "altered", words) for name in ("dia0_utt1", "dia1_utt0")
    ]
    assert reading.deviations == [
        "train: 2 utterances have no span in the realignment, and keep MELD's own cut: dia0_utt1, dia1_utt0"
    ]


def test_spans_are_in_the_first_cut_which_was_measured_and_not_in_its_replacement_but_in_the_users(meld: Any) -> None:
    meld.csv("test", [meld.row(0, 0), meld.row(0, 1), meld.row(0, 2)])
    meld.clips(
        "test",
        [
            "dia0_utt0.mp4",
            "final_videos_testdia0_utt0.mp4",
            "dia0_utt1.mp4",
            "dia0_utt2.mp4",
            "final_videos_testdia0_utt2.mp4",
        ],
    )
    (meld.root / "mine" / "test").mkdir(parents=True)
    (meld.root / "mine" / "test" / "dia0_utt1.mp4").touch()
    meld.realigned(("test", 0, 0, 0, 0, 0.0, 1.0), ("test", 0, 1, 0, 1, 0.0, 1.0))
    paths = [one.video_path for one in _utterances(_read(meld, splits=("test",), replacements="meld/mine")).values()]
    folder = "meld/output_repeated_splits_test"
    assert paths == [
        f"{folder}/dia0_utt0.mp4",
        "meld/mine/test/dia0_utt1.mp4",
        f"{folder}/final_videos_testdia0_utt2.mp4",
    ]


def test_a_realigned_utterance_is_neither_cut_to_its_annotation_nor_doubted_for_it(meld: Any) -> None:
    rows = [
        meld.row(0, 0),
        meld.row(0, 1, EndTime="00:00:01,100"),
        meld.row(0, 2, EndTime="00:00:01,000"),
        meld.row(0, 3),
    ]
    meld.csv("test", rows)
    meld.realigned(*(("test", 0, number, 0, number, 0.0, 1.0) for number in range(3)))
    reading = _read(meld, splits=("test",))
    assert [one.expected_seconds for one in _utterances(reading).values()] == [None, None, None, 1.5]
    assert [one.reason for one in reading.failures] == ["not_realigned"]


def test_clips_that_are_not_there_are_named_and_an_utterance_is_missing_only_where_all_of_its_are(
    two_dialogues: Any,
) -> None:
    two_dialogues.realigned(
        ("train", 0, 0, 0, 0, 0.1, 0.9), ("train", 0, 1, 0, 1, 0.0, 0.5), ("train", 0, 1, 7, 3, 0.0, 0.5), ("train", 0,
         2, 0, 9, 0.0, 0.5),
        ("train", 0, 2, 7, 3, 1.0, 1.5),
        ("train", 1, 0, 1, 0, 0.0, 1.0),
    )  # fmt: skip
    reading = _read(two_dialogues, media=VISUAL)
    assert reading.missing == {"visual": {"train/dia0_utt2": "meld/train_splits/dia0_utt9.mp4"}}
    assert reading.deviations == [
        "train: 2 clips in which the realignment has spans are not there: dia7_utt3, dia0_utt9"
    ]


def test_the_audio_of_a_span_may_be_a_wav(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0), meld.row(0, 1)])
    meld.clips("train", ["dia0_utt0.mp4", "dia0_utt1.wav"])
    meld.realigned(("train", 0, 0, 0, 0, 0.0, 0.5), ("train", 0, 0, 0, 1, 0.0, 0.5))
    first, _ = _utterances(_read(meld, media=frozenset({"audio"}))).values()
    assert first.further_spans == (
        MediaSpan("meld/train_splits/dia0_utt1.mp4", "meld/train_splits/dia0_utt1.wav", 0.0, 0.5),
    )


def test_the_file_may_be_named_itself_or_be_in_a_clone(two_dialogues: Any) -> None:
    path = two_dialogues.realigned(("train", 0, 0, 0, 0, 0.1, 0.9))
    (two_dialogues.root / "MELD-FAIR" / "csvs").mkdir(parents=True)
    (two_dialogues.root / "MELD-FAIR" / "csvs" / path.name).write_bytes(path.read_bytes())
    path = path.rename(path.with_name("mine.csv"))
    for where in ("meld/realigned/mine.csv", "meld/MELD-FAIR"):
        assert _spans(_utterances(_read(two_dialogues, where=where))["train/dia0_utt0"]) == [
            ("dia0_utt0.mp4", 0.1, 0.9)
        ]


GOOD = ("train", 0, 0, 0, 0, 0.1, 0.9)


@pytest.mark.parametrize(
    ("spans", "kind", "words"),
    [
        ([("train", 0, 0, 0, 0, 0.9, 0.9)], BadTable,
         r"timestamps\.csv, line 2: the span ends at 0\.9 s, and begins at 0\.9 s"),
        ([GOOD, ("train", 0, 1, 0, 0, 0.9, 0.5)], BadTable, r"line 3: the span ends at 0\.5 s, and begins at 0\.9 s"),
        ([("train", 0, 0, 0, 0, "nan", 0.9)], BadTable, r"line 2: Start Time is 'nan' instead of seconds from 0"),
        ([("train", 0, 0, 0, 0, 0.1, "inf")], BadTable, r"line 2: End Time is 'inf' instead of seconds from 0"),
        ([("train", 0, 0, 0, 0, -0.1, 0.9)], BadTable, r"line 2: Start Time is '-0\.1' instead of seconds from 0"),
        ([("train", 0, 0, 0, 0, "", 0.9)], BadTable, r"line 2: Start Time is '' instead of seconds such as 1\.25"),
        ([("train", 0, 0, 0, 0, "00:00:01", 0.9)], BadTable,
         r"line 2: Start Time is '00:00:01' instead of seconds such as 1\.25"),
        ([("train", 0, 0, "../7", 0, 0.1, 0.9)], BadTable,
         r"line 2: Original Dialogue ID is '\.\./7' instead of a number from 0"),
        ([("train", 0, "0.0", 0, 0, 0.1, 0.9)], BadTable, r"line 2: Utterance ID is '0\.0' instead of a number from 0"),
        ([("validation", 0, 0, 0, 0, 0.1, 0.9)], BadTable,
         r"line 2: Split is 'validation' instead of one of train, dev, test"),
        (
            [GOOD, GOOD],
            BadTable,
            r"line 3: the span dia0_utt0, 0\.1 to 0\.9 s is that of line 2, dia0_utt0, 0\.1 to 0\.9 s; the spans of an utterance must be in order, each once",  # noqa: E501
        ),
        ([GOOD, ("train", 0, 0, 0, 0, 0.8, 1.2)], BadTable,
         r"line 3: the span dia0_utt0, 0\.8 to 1\.2 s overlaps or lies before that of line 2"),
        (
            [("train", 0, 0, 0, 0, 1.0, 1.5), ("train", 0, 0, 0, 1, 0.0, 0.5), GOOD],
            BadTable,
            r"line 4: .* overlaps or lies before that of line 2, dia0_utt0, 1 to 1\.5 s",
        ),
        ([], RawDataMissing, r"timestamps\.csv holds no span"),
        ([(*GOOD, "more")], BadTable, r"line 2: 8 cells instead of 7"),
        (
            [("train", 5, 0, 5, 0, 0.0, 1.0)],
            RawDataMissing,
            r"line 2: train, dialogue 5, utterance 0 does not exist in MELD's own numbers; .* realigned_train_sent_emo\.csv",  # noqa: E501
        ),
    ],
)  # fmt: skip
def test_a_bad_line_is_refused_by_its_number(
    two_dialogues: Any, spans: list[tuple[object, ...]], kind: type[PipelineError], words: str
) -> None:
    two_dialogues.realigned(*spans)
    with pytest.raises(kind, match=words):
        _read(two_dialogues)


def test_two_utterances_may_share_a_span_and_one_may_continue_in_an_earlier_clip(two_dialogues: Any) -> None:
    two_dialogues.realigned(
        ("train", 0, 0, 0, 1, 0.1, 0.9), ("train", 0, 0, 0, 0, 0.1, 0.9), ("train", 0, 1, 0, 1, 0.1, 0.9)
    )
    assert [len(_spans(one)) for one in _utterances(_read(two_dialogues)).values()] == [2, 1, 1, 1]


def test_a_file_without_its_columns_in_another_encoding_or_form_is_named(two_dialogues: Any) -> None:
    path = two_dialogues.realigned(
        GOOD,
        columns=[
            "Split",
            "Dialogue ID",
            "Utterance ID",
            "Original Dialogue ID",
            "Original Utterance ID",
            "Start",
            "End Time",
        ],
    )
    with pytest.raises(RawDataMissing, match=r"timestamps\.csv: the columns Start Time are missing; there are Split, "):
        _read(two_dialogues)
    two_dialogues.realigned(GOOD, encoding="utf-16")
    with pytest.raises(RawDataMissing, match=r"timestamps\.csv is UTF-16, not UTF-8"):
        _read(two_dialogues)
    two_dialogues.realigned(GOOD)
    path.write_text(path.read_text().replace(",", ";"))
    with pytest.raises(RawDataMissing, match=r"timestamps\.csv: the columns are separated by ';', not by ','"):
        _read(two_dialogues)


@pytest.mark.parametrize("where", ["meld/nowhere", "meld/train_splits"])
def test_a_realignment_that_is_not_there_is_asked_for(two_dialogues: Any, where: str) -> None:
    with pytest.raises(
        RawDataMissing,
        match=(
            rf"realignment: .*{where} is neither a file, nor a folder with MELD_video_.*csv in it\. .*MELD-FAIR, folder"
            r" csvs"
        ),
    ):
        _read(two_dialogues, where=where)


@pytest.mark.parametrize("where", ["/realigned", "../realigned"])
def test_a_realignment_outside_of_the_raw_folder_is_refused(where: str) -> None:
    with pytest.raises(ValueError, match="expected a path below the folder raw/"):
        Meld.Config(reader="meld", realignment=where)


def test_realigned_tables_that_contradict_themselves_or_the_time_stamps_are_refused(two_dialogues: Any) -> None:
    two_dialogues.realigned(("train", 0, 3, 0, 0, 0.1, 0.9))
    for rows, words in (
        ([(0, 0, 0), (0, 0, 1)],
         r"realigned_train_sent_emo\.csv: Dialogue_ID 0, Utterance_ID 0 are in line 2 and again in line 3"),
        ([(0, 0, 1), (0, 1, 1)],
         r"realigned_train_sent_emo\.csv: Dialogue_ID 0, Original Utterance_ID 1 are in line 2 and again in line 3"),
        ([(0, 0, 0), (0, 1, 1)],
         r"timestamps\.csv, line 2: train, dialogue 0, utterance 3 is in no row of .*realigned_train_sent_emo\.csv; are the two from the"),  # noqa: E501
    ):  # fmt: skip
        two_dialogues.renumbered("train", *rows)
        with pytest.raises(BadTable, match=words):
            _read(two_dialogues)
    two_dialogues.renumbered("train", (0, 0, 0)).write_text("Dialogue_ID,Utterance_ID,Speaker\n0,0,Ann\n")
    with pytest.raises(
        RawDataMissing, match=r"realigned_train_sent_emo\.csv: the columns Original Utterance_ID are missing"
    ):
        _read(two_dialogues)


def test_files_of_another_corpus_are_refused(two_dialogues: Any) -> None:
    two_dialogues.realigned(GOOD)
    two_dialogues.renumbered("train", (0, 0, 0), (0, 1, 1), speaker="Rory")
    with pytest.raises(
        BadTable,
        match=(
            r"2 of 2 speakers are not MELD's: line 2 has 'Rory', and MELD's dia0_utt0 'Ann'; does the table belong to"
            r" another corpus\?"
        ),
    ):
        _read(two_dialogues)
    two_dialogues.realigned(("train", 8, 0, 8, 0, 0.1, 0.9), ("train", 8, 1, 8, 1, 0.1, 0.9))
    two_dialogues.renumbered("train", (8, 0, 0), (8, 1, 1))
    with pytest.raises(
        BadTable,
        match=r"not one of the 2 utterances of train is in MELD's own table; does the file belong to another corpus\?",
    ):
        _read(two_dialogues)


def test_utterances_of_the_file_that_a_part_of_meld_has_not_are_reported(two_dialogues: Any) -> None:
    two_dialogues.realigned(GOOD, ("train", 8, 1, 8, 1, 0.1, 0.9))
    two_dialogues.renumbered("train", (0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 0), (8, 0, 0), (8, 1, 2))
    assert (
        "train: 1 utterances of the realignment are not in MELD's table: dia8_utt2" in _read(two_dialogues).deviations
    )


def test_without_the_setting_nothing_changes_and_with_it_the_record_tells(two_dialogues: Any) -> None:
    layouts = [Layout(two_dialogues.raw, two_dialogues.raw.parent / name, "meld") for name in ("plain", "realigned")]
    path = two_dialogues.realigned(GOOD, ("train", 0, 0, 0, 1, 0.0, 0.5), ("train", 0, 1, 0, 1, 0.5, 1.0))
    for layout, where in zip(layouts, (None, "meld/realigned"), strict=True):
        corpus = choose(Params({"corpora": {"meld": {"check_counts": False, "realignment": where}}}), "meld")
        build_manifest(corpus, layout, RunOptions(), splits=("train",))
    plain, realigned = (files.read_json(layout.folder / "manifest.json") for layout in layouts)
    tables = [manifest.read(layout.manifest) for layout in layouts]
    assert "realignment" not in plain["settings"]["corpora"]["meld"]
    assert (plain["source"], plain["checks"], tables[0].schema.names) == (Meld.SOURCE, {}, manifest.SCHEMA.names)
    assert realigned["settings"]["corpora"]["meld"]["realignment"] == "meld/realigned"
    assert realigned["source"].startswith(
        Meld.SOURCE + "\n\nRealigned: audio and video of 2 of 4 utterances are the spans of the original clips that"
        " meld/realigned/"
    )
    assert (
        "3 in all; 1 utterances lie in several, 1 not only in their own clip. It is a part of MELD-FAIR (Carneiro"
        in realigned["source"]
    )
    assert realigned["checks"]["realignment"]["sha256"] == files.sha256(path)
    assert [failure["reason"] for failure in realigned["failures"]] == ["not_realigned", "not_realigned"]
    further = [[span["start_seconds"] for span in spans] for spans in manifest.further_spans(tables[1])]
    assert (further, manifest.further_spans(tables[0])) == ([[0.0], [], [], []], [[], [], [], []])
    assert manifest.annotated_seconds(tables[1]) == pytest.approx([1.3, 0.5, 1.5, 1.5])
    assert manifest.annotated_seconds(tables[0]) == [1.5] * 4
    with pytest.raises(SettingsDiffer, match=r"corpora\.meld\.realignment: meld/realigned there, nothing wanted"):
        build_manifest(
            choose(Params({"corpora": {"meld": {"check_counts": False}}}), "meld"),
            layouts[1],
            RunOptions(),
            splits=("train",),
        )


@pytest.mark.parametrize("start", [-1.0, 2.0, float("nan")])
def test_a_manifest_with_an_impossible_span_is_refused(two_dialogues: Any, start: float) -> None:
    two_dialogues.realigned(GOOD, ("train", 0, 0, 0, 1, 0.0, 0.5))
    table = building.build("meld", _read(two_dialogues).dialogues, label_set("meld7"))
    rows = table.to_pylist()
    rows[0]["further_spans"] = [{**asdict(MediaSpan("a.mp4", "a.mp4", 0.0, 1.0)), "start_seconds": start}]
    with pytest.raises(BadTable, match=rf"here: train/dia0_utt0 has several spans, one of them from {start} to 1\.0 s"):
        manifest.check(table.from_pylist(rows, schema=table.schema), "here")


@pytest.mark.slow
def test_as_many_spans_as_meld_fairs_over_the_real_tables_are_read(real_data: Path, tmp_path: Path) -> None:
    """As many spans as in MELD-FAIR, made from the real tables and numbered without gaps; 3,770 utterances have
    several, up to six.
    """
    raw = tmp_path / "raw" / "meld"
    (raw / "realigned").mkdir(parents=True)
    lines = ["Split,Dialogue ID,Utterance ID,Original Dialogue ID,Original Utterance ID,Start Time,End Time"]
    several = 3770
    for split in ("train", "dev", "test"):
        text = (real_data / "meld" / f"{split}_sent_emo.csv").read_bytes()
        (raw / f"{split}_sent_emo.csv").write_bytes(text)
        meld = Meld(Meld.Config(reader="meld", check_counts=False)).read(
            raw, raw.parent, media=frozenset(), splits=(split,)
        )
        table = ["Speaker,Dialogue_ID,Utterance_ID,Original Utterance_ID"]
        for dialogue in meld.dialogues:
            number = int(dialogue.source_dialogue_id.removeprefix("dia"))
            for position, one in enumerate(dialogue.utterances):
                own = int(one.source_utterance_id.rpartition("utt")[2])
                table.append(f'"{one.source_speaker}",{number},{position},{own}')
                count = 1 if several <= 0 or position % 2 else min(6, 2 + position % 3)
                several -= count > 1
                lines += [
                    f"{split},{number},{position},{number},{own},{0.4 * at},{0.4 * at + 0.25}" for at in range(count)
                ]
        (raw / "realigned" / f"realigned_{split}_sent_emo.csv").write_text("\n".join(table), encoding="utf-8")
    (raw / "realigned" / meld_realignment.TIMESTAMPS).write_text("\n".join(lines), encoding="utf-8")
    layout = Layout(tmp_path / "raw", tmp_path / "features", "meld")
    table = build_manifest(
        choose(Params({"corpora": {"meld": {"realignment": "meld/realigned"}}}), "meld"),
        layout,
        RunOptions(),
        modalities=("text",),
    )
    assert table.num_rows == 13_708
    counted = files.read_json(layout.folder / "manifest.json")["checks"]["realignment"]["splits"].values()
    assert sum(one["realigned"] for one in counted) == 13_708
    assert sum(one["spans"] for one in counted) == len(lines) - 1 > 18_203
