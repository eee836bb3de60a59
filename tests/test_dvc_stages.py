"""``dvc repro`` on a small corpus: a second run does nothing, and a changed setting runs again only what depends on it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
Dvc = Callable[..., str]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["demo"] |= {"meld_train_dialogues": 3, "meld_dev_dialogues": 1, "meld_test_dialogues": 2, "iemocap_dialogues": 1, "iemocap_turns": 8}
    settings["demo"] |= {"clip_seconds_min": 0.8, "clip_seconds_max": 0.9}
    settings["media"] |= {"frames_per_clip": 1}
    settings["build"] = {"demo-meld": settings["build"]["demo-meld"]}
    settings["recipes"]["baseline"] |= {"epochs": 2, "seeds": [0]}
    settings["train"] = {"demo-meld-baseline": {"dataset": "demo-meld", "base": "baseline", "recipe": "baseline"}}
    settings["train_second"] = {}
    # Four of its few clips are broken, as in the whole demonstration corpus.
    settings["run"]["max_failed"] = "20%"
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    _dvc(folder, "init", "--no-scm", "--quiet")
    _dvc(folder, "repro")
    return folder


def _dvc(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(folder / "pipeline")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _stages(folder: Path, *options: str) -> set[str]:
    """The stages that ``dvc repro`` runs, or with ``--dry`` would run."""
    return set(re.findall(r"Running stage '([^']+)'", _dvc(folder, "repro", *options)))


def _changed(folder: Path, key: str, value: object) -> str:
    """Changes one setting; gives the old text back."""
    path = folder / "params.yaml"
    before = path.read_text()
    settings = yaml.safe_load(before)
    block = settings
    *parents, last = key.split(".")
    for parent in parents:
        block = block[parent]
    block[last] = value
    path.write_text(yaml.safe_dump(settings))
    return before


def test_a_second_run_does_nothing(project: Path) -> None:
    assert _stages(project, "--dry") == set()
    assert "Data and pipelines are up to date" in _dvc(project, "status")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("encoders.audio.acoustic.quiet_db", 40.0, "extract_audio@demo-meld"),
        ("encoders.text.ngrams.word_dims", 64, "extract_text@demo-meld"),
        ("encoders.visual.gradients.bins", 6, "extract_visual@demo-meld"),
        ("trajectories.neighbours", 1, "trajectories@demo-meld"),
        ("recipes.baseline.epochs", 1, "train@demo-meld-baseline"),
        ("report.example_dialogues", 1, "report"),
    ],
)
def test_a_changed_setting_makes_its_own_stage_stale_and_no_other(project: Path, key: str, value: object, expected: str) -> None:
    before = _changed(project, key, value)
    try:
        assert _stages(project, "--dry") == {expected}  # what comes after it shows once its output has changed
    finally:
        (project / "params.yaml").write_text(before)


def test_metrics_and_plots_can_be_shown(project: Path) -> None:
    shown = _dvc(project, "metrics", "show")
    assert "demo-meld.baseline.test.weighted_f1" in shown
    assert "demo-meld.test.audio" in shown
    plots = _dvc(project, "plots", "show")
    assert (project / "dvc_plots" / "index.html").is_file()
    assert "index.html" in plots


def test_another_audio_setting_runs_no_text_and_no_face_stage(project: Path) -> None:
    _changed(project, "encoders.audio.acoustic.quiet_db", 35.0)
    assert _stages(project) == {"extract_audio@demo-meld", "shards@demo-meld", "trajectories@demo-meld", "train@demo-meld-baseline", "report"}
