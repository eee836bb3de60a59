"""Settings of the report: the block ``report``."""

from pydantic import Field

from merc.params import Settings


class Config(Settings):
    """Which example dialogues the report shows."""

    similarity: str = "path"
    """Similarity whose neighbours are drawn, one of ``trajectories.similarities``."""
    example_dialogues: int = Field(default=3, ge=0)
    """Examples per dataset."""
    neighbours_drawn: int = Field(default=3, ge=1)
    """Neighbours below each example."""
