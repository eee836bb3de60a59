"""Compares recognised with written text: only the letters, without case, punctuation and spaces."""

import re
import unicodedata

from rapidfuzz.distance import Levenshtein

# What transcribers and models add: [LAUGHTER], [BLANK_AUDIO].
_REMARK = re.compile(r"\[[^\[\]]*\]")
# How a Whisper marks non-speech; in a transcript, words in parentheses may be spoken.
_SOUND = re.compile(r"\([^()]*\)|\*[^*]*\*")
# Characters that represent a syllable, for which alphabets need about three letters: ideographs, kana, Hangul.
_SYLLABLE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]")
_LETTERS_PER_SYLLABLE = 3


def letters(text: str) -> str:
    """Letters, marks and digits in lower case and one spelling; numbers stay as they are written.

    >>> letters("[LAUGHTER] Don’t — you’ve 2 CAFÉS!")
    'dontyouve2cafés'
    """
    plain = unicodedata.normalize("NFKC", _REMARK.sub(" ", text)).casefold()
    return "".join(sign for sign in unicodedata.normalize("NFC", plain) if unicodedata.category(sign)[0] in "LMN")


def heard_letters(heard: str) -> str:
    """The letters of a model's output, without its words for noises.

    >>> heard_letters("(gentle music) Oh, *laughs* hi. [BLANK_AUDIO]")
    'ohhi'
    """
    return letters(_SOUND.sub(" ", heard))


def error_rate(text: str, heard: str) -> float | None:
    """Character error rate: letters to be changed, added or removed, divided by those of the text; may exceed 1.
    None for a text without a letter.

    >>> error_rate("Hurt the dog.", "hurt a dog"), error_rate("Oh.", ""), error_rate("…", "oh")
    (0.3, 1.0, None)
    """
    wanted = letters(text)
    return Levenshtein.distance(wanted, heard_letters(heard)) / len(wanted) if wanted else None


def speech_rate(text: str, speech_seconds: float) -> float | None:
    """Letters and digits per second of speech; None without speech, or for a text without a letter.

    A Chinese, Japanese or Korean character counts as three letters, about what other scripts need for its syllable, so
    that one range works for all.

    >>> speech_rate("What is it?", 1.0), speech_rate("好的", 1.0), speech_rate("Hm.", 0.0)
    (8.0, 6.0, None)
    """
    wanted = letters(text)
    if not wanted or speech_seconds <= 0:
        return None
    return (len(wanted) + (_LETTERS_PER_SYLLABLE - 1) * len(_SYLLABLE.findall(wanted))) / speech_seconds
