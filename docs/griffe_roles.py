"""Docstrings are written for readers of the source; on the pages they are Markdown.

Names as Sphinx marks them (``:class:`merc.shards.Dialogues```) become plain code, and equations and diagrams, which are
indented, become blocks even if they follow the text without an empty line. ``Example:`` becomes ``Examples:``, the
section that griffe knows; otherwise ``>>>`` would be shown as a quotation.
"""

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|meth|mod|attr|func|data):`~?([^`]+)`")
_DOUBLED = re.compile(r"``([^`\n]+)``")
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_TEXT_THEN_BLOCK = re.compile(r"^(?!- |\d+\. |[A-Z][a-z]+:$)(\S.*\n)(?=    )", re.MULTILINE)


class Roles(Extension):
    """Rewrites the docstring of everything that is loaded."""

    def on_object(self, *, obj: Object, **_more: Any) -> None:
        """See :class:`griffe.Extension`."""
        if obj.docstring is not None:
            text = _DOUBLED.sub(r"`\1`", _ROLE.sub(r"`\1`", obj.docstring.value))
            text = _EXAMPLE.sub("Examples:", text)
            obj.docstring.value = _TEXT_THEN_BLOCK.sub(r"\1\n", text) if obj.is_module else text
