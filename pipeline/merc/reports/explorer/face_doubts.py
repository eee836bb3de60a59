"""Why a chosen face should be looked at twice, in a few words. For people's eyes alone: nothing is dropped by it."""

from collections.abc import Mapping
from typing import Any

OK = "ok"
COLUMNS = ("visual_status", "face_coverage", "face_choice_margin", "speaking_logit", "off_screen")
"""Columns of the media table that the doubts are based on."""
LOW_COVERAGE = 0.5
_LOW_MARGIN = 0.1
# The same in logits: of a lead, and of the chosen one's own.
_LOW_LOGIT_MARGIN, _LOW_LOGIT = 1.0, 0.5


def face_doubts(columns: Mapping[str, Any]) -> list[str]:
    """The reasons for a row of the media table; empty if there is none. Where there is no face, why."""
    if columns["visual_status"] != OK:
        return [str(columns["visual_status"]).replace("_", " ")]
    found = []
    if columns["face_coverage"] < LOW_COVERAGE:
        found.append(f"in {100 * columns['face_coverage']:.0f} % of the frames")
    margin, logit = columns["face_choice_margin"], columns["speaking_logit"]
    if margin is not None and margin < low_margin(columns):
        found.append(f"margin {margin:.2f}")
    if columns["off_screen"]:
        found.append("speaker off screen")
    elif logit is not None and logit < _LOW_LOGIT:
        found.append(f"logit {logit:.2f}")
    return found


def low_margin(columns: Mapping[str, Any]) -> float:
    """Below it a lead over the runner-up is small, in the measure of the row's choice."""
    return _LOW_MARGIN if columns["speaking_logit"] is None else _LOW_LOGIT_MARGIN
