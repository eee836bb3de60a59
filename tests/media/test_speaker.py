import cv2
import numpy as np
import pytest

from merc.media import speaker
from merc.media.faces import Sighting
from merc.media.shots import numbers, thumbnail
from merc.media.speaker import Choice, Glimpse
from merc.media.tracks import Track
from merc.params import Params

WIDTH, HEIGHT = 320, 180
SECONDS, RATE = 2.4, 12.5
TIMES = np.arange(30) / RATE + 0.04
LOOKS = np.arange(8) * 0.3 + 0.15
RNG = np.random.default_rng(5)
# The loudness: bursts of a fifth of a second and of unequal strength, like syllables.
SYLLABLES = np.array([0.1, 0.9, 0.2, 0.0, 0.7, 0.3, 1.0, 0.1, 0.5, 0.0, 0.8, 0.2, 0.6])


def loud(seconds):
    return np.interp(seconds, np.arange(len(SYLLABLES)) * 0.2, SYLLABLES)


def waveform(level=loud, seconds=SECONDS):
    times = np.arange(round(seconds * 16_000)) / 16_000
    return (0.5 * level(times) ** 2 * np.sin(2 * np.pi * 200 * times)).astype(np.float32)


def still(seconds):
    return 0.0 * seconds


def chewing(seconds):
    return 0.5 + 0.5 * np.sin(2 * np.pi * 1.7 * seconds + 1.0)


def nodding(seconds):
    return 0.3 * np.sin(2 * np.pi * 1.3 * seconds)


def person(x, y, eyes, *, mouth=still, nod=still, blink=still, number=0):
    """A face: the midpoint between its eyes, their distance in pixels, and what it does when."""
    rng = np.random.default_rng(number)
    skin = 130 + 45 * cv2.GaussianBlur(rng.normal(size=(96, 80)), (0, 0), 4) / 0.07
    return {"x": x, "y": y, "eyes": eyes, "mouth": mouth, "nod": nod, "blink": blink, "skin": np.clip(skin, 60, 220)}


def draw(picture, who, seconds):
    """Draws a face of 80 by 96 pixels, the eyes 32 apart and the mouth 34 below them, into the frame."""
    face = who["skin"].copy()
    for x in (24, 56):
        cv2.ellipse(face, (x, 32), (7, 1 if who["blink"](seconds) > 0.5 else 4), 0, 0, 360, 20, -1, cv2.LINE_AA)
    cv2.ellipse(
        face,
        (40 * 16, 66 * 16),
        (12 * 16, round((1 + 7 * float(who["mouth"](seconds))) * 16)),
        0,
        0,
        360,
        25,
        -1,
        cv2.LINE_AA,
        4,
    )
    scale = who["eyes"] / 32
    middle = np.array([who["x"], who["y"] + who["eyes"] * float(who["nod"](seconds))])
    matrix = np.column_stack([scale * np.eye(2), middle - scale * np.array([40, 32])])
    cover = cv2.warpAffine(np.ones_like(face), matrix, (WIDTH, HEIGHT))
    picture[...] = picture + cover * (cv2.warpAffine(face, matrix, (WIDTH, HEIGHT)) - picture)


def film(persons, backgrounds=lambda _: 90.0):
    rng = np.random.default_rng(1)
    glimpses = []
    for seconds in TIMES:
        picture = np.full((HEIGHT, WIDTH), backgrounds(seconds))
        for who in persons:
            draw(picture, who, seconds)
        noisy = cv2.GaussianBlur(picture, (3, 3), 0) + rng.normal(0, 2, picture.shape)
        glimpses.append(Glimpse(float(seconds), np.clip(noisy, 0, 255).astype(np.uint8), 0.5))
    return glimpses


def sighting(who, seconds, landmarks=True):
    """A detector's output for a face; the frame is twice as large as a glimpse."""
    middle = 2 * np.array([who["x"], who["y"] + who["eyes"] * float(who["nod"](seconds))])
    size = 2 * who["eyes"]
    points = middle + size * np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.58], [-0.43, 1.06], [0.43, 1.06]])
    box = (middle[0] - 1.31 * size, middle[1] - 1.03 * size, 2.64 * size, 2.64 * size)
    return Sighting(
        tuple(map(float, box)),
        1.0,
        np.zeros((2, 2, 3), np.uint8),
        1.0,
        (0.0, 0.0),
        points if landmarks else None,
        np.ones(1, np.float32),
    )


def scene(persons, landmarks=True, seen=None, **kwargs):
    """Tracks, looks and glimpses of people, all of whom are seen in all looks, or in those that ``seen`` lists."""
    looks = [(float(seconds), [sighting(who, seconds, landmarks) for who in persons]) for seconds in LOOKS]
    frames = seen or [range(len(LOOKS))] * len(persons)
    tracks = [
        Track(
            tuple((frame, index) for frame in frames[index]),
            sum(looks[frame][1][index].box[2] ** 2 for frame in frames[index]),
        )
        for index in range(len(persons))
    ]
    return tracks, looks, film(persons, **kwargs)


def left(**kwargs):
    return person(90, 80, 22, number=1, **kwargs)


def right(**kwargs):
    return person(230, 80, 22, number=2, **kwargs)


@pytest.mark.parametrize("landmarks", [True, False], ids=["yunet", "haar"])
@pytest.mark.parametrize("eyes", [10, 22], ids=["small", "large"])
def test_the_mouth_that_moves_with_the_audio_beats_a_larger_face(config, landmarks, eyes):
    persons = [person(230, 70, 34, number=2), person(90, 80, eyes, mouth=loud, number=1)]
    choice = speaker.choose(*scene(persons, landmarks), waveform(), config)
    assert choice.track == 1
    assert choice.score > 0.6
    assert choice.margin > 0.3


@pytest.mark.parametrize("landmarks", [True, False], ids=["yunet", "haar"])
def test_chewing_is_not_speaking(config, landmarks):
    shots = scene([left(mouth=chewing), right(mouth=loud)], landmarks)
    chews, speaks = speaker.evidence(*shots, waveform(), config)
    assert min(chews.motion, speaks.motion) > 0.3
    assert speaks.sync > 2 * chews.sync
    assert speaker.choose(*shots, waveform(), config).track == 1


@pytest.mark.parametrize(
    "listener", [{"nod": nodding}, {"blink": lambda seconds: np.sin(9 * seconds)}], ids=["nods", "blinks"]
)
def test_a_listener_who_moves_has_no_moving_mouth(config, listener):
    shots = scene([left(**listener), right(mouth=loud)])
    listens, speaks = speaker.evidence(*shots, waveform(), config)
    assert listens.motion < 0.15
    assert speaks.motion > 0.3
    assert speaker.choose(*shots, waveform(), config).track == 1


def test_a_speaker_who_nods_is_still_followed(config):
    assert speaker.choose(*scene([left(mouth=loud, nod=nodding), right()]), waveform(), config).track == 0


def test_a_mouth_that_moves_in_the_pauses_alone_counts_less(config):
    """Its motion is as strong, but it is still while the audio is loud: the mouth does not belong to this audio."""
    first_half = waveform(lambda seconds: np.where(seconds < 1.2, loud(seconds), 0.0))
    persons = [
        left(mouth=lambda seconds: chewing(3 * seconds) * (seconds > 1.2)),
        right(mouth=lambda seconds: loud(seconds) * (seconds < 1.2)),
    ]
    pauses, speaks = speaker.evidence(*scene(persons), first_half, config)
    assert pauses.motion < 0.1 < speaks.motion
    assert pauses.sync < speaks.sync


@pytest.mark.parametrize(
    "sound", [None, np.zeros(38_400, np.float32), np.zeros(0, np.float32)], ids=["none", "zeros", "empty"]
)
def test_without_audio_size_and_persistence_decide(config, sound):
    settings = config.model_copy(update={"face_size_weight": 0.1, "face_persistence_weight": 0.3})
    persons = [person(230, 70, 30, number=2), person(90, 80, 15, mouth=loud, number=1)]
    choice = speaker.choose(*scene(persons, seen=[range(0, 8, 2), range(8)]), sound, settings)
    assert choice == Choice(
        1,
        pytest.approx(0.1 * 0.5 / 0.4 + 0.3 * 1.0 / 0.4),
        pytest.approx(0.25 * (1 * 0.5 + 3 * 1.0 - 1 * 1.0 - 3 * 0.5)),
    )


def test_nothing_can_be_told_from_a_steady_tone_but_that_a_mouth_moves(config):
    shots = scene([left(), right(mouth=chewing)])
    tone = waveform(lambda seconds: np.ones_like(seconds))
    assert [one.sync for one in speaker.evidence(*shots, tone, config)] == [0.0, 0.0]
    assert speaker.choose(*shots, tone, config).track == 1


def test_one_glimpse_is_not_enough_to_see_a_mouth_move(config):
    tracks, looks, glimpses = scene([left(mouth=loud), person(230, 70, 30, number=2)])
    assert speaker.choose(tracks, looks, glimpses[:1], waveform(), config).track == 1
    assert speaker.choose(tracks, looks, [], waveform(), config).track == 1


def test_a_single_track_is_chosen_without_a_glance_at_the_glimpses(config):
    tracks, looks, _ = scene([left(mouth=loud)])
    choice = speaker.choose(tracks, looks, [None] * 30, waveform(), config)
    assert choice == Choice(0, pytest.approx(1.0), None)


@pytest.mark.parametrize("way", ["speaking", "largest", "persistent"])
def test_where_no_one_is_seen_no_one_is_chosen(config, way):
    assert speaker.choose([], [(0.1, [])], [], waveform(), config.model_copy(update={"choice": way})) == Choice(
        -1, 0.0, None
    )


def test_the_other_ways_to_choose_score_by_area_and_by_frames(config):
    persons = [person(230, 70, 30, number=2), person(90, 80, 10, number=1)]
    tracks, looks, _ = scene(persons, seen=[range(0, 8, 2), range(7)])
    by_area = speaker.choose(tracks, looks, [], None, config.model_copy(update={"choice": "largest"}))
    by_frames = speaker.choose(tracks, looks, [], None, config.model_copy(update={"choice": "persistent"}))
    assert by_area == Choice(0, pytest.approx(36 / 43), pytest.approx(29 / 43))
    assert by_frames == Choice(1, pytest.approx(0.875), pytest.approx(0.375))


def test_a_face_at_the_border_is_not_a_reason_to_stop(config):
    persons = [person(2, 80, 22, number=1, mouth=chewing), right(mouth=loud), person(160, 178, 22, number=3)]
    found = speaker.evidence(*scene(persons), waveform(), config)
    assert all(0 <= value <= 1 for one in found for value in (one.motion, one.sync, one.size, one.persistence))
    assert speaker.choose(*scene(persons), waveform(), config).track == 1


def test_a_tiny_face_is_not_a_reason_to_stop(config):
    persons = [person(40, 80, 2, number=1, mouth=chewing), right(mouth=loud)]
    found = speaker.evidence(*scene(persons), waveform(), config)
    assert found[0].motion < found[1].motion
    assert speaker.choose(*scene(persons), waveform(), config).track == 1


def test_a_speaker_who_is_seen_in_half_of_the_looks_is_followed_there(config):
    tracks, looks, glimpses = scene([left(), right(mouth=loud)], seen=[range(8), range(4, 8)])
    _, speaks = speaker.evidence(tracks, looks, glimpses, waveform(), config)
    assert speaks.persistence == 0.5
    assert speaks.motion > 0.3
    assert speaker.choose(tracks, looks, glimpses, waveform(), config).track == 1


def test_a_cut_is_not_a_motion_of_mouths(config):
    light = scene([left(), right()], backgrounds=lambda seconds: 40.0 if int(seconds / 0.8) % 2 else 200.0)
    assert numbers([thumbnail(one.grey) for one in light[2]])[-1] == 2
    for one in speaker.evidence(*light, waveform(), config):
        assert one.motion < 0.15
        assert one.sync < 0.3


def test_a_mouth_hidden_by_a_passer_by_is_not_in_motion(config):
    def passing(picture_seconds):
        return 1.0 < picture_seconds < 1.4

    tracks, looks, glimpses = scene([left(), right(mouth=loud)])
    for one in glimpses:
        if passing(one.seconds):
            one.grey[:, 40:150] = 15
    hidden, speaks = speaker.evidence(tracks, looks, glimpses, waveform(), config)
    assert hidden.motion < 0.15 < speaks.motion
    assert speaker.choose(tracks, looks, glimpses, waveform(), config).track == 1


def test_loudness_is_the_root_of_the_rms_and_holds_at_the_ends():
    steady = np.full(16_000, 0.25, np.float32)
    np.testing.assert_allclose(speaker.loudness(steady, np.array([[-1.0, 0.0], [0.5, 3.0]])), 0.5)
    step = np.concatenate([np.zeros(8000, np.float32), np.full(8000, 0.16, np.float32)])
    np.testing.assert_allclose(
        speaker.loudness(step, np.array([0.2, 0.5, 0.8])), [0.0, np.sqrt(np.sqrt(0.16**2 * 641 / 1281)), 0.4], atol=1e-6
    )


def rightly_chosen(benchmark, real_data, folder, heads, seeds):
    settings, model = benchmark.settings(Params.load(benchmark.PARAMS), "yunet", real_data)
    (folder / "scenes").mkdir()
    right = []
    for seed in seeds:
        composed = benchmark.compose(seed, real_data, heads)
        benchmark.encode(composed, folder / "scenes" / "scene.mp4")
        seen = benchmark.watch(folder / "scenes" / "scene.mp4", settings, model)
        right.append(benchmark.judge(composed, seen, settings, {}).right("speaking"))
    return sum(right)


def test_the_speaker_is_found_in_most_drawn_scenes(benchmark, real_data, tmp_path):
    assert rightly_chosen(benchmark, real_data, tmp_path, [], range(1001, 1025, 4)) >= 5


@pytest.mark.slow
def test_the_speaker_is_found_in_most_of_a_dozen_scenes_of_real_heads(benchmark, real_data, tmp_path):
    assert rightly_chosen(benchmark, real_data, tmp_path, benchmark.real_heads(real_data), range(1000, 1024, 2)) >= 9
