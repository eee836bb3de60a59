"""What a report says about the commit it was made with."""

import subprocess
from pathlib import Path

import pytest

from merc import provenance


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for words in (
        ["init", "--quiet"],
        ["config", "user.email", "someone@example.org"],
        ["config", "user.name", "Someone"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def test_the_commit_is_named_and_whether_something_was_changed_since(repository: Path) -> None:
    assert provenance.commit(repository) == {}  # none yet
    tracked = repository / "params.yaml"
    tracked.write_text("a: 1\n")
    subprocess.run(["git", "add", "params.yaml"], cwd=repository, check=True)
    subprocess.run(["git", "commit", "--quiet", "-m", "first"], cwd=repository, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    (repository / "untracked").touch()
    assert provenance.commit(repository) == {"commit": head}
    tracked.write_text("a: 2\n")
    assert provenance.commit(repository) == {"commit": f"{head}, with changes"}


def test_without_git_or_repository_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit(tmp_path) == {}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit(tmp_path) == {}
