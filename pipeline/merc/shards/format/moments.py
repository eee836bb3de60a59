"""Mean and standard deviation of vectors that arrive in pieces."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RunningMoments:
    """Mean and standard deviation per feature, in float64, over pieces of vectors.

    Pieces are merged by their means and sums of squared deviations (Chan, Golub, LeVeque 1983, equation 2.1), which
    keeps the digits that a difference of two large sums of squares would lose.

    Args:
        dim: length of the vectors.

    Example:
        >>> moments = RunningMoments(1)
        >>> moments.add(np.array([[1.0], [3.0]], dtype=np.float32))
        >>> moments.as_json()
        {'count': 2, 'mean': [2.0], 'std': [1.0]}
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean_D: NDArray[np.float64] = np.zeros(dim)
        self.squares_D: NDArray[np.float64] = np.zeros(dim)

    def add(self, values_ND: NDArray[np.float32]) -> None:
        """Adds [N, D] vectors; N may be 0."""
        new = len(values_ND)
        if not new:
            return
        values = values_ND.astype(np.float64)
        mean_D = values.mean(axis=0)
        difference_D = mean_D - self.mean_D
        total = self.count + new
        self.squares_D += np.square(values - mean_D).sum(axis=0) + np.square(difference_D) * (self.count * new / total)
        self.mean_D += difference_D * (new / total)
        self.count = total

    def as_json(self) -> dict[str, Any]:
        """``count``, ``mean`` and ``std`` (of the population: divided by ``count``); all zeros if nothing was added."""
        std_D = np.sqrt(self.squares_D / max(self.count, 1))
        return {"count": self.count, "mean": self.mean_D.tolist(), "std": std_D.tolist()}
