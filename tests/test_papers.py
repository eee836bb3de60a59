"""The project's metadata files agree with each other: licence, citation, Python versions, and the newest heading of the
changelog.
"""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from merc import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # of https://www.apache.org/licenses/LICENSE-2.0.txt


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_licence_is_the_text_of_apache_2() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE", "NOTICE"])
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


def test_the_citation_has_the_version_the_licence_and_the_authors_of_the_package() -> None:
    citation = _yaml("CITATION.cff")
    assert (citation["version"], citation["license"]) == (__version__, PROJECT["license"])
    assert citation["authors"] == PROJECT["authors"]


def test_the_newest_heading_of_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == __version__


def test_the_workflow_runs_every_version_of_python_that_is_claimed() -> None:
    claimed = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", one)]
    job = _yaml(".github/workflows/check.yml")["jobs"]["check"]
    assert job["strategy"]["matrix"]["python"] == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]},<3.{int(claimed[-1].split('.')[1]) + 1}"
    assert job["steps"][-1]["run"] == ".ci/run"


def test_the_container_image_runs_as_an_unprivileged_user() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000"]
    assert any("useradd" in line and "--uid 1000 " in line for line in lines)


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "pipeline" / "merc" / "py.typed").is_file()
