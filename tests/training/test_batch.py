from dataclasses import replace

import pytest
import torch


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.zeros(2, 3, dtype=torch.long)}, "labels is"),
        ({"features": {"text": torch.zeros(2, 4)}}, "features of text"),
        ({"features": {"smell": torch.zeros(2, 4, 3)}}, "features of smell"),
        ({"lengths": torch.ones(3, dtype=torch.long)}, "lengths are"),
        ({"dialogue_ids": ("one",)}, "1 ids"),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(make_batch, change, words):
    with pytest.raises(ValueError, match=words):
        replace(make_batch([4, 2]), **change)
