"""DialogueBatch: the input of every model and loss. Shape legend: B dialogues, T utterances (padded), D_m features of
modality m.
"""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import torch
from torch import Tensor

UNLABELLED = -1


@dataclass(frozen=True, kw_only=True)
class DialogueBatch:
    """Padded dialogues, batch first, bool masks.

    Attributes:
        features: modality → float32 [B, T, D_m]; zeros where absent or padding.
        modality_mask: modality → bool [B, T]; True where that modality of that utterance is present.
        utterance_mask: bool [B, T]; True = a real utterance (the papers' umask).
        speakers: long [B, T]; index of the speaker in the dialogue, by first appearance; 0 at padding.
        labels: long [B, T]; -1 = unlabelled or padding.
        lengths: long [B], at least 1.
        dialogue_index: long [B]; the dialogue's place in its split, from 0. Neighbour tables are addressed with it.
        utterance_index: long [B, T]; the utterance's place in its split, -1 at padding. Banks of representations are
            addressed with it.
        dialogue_ids: B ids.
        scenario_ids: B scenarios (IEMOCAP), or None.
        neighbours: long [B, K]; places in the split of each dialogue's nearest dialogues by trajectory, best first, -1
            if there are fewer; None if the recipe names no similarity.
        neighbour_similarity: float32 [B, K], of ``neighbours``; 0 if there are fewer.
        sequences: modality → float32 [N, L_m, D_m], sequences below the vectors of the N real utterances, in order;
            zeros where absent or padding. Empty, like the masks, if the model reads no sequences.
        sequence_mask: modality → bool [N, L_m]; True = a real entry. An utterance without the modality has none.
    """

    features: dict[str, Tensor]
    modality_mask: dict[str, Tensor]
    utterance_mask: Tensor
    speakers: Tensor
    labels: Tensor
    lengths: Tensor
    dialogue_index: Tensor
    utterance_index: Tensor
    dialogue_ids: tuple[str, ...]
    scenario_ids: tuple[str, ...] | None = None
    neighbours: Tensor | None = None
    neighbour_similarity: Tensor | None = None
    sequences: dict[str, Tensor] = field(default_factory=dict)
    sequence_mask: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.utterance_mask.shape)
        flat = {
            "speakers": self.speakers,
            "labels": self.labels,
            "utterance_index": self.utterance_index,
            **self.modality_mask,
        }
        for name, tensor in flat.items():
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, the utterance mask {shape}")
        for name, tensor in self.features.items():
            if tensor.ndim != 3 or tuple(tensor.shape[:2]) != shape or name not in self.modality_mask:
                raise ValueError(
                    f"features of {name} are {tuple(tensor.shape)}, the utterance mask {shape}, there are masks for"
                    f" {sorted(self.modality_mask)}"
                )
        for name, tensor in self.sequences.items():
            mask = self.sequence_mask.get(name)
            if mask is None or tensor.ndim != 3 or mask.shape != tensor.shape[:2]:
                raise ValueError(
                    f"sequences of {name} are {tuple(tensor.shape)}, their mask is"
                    f" {None if mask is None else tuple(mask.shape)}"
                )
        if (
            self.lengths.shape != shape[:1]
            or self.dialogue_index.shape != shape[:1]
            or len(self.dialogue_ids) != shape[0]
        ):
            raise ValueError(
                f"lengths are {tuple(self.lengths.shape)}, dialogue indices {tuple(self.dialogue_index.shape)} "
                f"and there are {len(self.dialogue_ids)} ids; the utterance mask is {shape}"
            )

    @property
    def labelled(self) -> Tensor:
        """bool [B, T]: real utterances with a label; only these enter losses and metrics."""
        return self.utterance_mask & (self.labels != UNLABELLED)

    # Values with a data-dependent size, or needed on the host. Computed once, on the host, by
    # :func:`merc.training.data.collate.collate`, so that no step waits for a GPU; a batch made in another way, or by
    # ``dataclasses.replace``, computes them on request.

    @cached_property
    def real_positions(self) -> Tensor:
        """long [N]: positions of the real utterances in a flattened [B · T] tensor, in order; for gathering instead of
        a bool mask.
        """
        return self.utterance_mask.flatten().nonzero().squeeze(1)

    @cached_property
    def labelled_positions(self) -> Tensor:
        """long [M]: the same for the labelled utterances."""
        return self.labelled.flatten().nonzero().squeeze(1)

    @cached_property
    def lengths_cpu(self) -> Tensor:
        """``lengths`` on the CPU, where packing needs them."""
        return self.lengths.cpu()

    @cached_property
    def speakers_cpu(self) -> Tensor:
        """``speakers`` on the CPU, for models in which each speaker's utterances are a sequence."""
        return self.speakers.cpu()

    @cached_property
    def dialogue_index_cpu(self) -> Tensor:
        """``dialogue_index`` on the CPU, for sampling there."""
        return self.dialogue_index.cpu()

    @cached_property
    def utterance_index_cpu(self) -> Tensor:
        """``utterance_index`` on the CPU, for sampling there."""
        return self.utterance_index.cpu()

    def knowing(self, **facts: Tensor) -> "DialogueBatch":
        """This batch, given the values of cached properties: ``real_positions``, ``labelled_positions`` and those on
        the CPU.
        """
        vars(self).update(facts)
        return self

    def to(self, device: torch.device | str) -> "DialogueBatch":
        """The batch with all its tensors on ``device``; values on the host are kept."""
        moved: dict[str, object] = {}
        for attribute in fields(self):
            value = getattr(self, attribute.name)
            if isinstance(value, Tensor):
                moved[attribute.name] = value.to(device, non_blocking=True)
            elif isinstance(value, dict):
                moved[attribute.name] = {key: tensor.to(device, non_blocking=True) for key, tensor in value.items()}
        positions = {
            name: getattr(self, name).to(device, non_blocking=True) for name in ("real_positions", "labelled_positions")
        }
        on_host = {
            name: getattr(self, name)
            for name in ("lengths_cpu", "speakers_cpu", "dialogue_index_cpu", "utterance_index_cpu")
        }
        return replace(self, **moved).knowing(**positions, **on_host)  # type: ignore[arg-type]
