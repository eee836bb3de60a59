"""Spellings of emotions: those that differ only in case or spaces are one class."""

import unicodedata
from collections.abc import Mapping, Sequence

from merc.corpora.engine.speaker_names import most_frequent


def plain(emotion: str) -> str:
    """The common key of an emotion's spellings, which may differ only in case, spaces or the composition of accents.

    >>> plain("  Very  HAPPY ")
    'very happy'
    """
    return " ".join(unicodedata.normalize("NFC", emotion).split()).casefold()


def one_spelling(counts: Mapping[str, int], known: Sequence[str], *, closed: bool) -> dict[str, str]:
    """Emotion as written → the spelling of its class.

    Args:
        counts: emotion as written → number of utterances.
        known: correct spellings.
        closed: whether no other emotions are valid; these are then returned as written, for the caller to refuse. If
            not, the most frequent spelling is correct.

    >>> one_spelling({"Joy": 2, "joy": 1, "FEAR": 1}, ["fear"], closed=False)
    {'Joy': 'Joy', 'joy': 'Joy', 'FEAR': 'fear'}
    """
    right: dict[str, list[str]] = {}
    for name in known:
        right.setdefault(plain(name), []).append(name)
    if not closed:
        right = {alike: [name] for alike, name in most_frequent(counts, plain).items()} | right
    fitting = {name: right.get(plain(name), []) for name in counts}
    return {name: found[0] if len(found) == 1 and name not in known else name for name, found in fitting.items()}


def taken_for(counts: Mapping[str, int], spelling: Mapping[str, str]) -> list[str]:
    """One line per class that is written in several ways; consistent capitals are not reported.

    >>> taken_for({"Joy": 2, "joy": 1, "FEAR": 3}, {"Joy": "Joy", "joy": "Joy", "FEAR": "fear"})
    ["the emotion 'Joy' is written in 2 ways: 'Joy' (2 utterances), 'joy' (1 utterance) were taken for one"]
    """
    written: dict[str, list[str]] = {}
    for name in sorted(counts):
        written.setdefault(spelling[name], []).append(f"{name!r} ({counted(counts[name], 'utterance')})")
    several = {name: ways for name, ways in written.items() if len(ways) > 1}
    return [
        f"the emotion {name!r} is written in {len(ways)} ways: {', '.join(ways)} were taken for one"
        for name, ways in several.items()
    ]


def counted(count: int, what: str) -> str:
    """A number with its noun: ``1 utterance``, ``2 utterances``."""
    return f"{count} {what}{'s' * (count != 1)}"
