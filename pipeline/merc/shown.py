"""Foreign text on its way to a terminal, a log, a page or a Markdown file: nothing in it acts, all of it is seen."""

import re

# C0 but newline and tab, DEL, C1, and what turns the direction of what follows; also half characters, which no file can
# hold.
_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"[\\|`*\[\]<>#~]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word marks nothing
_PLAIN = re.compile(r"[\w./+-]+")


def visible(text: str) -> str:
    r"""The text with ``\x1b`` and ``\u202e`` instead of signs that move the cursor, set a title, clear a screen or
    turn the direction of writing.

    Newlines and tabs stay.

    >>> print(visible("Joey\x1b[2J"))
    Joey\x1b[2J
    """
    return _ACTS.sub(lambda found: ascii(found[0])[1:-1], text)


def visible_json(text: str) -> str:
    r"""JSON of the same value with ``\u009b`` instead of the signs that JSON lets stand as they are."""
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def markdown(text: object) -> str:
    r"""A line that is not taken for Markdown or HTML, and does not end the cell or item that it stands in.

    >>> print(markdown("<b>sad|der</b>\n# new_line"))
    \<b\>sad\|der\</b\> \# new_line
    """
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", visible(" ".join(str(text).split())))


def code(text: object) -> str:
    """A name in Markdown's letters for code, where none of its characters ends them."""
    return f"`{text}`" if _PLAIN.fullmatch(str(text)) else markdown(text)
