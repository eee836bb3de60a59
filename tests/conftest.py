"""Fixtures for all tests; everything runs on a CPU, without a network and without downloads."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real MELD annotations and clips, named by MERC_REAL_DATA; the test is skipped without it."""
    folder = os.environ.get("MERC_REAL_DATA")
    if not folder:
        pytest.skip("MERC_REAL_DATA is not set: no real data to test on")
    return Path(folder)
