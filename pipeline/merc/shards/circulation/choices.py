"""What a user may ask of an import or export; apart from the code that does them, which a command's --help need not
load.
"""

from typing import Literal, get_args

RobertaLayer = Literal["mean", "1", "2", "3", "4"]
"""One of the four layers of COSMIC's files, or their mean."""
Format = Literal["mmgcn", "cogmen", "idcl"]
"""Layouts that shards can be exported in."""
FORMATS: tuple[Format, ...] = get_args(Format)
