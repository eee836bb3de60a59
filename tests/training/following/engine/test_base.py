"""What a follower receives from a training, when, and where it writes; the run has the same bytes without it."""

import csv
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from merc.commands.train import main
from merc.errors import BadSettings
from merc.job import RunOptions
from merc.params import Params
from merc.training.following.engine.base import Followed, check, following
from merc.training.loop import seeds
from merc.training.loop.ledger import LossNotFinite
from merc.training.loop.results import finished_phases
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

FOLLOWED = RunOptions(device="cpu", workers=1, follow=("dvclive",))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("stand_in")
def test_every_epoch_of_every_seed_is_reported_as_it_stands_in_the_history(make_shards, params, tmp_path, calls):
    made = train(resolve(params, "text"), make_shards(), FOLLOWED, runs=tmp_path / "runs")
    with (made / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    for seed in ("0", "1"):
        rows = [row for row in history if row["seed"] == seed]
        begin, *told, end = calls(tmp_path / "runs" / ".follow" / "tiny" / "text" / f"seed-{seed}")
        assert begin == ["begin", "live", "dvc.yaml", False, f"text on tiny, seed {seed}"]
        assert [call[:2] for call in told] == [["sync", int(row["epoch"])] for row in rows]
        assert end == ["end"]
        for (_, _, values), row in zip(told, rows, strict=True):
            assert values == {
                name: pytest.approx(float(value)) for name, value in row.items() if name not in ("seed", "epoch")
            }


@pytest.mark.usefixtures("stand_in")
def test_the_run_has_the_same_bytes_and_the_same_fingerprint_without_it(make_shards, params, tmp_path):
    layout = make_shards()
    followed = train(resolve(params, "text"), layout, FOLLOWED, runs=tmp_path / "one")
    alone = train(resolve(params, "text"), layout, RunOptions(device="cpu", workers=1), runs=tmp_path / "two")
    assert contents(followed) == contents(alone)
    assert not (tmp_path / "two" / ".follow").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_seeds_in_processes_of_their_own_are_followed_each_in_its_own_folder(
    make_shards, params, tmp_path, calls, monkeypatch
):
    monkeypatch.setattr(seeds, "_WORTH_PROCESSES", 0)
    train(
        resolve(params, "text"),
        make_shards(),
        RunOptions(device="cpu", workers=2, follow=("dvclive",)),
        runs=tmp_path / "runs",
    )
    for seed in (0, 1):
        told = calls(tmp_path / "runs" / ".follow" / "tiny" / "text" / f"seed-{seed}")
        assert [told[0][-1], told[-1]] == [f"text on tiny, seed {seed}", ["end"]]


@pytest.mark.usefixtures("stand_in")
def test_a_training_that_diverges_ends_its_follower_and_one_that_begins_anew_begins_anew(
    make_shards, params, tmp_path, calls, monkeypatch
):
    layout, folder = make_shards(), tmp_path / "runs" / ".follow" / "tiny" / "text" / "seed-0"
    with monkeypatch.context() as patch:
        patch.setattr(
            "merc.training.loop.trainer.check_weights", lambda model, when: (_ for _ in ()).throw(LossNotFinite(when))
        )
        with pytest.raises(LossNotFinite):
            train(resolve(params, "text"), layout, FOLLOWED, runs=tmp_path / "runs")
    first = calls(folder)
    assert (len(first), first[-1]) == (7, ["end"])
    (folder / "dvclive" / "left over").touch()
    train(resolve(params, "text"), layout, FOLLOWED, runs=tmp_path / "runs")
    assert calls(folder) == first
    assert not (folder / "dvclive" / "left over").exists()


@pytest.mark.usefixtures("stand_in")
def test_the_epochs_of_phases_count_on_and_those_that_were_kept_are_reported_again(
    make_shards, tree, tmp_path, calls, monkeypatch
):
    tree["models"]["merc_kdc"] = {"hidden_units": 8, "heads": 2, "feedforward_units": 8, "dropout": 0.1}
    named = {
        "first": {"trains": ["text", "audio", "visual"], "losses": {"cross_entropy": {}}, "epochs": 2},
        "last": {"trains": ["fusion"], "epochs": 3},
    }
    tree["recipes"]["all"] |= {"model": "merc_kdc", "phases": named, "seeds": [0]}
    folder = tmp_path / "runs" / ".follow" / "tiny" / "all" / "seed-0"
    layout, resolved = make_shards(), resolve(Params(tree), "all")
    with monkeypatch.context() as patch:
        patch.setattr("merc.training.loop.checkpoint.save", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(resolved, layout, FOLLOWED, runs=tmp_path / "runs")
    assert any(finished_phases(one, 0).is_file() for one in (tmp_path / "runs" / "tiny" / ".scratch" / "all").iterdir())
    first = calls(folder)
    train(resolved, layout, FOLLOWED, runs=tmp_path / "runs")
    assert calls(folder) == first
    assert [call[1] for call in first[1:-1]] == [1, 2, 3, 4, 5]
    assert "first/dev_weighted_f1" in first[1][2]
    assert "last/dev_weighted_f1" in first[-2][2]


def test_without_a_follower_nothing_is_written(tmp_path):
    with following((), tmp_path, Followed("tiny", "text", 0)) as tell:
        tell({"seed": 0, "epoch": 1, "train_loss": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_a_follower_that_is_invalid_is_named_with_those_there_are():
    with pytest.raises(BadSettings, match=r"no 'dvcliv'; did you mean 'dvclive'"):
        check(("dvcliv",))


def test_a_follower_that_is_not_installed_is_one_sentence_with_the_command_and_nothing_is_trained(
    make_shards, tree, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    where = [
        f"--params={tmp_path / 'params.yaml'}",
        f"--out={make_shards().out}",
        f"--runs={tmp_path / 'runs'}",
        "--device=cpu",
        "--dataset=tiny",
    ]
    found = CliRunner().invoke(main, [*where, "--recipe=text", "--follow=tensorboard"])
    assert found.exit_code == 2
    assert (
        '--follow tensorboard needs tensorboard, which is not installed: pip install "merc-pipeline[tensorboard]"'
        in found.stderr
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("stand_in")
def test_the_settings_name_followers_too_and_the_command_line_wins(make_shards, tree, tmp_path):
    tree["run"] |= {"follow": ["dvclive"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    where = [
        f"--params={tmp_path / 'params.yaml'}",
        f"--out={make_shards().out}",
        "--device=cpu",
        "--dataset=tiny",
        "--recipe=text",
    ]
    assert CliRunner().invoke(main, [*where, f"--runs={tmp_path / 'set'}"]).exit_code == 0
    assert CliRunner().invoke(main, [*where, f"--runs={tmp_path / 'not'}", "--follow="]).exit_code == 0
    assert Path(tmp_path / "set" / ".follow").is_dir()
    assert not Path(tmp_path / "not" / ".follow").exists()
