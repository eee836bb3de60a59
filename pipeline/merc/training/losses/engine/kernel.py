"""What the contrastive losses share: logits of pairs, and one masked kernel for all their forms.

Legend: N anchors, M things an anchor is compared with, D features. For an anchor with logits s (already divided by the
temperature), positives P and candidates A, the kernel computes

    ``out``      LSE_A s - mean_P s                    Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2
    ``in_sum``   LSE_A s - LSE_P s                     the same without the constant ln |P|: never negative, and 0 if all candidates are positives
    ``in_mean``  LSE_A s - LSE_P s + ln |P|            eq. 3 there
    ``focal``    mean_P (1 - p)^γ · (-ln p), ln p = s - LSE_A s

Nothing here waits for a GPU: there is no indexing with bool tensors, and no value is read on the CPU. An anchor without
positives or candidates is given harmless numbers before the arithmetic and exactly zero after it, so that its gradient
is zero and not NaN.
"""  # noqa: E501

from typing import Literal

import torch
from torch import Tensor

Form = Literal["out", "in_sum", "in_mean", "focal"]
Candidates = Literal["all", "neg"]
Similarity = Literal["cosine", "dot", "shifted_cosine"]
Reduction = Literal["mean", "sum", "none"]

SMALLEST_NORM = 1e-12
"""A shorter vector counts as zero: its cosine with anything is 0, and so is its gradient."""


def masked_contrastive(
    logits_NM: Tensor,
    pos_NM: Tensor,
    cand_NM: Tensor,
    form: Form,
    weights_N: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    gamma: float = 2.0,
    log_shares_M: Tensor | None = None,
) -> Tensor:
    """The contrastive loss of every anchor that has a positive and a candidate.

    Args:
        logits_NM: [N, M], similarities divided by the temperature. Computed in float32, or float64 if they are.
        pos_NM: bool [N, M], the anchor's positives P.
        cand_NM: bool [N, M], the candidates A, over which the logarithm's sum is taken. The anchor itself is usually in
            neither. If A includes the positives, the loss is never negative; if it contains only negatives, it may be.
        form: see the head of the module. ``focal`` needs positives that are candidates.
        weights_N: [N], a factor for each anchor; the mean is still over the number of anchors.
        reduction: ``mean`` over valid anchors, ``sum``, or ``none``.
        gamma: γ of ``focal``, at least 0.
        log_shares_M: [M], logarithm of a factor with which each candidate enters the sum over A.

    Returns:
        A scalar, or [N] for ``none``, in which anchors excluded by :func:`valid_anchors` are exactly 0. Without any
        valid anchor the loss is exactly 0, and backward gives zeros.

    Raises:
        ValueError: if a shape, the form or the reduction is not one of these.

    Example:
        >>> logits = torch.zeros(3, 3)
        >>> others = ~torch.eye(3, dtype=torch.bool)
        >>> masked_contrastive(logits, others, others, "out")
        tensor(0.6931)
    """
    if logits_NM.ndim != 2 or pos_NM.shape != logits_NM.shape or cand_NM.shape != logits_NM.shape:
        raise ValueError(
            f"logits, positives and candidates must be [N, M], not {tuple(logits_NM.shape)}, {tuple(pos_NM.shape)} and"
            f" {tuple(cand_NM.shape)}"
        )
    if pos_NM.dtype != torch.bool or cand_NM.dtype != torch.bool:
        raise ValueError(f"positives and candidates must be bool, not {pos_NM.dtype} and {cand_NM.dtype}")
    valid_N = valid_anchors(pos_NM, cand_NM)
    excluded_N1 = ~valid_N[:, None]
    with torch.autocast(logits_NM.device.type, enabled=False):
        s_NM = at_least_float32(logits_NM).masked_fill(excluded_N1, 0.0)
        shared_NM = s_NM if log_shares_M is None else s_NM + log_shares_M.to(s_NM.dtype)
        all_N = shared_NM.masked_fill(~(cand_NM | excluded_N1), float("-inf")).logsumexp(dim=1)
        values_N = _values(s_NM, pos_NM | excluded_N1, all_N, form, gamma).masked_fill(~valid_N, 0.0)
        if weights_N is not None:
            values_N = values_N * weights_N.to(values_N.dtype)
        return reduced(values_N, valid_N, reduction)


def valid_anchors(pos_NM: Tensor, cand_NM: Tensor) -> Tensor:
    """bool [N]: the anchors with at least one positive and one candidate."""
    return pos_NM.any(dim=1) & cand_NM.any(dim=1)


def reduced(values_N: Tensor, valid_N: Tensor, reduction: Reduction) -> Tensor:
    """Reduces per-anchor losses, zero if not valid: ``mean`` over the valid ones (0 without any), ``sum``, or ``none``.

    Raises:
        ValueError: if the reduction is none of these.
    """
    if reduction == "none":
        return values_N
    if reduction == "sum":
        return values_N.sum()
    if reduction == "mean":
        return values_N.sum() / valid_N.sum().clamp(min=1)
    raise ValueError(f"no reduction named {reduction!r}; valid: mean, none, sum")


def _values(s_NM: Tensor, pos_NM: Tensor, all_N: Tensor, form: Form, gamma: float) -> Tensor:
    """The forms, [N]; every row has a positive, and ``all_N`` is the logarithm of the sum over its candidates."""
    n_pos_N = pos_NM.sum(dim=1)
    if form == "out":
        return all_N - s_NM.masked_fill(~pos_NM, 0.0).sum(dim=1) / n_pos_N
    if form in ("in_sum", "in_mean"):
        value_N = all_N - s_NM.masked_fill(~pos_NM, float("-inf")).logsumexp(dim=1)
        return value_N if form == "in_sum" else value_N + n_pos_N.to(s_NM.dtype).log()
    if form == "focal":
        log_p_NM = (s_NM - all_N[:, None]).masked_fill(~pos_NM, 0.0)
        # 1 - p is kept away from zero, where the derivative of a root is infinite; clamp passes no gradient there, and
        # ln p is 0.
        rest_NM = (-torch.expm1(log_p_NM)).clamp(min=torch.finfo(s_NM.dtype).tiny)
        return -(torch.pow(rest_NM, gamma) * log_p_NM).sum(dim=1) / n_pos_N
    raise ValueError(f"no form named {form!r}; valid: focal, in_mean, in_sum, out")


def at_least_float32(tensor: Tensor) -> Tensor:
    """float64 stays; every other float becomes float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def normalised(z: Tensor) -> Tensor:
    """Rows of length 1, float32 or float64; a zero row stays zero and gets a zero gradient (``functional.normalize``
    would give it one of 1e12).
    """
    z = at_least_float32(z)
    norm: Tensor = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    is_zero = norm < SMALLEST_NORM
    return z.masked_fill(is_zero, 0.0) / norm.masked_fill(is_zero, 1.0)


def pair_logits(a_ND: Tensor, b_MD: Tensor, *, temperature: float, similarity: Similarity = "cosine") -> Tensor:
    """Similarity of every row of one tensor with every row of another, divided by the temperature: [N, M], float32 or
    float64 even under autocast.

    Args:
        a_ND: [N, D].
        b_MD: [M, D].
        temperature: τ.
        similarity: ``cosine``, ``dot``, or ``shifted_cosine``, (1 + cosine) / 2.

    Raises:
        ValueError: if there is no such similarity.
    """
    with torch.autocast(a_ND.device.type, enabled=False):
        if similarity == "dot":
            return at_least_float32(a_ND) @ at_least_float32(b_MD).T / temperature
        cosine_NM = normalised(a_ND) @ normalised(b_MD).T
        if similarity == "cosine":
            return cosine_NM / temperature
        if similarity == "shifted_cosine":
            return (1 + cosine_NM) / (2 * temperature)
    raise ValueError(f"no similarity named {similarity!r}; valid: cosine, dot, shifted_cosine")


def off_diagonal(n: int, device: torch.device) -> Tensor:
    """bool [n, n]: everything but the pair of a row with itself."""
    return ~torch.eye(n, dtype=torch.bool, device=device)
