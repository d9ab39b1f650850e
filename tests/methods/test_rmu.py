"""RMU held to a naive computation from all hidden states."""

from __future__ import annotations

import pytest
import torch
from naive import gradients, mean_of, relative_error

from unlearning.errors import ConfigError
from unlearning.methods.rmu import RMU, RMU_TERMS, direction
from unlearning.models.decoder import frozen_copy
from unlearning.module import UnlearningModule

LAYER, SCALE, SEED = 1, 2.0, 3
SETTINGS = {"layer": LAYER, "scale": SCALE, "seed": SEED, "trained": [r"\."]}


def states(model, pair, layer: int = LAYER) -> torch.Tensor:
    """[answer tokens, D] after a block, at the positions that predict the answer's tokens."""
    prompt, answer = pair
    ids = torch.tensor([[*prompt, *answer]])
    kept = []
    block = model.get_decoder().layers[layer]
    hook = block.register_forward_hook(
        lambda module, args, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    model(input_ids=ids, use_cache=False)
    hook.remove()
    return kept[0][0, len(prompt) - 1 : -1]


def pairs(data, batch, role):
    return [
        (data.sequences[role][n].prompt_ids, data.sequences[role][n].response_ids)
        for n in batch.answers[role].examples
    ]


def test_what_is_frozen_above_the_layer_stays_so_when_the_adapter_is_the_reference(
    make_model, make_data
):
    module = RMU(make_model(), layer=0, lora={"r": 2, "dropout": 0.0}, reference="adapter_off")
    data = make_data(mismatch_per_prompt=0)
    data.setup()

    def trained():
        return {name for name, p in module.policy.named_parameters() if p.requires_grad}

    before = trained()
    assert before and not any("layers.1." in name for name in before)
    module.loss(data.batch_at(0))
    assert trained() == before


def test_retain_states_are_held_to_those_without_the_adapter(make_model, make_data):
    policy = make_model().double()
    base = frozen_copy(policy)
    lora = {"r": 2, "dropout": 0.0}
    module = RMU(policy, layer=0, lora=lora, reference="adapter_off").double()
    data = make_data(mismatch_per_prompt=0)
    data.setup()
    batch = data.batch_at(0)
    assert module.loss(batch).terms["retain"].item() == 0
    for parameter in module.policy.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1)
    expected = mean_of(
        (states(module.policy, pair, 0) - states(base, pair, 0)).pow(2).mean()
        for pair in pairs(data, batch, "retain")
    ).item()
    assert expected > 1e-6
    assert module.loss(batch).terms["retain"].item() == pytest.approx(expected, rel=1e-9)


@pytest.fixture
def moved(make_model, make_data):
    """An RMU module in fp64 whose policy has moved away from its reference, and its data."""
    module = RMU(make_model(), reference="copy", **SETTINGS).double()
    module.build_reference()
    reference = frozen_copy(module.policy)
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.mul_(1.1)
    data = make_data()
    data.setup()
    return module, reference, data


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one(moved, layout):
    module, reference, data = moved
    data.layout = layout
    batch = data.batch_at(1)
    found = module.loss(batch)
    target = SCALE * direction(32, SEED)
    steer = mean_of(
        (states(module.policy, pair) - target).pow(2).mean()
        for pair in pairs(data, batch, "forget")
    )
    hold = mean_of(
        (states(module.policy, pair) - states(reference, pair).detach()).pow(2).mean()
        for pair in pairs(data, batch, "retain")
    )
    assert found.terms["forget"].item() == pytest.approx(steer.item(), rel=1e-12)
    assert found.terms["retain"].item() == pytest.approx(hold.item(), rel=1e-12)
    expected = gradients(steer + 1200 * hold, module.policy)
    assert relative_error(gradients(found.total, module.policy), expected) < 1e-11


def test_nothing_above_the_layer_takes_a_gradient(make_model, make_data):
    module = RMU(make_model(), reference="copy", **{**SETTINGS, "layer": 0})
    data = make_data()
    data.setup()
    seen = []
    above = module.policy.get_decoder().layers[1]
    above.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((*args, *kwargs.values())[0].requires_grad),
        with_kwargs=True,
    )
    module.loss(data.batch_at(0)).total.backward()
    assert seen[0] is False  # what is above keeps no activations; the second is the reference's
    with_gradient = {n for n, p in module.policy.named_parameters() if p.grad is not None}
    assert any("layers.0" in name for name in with_gradient)
    assert not any("layers.1" in name or "final_layer_norm" in name for name in with_gradient
                   if "layers.0" not in name)  # fmt: skip


def test_the_vector_is_a_unit_one_and_the_seeds_own():
    assert direction(16, 0).norm().item() == pytest.approx(1.0, abs=1e-12)
    assert bool((direction(16, 0) >= 0).all())
    assert torch.equal(direction(16, 0), direction(16, 0))
    assert not torch.allclose(direction(16, 0), direction(16, 1))


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
def test_three_blocks_outputs_are_trained_and_nothing_else_moves(
    make_model, make_data, quiet_trainer, architecture
):
    module = RMU(make_model(architecture), layer=1, scale=2.0, learning_rate=1e-3)
    names = {n for n, p in module.policy.named_parameters() if p.requires_grad}
    assert 2 <= len(names) <= 4 and len(names) % 2 == 0  # of two blocks, with biases or without
    start = {n: p.detach().clone() for n, p in module.policy.named_parameters()}
    quiet_trainer(max_steps=2).fit(module, make_data())
    changed = {n for n, p in module.policy.named_parameters() if not torch.equal(p, start[n])}
    assert changed == names


def test_forget_states_go_towards_the_vector_and_retain_states_stay(
    make_model, make_data, quiet_trainer
):
    terms = {name: {**term, "weight": 1.0} for name, term in RMU_TERMS.items()}
    settings = {"learning_rate": 3e-2, "schedule": "constant", "trained": ["blocks"]}
    module = RMU(make_model(), layer=1, scale=2.0, terms=terms, **settings)
    data = make_data()
    data.setup()
    module.build_reference()
    before = module.loss(data.batch_at(0)).terms["forget"].item()
    quiet_trainer(max_steps=60).fit(module, data)
    after = module.loss(data.batch_at(0)).terms
    assert after["forget"].item() < 0.1 * before
    assert after["retain"].item() < 0.05 * before


def test_a_reference_that_keeps_no_inner_states_is_refused(make_model, make_data, quiet_trainer):
    module = RMU(make_model(), layer=1, reference="cached")
    with pytest.raises(ConfigError, match="none of inner layers"):
        quiet_trainer(max_steps=1).fit(module, make_data())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 2}, "must be one of the 2 decoder blocks"),
        ({"layer": 1, "scale": 0}, "scale=0 must be above 0"),
        ({"layer": 1, "trained": ["no such weight"]}, "matches no weight"),
        ({"layer": 1, "trained": ["("]}, "no regular expression"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(make_model, settings, message):
    with pytest.raises(ConfigError, match=message):
        RMU(make_model(), **settings)


@pytest.mark.parametrize("layer", ["model.decoder.layers.1.fc2", "model.decoder", "lm_head"])
def test_a_layer_without_hidden_states_is_refused(make_model, layer):
    """OPT's fc2 takes rows and positions as one; a decoder's output is no tensor."""
    terms = {"forget": {**RMU_TERMS["forget"], "layer": layer}}
    with pytest.raises(ConfigError, match=r"hidden states are \[R, L, D\]"):
        UnlearningModule(make_model(), terms=terms)


def test_weights_above_the_layer_are_not_trained(make_model):
    """They take no gradient: DDP would wait for it, and weight decay would move them."""
    for settings in ({"lora": {"r": 2, "dropout": 0.0}}, {"trained": ["blocks"]}):
        module = RMU(make_model(), layer=0, reference="copy", **settings)
        trained = [n for n, p in module.policy.named_parameters() if p.requires_grad]
        assert trained and all("layers.0." in name for name in trained)


def test_a_module_with_an_adapter_leaves_the_choice_to_it(make_model):
    module = RMU(make_model(), layer=1, lora={"r": 2, "dropout": 0.0})
    trained = [n for n, p in module.policy.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    with pytest.raises(ConfigError, match="for full fine-tuning"):
        UnlearningModule(make_model(), lora={"r": 2, "dropout": 0.0}, trained=["layers"])
