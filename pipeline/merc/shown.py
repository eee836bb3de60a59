"""Untrusted text for a terminal, a log, a page or a Markdown file: nothing in it takes effect, everything is
visible.
"""

import re

# C0 except newline and tab, DEL, C1, and marks that change the text direction; also lone surrogates, which no file can
# contain.
_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"[\\|`*\[\]<>#~]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is not markup
_PLAIN = re.compile(r"[\w./+-]+")


def visible(text: str) -> str:
    r"""The text with escapes such as ``\x1b`` and ``\u202e`` instead of characters that move the cursor, set a title,
    clear a screen or change the text direction.

    Newlines and tabs stay.

    >>> print(visible("Joey\x1b[2J"))
    Joey\x1b[2J
    """
    return _ACTS.sub(lambda found: ascii(found[0])[1:-1], text)


def visible_json(text: str) -> str:
    r"""JSON of the same value with escapes such as ``\u009b`` for the characters that JSON leaves unescaped."""
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def markdown(text: object) -> str:
    r"""A line that is not interpreted as Markdown or HTML, and does not end the cell or item that contains it.

    >>> print(markdown("<b>sad|der</b>\n# new_line"))
    \<b\>sad\|der\</b\> \# new_line
    """
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", visible(" ".join(str(text).split())))


def code(text: object) -> str:
    """A name as Markdown code, delimited so that none of its characters ends it."""
    return f"`{text}`" if _PLAIN.fullmatch(str(text)) else markdown(text)
