from collections.abc import Callable

import pytest

from merc.layout import Layout

DIALOGUES = {
    "train": [("train/dia0", [0, 4, 4, 6]), ("train/dia1", [0, 4, 6]), ("train/dia2", [6])],
    "dev": [("dev/dia0", [0, -1])],
    "test": [("test/dia0", [4, 0, 6]), ("test/dia1", [4, 4])],
}
"""Class 0 is neutral, 4 joy, 6 anger."""


@pytest.fixture
def layout(write_shards: Callable[..., Layout]) -> Layout:
    return write_shards(dialogues=DIALOGUES)
