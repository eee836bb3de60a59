"""The settings of the trajectories fit every shipped label set."""

import numpy as np
import pytest

from merc.corpora.engine.labels import LABEL_SETS
from merc.trajectories.config import Config


@pytest.mark.parametrize("name", LABEL_SETS)
def test_every_class_of_a_label_set_has_a_place_in_the_plane(name: str) -> None:
    classes = LABEL_SETS[name].classes
    assert Config().fitting(classes) == Config()
    places = np.array([Config().valence_arousal[one] for one in classes])
    assert len(np.unique(places, axis=0)) == len(classes)
    Config().similarity("dtw", classes)  # would refuse two that are too far apart
