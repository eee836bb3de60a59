"""Why a chosen face should be checked, in a few words. Only for people to read: nothing is dropped because of it."""

from collections.abc import Mapping
from typing import Any

OK = "ok"
COLUMNS = ("visual_status", "face_coverage", "face_choice_margin", "speaking_logit", "off_screen")
"""Columns of the media table that the doubts are based on."""
LOW_COVERAGE = 0.5
_LOW_MARGIN = 0.1
# The same in logits: for a lead, and for the chosen face itself.
_LOW_LOGIT_MARGIN, _LOW_LOGIT = 1.0, 0.5


def face_doubts(columns: Mapping[str, Any]) -> list[str]:
    """The reasons for a row of the media table; empty if there are none. If there is no face, why."""
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
    """The limit below which a lead over the runner-up is small, in units of the row's choice."""
    return _LOW_MARGIN if columns["speaking_logit"] is None else _LOW_LOGIT_MARGIN
