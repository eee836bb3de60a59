"""Fixtures for all tests; everything runs on a CPU, without a network and without downloads."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.log import logger


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real MELD annotations and clips, named by MERC_REAL_DATA; the test is skipped without it."""
    folder = os.environ.get("MERC_REAL_DATA")
    if not folder:
        pytest.skip("MERC_REAL_DATA is not set: no real data to test on")
    return Path(folder)


@pytest.fixture(autouse=True)
def _untouched_log() -> Iterator[None]:
    """Puts the log back as it was: commands send it to stderr and past pytest's ``caplog``."""
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
