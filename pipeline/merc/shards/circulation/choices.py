"""The options of imports and exports; separate from the code that does them, so that a command's --help need not load
that.
"""

from typing import Literal, get_args

RobertaLayer = Literal["mean", "1", "2", "3", "4"]
"""One of the four layers of COSMIC's files, or their mean."""
Format = Literal["mmgcn", "cogmen", "idcl"]
"""Layouts that shards can be exported in."""
FORMATS: tuple[Format, ...] = get_args(Format)
