"""Which evaluations there are, and their settings."""

import pytest

from merc.errors import BadSettings
from merc.evaluation.choice import choose
from merc.params import Params


def test_all_are_chosen_unless_the_settings_or_the_command_name_some() -> None:
    every = choose(Params({}))
    assert {
        "emotion_shift",
        "context_substitution",
        "robustness",
        "calibration",
        "any_modality_oracle",
    } <= every.protocols.keys()
    assert {"significance"} <= every.comparisons.keys()
    some = Params({"evaluation": {"evaluations": ["calibration", "significance"]}})
    assert (list(choose(some).protocols), list(choose(some).comparisons)) == (["calibration"], ["significance"])
    assert (list(choose(some, ("robustness",)).protocols), list(choose(some, ("robustness",)).comparisons)) == (
        ["robustness"],
        [],
    )


def test_a_block_sets_an_evaluation() -> None:
    params = Params({"evaluation": {"calibration": {"bins": 4}}}).with_overrides(
        evaluation__significance__reference="mmgcn"
    )
    chosen = choose(params)
    assert chosen.settings()["calibration"] == {"bins": 4}
    assert chosen.settings()["significance"]["reference"] == "mmgcn"
    params.check_overrides()


@pytest.mark.parametrize(
    ("block", "names", "words"),
    [
        ({}, ("calibrations",), "no evaluation 'calibrations'; did you mean 'calibration'"),
        (
            {"evaluations": ["shift"]},
            (),
            "no evaluation 'shift'; .*valid: any_modality_oracle, asr_transcripts, calibration",
        ),
        ({"robust": {}}, (), r"unknown key evaluation\.robust; did you mean 'robustness'"),
        ({"robustness": {"rate": [0.5]}}, (), r"unknown key evaluation\.robustness\.rate; did you mean 'rates'"),
        (
            {"robustness": {"rates": [1.5]}},
            ("robustness",),
            r"evaluation\.robustness\.rates\.0: Input should be less than or equal to 1",
        ),
        ({"evaluations": 3}, (), r"evaluation\.evaluations: Input should be a valid tuple"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(block: dict, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        choose(Params({"evaluation": block}), names)
