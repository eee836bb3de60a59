import cv2
import numpy as np
import pytest

from pipeline.errors import BadSettings
from pipeline.media import faces
from pipeline.media.faces import FaceFinder, Sighting

# From the table in the README of the real data: clip, least share of frames with the chosen face, and the most.
CLIPS = [("single_face.mp4", 1.0, 1.0), ("WolfgangLanger_Pexels.mp4", 1.0, 1.0), ("no_face.mp4", 0.0, 0.0), ("noface_face.mov", 0.25, 0.6)]


def sighting_with_eyes(left, right, size=200):
    """A picture with a white dot for each eye, seen whole."""
    picture = np.zeros((size, size, 3), np.uint8)
    for x, y in (left, right):
        cv2.circle(picture, (round(x), round(y)), 4, (255, 255, 255), -1)
    return Sighting((50.0, 50.0, 100.0, 100.0), 1.0, picture, 1.0, (0.0, 0.0), np.array([left, right], dtype=np.float64))


@pytest.mark.parametrize(("left", "right"), [((80, 90), (120, 90)), ((80, 80), (118, 102)), ((95, 130), (140, 100))])
def test_eyes_are_brought_to_the_same_place_however_the_head_is_tilted(config, left, right):
    picture = faces.crop(sighting_with_eyes(left, right), config)
    assert picture.shape == (112, 112, 3)
    for side, expected_x in ((slice(0, 56), 112 * (0.5 - 0.16)), (slice(56, 112), 112 * (0.5 + 0.16))):
        y, x = np.nonzero(picture[:, side, 0] > 128)
        assert x.mean() + side.start == pytest.approx(expected_x, abs=1.0)
        assert y.mean() == pytest.approx(112 * 0.42, abs=1.0)


def test_a_profile_does_not_fill_the_crop_with_a_cheek(config):
    near = faces.crop(sighting_with_eyes((100, 90), (104, 90)), config)
    _y, x = np.nonzero(near[..., 0] > 128)
    assert np.ptp(x) < 112 * 0.32


def test_without_eyes_the_typical_place_in_the_box_is_taken():
    flat = Sighting((100.0, 50.0, 80.0, 80.0), 1.0, np.full((160, 160, 3), 90, np.uint8), 1.0, (60.0, 10.0), None)
    np.testing.assert_allclose(faces.eyes_of(flat), [[124.24, 81.28], [154.56, 81.36]])


def test_a_face_at_the_border_gets_a_full_crop(config):
    picture = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    patch, scale, corner = faces._patch(picture, (-10.0, 90.0, 60.0, 60.0), 112)
    assert patch.shape == (120, 120, 3)
    assert (scale, corner) == (1.0, (-40, 60))
    np.testing.assert_array_equal(patch[:, :40], np.repeat(patch[:, 40:41], 40, axis=1))


def test_patches_of_large_faces_are_reduced(config):
    picture = np.zeros((1080, 1920, 3), np.uint8)
    patch, scale, _ = faces._patch(picture, (500.0, 200.0, 600.0, 600.0), 112)
    assert patch.shape == (336, 336, 3)
    assert scale == pytest.approx(336 / 1200)


@pytest.mark.parametrize("kind", ["flat", "noise", "stripes"])
def test_the_cascade_sees_no_face_where_there_is_none(config, kind):
    noise = np.random.default_rng(0).integers(0, 255, (270, 480, 3), dtype=np.uint8)
    stripes = np.repeat(np.tile(np.arange(480) // 20 % 2 * 200, (270, 1))[..., None], 3, axis=2).astype(np.uint8)
    picture = {"flat": np.full_like(noise, 128), "noise": noise, "stripes": stripes}[kind]
    assert FaceFinder(config, None).find(picture) == []


def test_a_file_that_is_no_network_is_refused_by_name(config, tmp_path):
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
    assert failures == ([] if most else [("visual", "no_face")])
    for face in row["faces"]:
        assert cv2.imdecode(np.frombuffer(face, np.uint8), cv2.IMREAD_COLOR).shape == (112, 112, 3)


def test_many_small_faces_are_told_apart(real_data, decode_one, detector):
    settings, model = detector
    row, _ = decode_one(real_data / "media", "many_faces_1080p.mp4", *detector)
    assert row["visual_status"] == "ok"
    # the cascade is weak on faces of 60 of 1920 pixels; it needs a larger picture to find several persons
    wide = settings.model_copy(update={"detection_widths_pixels": (960 if model is None else 640,)})
    row, _ = decode_one(real_data / "media", "many_faces_1080p.mp4", wide, model)
    assert row["face_tracks"] >= (3 if model is None else 5)
    assert row["faces_seen"] >= (8 * 2 if model is None else 8 * 3)


def test_crops_of_a_real_face_have_their_eyes_in_place_with_either_detector(real_data, decode_one, detector):
    network = cv2.FaceDetectorYN.create(str(real_data / "models" / "face_detection_yunet.onnx"), "", (224, 224), 0.5)
    row, _ = decode_one(real_data / "media", "single_face.mp4", *detector)
    for face in row["faces"]:
        picture = cv2.copyMakeBorder(cv2.imdecode(np.frombuffer(face, np.uint8), cv2.IMREAD_COLOR), 56, 56, 56, 56, cv2.BORDER_REPLICATE)
        _, found = network.detect(picture)
        eyes = (found[0, 4:8].reshape(2, 2) - 56) / 112
        # the network's own landmarks move by 0.03 between frames, the eye cascade's by as much
        np.testing.assert_allclose(eyes, [[0.34, 0.42], [0.66, 0.42]], atol=0.07)
