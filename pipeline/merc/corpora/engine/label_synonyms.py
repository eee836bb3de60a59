"""Other words for a label, as found in redistributed copies of the corpora: ``happiness`` for ``joy``, ``ang``
for ``angry``.
"""

from collections.abc import Sequence

from merc.errors import BadTable

_FAMILIES = tuple(
    frozenset(words.split())
    for words in (
        "joy joyful happy happiness hap",
        "sadness sad",
        "anger angry ang",
        "neutral neutrality neu",
        "surprise surprised sur",
        "fear fearful fea scared",
        "disgust disgusted dis",
        "excited excitement exc",
        "frustrated frustration fru",
        "positive pos",
        "negative neg",
    )
)


def meant(word: str, valid: Sequence[str]) -> str | None:
    """The label that a word means; None if it means none of them.

    >>> meant("Happiness", ("neutral", "joy")), meant("hate", ("neutral", "joy"))
    ('joy', None)

    Args:
        word: as in the annotations; case does not matter.
        valid: the labels.

    Raises:
        BadTable: if it may mean two of them.
    """
    plain = word.strip().lower()
    if plain in valid:
        return plain
    found = [label for family in _FAMILIES if plain in family for label in valid if label in family]
    if len(found) > 1:
        raise BadTable(f"the label {word!r} may stand for {' or '.join(repr(one) for one in found)}")
    return found[0] if found else None
