"""Scores of faces: with random weights, what must hold for any weights; with the authors' weights, the scores of real
faces.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from merc.errors import BadSettings
from merc.media.active_speaker import weights
from merc.media.active_speaker.scoring import (
    SIDE_PIXELS,
    WINDOW_SECONDS,
    FaceRun,
    Scorer,
    crop_box,
    heard,
    smoothed,
    windows,
)
from merc.media.active_speaker.sound import mfcc

Faces = NDArray[np.uint8]
Waveform = NDArray[np.float32]


@pytest.fixture
def scorer(random_file: Path) -> Scorer:
    return Scorer(random_file)


def _run(frames: int, begin_seconds: float = 0.0, seed: int = 0) -> FaceRun:
    return FaceRun(
        begin_seconds,
        np.random.default_rng(seed + frames).integers(0, 256, (frames, SIDE_PIXELS, SIDE_PIXELS), dtype=np.uint8),
    )


def _noise(seconds: float) -> Waveform:
    return (0.1 * np.random.default_rng(0).normal(size=round(16_000 * seconds))).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 3, 26, 52])
def test_every_frame_has_the_mean_of_its_windows_smoothed(scorer: Scorer, random_file: Path, frames: int) -> None:
    run, waveform_S = _run(frames, 0.2), _noise(4)
    network = weights.load(random_file)
    sound = mfcc(waveform_S[3200 : 3200 + 640 * frames + 240])
    encoded_TC = network.encode_faces(torch.from_numpy(run.faces_THW)) + network.encode_sound(torch.from_numpy(sound))
    judged = np.zeros(frames)
    for seconds in WINDOW_SECONDS:
        for begin in range(0, frames, 25 * seconds):
            window = slice(begin, min(frames, begin + 25 * seconds))
            judged[window] += network.logits(encoded_TC, [window])[0].numpy() / len(WINDOW_SECONDS)
    wanted = [np.mean(judged[max(0, at - 2) : at + 3]) for at in range(frames)]
    (found,) = scorer.logits([run], waveform_S)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


def test_a_face_has_the_same_scores_to_the_bit_whatever_others_there_are(scorer: Scorer) -> None:
    runs, waveform_S = [_run(frames, 0.04 * frames) for frames in (18, 3, 1, 18)], _noise(3)
    together = scorer.logits(runs, waveform_S)
    for number, run in enumerate(runs):
        np.testing.assert_array_equal(scorer.logits([run], waveform_S)[0], together[number])
    for one, other in zip(scorer.logits(runs[::-1], waveform_S)[::-1], together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_thirty_faces_of_three_frames_have_three_scores_each(scorer: Scorer) -> None:
    found = scorer.logits([_run(3, seed=number) for number in range(30)], _noise(1))
    assert [len(one) for one in found] == [3] * 30
    assert np.isfinite(found).all()


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor cannot compute in bfloat16"
)
def test_in_bfloat16_it_scores_nearly_the_same(random_file: Path) -> None:
    runs, waveform_S = [_run(frames) for frames in (1, 26, 40)], _noise(2)
    exact, rough = (
        Scorer(random_file, precision=precision).logits(runs, waveform_S) for precision in ("float32", "bfloat16")
    )
    spread = np.concatenate(exact).std()
    for one, other in zip(exact, rough, strict=True):
        assert other.dtype == np.float32
        assert 0 < np.abs(one - other).max() < 0.05 * max(1, spread)


def test_a_processor_without_bfloat16_is_reported(random_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    with pytest.raises(
        BadSettings, match=r"media\.speaker_precision: this processor cannot compute in bfloat16; use float32"
    ):
        Scorer(random_file, precision="bfloat16")
    assert Scorer(random_file).logits([], _noise(1)) == []


def test_no_face_has_no_scores(scorer: Scorer) -> None:
    assert scorer.logits([], _noise(1)) == []


@pytest.mark.parametrize("seconds", [0.0, 1 / 16_000, 0.5, 1.2])
def test_audio_shorter_than_the_video_continues_as_silence(scorer: Scorer, seconds: float) -> None:
    run, waveform_S = _run(30), _noise(seconds)
    (found,) = scorer.logits([run], waveform_S)
    np.testing.assert_array_equal(found, scorer.logits([run], np.pad(waveform_S, (0, 40_000)))[0])
    assert len(found) == 30
    assert np.isfinite(found).all()


def test_a_face_hears_the_audio_of_its_own_time(scorer: Scorer) -> None:
    waveform_S = _noise(4)
    faces_THW = _run(30).faces_THW
    (early,) = scorer.logits([FaceRun(0.0, faces_THW)], waveform_S)
    (late,) = scorer.logits([FaceRun(2.0, faces_THW)], np.pad(waveform_S, (32_000, 0)))
    np.testing.assert_array_equal(late, early)


@pytest.mark.parametrize(
    ("begin_seconds", "wanted"),
    [(0.0, [0, 1, 99]), (0.04, [640, 641, 739]), (-0.001, [None, None, 83]), (1.0, [None, None, None])],
)
def test_audio_that_is_not_there_is_silence(begin_seconds: float, wanted: Sequence[int | None]) -> None:
    waveform_S = np.arange(1, 16_001, dtype=np.float32)
    found = heard(FaceRun(begin_seconds, np.zeros((2, SIDE_PIXELS, SIDE_PIXELS), np.uint8)), waveform_S)
    assert len(found) == 2 * 640 + 240
    assert [found[at] for at in (0, 1, 99)] == [0 if one is None else one + 1 for one in wanted]


@pytest.mark.parametrize("begin_seconds", [-9.0, -0.01, 0.99, 1.0, 50.0])
def test_a_run_next_to_the_audio_hears_as_much_as_it_has_frames_for(begin_seconds: float) -> None:
    assert len(heard(_run(5, begin_seconds), _noise(1))) == 5 * 640 + 240


@pytest.mark.parametrize("frames", [1, 24, 25, 26, 150, 151, 400])
def test_the_windows_of_a_length_hold_every_frame_once(frames: int) -> None:
    for seconds in WINDOW_SECONDS:
        held = [at for begin, end in windows(frames, seconds) for at in range(begin, end)]
        assert held == list(range(frames))


@pytest.mark.parametrize("length", [1, 2, 4, 5, 9])
def test_smoothing_takes_those_that_there_are(length: int) -> None:
    scores = np.random.default_rng(length).normal(size=length)
    wanted = [sum(scores[max(0, at - 2) : at + 3]) / len(scores[max(0, at - 2) : at + 3]) for at in range(length)]
    np.testing.assert_allclose(smoothed(scores), wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("box", "square"),
    [((0, 0, 100, 100), (15, 35, 70)), ((10, 20, 50, 100), (0, 55, 70)), ((0, 0, 200, 100), (30, 20, 140))],
)
def test_the_network_sees_the_lower_part_of_a_face(
    box: tuple[float, float, float, float], square: tuple[float, float, float]
) -> None:
    assert crop_box(box) == pytest.approx(square)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((0, 112, 112), np.uint8), ((3, 112, 111), np.uint8), ((112, 112), np.uint8), ((3, 112, 112), np.float32)],
)
def test_something_else_than_faces_is_refused(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match=r"\(frames, 112, 112\) of uint8 with at least one frame is expected, not"):
        FaceRun(0.0, np.zeros(shape, dtype))


def test_faces_may_be_read_only_and_scattered_in_memory(scorer: Scorer) -> None:
    whole = _run(12).faces_THW
    scattered = whole[::-2, ::-1]
    scattered.flags.writeable = False
    (found,) = scorer.logits([FaceRun(0, scattered)], _noise(1))
    np.testing.assert_array_equal(found, scorer.logits([FaceRun(0, scattered.copy())], _noise(1))[0])


def test_the_number_of_threads_stays_as_the_caller_set_it(scorer: Scorer) -> None:
    before = torch.get_num_threads(), torch.is_grad_enabled()
    scorer.logits([_run(3)], _noise(1))
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before


# With the authors' weights. None of the shared clips shows someone speaking: the two with one face are silent (one
# digitally), and in the third people walk along a noisy street. So a speaking face is a real one whose mouth is opened
# by image warping, following the loudness of speech.


@pytest.fixture(params=["light_asd_talkset.model", "light_asd_ava.model"])
def authors(request: pytest.FixtureRequest, real_data: Path) -> Scorer:
    return Scorer(real_data / "models" / request.param)


@pytest.fixture
def speech(real_data: Path) -> Waveform:
    waveform_S, rate_hz = soundfile.read(real_data / "media" / "spk1_snt1.wav", dtype="float32")
    assert rate_hz == 16_000
    return np.asarray(waveform_S)


@pytest.mark.parametrize("clip", ["single_face.mp4", "WolfgangLanger_Pexels.mp4"])
def test_who_is_silent_does_not_speak(authors: Scorer, real_data: Path, clip: str) -> None:
    """TalkSet's weights give -1.8 and -2.6, AVA's -4.2 and -4.2."""
    faces_THW = _faces(real_data, clip, frames=40)
    assert np.mean(authors.logits([FaceRun(0.0, faces_THW)], np.zeros(40 * 640, np.float32))[0]) < -0.8


def test_a_face_that_is_still_while_someone_speaks_does_not_speak(
    authors: Scorer, real_data: Path, speech: Waveform
) -> None:
    """TalkSet's weights give -2.3, AVA's -2.9."""
    still_THW = np.repeat(_faces(real_data, "single_face.mp4", frames=6)[-1:], len(speech) // 640, axis=0)
    assert np.mean(authors.logits([FaceRun(0.0, still_THW)], speech)[0]) < -1.5


def test_a_mouth_that_opens_with_the_speech_scores_above_a_still_one_and_above_silence(
    authors: Scorer, real_data: Path, speech: Waveform
) -> None:
    """TalkSet's weights give 4.8, -2.3 and 4.2, AVA's -0.1, -2.9 and -4.0."""
    still = _faces(real_data, "single_face.mp4", frames=6)[-1]
    opening_THW = _opening(still, speech)
    speaks, silent = (
        float(np.mean(authors.logits([FaceRun(0.0, opening_THW)], sound)[0])) for sound in (speech, 0 * speech)
    )
    listens = float(
        np.mean(authors.logits([FaceRun(0.0, np.repeat(still[None], len(opening_THW), axis=0))], speech)[0])
    )
    assert speaks - listens > 1.5
    assert speaks - silent > 0.2


def test_weights_of_talkset_go_by_the_mouth_alone_where_those_of_ava_also_go_by_the_audio(
    real_data: Path, speech: Waveform
) -> None:
    """A mouth that opens in digital silence: 4.2 and -4.0. Eleven real people who speak, their audio removed, got 2.6
    to 4.7 and -2.9 to -3.7.
    """
    faces_THW = _opening(_faces(real_data, "single_face.mp4", frames=6)[-1], speech)
    by_mouth, by_sound = (
        Scorer(real_data / "models" / f"light_asd_{name}.model").logits([FaceRun(0.0, faces_THW)], 0 * speech)[0]
        for name in ("talkset", "ava")
    )
    assert np.mean(by_mouth) > 2
    assert np.mean(by_sound) < -2


def _faces(real_data: Path, clip: str, frames: int) -> Faces:
    """The face at each of this many moments, 25 per second."""
    pictures = _pictures(real_data / "media" / clip, frames)
    height, width = pictures[0].shape[:2]
    size = (480, round(480 * height / width))
    finder = cv2.FaceDetectorYN.create(str(real_data / "models" / "face_detection_yunet.onnx"), "", size, 0.6)
    boxes: list[NDArray[np.floating[Any]]] = []
    for picture in pictures:
        _, rows = finder.detect(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        boxes.append(boxes[-1] if rows is None else rows[0, :4] * width / 480)
    return np.array(
        [_crop(picture, np.median(boxes[max(0, at - 6) : at + 7], axis=0)) for at, picture in enumerate(pictures)]
    )


def _pictures(clip: Path, frames: int) -> list[Faces]:
    wanted: list[Faces] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(container.streams.video[0]):
            while len(wanted) / 25 < frame.time + 1 / float(container.streams.video[0].average_rate) - 1e-6:
                wanted.append(frame.to_ndarray(format="bgr24"))
                if len(wanted) == frames:
                    return wanted
    raise AssertionError(f"{clip} has {len(wanted)} pictures")


def _crop(picture: Faces, box: NDArray[np.floating[Any]]) -> Faces:
    left, top, side = crop_box((float(box[0]), float(box[1]), float(box[2]), float(box[3])))
    scale = SIDE_PIXELS / side
    moved = cv2.warpAffine(
        picture,
        np.array([[scale, 0, -left * scale], [0, scale, -top * scale]]),
        (SIDE_PIXELS, SIDE_PIXELS),
        borderValue=(110, 110, 110),
    )
    return np.asarray(cv2.cvtColor(moved, cv2.COLOR_BGR2GRAY))


def _opening(face: Faces, waveform_S: Waveform) -> Faces:
    """A face for each 40 ms, whose mouth is open in proportion to the loudness."""
    frames = len(waveform_S) // 640
    loudness = np.sqrt(np.mean(waveform_S[: 640 * frames].reshape(frames, 640) ** 2, axis=1))
    return np.array([_with_open_mouth(face, share) for share in np.minimum(1, loudness / np.percentile(loudness, 95))])


def _with_open_mouth(face: Faces, share: float) -> Faces:
    """Moves the area below the lips down, by up to 9 pixels in the middle, and darkens the gap."""
    y, x = np.mgrid[:SIDE_PIXELS, :SIDE_PIXELS].astype(np.float32)
    down = 9 * share * np.exp(-(((x - 56) / 24) ** 2))
    below = y - 70
    source = np.where(below < 0, y, np.where(below < down, 70, y - down * np.clip(1 - (below - down) / 40, 0, 1)))
    moved = cv2.remap(face, x, source.astype(np.float32), cv2.INTER_LINEAR)
    return np.where((below >= 0) & (below < down) & (down > 1), np.minimum(moved, 40), moved).astype(np.uint8)
