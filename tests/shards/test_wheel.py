"""The built wheel, alone in an empty environment: a forgotten dependency shows here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_OF_THE_WHEEL = ("pyproject.toml", "pipeline", "params.yaml", "README.md", "LICENSE", "NOTICE")


@pytest.mark.slow
def test_the_wheel_alone_reads_checks_and_cuts_shards_in_an_empty_environment(sound: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=environment,
            check=False,
        )

    source = tmp_path / "source"  # hatchling leaves nothing in the checkout
    shutil.copytree(
        ROOT, source, ignore=lambda folder, names: [] if Path(folder) != ROOT else set(names) - {*_OF_THE_WHEEL}
    )
    for words in (
        (sys.executable, "-m", "venv", "env"),
        ("env/bin/python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", "./source"),
    ):
        made = run(*words)
        assert made.returncode == 0, made.stderr
    installed = run("env/bin/python", "-m", "pip", "install", "--quiet", next((tmp_path / "dist").glob("*.whl")))
    assert installed.returncode == 0, installed.stderr
    assert not list((tmp_path / "env").glob("lib/python*/site-packages/torch")), "the core brings no torch"
    read = "from merc.shards import Dialogues; import merc; print(merc.__file__)"
    assert "site-packages" in run("env/bin/python", "-c", read).stdout
    for words in (
        ["inspect", sound],
        ["validate", sound],
        ["select", sound, "part", "--split", "test"],
        ["validate", "part"],
    ):
        done = run("env/bin/merc-shards", *words)
        assert done.returncode == 0, done.stderr + done.stdout
    assert 'pip install "merc-pipeline[train]"' in run("env/bin/merc-train", "show", "baseline").stderr
