"""Docstrings name things as Sphinx does, ``:class:`merc.shards.Dialogues```; for the pages of mkdocs they become plain code."""

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|meth|mod|attr|func|data):`~?([^`]+)`")
_DOUBLED = re.compile(r"``([^`\n]+)``")


class Roles(Extension):
    """Rewrites the docstring of everything that is loaded."""

    def on_object(self, *, obj: Object, **_more: Any) -> None:
        """See :class:`griffe.Extension`."""
        if obj.docstring is not None:
            obj.docstring.value = _DOUBLED.sub(r"`\1`", _ROLE.sub(r"`\1`", obj.docstring.value))
