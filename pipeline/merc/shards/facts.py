"""What the record of shards says about their columns, and the rows that conform to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from merc.corpora.engine.labels import LABEL_SETS, LabelSet
from merc.errors import BadTable
from merc.layout import MODALITIES
from merc.shards.format.meta import FACE_SETTINGS
from merc.shards.format.row_groups import files_of, opened, with_equal_lists
from merc.shards.format.schema import schema


@dataclass(frozen=True)
class Facts:
    """The properties of the dialogue tables according to ``meta/info.json``.

    Attributes:
        corpus: its name; for merged corpora, all names joined by plus signs.
        labels: the label set.
        dims: modality → length of its vectors.
        encoders: modality → provenance.
        transcripts: whether there is a column ``texts``.
        quality: what made the audit columns; None if there are none.
        faces: how faces were found and chosen, without counts; None if unknown.
    """

    corpus: str
    labels: LabelSet
    dims: dict[str, int]
    encoders: dict[str, Any]
    transcripts: bool
    quality: Mapping[str, Any] | None = None
    faces: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "Facts":
        """Takes them from :func:`merc.shards.format.reader.info`."""
        classes = tuple(info["classes"])
        known = LABEL_SETS.get(info["label_set"])
        labels = known if known is not None and known.classes == classes else LabelSet(info["label_set"], classes)
        in_order = [modality for modality in MODALITIES if modality in info["dims"]]  # JSON sorts keys
        dims, encoders = ({modality: info[key][modality] for modality in in_order} for key in ("dims", "encoders"))
        return cls(
            info["corpus"],
            labels,
            dims,
            encoders,
            bool(info.get("transcripts", True)),
            info.get("quality"),
            _faces(info),
        )

    @property
    def quality_columns(self) -> tuple[str, ...]:
        """The columns of an audit."""
        return () if self.quality is None else tuple(self.quality["columns"])

    @property
    def schema(self) -> pa.Schema:
        return schema(
            self.dims,
            {"corpus": self.corpus, "label_set": self.labels.name, "encoders": self.encoders},
            self.labels.classes,
            transcripts=self.transcripts,
            quality=self.quality_columns,
        )


def _faces(info: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = {key: value for key, value in info.get("faces", {}).items() if key in FACE_SETTINGS}
    return found or None


def dialogue_rows(root: Path, split: str, facts: Facts, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The dialogues of a split in order, one row group at a time.

    Args:
        root: folder of the shards.
        split: ``train``, ``dev`` or ``test``.
        facts: properties of the shards.
        columns: only these; None for all.

    Raises:
        BadTable: if a file cannot be read, has other columns than the record of the shards says, or contains a dialogue
            whose lists differ in length.
    """
    for path in files_of(root, "dialogues", split):
        with opened(path) as file:
            if not file.schema_arrow.equals(facts.schema, check_metadata=False):
                raise BadTable(
                    f"{path}: columns other than those in meta/info.json; `merc-shards validate {root}` lists them"
                )
            for index in range(file.num_row_groups):
                yield with_equal_lists(file.read_row_group(index, columns=columns), path)
