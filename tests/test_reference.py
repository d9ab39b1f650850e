from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel

from unlearning.errors import ConfigError
from unlearning.head.token_losses import token_losses
from unlearning.models.adapter import add_lora, merge_adapter
from unlearning.models.decoder import decode, output_head
from unlearning.models.load import disable_dropout
from unlearning.module import UnlearningModule
from unlearning.objective import Objective
from unlearning.reference import AdapterOff, Cached, Copy, Reference, build_reference
from unlearning.reference.cached import sent
from unlearning.reference.choose import check_split, choose_reference
from unlearning.reference.hidden_store import HiddenStore
from unlearning.types import TokenizedExample

FULL, LORA = ("cached", "copy"), ("adapter_off", "cached", "copy")
CASES = [(False, mode) for mode in FULL] + [(True, mode) for mode in LORA]
BOTH = {"forget", "retain"}


@pytest.fixture
def data(make_data):
    data = make_data()
    data.setup()
    return data


def policy_of(model, lora: bool):
    disable_dropout(model)
    return add_lora(model, r=2, dropout=0.0) if lora else model


def built(mode: str, policy, data, **settings) -> Reference:
    reference = build_reference(mode, policy, **settings)
    reference.prepare(data.sequences, data.pad_token_id)
    return reference


def train_a_little(policy, data) -> None:
    """A few steps of NLL that move every trainable weight."""
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.05)
    for number in range(3):
        batch = data.batch_at(number)
        hidden = decode(policy, batch.rows).flatten(0, 1)
        answers = batch.answers["retain"]
        head = output_head(policy)
        nll, _, _ = token_losses(hidden[answers.loss_index], head, answers.targets)
        nll.mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("architecture", ["opt", "llama"])
@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("roles", [{"retain"}, BOTH], ids=["retain", "both"])
def test_all_references_agree(make_model, make_data, architecture, layout, lora, roles):
    policy = policy_of(make_model(architecture), lora)
    data = make_data(layout=layout)
    data.setup()
    references = [built(mode, policy, data) for mode in (LORA if lora else FULL)]
    train_a_little(policy, data)  # agreement that survives training, not only at the start
    for number in range(5):
        batch = data.batch_at(number)
        found = [reference.hidden(batch, roles) for reference in references]
        for role in roles:
            assert len(found[0][role]) == len(batch.answers[role].targets)
            for other in found[1:]:
                torch.testing.assert_close(other[role], found[0][role], atol=1e-5, rtol=1e-5)
    for reference in references[1:]:
        assert torch.equal(reference.head()[0], references[0].head()[0])


@pytest.mark.parametrize(("lora", "mode"), CASES)
def test_training_leaves_the_reference_as_it_was(model, data, lora, mode):
    policy = policy_of(model, lora)
    reference = built(mode, policy, data)
    batch = data.batch_at(0)
    before = {role: hidden.clone() for role, hidden in reference.hidden(batch, BOTH).items()}
    head = reference.head()[0].clone()
    was = {name: p.detach().clone() for name, p in policy.named_parameters() if p.requires_grad}
    train_a_little(policy, data)
    # LoRA's A gets its gradient through B, so even it has moved after the second step.
    moved = [n for n, p in policy.named_parameters() if n in was and not torch.equal(p, was[n])]
    assert len(moved) > 0.9 * len(was)
    after = reference.hidden(batch, BOTH)
    assert all(torch.equal(before[role], after[role]) for role in BOTH)
    assert torch.equal(reference.head()[0], head)


@pytest.mark.parametrize(("lora", "mode"), CASES)
def test_the_reference_gives_no_gradient(model, data, lora, mode):
    reference = built(mode, policy_of(model, lora), data)
    hidden = reference.hidden(data.batch_at(0), {"retain"})["retain"]
    weight, bias, _ = reference.head()
    assert not hidden.requires_grad and not weight.requires_grad and bias is None


def test_a_copy_is_another_model(model, data):
    reference = built("copy", model, data)
    ours = {p.data_ptr() for p in model.parameters()}
    (theirs,) = reference._model
    assert theirs is not model
    assert not ours & {p.data_ptr() for p in theirs.parameters()}
    assert not any(p.requires_grad for p in theirs.parameters())


def test_a_cached_head_is_not_the_one_that_is_trained(model, data):
    reference = built("cached", model, data)
    assert reference.head()[0].data_ptr() != model.lm_head.weight.data_ptr()


def test_a_reference_leaves_the_policys_modes_alone(model, data):
    model.train()
    for mode in FULL:
        built(mode, model, data).hidden(data.batch_at(0), {"retain"})
        assert all(module.training for module in model.modules())
    policy = add_lora(model, r=2).train()
    built("adapter_off", policy, data).hidden(data.batch_at(0), {"retain"})
    assert all(module.training for module in policy.modules())
    assert all(p.requires_grad == ("lora_" in n) for n, p in policy.named_parameters())


# --- the cache on disk ---------------------------------------------------------------------------


def files(folder) -> set[str]:
    return {path.name for path in (folder / "reference").glob("*.bin")}


def test_the_cache_is_kept_on_disk_and_read_again(model, data, tmp_path, monkeypatch):
    first = built("cached", model, data, cache_dir=tmp_path)
    kept = files(tmp_path)
    assert len(kept) == 2  # forget and retain

    def never(*arguments):
        raise AssertionError("computed again")

    monkeypatch.setattr("unlearning.reference.cached.hidden_states", never)
    second = built("cached", model, data, cache_dir=tmp_path)
    batch = data.batch_at(1)
    for role in BOTH:
        assert torch.equal(first.hidden(batch, BOTH)[role], second.hidden(batch, BOTH)[role])
    assert files(tmp_path) == kept


def test_a_cache_is_never_read_for_something_else(model, data, make_data, tmp_path):
    built("cached", model, data, cache_dir=tmp_path)
    other = copy.deepcopy(model)
    other.model.decoder.layers[0].fc1.bias.data[3] += 1e-3
    built("cached", other, data, cache_dir=tmp_path)
    assert len(files(tmp_path)) == 4  # other weights
    shorter = make_data(max_length=16)
    shorter.setup()
    built("cached", model, shorter, cache_dir=tmp_path)
    assert len(files(tmp_path)) == 6  # other sequences
    built("cached", model, data, cache_dir=tmp_path, dtype=torch.bfloat16)
    assert len(files(tmp_path)) == 8  # another dtype
    with torch.autocast("cpu", torch.bfloat16):
        built("cached", model, data, cache_dir=tmp_path)
    assert len(files(tmp_path)) == 10  # another precision of the forward


def test_a_cache_is_never_read_for_the_same_weights_in_another_configuration(
    make_model, data, tmp_path
):
    model = make_model("llama")
    settings = model.config.to_dict()
    settings["rope_parameters"] = {"rope_type": "default", "rope_theta": 100.0}
    other = type(model)(type(model.config)(**settings))
    other.load_state_dict(model.state_dict())
    batch = data.batch_at(0)
    found = []
    for one in (model, other, copy.deepcopy(model)):
        kept = built("cached", one, data, cache_dir=tmp_path).hidden(batch, BOTH)
        torch.testing.assert_close(kept, built("copy", one, data).hidden(batch, BOTH))
        found.append(kept["retain"])
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert len(files(tmp_path)) == 4  # the third run found those of the first
    adapted = policy_of(model, lora=True)
    train_a_little(adapted, data)
    built("cached", adapted, data, cache_dir=tmp_path)
    for module in adapted.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {name: 2 * scale for name, scale in module.scaling.items()}
    built("cached", adapted, data, cache_dir=tmp_path)
    assert len(files(tmp_path)) == 8


def test_states_in_bf16_are_nearly_the_same(model, data):
    exact, rounded = (
        built("cached", model, data, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    batch = data.batch_at(0)
    ours, theirs = (r.hidden(batch, {"retain"})["retain"] for r in (rounded, exact))
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs, atol=0, rtol=2**-8)


def test_a_store_finds_sequences_by_number():
    store = HiddenStore(torch.arange(12.0).view(6, 2), lengths=[1, 3, 2])
    assert store.rows([2, 0]).tolist() == [[8, 9], [10, 11], [0, 1]]


def test_a_store_has_its_room_on_the_disk_before_it_is_filled(tmp_path):
    """A map that is written to on a full disk ends the process by SIGBUS, without a word."""
    sequence, room = TokenizedExample((1,), tuple(range(5000))), []

    def states():
        room.extend(path.stat().st_blocks * 512 for path in tmp_path.rglob("*.partial"))
        yield 0, torch.ones(5000, 4)

    store = HiddenStore.open_or_build([sequence], states(), 4, torch.float32, tmp_path, "key")
    assert len(room) == 1 and room[0] >= 5000 * 4 * 4
    assert store.rows([0]).eq(1).all()


# --- the choice, and what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("lora", "settings", "expected"),
    [
        (True, {}, AdapterOff),
        (True, {"passes": 0.9}, AdapterOff),
        (True, {"passes": 1.0}, Cached),
        (True, {"passes": 9.0, "cache_bytes": 11, "cache_limit": 10}, AdapterOff),
        (True, {"passes": 9.0, "roles": {"mismatch", "retain"}}, AdapterOff),
        (False, {"cache_bytes": 10, "cache_limit": 10}, Cached),
        (False, {"cache_bytes": 11, "cache_limit": 10}, Copy),
        (False, {"roles": {"mismatch", "retain"}}, Copy),
    ],
)
def test_auto_takes_what_costs_least(model, lora, settings, expected):
    assert type(build_reference("auto", policy_of(model, lora), **settings)) is expected


def test_adapter_off_needs_an_adapter(model):
    with pytest.raises(ConfigError, match="needs a LoRA policy; use cached or copy"):
        build_reference("adapter_off", model)


@pytest.mark.parametrize("steps", [3, 4])
def test_auto_caches_for_an_adapter_what_a_training_passes_once(
    model, make_data, quiet_trainer, steps
):
    """Two pairs a step, of seven: the fourth step comes to the last."""
    data = make_data(batch_size=2)
    module = UnlearningModule(model, lora={"r": 2})
    quiet_trainer(max_steps=steps).fit(module, data)
    assert len(data.sequences["retain"]) == 7
    assert type(module.reference) is (AdapterOff if steps == 3 else Cached)


def test_states_under_a_fresh_adapter_are_kept_as_the_models(model, data, tmp_path):
    """Whatever the adapter begins with: the next seed's run finds them."""
    for policy in (model, add_lora(copy.deepcopy(model), r=2), add_lora(copy.deepcopy(model), r=3)):
        built("cached", policy, data, cache_dir=tmp_path)
    assert len(list((tmp_path / "reference").glob("*.bin"))) == len(data.sequences)


@pytest.mark.parametrize("mode", ["adapter_off", "auto"])
def test_an_adapter_that_was_trained_is_part_of_the_reference(model, data, mode):
    policy = policy_of(model, lora=True)
    train_a_little(policy, data)
    with pytest.raises(ConfigError, match=r"trained already.*Merge it \(merge_adapter\)"):
        build_reference(mode, policy)
    # As the error says: merged, and with a new adapter, "off" is the fine-tuned model.
    batch = data.batch_at(0)
    before = Copy(policy).hidden(batch, {"retain"})["retain"]
    fresh = add_lora(merge_adapter(policy), r=2)
    after = build_reference(mode, fresh).hidden(batch, {"retain"})["retain"]
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_weights_trained_beside_the_adapter_are_refused(model):
    policy = policy_of(model, lora=True)
    assert isinstance(policy, PeftModel)
    policy.get_base_model().model.decoder.final_layer_norm.requires_grad_(True)
    with pytest.raises(
        ConfigError, match=r"would change with .*final_layer_norm\.weight and 1 more"
    ):
        build_reference("adapter_off", policy)


def test_cached_cannot_serve_mismatch_answers(model):
    with pytest.raises(ConfigError, match="cannot serve a term on mismatch or alternate"):
        build_reference("cached", model, roles={"mismatch"})


def test_an_unknown_mode_is_refused(model):
    with pytest.raises(ConfigError, match=r"Unknown reference 'copied'; choose auto, adapter_off"):
        build_reference("copied", model)


def test_a_split_policy_gets_no_second_model(model):
    """Whatever the cache would take; where it cannot serve, there is an error."""
    settings = {"sharded": True, "cache_bytes": 1 << 50}
    assert type(build_reference("auto", model, **settings)) is Cached
    for mode, roles in (("copy", {"retain"}), ("auto", {"retain", "mismatch"})):
        with pytest.raises(ConfigError, match="adapter_off with LoRA"):
            build_reference(mode, model, roles=roles, **settings)
    policy = add_lora(model, r=2)
    assert type(build_reference("auto", policy, passes=9.0, **settings)) is AdapterOff
    # What one process and several take is the same, so that either can go on from the other.
    settings["cache_bytes"] = 10
    assert type(build_reference("auto", policy, passes=9.0, **settings)) is Cached


def test_a_split_policy_is_told_what_to_take_where_states_cannot_be_cached(model):
    def on(role):
        return Objective({"kl": {"loss": "unlearning.losses.kl_to_reference", "role": role}})

    with pytest.raises(ConfigError, match=r"mismatch answers .* Either train an adapter"):
        choose_reference("auto", model, None, on("mismatch"), sharded=True)
    for role in ("forget", "retain"):
        check_split(on(role), adapter=False, other=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_fetches_cached_states_without_a_wait():
    states = torch.randn(200, 30)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = sent(states, torch.device("cuda", 0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found.is_cuda and found.cpu().equal(states)


def test_a_cpu_needs_no_pinned_memory(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pytest.fail("pinned"))
    states = torch.randn(2, 3)
    assert sent(states, torch.device("cpu")) is states
