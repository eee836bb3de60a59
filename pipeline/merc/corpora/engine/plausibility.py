"""What is possible, but most likely a mistake in the table or in its settings: merged dialogues, classes that cannot be
learned.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from merc.corpora.engine.emotion_names import counted
from merc.corpora.engine.labels import LabelSet
from merc.records.dialogue import Dialogue

# The longest dialogue has 33 utterances in MELD, 25 in EmoryNLP, 35 in DailyDialog and 110 in IEMOCAP, with medians of
# 9, 11, 7 and 66: none of them is long by the rules below. EmoryNLP split only by scene number has 20 "dialogues" of up
# to 751.
LONG_UTTERANCES = 150
LONG_MEDIANS = 5
NEVER_LONG_UTTERANCES = 40
_MISSING_WORDS = ("nan", "<na>", "n/a", "na", "null", "none", "#n/a")


def remarks(dialogues: Sequence[Dialogue], labels: LabelSet) -> list[str]:
    """One line per likely mistake; the corpora of the field, as distributed, give none.

    Args:
        dialogues: all dialogues that were read.
        labels: their label set.
    """
    return [*_long(dialogues), *_like_a_missing_cell(dialogues, labels), *_not_in_train(dialogues, labels)]


def _long(dialogues: Sequence[Dialogue]) -> Iterator[str]:
    lengths = {one.dialogue_id: len(one.utterances) for one in dialogues}
    median = statistics.median(lengths.values())
    limit = min(LONG_UTTERANCES, max(NEVER_LONG_UTTERANCES, LONG_MEDIANS * median))
    long = [name for name, length in lengths.items() if length > limit]
    if long:
        longest = max(long, key=lengths.__getitem__)
        yield (
            f"{counted(len(long), 'dialogue')} of {len(lengths)} with more than {limit:g} utterances, the longest is"
            f" {longest} with {lengths[longest]} (the median is {median:g}): several dialogues may have been put"
            " together; where a table has several columns that make the id of a dialogue, the setting columns.dialogue"
            " lists them all"
        )


def _like_a_missing_cell(dialogues: Sequence[Dialogue], labels: LabelSet) -> Iterator[str]:
    """Not counted as missing: ``none`` may be an emotion's name, and Nan a person's."""
    emotions = Counter(one.emotion for dialogue in dialogues for one in dialogue.utterances)
    speakers = Counter(one.speaker for dialogue in dialogues for one in dialogue.utterances)
    for what, counts in (
        ("emotion", {name: emotions[name] for name in labels.classes if emotions[name]}),
        ("speaker", speakers),
    ):
        for name, count in counts.items():
            if name.casefold() in _MISSING_WORDS:
                yield (
                    f"the {what} {name!r} (of {counted(count, 'utterance')}) looks like a missing cell; where it is"
                    " one, leave the cell empty"
                )


def _not_in_train(dialogues: Sequence[Dialogue], labels: LabelSet) -> Iterator[str]:
    counts: dict[str, Counter[int]] = {}
    for dialogue in dialogues:
        counts.setdefault(dialogue.split, Counter()).update(labels.index(one.emotion) for one in dialogue.utterances)
    if "train" not in counts:
        return
    for index, name in enumerate(labels.classes):
        where = [
            f"{split} ({counted(of_split[index], 'utterance')})"
            for split, of_split in counts.items()
            if of_split[index]
        ]
        if where and not counts["train"][index]:
            yield f"the emotion {name!r} is in {' and '.join(where)}, but not in train: no model can learn it"
