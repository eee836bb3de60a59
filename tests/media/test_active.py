"""The choice by a network, with a fake one: the brightness of a face, above or below 100."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from merc.errors import BadSettings
from merc.job import RunOptions
from merc.media import active, clip, faces, networks, parts, persons, stage
from merc.media.config import Config
from merc.media.following import Followed, Spot, Track
from merc.media.tasks import Clip, DialogueTask


class Fake:
    """Bright faces speak: a logit is brightness less 100, over 25."""

    def __init__(self):
        self.calls = []

    def logits(self, runs, waveform_S):
        self.calls.append((runs, waveform_S))
        return [((run.faces_THW.mean(axis=(1, 2)) - 100) / 25).astype(np.float32) for run in runs]


@pytest.fixture
def settings():
    return Config(choice="active_speaker", frames_per_clip=4)


SOUND = np.sin(np.arange(48_000)).astype(np.float32) * 0.2


def track(lights, *, first=0, shot=0, width=50.0, every=4, x=0.0):
    """A face with one brightness per frame, found in every fourth frame."""
    spots = [Spot(first + at, (x, 0.0, width, width), 0.9, b"%d" % (first + at)) for at in range(0, len(lights), every)]
    return Track(shot, spots, first, [np.full((112, 112), light, np.uint8) for light in lights])


def followed(*tracks, shots=(0,), pictures=75, lasts=3.0):
    seconds = [number / 25 for number in range(pictures)]
    return Followed(seconds, list(range(0, pictures, 4)), 30, shots, list(tracks), pictures / 25, lasts, (640, 360))


def judged(seen, settings, sound=SOUND):
    verdict = active.judge(seen, sound, Fake(), settings)
    return verdict, active.portrait(seen, verdict, settings)


def test_the_one_who_speaks_is_chosen_and_the_columns_say_how_surely(settings):
    verdict, columns = judged(followed(track([50] * 75, width=90.0), track([200] * 75)), settings)
    assert verdict.chosen == 1
    told = {
        name: columns[name]
        for name in ("speaking_logit", "runner_up_logit", "face_choice_margin", "speaking_share", "off_screen", "shots")
    }
    assert told == {
        "speaking_logit": 4.0,
        "runner_up_logit": -2.0,
        "face_choice_margin": 6.0,
        "speaking_share": 1.0,
        "off_screen": False,
        "shots": 1,
    }
    assert columns["face_choice_score"] == pytest.approx(1 / (1 + np.exp(-4)))
    assert (columns["face_tracks"], columns["face_track"], columns["face_coverage"]) == (2, 1, 1.0)


def test_crops_are_taken_while_the_chosen_one_speaks_evenly_over_that_time(settings):
    speaks_late = [50] * 40 + [200] * 35
    _, columns = judged(followed(track(speaks_late)), settings)
    assert [int(face) for face in columns["faces"]] == [44, 52, 60, 68]
    assert columns["face_seconds"] == pytest.approx([1.76, 2.08, 2.4, 2.72])
    assert columns["speaking_share"] == pytest.approx(35 / 75)
    _, never = judged(followed(track([60] * 75)), settings)
    assert [int(face) for face in never["faces"]] == [8, 28, 44, 64]


def test_the_sampling_by_rate_says_how_many_crops(settings):
    rate = settings.model_copy(update={"sampling": "rate", "frames_per_second": 2.0})
    assert len(judged(followed(track([200] * 75)), rate)[1]["faces"]) == 6


def test_who_speaks_for_long_beats_who_is_seen_for_a_moment(settings):
    long, short = track([150] * 50), track([200] * 8, first=60, shot=1)
    verdict, columns = judged(followed(long, short, shots=(0, 55)), settings)
    assert verdict.chosen == 0
    assert columns["face_choice_margin"] == pytest.approx(2 - 4)  # which is doubtful and reported as such


def test_too_few_frames_to_see_a_mouth_move_are_not_judged(settings):
    verdict, columns = judged(followed(track([60] * 75), track([250] * 5, first=60, shot=1, width=90.0)), settings)
    assert (verdict.chosen, verdict.off_screen, columns["runner_up_logit"]) == (0, True, None)
    verdict, columns = judged(followed(track([250] * 5), track([250] * 5, width=90.0)), settings)
    assert (verdict.chosen, verdict.off_screen, columns.get("speaking_logit"), len(columns["faces"])) == (
        1,
        None,
        None,
        2,
    )


def test_who_speaks_till_the_frames_end_speaks_for_a_third_of_audio_that_is_three_times_as_long(settings):
    _, columns = judged(followed(track([200] * 25), pictures=25, lasts=1.0), settings)
    assert columns["speaking_share"] == pytest.approx(1 / 3)


def test_a_listener_who_is_always_seen_loses_against_a_speaker_seen_in_one_shot(settings):
    verdict, columns = judged(followed(track([80] * 75), track([170] * 20, first=50)), settings)
    assert verdict.chosen == 1
    assert columns["face_coverage"] == pytest.approx(5 / 19)


def test_tracks_of_different_shots_stay_apart_without_an_embedding(settings):
    _, columns = judged(followed(track([200] * 30), track([200] * 40, first=35, shot=1), shots=(0, 35)), settings)
    assert (columns["face_tracks"], columns["face_track"], columns["shots"]) == (2, 1, 2)
    assert min(columns["face_seconds"]) > 1.3


@pytest.mark.parametrize(("way", "kept"), [("keep", 4), ("absent", 0)])
def test_where_no_one_speaks_the_speaker_is_off_screen(settings, way, kept):
    _, columns = judged(followed(track([60] * 75), track([70] * 75)), settings.model_copy(update={"off_screen": way}))
    assert columns["off_screen"] is True
    assert (columns["face_track"], len(columns["faces"])) == (1, kept)


@pytest.mark.parametrize(
    ("light", "limit", "off_screen"), [(140, 2.0, True), (160, 2.0, False), (140, 1.0, False), (160, 3.0, True)]
)
def test_who_does_not_reach_the_limit_for_a_second_is_not_a_speaker(settings, light, limit, off_screen):
    seen = followed(track([light] * 75))
    assert judged(seen, settings.model_copy(update={"off_screen_logit": limit}))[1]["off_screen"] is off_screen
    if limit == Config().off_screen_logit:
        assert judged(seen, settings)[1]["off_screen"] is off_screen


def test_pauses_do_not_make_a_speaker_an_off_screen_one(settings):
    _, columns = judged(followed(track([20] * 50 + [170] * 25)), settings)
    assert columns["speaking_logit"] < 0
    assert columns["off_screen"] is False


def test_one_person_has_no_margin(settings):
    _, columns = judged(followed(track([200] * 75)), settings)
    assert (columns["face_choice_margin"], columns["runner_up_logit"]) == (None, None)


@pytest.mark.parametrize("sound", [None, np.zeros(48_000, np.float32), SOUND * 1e-5])
def test_without_audio_size_and_persistence_decide_and_there_are_no_logits(settings, sound):
    seen = followed(track([200] * 75), track([50] * 75, width=100.0))
    _, columns = judged(seen, settings, sound)
    assert columns["face_track"] == 1
    assert "speaking_logit" not in columns
    assert columns["off_screen"] is None
    assert columns["face_choice_margin"] == pytest.approx(0.6)
    assert len(columns["faces"]) == 4


def test_no_one_is_not_a_choice(settings):
    verdict, columns = judged(followed(), settings)
    assert (verdict.chosen, columns["face_tracks"], columns["off_screen"]) == (-1, 0, None)


def test_faces_that_are_not_candidates_are_not_judged_and_are_not_chosen(settings):
    small = track([250] * 75)
    small.drop()
    verdict, columns = judged(followed(track([60] * 75), small), settings)
    assert (verdict.chosen, columns["runner_up_logit"], columns["face_tracks"]) == (0, None, 2)


class Vectors:
    """An embedding by the track's width."""

    def vector(self, one, config):
        angle = one.width / 100
        return np.array([np.cos(angle), np.sin(angle)], np.float32)


def test_an_embedding_joins_the_tracks_of_a_person_that_are_never_seen_at_once(settings, monkeypatch):
    monkeypatch.setattr(persons, "embedder", lambda config: Vectors())
    a, b = track([200] * 30, width=50.0), track([60] * 30, width=52.0)
    again, other = track([200] * 40, first=35, shot=1, width=50.2), track([60] * 40, first=35, shot=1, width=190.0)
    seen = followed(a, b, again, other, shots=(0, 35))
    assert persons.join(seen.tracks, settings) == [(0, 2), (1,), (3,)]
    _, columns = judged(seen, settings)
    assert (columns["face_tracks"], columns["face_track"]) == (3, 0)
    assert [int(face) for face in columns["faces"]] == [8, 24, 47, 63]
    assert columns["speaking_share"] == pytest.approx(70 / 75)


def test_the_embedding_is_sface_run_by_opencv(sface_folder: Path, settings):
    config = settings.model_copy(update={"same_person_file": str(sface_folder / "tiny.onnx")})
    rng = np.random.default_rng(0)
    crops = [faces.jpeg(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8), 95) for _ in range(2)]
    one, other = (Track(0, [Spot(0, (0.0, 0.0, 9.0, 9.0), 0.9, jpeg)]) for jpeg in crops)
    network = persons.Embedder(networks.same_person(config))
    first, second = network.vector(one, config), network.vector(other, config)
    assert first.shape == (128,)
    assert float(first @ first) == pytest.approx(1.0)
    assert float(first @ second) < 0.9999
    assert network.vector(Track(0, [Spot(0, (0.0, 0.0, 9.0, 9.0), 0.9)]), config) is None


def test_an_embedding_that_is_not_there_or_is_none_is_named(tmp_path: Path, settings):
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    for name, words in (("gone.onnx", "there is no file"), ("no.onnx", "cannot run")):
        config = settings.model_copy(update={"same_person_file": str(tmp_path / name)})
        with pytest.raises(BadSettings, match=f"media.same_person_file.*{words}"):
            persons.embedder(config)


BOXES = [(4.0, 4.0, 16.0, 16.0), (36.0, 20.0, 10.0, 10.0)]


@pytest.fixture
def two_faces(monkeypatch):
    """Two faces in every frame that is not white; one in the dark ones."""

    def locate(self, picture):
        light = int(picture.rgb()[0, 0, 0])
        return [(box, 0.9, None) for box in (BOXES[:0] if light > 240 else BOXES[:1] if light < 20 else BOXES)]

    monkeypatch.setattr(faces.FaceFinder, "locate", locate)


def scene(count, left, right, light=100):
    """Frames with a face on the left and one on the right, of a brightness each."""
    pictures = []
    for _ in range(count):
        one = np.full((48, 64, 3), light, np.uint8)
        for (x, y, w, h), face in zip(BOXES, (left, right), strict=True):
            one[int(y) : int(y + h) + 2, int(x) : int(x + w)] = face
        pictures.append(one)
    return pictures


def settled(tmp_path, make_clip, settings, name, **fields):
    task = DialogueTask(tmp_path, "meld", (make_clip(name, **fields),), frozenset({"audio", "visual"}), settings, None)
    fake = Fake()
    ((row, failures),) = clip.settle(clip.decode(task), fake)
    return row, [(one["modality"], one["reason"]) for one in failures], fake


@pytest.mark.usefixtures("two_faces")
def test_a_clip_goes_through_and_a_draft_can_be_settled_in_another_process(
    tmp_path: Path, write_media, make_clip, settings
):
    write_media(tmp_path / "a.mp4", seconds=2.0, fps=25, pictures_HWC=scene(50, 60, 220))
    row, failures, fake = settled(tmp_path, make_clip, settings, "a.mp4")
    assert failures == []
    assert (row["face_track"], row["face_tracks"], row["shots"], row["frames_seen"], len(row["faces"])) == (
        1,
        2,
        1,
        9,
        4,
    )
    assert row["face_choice_margin"] == pytest.approx(row["speaking_logit"] - row["runner_up_logit"])
    assert [(run.begin_seconds, len(run.faces_THW)) for (run,), _ in fake.calls] == [(0.0, 50), (0.0, 50)]
    waveform = fake.calls[0][1]
    assert len(waveform) == pytest.approx(32_000, abs=1100)
    task = DialogueTask(tmp_path, "meld", (make_clip("a.mp4"),), frozenset({"audio", "visual"}), settings, None)
    draft = clip.decode(task)
    assert clip.settle(pickle.loads(pickle.dumps(draft)), Fake()) == [(row, [])]  # noqa: S301
    with pytest.raises(ValueError, match="needs a scorer"):
        clip.settle(draft, None)


@pytest.mark.usefixtures("two_faces")
@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            {"layout": None},
            {"audio_status": "no_audio_stream", "visual_status": "ok", "speaking_logit": None, "face_track": 0},
        ),
        (
            {"sound_CS": 0.3 * np.sin(np.arange(8000))[None].astype(np.float32)},
            {"audio_status": "ok", "visual_status": "ok", "face_track": 1},
        ),
        (
            {"seconds": 0.04},
            {
                "visual_status": "ok",
                "frames_seen": 1,
                "shots": 1,
                "face_track": 0,
                "speaking_logit": None,
                "off_screen": None,
            },
        ),
        (
            {"picture_times": [0.0, 0.04, 0.08, 0.6, 0.64, 1.2, 1.24]},
            {"visual_status": "ok", "shots": 1, "face_track": 1},
        ),
        (
            {"pictures_HWC": [np.full((48, 64, 3), 250, np.uint8)]},
            {"visual_status": "no_face", "face_track": -1, "off_screen": None, "shots": 1},
        ),
        (
            {"size": None},
            {"audio_status": "ok", "visual_status": "no_video_stream", "shots": 0, "speaking_logit": None},
        ),
    ],
    ids=["no sound", "sound shorter than the pictures", "one frame", "variable rate", "no face", "sound alone"],
)
def test_odd_clips_end_in_a_row(tmp_path: Path, write_media, make_clip, settings, made, told):
    write_media(tmp_path / "a.mp4", **{"seconds": 1.5, "fps": 25, "pictures_HWC": scene(5, 60, 220), **made})
    row, _, _ = settled(tmp_path, make_clip, settings, "a.mp4")
    assert {name: row[name] for name in told} == told


@pytest.mark.usefixtures("two_faces")
def test_frames_that_end_before_the_audio_are_not_judged_behind_their_end(
    tmp_path: Path, write_media, make_clip, settings
):
    write_media(
        tmp_path / "a.mp4",
        seconds=1.0,
        fps=25,
        pictures_HWC=scene(25, 60, 220),
        sound_CS=np.tile(SOUND[None, :16_000], (1, 3)),
    )
    row, _, fake = settled(tmp_path, make_clip, settings, "a.mp4")
    assert [len(run.faces_THW) for (run,), _ in fake.calls] == [25, 25]
    assert row["audio_status"] == "ok"


@pytest.mark.usefixtures("two_faces")
def test_a_cut_ends_the_tracks_and_off_screen_is_reported_by_the_setting(
    tmp_path: Path, write_media, make_clip, settings
):
    rng = np.random.default_rng(0)
    other = [
        np.where(one == 100, rng.integers(30, 230, (48, 64, 1)).repeat(3, axis=2), one).astype(np.uint8)
        for one in scene(1, 80, 70)
    ]
    write_media(tmp_path / "a.mp4", seconds=2.0, fps=25, pictures_HWC=scene(25, 60, 40) + other * 25)
    row, failures, _ = settled(tmp_path, make_clip, settings, "a.mp4")
    assert (row["shots"], row["face_tracks"], row["off_screen"], row["visual_status"]) == (2, 4, True, "ok")
    assert failures == [("visual", "off_screen_kept")]
    row, failures, _ = settled(tmp_path, make_clip, settings.model_copy(update={"off_screen": "absent"}), "a.mp4")
    assert (row["visual_status"], row["faces"], row["off_screen"]) == ("off_screen", [], True)
    assert failures == [("visual", "off_screen")]


@pytest.mark.usefixtures("two_faces")
def test_several_utterances_of_one_file_are_followed_each_by_itself(tmp_path: Path, write_media, make_clip, settings):
    write_media(tmp_path / "a.mp4", seconds=3.0, fps=25, pictures_HWC=scene(75, 60, 220))
    spans = [(0.0, 1.2), (1.0, 2.9)]
    clips = tuple(
        make_clip(
            "a.mp4",
            utterance_id=f"train/d_u{at}",
            video_start_seconds=a,
            video_end_seconds=b,
            audio_start_seconds=a,
            audio_end_seconds=b,
        )
        for at, (a, b) in enumerate(spans)
    )
    fake = Fake()
    rows = [
        row
        for row, _ in clip.settle(
            clip.decode(DialogueTask(tmp_path, "meld", clips, frozenset({"visual"}), settings, None)), fake
        )
    ]
    assert [row["face_track"] for row in rows] == [1, 1]
    assert [len(run.faces_THW) for (run,), _ in fake.calls] == [30, 30, 48, 48]
    assert [max(row["face_seconds"]) <= end - begin for row, (begin, end) in zip(rows, spans, strict=True)] == [
        True,
        True,
    ]
    assert [row["audio_status"] for row in rows] == ["not_decoded"] * 2


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*.parquet"))}


@pytest.mark.usefixtures("two_faces", "without_workers")
def test_the_rows_are_the_same_where_the_workers_judge_and_where_the_parent_does(
    write_media, write_manifest, tmp_path: Path, settings, monkeypatch
):
    layout = write_manifest([["a.mp4", "b.mp4"], ["a.mp4"]])
    layout.raw.mkdir(exist_ok=True)
    write_media(layout.raw / "a.mp4", seconds=1.0, fps=25, pictures_HWC=scene(25, 60, 220))
    write_media(layout.raw / "b.mp4", seconds=1.0, fps=25, pictures_HWC=scene(25, 90, 50))
    (tmp_path / "w.model").write_bytes(b"weights")
    config = settings.model_copy(update={"speaker_file": str(tmp_path / "w.model"), "utterances_per_part": 2})
    monkeypatch.setattr(clip, "_scorer", lambda weights, precision: Fake())
    made = []
    for judging in (None, Fake()):
        monkeypatch.setattr(networks, "check", lambda config, found, device, judging=judging: judging)
        made.append(
            content(
                stage.decode(
                    config, layout, RunOptions(workers=1, overwrite=True), streams=frozenset({"visual", "audio"})
                )
            )
        )
        (layout.media / "record.json").unlink()
    assert made[0] == made[1]
    assert len(made[0]) == 2


@pytest.mark.usefixtures("two_faces", "without_workers")
def test_off_screen_speakers_are_counted_and_other_weights_mean_other_media(
    write_media, write_manifest, tmp_path: Path, settings, monkeypatch
):
    layout = write_manifest([["a.mp4", "b.mp4"]])
    layout.raw.mkdir(exist_ok=True)
    write_media(layout.raw / "a.mp4", seconds=1.0, fps=25, pictures_HWC=scene(25, 60, 220))
    write_media(layout.raw / "b.mp4", seconds=1.0, fps=25, pictures_HWC=scene(25, 90, 50))
    weights = tmp_path / "w.model"
    weights.write_bytes(b"weights")
    config = settings.model_copy(update={"speaker_file": str(weights)})
    monkeypatch.setattr(clip, "_scorer", lambda weights, precision: Fake())
    monkeypatch.setattr(networks, "check", lambda config, found, device: None)
    stage.decode(config, layout, RunOptions(workers=1), streams=frozenset({"visual"}))
    assert json.loads((layout.media / "record.json").read_text())["counts"]["off_screen"] == 1
    assert stage.dry_run(config, layout, RunOptions(), streams=frozenset({"visual"}))["cached"]
    weights.write_bytes(b"other weights")
    assert not stage.dry_run(config, layout, RunOptions(), streams=frozenset({"visual"}))["cached"]


def test_a_clip_may_take_longer_where_a_network_looks_at_its_faces(make_clip, settings):
    task = DialogueTask(
        Path(), "meld", (make_clip("a.mp4", annotated_seconds=60.0),), frozenset({"visual"}), settings, None
    )
    judged = replace(task, speaker=Path("w.model"))
    assert parts.time_limit_seconds(judged, 100.0) == 100 * (1 + 1 + settings.max_speaker_candidates)
    assert parts.time_limit_seconds(task, 100.0) == 200


def real(real_data, **more):
    files = {
        "yunet_file": str(real_data / "models" / "face_detection_yunet.onnx"),
        "speaker_file": str(real_data / "models" / "light_asd_talkset.model"),
    }
    return Config(detector="yunet", choice="active_speaker", **files, **more)


def watched(path, config):
    """The row of a real clip, and the faces followed in it."""
    seen = []

    class Observer:
        def look(self, *rest):
            pass

        def judge(self, _id, followed, verdict):
            seen.append((followed, verdict))

    found = networks.found(config, offline=True)
    one = Clip("train/d_u", "train/d", path.name, path.name, "full", None, None, None, None)
    task = DialogueTask(
        path.parent, "scenes", (one,), frozenset({"audio", "visual"}), config, found.detector, speaker=found.speaker
    )
    ((row, failures),) = clip.decode_dialogue(task, Observer())
    return row, [failure["reason"] for failure in failures], *seen[0]


@pytest.mark.slow
def test_the_speaker_of_composed_scenes_is_found_also_where_a_real_clip_follows_a_cut(
    benchmark, real_data, tmp_path: Path
):
    heads, config = benchmark.real_heads(real_data), real(real_data)
    with av.open(str(real_data / "media" / "WolfgangLanger_Pexels.mp4")) as opened:
        listens = [
            frame.to_ndarray(format="rgb24") for _, frame in zip(range(40), opened.decode(video=0), strict=False)
        ]
    right = 0
    for seed in (1000, 1004):
        scene = benchmark.compose(seed, real_data, heads)
        cut = len(scene.frames)
        longer = replace(
            scene, frames=np.concatenate([scene.frames, np.stack(listens)]), sound=np.pad(scene.sound, (0, 25_600))
        )
        (tmp_path / "scenes").mkdir(exist_ok=True)
        benchmark.encode(longer, tmp_path / "scenes" / "scene.mp4")
        row, _, followed, verdict = watched(tmp_path / "scenes" / "scene.mp4", config)
        assert followed.shots == (0, cut)
        assert max(row["face_seconds"]) < cut / 25
        boxes = np.array(
            [spot.box for track in verdict.persons[verdict.chosen].tracks for spot in followed.tracks[track].spots]
        )
        x, y = np.median(boxes[:, 0] + boxes[:, 2] / 2), np.median(boxes[:, 1] + boxes[:, 3] / 2)
        speaker = scene.persons[scene.speaker]
        right += float(np.hypot(speaker.x - x, speaker.y - y)) < 0.6 * speaker.width
    assert right == 2


def test_a_real_listener_under_the_voice_of_another_is_off_screen(real_data, tmp_path: Path):
    (tmp_path / "real").mkdir()
    dubbed = tmp_path / "real" / "dubbed.mp4"
    with (
        av.open(str(real_data / "media" / "single_face.mp4")) as pictures,
        av.open(str(real_data / "media" / "spk1_snt1.wav")) as voice,
        av.open(str(dubbed), "w") as out,
    ):
        video, sound = (
            out.add_stream_from_template(pictures.streams.video[0]),
            out.add_stream("aac", rate=16_000, layout="mono"),
        )
        for packet in pictures.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        for frame in voice.decode(audio=0):
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    row, failures, followed, _ = watched(dubbed, real(real_data))
    assert (row["off_screen"], row["visual_status"], failures) == (True, "ok", ["off_screen_kept"])
    assert row["speaking_logit"] < 0
    assert len(followed.tracks) == 1
