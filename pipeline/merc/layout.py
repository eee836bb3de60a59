"""Paths of the files of one corpus: raw/ in, features/<dataset>/ out. The only place that builds these paths."""

from dataclasses import dataclass
from pathlib import Path

MODALITIES = ("text", "audio", "visual")


@dataclass(frozen=True)
class Layout:
    """Paths of one dataset.

    Attributes:
        raw: the folder of the corpora; paths in the manifest are relative to it.
        out: the folder of all features.
        dataset: its name.
    """

    raw: Path
    out: Path
    dataset: str

    @property
    def corpus_root(self) -> Path:
        """``raw/<dataset>`` if that exists, else ``raw`` itself (so that ``--raw`` may name the corpus's folder)."""
        below = self.raw / self.dataset
        return below if below.exists() or not self.raw.exists() else self.raw

    @property
    def folder(self) -> Path:
        return self.out / self.dataset

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.parquet"

    @property
    def media(self) -> Path:
        return self.folder / "media"

    @property
    def audit(self) -> Path:
        return self.folder / "audit"

    def heard(self, what: str) -> Path:
        """What is derived from the audio: ``speech``, ``transcripts``, ``text``; separate from the audit, since it
        takes longer than everything else.
        """
        return self.folder / "heard" / what

    def heard_text(self, encoder: str) -> Path:
        """Text vectors of a speech recogniser's output instead of the transcripts."""
        return self.heard("text") / encoder

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def scratch(self) -> Path:
        """Unfinished work; outside every output, since DVC deletes a stage's outputs before each run."""
        return self.folder / ".scratch"

    def features(self, modality: str, encoder: str) -> Path:
        return self.folder / modality / encoder

    def adapted(self, modality: str, name: str) -> Path:
        """Files of an encoder that was fine-tuned on this dataset."""
        return self.folder / "adapted" / modality / name


def with_shards(out: Path) -> list[str]:
    """The datasets below the folder of all features that have shards, sorted."""
    return sorted(path.parents[2].name for path in out.glob("*/shards/meta/info.json"))
