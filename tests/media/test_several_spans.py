"""Utterances of several spans: audio joined, frames spread over all spans, seconds from the utterance's start, and lost
spans.
"""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from merc.layout import Layout
from merc.media import container, faces, following, stage
from merc.media.clip import decode_dialogue
from merc.media.config import Config
from merc.media.faces import Sighting
from merc.media.following import Followed, Spot, Track
from merc.media.tasks import STREAMS, Clip, DialogueTask, sharing_files
from merc.records import manifest
from merc.records.dialogue import MediaSpan

Span = tuple[str, float, float]
Decode = Callable[..., tuple[dict[str, Any], dict[tuple[str, str], str]]]
BOTH = frozenset(STREAMS)


def clip_of(*spans: Span, name: str = "train/dia0_utt0", **fields: Any) -> Clip:
    """An utterance of spans of files with audio and video, like a realigned one."""
    (path, start, end), *further = spans
    seconds = sum(stop - begin for _, begin, stop in spans)
    more = tuple(MediaSpan(one, one, *ends) for one, *ends in further)
    return Clip(
        name,
        "train/dia0",
        path,
        path,
        "full",
        start,
        end,
        start,
        end,
        **{"annotated_seconds": seconds, "further_spans": more, **fields},
    )


@pytest.fixture
def decode(tmp_path: Path, config: Config) -> Decode:
    """Decodes one utterance of several spans: its row, and its failures as (modality, reason) → detail."""

    def decode(*spans: Span, settings: Config = config, streams: frozenset[str] = BOTH, **fields: Any) -> Any:
        task = DialogueTask(tmp_path, "meld", (clip_of(*spans, **fields),), streams, settings, None)
        ((row, failures),) = decode_dialogue(task)
        return row, {(failure["modality"], failure["reason"]): failure["detail"] for failure in failures}

    return decode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_media: Any) -> Path:
    """a.mp4, b.mp4 and c.mp4, of different rates and layouts, all of 2 s and full of noise."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    for name, rate_hz, layout, channels in (
        ("a", 48_000, "stereo", 2),
        ("b", 44_100, "mono", 1),
        ("c", 48_000, "5.1", 6),
    ):
        sound_CS = rng.normal(0, 0.1, (channels, 2 * rate_hz)).astype(np.float32)
        write_media(folder / f"{name}.mp4", seconds=2.0, sound_CS=sound_CS, layout=layout, rate_hz=rate_hz)
    return folder


@pytest.fixture
def files(tmp_path: Path, made: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def samples(row: dict[str, Any]) -> NDArray[np.int16]:
    values, rate_hz = soundfile.read(io.BytesIO(row["audio"]), dtype="int16")
    assert rate_hz == 16_000
    return values


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "spans",
    [
        [("a.mp4", 0.25, 1.0), ("b.mp4", 0.1, 0.6)],
        [("b.mp4", 1.0, 1.3), ("a.mp4", 0.0, 0.7), ("c.mp4", 0.3337, 0.9)],
        [("a.mp4", 0.1, 0.5), ("a.mp4", 1.0, 1.5)],
        [("a.mp4", 1.0, 1.5), ("b.mp4", 0.0, 0.2), ("a.mp4", 0.1, 0.5)],
    ],
)
def test_the_audio_is_that_of_the_spans_decoded_by_themselves_one_behind_the_other(
    decode: Decode, spans: list[Span]
) -> None:
    row, failures = decode(*spans)
    alone = [decode(one)[0] for one in spans]
    assert np.array_equal(samples(row), np.concatenate([samples(one) for one in alone]))
    assert row["duration_seconds"] == sum(one["duration_seconds"] for one in alone)
    assert (row["audio_channels"], row["sample_rate_source"]) == (
        alone[0]["audio_channels"],
        alone[0]["sample_rate_source"],
    )
    assert row["audio_channel_used"] == "; ".join(dict.fromkeys(one["audio_channel_used"] for one in alone))
    assert set(failures) == {("visual", "no_face")}


@pytest.mark.usefixtures("files")
def test_several_spans_that_follow_each_other_in_one_file_have_the_samples_of_one(decode: Decode) -> None:
    spans = [("a.mp4", begin, end) for begin, end in ((0.1, 0.3337), (0.3337, 0.5001), (0.5001, 1.2))]
    row, _ = decode(*spans)
    assert abs(len(samples(row)) - len(samples(decode(("a.mp4", 0.1, 1.2))[0]))) <= 2


class Finder:
    """A face in every frame, whose crops show the frame's grey level and whose embedding equals all others."""

    def find(self, picture: Any) -> list[Sighting]:
        patch, corner, scale = picture.square(0, 0, 48, 48)
        appearance = np.zeros(faces.APPEARANCE, np.float32)
        appearance[0] = 1.0
        return [Sighting((4.0, 4.0, 40.0, 40.0), 0.9, patch, corner, scale, None, appearance)]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "finder", lambda config, model: Finder())


def test_looks_are_spread_over_the_whole_utterance_and_their_seconds_count_from_its_begin(
    tmp_path: Path, write_media, config, monkeypatch
) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_media(tmp_path / name, seconds=4.0, fps=25)
    seen: list[tuple[float, int]] = []

    class Notes:
        def look(self, utterance_id: str, seconds: float, picture: Any) -> None:
            seen.append((seconds, round(float(picture.rgb().mean()) / 5)))

        def choose(self, *arguments: Any) -> None: ...

        def judge(self, *arguments: Any) -> None: ...

    task = DialogueTask(
        tmp_path, "meld", (clip_of(("a.mp4", 1.0, 1.4), ("b.mp4", 0.4, 1.2), ("a.mp4", 0.2, 0.6)),), BOTH, config, None
    )
    decode_dialogue(task, Notes())
    middles = [(number + 0.5) * 0.2 for number in range(8)]
    assert [seconds for seconds, _ in sorted(seen)] == pytest.approx(middles, abs=0.04)
    # 0.1 and 0.3 are in the first span, 0.5 to 1.1 in the second, 1.3 and 1.5 in the third; a frame's grey tells its
    # number, 25 per second.
    files = [1.1, 1.3, 0.5, 0.7, 0.9, 1.1, 0.3, 0.5]
    assert [number for _, number in sorted(seen)] == pytest.approx([25 * one for one in files], abs=1.01)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("choice", ["speaking", "largest", "persistent"])
def test_no_face_is_followed_across_a_border_and_faces_have_the_utterances_seconds(
    tmp_path: Path, write_media, config, decode, choice: str
) -> None:
    write_media(tmp_path / "a.mp4", seconds=2.0, fps=25)
    write_media(tmp_path / "b.mp4", seconds=2.0, fps=25)
    settings = config.model_copy(update={"choice": choice})
    row, failures = decode(("a.mp4", 0.5, 1.7), ("b.mp4", 0.5, 0.9), settings=settings)
    assert (row["visual_status"], row["frames_seen"], row["face_tracks"], row["face_track"], failures) == (
        "ok",
        8,
        2,
        0,
        {},
    )
    assert row["face_seconds"] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9, 1.1], abs=0.04)
    assert row["face_coverage"] == 6 / 8
    alone, _ = decode(("a.mp4", 0.5, 2.0), settings=settings)
    assert (alone["face_tracks"], alone["face_coverage"]) == (1, 1.0)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (("gone.mp4", 0.0, 0.5), "0.500 s of 1.500 s are missing: gone.mp4, 0.500 s, media_missing"),
        (("empty.mp4", 0.0, 0.5), "0.500 s of 1.500 s are missing: empty.mp4, 0.500 s, media_empty"),
        (
            ("../b.mp4", 0.0, 0.5),
            "0.500 s of 1.500 s are missing: ../b.mp4, 0.500 s, media_refused: '../b.mp4' leads out of the raw folder",
        ),
        (
            ("garbage.mp4", 0.0, 0.5),
            (
                "0.500 s of 1.500 s are missing: garbage.mp4, 0.500 s, media_undecodable: Invalid data found when"
                " processing input"
            ),
        ),
    ],
)
def test_a_span_whose_file_is_missing_or_broken_is_reported_and_the_others_are_used(
    tmp_path: Path, decode: Decode, lost: Span, words: str
) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "garbage.mp4").write_bytes(np.random.default_rng(0).bytes(2_000))
    row, failures = decode(("a.mp4", 0.0, 0.6), lost, ("b.mp4", 0.0, 0.4))
    others, _ = decode(("a.mp4", 0.0, 0.6), ("b.mp4", 0.0, 0.4))
    assert row["audio"] == others["audio"]
    assert 4 <= row["frames_seen"] <= 6
    assert failures.keys() == {("audio", "spans_missing"), ("visual", "spans_missing"), ("visual", "no_face")}
    assert failures["audio", "spans_missing"].startswith(words)
    assert failures["visual", "spans_missing"].startswith(words)


def test_where_all_spans_are_lost_there_is_nothing_and_each_is_named(decode: Decode) -> None:
    row, failures = decode(("gone.mp4", 0.0, 0.5), ("away.mp4", 0.25, 0.5))
    assert (row["audio_status"], row["visual_status"], row["audio"], row["faces"]) == (
        "media_missing",
        "media_missing",
        b"",
        [],
    )
    words = "gone.mp4, 0.500 s, media_missing; away.mp4, 0.250 s, media_missing"
    assert failures == {("audio", "media_missing"): words, ("visual", "media_missing"): words}


@pytest.mark.usefixtures("files")
def test_a_span_beyond_the_end_of_its_clip_is_lost_and_one_that_reaches_over_it_is_short(decode: Decode) -> None:
    row, failures = decode(("a.mp4", 0.0, 1.0), ("b.mp4", 5.0, 6.0))
    assert row["duration_seconds"] == 1.0
    assert failures["audio", "spans_missing"].startswith(
        "1.000 s of 2.000 s are missing: b.mp4, 1.000 s, no_audio_samples: no sample from 5.000 s on"
    )
    assert failures["visual", "spans_missing"].endswith(
        "b.mp4, 1.000 s, no_video_frames: no picture from 5.000 to 6.000 s"
    )
    assert ("audio", "shorter_than_annotation") not in failures
    row, failures = decode(("a.mp4", 0.0, 1.0), ("b.mp4", 1.0, 4.0))
    assert row["duration_seconds"] == pytest.approx(2.0, abs=0.05)
    assert failures["audio", "shorter_than_annotation"].endswith("of the annotated 4.000 s")
    assert ("audio", "spans_missing") not in failures
    _, failures = decode(("a.mp4", 5.0, 6.0), ("b.mp4", 5.0, 6.0))
    assert failures.keys() == {("audio", "no_audio_samples"), ("visual", "no_video_frames")}


def test_a_span_without_audio_or_without_frames_leaves_those_of_the_others(
    tmp_path: Path, write_media, decode: Decode
) -> None:
    write_media(tmp_path / "a.mp4", seconds=1.0)
    write_media(tmp_path / "mute.mp4", seconds=1.0, layout=None)
    write_media(tmp_path / "blind.m4a", seconds=1.0, size=None)
    row, failures = decode(("a.mp4", 0.0, 0.5), ("mute.mp4", 0.0, 0.5), ("blind.m4a", 0.0, 0.5))
    assert row["duration_seconds"] == 1.0
    assert failures["audio", "spans_missing"] == "0.500 s of 1.500 s are missing: mute.mp4, 0.500 s, no_audio_stream"
    assert failures["visual", "spans_missing"] == "0.500 s of 1.500 s are missing: blind.m4a, 0.500 s, no_video_stream"


@pytest.mark.usefixtures("files")
def test_the_cap_cuts_the_utterance_and_not_each_span(decode: Decode, config: Config) -> None:
    spans = [("a.mp4", 0.0, 0.5), ("b.mp4", 0.0, 1.0), ("c.mp4", 0.0, 1.0)]
    row, failures = decode(*spans, settings=config.model_copy(update={"max_clip_seconds": 1.0}))
    assert (row["duration_seconds"], row["truncated"], row["frames_seen"]) == (1.0, True, 8)
    assert np.array_equal(
        samples(row), np.concatenate([samples(decode(one)[0]) for one in (spans[0], ("b.mp4", 0.0, 0.5))])
    )
    assert failures == {
        **dict.fromkeys([("audio", "truncated"), ("visual", "truncated")], "cut from 2.500 s to 1.000 s"),
        ("visual", "no_face"): failures["visual", "no_face"],
    }


def test_a_very_short_span_in_which_no_face_was_searched_is_not_lost(
    tmp_path: Path, write_media, decode: Decode, config: Config
) -> None:
    write_media(tmp_path / "a.mp4", seconds=2.0, fps=25)
    _, failures = decode(
        ("a.mp4", 0.0, 0.9),
        ("a.mp4", 1.0, 1.06),
        settings=config.model_copy(update={"choice": "largest", "frames_per_clip": 2}),
    )
    assert set(failures) == {("visual", "no_face")}


@pytest.mark.usefixtures("files")
def test_the_choice_gets_audio_that_fits_the_frames_also_where_a_span_is_lost(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from merc.media import speaker

    heard = []
    real = speaker.choose
    monkeypatch.setattr(
        speaker,
        "choose",
        lambda persons, looks, glimpses, waveform, config: (
            heard.append(waveform),
            real(persons, looks, glimpses, waveform, config),
        )[1],
    )
    clip = clip_of(("a.mp4", 0.0, 0.5), ("gone.mp4", 0.0, 0.25), ("b.mp4", 0.5, 1.0))
    for streams in (BOTH, frozenset({"visual"})):  # the audio is used even if it was not requested
        decode_dialogue(
            DialogueTask(tmp_path, "meld", (clip,), streams, config.model_copy(update={"choice": "speaking"}), None)
        )
    assert [len(one) for one in heard] == [20_000, 20_000]
    assert not heard[0][8_000:12_000].any()
    assert np.array_equal(heard[0], heard[1])
    assert np.std(heard[0][:8_000]) > 0.02 < np.std(heard[0][12_000:])


@pytest.mark.usefixtures("files")
def test_a_file_that_several_utterances_share_is_decoded_once(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [
        clip_of(("a.mp4", 0.0, 0.5), ("b.mp4", 0.0, 0.5), name="train/dia0_utt0"),
        clip_of(("b.mp4", 0.5, 1.0), name="train/dia0_utt1"),
        clip_of(("b.mp4", 0.8, 1.2), ("a.mp4", 1.0, 1.5), name="train/dia0_utt2"),
        clip_of(("c.mp4", 0.0, 1.0), name="train/dia0_utt3"),
    ]
    assert sharing_files(clips, BOTH) == [[0, 1, 2], [3]]
    read = []
    real = container.read
    monkeypatch.setattr(
        container,
        "read",
        lambda path, sounds, *rest: (read.append((path.name, len(sounds), len(rest[0]))), real(path, sounds, *rest))[1],
    )
    rows = decode_dialogue(DialogueTask(tmp_path, "meld", tuple(clips[:3]), BOTH, config, None))
    assert sorted(read) == [("a.mp4", 0, 2), ("a.mp4", 2, 0), ("b.mp4", 0, 3), ("b.mp4", 3, 0)]
    monkeypatch.undo()
    for clip, (row, _) in zip(clips, rows, strict=False):
        ((alone, _),) = decode_dialogue(DialogueTask(tmp_path, "meld", (clip,), BOTH, config, None))
        assert row == alone


def test_what_there_is_to_decode_counts_all_spans() -> None:
    clip = clip_of(("a.mp4", 1.0, 2.0), ("b.mp4", 0.5, 3.0), ("a.mp4", 4.0, 5.0))
    assert DialogueTask(Path("/raw"), "meld", (clip,), frozenset({"audio"}), Config(), None).seconds == 5.0 + 3.0
    assert clip.paths(BOTH) == ["a.mp4", "b.mp4", "a.mp4"] * 2
    assert clip.whole_seconds == 4.5
    assert [piece.offset_seconds for piece in clip.pieces("visual")] == [0.0, 1.0, 3.5]


def test_faces_that_were_followed_span_by_span_are_joined() -> None:
    def part(first: float, tracks: int) -> Followed:
        found = [
            Track(
                number,
                [Spot(2 * number, (0.0, 0.0, 9.0, 9.0), 0.5, b"jpeg")],
                2 * number,
                [np.zeros((112, 112), np.uint8)],
            )
            for number in range(tracks)
        ]
        return Followed(
            (first, first + 0.04, first + 0.08), (0, 2), 3, (0, 2), found, first + 0.12, first + 0.12, (64, 48)
        )

    whole = following.joined([part(0.0, 2), part(0.12, 0), part(0.24, 1)])
    assert whole.seconds == pytest.approx([0.04 * number for number in range(9)])
    assert (whole.searched, whole.shots, whole.faces_seen, whole.size) == (
        (0, 2, 3, 5, 6, 8),
        (0, 2, 3, 5, 6, 8),
        9,
        (64, 48),
    )
    assert [(track.shot, track.first, track.spots[0].picture) for track in whole.tracks] == [
        (0, 0, 0),
        (1, 2, 2),
        (4, 6, 6),
    ]
    assert (whole.until, whole.lasts) == pytest.approx((0.36, 0.36))
    assert [whole.steady(track)[0] for track in whole.tracks] == [0, 2, 6]


class Mouths:
    """Stands in for the network: every run of faces speaks, later ones with higher scores."""

    def logits(self, runs: Any, waveform_S: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [np.full(len(one.faces_THW), 1.0 + one.begin_seconds / 2, np.float32) for one in runs]


def test_with_active_speaker_each_span_is_followed_by_itself_and_judged_with_the_others(
    tmp_path: Path, write_media, config, monkeypatch
) -> None:
    from merc.media import clip as clips
    from merc.media.faces import Found

    write_media(tmp_path / "a.mp4", seconds=2.0, fps=25)
    write_media(tmp_path / "b.mp4", seconds=2.0, fps=24)

    class Locating(Finder):
        def locate(self, picture: Any) -> list[Found]:
            return [((4.0, 4.0, 40.0, 40.0), 0.9, None)]

        def sightings(self, picture: Any, found: Any) -> list[Sighting]:
            return self.find(picture)

    monkeypatch.setattr(faces, "finder", lambda config, model: Locating())
    settings = config.model_copy(update={"choice": "active_speaker", "off_screen_logit": 0.5})
    task = DialogueTask(tmp_path, "meld", (clip_of(("a.mp4", 0.5, 1.1), ("b.mp4", 0.31, 0.71)),), BOTH, settings, None)
    ((row, failures),) = clips.settle(clips.decode(task), Mouths())
    assert failures == []
    assert (row["shots"], row["face_tracks"], row["visual_status"]) == (2, 2, "ok")
    assert row["face_track"] == 0  # it speaks for longer
    assert row["speaking_logit"] == pytest.approx(1.0)
    assert row["runner_up_logit"] == pytest.approx(1.3, abs=0.001)
    assert row["speaking_share"] == pytest.approx(0.6, abs=0.05)
    assert max(row["face_seconds"]) < 0.6
    assert row["frames_seen"] == 8


@pytest.mark.usefixtures("without_workers")
def test_the_manifests_spans_are_part_of_the_fingerprint_and_of_what_a_dry_run_tells(
    tmp_path: Path, files: None, write_manifest: Any, config: Config
) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).rename(tmp_path / "raw" / name)
    ends = {"video_start_seconds": 0.0, "video_end_seconds": 0.5, "audio_start_seconds": 0.0, "audio_end_seconds": 0.5}

    def make(*further: MediaSpan) -> Layout:
        return write_manifest([["a.mp4"]], **ends, further_spans=further)

    from merc.job import RunOptions

    once, run = frozenset({"audio"}), RunOptions(workers=1)
    layout = make(MediaSpan("b.mp4", "b.mp4", 0.0, 0.25))
    told = stage.dry_run(config, layout, run, streams=once)
    assert (told["cached"], told["files"], told["seconds"]) == (False, 2, 0.75)
    stage.decode(config, layout, run, streams=once)
    assert stage.dry_run(config, layout, run, streams=once)["cached"]
    for further in ((), (MediaSpan("b.mp4", "b.mp4", 0.0, 0.3),)):
        assert not stage.dry_run(config, make(*further), run, streams=once)["cached"]
    assert manifest.further_spans(manifest.read(layout.manifest))[0][0]["end_seconds"] == 0.3
