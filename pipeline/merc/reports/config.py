"""Settings of the report: the block ``report``."""

from pydantic import Field

from merc.params import Settings


class Config(Settings):
    """What the report shows in addition to the results."""

    text: bool = True
    """Whether the page of all dialogues contains transcripts; false for reports that are passed on, like ``--no-text``.
    """
    media: bool = True
    """Whether that page contains small copies of the chosen faces, and of the audio if ``sound`` is true;
    ``--no-media`` turns both off.
    """
    sound: bool = False
    """Whether that page contains copies of the audio, about 100 kB per utterance. Leave it off if the corpus forbids
    copies.
    """
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
