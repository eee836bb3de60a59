"""Label sets: which emotions a benchmark has, in the order of the field's feature files. One file each in
``corpora/label_sets/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files as resources

import yaml

from merc.errors import BadSettings, nearest


@dataclass(frozen=True)
class LabelSet:
    """An ordered set of emotion classes.

    Attributes:
        name: of its file.
        classes: index = position.
        merge: emotion → class, for emotions that a benchmark counts as another one.
    """

    name: str
    classes: tuple[str, ...]
    merge: Mapping[str, str] = field(default_factory=dict)

    def index(self, emotion: str) -> int:
        """Class index of an emotion in our words; -1 if the benchmark has no such class."""
        emotion = self.merge.get(emotion, emotion)
        return self.classes.index(emotion) if emotion in self.classes else -1


def _shipped() -> dict[str, LabelSet]:
    found = {}
    for path in sorted(resources("merc.corpora.label_sets").iterdir(), key=lambda one: one.name):
        if path.name.endswith(".yaml"):
            block = yaml.safe_load(path.read_text(encoding="utf-8"))
            name = path.name.removesuffix(".yaml")
            found[name] = LabelSet(name, tuple(block["classes"]), block.get("merge", {}))
    return found


LABEL_SETS = _shipped()


def label_set(name: str) -> LabelSet:
    """The label set with a name.

    Raises:
        BadSettings: if there is none; the message gives the nearest name.
    """
    if name not in LABEL_SETS:
        raise BadSettings(f"no label set {name!r}; {nearest(name, list(LABEL_SETS))}")
    return LABEL_SETS[name]
