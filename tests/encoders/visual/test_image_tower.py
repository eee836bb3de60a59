import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.visual.image_tower import ImageTower
from merc.errors import BadSettings

# The plain call: transformers' class, and which part of its output is the crop's vector.
CLASSES = {
    "vit": "ViTModel",
    "vit classifier": "ViTModel",
    "deit": "DeiTModel",
    "beit": "BeitModel",
    "dinov2": "Dinov2Model",
    "dinov2 with registers": "Dinov2WithRegistersModel",
    "clip": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
}
SPECIAL = {
    "vit": 1,
    "vit classifier": 1,
    "deit": 2,
    "beit": 1,
    "dinov2": 1,
    "dinov2 with registers": 4,
    "clip": 1,
    "siglip": 0,
}


def _faces(*sizes: int | tuple[int, int], seed: int = 0) -> np.ndarray:
    """Images of one size with soft edges: pure noise would look the same to every model."""
    import cv2

    rng = np.random.default_rng(seed)
    height, width = sizes[0] if isinstance(sizes[0], tuple) else (sizes[0], sizes[0])
    coarse = rng.integers(0, 256, (len(sizes), 5, 5, 3), dtype=np.uint8)
    return np.stack(
        [
            cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)
            for picture in coarse
        ]
    )


def _utterance(faces: np.ndarray | None, **more: Any) -> UtteranceInput:
    return UtteranceInput(utterance_id="a", faces=faces, **more)


def _plain(folder: Path, kind: str, picture: np.ndarray, pick: Callable[[Any], Any]) -> np.ndarray:
    """One image, as a PIL image, through plain transformers."""
    import torch
    import transformers
    from PIL import Image

    name = CLASSES.get(kind, kind)
    model = getattr(transformers, name).from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        output = model(**processor(images=Image.fromarray(picture), return_tensors="pt"), output_hidden_states=True)
    vector: np.ndarray = pick(output)[0].float().numpy()
    return vector


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.mark.parametrize("kind", CLASSES)
def test_vectors_are_those_of_a_plain_call_image_by_image(image_tower, image_checkpoint, kind: str) -> None:
    faces = _faces(112, 112, 112)
    encoded = image_tower(kind, sequences=True).encode([_utterance(faces)])
    expected = np.stack(
        [
            _plain(
                image_checkpoint(kind),
                kind,
                face,
                lambda output: output.last_hidden_state[:, SPECIAL[kind] :].mean(dim=1),
            )
            for face in faces
        ]
    )
    assert _cosine(encoded.embeddings[0], expected.mean(axis=0)) >= 0.999999
    np.testing.assert_allclose(encoded.embeddings[0], expected.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(encoded.sequences[0].vectors, expected, rtol=2e-3, atol=2e-3)
    assert np.abs(expected[0] - expected[1]).max() > 1e-2  # the images do make a difference


@pytest.mark.parametrize(
    ("kind", "settings", "name", "pick"),
    [
        ("vit", {"frame_vector": "first"}, "ViTModel", lambda output: output.last_hidden_state[:, 0]),
        ("vit", {"frame_vector": "pooler"}, "ViTModel", lambda output: output.pooler_output),
        ("vit", {"layer": 0}, "ViTModel", lambda output: output.hidden_states[0][:, 1:].mean(dim=1)),
        (
            "vit classifier",
            {"frame_vector": "first", "layer": 2},
            "ViTModel",
            lambda output: output.hidden_states[2][:, 0],
        ),
        ("deit", {"layer": -2}, "DeiTModel", lambda output: output.hidden_states[2][:, 2:].mean(dim=1)),
        ("beit", {"frame_vector": "pooler"}, "BeitModel", lambda output: output.pooler_output),
        ("dinov2", {"layer": 1}, "Dinov2Model", lambda output: output.hidden_states[1][:, 1:].mean(dim=1)),
        ("dinov2", {"frame_vector": "pooler"}, "Dinov2Model", lambda output: output.pooler_output),
        ("clip", {"frame_vector": "pooler"}, "CLIPVisionModel", lambda output: output.pooler_output),
        ("clip", {"frame_vector": "projection"}, "CLIPVisionModelWithProjection", lambda output: output.image_embeds),
        (
            "clip",
            {"frame_vector": "first", "layer": 1},
            "CLIPVisionModel",
            lambda output: output.hidden_states[1][:, 0],
        ),
        ("siglip", {"frame_vector": "pooler"}, "SiglipVisionModel", lambda output: output.pooler_output),
        ("siglip", {"layer": 2}, "SiglipVisionModel", lambda output: output.hidden_states[2].mean(dim=1)),
    ],
)
def test_frame_vectors_and_layers_are_those_of_transformers(
    image_tower, image_checkpoint, kind: str, settings: dict[str, Any], name: str, pick: Any
) -> None:
    faces = _faces(48)
    vector = image_tower(kind, **settings).encode([_utterance(faces)]).embeddings[0]
    np.testing.assert_allclose(vector, _plain(image_checkpoint(kind), name, faces[0], pick), atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 31, (1, 3), (3, 1), (57, 40), (300, 200)])
def test_images_of_any_size_are_seen_as_transformers_sees_them(
    image_tower, image_checkpoint, size: int | tuple[int, int]
) -> None:
    # Three pixels in height look like three channels to a function that guesses the order of dimensions; PIL images are
    # never mistaken.
    faces = _faces(size)
    for kind in ("vit", "siglip"):
        vector = image_tower(kind).encode([_utterance(faces)]).embeddings[0]
        expected = _plain(
            image_checkpoint(kind),
            kind,
            faces[0],
            lambda output, kind=kind: output.last_hidden_state[:, SPECIAL[kind] :].mean(dim=1),
        )
        assert _cosine(vector, expected) >= 0.99999


def test_an_image_of_one_pixel_is_an_image_of_one_colour(image_tower) -> None:
    pixel = np.array([[[[200, 30, 90]]]], dtype=np.uint8)
    large = np.broadcast_to(pixel, (1, 112, 112, 3)).copy()
    vectors = image_tower("vit").encode([_utterance(pixel), _utterance(large)]).embeddings
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_grey_images_are_those_of_a_plain_call_with_a_grey_image(image_tower, image_checkpoint) -> None:
    grey = _faces(64)[..., :1]
    vector = image_tower("clip").encode([_utterance(np.repeat(grey, 3, axis=-1))]).embeddings[0]
    expected = _plain(
        image_checkpoint("clip"), "clip", grey[0, :, :, 0], lambda output: output.last_hidden_state[:, 1:].mean(dim=1)
    )
    assert _cosine(vector, expected) >= 0.99999


@pytest.mark.parametrize("images_per_batch", [1, 3, 100])
def test_clips_with_crops_of_different_size_share_batches(image_tower, images_per_batch: int) -> None:
    clips = [
        _utterance(_faces(*[size] * count, seed=size))
        for size, count in ((40, 3), (112, 5), (40, 1), (64, 4), (112, 2))
    ]
    together = image_tower("siglip", images_per_batch=images_per_batch).encode([*clips, _utterance(None)])
    alone = [image_tower("siglip").encode([clip]).embeddings[0] for clip in clips]
    assert together.present.tolist() == [True] * 5 + [False]
    assert together.remarks == [(5, "no_face", "there is no face crop")]
    np.testing.assert_allclose(together.embeddings[:5], alone, atol=2e-5)


def test_pooling_by_confidence_prefers_the_sure_crops(image_tower) -> None:
    faces = _faces(40, 40)
    sure = image_tower("vit", pooling="confidence", sequences=True).encode(
        [_utterance(faces, face_scores=np.array([0.95, 0.15], dtype=np.float32))]
    )
    assert sure.sequences[0] is not None
    np.testing.assert_allclose(
        sure.embeddings[0], sure.sequences[0].vectors[0], atol=5e-3
    )  # exp(8) times the weight of the other
    for scores in (None, np.full(2, 0.4, dtype=np.float32)):
        equal = image_tower("vit", pooling="confidence").encode([_utterance(faces, face_scores=scores)]).embeddings
        np.testing.assert_allclose(equal, image_tower("vit").encode([_utterance(faces)]).embeddings, atol=1e-5)


def test_frames_are_crops_with_their_times(image_tower) -> None:
    seconds = np.array([0.2, 0.5, 1.25], dtype=np.float32)
    encoder = image_tower("dinov2", pooling="mean_std", sequences=True)
    [frames] = encoder.encode([_utterance(_faces(40, 40, 40), face_seconds=seconds)]).sequences
    assert (encoder.dim, encoder.sequence_dim, encoder.planned_dim()) == (64, 32, 64)
    assert frames is not None
    assert (frames.vectors.shape, frames.vectors.dtype) == ((3, 32), np.float16)
    assert frames.seconds.tolist() == seconds.tolist()


def test_what_is_behind_the_chosen_layer_and_the_text_tower_is_not_loaded(image_tower) -> None:
    layers = {
        name.split(".")[2] for name, _ in image_tower("clip", layer=1)._model.named_parameters() if ".layers." in name
    }
    assert layers == {"0"}
    for kind in ("clip", "siglip"):
        assert not [
            name
            for name, _ in image_tower(kind)._model.named_parameters()
            if "text" in name or "head" in name or "projection" in name
        ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_comes_near_to_full(image_tower, dtype: str) -> None:
    utterance = _utterance(_faces(40, 40))
    half = image_tower("vit", dtype=dtype).encode([utterance]).embeddings[0]
    assert 0.98 < _cosine(half, image_tower("vit").encode([utterance]).embeddings[0]) < 1 - 1e-9


def test_the_gpu_gives_what_the_cpu_gives(image_tower, device: str) -> None:
    utterances = [_utterance(_faces(112, 112)), _utterance(_faces(57))]
    for kind in ("vit", "clip", "siglip", "dinov2"):
        here = image_tower(kind, device=device).encode(utterances).embeddings
        reference = image_tower(kind).encode(utterances).embeddings
        assert min(_cosine(*pair) for pair in zip(here, reference, strict=True)) >= 0.9999


def test_neither_place_nor_size_of_a_batch_is_part_of_the_identity(
    image_tower, image_checkpoint, tmp_path: Path
) -> None:
    first = image_tower("vit")
    shutil.copytree(image_checkpoint("vit"), tmp_path / "elsewhere")
    other = first.config.model_copy(
        update={"repo": str(tmp_path / "elsewhere"), "images_per_batch": "auto", "licence": "x", "dim": 32}
    )
    assert ImageTower(other).identity() == first.identity()
    for change in (
        {"frame_vector": "first"},
        {"pooling": "mean_std"},
        {"layer": 1},
        {"confidence_temperature": 0.2},
        {"dtype": "bfloat16"},
    ):
        assert ImageTower(first.config.model_copy(update=change)).identity() != first.identity()


def test_budget_is_automatic_or_given(image_tower) -> None:
    assert image_tower("vit", images_per_batch="auto").budget.units == 16
    assert image_tower("vit", images_per_batch=7).budget.units == 7


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("siglip", {"frame_vector": "first"}, "siglip has no class token; valid: mean, pooler"),
        (
            "vit",
            {"frame_vector": "projection"},
            "projection, which only CLIP has, not vit; valid: first, mean, pooler",
        ),
        ("vit classifier", {"frame_vector": "pooler"}, "a ViTForImageClassification has none; valid: first, mean"),
        ("vit", {"layer": 4}, "layer 4; valid: 0 to 3, or -1 to -4"),
        ("clip", {"layer": -5}, "layer -5; valid: 0 to 3, or -1 to -4"),
    ],
)
def test_what_a_checkpoint_lacks_is_said_before_it_is_loaded(
    image_checkpoint, kind: str, settings: dict[str, Any], message: str
) -> None:
    given = {
        "frame_vector": "mean",
        "pooling": "mean",
        "confidence_temperature": 0.1,
        "licence": "none",
        "training_data_overlap": "none",
        **settings,
    }
    with pytest.raises(BadSettings, match=message):
        ImageTower(ImageTower.Config(family="image_tower", repo=str(image_checkpoint(kind)), **given)).identity()


def _altered(folder: Path, to: Path, file: str, **changes: Any) -> str:
    """A copy of a checkpoint with changed settings in one of its files; None removes one."""
    shutil.copytree(folder, to)
    content = json.loads((to / file).read_text()) | changes
    (to / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return str(to)


def _build(repo: str, **settings: Any) -> ImageTower:
    given = {
        "frame_vector": "mean",
        "pooling": "mean",
        "confidence_temperature": 0.1,
        "licence": "none",
        "training_data_overlap": "none",
        **settings,
    }
    return ImageTower(ImageTower.Config(family="image_tower", repo=repo, **given))


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_text_checkpoint_is_refused(tiny_checkpoint, kind: str) -> None:
    with pytest.raises(
        BadSettings,
        match=f"type '{kind}' is not supported by the family image_tower; valid: vit, deit, beit, dinov2, .*siglip",
    ):
        _build(str(tiny_checkpoint(kind))).identity()


def test_an_audio_checkpoint_is_refused(waveform_checkpoint) -> None:
    with pytest.raises(BadSettings, match="type 'wav2vec2' is not supported by the family image_tower"):
        _build(str(waveform_checkpoint("wav2vec2 base"))).identity()


def test_a_checkpoint_that_does_not_say_how_images_are_prepared_is_refused(image_checkpoint, tmp_path: Path) -> None:
    shutil.copytree(image_checkpoint("vit"), tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with pytest.raises(BadSettings, match=r"has no preprocessor_config\.json"):
        _build(str(tmp_path / "vit")).identity()


def test_a_siglip_without_a_pooling_head_is_refused(image_checkpoint, tmp_path: Path) -> None:
    content = json.loads((image_checkpoint("siglip") / "config.json").read_text())
    repo = _altered(
        image_checkpoint("siglip"),
        tmp_path / "siglip",
        "config.json",
        vision_config={**content["vision_config"], "vision_use_head": False},
    )
    with pytest.raises(BadSettings, match="this SigLIP has no pooling head; valid: mean"):
        _build(repo, frame_vector="pooler").identity()


@pytest.mark.parametrize(
    ("kind", "old"),
    [
        (
            "vit classifier",
            {
                "feature_extractor_type": "ViTFeatureExtractor",
                "size": 32,
                "resample": 2,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
        ),
        (
            "clip",
            {
                "feature_extractor_type": "CLIPFeatureExtractor",
                "size": 32,
                "crop_size": 32,
                "resample": 3,
                "do_center_crop": True,
            },
        ),
    ],
)
def test_preprocessors_as_they_were_saved_years_ago_are_read(
    image_tower, image_checkpoint, tmp_path: Path, kind: str, old: dict[str, Any]
) -> None:
    shutil.copytree(image_checkpoint(kind), tmp_path / "old")
    (tmp_path / "old" / "preprocessor_config.json").write_text(
        json.dumps({"do_resize": True, "do_normalize": True, **old})
    )
    encoder = _build(str(tmp_path / "old"))
    encoder.load("cpu")
    utterance = _utterance(_faces(57, 57))
    np.testing.assert_allclose(
        encoder.encode([utterance]).embeddings, image_tower(kind).encode([utterance]).embeddings, atol=1e-5
    )


def test_images_of_another_size_than_the_models_are_refused(image_checkpoint, tmp_path: Path) -> None:
    repo = _altered(
        image_checkpoint("vit"), tmp_path / "vit", "preprocessor_config.json", size={"height": 48, "width": 48}
    )
    with pytest.raises(BadSettings, match="gives images of 48x48 pixels, but its model takes 32x32"):
        _build(repo).load("cpu")


def test_images_that_keep_their_own_size_are_refused(image_checkpoint, tmp_path: Path) -> None:
    repo = _altered(
        image_checkpoint("dinov2"),
        tmp_path / "dinov2",
        "preprocessor_config.json",
        do_resize=False,
        do_center_crop=False,
    )
    with pytest.raises(BadSettings, match="gives images of 57x57 or 112x112 pixels"):
        _build(repo).load("cpu")


def test_a_processor_that_does_more_than_its_steps_is_refused(image_checkpoint, tmp_path: Path) -> None:
    changes = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.5}
    repo = _altered(image_checkpoint("vit"), tmp_path / "vit", "preprocessor_config.json", **changes)
    with pytest.raises(BadSettings, match=r"image processor ConvNextImageProcessor does (more than|not take)"):
        _build(repo).load("cpu")


def test_an_unknown_processor_is_refused(image_checkpoint, tmp_path: Path) -> None:
    repo = _altered(
        image_checkpoint("vit"), tmp_path / "vit", "preprocessor_config.json", image_processor_type="NoSuchProcessor"
    )
    with pytest.raises(BadSettings, match="transformers cannot load its image processor"):
        _build(repo).load("cpu")


def test_a_missing_pooler_is_not_filled_with_random_numbers(image_checkpoint, tmp_path: Path) -> None:
    # The configuration names the model with a pooler, but the weights have none.
    repo = _altered(image_checkpoint("vit classifier"), tmp_path / "vit", "config.json", architectures=["ViTModel"])
    with pytest.raises(BadSettings, match=r"weights of a ViTModel are not in its files, among them pooler\.dense"):
        _build(repo, frame_vector="pooler").load("cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images_per_batch": 0}, "images_per_batch is 0"),
        ({"confidence_temperature": 0}, "greater than 0"),
        ({"frame_vector": "pooler", "layer": 2}, "frame_vector pooler is made of the last layer"),
        ({"frame_vector": "last"}, "first"),
        ({"pooling": "max"}, "mean_std"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _build("nowhere", **settings)


def test_many_crops_and_few_give_the_same(image_tower, utterances: Sequence[UtteranceInput]) -> None:
    encoder = image_tower("vit", images_per_batch=5)
    many = encoder.encode([*utterances, *utterances, *utterances])
    np.testing.assert_allclose(many.embeddings[7:14], encoder.encode(utterances).embeddings, atol=2e-5)
