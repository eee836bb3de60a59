"""The odd face among those of one name in one dialogue stands out."""

import numpy as np

from merc.audit.faces import unlike


def test_the_odd_one_is_farthest_and_what_cannot_be_compared_is_not_known() -> None:
    dialogues = ["a"] * 6 + ["b"]
    speakers = ["Ann", "Ann", "Ann", "Bob", "Bob", "Cid", "Ann"]
    vectors = np.array([[1, 0], [2, 0.1], [0, 3], [1, 1], [0, 0], [1, 0], [0, 1]], dtype=np.float32)
    present = np.array([True, True, True, True, False, True, True])
    found = unlike(dialogues, speakers, vectors, present)
    assert np.isnan(found[3:]).all()  # alone, absent, alone, alone in the other dialogue
    assert found[2] > 0.9
    assert (found[:2] < 0.5).all()


def test_opposite_faces_and_none_at_all() -> None:
    vectors = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert unlike(["a", "a"], ["Ann", "Ann"], vectors, np.array([True, True])).tolist() == [2.0, 2.0]
    assert np.isnan(unlike(["a", "a"], ["Ann", "Ann"], vectors, np.array([False, False]))).all()
