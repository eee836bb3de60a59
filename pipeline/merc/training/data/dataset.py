"""Shards → a split as flat tensors: one row per utterance, dialogue after dialogue, so that a batch is one gather.

shards                            DialogueSplit (N utterances, padding row at the end)
┌ dialogue 0: u0 u1 u2 ┐          features[m]  [N + 1, D_m]   u0 u1 u2 u0 u1 … 0
└ dialogue 1: u0 u1    ┘   ──►    labels       [N + 1]         3  0 -1  0  6 … -1
                                  starts       [dialogues]     0        3
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from merc.errors import BadSettings, BadTable, nearest
from merc.shards.format import reader
from merc.training.data.batch import UNLABELLED
from merc.training.data.sequences import Sequences

_COLUMNS = ("dialogue_id", "scenario", "n_utterances", "utterance_ids", "speaker_index", "emotion_index", "speakers")

# Utterances at the average of all speakers that are counted with those of each speaker: the moments of a speaker of
# whom little is heard are near 0 and 1.
PRIOR_UTTERANCES = 10


@dataclass(frozen=True, kw_only=True)
class DialogueSplit:
    """The dialogues of one split. Legend: N utterances, K dialogues; row N of every [N + 1] tensor is padding.

    Attributes:
        name: ``train``, ``dev`` or ``test``.
        features: modality → float32 [N + 1, D_m]; zeros where absent.
        present: modality → bool [N + 1].
        labels: long [N + 1]; class index, -1 = unlabelled.
        speakers: long [N + 1]; index in the dialogue by first appearance.
        identities: long [N + 1]; index in the split by first appearance, the same for a speaker in all its dialogues;
            0 for padding.
        starts: long [K], always on the CPU, where batches are assembled; row of the first utterance of each dialogue.
        lengths: long [K], always on the CPU; at least 1.
        dialogue_ids: K ids.
        scenario_ids: K scenarios, or None if the corpus has none.
        utterance_ids: N ids.
        neighbours: long [K, n], on the CPU: places of each dialogue's nearest dialogues by trajectory, best first, -1
            if there are fewer; or None.
        neighbour_similarity: float32 [K, n], on the CPU; 0 if there are fewer.
        sequences: modality → the sequences below its vectors, always on the CPU, for models that read them; otherwise
            empty.
    """

    name: str
    features: dict[str, Tensor]
    present: dict[str, Tensor]
    labels: Tensor
    speakers: Tensor
    identities: Tensor
    starts: Tensor
    lengths: Tensor
    dialogue_ids: tuple[str, ...]
    scenario_ids: tuple[str, ...] | None
    utterance_ids: tuple[str, ...]
    neighbours: Tensor | None = None
    neighbour_similarity: Tensor | None = None
    sequences: dict[str, Sequences] = field(default_factory=dict)

    @property
    def utterances(self) -> int:
        return len(self.utterance_ids)

    @property
    def labelled(self) -> Tensor:
        """bool [N]: utterances with a label; only these count."""
        return self.labels[:-1] != UNLABELLED

    @property
    def dims(self) -> dict[str, int]:
        """modality → length D_m of its vectors."""
        return {name: values_ND.shape[1] for name, values_ND in self.features.items()}

    def class_counts(self, classes: int) -> Tensor:
        """[C] float32 on the CPU; number of labelled utterances per class."""
        labels = self.labels_cpu[:-1]
        return torch.bincount(labels[labels != UNLABELLED], minlength=classes).float()

    @cached_property
    def labels_cpu(self) -> Tensor:
        """``labels`` on the CPU."""
        return self.labels.cpu()

    @cached_property
    def speakers_cpu(self) -> Tensor:
        """``speakers`` on the CPU."""
        return self.speakers.cpu()

    def to(self, device: torch.device | str) -> "DialogueSplit":
        """The split with the tensors that batches are gathered from on ``device``; all of MELD with three modalities
        takes about 170 MB.
        """
        moved = replace(
            self,
            features={name: tensor.to(device) for name, tensor in self.features.items()},
            present={name: tensor.to(device) for name, tensor in self.present.items()},
            labels=self.labels.to(device),
            speakers=self.speakers.to(device),
            identities=self.identities.to(device),
        )
        vars(moved).update(labels_cpu=self.labels_cpu, speakers_cpu=self.speakers_cpu)
        return moved


@dataclass(frozen=True, kw_only=True)
class Standardisation:
    """Scales every feature to mean 0 and standard deviation 1 over the train utterances that have it, and partly to
    the same over the utterances of each speaker.

    Attributes:
        mean: modality → float32 [D_m].
        std: modality → float32 [D_m]; 1 where a feature is constant.
        limit: values beyond this many standard deviations are clipped; those of rare features are far out (one that is
            non-zero in one of 10,000 utterances is at 100).
        speaker_shares: modality → share of the vector normalised by its speaker
            (:attr:`merc.training.recipes.recipe.Recipe.speaker_normalisation`).
    """

    mean: dict[str, Tensor]
    std: dict[str, Tensor]
    limit: float
    speaker_shares: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_stats(
        cls,
        stats: Mapping[str, Any],
        modalities: Sequence[str],
        limit: float,
        speaker_shares: Mapping[str, float] = MappingProxyType({}),
    ) -> "Standardisation":
        """From the shards' ``meta/stats.json``: modality → ``mean``, ``std`` as lists."""
        mean = {name: torch.tensor(stats[name]["mean"], dtype=torch.float32) for name in modalities}
        std = {name: torch.tensor(stats[name]["std"], dtype=torch.float32) for name in modalities}
        # A deviation below a millionth of the mean is float32 rounding, not a signal.
        std = {
            name: torch.where(value > 1e-6 * mean[name].abs().clamp(min=1e-6), value, torch.ones_like(value))
            for name, value in std.items()
        }
        shares = {name: share for name, share in speaker_shares.items() if share and name in modalities}
        return cls(mean=mean, std=std, limit=limit, speaker_shares=shares)

    def apply_(self, split: DialogueSplit) -> DialogueSplit:
        """Standardises the features of a split on the CPU, in place: a corpus may be too large for a copy. Absent
        vectors stay zero, which is now the mean.
        """
        for name, values_ND in split.features.items():
            values_ND.sub_(self.mean[name]).div_(self.std[name]).clamp_(-self.limit, self.limit).masked_fill_(
                ~split.present[name][:, None], 0.0
            )
            if share := self.speaker_shares.get(name):
                values_ND.lerp_(normalised_by_speaker(values_ND, split.present[name], split.identities), share)
        return split


def normalised_by_speaker(values_ND: Tensor, present_N: Tensor, identities_N: Tensor) -> Tensor:
    """Vectors less their speaker's mean, over their speaker's standard deviation, with :data:`PRIOR_UTTERANCES` of
    mean 0 and deviation 1 counted for each speaker; zeros where absent. No label is used, but all utterances of the
    speaker are, also later ones.

    Args:
        values_ND: [N, D], standardised.
        present_N: bool [N].
        identities_N: long [N]; the speaker, from 0.
    """
    rows_P = present_N.nonzero().squeeze(1)
    values_PD, speakers_P = values_ND[rows_P].double(), identities_N[rows_P]
    speakers = int(identities_N.max()) + 1
    counts_S1 = PRIOR_UTTERANCES + torch.bincount(speakers_P, minlength=speakers).double()[:, None]
    sums_2SD = values_PD.new_zeros(2, speakers, values_ND.shape[1])
    sums_2SD[0].index_add_(0, speakers_P, values_PD)
    sums_2SD[1].index_add_(0, speakers_P, values_PD.square())
    mean_SD = sums_2SD[0] / counts_S1
    std_SD = ((PRIOR_UTTERANCES + sums_2SD[1]) / counts_S1 - mean_SD.square()).sqrt()  # above 0, by the prior
    normalised_ND = torch.zeros_like(values_ND)
    normalised_ND[rows_P] = ((values_PD - mean_SD[speakers_P]) / std_SD[speakers_P]).to(values_ND.dtype)
    return normalised_ND


def check_modalities(wanted: Sequence[str], info: Mapping[str, Any], root: Path, who: str = "the recipe") -> None:
    """Raises ``BadSettings`` if the shards lack a modality that a recipe (or ``who``) requests; the message names the
    existing ones.
    """
    there = list(info["dims"])
    missing = [name for name in wanted if name not in there]
    if missing:
        raise BadSettings(
            f"{who} needs {', '.join(missing)}, which the shards at {root} do not have; {nearest(missing[0], there)}"
        )


def read_split(root: Path, split: str, modalities: Sequence[str], classes: int) -> DialogueSplit:
    """Reads one split of the shards.

    Args:
        root: the shards' folder.
        split: ``train``, ``dev`` or ``test``.
        modalities: which vectors to read.
        classes: number of emotion classes; labels are in -1 … classes - 1.

    Raises:
        BadTable: if lists of one dialogue differ in length, a label is out of range or a vector is not finite; the
            message names the dialogue.
    """
    columns = [*_COLUMNS, *(f"{name}_present" for name in modalities)]
    table = reader.read_split(root, split, columns=columns)
    where = f"{root}, split {split}"
    lengths = _numpy(table, "n_utterances").astype(np.int64)
    ids = table["dialogue_id"].to_pylist()
    if not len(lengths) or lengths.min() < 1:
        raise BadTable(f"{where}: no dialogue, or a dialogue without utterances")
    for column in columns[3:]:
        _check_lengths(table, column, lengths, ids, where)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    labels = _flat(table, "emotion_index").astype(np.int64)
    strange = np.flatnonzero((labels < UNLABELLED) | (labels >= classes))
    if len(strange):
        raise BadTable(
            f"{where}: emotion_index {labels[strange[0]]} in dialogue {ids[owner[strange[0]]]}; valid: -1 to"
            f" {classes - 1}"
        )
    features, present = {}, {}
    for name in modalities:
        present[name] = _padded(_flat(table, f"{name}_present"), False)
        features[name] = _vectors(root, split, name, len(labels))
        odd = np.flatnonzero(~np.isfinite(features[name].numpy()).all(axis=1))
        if len(odd):
            raise BadTable(f"{where}: a {name} vector of dialogue {ids[owner[odd[0]]]} is not finite")
    scenarios = tuple(table["scenario"].to_pylist())
    return DialogueSplit(
        name=split,
        features=features,
        present=present,
        labels=_padded(labels, UNLABELLED),
        speakers=_padded(_flat(table, "speaker_index").astype(np.int64), 0),
        identities=_padded(_numbered(_list_array(table, "speakers").flatten()), 0),
        starts=torch.from_numpy(np.cumsum(lengths) - lengths),
        lengths=torch.from_numpy(lengths),
        dialogue_ids=tuple(ids),
        scenario_ids=scenarios if any(scenarios) else None,
        utterance_ids=tuple(_list_array(table, "utterance_ids").flatten().to_pylist()),
    )


def concatenated(splits: Sequence[DialogueSplit]) -> DialogueSplit:
    """Several splits as one, dialogue after dialogue, under the first one's name."""
    first = splits[0]
    if len(splits) == 1:
        return first

    def joined(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([*(part[:-1] for part in parts), parts[0][-1:]])  # the padding row only once

    # A speaker of two splits counts as two: moments are those of a split.
    speakers = np.cumsum([0, *(int(split.identities.max()) + 1 for split in splits)]).tolist()
    scenarios = [split.scenario_ids or ("",) * len(split.dialogue_ids) for split in splits]
    before = np.cumsum([0, *(split.utterances for split in splits)]).tolist()
    return DialogueSplit(
        name=first.name,
        features={name: joined([split.features[name] for split in splits]) for name in first.features},
        present={name: joined([split.present[name] for split in splits]) for name in first.present},
        labels=joined([split.labels for split in splits]),
        speakers=joined([split.speakers for split in splits]),
        identities=joined([split.identities + before_it for split, before_it in zip(splits, speakers, strict=False)]),
        starts=torch.cat([split.starts + rows for split, rows in zip(splits, before, strict=False)]),
        lengths=torch.cat([split.lengths for split in splits]),
        dialogue_ids=tuple(one for split in splits for one in split.dialogue_ids),
        scenario_ids=(
            tuple(one for some in scenarios for one in some) if any(split.scenario_ids for split in splits) else None
        ),
        utterance_ids=tuple(one for split in splits for one in split.utterance_ids),
    )


def _list_array(table: pa.Table, column: str) -> pa.ListArray:
    return table[column].combine_chunks()


def _numpy(table: pa.Table, column: str) -> NDArray[Any]:
    values: NDArray[Any] = table[column].to_numpy()
    return values


def _flat(table: pa.Table, column: str) -> NDArray[Any]:
    """A list column's elements, dialogue after dialogue."""
    values: NDArray[Any] = _list_array(table, column).flatten().to_numpy(zero_copy_only=False)
    return values


def _numbered(names: pa.Array) -> NDArray[np.int64]:
    """The position of each name among the different ones, by first appearance."""
    indices: NDArray[np.int64] = names.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return indices


def _check_lengths(table: pa.Table, column: str, lengths: NDArray[np.int64], ids: list[str], where: str) -> None:
    found = _list_array(table, column).value_lengths().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(found != lengths)
    if len(wrong):
        raise BadTable(
            f"{where}: dialogue {ids[wrong[0]]} has {lengths[wrong[0]]} utterances and {found[wrong[0]]} entries in"
            f" {column}"
        )


def _padded(values: NDArray[Any], padding: Any) -> Tensor:
    return torch.from_numpy(np.append(values, np.asarray(padding, dtype=values.dtype)))


def _vectors(root: Path, split: str, column: str, utterances: int) -> Tensor:
    """[N + 1, D] float32 with a row of zeros at the end; read one row group at a time."""
    padded_ND, row = np.zeros((0, 0), np.float32), 0
    for rows in reader.row_groups(root, split, ["n_utterances", column]):
        values_ND, _ = reader.vectors_of(rows[column])
        if not row:
            padded_ND = np.zeros((utterances + 1, values_ND.shape[1]), dtype=np.float32)
        padded_ND[row : row + len(values_ND)] = values_ND
        row += len(values_ND)
    return torch.from_numpy(padded_ND)
