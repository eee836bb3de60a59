import numpy as np

from merc.training.metrics.accuracy import accuracy


def test_it_is_the_share_that_is_right():
    assert accuracy(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1])) == 0.5
