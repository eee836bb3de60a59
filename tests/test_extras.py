"""The core works without the packages of the extras, and a missing extra gives one sentence with the command."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from merc import extras

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BLOCKED = sorted(
    {extras.module_of(name) for names in extras.EXTRAS.values() for name in names} | {"numba", "tokenizers", "PIL"}
)  # not pandas: pyarrow looks for it
_WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
_CORE = """
import merc.shards, merc.training.losses, merc.training.models, merc.encoders, merc.parquet, merc.params
from merc import plugins
from merc.shards import Dialogues
from merc.shards.checks import dialogues, failures, trajectories
from merc.shards import diff, filtering, lookup, merge, overview, rewriting, select, stage, validate, where
from merc.shards.circulation import exporting, importing, joining
from merc.trajectories import lookup
assert "supcon" in plugins.names("merc.training.losses"), "losses are listed"
assert "SupCon" in dir(merc.training.losses) and "MMGCN" in dir(merc.training.models)
"""


def _without_extras(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT + code], capture_output=True, text=True, timeout=60, cwd=folder, check=False
    )


def _named(requirements: list[str]) -> set[str]:
    """The distributions of requirements, including those of the extras they name."""
    found = set()
    for one in map(Requirement, requirements):
        inner = (
            [line for extra in one.extras for line in PROJECT["optional-dependencies"][extra]]
            if one.name == PROJECT["name"]
            else []
        )
        found |= _named(inner) if inner else {one.name.lower()}
    return found


def test_the_extras_of_the_package_are_those_of_pyproject() -> None:
    declared = {
        name: _named(lines) for name, lines in PROJECT["optional-dependencies"].items() if name not in ("all", "dev")
    }
    assert declared == {name: set(names) for name, names in extras.EXTRAS.items()}
    assert _named(["merc-pipeline[all]"]) == set().union(
        *(declared[name] for name in ("adapt", "dvc", "extract", "ray", "report", "train")), {"pandas"}
    )


def test_nothing_of_the_core_imports_what_an_extra_brings(tmp_path: Path) -> None:
    done = _without_extras(_CORE, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "arguments", "extra"),
    [
        ("extract", ["--dataset", "meld"], "extract"),
        ("extract", ["audit", "--dataset", "meld"], "extract"),
        ("train", ["--dataset", "meld", "--recipe", "baseline"], "train"),
        ("train", ["show", "baseline"], "train"),
        ("evaluate", ["--dataset", "meld", "--recipe", "baseline"], "train"),
        ("report", [], "report"),
        ("adapt", ["--dataset", "meld", "--encoder", "minilm"], "adapt"),
        ("shards", ["import", "x.pkl", "y"], "report"),
        ("shards", ["push", "x", "ann/x"], "hub"),
        ("shards", ["pull", "ann/x", "x"], "hub"),
        ("train", ["pull", "ann/x", "x"], "train"),
    ],
)
def test_a_command_whose_extra_is_missing_ends_with_one_sentence_and_the_command(
    command: str, arguments: list[str], extra: str, tmp_path: Path
) -> None:
    done = _without_extras(f"from merc.commands.{command} import main; main({arguments!r})", tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().endswith(f'not installed: pip install "merc-pipeline[{extra}]"'), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_recipes_are_listed_without_an_extra(tmp_path: Path) -> None:
    done = _without_extras("from merc.commands.train import main; main(['recipes'])", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  mmgcn " in done.stdout
    assert "  +dclf " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["losses"], "supcon                     Supervised contrastive loss: "),
        (["losses", "supcon"], "losses.supcon.temperature: float > 0 = 0.1"),
        (["models", "mmgcn"], "models.mmgcn.text_context: 'lstm' | 'none' = 'lstm'"),
    ],
)
def test_models_losses_and_their_settings_are_listed_without_an_extra(
    arguments: list[str], line: str, tmp_path: Path
) -> None:
    done = _without_extras(f"from merc.commands.train import main; main({arguments!r})", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [one for one in done.stdout.splitlines() if one.startswith(line)]


def test_a_recipe_given_for_a_model_leads_to_the_model(tmp_path: Path) -> None:
    done = _without_extras("from merc.commands.train import main; main(['models', 'mmgcn_text'])", tmp_path)
    assert done.returncode == 2
    assert "'mmgcn_text' is a recipe; its model is mmgcn: merc-train models mmgcn" in done.stderr


def test_an_import_that_fails_deep_inside_is_explained_too(tmp_path: Path) -> None:
    done = _without_extras("from merc.command_line import exiting\nwith exiting():\n    import torch.nn", tmp_path)
    assert (done.returncode, 'pip install "merc-pipeline[train]"' in done.stderr) == (2, True), done.stderr
    other = _without_extras(
        "from merc.command_line import exiting\nwith exiting():\n    import no_such_module", tmp_path
    )
    assert (other.returncode, "ModuleNotFoundError" in other.stderr) == (1, True)


@pytest.mark.parametrize("command", ["extract", "train", "evaluate", "report", "adapt", "shards"])
def test_help_and_version_of_every_command_need_no_extra(command: str, tmp_path: Path) -> None:
    code = (
        f"from click.testing import CliRunner\nfrom merc.commands.{command} import main\nfor word in ('--help',"
        " '--version'):\n"
    )
    done = _without_extras(code + "    assert CliRunner().invoke(main, [word]).exit_code == 0", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_params_yaml_of_another_program_is_named_with_its_keys(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train:\n  lr: 0.1\nprepare:\n  split: 0.2\n")
    done = _without_extras(
        f"from merc.commands.shards import main; main(['merge', 'a', '--out', {str(tmp_path / 'b')!r}])", tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert re.search(r"params\.yaml: unknown key 'prepare'.*name your settings with --params FILE", done.stderr), (
        done.stderr
    )
    assert "Traceback" not in done.stderr
