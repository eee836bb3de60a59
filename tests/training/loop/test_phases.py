"""Training in phases, on a small MERC-KDC."""

import csv
import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from merc.errors import BadSettings
from merc.job import RunOptions
from merc.params import Params
from merc.shards.format import reader
from merc.training.data.collate import collate
from merc.training.data.splits import load_data
from merc.training.loop import phases
from merc.training.loop.phases import BranchView, Finished, enter_training, views
from merc.training.loop.trainer import _Training, predict, scores, train_seed
from merc.training.losses.cross_entropy import CrossEntropy
from merc.training.losses.distillation import DistillationLoss, FeatureDistillationLoss
from merc.training.models.engine.base import FUSION
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

RUN = RunOptions(device="cpu")
CPU = torch.device("cpu")
CE: dict[str, dict[str, object]] = {"cross_entropy": {}}


@pytest.fixture
def staged(tree):
    """The small settings with a recipe ``kdc`` of three phases; a teacher's loss differs from the recipe's, and so do
    the students' epochs and optimiser.
    """
    small = {"hidden_units": 8, "heads": 2, "feedforward_units": 8, "dropout": 0.1}
    tree["models"]["merc_kdc"] = small
    tree["recipes"]["kdc"] = {
        **tree["recipes"]["all"],
        "model": "merc_kdc",
        "epochs": 3,
        "phases": {
            "teacher": {"trains": ["text"], "losses": {"cross_entropy": {"label_smoothing": 0.1}}},
            "students": {
                "trains": ["audio", "visual"],
                "losses": {**CE, "distillation": {"weight": 0.5, "feature_weight": 1.0}},
                "epochs": 4,
                "optimizer": {"name": "adam", "learning_rate": 0.01, "weight_decay": 0.0},
            },
            "fusion": {"trains": ["fusion"]},
        },
    }
    return tree


@pytest.fixture
def loaded(make_shards, staged):
    """Plan and data of a recipe."""

    def load(recipe="kdc"):
        plan, layout = resolve(Params(staged), recipe), make_shards()
        return plan, load_data(plan, reader.info(layout.shards), layout)[0]

    return load


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def branch_of(key):
    return key.split(".")[1] if key.startswith("branches.") else FUSION


def test_each_phase_changes_the_weights_of_its_branches_alone(loaded, tmp_path, monkeypatch):
    plan, data = loaded()
    after, write = [], Finished.write
    monkeypatch.setattr(
        Finished,
        "write",
        lambda self, path, model: (
            after.append({k: v.clone() for k, v in model.state_dict().items()}) or write(self, path, model)
        ),
    )
    train_seed(plan, data, 0, CPU, kept=tmp_path / "phases.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = plan.build(data.dims, 3).state_dict()
    for expected, weights in zip([{"text"}, {"audio", "visual"}, {FUSION}], after, strict=True):
        assert {branch_of(key) for key, value in weights.items() if not torch.equal(value, before[key])} == expected
        before = weights


def test_other_branches_than_those_in_training_are_in_eval_mode_without_gradients(loaded):
    plan, data = loaded()
    for phase in plan.phases:
        model = plan.build(data.dims, 3)
        training = _Training(phase, model, data.train, data.classes, 0, CPU)
        training.epoch(1)
        predict(model, data.dev)
        training.epoch(2)
        assert {branch_of(key) for key, weight in model.named_parameters() if weight.requires_grad} == set(phase.trains)
        assert {branch_of(key) for key, weight in model.named_parameters() if weight.grad is not None} == set(
            phase.trains
        )
        assert {
            branch_of(key) for key, module in model.named_modules() if module.training and not list(module.children())
        } == set(phase.trains)


def test_the_losses_of_a_branch_see_it_as_the_model_and_what_was_trained_before(loaded):
    plan, data = loaded()
    model = plan.build(data.dims, 3)
    output = model(collate(data.train, torch.arange(4)))
    teacher, audio, visual, fusion = (view for phase in plan.phases for view in views(model, phase))
    assert [set(view.of(output).unimodal) for view in (teacher, audio, visual, fusion)] == [
        {"text"},
        {"text", "audio"},
        {"text", "visual"},
        set(data.dims),
    ]
    for view, name in ((teacher, "text"), (audio, "audio"), (visual, "visual")):
        assert torch.equal(view.of(output).logits, output.unimodal_logits[name])
        assert torch.equal(view.of(output).hidden, output.unimodal[name])
        assert torch.equal(view.of(output).compared, output.unimodal[name])
        assert (
            set(view.of(output).unimodal_logits)
            == set(view.of(output).pooled)
            == set(view.gives.unimodal)
            == set(view.of(output).unimodal)
        )
        assert view.gives.hidden == model.gives.unimodal[name]
    assert torch.equal(fusion.of(output).logits, output.logits)
    assert torch.equal(fusion.of(output).hidden, output.hidden)


def test_a_step_of_the_students_costs_what_is_written_out(loaded):
    plan, data = loaded()
    model = plan.build(data.dims, 3)
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    training, batch = (
        _Training(plan.phases[1], model, data.train, data.classes, 0, CPU),
        collate(data.train, torch.arange(8)),
    )
    with torch.no_grad():
        output = model(batch)
    expected = torch.zeros(2)
    labelled, real = batch.labelled, batch.utterance_mask
    for name in ("audio", "visual"):
        both = (batch.modality_mask[name] & batch.modality_mask["text"])[real]
        logits, teacher = output.unimodal_logits[name], output.unimodal_logits["text"]
        response = DistillationLoss(kind="dist", temperature=2.0)(logits[real], teacher=teacher[real], mask=both)
        feature = FeatureDistillationLoss()(
            output.unimodal[name][real], teacher=output.unimodal["text"][real], mask=both
        )
        expected += torch.stack(
            [torch.nn.functional.cross_entropy(logits[labelled], batch.labels[labelled]), response + feature]
        )
    torch.testing.assert_close(training.step(batch, 1), expected)
    assert training.weights_L.tolist() == [1.0, 0.5]


def test_a_phase_selects_on_dev_by_what_its_own_branches_say(loaded, tmp_path):
    plan, data = loaded()
    trained = train_seed(plan, data, 0, CPU, kept=tmp_path / "phases.safetensors")
    labels = data.dev.labels[:-1].numpy()
    for row, branches in zip(trained.phases, [("text",), ("audio", "visual"), (FUSION,)], strict=True):
        dev = [one["dev_weighted_f1"] for one in trained.history if one["phase"] == row["phase"]]
        assert (row["epoch"], row["dev_weighted_f1"]) == (1 + dev.index(max(dev)), max(dev))
        # A branch is frozen once it is trained, so the finished model's branch gives the same output.
        own = [
            scores(labels, predict(BranchView(trained.model, branch, data.dims), data.dev), 3)["weighted_f1"]
            for branch in branches
        ]
        assert row["dev_weighted_f1"] == pytest.approx(sum(own) / len(own), abs=1e-12)
    assert trained.epoch == trained.phases[-1]["epoch"]
    assert trained.dev["weighted_f1"] == trained.phases[-1]["dev_weighted_f1"]
    assert trained.best_test["weighted_f1"] == max(
        row["test_weighted_f1_not_used"] for row in trained.history if row["phase"] == "fusion"
    )


def test_it_learns(loaded, staged):
    staged["recipes"]["kdc"]["epochs"] = 8
    plan, data = loaded()
    trained = train_seed(plan, data, 0, CPU)
    assert [row["dev_weighted_f1"] > 0.6 for row in trained.phases] == [True, True, True]


def test_a_phase_has_its_own_losses_epochs_and_optimiser_or_the_recipes(loaded):
    teacher, students, fusion = resolve_phases(loaded)
    assert [[term.name for term in phase.losses] for phase in (teacher, students, fusion)] == [
        ["cross_entropy"], ["cross_entropy", "distillation"], ["cross_entropy"],
    ]  # fmt: skip
    assert [phase.losses[0].config.label_smoothing for phase in (teacher, students, fusion)] == [0.1, 0.0, 0.0]
    assert [phase.recipe.epochs for phase in (teacher, students, fusion)] == [3, 4, 3]
    assert [(phase.recipe.optimizer.name, phase.recipe.optimizer.learning_rate) for phase in (teacher, students,
    fusion)] == [
        ("adamw", 0.02), ("adam", 0.01), ("adamw", 0.02),
    ]  # fmt: skip


def resolve_phases(loaded):
    plan, _ = loaded()
    assert plan.epochs == 10
    return plan.phases


def test_the_run_tells_the_phase_of_each_epoch(make_shards, staged, tmp_path):
    staged["recipes"]["kdc"]["patience_epochs"] = 9
    made = train(resolve(Params(staged), "kdc"), make_shards(), RUN, runs=tmp_path / "runs")
    rows = list(csv.DictReader((made / "history.csv").open()))
    assert list(rows[0]) == [
        "seed", "phase", "epoch", "learning_rate", "train_loss", "loss_cross_entropy", "loss_distillation",
        "dev_weighted_f1", "dev_accuracy", "test_weighted_f1_not_used",
    ]  # fmt: skip
    epochs = [("teacher", 3), ("students", 4), ("fusion", 3)]
    expected = [(seed, phase, str(epoch)) for seed in "01" for phase, last in epochs for epoch in range(1, last + 1)]
    assert [(row["seed"], row["phase"], row["epoch"]) for row in rows] == expected
    assert {row["phase"] for row in rows if row["loss_distillation"]} == {"students"}
    assert {row["learning_rate"] for row in rows if row["phase"] == "students"} == {"0.01"}
    of_seed = json.loads((made / "results.json").read_text())["seeds"]["1"]
    best = {}
    for row in rows:
        if row["seed"] == "1" and float(row["dev_weighted_f1"]) > best.get(row["phase"], {}).get(
            "dev_weighted_f1", -1.0
        ):
            best[row["phase"]] = {"epoch": int(row["epoch"]), "dev_weighted_f1": float(row["dev_weighted_f1"])}
    assert of_seed["phases"] == best
    assert of_seed["epoch"] == best["fusion"]["epoch"]
    assert {path.name for path in (made / "models" / "seed-1").iterdir()} == {"model.safetensors"}


def test_a_killed_seed_continues_with_the_phase_it_was_in_and_ends_alike(make_shards, staged, tmp_path, monkeypatch):
    layout = make_shards()
    staged["recipes"]["kdc"] |= {"patience_epochs": 9, "seeds": [0]}
    undisturbed = contents(train(resolve(Params(staged), "kdc"), layout, RUN, runs=tmp_path / "undisturbed"))
    for last in (1, 5, 9):  # in each phase
        with monkeypatch.context() as patched:
            _kill_and_go_on(resolve(Params(staged), "kdc"), layout, tmp_path / f"runs {last}", patched, last)
        assert contents(tmp_path / f"runs {last}" / "tiny" / "kdc") == undisturbed, last


def _kill_and_go_on(plan, layout, runs, monkeypatch, last):
    """Trains, is killed after so many epochs, and continues."""
    trained, epoch = [], _Training.epoch

    def killed(self, number):
        if len(trained) == last:
            raise KeyboardInterrupt
        trained.append(self.phase.name)
        return epoch(self, number)

    with monkeypatch.context() as patched:
        patched.setattr(_Training, "epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(plan, layout, RUN, runs=runs)
    monkeypatch.setattr(_Training, "epoch", lambda self, number: trained.append(self.phase.name) or epoch(self, number))
    train(plan, layout, RUN, runs=runs)
    # Complete phases were not trained again; the interrupted one was restarted.
    ran_before = {"teacher": min(last, 3), "students": max(0, min(last - 3, 4)), "fusion": max(0, last - 7)}
    again = {
        name: 0 if ran_before[name] == whole else whole
        for name, whole in {"teacher": 3, "students": 4, "fusion": 3}.items()
    }
    assert Counter(trained) == Counter({name: ran_before[name] + again[name] for name in again})


def test_a_seed_that_was_killed_after_its_last_phase_is_but_scored(loaded, tmp_path, monkeypatch):
    plan, data = loaded()
    first = train_seed(plan, data, 0, CPU, kept=tmp_path / "phases.safetensors")
    monkeypatch.setattr(_Training, "epoch", lambda self, number: pytest.fail("trained again"))
    again = train_seed(plan, data, 0, CPU, kept=tmp_path / "phases.safetensors")
    assert (again.history, again.phases, again.dev, again.test) == (first.history, first.phases, first.dev, first.test)


def test_stages_draw_random_numbers_of_their_own(loaded):
    plan, data = loaded()
    seeds = {phases.seed_of(seed, phase) for seed in (0, 1) for phase in plan.phases}
    assert len(seeds) == 6
    one, other = (train_seed(plan, data, seed, CPU).history for seed in (0, 1))
    assert [row["train_loss"] for row in one] != [row["train_loss"] for row in other]
    assert train_seed(plan, data, 0, CPU).history == one


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("kdc@text", [("teacher", ("text",), ()), ("fusion", (FUSION,), ("text",))]),
        (
            "kdc@text-audio",
            [("teacher", ("text",), ()), ("students", ("audio",), ("text",)), ("fusion", (FUSION,), ("text", "audio"))],
        ),
    ],
)
def test_of_fewer_modalities_the_phases_train_those_there_are(loaded, recipe, expected):
    plan, data = loaded(recipe)
    assert [(phase.name, phase.trains, phase.before) for phase in plan.phases] == expected
    assert [row["phase"] for row in train_seed(plan, data, 0, CPU).phases] == [name for name, _, _ in expected]


def changed(tree, change):
    change(tree["recipes"]["kdc"])
    return Params(tree)


def without(*names):
    return lambda recipe: recipe.update(
        phases={name: phase for name, phase in recipe["phases"].items() if name not in names}
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without("teacher"),
            r"recipes\.kdc\.phases: no phase trains text; each of text, audio, visual, fusion needs one",
        ),
        (without("students", "fusion"), "no phase trains audio, visual, fusion"),
        (lambda recipe: recipe.update(phases={}), r"recipes\.kdc\.phases: .*at least 1 item"),
        (
            lambda recipe: recipe.update(phases=dict(reversed(recipe["phases"].items()))),
            r"the last phase, teacher, trains text; it must train the fusion",
        ),
        (
            lambda recipe: recipe["phases"]["teacher"].update(trains=["txt"]),
            r"recipes\.kdc\.phases\.teacher\.trains: .*no branch 'txt'; did you mean 'text'",
        ),
        (lambda recipe: recipe["phases"]["teacher"].update(trains=["text", "text"]), "a branch is named twice"),
        (lambda recipe: recipe["phases"]["teacher"].update(trains=[]), r"recipes\.kdc\.phases\.teacher\.trains"),
        (
            lambda recipe: recipe["phases"]["teacher"].update(epoch=3),
            r"unknown key recipes\.kdc\.phases\.teacher\.epoch; did you mean 'epochs'",
        ),
        (lambda recipe: recipe["phases"].update({"The end": {"trains": ["fusion"]}}), "a phase is named 'The end'"),
        (lambda recipe: recipe["phases"]["students"].update(losses={}), "at least one loss is needed"),
        (
            lambda recipe: recipe["phases"]["students"].update(losses={"distilation": {}}),
            "'distilation'.*did you mean 'distillation'",
        ),
    ],
)
def test_stages_that_cannot_be_are_refused(staged, change, words):
    with pytest.raises(BadSettings, match=words):
        resolve(changed(staged, change), "kdc")


@pytest.mark.parametrize(
    ("recipe", "change", "words"),
    [
        (
            "kdc@audio-visual",
            lambda recipe: None,
            (
                r"phases\.students: audio, with nothing trained before: losses\.distillation\.teacher 'text' needs to"
                r" be one of"
            ),
        ),
        (
            "kdc",
            lambda recipe: recipe.update(
                phases={name: recipe["phases"][name] for name in ("students", "teacher", "fusion")}
            ),
            r"kdc\.phases\.students: audio, with nothing trained before: losses\.distillation\.teacher 'text'",
        ),
        (
            "kdc",
            lambda recipe: recipe["phases"]["teacher"].update(losses={**CE, "distillation": {}}),
            r"kdc\.phases\.teacher: text, with nothing trained before",
        ),
        (
            "kdc",
            lambda recipe: recipe.update(model="context_gru"),
            "context_gru names no weights that belong only to text",
        ),
    ],
)
def test_students_without_their_teacher_are_refused_before_anything_is_trained(
    make_shards, staged, tmp_path, recipe, change, words
):
    with pytest.raises(BadSettings, match=words):
        train(resolve(changed(staged, change), recipe), make_shards(), RUN, runs=tmp_path / "runs")
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]


def test_a_model_that_is_trained_at_once_is_not_built_for_a_check(loaded, monkeypatch):
    plan, data = loaded("all")
    monkeypatch.setattr(type(plan), "build", lambda self, *more: pytest.fail("built"))
    phases.check(plan, data.train, data.classes)


def test_a_pretraining_has_no_phases(staged):
    staged["recipes"]["second"] = {**staged["recipes"]["kdc"], "pretraining": {"dataset": "first", "recipe": "kdc"}}
    with pytest.raises(BadSettings, match=r"second\.pretraining\.recipe: kdc is trained in phases"):
        resolve(Params(staged), "second")


def test_the_losses_of_every_phase_are_among_the_settings_that_decide(staged):
    before = resolve(Params(staged), "kdc").settings()
    staged["losses"]["distillation"] = {"kind": "hinton"}
    after = resolve(Params(staged), "kdc").settings()
    assert (
        before["phases"]["students"]["losses"]["distillation"]["kind"],
        after["phases"]["students"]["losses"]["distillation"]["kind"],
    ) == ("dist", "hinton")
    assert before["phases"]["teacher"]["losses"]["cross_entropy"]["label_smoothing"] == 0.1
    assert before["losses"]["cross_entropy"]["label_smoothing"] == 0.0


@pytest.mark.parametrize(
    "recipe",
    [
        "kdc+supcon",
        "kdc+idcl",
        "kdc+at_once+idcl",
        "kdc+dclf@text",
        "kdc+dclf",
        "kdc+at_once+dclf@text",
        "kdc+at_once@audio-visual",
    ],
)
def test_frameworks_and_further_losses_go_over_it_in_phases_and_at_once(loaded, staged, recipe):
    staged["recipes"]["kdc"]["epochs"] = 1
    plan, data = loaded(recipe)
    phases.check(plan, data.train, data.classes)
    trained = train_seed(plan, data, 0, CPU)
    assert len(trained.phases) == (0 if "at_once" in recipe else 2 if "@text" in recipe else 3)
    terms = {name for row in trained.history for name in row if name.startswith("loss_")}
    wanted = {"supcon": "loss_supcon", "idcl": "loss_inter_dialogue", "dclf": "loss_context_aware"}
    assert terms >= {term for addition, term in wanted.items() if addition in recipe}


def test_of_a_framework_the_heads_are_trained_with_their_branch_and_the_rest_with_the_fusion(loaded):
    plan, data = loaded("kdc+dclf")
    model = plan.build(data.dims, 3)
    enter_training(model, ("audio",))
    assert {key for key, weight in model.named_parameters() if weight.requires_grad} == {
        key for key, _ in model.named_parameters() if key.startswith(("heads.audio.", "model.branches.audio."))
    }
    enter_training(model, (FUSION,))
    assert model.decoder.weight.requires_grad
    assert not model.heads["audio"].weight.requires_grad


def test_unlabelled_batches_cost_nothing_in_any_phase(loaded):
    plan, data = loaded()
    batch = collate(data.train, torch.arange(4))
    batch = replace(batch, labels=torch.full_like(batch.labels, -1))
    for phase in plan.phases:
        training = _Training(phase, plan.build(data.dims, 3), data.train, data.classes, 0, CPU)
        terms_L = training.step(batch, 1)
        assert terms_L[0] == 0.0
        assert terms_L.isfinite().all()


def test_the_cross_entropy_of_a_phase_is_called_for_each_of_its_branches(loaded, monkeypatch):
    plan, data = loaded()
    calls, forward = Counter(), CrossEntropy.forward

    def noted(self, output, batch, **state):
        calls[len(output.unimodal)] += 1
        return forward(self, output, batch, **state)

    monkeypatch.setattr(CrossEntropy, "forward", noted)
    for phase in plan.phases:
        _Training(phase, plan.build(data.dims, 3), data.train, data.classes, 0, CPU).step(
            collate(data.train, torch.arange(4)), 1
        )
    assert calls == Counter({1: 1, 2: 2, 3: 1})
