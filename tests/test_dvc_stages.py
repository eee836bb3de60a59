"""``dvc repro`` on a small corpus: a second run does nothing, an edit makes the stages that it affects stale, and
experiments can be compared.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow

SMALL = {
    "meld_train_dialogues": 3, "meld_dev_dialogues": 1, "meld_test_dialogues": 2, "iemocap_dialogues": 1,
    "iemocap_turns": 8,
    "clip_seconds_min": 0.8, "clip_seconds_max": 0.9,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A separate project with a copy of the code, whose pipeline was run once and committed."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    settings: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["demo"] = SMALL
    settings["build"] = {"demo-meld": settings["build"]["demo-meld"]}
    settings["recipes"] = {"baseline": {"epochs": 2, "seeds": [0]}}
    settings["train"] = {name: settings["train"][name] for name in ("demo-meld-baseline", "demo-meld-text")}
    # Four of its few clips are broken, as in the whole demonstration corpus.
    settings["run"] = {"max_failed": "20%"}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    for command in (
        ["init", "-q", "-b", "master"],
        ["config", "user.email", "nobody@example.org"],
        ["config", "user.name", "nobody"],
    ):
        _run(folder, "git", *command)
    _dvc(folder, "init", "--quiet")
    _dvc(folder, "repro")
    _commit(folder)
    return folder


def _run(folder: Path, *command: str) -> str:
    environment = {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _dvc(folder: Path, *arguments: str) -> str:
    return _run(folder, sys.executable, "-m", "dvc", *arguments)


def _commit(folder: Path) -> None:
    _run(folder, "git", "add", "-A")
    _run(folder, "git", "commit", "-qm", "a run")


def _stages(folder: Path, *options: str) -> set[str]:
    """The stages that ``dvc repro`` runs, or would run with ``--dry``."""
    return set(re.findall(r"Running stage '([^']+)'", _dvc(folder, "repro", *options)))


@contextmanager
def _edited(folder: Path, edits: dict[str, str]) -> Iterator[set[str]]:
    """Appends to files, or creates them; returns the stages that are stale once the settings are resolved, and restores
    everything.
    """
    before = {name: (folder / name).read_bytes() if (folder / name).exists() else None for name in edits}
    settings, kept = folder / "features" / ".settings", folder.with_name(f"{folder.name}-settings")
    shutil.copytree(settings, kept)
    try:
        for name, text in edits.items():
            (folder / name).write_text((before[name] or b"").decode() + text)
        _run(folder, "env", "PYTHONPATH=pipeline", sys.executable, "-m", "merc.commands.resolve")
        yield set(json.loads(_dvc(folder, "status", "--json"))) - {"settings"}
    finally:
        for name, content in before.items():
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        shutil.rmtree(settings)
        kept.rename(settings)


MODEL = """
from merc.training.models.context_gru import ContextGRU


class Mine(ContextGRU):
    pass
"""
LOSS = """
from merc.training.losses.focal import Focal


class Mine(Focal):
    pass
"""
READER = """
from merc.corpora.meld import Meld


class Mine(Meld):
    pass
"""
ENCODER = """
from merc.encoders.text.ngrams import Ngrams


class Mine(Ngrams):
    pass
"""
RECIPE = "about: mine\nbase: baseline\nepochs: 3\n"
MERC = "pipeline/merc"
TRAININGS = {"train@demo-meld-baseline", "train@demo-meld-text"}
EVALUATIONS = {"evaluate@demo-meld-baseline", "evaluate@demo-meld-text", "compare"}
EXTRACTIONS = {f"extract_{modality}@demo-meld" for modality in ("text", "audio", "visual")}


def test_a_second_run_does_nothing(project: Path) -> None:
    assert _stages(project, "--dry") == set()
    assert "Data and pipelines are up to date" in _dvc(project, "status")


def test_what_is_new_makes_nothing_stale(project: Path) -> None:
    new = {
        f"{MERC}/corpora/mine.py": READER,
        f"{MERC}/corpora/theirs.yaml": "reader: mine\n",
        f"{MERC}/corpora/label_sets/mine3.yaml": "classes: [good, bad, other]\n",
        f"{MERC}/encoders/text/mine.py": ENCODER,
        f"{MERC}/encoders/text/theirs.yaml": "family: mine\n",
        f"{MERC}/training/models/mine.py": MODEL,
        f"{MERC}/training/losses/mine.py": LOSS,
        f"{MERC}/training/recipes/mine.yaml": RECIPE,
        f"{MERC}/training/recipes/additions/mine.yaml": "about: mine\nepochs: 4\n",
        "params.yaml": "\nencoders: {text: {mine: {family: ngrams, word_dims: 64}}}\nadditions: {mine: {epochs: 3}}\n",
    }
    with _edited(project, new) as stale:
        assert stale == set()


def _comment(*names: str) -> dict[str, str]:
    return {f"{MERC}/{name}": "\n# edited\n" for name in names}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            _comment(
                "training/models/mmgcn.py",
                "training/losses/focal.py",
                "encoders/text/transformer.py",
                "corpora/iemocap.py",
            ),
            set(),
        ),
        ({f"{MERC}/training/recipes/baseline_text.yaml": "epochs: 3\n"}, {"train@demo-meld-text"}),
        (_comment("training/models/context_gru.py"), TRAININGS),
        (_comment("training/losses/cross_entropy.py"), TRAININGS),
        (_comment("training/loop/trainer.py"), TRAININGS | EVALUATIONS),
        (_comment("evaluation/protocols/calibration.py"), EVALUATIONS),
        ({"params.yaml": "\nevaluation: {calibration: {bins: 10}}\n"}, EVALUATIONS),
        (
            _comment(
                "corpora/meld.py",
                "media/faces.py",
                "encoders/text/ngrams.py",
                "shards/card/writing.py",
                "trajectories/dtw.py",
            ),
            {f"{stage}@demo-meld" for stage in ("manifest", "decode", "extract_text", "card", "trajectories")}
            | EVALUATIONS,
        ),
        (_comment("corpora/engine/csv_rows.py", "encoders/engine/batching.py"), {"manifest@demo-meld", *EXTRACTIONS}),
        ({"params.yaml": "\nlosses: {cross_entropy: {label_smoothing: 0.1}, focal: {gamma: 1.0}}\n"}, TRAININGS),
        (
            {"params.yaml": "\nencoders: {audio: {acoustic: {quiet_db: 40.0}}}\nshards: {transcripts: false}\n"},
            {"extract_audio@demo-meld", "shards@demo-meld"},
        ),
    ],
    ids=[
        "what nothing uses",
        "recipe",
        "model",
        "loss",
        "trainer",
        "evaluation",
        "setting of an evaluation",
        "one file of five stages",
        "what a kind shares",
        "setting of a loss",
        "settings of stages",
    ],
)
def test_an_edit_makes_stale_what_it_changes_and_no_more(
    project: Path, edit: dict[str, str], expected: set[str]
) -> None:
    with _edited(project, edit) as stale:
        assert stale - {"report"} == expected  # the report depends on all features, of which the settings are a part


def test_settings_that_cannot_be_stop_everything_before_the_first_stage(project: Path) -> None:
    path = project / "params.yaml"
    before = path.read_text()
    try:
        path.write_text(before + "\nlosses: {cross_entropy: {label_smoothing: 7}}\n")
        with pytest.raises(AssertionError, match=r"losses\.cross_entropy\.label_smoothing: Input should be less than"):
            _dvc(project, "repro")
        path.write_text(before.replace("also_reads: demo-meld", "also_reads: meld"))
        with pytest.raises(
            AssertionError,
            match=r"train\.demo-meld-baseline\.also_reads: 'meld' is not under build; .*valid: demo-meld",
        ):
            _dvc(project, "repro")
        path.write_text(before.replace("base: baseline_text", "base: baseline"))
        with pytest.raises(
            AssertionError, match=r"train\.demo-meld-text\.base is 'baseline', and has to be 'baseline_text'"
        ):
            _dvc(project, "repro")
    finally:
        path.write_text(before)


def test_metrics_and_plots_can_be_shown(project: Path) -> None:
    shown = _dvc(project, "metrics", "show")
    assert "test.weighted_f1.mean" in shown
    assert "runs/demo-meld/baseline/metrics.json" in shown
    assert "reports/coverage.json" in shown
    assert _run(project, "git", "check-ignore", "dvc_plots/index.html").strip() == "dvc_plots/index.html"
    plots = _dvc(project, "plots", "show", "--json")
    assert set(json.loads(plots)["data"]) >= {
        f"runs/demo-meld/{recipe}/{file}"
        for recipe in ("baseline", "baseline_text")
        for file in ("history.csv", "confusion.csv")
    }


def test_the_report_shows_runs_and_evaluations_and_is_an_output_of_its_stage(project: Path) -> None:
    page = (project / "reports" / "pages" / "demo_2dmeld" / "index.html").read_text()
    for words in (
        "baseline_text",
        "Emotion shift",
        "Calibration",
        "Fewer than two seeds in common",
        "Nothing wrong in 6 dialogues",
    ):
        assert words in page, words
    locked = yaml.safe_load((project / "dvc.lock").read_text())["stages"]["report"]
    assert {one["path"] for one in locked["outs"]} >= {
        "reports/index.html",
        "reports/pages",
        "reports/results.md",
        "reports/results.tex",
    }
    assert {one["path"] for one in locked["deps"]} >= {
        "features",
        "runs",
        "evaluations/runs",
        "evaluations/comparisons",
    }
    assert "\\begin{tabular}" in (project / "reports" / "results.tex").read_text()


def test_another_audio_setting_runs_no_text_and_no_face_stage(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text() + "\nencoders: {audio: {acoustic: {quiet_db: 35.0}}}\n")
    assert _stages(project) == {
        "settings", "extract_audio@demo-meld", "shards@demo-meld", "trajectories@demo-meld", "card@demo-meld",
        *TRAININGS, *EVALUATIONS, "report",
    }  # fmt: skip
    _commit(project)


def test_two_experiments_are_compared(project: Path) -> None:
    """An experiment that sets a key of params.yaml, and one in a temporary folder that sets a key of a recipe's
    file.
    """
    before = _metrics(project)
    _dvc(project, "exp", "run", "--name", "longer", "-S", "recipes.baseline.epochs=3", "train@demo-meld-baseline")
    assert [row["epoch"] for row in csv.DictReader((project / "runs/demo-meld/baseline/history.csv").open())] == [
        "1",
        "2",
        "3",
    ]
    assert json.loads(_dvc(project, "params", "diff", "--json")) == {
        "params.yaml": {"recipes.baseline.epochs": {"old": 2, "new": 3, "diff": 1}}
    }
    found = json.loads(_dvc(project, "metrics", "diff", "--all", "--json"))["runs/demo-meld/baseline/metrics.json"][
        "dev.weighted_f1.mean"
    ]
    assert (found["old"], found["new"]) == (before, _metrics(project))
    _run(project, "git", "stash", "--quiet")
    _dvc(project, "checkout", "--quiet")

    recipe = "pipeline/merc/training/recipes/baseline.yaml"
    _dvc(
        project,
        "exp",
        "run",
        "--temp",
        "--name",
        "faster",
        "-S",
        f"{recipe}:optimizer.learning_rate=0.25",
        "train@demo-meld-baseline",
    )
    assert json.loads(_dvc(project, "params", "diff", "HEAD", "faster", "--json")) == {
        recipe: {"optimizer.learning_rate": {"old": 0.0005, "new": 0.25, "diff": 0.2495}}
    }
    shown = list(csv.DictReader(_dvc(project, "exp", "show", "--csv").splitlines()))
    column = "runs/demo-meld/baseline/metrics.json:dev.weighted_f1.mean"
    scores = {row["Experiment"] or row["rev"]: float(row[column]) for row in shown}
    assert scores["longer"] == found["new"]
    assert scores["master"] == before != scores["faster"]
    # The value arrived in the training, which ran in another folder with the code there.
    _dvc(project, "exp", "apply", "faster")
    record = json.loads((project / "runs/demo-meld/baseline/record.json").read_text())
    assert record["settings"]["recipes"]["baseline"]["optimizer"]["learning_rate"] == 0.25


def _metrics(folder: Path) -> float:
    return float(
        json.loads((folder / "runs/demo-meld/baseline/metrics.json").read_text())["dev"]["weighted_f1"]["mean"]
    )
