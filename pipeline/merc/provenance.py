"""What made a file: the versions of the libraries that the numbers depend on. No time stamps, no machine names."""

import platform
from importlib.metadata import PackageNotFoundError, version

from merc import __version__

_LIBRARIES = ("av", "librosa", "numpy", "opencv-python", "pyarrow", "rapidfuzz", "scikit-learn", "soundfile", "soxr", "torch", "torchaudio", "transformers")


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries, read without importing them."""
    found = {"merc-pipeline": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
