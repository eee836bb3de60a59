"""Models on real features: DCLF and what audio adds on IEMOCAP, leave one of sessions 1 to 4 out, and all systems on
CMU-MOSI; writes the tables of results_real.md next to this file.

    python benchmarks/results_real.py --features FOLDER --work FOLDER [--folds 1,2] [--seeds 0] [--epochs 30]
        [fusion | trials | systems | pretrained | gains | ceiling | mosi]

The folder of features has fold-test-1.pkl to fold-test-4.pkl: in each the named session is the test split and the other
three are train, in the layout that `merc-shards import` reads. They derive from a corpus under a research licence: they
do not come with this program and must not be redistributed; without them nothing is measured. Session 5, the
benchmark's test split, is not in any of them. Dev consists of those of the benchmark's twelve dialogues that are not in
the test session.

A finished training is reused from the working folder. ``trials`` shows what each part of DCLF does to MMGCN, at half
its width and epochs so that a CPU core takes a minute; ``systems`` are the recipes as shipped; ``fusion`` and ``gains``
show what audio adds to text, for variants of the baseline and for every system, and ``ceiling`` what it adds if nothing
is trained jointly. ``pretrained`` is IDCL with and without its pre-training on MELD, whose text must be in the working
folder (merc-extract --dataset meld --modalities text --encoder text=minilm --out WORK/features); the text vectors of
both corpora come from MiniLM. ``mosi`` is another corpus: CMU-MOSI's text, audio and video as arrays (train.npz and
test.npz in the folder of features), monologues, with the published test split.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from _settings import chosen, numbers, settings_file
from _tables import put_table, spread
from merc import files
from merc.corpora.engine import building
from merc.corpora.engine.labels import LabelSet
from merc.layout import Layout
from merc.params import Params
from merc.records.dialogue import SPLITS, Dialogue, Utterance
from merc.records.failures import Failure
from merc.shards import config as shards_config
from merc.shards.circulation import importing
from merc.shards.format import reader
from merc.training.data.dataset import DialogueSplit
from merc.training.data.splits import TrainingData, load_data
from merc.training.loop.pretraining import PreparedPretraining
from merc.training.loop.trainer import train_seed
from merc.training.metrics.weighted_f1 import weighted_f1
from merc.training.recipes.resolution import resolve

RESULTS = Path(__file__).with_suffix(".md")
OVER = "mmgcn_text+dclf_iemocap"
WHOLE = {"additions.dclf_iemocap.causal": "as_set"}
CONTEXT, MODALITY = "additions.dclf_iemocap.losses.context_aware", "additions.dclf_iemocap.losses.modality_contribution"
SMALL = {"recipes.mmgcn.model_settings.node_units": 100, "recipes.mmgcn.model_settings.hidden_units": 50}


@dataclass(frozen=True)
class Row:
    """A recipe with settings over it; ``name`` is shown in the table."""

    name: str
    recipe: str
    settings: Mapping[str, object]
    modalities: str = "text-audio"


def _modality(name: str, settings: Mapping[str, object] = MappingProxyType({})) -> Row:
    """A row with only the modality loss."""
    return Row(f"modality loss alone{name}", OVER, {**SMALL, **WHOLE, CONTEXT: None, **settings})


def _projected(units: int) -> dict[str, object]:
    return {f"losses.{loss}.projection_units": units for loss in ("context_aware", "modality_contribution")}


TRIALS = [
    Row("`mmgcn_text` without DCLF", "mmgcn_text", SMALL),
    Row("decoder and heads alone", OVER, {**SMALL, **WHOLE, CONTEXT: None, MODALITY: None}),
    _modality(""),
    _modality(", projection of 64", {"losses.modality_contribution.projection_units": 64}),
    _modality(", τ 0.5", {"losses.modality_contribution.temperature": 0.5}),
    _modality(", weight 0.1", {MODALITY: {"weight": 0.1}}),
    _modality(", same emotion only", {"losses.modality_contribution.same_emotion_only": True}),
    _modality(", heads detached", {"frameworks.dclf.detach_unimodal": True}),
    Row("context loss alone", OVER, {**SMALL, **WHOLE, MODALITY: None}),
    Row(
        "context loss alone, projection of 64",
        OVER,
        {**SMALL, **WHOLE, MODALITY: None, "losses.context_aware.projection_units": 64},
    ),
    *(
        Row(
            f"context loss alone{name}",
            OVER,
            {**SMALL, **WHOLE, MODALITY: None, f"{CONTEXT}.weight": weight, "losses.context_aware.temperature": tau},
        )
        for name, weight, tau in ((", weight 0.1", 0.1, 0.07), (", τ 0.5", 0.8, 0.5), (", weight 0.1, τ 0.5", 0.1, 0.5))
    ),
    Row("both losses", OVER, {**SMALL, **WHOLE}),
    Row(
        "both losses, weights 0.1 and 0.1, τ 0.5",
        OVER,
        {
            **SMALL,
            **WHOLE,
            f"{CONTEXT}.weight": 0.1,
            f"{MODALITY}.weight": 0.1,
            "losses.context_aware.temperature": 0.5,
            "losses.modality_contribution.temperature": 0.5,
        },
    ),
    Row("both losses, projections of 64", OVER, {**SMALL, **WHOLE, **_projected(64)}),
    Row("`mmgcn_text+causal` without DCLF", "mmgcn_text+causal", SMALL),
    Row("both losses, projections of 64, causal", OVER, {**SMALL, **_projected(64)}),
]
SYSTEMS = [
    Row(f"`{base}{more}`", f"{base}{more}", {})
    for base in ("baseline", "mmgcn_text", "ddin_text")
    for more in ("", "+causal", "+dclf_iemocap", "+dclf_iemocap+without_context")
]
# For the linear audio model in ``ceiling``: weights, regularisation, utterances on either side.
SHARES, STRENGTHS, NEIGHBOURS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), (1e-4, 1e-3), 3
SMALLEST = 1e-6  # added to a probability before its logarithm
AVERAGED = {"models.context_gru.fusion": "probabilities"}
FUSION = [
    Row("`baseline`, text", "baseline", {}, "text"),
    Row("`baseline`, audio", "baseline", {}, "audio"),
    Row("`baseline`, both, probabilities averaged", "baseline", AVERAGED),
    Row("`baseline`, both", "baseline", {}),
    Row("`baseline_iemocap`, text", "baseline_iemocap", {}, "text"),
    Row("`baseline_iemocap`, both", "baseline_iemocap", {}),
    Row(
        "`baseline_iemocap`, both, no values of audio dropped",
        "baseline_iemocap",
        {"recipes.baseline_iemocap.feature_dropout": {}},
    ),
    *(
        Row(f"`{name}`, {words}", name, {}, given)
        for name in ("mmgcn_text", "dialogue_transformer_text")
        for words, given in (("text", "text"), ("both", "text-audio"))
    ),
]
MODALITIES = "text-audio-visual"
UNWEIGHTED = {"recipes.df_erc.losses.cross_entropy": None, "recipes.df_erc.losses.focal": {"gamma": 0.0}}
MOSI = [
    *(Row(f"`baseline`, {given}", "baseline", {}, given) for given in ("text", "audio", "visual", MODALITIES)),
    *(
        Row(f"`{name}`", name, {}, MODALITIES)
        for name in (
            "baseline+dclf_iemocap baseline+supcon mmgcn mmgcn+causal mmgcn+dclf_iemocap ddin ddin+dclf_iemocap mm_dfn"
            " dialogue_rnn dialogue_gcn cogmen graphcfc m3net multi_dag multiemo sdt joint_vector merc_kdc"
            " dialogue_transformer dialogue_transformer+idcl"
        ).split()
    ),
    # The weights of its cross-entropy are for MELD's classes; the focal loss with γ 0 is the same without them.
    Row("`df_erc`, without class weights", "df_erc", UNWEIGHTED, MODALITIES),
]
GAINS = (
    "baseline_iemocap mmgcn_text dialogue_transformer_text ddin_text dialogue_rnn_iemocap cogmen_iemocap mm_dfn_iemocap"
    " dialogue_gcn_iemocap graphsmile_iemocap m3net_iemocap corect_iemocap multiemo_iemocap lsdgnn_iemocap joint_vector"
    " merc_kdc_iemocap telme_iemocap multi_dag graphcfc_iemocap+faster sdt_iemocap+narrow+faster df_erc+batch_16"
).split()
# Of MELD only the text is read, and a tenth of the published 1,000 epochs are trained.
FROM_MELD = {
    "additions.pretrained.pretraining.recipe": "idcl_pretrain@text",
    "recipes.idcl_pretrain.epochs": 100,
    "recipes.idcl_pretrain.model_settings.hidden_units": 256,
}
PRETRAINED = [
    Row(f"`dialogue_transformer_text{more}`", f"dialogue_transformer_text{more}", FROM_MELD if "pre" in more else {})
    for more in ("", "+idcl", "+idcl+pretrained", "+pretrained")
]
TABLES = {
    "fusion": FUSION,
    "pretrained": PRETRAINED,
    "trials": TRIALS,
    "systems": [row for row in SYSTEMS if row.recipe != "baseline+causal"],
    "mosi": MOSI,
}


def arrays_of_mosi(features: Path, work: Path) -> Layout:
    """Shards of train.npz and test.npz (ids ``VIDEO_TURN``, texts, labels 0 negative and 1 positive, text, audio,
    video), one dialogue per video; every sixth video of train is dev.
    """
    layout = Layout(raw=work / "raw", out=work / "features", dataset="mosi")
    if layout.shards.exists():
        return layout
    labels = LabelSet("polarity", ("negative", "positive"))
    found: dict[str, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    tables = {split: dict(np.load(features / f"{split}.npz")) for split in ("train", "test")}
    for split, table in tables.items():
        of_row = [str(one).rpartition("_")[0] for one in table["ids"]]
        videos = list(dict.fromkeys(of_row))
        for row, video in enumerate(of_row):
            held = split == "train" and videos.index(video) % 6 == 5
            found["dev" if held else split].append((split, row))
    dialogues, rows = [], []
    for split, places in found.items():
        by_video: dict[str, list[Utterance]] = {}
        for source, row in places:
            table = tables[source]
            video, _, turn = str(table["ids"][row]).rpartition("_")
            emotion = labels.classes[int(table["labels"][row])]
            utterance = Utterance(
                source_utterance_id=f"{video}_utt{turn}",
                speaker="speaker",
                text=str(table["texts"][row]),
                emotion=emotion,
                start_seconds=0.0,
                end_seconds=0.0,
            )
            by_video.setdefault(video, []).append(utterance)
            rows.append((source, row))
        dialogues += [
            Dialogue(split=split, source_dialogue_id=video, utterances=tuple(spoken))
            for video, spoken in by_video.items()
        ]
    manifest = building.build("mosi", dialogues, labels)
    ids = manifest["utterance_id"].to_pylist()
    vectors, failures = {}, []
    for modality, name in (("text", "text"), ("audio", "audio"), ("visual", "video")):
        vectors[modality] = np.stack([tables[source][name][row] for source, row in rows]).astype(np.float32)
        failures += [
            Failure(ids[row], "import", modality, "zero_vector", "all zeros in the file")
            for row in np.flatnonzero(~vectors[modality].any(axis=1)).tolist()
        ]
    sha256 = files.digest({split: files.sha256(features / f"{split}.npz") for split in tables})
    record = {
        "settings": {"corpora": {"mosi": {"reader": "arrays", "sha256": sha256}}},
        "source": "CMU-MOSI, vectors of its bc-LSTM baseline.",
        "deviations": [],
        "failures": [],
    }
    arrays = importing.Imported("arrays", "mosi", manifest, vectors, tuple(failures), record, sha256, {})
    importing.build(arrays, shards_config.Config(), layout)
    return layout


def imported(features: Path, work: Path, fold: int) -> Layout:
    """The shards of a fold, imported if they do not exist."""
    layout = Layout(raw=work / "raw", out=work / "features", dataset=f"iemocap-without-{fold}")
    if not layout.shards.exists():
        command = [
            str(Path(sys.executable).parent / "merc-shards"),
            "import",
            str(features / f"fold-test-{fold}.pkl"),
            str(layout.shards),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=work, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return layout


def trained(
    row: Row, layout: Layout, seed: int, epochs: int | None, work: Path, data: dict[str, TrainingData]
) -> dict[str, float]:
    """Dev and test scores of a row, from the working folder if they exist."""
    settings = {**row.settings, **({} if epochs is None else {"additions.measured.epochs": epochs})}
    if layout.dataset == "mosi":  # its text vectors were trained with the labels of train, including dev's
        settings["additions.measured.selection"] = "last"
    params = Params.load(settings_file(work, settings))
    resolved = resolve(params, f"{row.recipe}{'' if epochs is None else '+measured'}@{row.modalities}")
    info = reader.info_of(layout)
    first = PreparedPretraining.of(resolved, layout, info["classes"], work / "runs")
    made_of = {"settings": resolved.settings(), "versions": resolved.versions(), "seed": seed, "shards": layout.dataset}
    if first is not None:
        made_of["pretraining"] = first.digest
    kept = work / "scores" / f"{files.digest(made_of)}.json"
    if not kept.exists():
        read = f"{layout.dataset} {row.modalities}"
        if read not in data:
            data[read] = load_data(resolved, info, layout)[0]
        device, dims = torch.device("cpu"), data[read].train.dims
        start = None if first is None else first.start(resolved, dims, len(data[read].classes), seed, device).tensors
        found = train_seed(resolved, data[read], seed, device, start=start)
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(
            kept,
            {
                "dev": found.dev["weighted_f1"],
                "test": found.test["weighted_f1"],
                **{k: v for k, v in found.history[-1].items() if "loss" in k},
            },
        )
    scores: dict[str, float] = json.loads(kept.read_text())
    return scores


def table(rows: list[Row], layouts: list[Layout], seeds: list[int], epochs: int | None, work: Path) -> list[str]:
    """Mean and standard deviation over folds and seeds, and the difference from the first row with its deviation over
    folds and seeds.
    """
    data: dict[str, TrainingData] = {}
    lines = [
        "| row | dev WF1 | held-out WF1 | over the first row, held out | folds × seeds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    first: list[float] = []
    for row in rows:
        found = [trained(row, layout, seed, epochs, work, data) for layout in layouts for seed in seeds]
        test = [one["test"] for one in found]
        first = first or test
        apart = spread([one - other for one, other in zip(test, first, strict=True)])
        lines.append(
            f"| {row.name} | {spread([one['dev'] for one in found])} | {spread(test)} | {apart} | {len(layouts)} ×"
            f" {len(seeds)} |"
        )
        print(lines[-1], round(statistics.fmean(one["train_loss"] for one in found), 2), flush=True)
    return lines


def gains(recipes: list[str], layouts: list[Layout], seeds: list[int], epochs: int | None, work: Path) -> list[str]:
    """For each recipe, with text only and with text and audio: means over folds and seeds, and what audio adds, with
    its deviation over folds and seeds.
    """
    data: dict[str, TrainingData] = {}
    lines = [
        "| recipe | dev, text | dev, both | held out, text | held out, both | audio adds, held out | folds × seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for recipe in recipes:
        found = {
            given: [
                trained(Row(recipe, recipe, {}, given), layout, seed, epochs, work, data)
                for layout in layouts
                for seed in seeds
            ]
            for given in ("text", "text-audio")
        }
        means = [
            f"{100 * statistics.fmean(one[split] for one in found[given]):.1f}"
            for split in ("dev", "test")
            for given in found
        ]
        pairs = zip(found["text"], found["text-audio"], strict=True)
        gain = spread([both["test"] - text["test"] for text, both in pairs])
        lines.append(f"| `{recipe}` | {' | '.join(means)} | {gain} | {len(layouts)} × {len(seeds)} |")
        print(lines[-1], flush=True)
    return lines


def ceiling(layouts: list[Layout], seeds: list[int], work: Path) -> list[str]:
    """The recurrent baseline on text, fused late with a separately trained model of audio, linear or the baseline:
    log-probabilities are added, those of audio with a weight chosen on dev, or by the held-out session.
    """
    params = Params.load(settings_file(work, {}))
    text, audio = (resolve(params, f"baseline_iemocap@{given}") for given in ("text", "audio"))
    found: dict[str, list[float]] = {}
    for layout in layouts:
        info = reader.info_of(layout)
        read, heard = load_data(text, info, layout)[0], load_data(audio, info, layout)[0]
        linear = _linear(heard)
        for seed in seeds:
            of_text = train_seed(text, read, seed, torch.device("cpu")).probabilities
            of_audio = train_seed(audio, heard, seed, torch.device("cpu")).probabilities
            recurrent = {split: np.log(one + SMALLEST) for split, one in of_audio.items()}
            alone = np.log(of_text["dev"] + SMALLEST), np.log(of_text["test"] + SMALLEST)
            rows = {
                "`baseline_iemocap`, text": (_weighted_f1(heard.dev, alone[0]), _weighted_f1(heard.test, alone[1])),
                "`baseline_iemocap`, audio": (
                    _weighted_f1(heard.dev, recurrent["dev"]),
                    _weighted_f1(heard.test, recurrent["test"]),
                ),
            }
            for name, candidates in {"linear": linear, "recurrent": [recurrent]}.items():
                tried = [
                    (
                        _weighted_f1(heard.dev, alone[0] + share * one["dev"]),
                        _weighted_f1(heard.test, alone[1] + share * one["test"]),
                    )
                    for one, share in itertools.product(candidates, SHARES)
                ]
                rows[f"text with {name} audio, weight chosen on dev"] = max(tried, key=lambda one: one[0])
                rows[f"text with {name} audio, weight that the held-out session would choose"] = max(
                    tried, key=lambda one: one[1]
                )
            for row, (dev, test) in rows.items():
                found.setdefault(f"{row} | dev", []).append(dev)
                found.setdefault(f"{row} | test", []).append(test)
    names = [name.removesuffix(" | dev") for name in found if name.endswith("| dev")]
    return [
        "| row | dev WF1 | held-out WF1 | folds × seeds |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {spread(found[f'{name} | dev'])} | {spread(found[f'{name} | test'])} | {len(layouts)} ×"
            f" {len(seeds)} |"
            for name in names
        ),
    ]


def _linear(data: TrainingData) -> list[dict[str, NDArray[np.float64]]]:
    """For each strength of regularisation: split → log-probabilities [N, C] of logistic regression over an utterance's
    audio and that of its neighbours.
    """
    windows = {split: _windows(getattr(data, split)) for split in SPLITS}
    labels = data.train.labels[:-1].numpy()
    known = labels >= 0
    models = (LogisticRegression(C=one, max_iter=60).fit(windows["train"][known], labels[known]) for one in STRENGTHS)
    return [{split: model.predict_log_proba(windows[split]) for split in ("dev", "test")} for model in models]


def _windows(split: DialogueSplit) -> NDArray[np.float32]:
    """[N, (2 · NEIGHBOURS + 1) · D]: an utterance's audio and that of those around it, zeros beyond the dialogue."""
    features = split.features["audio"]
    rows = torch.arange(len(features) - 1)
    first = split.starts.repeat_interleave(split.lengths)
    last = first + split.lengths.repeat_interleave(split.lengths) - 1
    shifted = [rows + step for step in range(-NEIGHBOURS, NEIGHBOURS + 1)]
    parts = [features[torch.where((at >= first) & (at <= last), at, len(features) - 1)] for at in shifted]
    return torch.cat(parts, dim=1).numpy()


def _weighted_f1(split: DialogueSplit, scores_NC: NDArray[np.float64]) -> float:
    labels = split.labels[:-1].numpy()
    return weighted_f1(labels[labels >= 0], scores_NC[labels >= 0].argmax(axis=1), scores_NC.shape[1])


def main() -> None:
    """Measures one of the tables, or says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=[*TABLES, "gains", "ceiling"], nargs="?", default="trials")
    parser.add_argument(
        "--features", type=Path, default=os.environ.get("MERC_REAL_IEMOCAP"), help="default: $MERC_REAL_IEMOCAP"
    )
    parser.add_argument("--work", type=Path, default=Path("results_real"))
    parser.add_argument("--recipes", help="comma-separated, only these; all without it")
    parser.add_argument("--folds", type=numbers, default=[1, 2])
    parser.add_argument("--seeds", type=numbers, default=[0])
    parser.add_argument("--epochs", type=int, help="in place of the recipes'")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    which, of_mosi = given.which, given.which == "mosi"
    if which == "ceiling" and (given.recipes or given.epochs):
        parser.error("ceiling is of one recipe, with its own epochs: leave out --recipes and --epochs")
    rows = TABLES.get(which, [])
    recipes = [row.recipe for row in rows] or GAINS
    if given.recipes:
        recipes = chosen("--recipes", given.recipes, list(dict.fromkeys(recipes)))
    needed = ["train.npz", "test.npz"] if of_mosi else [f"fold-test-{fold}.pkl" for fold in given.folds]
    missing = [name for name in needed if given.features is None or not (given.features / name).exists()]
    if missing:
        print(
            f"no {', '.join(missing)} in {given.features}: nothing to measure; --features or $MERC_REAL_IEMOCAP names"
            " the folder"
        )
        return
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    features, work = given.features.resolve(), given.work.resolve()
    if of_mosi:
        layouts, corpus = [arrays_of_mosi(features, work)], "CMU-MOSI, three modalities, two classes"
    else:
        layouts = [imported(features, work, fold) for fold in given.folds]
        corpus = "IEMOCAP text and audio, six classes"
    if which == "gains":
        lines = gains(recipes, layouts, given.seeds, given.epochs, work)
    elif which == "ceiling":
        lines = ceiling(layouts, given.seeds, work)
    else:
        lines = table([row for row in rows if row.recipe in recipes], layouts, given.seeds, given.epochs, work)
    options = {
        "folds": None if of_mosi else ",".join(map(str, given.folds)),
        "seeds": ",".join(map(str, given.seeds)),
        "recipes": given.recipes,
        "epochs": given.epochs,
    }
    shown = " ".join([which, *(f"--{key} {value}" for key, value in options.items() if value)])
    told = f"`python benchmarks/results_real.py {shown}`, {corpus}, per cent."
    put_table(given.out, which, [told, "", *lines])


if __name__ == "__main__":
    main()
