"""What DVCLive receives; where the real one is installed, it writes metrics that DVC finds and leaves the project's
dvc.yaml unchanged.
"""

import json
import subprocess
from importlib.util import find_spec

import pytest
import yaml
from click.testing import CliRunner
from scmrepo.exceptions import SCMError

from merc.commands.train import main
from merc.training.following.dvclive import DVCLive
from merc.training.following.engine.base import Followed

ROWS = [{"train_loss": 1.5, "dev_weighted_f1": 0.25}, {"train_loss": 1.0, "dev_weighted_f1": 0.5}]


@pytest.mark.usefixtures("stand_in")
def test_it_is_told_the_step_each_number_and_the_end(tmp_path, calls):
    (tmp_path / "dvclive").mkdir()
    live = DVCLive(tmp_path / "dvclive", Followed("meld", "mmgcn", 3))
    for step, row in enumerate(ROWS, start=1):
        live.epoch(step, row)
    live.end()
    begin, *told = calls(tmp_path)
    assert begin == ["begin", "live", "dvc.yaml", False, "mmgcn on meld, seed 3"]
    assert told == [["sync", 1, ROWS[0]], ["sync", 2, ROWS[1]], ["end"]]


@pytest.mark.usefixtures("stand_in")
def test_a_repository_without_a_commit_is_one_sentence_and_nothing_is_trained(make_shards, tree, tmp_path, monkeypatch):
    """Raises what the real one raises there; no epoch gets trained."""
    import dvclive

    def refuse(*given, **named):
        raise SCMError("Empty git repo")

    monkeypatch.setattr(dvclive.Live, "__init__", refuse)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    where = [
        f"--params={tmp_path / 'params.yaml'}",
        f"--out={make_shards().out}",
        f"--runs={tmp_path / 'runs'}",
        "--device=cpu",
        "--dataset=tiny",
    ]
    found = CliRunner().invoke(main, [*where, "--recipe=text", "--follow=dvclive"])
    assert found.exit_code == 2
    assert (
        "dvclive needs a Git repository with a commit (Empty git repo): commit something, or leave out --follow dvclive"
        in found.stderr
    )
    assert not (tmp_path / "runs" / "tiny" / "text").exists()


@pytest.mark.skipif(find_spec("dvclive") is None, reason="DVCLive is not installed")
def test_the_real_one_leaves_metrics_that_dvc_finds_in_a_project_whose_own_file_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    commit = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "-qm", "begun"]
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "."], commit):
        subprocess.run(command, check=True, capture_output=True)
    folder = tmp_path / "runs" / ".follow" / "meld" / "mmgcn" / "seed-0" / "dvclive"
    folder.mkdir(parents=True)
    live = DVCLive(folder, Followed("meld", "mmgcn", 0))
    for step, row in enumerate(ROWS, start=1):
        live.epoch(step, row)
    live.end()
    shown = json.loads(
        subprocess.run(["dvc", "metrics", "show", "--json"], check=True, capture_output=True, text=True).stdout
    )
    assert [one["data"] for one in shown[""]["data"].values()] == [{**ROWS[-1], "step": 2}]
    assert (tmp_path / "dvc.yaml").read_text() == "stages: {}\n"
    assert (
        subprocess.run(["git", "rev-list", "--all", "--count"], check=True, capture_output=True, text=True).stdout
        == "1\n"
    )  # no experiment was saved
