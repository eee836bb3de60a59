"""Running mean and standard deviation compared with numpy on all the data."""

import numpy as np

from merc.shards.format.moments import RunningMoments


def test_pieces_give_the_moments_of_the_whole_also_far_from_zero() -> None:
    values_ND = (np.random.default_rng(1).normal(size=(1000, 5)) * [1, 10, 0.1, 0, 1] + [0, 1e4, 5, 3, -1e3]).astype(
        np.float32
    )
    moments = RunningMoments(5)
    for piece in np.array_split(values_ND, [0, 1, 17, 400]):
        moments.add(piece)
    found = moments.as_json()
    whole = values_ND.astype(np.float64)
    assert found["count"] == 1000
    np.testing.assert_allclose(found["mean"], whole.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found["std"], whole.std(axis=0), rtol=1e-12)
    assert found["std"][3] == 0


def test_without_vectors_all_is_zero() -> None:
    assert RunningMoments(2).as_json() == {"count": 0, "mean": [0.0, 0.0], "std": [0.0, 0.0]}
