"""What a corpus reader must offer. A new corpus is one file in the folder above, and its test."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from merc.corpora.engine.labels import LabelSet
from merc.corpora.engine.text_lines import UTF_8, Encoding
from merc.params import Settings
from merc.records.dialogue import Dialogue
from merc.records.failures import Failure


class CorpusConfig(Settings):
    """Settings of every corpus; a reader's own ``Config`` extends it."""

    reader: str
    """File in ``pipeline/merc/corpora`` that reads the corpus."""
    label_set: str
    """Name in :data:`merc.corpora.engine.labels.LABEL_SETS`; the reader lists those that fit."""
    unlabelled: Literal["keep", "drop"] = "keep"
    """``keep`` utterances outside the label set as context (index -1), or ``drop`` them as most papers do."""
    check_counts: bool = True
    """Whether the counts are compared with those of the official distribution, and deviations are reported."""
    encoding: str = UTF_8
    """Encoding of the annotations, where they are text files: ``gbk``, ``cp1251``, ``utf-16``, …; of UTF-8, single
    lines may be cp1252.
    """
    links: Literal["follow", "refuse"] = "follow"
    """``follow`` symbolic links that leave the corpus's folder, as those of DVC, git-annex and splits on another disk
    do; ``refuse`` them in a corpus from an untrusted source.
    """
    redistribution: str = ""
    """Terms under which data made from the corpus may be passed on, as quoted on the dataset card (a licence); empty:
    it must not be passed on. Set it for your own corpus.
    """
    made_by: str = ""
    """Module ``FOLDER.NAME`` below ``merc.corpora`` (``demo.make``) whose ``make(raw, config)`` makes the corpus if it
    is missing, with the ``Config`` of ``FOLDER/config.py``, filled with the block ``FOLDER``; empty for a real corpus.
    """

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding_of_text(cls, encoding: str) -> str:
        try:
            bytes(4).decode(encoding)
        except (LookupError, ValueError) as error:
            raise ValueError(
                "expected the name of an encoding as in Python: utf-8, utf-16, gbk, big5, shift_jis, cp1251, cp1252, …"
            ) from error
        return encoding


@dataclass
class Reading:
    """The result of a reader.

    Attributes:
        dialogues: train, dev, test, each in the corpus's order.
        failures: what was repaired or is missing, by utterance.
        deviations: one line per expected count that is not met, and per setting that the data contradict.
        checks: JSON-able facts on how far the data confirm the settings; they are stored in the manifest's record.
        labels: the label set, if the corpus brings its own; None: the one named by the settings.
        source: additional material that the corpus was read with, and where to get it; appended to
            :attr:`CorpusReader.SOURCE`.
        missing: modality → utterance id → path of the missing file, among the media that will be decoded;
            ``--max-failed`` limits their number.
    """

    dialogues: list[Dialogue]
    failures: list[Failure] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)
    labels: LabelSet | None = None
    source: str = ""
    missing: dict[str, dict[str, str]] = field(default_factory=dict)


class CorpusReader(ABC):
    """Reads a corpus exactly as distributed.

    Args:
        config: an instance of the reader's ``Config``.
        dataset: the name of the settings in ``corpora``; by default that of the reader.
        others: names of the other datasets.
    """

    Config: ClassVar[type[CorpusConfig]] = CorpusConfig
    LABEL_SETS: ClassVar[tuple[str, ...]]
    """Label sets that fit."""
    SOURCE: ClassVar[str]
    """Paper, licence, and where to request the corpus; printed when it is missing."""
    EXPECTED_TREE: ClassVar[str]
    """The folders after unpacking; printed if something is missing."""

    def __init__(self, config: CorpusConfig, dataset: str = "", others: Collection[str] = ()) -> None:
        self.config = config
        self._others = frozenset(others)
        self.key = f"corpora.{dataset or config.reader}"

    @property
    def encoding(self) -> Encoding:
        """The encoding of the corpus's text files."""
        return Encoding(self.config.encoding, f"{self.key}.encoding")

    def others_in(self, root: Path, raw: Path) -> frozenset[str]:
        """Folders that are not searched for the corpus: those of other datasets, if all of them share ``root``."""
        return self._others if root == raw else frozenset()

    @abstractmethod
    def read(self, root: Path, raw: Path, *, media: frozenset[str], splits: tuple[str, ...]) -> Reading:
        """Reads the annotations, and checks which media files exist.

        Args:
            root: the corpus's own folder (``raw/<dataset>``, or ``raw`` itself).
            raw: the folder that paths in the result are relative to.
            media: what will be decoded: a subset of ``audio``, ``visual``; if empty, the annotations suffice.
            splits: the requested splits, a subset of train, dev, test.

        Raises:
            RawDataMissing: if annotations are missing or have another format, or not a single file of the needed media
                exists; the message contains the expected tree, what was found of it, and where to request the corpus.
                If some media files exist, the others are listed in :attr:`Reading.missing`.
        """
