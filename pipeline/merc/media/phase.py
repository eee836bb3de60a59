"""Channels that cancel each other: if one is the other inverted (a miswired cable or plug), their mix is silence
although each channel contains speech.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Blocks whose mix has less than this share of its loudest channel are kept channel by channel until the whole span has
# been read: usually almost none.
_KEPT_SHARE = 0.1


class Phases:
    """Whether the channels of one span cancel each other, block by block and overall.

    Args:
        min_share: share of the energy that the loudest channel by itself contributes to the mix; the mix has at least
            this much if channels do not cancel.
    """

    def __init__(self, min_share: float) -> None:
        self._min_share = min_share
        self._mix = 0.0
        self._channels: dict[str, float] = {}
        self._apart: dict[int, dict[str, NDArray[np.float32]]] = {}

    def add(
        self,
        block: int,
        mono_S: NDArray[np.float32],
        names: Sequence[str],
        weights_C: NDArray[np.float32],
        rows_CS: NDArray[np.float32],
    ) -> None:
        """Takes a block.

        Args:
            block: its number.
            mono_S: the mix.
            names: of the channels in it.
            weights_C: in the mix.
            rows_CS: (channels, samples), not yet weighted.
        """
        mix = _energy(mono_S)
        brought = [float(weight) ** 2 * _energy(row_S) for weight, row_S in zip(weights_C, rows_CS, strict=True)]
        self._mix += mix
        for name, energy in zip(names, brought, strict=True):
            self._channels[name] = self._channels.get(name, 0.0) + energy
        if mix < _KEPT_SHARE * max(brought):
            self._apart[block] = dict(zip(names, rows_CS, strict=True))

    @property
    def alone(self) -> str:
        """The channel that replaces a lost mix, the one that contributes most; empty if the mix is not lost."""
        loudest = max(self._channels, key=lambda name: self._channels[name], default="")
        return loudest if loudest and self._mix < self._min_share * self._channels[loudest] else ""

    @property
    def words(self) -> str:
        """Share of the loudest channel that is left in the mix."""
        loudest = max(self._channels.values(), default=0.0)
        return (
            f"the mix has {self._mix / loudest:.3%} of the energy that one channel brings; {self.alone} alone is used"
            if loudest
            else ""
        )

    def heard(self, block: int, mono_S: NDArray[np.float32]) -> NDArray[np.float32]:
        """A block as it must be used; a block that is not out of phase itself stays the mix in any case."""
        return self._apart.get(block, {}).get(self.alone, mono_S)


def _energy(values_S: NDArray[np.float32]) -> float:
    return float(np.dot(values_S, values_S))
