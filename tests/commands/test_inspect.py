import base64
import importlib
import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from merc.commands.extract import main
from merc.commands.inspection import drawing, picture, seen, sheet, words
from merc.commands.inspection.drawing import compare, decode_anew, file_name
from merc.commands.inspection.seen import NO_TRACK, Face, Look, Seen, observe
from merc.corpora.demo import clips, faces
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.job import RunOptions
from merc.layout import Layout
from merc.media.clip import decode_dialogue, without_result
from merc.media.config import Config as MediaConfig
from merc.media.faces import jpeg
from merc.media.speaker import Evidence
from merc.media.stage import decode
from merc.media.tasks import Clip, DialogueTask
from merc.records import manifest
from merc.records.dialogue import Dialogue, Utterance

PARAMS = Path(__file__).parents[2] / "params.yaml"
BOTH = frozenset({"audio", "visual"})
WIDTH, HEIGHT, SECONDS, RATE_HZ = 320, 240, 1.2, 16_000
# Centres of the two drawn faces; the left one speaks.
SPEAKER, LISTENER = (95.0, 120.0), (240.0, 115.0)
HOSTILE_ID, HOSTILE_SPEAKER = "dia0_utt4/../../x y?", "<b>Eve</b>"
HOSTILE_TEXT = '<script>alert("1")</script>\n\n& $x^2$ \x07表 ' + "x" * 300
FACE, PEOPLE, BROKEN, MUTE, EVIL = (
    "train/dia0_utt0",
    "train/dia0_utt1",
    "train/dia0_utt2",
    "train/dia0_utt3",
    f"train/{HOSTILE_ID}",
)
GONE = "test/dia1_utt0"


def drawn(heads: Sequence[tuple[tuple[float, float], bool, float]], speech: float) -> NDArray[np.uint8]:
    """A room with heads: (centre, whether a woman, whether and how much the mouth follows the speech)."""
    image = faces.room(np.random.default_rng(1), WIDTH, HEIGHT)
    for (x, y), female, follows in heads:
        who = faces.look(np.random.default_rng(3 + female), female=female)
        faces.draw(image, who, faces.Expression(), faces.Pose(x, y, 0.55, 0.0), speech=speech * follows)
    return image


def syllables() -> NDArray[np.float32]:
    """(samples,) loudness of someone speaking: five bursts."""
    seconds = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    return (np.sin(2 * np.pi * 4.0 * seconds) ** 2).astype(np.float32)


def voice() -> NDArray[np.float32]:
    return (0.3 * syllables() * np.sin(2 * np.pi * 180 * np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ)).astype(
        np.float32
    )[None]


def pictures(*heads: tuple[tuple[float, float], bool, float]) -> Iterator[NDArray[np.uint8]]:
    loud = syllables()
    for number in range(clips.frame_count(SECONDS, clips.MELD_FPS)):
        yield drawn(heads, float(loud[min(len(loud) - 1, int(number / clips.MELD_FPS * RATE_HZ))]))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Four utterances with one face, two faces, broken bytes and no image, a malicious one, and one without its
    file.
    """
    folder = tmp_path_factory.mktemp("inspected")
    raw = folder / "raw"
    clips.write_mp4(raw / "tiny" / "face.mp4", pictures((SPEAKER, False, 1.0)), voice())
    clips.write_mp4(raw / "tiny" / "people.mp4", pictures((SPEAKER, False, 1.0), (LISTENER, True, 0.0)), voice())
    clips.write_mp4(raw / "tiny" / "mute.mp4", None, voice())
    (raw / "tiny" / "broken.mp4").write_bytes(b"\0" * 5000)
    names = ["face", "people", "broken", "mute"]
    utterances = [_utterance(f"dia0_utt{number}", f"tiny/{name}.mp4") for number, name in enumerate(names)]
    utterances.append(replace(_utterance(HOSTILE_ID, "tiny/face.mp4"), speaker=HOSTILE_SPEAKER, text=HOSTILE_TEXT))
    dialogues = [Dialogue(split="train", source_dialogue_id="dia0", utterances=tuple(utterances))]
    dialogues.append(
        Dialogue(split="test", source_dialogue_id="dia1", utterances=(_utterance("dia1_utt0", "tiny/gone.mp4"),))
    )
    layout = Layout(raw, folder / "features", "tiny")
    manifest.write(layout.manifest, building.build("tiny", dialogues, label_set("meld7")))
    return layout


def _utterance(source_id: str, path: str) -> Utterance:
    times = {"start_seconds": 0.0, "end_seconds": SECONDS}
    return Utterance(
        source_utterance_id=source_id,
        speaker="Ann",
        text="Oh.",
        emotion="joy",
        video_path=path,
        audio_path=path,
        **times,
    )


@pytest.fixture(scope="module")
def finished(corpus: Layout, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The same, with finished media."""
    layout = replace(corpus, out=tmp_path_factory.mktemp("finished"))
    manifest.write(layout.manifest, manifest.read(corpus.manifest))
    decode(config(), layout, RunOptions(workers=1, max_failed="100%"), streams=BOTH)
    return layout


def config(**changes: Any) -> MediaConfig:
    return MediaConfig(**changes)


def task_of(raw: Path, name: str, **settings: Any) -> DialogueTask:
    clip = Clip(FACE, "train/dia0", name, name, "full", None, None, None, None)
    return DialogueTask(raw, "tiny", (clip,), BOTH, config(**settings), None)


@pytest.fixture(scope="module")
def two_people(corpus: Layout) -> Seen:
    (one,) = observe(task_of(corpus.raw, "tiny/people.mp4"))
    return one


def run(layout: Layout, *arguments: object) -> Result:
    folders = ["--raw", layout.raw, "--features", layout.out, "--params", PARAMS, "--workers", 1]
    return CliRunner().invoke(main, list(map(str, ["inspect", "--dataset", "tiny", *folders, *arguments])))


def test_what_is_shown_is_what_the_stage_decodes(corpus, two_people):
    ((row, failures),) = decode_dialogue(task_of(corpus.raw, "tiny/people.mp4"))
    assert two_people.columns == row
    assert list(two_people.failures) == failures
    assert (row["face_tracks"], row["face_coverage"]) == (2, 1.0)
    assert [look.crop for look in two_people.looks] == row["faces"]
    assert [look.seconds for look in two_people.looks] == pytest.approx(row["face_seconds"])


def test_boxes_are_on_the_faces_and_the_chosen_one_on_the_speaker(two_people):
    assert len(two_people.looks) == 8
    for look in two_people.looks:
        assert picture.decoded(look.frame).shape == (HEIGHT, WIDTH, 3)
        middles = {
            face.track: ((face.box[0] + face.box[2] / 2) * WIDTH, (face.box[1] + face.box[3] / 2) * HEIGHT)
            for face in look.found
        }
        assert len(middles) == 2
        assert middles.pop(two_people.columns["face_track"]) == pytest.approx(SPEAKER, abs=15)
        assert middles.popitem()[1] == pytest.approx(LISTENER, abs=15)


def test_every_person_has_the_evidence_that_decided(two_people):
    chosen = two_people.columns["face_track"]
    speaks, listens = two_people.persons[chosen], two_people.persons[1 - chosen]
    assert (speaks.frames, listens.frames) == (8, 8)
    assert speaks.evidence.motion > listens.evidence.motion
    settings = config()
    weights = {"motion": settings.mouth_motion_weight, "sync": settings.mouth_sync_weight}
    weights |= {"size": settings.face_size_weight, "persistence": settings.face_persistence_weight}
    score = sum(weight * getattr(speaks.evidence, name) for name, weight in weights.items()) / sum(weights.values())
    assert two_people.columns["face_choice_score"] == pytest.approx(score)
    (first, _), (second, _) = words.person_facts(two_people)
    assert (first, second) == ("#00C853", words.colour_of(1 - chosen, chosen))


def test_other_choices_have_no_evidence(corpus):
    (one,) = observe(task_of(corpus.raw, "tiny/people.mp4", choice="largest"))
    assert [person.evidence for person in one.persons] == [None, None]
    assert "2 people, number" in words.face_facts(one, "largest")
    assert "chosen as largest, in 8 of 8 frames (100 %)" in words.face_facts(one, "largest")


def write_video(path: Path, images: Sequence[NDArray[np.uint8]], aspect: Fraction = Fraction(1)) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("kind", ["turned", "narrow"])
def test_turned_and_anamorphic_videos_are_shown_upright(tmp_path, kind):
    upright = [drawn([(SPEAKER, False, 0.0)], 0.0)] * 5
    path = tmp_path / "a.mp4"
    if kind == "turned":
        write_video(path, [np.rot90(image) for image in upright])
        content = bytearray(path.read_bytes())
        at = content.index(b"tkhd") + 44  # a quarter turn clockwise: ISO/IEC 14496-12, 8.3.2
        content[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
        path.write_bytes(content)
    else:
        write_video(path, [image[:, ::2] for image in upright], Fraction(2))
    (one,) = observe(task_of(tmp_path, "a.mp4"))
    frame = picture.decoded(one.looks[0].frame)
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert np.corrcoef(frame.ravel(), upright[0].ravel())[0, 1] > 0.95
    (face,) = one.looks[0].found
    assert (face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2) == pytest.approx(
        (SPEAKER[0] / WIDTH, SPEAKER[1] / HEIGHT), abs=0.06
    )


def grey_look(*found: Face, crop: bytes = b"") -> Look:
    return Look(0.5, jpeg(np.full((100, 200, 3), 128, np.uint8), 95), found, crop)


def test_the_chosen_box_is_thick_and_the_others_thin_in_their_own_colours():
    look = grey_look(
        Face((0.1, 0.4, 0.2, 0.4), 1), Face((0.6, 0.4, 0.1, 0.2), 0), Face((0.85, 0.4, 0.1, 0.2), NO_TRACK)
    )
    image = picture.frame_with_boxes(look, 1, 200)
    middle = image[60]  # row through the chosen one; its box goes from 20 to 60
    green = np.array([0x00, 0xC8, 0x53])
    assert [bool((middle[x] == green).all()) for x in (16, 17, 18, 19, 20)] == [False, True, True, True, False]
    assert [bool((middle[x] == green).all()) for x in (59, 60, 61, 62, 63)] == [False, True, True, True, False]
    assert (abs(middle[21:59].astype(int) - 128) < 4).all()  # no part of the face is covered
    row = image[50]
    assert tuple(row[119]) == (0xE6, 0x9F, 0x00)
    assert tuple(row[169]) == (0xB8, 0xB8, 0xB8)
    assert (abs(row[[118, 120]].astype(int) - [[0, 0, 0], [128, 128, 128]]) < 4).all()


@pytest.mark.usefixtures("without_workers")
def test_an_image_is_drawn_for_every_utterance_whatever_is_wrong_with_it(corpus, tmp_path):
    wanted = [argument for one in (EVIL, GONE, FACE, PEOPLE, BROKEN, MUTE, FACE) for argument in ("--utterance", one)]
    done = run(corpus, *wanted, "--out", tmp_path / "pictures")
    assert done.exit_code == 0, done.output
    names = [Path(line).name for line in done.stdout.splitlines()]
    assert names[:4] == ["train.dia0_utt0.png", "train.dia0_utt1.png", "train.dia0_utt2.png", "train.dia0_utt3.png"]
    assert names[4].startswith("train.dia0_utt4.......x_y_~")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(names)
    sizes = [cv2.imread(str(tmp_path / "pictures" / name)).shape for name in names]
    assert {width for _, width, _ in sizes} == {1200}
    with_frames, without = [sizes[index][0] for index in (0, 1, 4)], [sizes[index][0] for index in (2, 5)]
    assert min(with_frames) > 700 > 350 > max(without)


def test_one_image_goes_to_the_file_that_is_named_and_several_do_not(corpus, tmp_path):
    done = run(corpus, "--utterance", MUTE, "--out", tmp_path / "one.png")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'one.png'}\n")
    assert cv2.imread(str(tmp_path / "one.png")) is not None
    refused = run(corpus, "--utterance", MUTE, "--utterance", FACE, "--out", tmp_path / "two.png")
    assert refused.exit_code == 2
    assert "one file cannot hold 2 images" in refused.stderr


def test_an_unknown_utterance_is_answered_with_its_nearest(corpus, tmp_path):
    done = run(corpus, "--utterance", "train/dia0_ut1", "--out", tmp_path)
    assert done.exit_code == 2
    assert "tiny has no 'train/dia0_ut1'; near it: train/dia0_utt1" in done.stderr
    assert "gone" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --utterance or --sample"),
        (["--sample", "3", "--utterance", FACE], "either --utterance or --sample"),
        (["--utterance", FACE, "--doubtful"], "go with --sample"),
        (["--sample", "3", "--doubtful"], "no finished media"),
        (["--sample", "3", "--split", "dev"], "no utterance of dev to show"),
        (
            ["--sample", "3", "--set", "media.detector=yunet", "--set", "media.yunet_file=gone.onnx"],
            "there is no file 'gone.onnx'",
        ),
        (
            ["--sample", "3", "--set", "extraction.level=sequences"],
            "nothing in this command uses extraction.level",
        ),
    ],
)
def test_what_cannot_be_shown_is_a_matter_of_settings(corpus, tmp_path, arguments, said):
    done = run(corpus, *arguments, "--out", tmp_path)
    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_manifest_it_says_how_to_make_one(corpus, tmp_path):
    done = run(replace(corpus, out=tmp_path), "--sample", 3, "--out", tmp_path)
    assert done.exit_code == 4
    assert "merc-extract --dataset tiny" in done.stderr


class Page(HTMLParser):
    """What a browser would see of a page: its tags, its text, and the addresses it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "srcset", "data", "action") or name.startswith("on")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self) -> list[NDArray[np.uint8] | None]:
        loads = [one for one in self.loads if one.startswith("data:image/")]
        return [
            cv2.imdecode(np.frombuffer(base64.b64decode(one.partition("base64,")[2]), np.uint8), cv2.IMREAD_COLOR)
            for one in loads
        ]

    def sounds(self) -> list[tuple[NDArray[np.float64], int]]:
        loads = [one for one in self.loads if one.startswith("data:audio/")]
        return [soundfile.read(io.BytesIO(base64.b64decode(one.partition("base64,")[2]))) for one in loads]


@pytest.mark.usefixtures("without_workers")
def test_the_sheet_needs_nothing_else_and_shows_hostile_text_as_text(finished, tmp_path):
    done = run(finished, "--sample", 50, "--out", tmp_path)
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'index.html'}\n"), done.output
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    page = Page(tmp_path / "index.html")
    assert set(page.tags).isdisjoint({"script", "b", "link", "iframe", "object"})
    assert '<script>alert("1")</script> & $x^2$ 表 xxx' in page.text
    assert "<b>Eve</b> · joy" in page.text
    assert all(one.startswith(("data:image/", "data:audio/flac;")) for one in page.loads)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:" in (
        tmp_path / "index.html"
    ).read_text(encoding="utf-8")
    images = page.images()
    assert all(image is not None for image in images)
    # Three utterances with 8 frames, 8 crops and audio; one with only audio.
    assert len(images) == 3 * 17 + 1
    assert sum(image.shape == (112, 112, 3) for image in images if image is not None) == 24
    places = [page.text.index(f"{one} · ") for one in (BROKEN, MUTE, GONE, PEOPLE, FACE)]
    assert places[:2] == sorted(places[:2])
    assert max(places[:3]) < min(places[3:])
    assert page.text.index(f"{PEOPLE} · ") < page.text.index(f"{FACE} · ")  # a single person is not in doubt
    assert "on this page" in page.text
    assert "finished media" in page.text
    assert "50 %" in page.text.split("with a face")[1][:20]
    assert "have other values" not in page.text


@pytest.mark.usefixtures("without_workers")
def test_the_doubtful_ones_are_those_with_a_face_and_the_least_margin(finished, tmp_path):
    done = run(finished, "--sample", 1, "--doubtful", "--out", tmp_path / "sheet.html")
    assert done.exit_code == 0, done.output
    page = Page(tmp_path / "sheet.html")
    assert page.text.count("tiny: the most doubtful face\n") == 2  # the title and the heading
    assert (
        "The most doubtful face out of 6, by the finished media. Utterances without a face are left out." in page.text
    )
    assert "faces as decoded" not in page.text
    assert PEOPLE in page.text
    assert FACE not in page.text


@pytest.mark.usefixtures("without_workers")
def test_the_sheet_plays_the_audio_that_the_encoders_get_and_follows_the_colours_of_the_system(finished, tmp_path):
    assert run(finished, "--sample", 50, "--out", tmp_path).exit_code == 0
    sounds = Page(tmp_path / "index.html").sounds()
    assert [rate for _, rate in sounds] == [RATE_HZ] * 4  # face, people, mute and the hostile one
    assert all(abs(len(sound) / rate - SECONDS) < 0.1 and np.abs(sound).max() > 0.2 for sound, rate in sounds)
    assert "@media (prefers-color-scheme: dark)" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_seed_draws_the_same_utterances_again(corpus, tmp_path, monkeypatch):
    shown: list[list[str]] = []

    def nothing(settings: MediaConfig, layout: Layout, run: RunOptions, table: Any) -> dict[str, Seen]:
        shown.append(table["utterance_id"].to_pylist())
        clip = Clip("", "", "", "", "full", None, None, None, None)
        lost = DialogueTask(
            layout.raw, "tiny", tuple(replace(clip, utterance_id=one) for one in shown[-1]), BOTH, config(), None
        )
        return {row["utterance_id"]: Seen(row, failures) for row, failures in without_result(lost, "media_crashed", "")}

    monkeypatch.setattr(drawing, "decode_anew", nothing)
    for seed in (0, 0, 1, 2):
        assert run(corpus, "--sample", 3, "--seed", seed, "--out", tmp_path).exit_code == 0
    assert run(corpus, "--sample", 3, "--split", "test", "--out", tmp_path).exit_code == 0
    assert [len(one) for one in shown] == [3, 3, 3, 3, 1]
    assert shown[0] == shown[1]
    assert len({tuple(one) for one in shown[:4]}) > 1
    assert shown[4] == [GONE]


def test_a_decoder_that_crashes_costs_its_utterance_alone(corpus, tmp_path, monkeypatch):
    (tmp_path / "fatal.py").write_text(
        "import os, signal\n\ndef observe(task):\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(drawing, "observe", importlib.import_module("fatal").observe)
    table = manifest.read(corpus.manifest)
    found = decode_anew(
        config(),
        corpus,
        RunOptions(workers=1),
        table.filter(np.array([one == MUTE for one in table["utterance_id"].to_pylist()])),
    )
    assert list(found) == [MUTE]
    assert found[MUTE].columns["visual_status"] == "media_crashed"
    assert "SIGSEGV" in words.remarks(found[MUTE])[0].text


def test_it_says_what_differs_from_the_finished_media(finished, two_people):
    ids = {**two_people.columns, "utterance_id": PEOPLE, "dialogue_id": "train/dia0"}
    same = {PEOPLE: replace(two_people, columns=ids)}
    assert compare(finished, config(), same) == ([], {})
    (said,), _ = compare(finished, config(frames_per_clip=4), same)
    assert "other settings: media.frames_per_clip: 8 there, 4 wanted" in said
    changed = {PEOPLE: replace(two_people, columns={**ids, "frames_seen": 7, "face_track": 5})}
    general, of_each = compare(finished, config(), changed)
    assert general == []
    assert "other values here: frames_seen, face_track;" in of_each[PEOPLE][0]
    _, of_each = compare(
        finished, config(), {"train/new": replace(two_people, columns={**ids, "utterance_id": "train/new"})}
    )
    assert "not in the finished media" in of_each["train/new"][0]


@pytest.mark.parametrize(
    "hostile",
    ["..", "../..", "/etc/passwd", "a\0b", "a/b?c", "con.png", "-rf", ".hidden", "é" * 400, "a\nb", "a.b", ""],
)
def test_names_of_files_stay_in_their_folder_and_differ(hostile):
    name = file_name(hostile)
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-~")
    assert 0 < len(name) < 120
    assert name != file_name(hostile + "x")
    assert name != file_name(name)
    assert not name.startswith((".", "-"))


def test_frames_beyond_the_limit_are_thinned_out_evenly():
    looks = [replace(grey_look(), seconds=float(number)) for number in range(64)]
    assert [look.seconds for look in picture.shown(looks, 4)] == [8.0, 24.0, 40.0, 56.0]
    assert picture.shown(looks[:3], 4) == looks[:3]


def test_doubts_are_named(two_people):
    row = {**two_people.columns, "face_coverage": 0.375, "face_choice_margin": 0.04}
    assert words.doubts(Seen(row, [])) == ["in 38 % of the frames", "margin 0.04"]
    assert Seen(row, []).doubt == 0.04
    assert words.doubts(Seen({**row, "visual_status": "no_face"}, [])) == ["no face"]
    assert Seen({**row, "visual_status": "no_face"}, []).doubt == -2.0
    alone = {**row, "face_coverage": 1.0, "face_tracks": 1, "face_choice_margin": None}
    assert words.doubts(Seen(alone, [])) == []
    assert Seen(alone, []).doubt == 1.0
    judged = {**row, "face_coverage": 1.0, "face_choice_margin": 0.4, "speaking_logit": -0.3, "off_screen": False}
    assert words.doubts(Seen(judged, [])) == ["margin 0.40", "logit -0.30"]
    assert words.doubts(Seen({**judged, "off_screen": True}, [])) == ["margin 0.40", "speaker off screen"]


def test_off_screen_speakers_come_before_low_logits_and_a_face_with_no_one_next_to_it_is_not_doubtful(two_people):
    row = {
        **two_people.columns,
        "face_coverage": 1.0,
        "face_choice_margin": None,
        "speaking_logit": 4.0,
        "off_screen": False,
    }
    rows = [
        {**row, "visual_status": "no_face"},
        {**row, "speaking_logit": -2.0, "off_screen": True},
        {**row, "face_choice_margin": -0.5},
        {**row, "speaking_logit": -0.2},
        {**row, "face_choice_margin": 2.0},
        row,
    ]
    doubts = [seen.doubt_of(one) for one in rows]
    assert doubts == sorted(doubts)
    assert doubts[-1] == pytest.approx(0.982, abs=1e-3)


def test_an_utterance_of_several_spans_is_said_to_come_from_all_of_them():
    utterance = {
        "video_path": "a.mp4",
        "audio_path": "a.mp4",
        "video_region": "full",
        "video_start_seconds": 1.0,
        "video_end_seconds": 2.5,
    }
    assert words.origin(utterance) == words.origin({**utterance, "further_spans": None}) == "a.mp4, 1.00 s to 2.50 s"
    further = [{"video_path": "b.mp4", "audio_path": "b.wav", "start_seconds": 0.0, "end_seconds": 0.25}]
    assert (
        words.origin({**utterance, "further_spans": further}) == "a.mp4, 1.00 s to 2.50 s; then b.mp4, 0.00 s to 0.25 s"
    )


def test_totals_count_what_they_say(two_people):
    row = {**two_people.columns, "face_coverage": 0.25, "face_choice_margin": 0.05}
    alone = {**row, "face_coverage": 1.0, "face_tracks": 1, "face_choice_margin": None}
    none = {**row, "visual_status": "no_face", "audio_status": "silence", "face_tracks": 0, "face_choice_margin": None}
    assert dict(words.totals([row, alone, none, none])) == {
        "utterances": "4",
        "with a face": "2 (50 %)",
        "with sound": "2 (50 %)",
        "coverage, median": "62 %",
        "coverage below 50 %": "1 (50 %)",
        "with several people": "1 (25 %)",
        "their margin, median": "0.05",
        "their margin low": "1 (100 %)",
        "speaker off screen": "–",
    }
    assert dict(words.totals([none]))["their margin, median"] == "–"


def test_a_sheet_of_many_frames_says_how_many_it_leaves_out(tmp_path, two_people):
    looks = tuple(replace(two_people.looks[0], seconds=0.01 * number) for number in range(40))
    persons = (seen.Person(40, Evidence(0.1, 0.2, 0.3, 1.0)), seen.Person(40, None))
    utterance = {
        "speaker": "A",
        "emotion": "",
        "split": "dev",
        "text": " ",
        "video_path": "",
        "audio_path": "",
        "video_region": "left",
    }
    utterance |= {"video_start_seconds": 1.0, "video_end_seconds": None, "utterance_id": "dev/x"}
    entry = sheet.Entry(replace(two_people, looks=looks, persons=persons), utterance, ["look here"])
    sheet.write_sheet(
        tmp_path / "a.html", "t", [entry], "speaking", "All.", {"on this page": words.totals([entry.seen.columns])}
    )
    page = Page(tmp_path / "a.html")
    assert len(page.images()) == 33
    for said in (
        "24 more frames are not shown",
        "A · no label",
        "(no text)",
        "no file, left half, 1.00 s to its end",
        "look here",
        "mouth moves 0.10",
    ):
        assert said in page.text
