"""Settings of the shards: the block ``shards``."""

from typing import ClassVar

from pydantic import PositiveInt

from merc.params import Settings


class Config(Settings):
    """How the rows of dialogues are laid out in files."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("quality",)

    row_group_dialogues: PositiveInt = 128
    """Dialogues per Parquet row group."""
    max_file_bytes: PositiveInt = 128_000_000
    """Bytes before compression; the maximum for a file, unless a single dialogue is larger."""
    transcripts: bool = True
    """Whether there is a column ``texts``."""
    quality: bool = False
    """Whether there are columns ``quality_…``, from an existing audit (``merc-extract audit``)."""
