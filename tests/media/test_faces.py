import av
import cv2
import numpy as np
import pytest

from merc.errors import BadSettings
from merc.media import faces
from merc.media.faces import FaceFinder, Sighting
from merc.media.video import Picture

# From the table in the README of the real data: clip, minimum and maximum share of frames with the chosen face.
CLIPS = [
    ("single_face.mp4", 1.0, 1.0),
    ("WolfgangLanger_Pexels.mp4", 1.0, 1.0),
    ("no_face.mp4", 0.0, 0.0),
    ("noface_face.mov", 0.25, 0.6),
]


def sighting(picture, box, landmarks=None):
    """A face in an uncropped frame."""
    return Sighting(box, 1.0, picture, 1.0, (0.0, 0.0), landmarks, np.ones(1, np.float32))


def picture_with_dots(points, size=240):
    picture = np.zeros((size, size, 3), np.uint8)
    for x, y in points:
        cv2.circle(picture, (round(x * 16), round(y * 16)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return picture


def turned(degrees, distance, middle, points=((-0.5, 0), (0.5, 0), (0, 0.58), (-0.43, 1.06), (0.43, 1.06))):
    """The five points of a face from the front, its eyes this many pixels apart."""
    angle = np.radians(degrees)
    return np.array(middle) + distance * np.array(points) @ np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )


@pytest.mark.parametrize(("degrees", "distance"), [(0, 40.0), (30, 36.0), (-35, 52.0)])
def test_five_landmarks_are_brought_to_the_same_places_however_the_head_is_tilted(config, degrees, distance):
    landmarks = turned(degrees, distance, (120.0, 100.0))
    picture = faces.crop(sighting(picture_with_dots(landmarks), (60.0, 50.0, 110.0, 130.0), landmarks), config)
    assert picture.shape == (112, 112, 3)
    labels, _, _, centres = cv2.connectedComponentsWithStats((picture[..., 0] > 100).astype(np.uint8))
    assert labels == 6
    places = sorted((round(y / 20), x, y) for x, y in centres[1:])
    np.testing.assert_allclose(
        [(x, y) for _, x, y in places], [(38.1, 47.0), (73.9, 47.0), (56.0, 67.8), (40.6, 85.0), (71.4, 85.0)], atol=1.0
    )


def test_a_landmark_that_is_off_moves_the_crop_by_its_share_alone(config):
    landmarks = turned(0, 40.0, (120.0, 100.0))
    off = landmarks.copy()
    off[2, 0] += 10.0
    matrix = [faces.similarity(points, landmarks) for points in (landmarks, off)]
    np.testing.assert_allclose(matrix[0], [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    assert 1.0 < abs(matrix[1][0] @ [120.0, 121.6, 1.0] - 120.0) < 3.0


def test_the_similarity_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    rows = np.concatenate([[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in source])
    (a, b, across, down), *_ = np.linalg.lstsq(rows, target.ravel(), rcond=None)
    np.testing.assert_allclose(faces.similarity(source, target), [[a, -b, across], [b, a, down]], atol=1e-12)


@pytest.mark.parametrize(("left", "right"), [((80, 90), (120, 90)), ((80, 80), (118, 102)), ((95, 130), (140, 100))])
def test_eyes_alone_are_brought_to_the_same_place(config, monkeypatch, left, right):
    monkeypatch.setattr(faces, "eyes_of", lambda _: np.array([left, right], dtype=np.float64))
    picture = faces.crop(sighting(picture_with_dots([left, right]), (50.0, 50.0, 100.0, 100.0)), config)
    for side, expected_x in ((slice(0, 56), 112 * (0.5 - 0.16)), (slice(56, 112), 112 * (0.5 + 0.16))):
        y, x = np.nonzero(picture[:, side, 0] > 128)
        assert x.mean() + side.start == pytest.approx(expected_x, abs=1.0)
        assert y.mean() == pytest.approx(112 * 0.42, abs=1.0)


def test_a_profile_does_not_fill_the_crop_with_a_cheek(config, monkeypatch):
    monkeypatch.setattr(faces, "eyes_of", lambda _: np.array([(100.0, 90.0), (104.0, 90.0)]))
    near = faces.crop(sighting(picture_with_dots([(100, 90), (104, 90)]), (50.0, 50.0, 100.0, 100.0)), config)
    _y, x = np.nonzero(near[..., 0] > 128)
    assert np.ptp(x) < 112 * 0.32


def test_without_eyes_the_typical_place_in_the_box_is_taken():
    flat = Sighting(
        (100.0, 50.0, 80.0, 80.0),
        1.0,
        np.full((160, 160, 3), 90, np.uint8),
        1.0,
        (60.0, 10.0),
        None,
        np.ones(1, np.float32),
    )
    np.testing.assert_allclose(faces.eyes_of(flat), [[124.24, 81.28], [154.56, 81.36]])


def test_appearance_distinguishes_colours_and_bears_a_little_noise():
    rng = np.random.default_rng(0)
    pink = np.full((120, 120, 3), (214, 168, 150), np.uint8)
    pink[:50] = (60, 40, 30)
    noisy = np.clip(pink + rng.normal(0, 3, pink.shape), 0, 255).astype(np.uint8)
    other = np.full((120, 120, 3), (120, 80, 60), np.uint8)
    other[:50] = (190, 190, 190)
    first, same, second = (faces._appearance(patch, 60.0) for patch in (pink, noisy, other))
    assert first.shape == (faces.APPEARANCE,)
    assert first @ first == pytest.approx(1.0)
    assert first @ same > 0.75
    assert first @ second < 0.3


@pytest.mark.parametrize("kind", ["flat", "noise", "stripes"])
def test_the_cascade_sees_no_face_where_there_is_none(config, kind):
    noise = np.random.default_rng(0).integers(0, 255, (270, 480, 3), dtype=np.uint8)
    stripes = np.repeat(np.tile(np.arange(480) // 20 % 2 * 200, (270, 1))[..., None], 3, axis=2).astype(np.uint8)
    picture = {"flat": np.full_like(noise, 128), "noise": noise, "stripes": stripes}[kind]
    assert FaceFinder(config, None).find(Picture.from_rgb(picture)) == []


def test_a_file_that_is_not_a_network_is_refused_by_name(config, tmp_path):
    (tmp_path / "face.onnx").write_bytes(b"no network")
    with pytest.raises(BadSettings, match=r"media\.yunet_file.*face\.onnx"):
        FaceFinder(config, tmp_path / "face.onnx")


@pytest.fixture(params=["haar", "yunet"])
def detector(request, config, real_data):
    if request.param == "haar":
        return config, None
    model = real_data / "models" / "face_detection_yunet.onnx"
    return config.model_copy(update={"detector": "yunet", "yunet_file": str(model)}), model


@pytest.mark.parametrize(("name", "least", "most"), CLIPS)
def test_faces_are_found_in_real_clips_where_there_are_some(real_data, decode_one, detector, name, least, most):
    row, failures = decode_one(real_data / "media", name, *detector)
    assert least <= row["face_coverage"] <= most
    assert row["frames_seen"] == 8
    assert (row["visual_status"], row["face_tracks"]) == (("ok", 1) if most else ("no_face", 0))
    assert [failure for failure in failures if failure[0] == "visual"] == (
        [] if most else [("visual", "no_face")]
    )  # one of them has no audio
    for face in row["faces"]:
        assert cv2.imdecode(np.frombuffer(face, np.uint8), cv2.IMREAD_COLOR).shape == (112, 112, 3)


def test_many_small_faces_are_distinguished(real_data, decode_one, detector):
    settings, model = detector
    row, _ = decode_one(real_data / "media", "many_faces_1080p.mp4", *detector)
    assert row["visual_status"] == "ok"
    # the cascade is weak on faces of 60 of 1920 pixels; it needs a larger frame to find several people
    wide = settings.model_copy(update={"detection_widths_pixels": (960 if model is None else 640,)})
    row, _ = decode_one(real_data / "media", "many_faces_1080p.mp4", wide, model)
    assert row["face_tracks"] >= (3 if model is None else 5)
    assert row["faces_seen"] >= (8 * 2 if model is None else 8 * 3)


def test_people_in_real_clips_are_distinguished_by_appearance(real_data, config):
    model = real_data / "models" / "face_detection_yunet.onnx"
    finder = FaceFinder(config.model_copy(update={"detector": "yunet", "yunet_file": str(model)}), model)
    seen = []
    for name in ("single_face.mp4", "WolfgangLanger_Pexels.mp4"):
        with av.open(str(real_data / "media" / name)) as container:
            frames = [frame for number, frame in enumerate(container.decode(video=0)) if number in (0, 15)]
        seen.append([finder.find(Picture(frame))[0].appearance for frame in frames])
    for (first, second), (other, _) in (seen, seen[::-1]):
        assert first @ second > config.track_jump_likeness
        assert first @ other < config.track_min_likeness


def test_crops_of_a_real_face_have_their_eyes_in_place_with_either_detector(real_data, decode_one, detector):
    network = cv2.FaceDetectorYN.create(str(real_data / "models" / "face_detection_yunet.onnx"), "", (224, 224), 0.5)
    row, _ = decode_one(real_data / "media", "single_face.mp4", *detector)
    for face in row["faces"]:
        picture = cv2.copyMakeBorder(
            cv2.imdecode(np.frombuffer(face, np.uint8), cv2.IMREAD_COLOR), 56, 56, 56, 56, cv2.BORDER_REPLICATE
        )
        _, found = network.detect(picture)
        eyes = (found[0, 4:8].reshape(2, 2) - 56) / 112
        # the network's own landmarks move by 0.03 between frames, the eye cascade's by as much
        np.testing.assert_allclose(eyes, [[0.34, 0.42], [0.66, 0.42]], atol=0.07)
