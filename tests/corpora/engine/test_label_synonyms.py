import pytest

from merc.corpora.engine.label_synonyms import meant
from merc.corpora.engine.labels import LABEL_SETS
from merc.errors import BadTable

MELD, IEMOCAP = LABEL_SETS["meld7"].classes, LABEL_SETS["iemocap6"].classes


@pytest.mark.parametrize(
    ("word", "valid", "label"),
    [
        ("joy", MELD, "joy"),
        (" Joy ", MELD, "joy"),
        ("happiness", MELD, "joy"),
        ("Happiness", IEMOCAP, "happy"),
        ("sad", MELD, "sadness"),
        ("sadness", IEMOCAP, "sad"),
        ("frustration", IEMOCAP, "frustrated"),
        ("frustration", MELD, None),
        ("hate", MELD, None),
        ("", MELD, None),
    ],
)
def test_a_word_stands_for_the_label_of_its_family(word: str, valid: tuple[str, ...], label: str | None) -> None:
    assert meant(word, valid) == label


@pytest.mark.parametrize("name", sorted(LABEL_SETS))
def test_no_label_set_has_two_labels_of_a_family_and_each_stands_for_itself(name: str) -> None:
    for label in LABEL_SETS[name].classes:
        assert meant(label, LABEL_SETS[name].classes) == label
        assert meant(label, tuple(one for one in LABEL_SETS[name].classes if one != label)) is None


def test_a_word_that_may_stand_for_two_labels_is_refused_naming_both() -> None:
    with pytest.raises(BadTable, match="'happiness' may stand for 'joy' or 'happy'"):
        meant("happiness", ("joy", "happy"))
