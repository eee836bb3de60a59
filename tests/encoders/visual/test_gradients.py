import numpy as np
import pytest

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.visual.gradients import Gradients


def _stripes(angle_degrees: float, size: int = 96) -> np.ndarray:
    """(1, size, size, 3) uint8: dark and light bands with a brightness gradient along ``angle_degrees``."""
    y, x = np.mgrid[:size, :size] / size
    angle = np.deg2rad(angle_degrees)
    picture = 127 + 100 * np.sin(2 * np.pi * 3 * (x * np.cos(angle) + y * np.sin(angle)))
    return np.repeat(picture[None, :, :, None], 3, axis=-1).astype(np.uint8)


def _vector(gradients: Gradients, faces: np.ndarray) -> np.ndarray:
    encoded = gradients.encode([UtteranceInput(utterance_id="a", faces=faces)])
    assert encoded.present.all()
    return encoded.embeddings[0]


def test_dims_are_blocks_times_cells_times_bins_twice(gradients: Gradients) -> None:
    # 64 px in cells of 16: 4 x 4 cells, 3 x 3 blocks of 2 x 2 cells, 9 directions: 324, mean and deviation
    assert gradients.dim == 648
    assert (
        Gradients.Config(family="gradients", size_px=48, cell_px=8, block_cells=1, bins=6).histogram_dims == 6 * 6 * 6
    )


def test_a_single_frame_has_no_deviation(gradients: Gradients) -> None:
    vector = _vector(gradients, _stripes(30))
    assert vector[:324].any()
    assert not vector[324:].any()


def test_equal_frames_count_as_one_and_moving_ones_deviate(gradients: Gradients) -> None:
    still = _vector(gradients, np.repeat(_stripes(0), 5, axis=0))
    np.testing.assert_allclose(still, _vector(gradients, _stripes(0)), atol=1e-6)
    turning = np.concatenate([_stripes(angle) for angle in (0, 30, 60)])
    assert _vector(gradients, turning)[324:].max() > 0.1


@pytest.mark.parametrize(("angle", "bin_number"), [(0, 0), (90, 4)])
def test_the_direction_of_edges_is_in_its_bin(gradients: Gradients, angle: float, bin_number: int) -> None:
    histogram = _vector(gradients, _stripes(angle))[:324].reshape(-1, 9).sum(axis=0)
    # nine bins of 20 degrees over half a turn; 0 degrees is between the first and the last
    assert histogram.argmax() in {bin_number, (bin_number - 1) % 9 if angle == 0 else bin_number}


def test_brightness_and_contrast_matter_little(gradients: Gradients) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    darker = (faces * 0.5 + 20).astype(np.uint8)
    first, second = _vector(gradients, faces), _vector(gradients, darker)
    assert first @ second / np.linalg.norm(first) / np.linalg.norm(second) > 0.99


def test_the_size_of_the_crop_matters_little(gradients: Gradients) -> None:
    first, second = _vector(gradients, _stripes(45, size=256)), _vector(gradients, _stripes(45, size=48))
    assert first @ second / np.linalg.norm(first) / np.linalg.norm(second) > 0.98


def test_the_order_of_frames_does_not_matter(gradients: Gradients) -> None:
    faces = np.random.default_rng(1).integers(0, 256, (6, 50, 50, 3), dtype=np.uint8)
    np.testing.assert_allclose(_vector(gradients, faces), _vector(gradients, faces[::-1]), atol=1e-6)


@pytest.mark.parametrize("faces", [None, np.zeros((0, 64, 64, 3), dtype=np.uint8)])
def test_no_face_is_absent(gradients: Gradients, faces: np.ndarray | None) -> None:
    encoded = gradients.encode([UtteranceInput(utterance_id="a", faces=faces)])
    assert not encoded.present.any()
    assert encoded.remarks == [(0, "no_face", "there is no face crop")]


def test_crops_of_one_colour_are_absent_with_a_reason(gradients: Gradients) -> None:
    encoded = gradients.encode([UtteranceInput(utterance_id="a", faces=np.full((2, 64, 64, 3), 90, dtype=np.uint8))])
    assert not encoded.present.any()
    assert not encoded.embeddings.any()
    assert encoded.remarks == [(0, "zero_vector", "none of the 2 crops has an edge in it: each is of one colour")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_px": 15}, "cell_px 15 does not divide size_px 64"),
        ({"block_cells": 5}, "larger than the image"),
        ({"bins": 1}, "bins"),
    ],
)
def test_impossible_settings_are_refused(gradients: Gradients, change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gradients.Config(**{**gradients.config.model_dump(), **change})
