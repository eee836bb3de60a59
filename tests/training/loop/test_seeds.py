import pickle

import pytest

from merc.job import RunOptions
from merc.params import Params
from merc.training.loop import seeds
from merc.training.loop.ledger import LossNotFinite
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

ONE, TWO = (RunOptions(device="cpu", workers=workers) for workers in (1, 2))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def _always_at_once(monkeypatch):
    monkeypatch.setattr(seeds, "_WORTH_PROCESSES", 0)


@pytest.fixture
def deadly_loss(tree, tmp_path_factory, monkeypatch):
    """A loss ``deadly`` that runs a line of code in each seed's process in its second epoch; the function sets it for
    seed 1.
    """
    folder = tmp_path_factory.mktemp("path")
    package = f"deadly_losses_{folder.name}"
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("merc.training.recipes.resolution.LOSSES", package)
    tree["losses"]["deadly"] = dict(tree["losses"]["cross_entropy"])

    def write(line):
        (folder / package / "deadly.py").write_text(
            "from merc.training.losses.cross_entropy import CrossEntropy\n"
            "class Deadly(CrossEntropy):\n"
            "    def forward(self, output, batch, **state):\n"
            "        value = super().forward(output, batch, **state)\n"
            "        if state['epoch'] == 1 and state['generator'].initial_seed() == 1:\n"
            f"            {line}\n"
            "        return value\n"
        )
        tree["recipes"]["text"]["losses"] = {"deadly": {}}
        return Params(tree)

    return write


@pytest.mark.usefixtures("_always_at_once")
def test_seeds_at_once_give_the_bytes_of_one_after_another(make_shards, params, tmp_path):
    layout = make_shards()
    apart = train(resolve(params, "text"), layout, ONE, runs=tmp_path / "one")
    at_once = train(resolve(params, "text"), layout, TWO, runs=tmp_path / "two")
    assert contents(at_once) == contents(apart)


def test_little_work_is_not_worth_a_process(make_shards, params, tmp_path, monkeypatch):
    monkeypatch.setattr(seeds.pool, "in_order", lambda *more: pytest.fail("started processes"))
    train(resolve(params, "text"), make_shards(), TWO, runs=tmp_path / "runs")


def test_a_seed_that_fails_ends_the_run_with_an_error_that_comes_whole_out_of_a_process(
    make_shards, deadly_loss, tmp_path
):
    """``tests/compute/test_pool.py`` tests that a process's error is raised here and ends the others, as does
    Ctrl-C.
    """
    with pytest.raises(LossNotFinite, match=r"seed 1, epoch 2: .*deadly nan.*train/dia") as raised:
        train(resolve(deadly_loss("value = value * float('nan')"), "text"), make_shards(), ONE, runs=tmp_path / "runs")
    sent = pickle.loads(pickle.dumps(raised.value))  # noqa: S301
    assert (type(sent), str(sent)) == (LossNotFinite, str(raised.value))
