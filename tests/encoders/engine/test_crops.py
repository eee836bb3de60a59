import numpy as np
import pytest

from merc.encoders.engine import crops
from merc.encoders.engine.base import UtteranceInput

VECTORS = np.array([[1, 10], [3, 30], [7, 7], [2, 0], [4, 0], [6, 0]], dtype=np.float32)
NO_SCORES = np.zeros(6, dtype=np.float32)


def _utterance(count: int | None, scores: list[float] | None = None, side: int = 8) -> UtteranceInput:
    return UtteranceInput(
        utterance_id="a",
        faces=None if count is None else np.zeros((count, side, side, 3), dtype=np.uint8),
        face_seconds=None if count is None else np.arange(count, dtype=np.float32),
        face_scores=None if scores is None else np.array(scores, dtype=np.float32),
    )


PART = [_utterance(None), _utterance(2), _utterance(0), _utterance(1), _utterance(3), _utterance(2, side=0)]


def test_crops_stand_in_one_row_and_know_whose_they_are() -> None:
    row = crops.of(PART)
    assert len(row) == 6
    assert row.clips.tolist() == [1, 3, 4]
    assert row.starts.tolist() == [0, 2, 3]
    assert row.ends.tolist() == [2, 3, 6]
    assert [picture.shape for picture in row.pictures] == [(8, 8, 3)] * 6


def test_no_crop_and_crops_without_a_pixel_are_no_face() -> None:
    assert crops.of(PART).remarks == [(index, "no_face", "there is no face crop") for index in (0, 2, 5)]


def test_the_mean_is_over_a_clips_own_crops() -> None:
    assert crops.pooled(VECTORS, crops.of(PART), "mean", NO_SCORES, 0.1).tolist() == [[2, 20], [7, 7], [4, 0]]


def test_the_deviation_is_that_of_all_crops_and_zero_for_one() -> None:
    pooled = crops.pooled(VECTORS, crops.of(PART), "mean_std", NO_SCORES, 0.1)
    np.testing.assert_allclose(pooled, [[2, 20, 1, 10], [7, 7, 0, 0], [4, 0, np.sqrt(8 / 3), 0]], rtol=1e-6)


def test_confidence_weighs_by_the_softmax_of_the_scores() -> None:
    scores = np.array([0.9, 0.7, 0.5, 0.6, 0.6, 0.6], dtype=np.float32)
    pooled = crops.pooled(VECTORS, crops.of(PART), "confidence", scores, 0.1)
    # exp(9) / (exp(9) + exp(7)) = 0.880797; equal scores, and a single one, give the mean
    np.testing.assert_allclose(
        pooled, [[0.880797 * 1 + 0.119203 * 3, 0.880797 * 10 + 0.119203 * 30], [7, 7], [4, 0]], rtol=1e-5
    )


def test_a_low_temperature_takes_the_best_crop_and_a_high_one_the_mean() -> None:
    scores = np.array([0.9, 0.7, 0.5, 0.2, 0.3, 0.1], dtype=np.float32)
    row = crops.of(PART)
    np.testing.assert_allclose(
        crops.pooled(VECTORS, row, "confidence", scores, 1e-4), [[1, 10], [7, 7], [4, 0]], atol=1e-6
    )
    np.testing.assert_allclose(
        crops.pooled(VECTORS, row, "confidence", scores, 1e4), [[2, 20], [7, 7], [4, 0]], rtol=1e-3, atol=1e-4
    )


def test_scores_are_next_to_their_crops_and_what_is_not_a_number_counts_as_zero() -> None:
    part = [_utterance(2, [0.9, float("nan")]), _utterance(None), _utterance(1), _utterance(2, [float("inf"), 0.4])]
    np.testing.assert_allclose(crops.scores_of(part, crops.of(part)), [0.9, 0, 0, 0, 0.4], rtol=1e-6)


@pytest.mark.parametrize(("pooling", "dim"), [("mean", 2), ("confidence", 2), ("mean_std", 4)])
def test_a_clip_that_is_not_finite_is_recorded_and_spoils_no_other(pooling: crops.Pooling, dim: int) -> None:
    vectors = VECTORS.copy()
    vectors[1, 0], vectors[2] = np.inf, 0
    encoded = crops.encoded(
        vectors, crops.of(PART), PART, pooling=pooling, temperature=0.1, sequences=True, what="the model"
    )
    assert encoded.present.tolist() == [False, False, False, False, True, False]
    assert encoded.embeddings.shape == (6, dim)
    assert encoded.embeddings[4, :2].tolist() == [4, 0]
    assert (1, "not_finite", "the model gave values that are not finite") in encoded.remarks
    assert (3, "zero_vector", "the model gave nothing but zeros") in encoded.remarks
    assert [index for index, _, _ in encoded.remarks] == [0, 1, 2, 3, 5]
    assert [frames is not None for frames in encoded.sequences] == encoded.present.tolist()


def test_frames_are_the_crops_within_the_range_of_float16() -> None:
    vectors = VECTORS * np.array([[1], [1], [1], [1], [1], [20_000]], dtype=np.float32)
    frames = crops.encoded(
        vectors, crops.of(PART), PART, pooling="mean", temperature=0.1, sequences=True, what="the model"
    ).sequences[4]
    assert frames is not None
    assert frames.vectors.tolist() == [[2, 0], [4, 0], [65504, 0]]
    assert frames.seconds.tolist() == [0, 1, 2]
