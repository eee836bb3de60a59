"""Translates dialogues of circulating feature files to the terms of our corpora: ids, splits, speakers, emotions; and
back.

IEMOCAP's dialogues are named (``Ses01F_impro01``). MELD's are numbered consecutively: ``Dialogue_ID`` + 0, 1039 and
1153 for train, dev and test, so the number distinguishes dev from train, which MMGCN's file does not. EmoryNLP's are
named by season, episode and scene (``4_4_11``); DailyDialog's are recognised by their speakers, ``0`` and ``1``. The
order of the labels is that of :mod:`merc.corpora.engine.labels`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from merc.corpora import iemocap, meld
from merc.corpora.engine.iemocap_files import scenario_of, session_of
from merc.corpora.engine.labels import LABEL_SETS, LabelSet
from merc.errors import BadSettings, BadTable, nearest
from merc.records.dialogue import SPLITS, Dialogue, Utterance
from merc.shards.circulation import text_corpora
from merc.shards.circulation.layouts import Conversation, FeatureFile

MELD_OFFSETS = {"train": 0, "dev": 1039, "test": 1153}
SPEAKER_SLOTS = 9
"""Length of the speaker vectors of MELD's files; no dialogue of MELD has more speakers."""
SENTIMENTS = ("neutral", "positive", "negative")
"""In the order of the files; in MELD the emotion neutral always has neutral sentiment and joy always positive, which
shows whether a file uses this order.
"""

_LABEL_SETS = {
    "iemocap": ("iemocap6", "iemocap4"),
    "meld": ("meld7",),
    "emorynlp": ("emorynlp",),
    "dailydialog": ("dailydialog",),
}
_SCENE = re.compile(r"[0-9]+_[0-9]+_[0-9]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def corpus_of(file: FeatureFile, label_set: str | None = None) -> str:
    """``iemocap``, ``meld``, ``emorynlp`` or ``dailydialog``, by the ids of the dialogues and by the speakers; if those
    are ambiguous, that of ``label_set``.

    Raises:
        BadTable: if they match none, or several.
    """
    corpora = [*_fitting(file), *(corpus for corpus in text_corpora.SOURCES if label_set in _LABEL_SETS[corpus])]
    if corpora:
        return corpora[0]
    strange = next(
        one.key for one in file.conversations if not isinstance(one.key, str) or not re.match("Ses", one.key)
    )
    raise BadTable(
        f"the dialogue {strange!r} belongs to no known corpus: IEMOCAP's are named as Ses01F_impro01, MELD's are"
        " numbered, EmoryNLP's are named as 4_4_11 (season, episode, scene), DailyDialog's have the speakers 0 and 1;"
        " --label-set emorynlp or dailydialog selects one of those"
    )


def _fitting(file: FeatureFile) -> Iterator[str]:
    """The corpus of the ids and speakers, if any."""
    keys = [one.key for one in file.conversations]
    if any(str(key).startswith("Ses") for key in keys):
        for key in keys:
            session_of(str(key))  # raises BadTable
        yield "iemocap"
    elif all(_SCENE.fullmatch(str(key)) for key in keys):
        yield "emorynlp"
    elif file.layout != "cosmic":  # COSMIC's file of MELD has another order
        yield from ["meld"] if all(isinstance(key, int) for key in keys) else []
    elif all(speaker in ("0", "1") for one in file.conversations for speaker in one.speakers):
        yield "dailydialog"


def label_set_of(file: FeatureFile, corpus: str, wanted: str | None) -> LabelSet:
    """The label set of a file: the requested one, else that of the corpus; for IEMOCAP, ``iemocap4`` if no label is
    above 3.

    Raises:
        BadSettings: if the requested one is not the corpus's.
        BadTable: if a label is outside of it.
    """
    highest = max(label for one in file.conversations for label in one.labels)
    valid = _LABEL_SETS[corpus]
    four = corpus == "iemocap" and highest < len(LABEL_SETS["iemocap4"].classes)
    name = wanted or ("iemocap4" if four else valid[0])
    if name not in valid:
        raise BadSettings(f"--label-set: {name!r} does not fit a file of {corpus}; {nearest(name, list(valid))}")
    labels = LABEL_SETS[name]
    for one in file.conversations:
        strange = [label for label in one.labels if not 0 <= label < len(labels.classes)]
        if strange:
            raise BadTable(
                f"dialogue {one.key!r}: label {strange[0]} is outside of {name}, which has 0 to"
                f" {len(labels.classes) - 1}: {', '.join(labels.classes)}"
            )
    return labels


def splits_of(file: FeatureFile, corpus: str, validation: str, seed: int) -> list[str]:
    """Split of each dialogue.

    Args:
        file: determines which are test and, if possible, which are dev.
        corpus: see :func:`corpus_of`.
        validation: for IEMOCAP, which of the training dialogues are dev if the file does not say: ``val12``,
            ``random20`` or ``none``.
        seed: seed of ``random20``.

    Raises:
        BadTable: if a dialogue's MELD number belongs to another split than in the file.
    """
    if corpus == "meld":
        return [_meld_split(one, file.has_dev) for one in file.conversations]
    if file.has_dev or corpus != "iemocap":
        return [one.split for one in file.conversations]
    training = [str(one.key) for one in file.conversations if one.split == "train"]
    dev = iemocap.assign_splits(training, test_session=0, validation=validation, seed=seed)
    return [dev[str(one.key)] if one.split == "train" else one.split for one in file.conversations]


def _meld_split(one: Conversation, has_dev: bool) -> str:
    number = int(one.key)
    split = next((split for split in reversed(SPLITS) if number >= MELD_OFFSETS[split]), None)
    if split is None:
        raise BadTable(f"the dialogue {number} belongs to no split: MELD's are numbered from 0")
    if one.split != ("train" if split == "dev" and not has_dev else split):
        raise BadTable(
            f"dialogue {number} is in {one.split}, but that number is of {split}: MELD's are numbered from"
            f" {MELD_OFFSETS['train']}, {MELD_OFFSETS['dev']} and {MELD_OFFSETS['test']} on"
        )
    return split


def dialogue_of(one: Conversation, split: str, labels: LabelSet, corpus: str) -> Dialogue:
    """A dialogue as our readers return it. The files contain no times: an utterance starts and ends at 0.

    Raises:
        BadTable: if a dialogue of IEMOCAP has a third speaker, or an id is invalid.
    """
    name = f"dia{int(one.key) - MELD_OFFSETS[split]}" if corpus == "meld" else str(one.key)
    if not _PLAIN_NAME.fullmatch(name):
        raise BadTable(f"the id of a dialogue is {name[:80]!r}; expected letters, digits, dots, dashes and underscores")
    sentiments = [SENTIMENTS[index] for index in one.sentiments] or [""] * len(one.labels)
    return Dialogue(
        split=split,
        source_dialogue_id=name,
        scenario=scenario_of(name) if corpus == "iemocap" else "",
        utterances=tuple(
            Utterance(
                source_utterance_id=_utterance_name(one, name, position),
                speaker=_speaker_name(one.key, speaker, corpus),
                text=sentence,
                emotion=labels.classes[label],
                sentiment=sentiment,
                start_seconds=0.0,
                end_seconds=0.0,
            )
            for position, (speaker, sentence, label, sentiment) in enumerate(
                zip(one.speakers, one.sentences, one.labels, sentiments, strict=True)
            )
        ),
    )


def _utterance_name(one: Conversation, dialogue: str, position: int) -> str:
    """The corpus's own id, of which MELD's files contain the number; ``<dialogue>_turn<position>`` if the file has
    none.
    """
    if not one.ids:
        return f"{dialogue}_turn{position}"
    name = str(one.ids[position])
    return f"{dialogue}_utt{name}" if name.isdigit() else name


def _speaker_name(key: str | int, speaker: str | int, corpus: str) -> str:
    """``Ses01_F`` for IEMOCAP, as its reader has it; for the others, whose files have no names, ``speaker_<slot>``."""
    if corpus != "iemocap":
        return f"speaker_{speaker}"
    letter = {0: "M", 1: "F", "M": "M", "F": "F"}.get(speaker)
    if letter is None:
        raise BadTable(f"dialogue {key!r}: a speaker in slot {speaker}; IEMOCAP's are M and F, or slots 0 and 1")
    return f"Ses0{session_of(str(key))}_{letter}"


def without_other_sentiments(file: FeatureFile) -> FeatureFile:
    """The file without its sentiments if they are not those of :data:`SENTIMENTS`."""
    neutral, joy = (meld.EMOTIONS.index(name) for name in ("neutral", "joy"))
    known = {neutral: 0, joy: 1}
    pairs = [
        (label, sentiment)
        for one in file.conversations
        for label, sentiment in zip(one.labels, one.sentiments, strict=False)
    ]
    if all(0 <= sentiment < len(SENTIMENTS) and known.get(label, sentiment) == sentiment for label, sentiment in pairs):
        return file
    return replace(file, conversations=tuple(replace(one, sentiments=()) for one in file.conversations))


def deviations(dialogues: Sequence[Dialogue], corpus: str, labels: LabelSet, validation: str) -> list[str]:
    """One line per count that differs from the corpus's.

    Args:
        dialogues: those of all splits.
        corpus: see :func:`corpus_of`.
        labels: the label set.
        validation: how dev was chosen; ``file`` if the file itself has a dev split, which is counted with train.
    """
    if corpus == "meld":
        expected = meld.EXPECTED
        return list(
            _differences(
                dialogues,
                {split: one.dialogues for split, one in expected.items()},
                {split: one.emotions for split, one in expected.items()},
            )
        )
    if corpus != "iemocap":
        return list(_differences(dialogues, text_corpora.DIALOGUES[corpus], text_corpora.EMOTIONS[corpus]))
    if validation == "file":
        dialogues = [replace(one, split="train") if one.split == "dev" else one for one in dialogues]
        validation = "none"
    config = iemocap.Iemocap.Config.model_validate(
        {"reader": "iemocap", "label_set": labels.name, "validation": validation}
    )
    counts = iemocap.by_split(dialogues, config, set(SPLITS), train_whole=True)
    return [f"{what}: {expected} in the benchmark, {met} here" for what, expected, met in counts if expected != met]


def _differences(
    dialogues: Sequence[Dialogue], sizes: Mapping[str, int], emotions: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    for split, counts in emotions.items():
        there = [one for one in dialogues if one.split == split]
        found = Counter(utterance.emotion for one in there for utterance in one.utterances)
        pairs = [
            ("dialogues", len(there), sizes[split]),
            ("utterances", found.total(), sum(counts.values())),
            *((f"utterances with emotion {name}", found[name], count) for name, count in counts.items()),
        ]
        yield from (f"{split}: {met} {what} instead of {count}" for what, met, count in pairs if met != count)
