"""IEMOCAP's annotation files: what the raters said about each utterance, and what was spoken, unchanged."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from merc.corpora.engine import label_synonyms
from merc.corpora.engine.text_lines import Encoding, read_lines
from merc.errors import BadTable

UNDECIDED = "undecided"

# Codes of the official label → our words.
EMOTIONS = {
    "hap": "happy",
    "sad": "sad",
    "neu": "neutral",
    "ang": "angry",
    "exc": "excited",
    "fru": "frustrated",
    "sur": "surprised",
    "fea": "fearful",
    "dis": "disgusted",
    "oth": "other",
    "xxx": UNDECIDED,
}
# What the raters ticked → our words.
VOTES = {
    "Happiness": "happy",
    "Sadness": "sad",
    "Neutral": "neutral",
    "Neutral state": "neutral",
    "Anger": "angry",
    "Excited": "excited",
    "Frustration": "frustrated",
    "Surprise": "surprised",
    "Fear": "fearful",
    "Disgust": "disgusted",
    "Other": "other",
}

# Lines of a transcription that are not utterances, by kind.
WITHOUT_EVALUATION = "lines without an evaluation (_MXX0, _FXX1)"
WITHOUT_ID = "lines without an id"

_TIME = r"[0-9]{1,6}(?:\.[0-9]+)?"
_NUMBER = rf"-?{_TIME}"
_FIRST_LINE = re.compile(rf"\[({_TIME}) - ({_TIME})\]\t(\S+)\t(\S*)\t\[({_NUMBER}), ({_NUMBER}), ({_NUMBER})\]")
_RATING = re.compile(r"(?P<what>[CA])-(?P<rater>[EFM])[0-9]+:\s*(?P<given>[^(]*)(?:\(.*)?")
_ATTRIBUTES = re.compile(r"val\s+[0-9]+;\s*act\s+[0-9]+;\s*dom\s+[0-9]+;\s*")
_SPOKEN = re.compile(rf"(?P<id>\S+)\s+\[(?P<start>{_TIME})-(?P<end>{_TIME})\]:(?P<text>.*)")
_NO_EVALUATION = re.compile(r"Ses\S+_[FM]XX[0-9](?=\s|$)")
_TAG = re.compile(r"\s*\[[A-Za-z][A-Za-z _-]*\]\s*")
_TAG_BEFORE_A_STOP = re.compile(r"\s*\[[A-Za-z][A-Za-z _-]*\](?=[.,;:!?])")
# The release is ASCII; if one or two lines of a file are neither ASCII nor UTF-8, an editor on Windows inserted a
# character.
_STRAY_LINES = 2
_UTF_8 = Encoding()


@dataclass
class Evaluation:
    """One block of an ``EmoEvaluation`` file::

        [6.1234 - 8.4321]\tSes01F_impro09_F000\tneu\t[2.5000, 3.0000, 2.5000]
        C-E2:\tNeutral;\t()                  an external rater's labels
        C-F1:\tNeutral; Anger;\t()           an actor's own
        A-E3:\tval 3; act 2; dom  2;\t()      a rating of attributes

    Attributes:
        start_seconds, end_seconds: in the dialogue's recording.
        official: the distribution's label in our words.
        valence, arousal, dominance: means over the external raters, supposed to be in 1 to 5.
        votes: all labels of the external raters, in our words; a rater may give none or several.
        self_votes: the same for the actors' own rating.
        broken_ratings: attribute lines that are not three numbers, unchanged.
        strange_lines: lines of the block that are neither label nor attribute rating.
        undecodable: whether a byte was not UTF-8. renamed: the label as written if it is not a code of the release;
            else empty.
    """

    start_seconds: float
    end_seconds: float
    official: str
    valence: float
    arousal: float
    dominance: float
    votes: list[str] = field(default_factory=list)
    self_votes: list[str] = field(default_factory=list)
    broken_ratings: list[str] = field(default_factory=list)
    strange_lines: list[str] = field(default_factory=list)
    undecodable: bool = False
    renamed: str = ""

    @property
    def outside_scale(self) -> list[str]:
        """The attributes outside 1 to 5, for a message."""
        attributes = {"valence": self.valence, "arousal": self.arousal, "dominance": self.dominance}
        return [f"{name} {value:g}" for name, value in attributes.items() if not 1 <= value <= 5]


@dataclass(frozen=True)
class Spoken:
    """What a transcription file says about one utterance.

    Attributes:
        start_seconds, end_seconds: in the dialogue's recording.
        text: with its tags (``[LAUGHTER]``).
        undecodable: whether a byte was not UTF-8. listed: False if the file has no such line and this replaces it.
    """

    start_seconds: float
    end_seconds: float
    text: str
    undecodable: bool = False
    listed: bool = True


def without_tags(text: str) -> str:
    """A transcript without its remarks on non-verbal sounds (``[LAUGHTER]``, ``[breathing]``).

    >>> without_tags("[LAUGHTER] I know [BREATHING]. Well [lipsmack] yes.")
    'I know. Well yes.'
    """
    return _TAG.sub(" ", _TAG_BEFORE_A_STOP.sub("", text)).strip()


def majority(votes: Sequence[str]) -> str:
    """The label that is more frequent than every other one and has at least two votes, else ``undecided``.

    Args:
        votes: all labels that all raters of an utterance gave. For the external raters, the result is the official
            label of all 10,039 utterances.

    >>> majority(["sad", "angry", "sad"]), majority(["sad", "angry"]), majority(["sad", "sad", "angry", "angry"])
    ('sad', 'undecided', 'undecided')
    """
    ranked = Counter(votes).most_common(2)
    if not ranked or ranked[0][1] < 2 or (len(ranked) == 2 and ranked[1][1] == ranked[0][1]):
        return UNDECIDED
    return ranked[0][0]


def counts_as_happy(evaluation: Evaluation) -> bool:
    """True for the 53 utterances that the 6-way benchmark counts as happy although the external raters reached no
    majority.

    The rule that finds exactly these: no official label, a self rating of Happiness and nothing else, and a majority
    for Happiness if that vote is counted.
    """
    return (
        evaluation.official == UNDECIDED
        and evaluation.self_votes == ["happy"]
        and majority([*evaluation.votes, "happy"]) == "happy"
    )


def read_evaluations(path: Path, encoding: Encoding = _UTF_8) -> dict[str, Evaluation]:
    """Reads an ``EmoEvaluation`` file, named after its dialogue.

    Returns:
        Utterance id → evaluation, in the file's order, which is not that of the conversation.

    Raises:
        RawDataMissing: if the file has another encoding.
        BadTable: if a block's first line cannot be read, its label code is unknown, its id repeats or belongs to
            another dialogue.
    """
    evaluations: dict[str, Evaluation] = {}
    current: Evaluation | None = None
    for number, line, undecodable in _lines(path, encoding):
        where = f"{path}:{number}"
        if line.startswith("%"):
            continue
        if line.startswith("["):
            utterance_id, current = _first_line(line, where)
            _check_id(utterance_id, path.stem, evaluations, where)
            evaluations[utterance_id] = current
        elif current is None:
            raise BadTable(f"{where}: {line!r} is before the first utterance, which starts with [start - end]")
        else:
            _add_rating(current, line)
        current.undecodable |= undecodable
    return evaluations


def _first_line(line: str, where: str) -> tuple[str, Evaluation]:
    match = _FIRST_LINE.fullmatch(line)
    if match is None:
        raise BadTable(
            f"{where}: {line!r} is not of the form [start - end]<tab>utterance<tab>emotion<tab>[valence, arousal,"
            " dominance]"
        )
    start, end, utterance_id, code, valence, arousal, dominance = match.groups()
    official = EMOTIONS.get(code) or label_synonyms.meant(code, tuple(EMOTIONS.values()))
    if official is None:
        raise BadTable(f"{where}: {utterance_id} has the emotion {code!r} instead of one of {', '.join(EMOTIONS)}")
    renamed = "" if code in EMOTIONS else code
    return utterance_id, Evaluation(
        float(start), float(end), official, float(valence), float(arousal), float(dominance), renamed=renamed
    )


def _add_rating(evaluation: Evaluation, line: str) -> None:
    match = _RATING.fullmatch(line)
    if match is None:
        evaluation.strange_lines.append(line)
    elif match["what"] == "C":
        # A word that is not in VOTES is still a vote; if it wins, the official label deviates, which is reported.
        words = [word.strip() for word in match["given"].split(";")]
        votes = evaluation.votes if match["rater"] == "E" else evaluation.self_votes
        votes += [VOTES.get(word, word) for word in words if word]
    elif not _ATTRIBUTES.fullmatch(match["given"]):
        evaluation.broken_ratings.append(line)


def read_transcription(path: Path, encoding: Encoding = _UTF_8) -> tuple[dict[str, Spoken], Counter[str]]:
    """Reads a transcription file, named after its dialogue.

    Returns:
        Utterance id → what is said, in the order of the conversation; and the number of lines left out, by kind.

    Raises:
        RawDataMissing: if the file has another encoding.
        BadTable: if a line with an id cannot be read, or its id repeats or belongs to another dialogue.
    """
    spoken: dict[str, Spoken] = {}
    left_out: Counter[str] = Counter()
    for number, line, undecodable in _lines(path, encoding):
        where = f"{path}:{number}"
        if not line.startswith("Ses"):
            left_out[WITHOUT_ID] += 1
        elif _NO_EVALUATION.match(line):
            left_out[WITHOUT_EVALUATION] += 1
        else:
            match = _SPOKEN.fullmatch(line)
            if match is None:
                raise BadTable(f"{where}: {line!r} is not of the form utterance [start-end]: text")
            _check_id(match["id"], path.stem, spoken, where)
            spoken[match["id"]] = Spoken(float(match["start"]), float(match["end"]), match["text"].strip(), undecodable)
    return spoken, left_out


def _lines(path: Path, encoding: Encoding) -> Iterator[tuple[int, str, bool]]:
    """Yields number, text and "was not UTF-8" of each line that is not empty, white space at its ends removed."""
    for number, (text, undecodable) in enumerate(read_lines(path, encoding, stray=_STRAY_LINES), start=1):
        if text.strip():
            yield number, text.strip(), undecodable


def _check_id(utterance_id: str, dialogue_id: str, known: Mapping[str, object], where: str) -> None:
    if not re.fullmatch(re.escape(dialogue_id) + "_[FM][0-9]{3}", utterance_id):
        raise BadTable(f"{where}: {utterance_id!r} is not an utterance of {dialogue_id}, such as {dialogue_id}_F000")
    if utterance_id in known:
        raise BadTable(f"{where}: {utterance_id} occurs twice")
