"""``dvc repro`` on a small corpus: a second run does nothing, an edit makes stale what it changes, and experiments can be compared."""

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
    "meld_train_dialogues": 3, "meld_dev_dialogues": 1, "meld_test_dialogues": 2, "iemocap_dialogues": 1, "iemocap_turns": 8,
    "clip_seconds_min": 0.8, "clip_seconds_max": 0.9,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of its own, with its copy of the code, whose pipeline was run once and is committed."""
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
    for command in (["init", "-q"], ["config", "user.email", "nobody@example.org"], ["config", "user.name", "nobody"]):
        _run(folder, "git", *command)
    _dvc(folder, "init", "--quiet")
    _dvc(folder, "repro")
    _commit(folder)
    return folder


def _run(folder: Path, *command: str) -> str:
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _dvc(folder: Path, *arguments: str) -> str:
    return _run(folder, sys.executable, "-m", "dvc", *arguments)


def _commit(folder: Path) -> None:
    _run(folder, "git", "add", "-A")
    _run(folder, "git", "commit", "-qm", "a run")


def _stages(folder: Path, *options: str) -> set[str]:
    """The stages that ``dvc repro`` runs, or with ``--dry`` would run."""
    return set(re.findall(r"Running stage '([^']+)'", _dvc(folder, "repro", *options)))


@contextmanager
def _edited(folder: Path, edits: dict[str, str]) -> Iterator[set[str]]:
    """Appends to files, or makes them; gives the stages that are stale once the settings were looked up, and puts all back."""
    before = {name: (folder / name).read_bytes() if (folder / name).exists() else None for name in edits}
    try:
        for name, text in edits.items():
            (folder / name).write_text((before[name] or b"").decode() + text)
        _dvc(folder, "repro", "--quiet", "settings")
        yield set(json.loads(_dvc(folder, "status", "--json")))
    finally:
        for name, content in before.items():
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        _dvc(folder, "repro", "--quiet", "settings")


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
EXTRACTIONS = {f"extract_{modality}@demo-meld" for modality in ("text", "audio", "visual")}
COMMENT = "\n# edited\n"


def test_a_second_run_does_nothing(project: Path) -> None:
    assert _stages(project, "--dry") == set()
    assert "Data and pipelines are up to date" in _dvc(project, "status")


@pytest.mark.parametrize(
    "new",
    [
        {f"{MERC}/corpora/mine.py": READER, f"{MERC}/corpora/theirs.yaml": "reader: mine\n"},
        {f"{MERC}/corpora/label_sets/mine3.yaml": "classes: [good, bad, other]\n"},
        {f"{MERC}/encoders/text/mine.py": ENCODER, f"{MERC}/encoders/text/theirs.yaml": "family: mine\n"},
        {f"{MERC}/training/models/mine.py": MODEL},
        {f"{MERC}/training/losses/mine.py": LOSS},
        {f"{MERC}/training/recipes/mine.yaml": RECIPE, f"{MERC}/training/recipes/additions/mine.yaml": "about: mine\nepochs: 4\n"},
        {"params.yaml": "\nencoders: {text: {mine: {family: ngrams, word_dims: 64}}}\nadditions: {mine: {epochs: 3}}\n"},
    ],
    ids=["corpus", "label set", "encoder", "model", "loss", "recipe", "in params.yaml"],
)
def test_what_is_new_makes_nothing_stale(project: Path, new: dict[str, str]) -> None:
    with _edited(project, new) as stale:
        assert stale == set()


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({f"{MERC}/training/recipes/baseline_text.yaml": "epochs: 3\n"}, {"train@demo-meld-text"}),
        ({f"{MERC}/training/models/context_gru.py": COMMENT}, TRAININGS),
        ({f"{MERC}/training/models/mmgcn.py": COMMENT}, set()),
        ({f"{MERC}/training/losses/cross_entropy.py": COMMENT}, TRAININGS),
        ({f"{MERC}/training/losses/focal.py": COMMENT}, set()),
        ({f"{MERC}/training/loop/trainer.py": COMMENT}, TRAININGS),
        ({f"{MERC}/encoders/text/ngrams.py": COMMENT}, {"extract_text@demo-meld"}),
        ({f"{MERC}/encoders/text/transformer.py": COMMENT}, set()),
        ({f"{MERC}/encoders/engine/batching.py": COMMENT}, EXTRACTIONS),
        ({f"{MERC}/media/faces.py": COMMENT}, {"decode@demo-meld"}),
        ({f"{MERC}/corpora/meld.py": COMMENT}, {"manifest@demo-meld"}),
        ({f"{MERC}/corpora/iemocap.py": COMMENT}, set()),
        ({f"{MERC}/corpora/engine/csv_rows.py": COMMENT}, {"manifest@demo-meld"}),
        ({f"{MERC}/shards/card/writing.py": COMMENT}, {"card@demo-meld"}),
        ({f"{MERC}/trajectories/dtw.py": COMMENT}, {"trajectories@demo-meld", "report"}),
        ({"params.yaml": "\nlosses: {cross_entropy: {label_smoothing: 0.1}}\n"}, TRAININGS),
        ({"params.yaml": "\nlosses: {focal: {gamma: 1.0}}\n"}, set()),
        ({"params.yaml": "\nencoders: {audio: {acoustic: {quiet_db: 40.0}}}\n"}, {"extract_audio@demo-meld"}),
        ({"params.yaml": "\nshards: {transcripts: false}\n"}, {"shards@demo-meld"}),
    ],
    ids=lambda value: "+".join(f"{Path(name).name}{text.strip().splitlines()[0][:24]}" for name, text in value.items()) if isinstance(value, dict) else None,
)
def test_an_edit_makes_stale_what_it_changes_and_no_more(project: Path, edit: dict[str, str], expected: set[str]) -> None:
    with _edited(project, edit) as stale:
        assert stale - {"report"} == expected - {"report"}  # the report depends on all features, of which the settings are a part


def test_settings_that_cannot_be_stop_everything_before_the_first_stage(project: Path) -> None:
    path = project / "params.yaml"
    before = path.read_text()
    try:
        path.write_text(before + "\nlosses: {cross_entropy: {label_smoothing: 7}}\n")
        with pytest.raises(AssertionError, match=r"losses\.cross_entropy\.label_smoothing: Input should be less than"):
            _dvc(project, "repro")
        path.write_text(before.replace("also_reads: demo-meld", "also_reads: meld"))
        with pytest.raises(AssertionError, match=r"train\.demo-meld-baseline\.also_reads is 'meld', and has to be 'demo-meld'"):
            _dvc(project, "repro")
    finally:
        path.write_text(before)


def test_metrics_and_plots_can_be_shown(project: Path) -> None:
    shown = _dvc(project, "metrics", "show")
    assert "test.weighted_f1.mean" in shown
    assert "runs/demo-meld/baseline/metrics.json" in shown
    assert "reports/coverage.json" in shown
    plots = _dvc(project, "plots", "show", "--json")
    assert {name for name in json.loads(plots)["data"]} >= {
        f"runs/demo-meld/{recipe}/{file}" for recipe in ("baseline", "baseline_text") for file in ("history.csv", "confusion.csv")
    }


def test_another_audio_setting_runs_no_text_and_no_face_stage(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text() + "\nencoders: {audio: {acoustic: {quiet_db: 35.0}}}\n")
    assert _stages(project) == {
        "settings", "extract_audio@demo-meld", "shards@demo-meld", "trajectories@demo-meld", "card@demo-meld", *TRAININGS, "report",
    }  # fmt: skip
    _commit(project)


def test_two_experiments_are_compared(project: Path) -> None:
    """One that sets a key of params.yaml, and one in a folder of its own that sets a key of a recipe's file."""
    _dvc(project, "exp", "run", "--name", "longer", "--set-param", "recipes.baseline.epochs=3", "train@demo-meld-baseline")
    history = list(csv.DictReader((project / "runs/demo-meld/baseline/history.csv").open()))
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    rows = {(row["path"], row["param"]): row for row in _rows(_dvc(project, "params", "diff", "--all", "--json"))}
    changed = {key: (row["old"], row["new"]) for key, row in rows.items() if row["old"] != row["new"]}
    assert changed == {("params.yaml", "recipes.baseline.epochs"): (2, 3)}
    before, after = (
        (
            json.loads(_run(project, *command))["dev"]["weighted_f1"]["mean"]
            for command in (
                (sys.executable, "-m", "dvc", "api-show", "HEAD") if False else ("git", "show", "HEAD:.dvc-metrics.json"),
                ("cat", "runs/demo-meld/baseline/metrics.json"),
            )
        )
        if False
        else _both(project)
    )
    shown = json.loads(_dvc(project, "metrics", "diff", "--all", "--json"))["runs/demo-meld/baseline/metrics.json"]["dev.weighted_f1.mean"]
    assert (shown["old"], shown["new"]) == (before, after)


def _rows(text: str) -> list[dict[str, Any]]:
    return [{"path": path, "param": name, **values} for path, names in json.loads(text).items() for name, values in names.items()]
