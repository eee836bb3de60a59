"""Label sets: which emotions a benchmark has, in the order of the field's feature files.

Orders and counts: MMGCN/COGMEN feature files (IEMOCAP), MELD's feature files; see the counts in ``iemocap.py``, ``meld.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from merc.errors import BadSettings, nearest


@dataclass(frozen=True)
class LabelSet:
    """An ordered set of emotion classes.

    Attributes:
        name: as in params.yaml.
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


LABEL_SETS = {
    labels.name: labels
    for labels in (
        LabelSet("meld7", ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")),
        LabelSet("iemocap6", ("happy", "sad", "neutral", "angry", "excited", "frustrated")),
        # The two meanings of "4-way" are never mixed: the dialogue literature (COGMEN, IDCL) drops excited and frustrated …
        LabelSet("iemocap4", ("happy", "sad", "neutral", "angry")),
        # … speech emotion recognition counts excited as happy.
        LabelSet("iemocap4_merged", ("happy", "sad", "neutral", "angry"), {"excited": "happy"}),
    )
}


def label_set(name: str) -> LabelSet:
    """The label set of that name.

    Raises:
        BadSettings: if there is none, naming the nearest.
    """
    if name not in LABEL_SETS:
        raise BadSettings(f"no label set {name!r}; {nearest(name, list(LABEL_SETS))}")
    return LABEL_SETS[name]
