"""Selects utterances of other dialogues that copy the emotions before an utterance: the negatives of DCLF's
context-aware loss.

Paper: Xie et al., Dual Contrastive Learning Framework for emotion recognition in conversations, COLING 2025:
"consecutive utterances from different dialogues, aligned as closely as possible to the emotions of the window,
gradually relaxing". Made precise here:

    dialogue   u0  u1  u2  u3  [u4]            the window of u4, W = 3: u1 u2 u3 with emotions  joy  joy  fear
    another    v0  v1  v2  v3   v4  v5         windows of 3 consecutive utterances at a Hamming distance from it
                   joy joy fear                0: taken
                       joy fear sad            2: taken only if no other is nearer

The window of an utterance at position t (from 0) has w = min(W, t) utterances. Of all windows of w consecutive
utterances in other dialogues of the same split, one is drawn uniformly from those at the smallest distance. Unlabelled
utterances have a separate symbol.

Of the 6,221 full windows of 4 in MELD's train split 5,796 (93.2 %) have an exact copy elsewhere, 424 one at distance 1,
and one at distance 2.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from merc.training.data.dataset import DialogueSplit

Integers = NDArray[np.int64]

NOBODY = -1
_FAR = np.iinfo(np.int16).max
_COMPARED_AT_ONCE = 1 << 22  # pairs of windows; 8 MB of distances


class EmotionWindowSampler:
    """For every utterance of a split, draws a window of another dialogue that copies the emotions of its own.

    All candidates are found at construction, and stored by emotion pattern rather than by utterance: windows are sorted
    by pattern and then by group, so that the windows that an utterance must not use form one block that a draw skips.

    Args:
        split: source of utterances and windows; nothing is ever drawn from another split.
        window: W, the longest window, at least 1.
        exclude_same_scenario: draw nothing from dialogues of the same scenario (IEMOCAP's pairs of actors play the same
            scripts, whose sentences would be false negatives). Without scenarios, and for an empty one, only the same
            dialogue is excluded.
        match_speakers: draw only windows with the same pattern of turns; utterances without such a window get none.

    Attributes:
        distances: int64 [N]; Hamming distance of the windows drawn for an utterance, -1 if there is nothing to draw.

    Raises:
        ValueError: if ``window`` is below 1.
    """

    def __init__(self, split: DialogueSplit, window: int, *, exclude_same_scenario: bool, match_speakers: bool) -> None:
        if window < 1:
            raise ValueError(f"a window has at least 1 utterance, not {window}")
        self.window = window
        emotions = split.labels_cpu[:-1].numpy() + 1  # 0: unlabelled
        lengths = split.lengths.numpy()
        owners = np.repeat(np.arange(len(lengths)), lengths)
        positions = np.arange(split.utterances) - split.starts.numpy()[owners]
        groups = _groups(split, exclude_same_scenario)[owners]
        gaps = _speaker_gaps(owners, split.speakers[:-1].cpu().numpy()) if match_speakers else np.zeros_like(owners)
        self._widths = np.minimum(positions, window)
        self.distances = np.full(split.utterances, NOBODY)
        # For the window that ends at each row: numbers of its emotion pattern and its speaker pattern.
        pattern, turns = np.zeros_like(owners), np.zeros_like(owners)
        all_ends: list[Integers] = []
        all_choices: list[Integers] = []
        for width in range(1, window + 1):
            ends = np.flatnonzero(positions >= width - 1)
            # A window is the window without its last utterance, plus that utterance. Renumbering keeps the numbers
            # below N.
            shorter = ends if width == 1 else ends - 1
            pattern[ends] = _numbered(pattern[shorter] * (emotions.max(initial=0) + 1) + emotions[ends])
            turns[ends] = _numbered(turns[shorter] * width + np.where(gaps[ends] < width, gaps[ends], 0))
            candidates = _Candidates(
                width, ends, _numbered(pattern[ends] * len(owners) + turns[ends]), emotions, turns, groups
            )
            anchors = np.flatnonzero(self._widths == width)
            choices, self.distances[anchors] = candidates.nearest(anchors)
            choices[1] += sum(map(len, all_ends))  # places in the windows of all widths
            all_choices.append(choices)
            all_ends.append(candidates.ends)
        self._ends = np.concatenate(all_ends)
        entries = np.concatenate(all_choices, axis=1)
        # All candidates in one row, utterance after utterance: a uniform draw is a place in the utterance's part of it.
        anchor, self._first, self._own_start, self._own_count, count = entries[:, np.argsort(entries[0], kind="stable")]
        self._before = np.cumsum(count) - count
        self._totals = np.zeros_like(owners)
        np.add.at(self._totals, anchor, count)

    def draw(self, generator: torch.Generator) -> Tensor:
        """One window for every utterance of the split.

        Args:
            generator: on the CPU; equal states give equal windows.

        Returns:
            long [N, W] on the CPU, rows of the split: column p - 1 copies the emotion of the utterance p before; -1
            beyond the utterance's own window and if there is nothing to draw.
        """
        served = np.flatnonzero(self._totals)
        share = torch.rand(len(served), generator=generator, dtype=torch.float64).numpy()
        place = (np.cumsum(self._totals) - self._totals)[served] + (share * self._totals[served]).astype(np.int64)
        entry = np.searchsorted(self._before, place, side="right") - 1
        offset = place - self._before[entry]
        offset += np.where(offset >= self._own_start[entry], self._own_count[entry], 0)
        steps = np.arange(self.window)
        rows = np.full((len(self._totals), self.window), NOBODY)
        rows[served] = self._ends[self._first[entry] + offset][:, None] - steps
        rows[steps >= self._widths[:, None]] = NOBODY
        return torch.from_numpy(rows)


class _Candidates:
    """The windows of one width, sorted by pattern and then by group. Legend: N utterances, V windows, U patterns, A
    anchors, E choices.

    Args:
        width: utterances in a window.
        ends_V: row of each window's last utterance.
        patterns_V: number of each window's pattern (emotions and speakers), from 0 without gaps.
        emotions_N: emotion of each utterance.
        turns_N: number of the pattern of speakers of the window that ends there.
        groups_N: the group of each utterance's dialogue.
    """

    def __init__(
        self,
        width: int,
        ends_V: Integers,
        patterns_V: Integers,
        emotions_N: Integers,
        turns_N: Integers,
        groups_N: Integers,
    ) -> None:
        order = np.lexsort((groups_N[ends_V], patterns_V))
        self.width, self.emotions_N, self.turns_N, self.groups_N = width, emotions_N, turns_N, groups_N
        self.ends = ends_V[order]
        groups_V = groups_N[self.ends]
        self.group_count = int(groups_N.max(initial=0)) + 1
        self.block_keys, self.block_starts, self.block_counts = np.unique(
            patterns_V[order] * self.group_count + groups_V, return_index=True, return_counts=True
        )
        _, self.starts_U, self.counts_U = np.unique(patterns_V[order], return_index=True, return_counts=True)
        first_U, last_U = groups_V[self.starts_U], groups_V[self.starts_U + self.counts_U - 1]
        self.only_group_U = np.where(first_U == last_U, first_U, NOBODY)

    def nearest(self, anchors_A: Integers) -> tuple[Integers, Integers]:
        """The patterns at the smallest Hamming distance from an anchor's own that have a window outside its group.

        Args:
            anchors_A: rows of utterances with ``width`` or more before them.

        Returns:
            [5, E], a column for each anchor and pattern, anchor after anchor: the anchor; the pattern's first place in
            ``ends``; where in the pattern the anchor's own group starts and how many windows it has; how many are left.
            And [A] the distances, -1 without a pattern.
        """
        pattern_UW, pattern_turns_U = self._emotions(self.ends[self.starts_U]), self.turns_N[self.ends[self.starts_U]]
        pieces, distances = [np.empty((5, 0), dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        step = max(1, _COMPARED_AT_ONCE // max(1, len(pattern_UW)))
        for anchors in np.split(anchors_A, range(step, len(anchors_A), step)):
            wanted_AW, turns, groups = self._emotions(anchors - 1), self.turns_N[anchors - 1], self.groups_N[anchors]
            unlike_AU = np.zeros((len(anchors), len(pattern_UW)), dtype=np.int16)
            for column in range(self.width):
                unlike_AU += wanted_AW[:, column, None] != pattern_UW[:, column]
            unlike_AU[(self.only_group_U == groups[:, None]) | (pattern_turns_U != turns[:, None])] = _FAR
            least = unlike_AU.min(axis=1, initial=_FAR)
            anchor, pattern = np.nonzero((unlike_AU == least[:, None]) & (least < _FAR)[:, None])
            own_start, own_count = self._own_block(pattern, groups[anchor])
            pieces.append(
                np.stack(
                    [anchors[anchor], self.starts_U[pattern], own_start, own_count, self.counts_U[pattern] - own_count]
                )
            )
            distances.append(np.where(least < _FAR, least, NOBODY))
        return np.concatenate(pieces, axis=1), np.concatenate(distances)

    def _emotions(self, ends: Integers) -> Integers:
        """[…, width] emotions of the windows that end there, the last utterance first."""
        emotions: Integers = self.emotions_N[ends[:, None] - np.arange(self.width)]
        return emotions

    def _own_block(self, pattern: Integers, group: Integers) -> tuple[Integers, Integers]:
        """For each pattern, the start and number of a group's windows; 0 and 0 if it has none."""
        key = pattern * self.group_count + group
        block = np.minimum(np.searchsorted(self.block_keys, key), len(self.block_keys) - 1)
        there = self.block_keys[block] == key
        return np.where(there, self.block_starts[block] - self.starts_U[pattern], 0), np.where(
            there, self.block_counts[block], 0
        )


def _numbered(keys: Integers) -> Integers:
    """Equal keys get equal numbers, from 0 without gaps."""
    numbers: Integers = np.unique(keys, return_inverse=True)[1]
    return numbers


def _groups(split: DialogueSplit, by_scenario: bool) -> Integers:
    """[K] number of each dialogue's group: that of its scenario, or a separate one."""
    names = [f"dialogue {index}" for index in range(len(split.dialogue_ids))]
    if by_scenario and split.scenario_ids is not None:
        names = [
            f"scenario {scenario}" if scenario else own for scenario, own in zip(split.scenario_ids, names, strict=True)
        ]
    numbers: Integers = np.unique(names, return_inverse=True)[1]
    return numbers


def _speaker_gaps(owners: Integers, speakers: Integers) -> Integers:
    """[N] distance to the same speaker's previous utterance in the same dialogue; 0 for the first one.

    Two windows have the same distances, as far as these are inside, if and only if they are equal up to renaming of
    speakers.
    """
    order = np.lexsort((speakers, owners))
    same = (np.diff(owners[order]) == 0) & (np.diff(speakers[order]) == 0)
    gaps = np.zeros_like(owners)
    gaps[order[1:]] = np.where(same, np.diff(order), 0)
    return gaps
