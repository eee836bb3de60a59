"""Settings of the report: the block ``report`` of params.yaml."""

from pydantic import Field

from merc.params import Settings


class Config(Settings):
    """Settings of the report.

    Attributes:
        similarity: whose neighbours are drawn, one of ``trajectories.similarities``.
        example_dialogues: per dataset.
        neighbours_drawn: below each example.
    """

    similarity: str
    example_dialogues: int = Field(ge=0)
    neighbours_drawn: int = Field(ge=1)
