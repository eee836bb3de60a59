import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc import files
from merc.encoders.engine.base import UtteranceInput
from merc.encoders.visual.sface import EYES_XY, OnnxFile, Sface, align
from merc.errors import BadSettings, ModelUnavailable

REVISION = "0123456789abcdef0123456789abcdef01234567"


def _build(folder: Path | str, **settings: Any) -> Sface:
    given = {
        "filename": "tiny.onnx", "sha256": "", "dim": None, "licence": "none", "training_data_overlap": "none",
        **settings
    }  # fmt: skip
    return Sface(Sface.Config(family="sface", repo=str(folder), **given), sequences=True)


def _loaded(folder: Path, **settings: Any) -> Sface:
    encoder = _build(folder, **settings)
    encoder.load("cpu")
    return encoder


def _utterance(faces: np.ndarray | None, **more: Any) -> UtteranceInput:
    return UtteranceInput(utterance_id="a", faces=faces, **more)


def _expected(folder: Path, crop: np.ndarray) -> np.ndarray:
    """The tiny model in numpy: means over 28 x 28 pixels of each RGB channel, multiplied by the weights and normalised
    to length one.
    """
    aligned = align(crop, 0.32, 0.42).astype(np.float64)
    means = aligned.reshape(4, 28, 4, 28, 3).mean(axis=(1, 3)).transpose(2, 0, 1).reshape(48)
    vector = np.load(folder / "weights.npy").astype(np.float64) @ means
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit


def _noise(count: int, side: int = 112, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_vectors_have_length_one_and_are_the_networks_for_rgb(sface_folder: Path) -> None:
    faces = _noise(1)
    faces[..., 0] //= 4  # red and blue differ, so that a mix-up of channels shows
    encoder = _loaded(sface_folder)
    [vector] = encoder.encode([_utterance(faces)]).embeddings
    assert (encoder.dim, encoder.sequence_dim) == (128, 128)
    np.testing.assert_allclose(vector, _expected(sface_folder, faces[0]), atol=1e-5)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_pooling_is_over_directions(sface_folder: Path) -> None:
    faces = _noise(3)
    faces[1] //= 8  # a dark crop counts as much as the others
    expected = np.stack([_expected(sface_folder, face) for face in faces])
    encoded = _loaded(sface_folder).encode([_utterance(faces), _utterance(None)])
    np.testing.assert_allclose(encoded.embeddings[0], expected.mean(axis=0), atol=1e-5)
    assert encoded.remarks == [(1, "no_face", "there is no face crop")]
    both = _loaded(sface_folder, pooling="mean_std")
    assert both.dim == 256
    np.testing.assert_allclose(
        both.encode([_utterance(faces)]).embeddings[0],
        np.concatenate([expected.mean(axis=0), expected.std(axis=0)]),
        atol=1e-5,
    )
    sure = _loaded(sface_folder, pooling="confidence").encode(
        [_utterance(faces, face_scores=np.array([0.1, 0.9, 0.1], dtype=np.float32))]
    )
    np.testing.assert_allclose(sure.embeddings[0], expected[1], atol=2e-3)


def test_frames_are_crops_with_their_times(sface_folder: Path) -> None:
    faces, seconds = _noise(2, side=60), np.array([0.5, 1.5], dtype=np.float32)
    [frames] = _loaded(sface_folder).encode([_utterance(faces, face_seconds=seconds)]).sequences
    assert frames is not None
    np.testing.assert_allclose(frames.vectors, np.stack([_expected(sface_folder, face) for face in faces]), atol=1e-3)
    assert frames.seconds.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("size", [1, 24, 64, 112, 400])
def test_crops_of_any_size_are_taken(sface_folder: Path, size: int) -> None:
    assert _loaded(sface_folder).encode([_utterance(_noise(1, side=size) // 2 + 60)]).present.all()


def test_a_black_crop_gives_zeros_and_is_absent_with_a_reason(sface_folder: Path) -> None:
    encoded = _loaded(sface_folder).encode(
        [_utterance(np.zeros((2, 112, 112, 3), dtype=np.uint8)), _utterance(_noise(1))]
    )
    assert encoded.present.tolist() == [False, True]
    assert encoded.remarks == [(0, "zero_vector", "SFace gave nothing but zeros")]


@pytest.mark.parametrize(("distance", "height", "size"), [(0.32, 0.42, 112), (0.4, 0.35, 200), (0.25, 0.5, 90)])
def test_the_eyes_come_to_be_where_the_network_was_trained_to_see_them(
    distance: float, height: float, size: int
) -> None:
    import cv2

    crop = np.zeros((size, size, 3), dtype=np.uint8)
    for channel, side in ((0, -1), (2, 1)):  # a red blob at the left eye, a blue one at the right
        x, y = size * (0.5 + side * distance / 2), size * height
        cv2.circle(
            crop,
            (round(x * 16), round(y * 16)),
            3 * 16,
            (255, 0, 0) if channel == 0 else (0, 0, 255),
            -1,
            cv2.LINE_AA,
            4,
        )
    aligned = align(crop, distance, height).astype(np.float64)
    assert aligned.shape == (112, 112, 3)
    ys, xs = np.mgrid[:112, :112]
    for channel, expected in ((0, EYES_XY[0]), (2, EYES_XY[1])):
        weight = aligned[..., channel]
        found = np.array([(xs * weight).sum(), (ys * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(found, expected, atol=0.2)


def test_the_same_points_as_opencvs_own_alignment(sface_folder: Path) -> None:
    # OpenCV aligns five points; if they already match its template, it leaves the image unchanged. So does ours, for a
    # crop with the eyes there.
    import cv2

    picture = cv2.GaussianBlur(_noise(1)[0], (0, 0), 3)
    points = [38.2946, 51.6963, 73.5318, 51.5014, 56.0252, 71.7366, 41.5493, 92.3655, 70.7299, 92.2041]
    network = cv2.FaceRecognizerSF.create(str(sface_folder / "tiny.onnx"), "")
    theirs = network.alignCrop(picture, np.array([[0, 0, 112, 112, *points, 0.9]], dtype=np.float32))
    distance, height = (73.5318 - 38.2946) / 112, (51.6963 + 51.5014) / 2 / 112
    ours = align(picture, distance, height)
    shift = (38.2946 + 73.5318) / 2 - 56  # the template's eyes are not quite in the middle, those of the crops are
    moved = cv2.warpAffine(theirs, np.array([[1, 0, shift], [0, 1, 0]]), (112, 112), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(ours.astype(int) - moved)[8:-8, 8:-8].max() <= 3


def test_the_files_hash_is_the_identity_wherever_it_lies(sface_folder: Path, tmp_path: Path) -> None:
    digest = files.sha256(sface_folder / "tiny.onnx")
    first = _build(sface_folder)
    shutil.copy(sface_folder / "tiny.onnx", tmp_path / "other.onnx")
    assert first.identity()["checkpoint"] == {"sha256": digest}
    assert first.provenance()["revision"] == f"sha256:{digest}"
    assert _build(tmp_path, filename="other.onnx", sha256=digest, licence="x", dim=128).identity() == first.identity()
    assert _build(sface_folder, eye_height_share=0.4).identity() != first.identity()


def test_a_hub_model_with_a_stated_hash_is_known_without_downloading(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("merc.hub.silence", lambda: "")
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda repo, **options: asked.append({"repo": repo, **options}) or []
    )
    assert OnnxFile("opencv/sface", REVISION, False, "a.onnx", "ab" * 32).identity() == {"sha256": "ab" * 32}
    assert [(one["repo"], one["revision"], one["allow_patterns"], one["dry_run"]) for one in asked] == [
        ("opencv/sface", REVISION, ["a.onnx"], True)
    ]


def test_a_hub_model_is_fetched_by_name_and_checked(sface_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merc.hub.silence", lambda: "")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(sface_folder))
    model = OnnxFile("opencv/sface", REVISION, True, "tiny.onnx", files.sha256(sface_folder / "tiny.onnx"))
    assert model.fetch() == sface_folder / "tiny.onnx"
    assert model.is_here()
    assert model.bytes_on_disk() == (sface_folder / "tiny.onnx").stat().st_size
    other = OnnxFile("opencv/sface", REVISION, True, "absent.onnx")
    assert not other.is_here()
    assert other.bytes_on_disk() == 0
    with pytest.raises(ModelUnavailable, match=f"hf download opencv/sface absent.onnx --revision {REVISION}"):
        other.fetch()


def test_offline_without_the_file_gives_the_command() -> None:
    encoder = Sface(_build("opencv/no-such-model-here", revision=REVISION, filename="a.onnx").config, offline=True)
    command = f"hf download opencv/no-such-model-here a.onnx --revision {REVISION}"
    assert encoder.missing() == command
    with pytest.raises(ModelUnavailable, match=command):
        encoder.identity()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, ModelUnavailable, "there is no bad.onnx in the folder"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            ModelUnavailable,
            "a pointer of Git LFS instead of the model",
        ),
        (b"\x80\x04\x95pickle", BadSettings, "as no ONNX model does"),
        (b"", BadSettings, "as no ONNX model does"),
        (b"\x08\x07" + bytes(100), BadSettings, "OpenCV cannot run it as SFace"),
    ],
)
def test_what_is_not_a_model_is_refused(
    tmp_path: Path, content: bytes | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(error, match=message):
        _loaded(tmp_path, filename="bad.onnx")


def test_a_half_written_file_is_refused(sface_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes((sface_folder / "tiny.onnx").read_bytes()[:9000])
    with pytest.raises(BadSettings, match="OpenCV cannot run it as SFace"):
        _loaded(tmp_path)
    with pytest.raises(ModelUnavailable, match=r"its sha256 is [0-9a-f]{64}, the settings state"):
        _build(tmp_path, sha256=files.sha256(sface_folder / "tiny.onnx")).identity()


def test_a_stated_dimension_that_is_not_the_files_is_refused(sface_folder: Path) -> None:
    with pytest.raises(BadSettings, match="the settings state dim: 64, but its vectors have 128 numbers"):
        _loaded(sface_folder, dim=64)


@pytest.mark.parametrize(
    "change", [{"sha256": "abc"}, {"eye_distance_share": 1.2}, {"confidence_temperature": -1}, {"pooling": "max"}]
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        _build("nowhere", **change)
