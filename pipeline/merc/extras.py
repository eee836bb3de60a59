"""Dependencies that are left to extras, and the sentence that says which extra is missing.

``pip install merc-pipeline`` installs what is needed to read and rewrite shards. What each extra adds is in
``pyproject.toml`` with its version bounds; the names are repeated here, since a checkout that was never installed has
no metadata. A test compares them.
"""

from importlib.util import find_spec

from merc.errors import MissingExtra

_TRAIN = ("rapidfuzz", "safetensors", "scikit-learn", "scipy", "torch")
_REPORT = ("jinja2", "matplotlib", "opencv-python", "rapidfuzz", "scikit-learn")
_EXTRACT = (
    "av", "huggingface-hub", "jinja2", "librosa", "matplotlib", "opencv-python", "rapidfuzz", "safetensors",
    "scikit-learn", "scipy", "soundfile", "soxr",
    "torch", "torchaudio", "torchvision", "transformers",
)  # fmt: skip
EXTRAS: dict[str, tuple[str, ...]] = {
    "hub": ("huggingface-hub",),
    "report": _REPORT,
    "train": _TRAIN,
    "extract": _EXTRACT,
    "adapt": (*_EXTRACT, "peft"),
    "dvc": ("dvc",),
    "ray": ("ray",),
    "dvclive": ("dvclive",),
    "tensorboard": ("tensorboard",),
    "opensmile": ("opensmile",),
}
"""Extra → the distributions it needs, the smallest extras first."""
_MODULES = {"opencv-python": "cv2", "scikit-learn": "sklearn", "huggingface-hub": "huggingface_hub"}


def command(extra: str) -> str:
    """The command that installs an extra.

    >>> command("train")
    'pip install "merc-pipeline[train]"'
    """
    return f'pip install "merc-pipeline[{extra}]"'


def need(extra: str, what: str) -> None:
    """Checks that an extra is installed, without importing it.

    Args:
        extra: a key of :data:`EXTRAS`.
        what: what needs it, in the user's terms: ``merc-train``, ``--executor ray``.

    Raises:
        MissingExtra: if one of its distributions is not installed.
    """
    absent = [name for name in EXTRAS[extra] if find_spec(module_of(name)) is None]
    if absent:
        raise MissingExtra(_sentence(what, absent, extra))


def missing(error: ModuleNotFoundError) -> MissingExtra | None:
    """The explanation of a failed import, if an extra would fix it; for dependencies that only some uses of a command
    need.
    """
    module = (error.name or "").partition(".")[0]
    for extra, distributions in EXTRAS.items():
        for name in distributions:
            if module_of(name) == module:
                return MissingExtra(_sentence("this", [name], extra))
    return None


def module_of(distribution: str) -> str:
    """The module by which a distribution is imported.

    >>> module_of("scikit-learn"), module_of("torch")
    ('sklearn', 'torch')
    """
    return _MODULES.get(distribution, distribution)


def _sentence(what: str, absent: list[str], extra: str) -> str:
    *first, last = absent
    return (
        f"{what} needs {' and '.join(filter(None, [', '.join(first), last]))}, which {'are' if first else 'is'} not"
        f" installed: {command(extra)}"
    )
