import pytest
from hypothesis import given
from hypothesis import strategies as st

from merc.corpora.engine import text_repair


@pytest.mark.parametrize(
    ("line", "text", "by_cp1252"),
    [
        (b"plain", "plain", False),
        ("he’s “lost” it…".encode(), "he’s “lost” it…", False),
        (b"he\x92s \x93lost\x94 it\x85", "he’s “lost” it…", True),
        (b"d\xe9j\xe0", "déjà", True),
        (b"undefined \x81 in cp1252", "undefined \x81 in cp1252", True),
    ],
)
def test_a_line_is_read_as_utf8_and_else_as_cp1252(line: bytes, text: str, by_cp1252: bool) -> None:
    assert text_repair.decode(line) == (text, by_cp1252)


@given(st.binary())
def test_every_line_can_be_decoded(line: bytes) -> None:
    text, by_cp1252 = text_repair.decode(line)
    assert len(text) <= len(line)
    assert text.encode("sloppy-windows-1252" if by_cp1252 else "utf-8") == line


@pytest.mark.parametrize(
    ("damaged", "right"),
    [
        ("He\x92s lost it\x85", "He’s lost it…"),
        ("Itâ€™s â€œhereâ€\x9d", "It’s “here”"),
        ("a cafÃ© â€” yes", "a café — yes"),
        ("Joeyâ€™s café", "Joey’s café"),
    ],
)
def test_wrongly_decoded_text_is_repaired(damaged: str, right: str) -> None:
    assert text_repair.repair(damaged) == right


@pytest.mark.parametrize(
    "text",
    [
        "“Curly” quotes, ‘both’ kinds’",
        "an ellipsis… and — dashes –",
        "é, ó, ñ",
        "&amp; <b>tags</b>",
        "ﬁne",
        "ＦＵＬＬ",
        "  blanks \t kept ",
        "[LAUGHTER]",
        "日本語",
        "🙂",
        "",
    ],
)
def test_sound_text_is_left_alone(text: str) -> None:
    assert text_repair.repair(text) == text


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_ascii_is_left_alone(text: str) -> None:
    assert text_repair.repair(text) == text


@given(st.text(alphabet="abc ’‘“”…—–", min_size=1))
def test_punctuation_read_with_the_wrong_code_page_comes_back(text: str) -> None:
    assert text_repair.repair(text.encode("cp1252").decode("latin-1")) == text


def test_a_character_that_is_lost_already_stays_marked_as_lost() -> None:
    assert text_repair.repair("donâ€�t") == "donâ€�t"
