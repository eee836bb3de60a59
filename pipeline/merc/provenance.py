"""What made a file: the versions of the libraries that the numbers depend on. No time stamps, no machine names."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from merc import __version__

_LIBRARIES = (
    "av",
    "librosa",
    "numpy",
    "opencv-python",
    "pyarrow",
    "rapidfuzz",
    "scikit-learn",
    "soundfile",
    "soxr",
    "torch",
    "torchaudio",
    "transformers",
)


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries, read without importing them."""
    found = {"merc-pipeline": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit(folder: Path) -> dict[str, str]:
    """The commit of the project in a folder, ``{"commit": "4e83fde, with changes"}``; empty if there is no Git, no
    repository or no commit.

    Untracked files are not changes: raw data, features and runs are ignored, or belong to another project.
    """
    found = _git(folder, "rev-parse", "--short", "HEAD")
    if not found:
        return {}
    return {
        "commit": f"{found}, with changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else found
    }


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
