"""One spelling per speaker, so that one person spelled in two ways does not count as two.

The changes, in this order; nothing else, so that two people do not count as one:

| rule | as in the corpus | becomes |
| --- | --- | --- |
| Unicode composed (NFC), white space collapsed | ``Ross  `` | ``Ross`` |
| a corpus's own table of spellings | ``Phoebe Sr`` | ``Phoebe Sr.`` |
| a number after ``#`` | ``Fireman #1`` | ``Fireman No. 1`` |
| the definite article in front of a role | ``The Interviewer`` | ``Interviewer`` |
| several at a time, by alphabet | ``Ross and Joey``, ``Ross, Joey & Chandler`` | ``Joey and Ross``, ``Chandler, Joey and Ross`` |
| names that differ only in case | ``ROSS`` and ``Ross`` | the more frequent one |

"A" stays: in MELD's test/dia16 "A Waiter" and "The Waiter" speak, and the official counts of emotion shifts treat them
as two people. The corpus's own spelling is kept as well (``source_speaker`` in the manifest).
"""  # noqa: E501

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

_ARTICLE = re.compile(r"the\s+(?=\S)", re.IGNORECASE)
_NUMBER = re.compile(r"#\s*(?=[0-9])")
_BETWEEN_NAMES = re.compile(r"\s*,\s*and\s+|\s*,\s*|\s+and\s+|\s*&\s*", re.IGNORECASE)


def normalised(name: str, spellings: Mapping[str, str]) -> str:
    """One name after all rules but the last, which needs to know the other names.

    >>> [normalised(name, {}) for name in ("The  Interviewer", "Ross and Joey", "Ross, Joey & Chandler", "Nurse #2", "an")]
    ['Interviewer', 'Joey and Ross', 'Chandler, Joey and Ross', 'Nurse No. 2', 'an']

    Args:
        name: as spelled in the corpus.
        spellings: name → its usual spelling, both with single spaces.
    """  # noqa: E501
    members = {_member(one, spellings) for one in _BETWEEN_NAMES.split(_plain(name)) if one}
    *others, last = sorted(members) or [_plain(name)]
    return f"{', '.join(others)} and {last}" if others else last


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _member(name: str, spellings: Mapping[str, str]) -> str:
    numbered = _NUMBER.sub("No. ", spellings.get(name, name))
    return numbered.removeprefix(article[0]) if (article := _ARTICLE.match(numbered)) else numbered


def one_spelling(names: Iterable[str], spellings: Mapping[str, str]) -> dict[str, str]:
    """Name as in the corpus → the spelling to use.

    Args:
        names: of all utterances, each as often as it occurs: of spellings that differ only in case, the most frequent
            wins, then the alphabetically first.
        spellings: see :func:`normalised`.

    >>> one_spelling(["Ross", "ROSS", "Ross", "The Waiter", "Waiter"], {})
    {'Ross': 'Ross', 'ROSS': 'Ross', 'The Waiter': 'Waiter', 'Waiter': 'Waiter'}
    """
    counts = Counter(names)
    plain = {name: normalised(name, spellings) for name in counts}
    frequency: Counter[str] = Counter()
    for name, count in counts.items():
        frequency[plain[name]] += count
    best = most_frequent(frequency, str.casefold)
    return {name: best[plain[name].casefold()] for name in counts}


def most_frequent(frequency: Mapping[str, int], alike: Callable[[str], str]) -> dict[str, str]:
    """Key of spellings by ``alike`` → the most frequent of them, then the alphabetically first.

    >>> most_frequent({"Joy": 2, "joy": 1, "JOY": 2}, str.casefold)
    {'joy': 'JOY'}
    """
    best: dict[str, str] = {}
    for spelling in sorted(frequency, key=lambda one: (-frequency[one], one)):
        best.setdefault(alike(spelling), spelling)
    return best
