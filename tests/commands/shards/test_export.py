"""``merc-shards export`` as a user runs it."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from merc.commands.shards import main

PARAMS = str(Path(__file__).parents[3] / "params.yaml")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Shards of two dialogues of MELD, with one absent vector."""
    random = np.random.default_rng(1)
    each: Callable[[Any], dict[int, list[Any]]] = lambda value: {key: [value() for _ in range(2)] for key in (0, 1153)}  # noqa: E731
    vectors = [each(lambda: random.normal(size=3).astype(np.float32)) for _ in range(3)]
    vectors[2][0][1][:] = 0
    speakers = each(lambda: [1, 0, 0, 0, 0, 0, 0, 0, 0])
    content = ({0: [0, 1], 1153: [0, 2]}, speakers, each(lambda: 3), *vectors, each(lambda: "Hm."), [0], [1153], {})
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(content))
    result = _run("import", tmp_path / "in.pkl", tmp_path / "shards", "--params", PARAMS)
    assert result.exit_code == 0, result.output
    return tmp_path / "shards"


def test_the_file_is_written_and_told(shards: Path, tmp_path: Path) -> None:
    result = _run("export", shards, tmp_path / "out.pkl", "--format", "mmgcn", "--absent", "nan")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{tmp_path / 'out.pkl'}: 2 dialogues, 4 utterances",
        "  visual: 1 absent vectors, written as nan",
    ]
    content = pickle.loads((tmp_path / "out.pkl").read_bytes())  # noqa: S301
    assert len(content) == 10
    assert np.isnan(content[5][0][1]).all()


def test_a_file_that_is_there_is_replaced_only_when_told(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "out.pkl").write_text("mine")
    assert _run("export", shards, tmp_path / "out.pkl", "--format", "mmgcn").exit_code == 5
    assert (tmp_path / "out.pkl").read_text() == "mine"
    assert _run("export", shards, tmp_path / "out.pkl", "--format", "mmgcn", "--overwrite").exit_code == 0


def test_wrong_formats_and_folders_have_their_exit_codes(shards: Path, tmp_path: Path) -> None:
    assert _run("export", shards, tmp_path / "out.pkl", "--format", "other").exit_code == 2
    assert _run("export", shards, tmp_path / "out.pkl", "--format", "cogmen").exit_code == 2
    assert _run("export", tmp_path, tmp_path / "out.pkl", "--format", "mmgcn").exit_code == 4
