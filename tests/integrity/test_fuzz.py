"""Two hundred randomly changed files; `make campaign` reads 5,000. Faults found this way have their own tests, next to
the other tests of that kind of file.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from integrity import commands, fuzz

pytestmark = pytest.mark.slow

_CASES_OF_A_KIND = 29


@pytest.fixture(scope="module")
def kinds(made_once: Callable[[str, Callable[[Path], object]], Path]) -> dict[str, fuzz.Kind]:
    return fuzz.kinds(made_once("disturbed", commands.prepare))


@pytest.mark.parametrize("kind", ["media", "csv", "parquet", "json", "safetensors", "pickle", "params"])
def test_a_changed_file_is_read_or_refused_in_words(kinds: dict[str, fuzz.Kind], tmp_path: Path, kind: str) -> None:
    assert fuzz.try_case(kind, kinds[kind], 0, tmp_path / "0").outcome == "read"
    for number in range(1, _CASES_OF_A_KIND):
        case = fuzz.try_case(kind, kinds[kind], number, tmp_path / str(number))
        assert case.outcome not in fuzz.FAULTS, (
            f"{kind} {number}: {case.outcome} after {case.seconds:.1f} s, {case.memory_bytes / 2**20:.0f}"
            f" MiB\n{case.words}"
        )
        shutil.rmtree(tmp_path / str(number))
