"""How encoders without a checkpoint describe themselves, key by key: existing shards have it in their metadata."""

from merc.encoders.audio.acoustic import FEATURE_NAMES, Acoustic
from merc.encoders.text.ngrams import Ngrams
from merc.encoders.visual.gradients import Gradients


def test_provenance_of_ngrams(ngrams: Ngrams) -> None:
    assert list(ngrams.provenance().items()) == [
        ("encoder", "ngrams"),
        ("revision", "version 1"),
        ("layer", None),
        ("pooling", "sum of signed hashes, L2"),
        ("sample_rate_hz", None),
        ("licence", "Apache-2.0"),
        ("training_data_overlap", "none: nothing is fitted"),
    ]


def test_provenance_of_gradients(gradients: Gradients) -> None:
    assert list(gradients.provenance().items()) == [
        ("encoder", "gradients"),
        ("revision", "version 1"),
        ("layer", None),
        ("pooling", "mean and standard deviation over frames"),
        ("sample_rate_hz", None),
        ("licence", "Apache-2.0"),
        ("training_data_overlap", "none: nothing is fitted"),
    ]


def test_provenance_of_acoustic(acoustic: Acoustic) -> None:
    assert list(acoustic.provenance().items()) == [
        ("encoder", "acoustic"),
        ("revision", "version 1"),
        ("layer", None),
        ("pooling", "statistics over frames"),
        ("sample_rate_hz", 16_000),
        ("licence", "Apache-2.0"),
        ("training_data_overlap", "none: nothing is fitted"),
        ("feature_names", list(FEATURE_NAMES)),
    ]


def test_more_keys_go_last_and_may_replace_the_usual_ones(ngrams: Ngrams) -> None:
    assert list(ngrams.rule_provenance(pooling="none", licence="MIT", feature_set="x").items()) == [
        ("encoder", "ngrams"),
        ("revision", "version 1"),
        ("layer", None),
        ("pooling", "none"),
        ("sample_rate_hz", None),
        ("licence", "MIT"),
        ("training_data_overlap", "none: nothing is fitted"),
        ("feature_set", "x"),
    ]
