"""Hashed word and character n-grams of the transcript: no model, no download, no vocabulary fitted to the data.

Hashing trick with signs: Weinberger et al. 2009 (ICML), as in scikit-learn's ``HashingVectorizer``. Negation: the words
between a negator and the next punctuation mark are marked (Das and Chen 2001; Pang et al. 2002).
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from merc.encoders.engine.base import Encoded, Encoder, EncoderConfig, UtteranceInput
from merc.encoders.engine.batching import scatter

NEGATED = "not_"
ELONGATED = "<elongated>"
CUE_NAMES = ("length", "capitals", "exclamation", "question", "ellipsis", "elongation", "negation", "tags")

_SAME_SIGN = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201b": "'",
        "`": "'",
        "\u00b4": "'",
        "\u0092": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2026": "...",
    }
)
# In this order: a tag such as [LAUGHTER], a word with inner apostrophes, a run of one punctuation mark, any other
# symbol.
_TOKEN = re.compile(r"\[[^\W\d_]+\]|\w+(?:'\w+)*|([!?.])\1*|[^\w\s]")
_TAG = re.compile(r"\[[^\W\d_]+\]")
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_ENDS_NEGATION = frozenset(".,;:!?()\u2013\u2014")
_NEGATORS = frozenset(
    "no not never none nobody nothing neither nor nowhere cannot cant dont wont isnt didnt doesnt without hardly barely".split()  # noqa: E501
)


class Ngrams(Encoder):
    """Word n-grams, character n-grams, each of length one (L2), and a few cues (:data:`CUE_NAMES`), side by side."""

    class Config(EncoderConfig):
        """Settings of the n-grams; the default vectors have 512 numbers with the eight cues."""

        word_dims: int = Field(default=384, ge=1)
        """Number of buckets for hashed word n-grams."""
        char_dims: int = Field(default=120, ge=1)
        """Number of buckets for hashed character n-grams."""
        word_ngrams: tuple[int, int] = (1, 2)
        """Words in the shortest and in the longest n-gram."""
        char_ngrams: tuple[int, int] = (2, 4)
        """Characters in the shortest and in the longest n-gram; none crosses a word's ends."""

        @model_validator(mode="after")
        def _ranges_are_ranges(self) -> Self:
            for name in ("word_ngrams", "char_ngrams"):
                shortest, longest = getattr(self, name)
                if not 1 <= shortest <= longest:
                    raise ValueError(
                        f"{name} is [{shortest}, {longest}], not [shortest, longest] with 1 <= shortest <= longest"
                    )
            return self

    MODALITY = "text"
    config: Config

    def provenance(self) -> dict[str, Any]:
        return self.rule_provenance(pooling="sum of signed hashes, L2")

    @property
    def dim(self) -> int:
        return self.config.word_dims + self.config.char_dims + len(CUE_NAMES)

    def planned_dim(self) -> int:
        return self.dim

    def load(self, device: str) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        settings = self.config
        self._parts = (
            HashingVectorizer(
                n_features=settings.word_dims,
                analyzer=lambda text: word_ngrams(text, *settings.word_ngrams),
                dtype=np.float64,
            ),
            HashingVectorizer(
                n_features=settings.char_dims,
                analyzer=lambda text: char_ngrams(text, *settings.char_ngrams),
                dtype=np.float64,
            ),
        )

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        filled = [index for index, utterance in enumerate(utterances) if utterance.text.strip()]
        remarks = [
            (index, "no_text", "the transcript is empty")
            for index, utterance in enumerate(utterances)
            if not utterance.text.strip()
        ]
        if not filled:
            return scatter(np.zeros((0, self.dim), dtype=np.float32), filled, len(utterances), remarks)
        texts = [utterances[index].text for index in filled]
        parts = [part.transform(texts).toarray() for part in self._parts]
        return scatter(np.hstack([*parts, cues(texts)]).astype(np.float32), filled, len(utterances), remarks)


def tokens(text: str) -> list[str]:
    """Words in lower case, punctuation, and tags such as ``[laughter]``.

    Curly quotes become straight ones. Repeated marks become one token per kind (``!!!`` is ``!!``, ``...`` stays),
    and a letter repeated three times or more is kept twice, with the token ``<elongated>`` after the word. Negated
    words start with ``not_``.

    >>> tokens("I\u2019m NOT sooo happy, ok?!! [LAUGHTER]")
    ["i'm", 'not', 'not_soo', '<elongated>', 'not_happy', ',', 'ok', '?', '!!', '[laughter]']
    """
    found: list[str] = []
    negated = False
    for match in _TOKEN.finditer(normalised(text)):
        token = match.group()
        if match.group(1):
            token = token[0] if len(token) == 1 else token[0] * (3 if token[0] == "." else 2)
        if not token[0].isalnum() and token[0] != "_":
            negated = negated and token[0] not in _ENDS_NEGATION
            found.append(token)
            continue
        word = _RUN.sub(r"\1\1", token)
        found.append(NEGATED + word if negated else word)
        if word != token:
            found.append(ELONGATED)
        negated = negated or word in _NEGATORS or word.endswith("n't")
    return found


def normalised(text: str) -> str:
    """Compatibility forms (NFKC), straight quotes, lower case."""
    return unicodedata.normalize("NFKC", text.translate(_SAME_SIGN)).translate(_SAME_SIGN).lower()


def word_ngrams(text: str, shortest: int, longest: int) -> list[str]:
    """n-grams of :func:`tokens`.

    >>> word_ngrams("Not now", 1, 2)
    ['not', 'not_now', 'not not_now']
    """
    found = tokens(text)
    return [
        " ".join(found[at : at + size]) for size in range(shortest, longest + 1) for at in range(len(found) - size + 1)
    ]


def char_ngrams(text: str, shortest: int, longest: int) -> list[str]:
    """n-grams of characters inside each token, whose ends count as spaces.

    >>> char_ngrams("Ah!", 2, 3)
    [' a', 'ah', 'h ', ' !', '! ', ' ah', 'ah ', ' ! ']
    """
    padded = [f" {match.group()} " for match in _TOKEN.finditer(normalised(text))]
    return [
        word[at : at + size]
        for size in range(shortest, longest + 1)
        for word in padded
        for at in range(len(word) - size + 1)
    ]


def cues(texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts, cues) information that n-grams of normalised text do not contain; all of order one, columns as in
    :data:`CUE_NAMES`.

    Counts enter as log(1 + n), length as log(1 + characters) / 5: one for an utterance of 147 characters. The length is
    above zero for every non-empty text, so that no present vector is all zeros.
    """
    rows = []
    for text in texts:
        plain = _TAG.sub(" ", text.translate(_SAME_SIGN))
        letters = [sign for sign in plain if sign.isalpha()]
        found = tokens(text)
        counts = (
            plain.count("!"),
            plain.count("?"),
            plain.count("..."),
            found.count(ELONGATED),
            sum(token.startswith(NEGATED) for token in found) > 0,
            len(_TAG.findall(text)),
        )
        capitals = sum(letter.isupper() for letter in letters) / max(len(letters), 1)
        rows.append([np.log1p(len(text.strip())) / 5, capitals, *np.log1p(counts)])
    return np.array(rows, dtype=np.float64).reshape(-1, len(CUE_NAMES))
