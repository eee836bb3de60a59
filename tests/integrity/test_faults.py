"""Every output is complete or absent, whichever operation fails or is the last; and the same command then succeeds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from integrity import commands, faults

pytestmark = pytest.mark.slow

# The first and the last operation of each kind are tried here; `make campaign` tries all.
_TRIED = 2


@pytest.fixture(scope="module")
def prepared(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return made_once("disturbed", commands.prepare)


@pytest.fixture(scope="module", params=commands.COMMANDS)
def undisturbed(
    request: pytest.FixtureRequest, prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, faults.Ended, dict[str, str]]:
    """A command, how it ends without a fault, and the files it leaves then."""
    one, folder = commands.COMMANDS[request.param], tmp_path_factory.mktemp(request.param) / "undisturbed"
    one.start(prepared, folder)
    ended = faults.run(one.command, one.arguments, folder)
    assert (ended.code, ended.unexpected) == (0, False), ended.words
    return request.param, ended, faults.tree(folder)


@pytest.mark.parametrize("how", ["fail", "kill"])
@pytest.mark.parametrize("kind", faults.KINDS)
def test_a_run_that_is_disturbed_leaves_nothing_half_and_the_next_one_ends_right(
    undisturbed: tuple[str, faults.Ended, dict[str, str]],
    prepared: Path,
    tmp_path: Path,
    kind: faults.Kind,
    how: faults.How,
) -> None:
    name, ended, expected = undisturbed
    total = ended.counts[kind]
    for number in sorted({1 + round(step * (total - 1) / (_TRIED - 1)) for step in range(_TRIED)}) if total else ():
        problem = faults.disturb(commands.COMMANDS[name], prepared, tmp_path / str(number), expected, kind, number, how)
        assert not problem, f"{name}, {how} at {kind} {number} of {total}: {problem}"
        shutil.rmtree(tmp_path / str(number))
