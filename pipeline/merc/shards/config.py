"""Settings of the shards: the block ``shards`` of params.yaml."""

from pydantic import PositiveInt

from merc.params import Settings


class Config(Settings):
    """Settings of the block ``shards``.

    Attributes:
        row_group_dialogues: dialogues per Parquet row group.
        max_file_bytes: a file holds no more than this before compression (except a dialogue that is larger by itself).
        transcripts: False: without the column ``texts``.
    """

    row_group_dialogues: PositiveInt
    max_file_bytes: PositiveInt
    transcripts: bool = True
