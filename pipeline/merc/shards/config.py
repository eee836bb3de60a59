"""Settings of the shards: the block ``shards``."""

from typing import Any

from pydantic import PositiveInt

from merc.params import Settings


class Config(Settings):
    """How the rows of dialogues are laid out in files."""

    row_group_dialogues: PositiveInt = 128
    """Dialogues per Parquet row group."""
    max_file_bytes: PositiveInt = 128_000_000
    """Bytes before compression; the maximum for a file, unless a single dialogue is larger."""
    transcripts: bool = True
    """Whether there is a column ``texts``."""
    quality: bool = False
    """Whether there are columns ``quality_…``, from an existing audit (``merc-extract audit``)."""

    def decisive(self) -> dict[str, Any]:
        """For a fingerprint. Settings that are off are left out, so that shards made before a setting existed stay
        valid.
        """
        return self.model_dump(mode="json", exclude=set() if self.quality else {"quality"})
