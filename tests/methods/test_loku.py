"""LoKU's adapter, held to Fisher information and a weighted approximation computed naively."""

from __future__ import annotations

import copy
import sys
import types

import pytest
import torch
from hydra import compose, initialize_config_dir
from naive import gradients, relative_error, token_kls, token_nlls
from peft import PeftModel
from run.small import checked
from test_module import SGD, Recorder, pairs, trained_weights

from unlearning.errors import ConfigError
from unlearning.methods.loku import LOKU_TERMS, LoKU, base_weight, single_answers, weighted_factors
from unlearning.models.load import disable_dropout
from unlearning.quantities import token_quantity
from unlearning.reference import Cached, Copy
from unlearning.run.config.overrides import config_folder

R, ALPHA = 3, 12
LORA = {"r": R, "alpha": ALPHA, "dropout": 0.0, "target_modules": "all-linear"}
SETTINGS = {"lora": LORA, "schedule": "constant", **SGD}
KL = {"loss": "unlearning.losses.kl_to_reference", "role": "retain"}


@token_quantity()
def hinge(logits_NV, targets_N):
    """max(0, 1 + p_y - max_{v != y} p_v)."""
    p = logits_NV.softmax(-1)
    own = p.gather(-1, targets_N[:, None])
    others = p.scatter(-1, targets_N[:, None], -1.0).amax(-1)
    return (1 + own[:, 0] - others).clamp(min=0)


@pytest.fixture(autouse=True)
def ihl(monkeypatch):
    """Stands in for the inverted hinge, where the package has none."""
    module = types.ModuleType("unlearning.methods.ihl")
    module.inverted_hinge = hinge
    monkeypatch.setitem(sys.modules, "unlearning.methods.ihl", module)


@pytest.fixture
def make_loku(make_model):
    def build(architecture="opt", **settings):
        return LoKU(make_model(architecture), **{**SETTINGS, **settings})

    return build


def started(module, data, number=3):
    data.setup()
    module.initialise(data.batch_at(n) for n in range(number))
    return module


def naive_fisher(model, data, role, number, names):
    """The mean square of each sequence's gradient, one sequence at a time."""
    total, count = {n: 0.0 for n in names}, 0
    for n in range(number):
        for pair in pairs(data, data.batch_at(n), role):
            found = gradients(token_nlls(model, pair).mean(), model)
            total = {name: total[name] + found[name] ** 2 for name in names}
            count += 1
    return {name: value / count for name, value in total.items()}


def plain_name(layer: str) -> str:
    return layer.removeprefix("base_model.model.") + ".weight"


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("architecture", ["opt", "gpt2"])  # GPT-2's weights are transposed
def test_the_adapter_is_the_naive_one(make_loku, make_model, make_data, layout, architecture):
    naive = make_model(architecture).double()
    disable_dropout(naive)
    module, data = make_loku(architecture).double(), make_data(layout=layout)
    started(module, data)
    names = [plain_name(name) for name in module._layers()]
    fisher = [naive_fisher(naive, data, role, 3, names) for role in ("forget", "retain")]
    weights, scale = dict(naive.named_parameters()), ALPHA / R
    for layer_name, layer in module._layers().items():
        name = plain_name(layer_name)
        turn = (lambda w: w.T) if architecture == "gpt2" else (lambda w: w)
        weight = turn(weights[name].detach())
        rows = (turn(fisher[0][name]) / (turn(fisher[1][name]) + 1e-5)).sum(1).sqrt()
        u, s, v = torch.linalg.svd(torch.diag(rows) @ weight, full_matrices=False)
        nearest = torch.diag(1 / rows) @ u[:, :R] @ torch.diag(s[:R]) @ v[:R]
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        size = weight.abs().max()
        assert (scale * b @ a - nearest).abs().max() < 1e-7 * size, name
        assert (base_weight(layer) - (weight - nearest)).abs().max() < 1e-7 * size, name
        balance = torch.diag((s[:R] / scale).sqrt())  # the paper's split of the singular values
        assert (a.T @ a - v[:R].T @ balance**2 @ v[:R]).abs().max() < 1e-7 * a.pow(2).max(), name


def test_fisher_information_is_the_naive_one(make_loku, make_model, make_data):
    naive = make_model().double()
    disable_dropout(naive)
    module, data = make_loku().double(), make_data()
    data.setup()
    forget, retain = module.fisher(data.batch_at(n) for n in range(2))
    names = [plain_name(name) for name in module._layers()]
    for ours, role in ((forget, "forget"), (retain, "retain")):
        theirs = naive_fisher(naive, data, role, 2, names)
        assert relative_error({plain_name(n): f for n, f in ours.items()}, theirs) < 1e-10
    assert not any(p.requires_grad for n, p in module.policy.named_parameters() if "lora" not in n)


def test_the_released_fisher_depends_on_the_batch_size(make_loku, make_data):
    """It squares the gradient of a batch's mean; the mean of squares is the same in any batches."""
    found = []
    for size, number in ((1, 4), (4, 1)):
        module, data = make_loku().double(), make_data(batch_size=size)
        data.setup()
        found.append(module.fisher(data.batch_at(n) for n in range(number))[0])
    assert relative_error(*found) < 1e-10
    (batch,) = [data.batch_at(0)]
    weights = {n: layer.get_base_layer().weight for n, layer in module._layers().items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    mean = module._sequence_losses(batch, "forget").mean()
    released = {n: torch.autograd.grad(mean, w, retain_graph=True)[0] ** 2
                for n, w in weights.items()}  # fmt: skip
    assert relative_error(released, found[0]) > 0.1


def test_answers_by_themselves_give_the_same(make_loku, make_data):
    """As the training has it: each answer alone, without the mismatch answers to its prompt."""
    module, data = make_loku().double(), make_data(batch_size=2)
    data.setup()
    together = module.fisher(data.batch_at(n) for n in range(2))
    alone = list(single_answers(data, 4))
    assert len(alone) == 4 + 4 and all(len(batch.answers) == 1 for batch in alone)
    assert len(list(single_answers(data, 3))) == 3 + 3
    for ours, theirs in zip(module.fisher(alone), together, strict=True):
        assert relative_error(ours, theirs) < 1e-10


# --- the model is what it was ---------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
def test_at_step_0_the_policy_is_the_model_before(make_loku, make_model, make_data, architecture):
    before, ids = make_model(architecture).eval(), torch.arange(20)[None]
    module = started(make_loku(architecture), make_data())
    with torch.no_grad():
        expected, found = before(ids).logits, module.policy.eval()(ids).logits
        with module.policy.disable_adapter():
            without = module.policy(ids).logits
    scale = expected.abs().max()
    assert (found - expected).abs().max() < 2e-5 * scale
    assert (without - expected).abs().max() > 1e-2 * scale, "nothing was taken out"


def test_the_approximation_is_the_nearest_of_its_rank():
    """No other matrix of that rank is nearer in the weighted norm, and none is in the plain one."""
    generator = torch.manual_seed(0)
    weight, rows = torch.randn(9, 7, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    a, b = weighted_factors(weight, rows, 2, scale=4.0)
    assert a.shape == (2, 7) and b.shape == (9, 2)

    def distance(other):
        return (rows[:, None] * (weight - other)).norm()

    best = distance(4.0 * b @ a)
    tail = torch.linalg.svdvals(rows[:, None] * weight)[2:]
    assert best.item() == pytest.approx(tail.norm().item(), rel=1e-12)
    for _ in range(20):
        moved = [f + 0.01 * torch.randn(f.shape, generator=generator).double() for f in (a, b)]
        assert distance(4.0 * moved[1] @ moved[0]) > best


@pytest.mark.parametrize("rows", [[0.0, 1.0, 2.0], [1e-12, 1e-12, 1e-12], [0.0, 0.0, 0.0]])
def test_rows_without_importance_give_no_infinite_factor(rows):
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for factor in weighted_factors(weight, torch.tensor(rows), 2):
        assert factor.isfinite().all()


def test_importance_is_relative():
    """A row that retain answers need as much is not taken out, the forget answers' own is."""
    weight = torch.eye(3)
    a, b = weighted_factors(weight, torch.tensor([0.1, 3.0, 0.2]), 1)
    assert (b @ a).abs().diagonal().argmax() == 1


# --- the reference --------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "kind"), [("auto", Cached), ("cached", Cached), ("copy", Copy)])
def test_the_reference_is_the_model_before(
    make_loku, make_model, make_data, quiet_trainer, mode, kind
):
    module = make_loku(terms={**LOKU_TERMS, "retain": KL}, reference=mode)
    before, recorder, data = make_model().eval(), Recorder(), make_data()
    quiet_trainer(max_steps=3, callbacks=[recorder]).fit(module, data)
    assert isinstance(module.reference, kind)
    first, *_, last = [each["train/retain"] for each in recorder.logged]
    assert abs(first) < 1e-6 < last
    batch = data.batch_at(2)
    found = module.loss(batch).terms["retain"].item()
    naive = [token_kls(module.policy, before, p).mean() for p in pairs(data, batch, "retain")]
    assert found == pytest.approx(torch.stack(naive).mean().item(), rel=1e-3, abs=1e-6)


def test_auto_takes_a_copy_where_nothing_can_be_cached(make_loku, make_data):
    module, data = make_loku(terms={**LOKU_TERMS, "retain": KL}), make_data()
    started(module, data)
    assert isinstance(module.reference, Copy)
    assert abs(module.loss(data.batch_at(0)).terms["retain"].item()) < 1e-6


def test_the_adapter_switched_off_is_refused(make_loku):
    with pytest.raises(ConfigError, match="reference=adapter_off is another model"):
        make_loku(reference="adapter_off")


# --- a training -----------------------------------------------------------------------------------


def test_a_training_moves_the_adapter_alone_and_ends_merged(make_loku, make_data, quiet_trainer):
    module = make_loku(learning_rate=1e-2)
    kept = {}

    class Look(Recorder):
        def on_train_batch_end(self, trainer, pl_module, *args) -> None:
            super().on_train_batch_end(trainer, pl_module, *args)
            named = pl_module.policy.named_parameters()
            kept[trainer.global_step] = {n: p.detach().clone() for n, p in named}

    look = Look()
    quiet_trainer(max_steps=4, callbacks=[look]).fit(module, make_data(batch_size=5))
    changed = {n for n, w in kept[1].items() if not torch.equal(w, kept[4][n])}
    assert changed and all("lora_" in name for name in changed)
    assert look.logged[-1]["train/forget"] < look.logged[0]["train/forget"]
    assert not isinstance(module.policy, PeftModel)  # an adapter would belong to no known model
    last, name = kept[4], "model.decoder.layers.0.fc1"
    inner = f"base_model.model.{name}"
    product = last[f"{inner}.lora_B.default.weight"] @ last[f"{inner}.lora_A.default.weight"]
    whole = last[f"{inner}.base_layer.weight"] + ALPHA / R * product
    torch.testing.assert_close(dict(module.policy.named_parameters())[f"{name}.weight"], whole)
    with pytest.raises(ConfigError, match="build the module anew"):
        quiet_trainer(max_steps=4).fit(module, make_data())


def test_accumulation_is_a_larger_batch(make_loku, make_data, quiet_trainer):
    found = []
    for size, accumulated in ((2, 1), (1, 2)):
        module = make_loku(fisher_examples=6)
        trainer = quiet_trainer(max_steps=2, accumulate_grad_batches=accumulated)
        trainer.fit(module, make_data(batch_size=size))
        found.append(trained_weights(module.policy))
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=1e-3, atol=1e-4)


class Save(Recorder):
    """Saves within the training, as a callback does."""

    def __init__(self, path, step) -> None:
        super().__init__()
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = self.step < trainer.max_steps


def test_a_resumed_training_ends_bit_by_bit_as_one_left_alone(
    make_loku, make_data, quiet_trainer, tmp_path
):
    path = tmp_path / "loku.ckpt"
    whole = make_loku(learning_rate=1e-2)
    quiet_trainer(max_steps=6).fit(whole, make_data())
    quiet_trainer(max_steps=6, callbacks=[Save(path, 3)]).fit(
        make_loku(learning_rate=1e-2), make_data()
    )
    stored = torch.load(path, weights_only=True)
    assert all("lora_" in name for name in stored["state_dict"])
    resumed = make_loku(learning_rate=1e-2)
    measured = []
    resumed.fisher = measured.append  # what was taken out is known, and is not measured again
    quiet_trainer(max_steps=6).fit(resumed, make_data(), ckpt_path=path)
    assert not measured
    theirs = trained_weights(resumed.policy)
    for name, weight in trained_weights(whole.policy).items():
        assert torch.equal(theirs[name], weight), name


def test_a_checkpoint_is_loaded_onto_the_model_before(
    make_loku, make_model, make_data, quiet_trainer, tmp_path
):
    path, module = tmp_path / "loku.ckpt", make_loku(learning_rate=1e-2)
    quiet_trainer(max_steps=2, callbacks=[Save(path, 2)]).fit(module, make_data())
    loaded = LoKU.load_from_checkpoint(path, model=make_model(), **SETTINGS)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        found, expected = (m.policy.eval()(ids).logits for m in (loaded, module))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora": None}, "expected kind=lora and dropout=0"),
        ({"lora": {"r": 2}}, "expected kind=lora and dropout=0"),
        ({"lora": {**LORA, "kind": "adalora"}}, "expected kind=lora"),
        ({"lora": {**LORA, "r": 33}}, "has rank 32 at most, below lora's r=33"),
        ({"floor": 0.0}, "floor=0.0 must be above 0"),
        ({"fisher_examples": 0}, "fisher_examples=0 at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make_loku, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_loku(**settings)


def test_what_cannot_be_started_is_refused(make_loku, make_data, quiet_trainer):
    data = make_data()
    data.setup()
    with pytest.raises(ConfigError, match="must be in fp32"):
        quiet_trainer(max_steps=1, precision="bf16-true").fit(make_loku(), data)
    with pytest.raises(ConfigError, match=r"call initialise\(batches\) first"):
        quiet_trainer(max_steps=1).fit(make_loku(), [data.batch_at(0)])
    with pytest.raises(ConfigError, match=r"have \{'forget': 2, 'retain': 0\}"):
        make_loku().initialise([data.batch_at(0).only({"forget"})])
    module = started(make_loku(), data, 1)
    with pytest.raises(ConfigError, match="started already"):
        module.initialise([data.batch_at(0)])
    with pytest.raises(ConfigError, match="started already"):
        module.on_load_checkpoint({"loku": copy.copy(module.initial)})


def test_the_configuration():
    def composed(*words):
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            return compose("config", overrides=["experiment=demo", "method=loku", *words])

    assert any("LoKU: 1 x forget + 1 x retain" in line for line in checked(composed()))
    assert composed().model.lora.r == 32
