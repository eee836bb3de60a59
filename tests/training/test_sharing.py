"""Trained models to the hub and back, with the commands and the real client, and a local server."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from merc.commands.train import main
from merc.job import RunOptions
from merc.training import sharing
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

from ..shared_hub import Repo, SharedHub

NAME = "ann/all"
MODEL = "models/seed-0/model.safetensors"
FILES = {
    "README.md",
    "results.json",
    "metrics.json",
    "history.csv",
    "confusion.csv",
    MODEL,
    "models/seed-1/model.safetensors",
}


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture
def trained(made_once: Any, make_shards: Any, params: Any, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    made = made_once(
        "trained-all",
        lambda folder: train(resolve(params, "all"), make_shards(), RunOptions(device="cpu"), runs=folder),
    )
    return Path(shutil.copytree(made / "tiny" / "all", tmp_path / "run"))


def test_pushed_models_come_back_and_label_without_the_run(
    shared_hub: SharedHub, trained: Path, make_shards: Any, tmp_path: Path
) -> None:
    pushed = _run("push", trained, NAME)
    assert pushed.exit_code == 0, pushed.output
    repo = shared_hub.repos["model", NAME]
    assert pushed.stdout.splitlines() == [
        f"{NAME} (private) at {repo.sha(-1)}: 7 files",
        f"merc-train pull {NAME} FOLDER --revision {repo.sha(-1)}",
    ]
    assert set(repo.commits[-1]) == {".gitattributes", *FILES}  # no predictions: they hold the labels
    card = repo.commits[-1]["README.md"].decode()
    assert "# all, trained on tiny" in card
    assert f"merc-train --predict model/{MODEL} --shards SHARDS" in card
    pulled = _run("pull", NAME, tmp_path / "here", "--revision", repo.sha(-1))
    assert pulled.exit_code == 0, pulled.output
    assert pulled.stdout.splitlines()[0] == str(tmp_path / "here" / MODEL)
    assert (tmp_path / "here" / MODEL).read_bytes() == (trained / MODEL).read_bytes()
    made = _run(
        "--predict",
        tmp_path / "here" / MODEL,
        "--shards",
        make_shards().shards,
        "--predictions",
        tmp_path / "labels.parquet",
    )
    assert made.exit_code == 0, made.output


def test_models_are_published_only_if_that_is_confirmed(shared_hub: SharedHub, trained: Path) -> None:
    refused = _run("push", trained, NAME, "--public")
    assert refused.exit_code == 2
    assert "trained on the corpus tiny" in refused.stderr
    assert not shared_hub.asked
    assert _run("push", trained, NAME, "--public", "--yes-i-may").exit_code == 0
    assert not shared_hub.repos["model", NAME].private


def test_what_is_not_a_finished_run_or_damaged_is_not_pushed(
    shared_hub: SharedHub, trained: Path, tmp_path: Path
) -> None:
    assert "not a finished run" in _run("push", tmp_path, NAME).stderr
    (trained / MODEL).write_bytes((trained / MODEL).read_bytes()[:-4])
    refused = _run("push", trained, NAME)
    assert refused.exit_code == 4
    assert "not a model trained by this program" in refused.stderr
    assert not shared_hub.asked


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({MODEL: b"\x80\x04\x95 a pickle"}, f"{MODEL}: not a model trained by this program"),
        ({"results.json": b"{}"}, "results.json: not the results of a run"),
        (
            {MODEL: None, "models/seed-1/model.safetensors": None, "models/seed-0/model.pt": b"x"},
            "there is no models/seed-<n>/model.safetensors",
        ),
    ],
)
def test_a_repository_with_other_content_leaves_nothing(
    shared_hub: SharedHub, trained: Path, tmp_path: Path, content: dict[str, bytes | None], words: str
) -> None:
    assert _run("push", trained, NAME).exit_code == 0
    repo: Repo = shared_hub.repos["model", NAME]
    repo.commit({name: data for name, data in {**repo.commits[-1], **content}.items() if data is not None})
    refused = _run("pull", NAME, tmp_path / "here")
    assert (refused.exit_code, (tmp_path / "here").exists()) == (4, False)
    assert words in refused.stderr
    assert f"Nothing was put at {tmp_path / 'here'}" in refused.stderr


def test_only_names_that_a_shared_run_has_are_ours() -> None:
    assert all(map(sharing.is_ours, FILES))
    assert not any(
        map(
            sharing.is_ours,
            [
                "predictions.parquet",
                "models/../x",
                "models/seed-0/model.bin",
                "models/seed-x/model.safetensors",
                "record.json",
            ],
        )
    )
