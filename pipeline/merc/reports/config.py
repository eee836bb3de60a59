"""Settings of the report: the block ``report``."""

from pydantic import Field

from merc.params import Settings


class Config(Settings):
    """What the report shows beside the results."""

    text: bool = True
    """Whether the page of all dialogues holds what is said; false for reports that leave the house, as does
    ``--no-text``.
    """
    media: bool = True
    """Whether that page holds small copies of the chosen faces, and of the sound where ``sound`` says so;
    ``--no-media`` turns both off.
    """
    sound: bool = False
    """Whether that page holds copies of the sound, about 100 kB an utterance. Not where the corpus forbids copies."""
    similarity: str = "path"
    """Similarity whose neighbours are drawn, one of ``trajectories.similarities``."""
    example_dialogues: int = Field(default=3, ge=0)
    """Examples per dataset."""
    neighbours_drawn: int = Field(default=3, ge=1)
    """Neighbours below each example."""
    published: str | None = None
    """CSV file of further published scores, shown after those that come with the package (columns:
    :class:`merc.reports.published.Published`); null: none.
    """
    validate_shards: bool = True
    """Whether the shards are validated, which reads every vector."""
