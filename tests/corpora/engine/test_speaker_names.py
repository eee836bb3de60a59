import pytest
from hypothesis import given
from hypothesis import strategies as st

from merc.corpora.engine.speaker_names import normalised, one_spelling

TABLE = {"Phoebe Sr": "Phoebe Sr."}


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("Ross", "Ross"),
        (" The \t Interviewer ", "Interviewer"),
        ("A Waiter", "A Waiter"),  # not the one mentioned before
        ("An Old Man", "An Old Man"),
        ("the Waiter", "Waiter"),
        ("Theo", "Theo"),
        ("Andrea", "Andrea"),
        ("an", "an"),  # a speaker of MELD's
        ("The", "The"),
        ("Ross and Joey", "Joey and Ross"),
        ("Joey and Ross", "Joey and Ross"),
        ("Ross, Joey and Chandler", "Chandler, Joey and Ross"),
        ("Ross, Joey, and Chandler", "Chandler, Joey and Ross"),
        ("Ross & Joey", "Joey and Ross"),
        ("Ross AND Joey", "Joey and Ross"),
        ("Ross and Ross", "Ross"),
        ("The Waiter and Joey", "Joey and Waiter"),
        ("Sandy", "Sandy"),  # "and" inside a name does not split it
        ("Joey/Drake", "Joey/Drake"),
        ("Fireman #1", "Fireman No. 1"),
        ("Nurse # 2", "Nurse No. 2"),
        ("Phoebe  Sr", "Phoebe Sr."),
        ("Phoebe Sr.", "Phoebe Sr."),
        ("Phoebe Sr and Ross", "Phoebe Sr. and Ross"),
        ("Jose\u0301", "Jos\u00e9"),
        ("Mona’s Date", "Mona’s Date"),
        (",", ","),
    ],
)
def test_a_name_has_one_spelling(name: str, spelling: str) -> None:
    assert normalised(name, TABLE) == spelling


def test_names_that_differ_in_capitals_alone_take_the_more_frequent_spelling() -> None:
    names = ["ROSS", "Ross", "Ross", "joey", "Joey", "the waiter", "The Waiter", "A Waiter"]
    assert one_spelling(names, {}) == {
        "ROSS": "Ross",
        "Ross": "Ross",
        "joey": "Joey",
        "Joey": "Joey",
        "the waiter": "Waiter",
        "The Waiter": "Waiter",
        "A Waiter": "A Waiter",
    }


@given(st.lists(st.text(min_size=1), min_size=1))
def test_every_name_gets_a_spelling_whatever_it_is_made_of(names: list[str]) -> None:
    spellings = one_spelling(names, TABLE)
    assert set(spellings) == set(names)
    assert all(spellings[name] or not name.strip() for name in names)


@given(st.text(alphabet="ABab and,&#1.The ", min_size=1))
def test_a_spelling_is_its_own_spelling(name: str) -> None:
    once = normalised(name, TABLE)
    assert normalised(once, TABLE) == normalised(normalised(once, TABLE), TABLE)
