"""Content of the records below ``meta/``; readers find every key with the right type."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from merc.layout import MODALITIES
from merc.records.audit import PREFIX
from merc.records.dialogue import SPLITS

_Count = Annotated[int, Field(ge=0)]


STATS_SPLIT = "train"
"""Split whose vectors ``meta/stats.json`` describes; statistics of dev or test would leak into training."""
FACE_SETTINGS = ("detector", "choice", "off_screen")
"""Media settings that are part of the record of shards."""


class Counts(BaseModel):
    """Counts of one split."""

    model_config = ConfigDict(strict=True)

    dialogues: _Count
    utterances: _Count
    labels: dict[str, _Count]
    unlabelled: _Count = 0
    present: dict[str, _Count] = Field(default_factory=dict)
    failures: _Count = 0


class Quality(BaseModel):
    """Facts about the columns that come from an audit."""

    model_config = ConfigDict(strict=True, extra="allow")

    columns: Annotated[list[Annotated[str, Field(pattern=f"^{PREFIX}[a-z0-9_]+$")]], Field(min_length=1)]
    settings: dict[str, Any] = Field(default_factory=dict)
    fingerprints: list[str] = Field(default_factory=list)


class Info(BaseModel):
    """``meta/info.json``; further keys state what made the shards."""

    model_config = ConfigDict(strict=True, extra="allow")

    schema_version: str
    corpus: str
    label_set: str
    classes: Annotated[list[str], Field(min_length=1)]
    modalities: list[str]
    dims: dict[str, PositiveInt]
    encoders: dict[str, dict[str, Any]]
    splits: list[str]
    counts: dict[str, Counts]
    transcripts: bool = True
    quality: Quality | None = None
    selection: list[str] = Field(default_factory=list)
    source: str = ""
    redistribution: str = ""
    counts_compared: bool = True
    deviations: list[str] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)
    corpus_settings: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Any] = Field(default_factory=dict)
    fingerprint: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Info":
        wanted = set(self.modalities)
        if not wanted <= set(MODALITIES) or set(self.dims) != wanted or set(self.encoders) != wanted:
            raise ValueError(
                f"modalities {self.modalities}, dims of {sorted(self.dims)}, encoders of {sorted(self.encoders)}"
            )
        if not set(self.splits) <= set(SPLITS) or not set(self.splits) <= set(self.counts):
            raise ValueError(f"splits {self.splits}, counts of {sorted(self.counts)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a class twice: {self.classes}")
        for split in self.splits:
            counts = self.counts[split]
            if not set(self.classes) <= set(counts.labels) or not wanted <= set(counts.present):
                raise ValueError(
                    f"counts of {split} lack a class or a modality: {sorted(counts.labels)}, {sorted(counts.present)}"
                )
        return self


class Moments(BaseModel):
    """Statistics of one modality, in ``meta/stats.json``."""

    model_config = ConfigDict(extra="allow")

    count: _Count = 0
    mean: list[float]
    std: list[float]
