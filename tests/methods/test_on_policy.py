"""On-policy continuations, held to a training written out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from naive import forget_loss, gradients, mismatch_loss, retain_loss
from test_module import SGD, pairs, trained_weights

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.errors import ConfigError
from unlearning.generation.sampling import Sampling, drawn_tokens
from unlearning.methods.on_policy import OnPolicy
from unlearning.models.decoder import frozen_copy
from unlearning.models.load import disable_dropout
from unlearning.reference import AdapterOff, Copy

NEW, EVERY = 5, 2


def sampled_by_hand(model, prompt, place: int, end: int) -> tuple[int, ...]:
    """One unpadded prompt, everything computed again for each token."""
    draws, said = Sampling(seed=7).draws([place], NEW)[0], []
    for draw in draws:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *said]])).logits[:, -1]
        said.append(int(drawn_tokens(logits, draw[None])))
        if said[-1] == end:
            break
    return tuple(said)


def test_a_training_is_the_one_by_hand(make_model, make_data, quiet_trainer):
    """Two blocks of two steps: those of a block are sampled by the policy at its start."""
    policy = make_model("opt").double()
    naive = copy.deepcopy(policy)
    disable_dropout(naive)
    start, reference = trained_weights(naive), frozen_copy(naive)
    data = make_data(retain_batch_size=3)
    module = OnPolicy(
        policy, refresh_every=EVERY, max_new_tokens=NEW, sample_seed=7, schedule="constant", **SGD
    ).double()
    quiet_trainer(max_steps=4, precision="64-true").fit(module, data)
    assert isinstance(module.reference, Copy)
    end = data.tokenizer.eos_token_id
    for number in range(4):
        if number % EVERY == 0:
            sampler = copy.deepcopy(naive)
        batch = data.batch_at(number)
        retain = []
        for i, (_, sequence) in enumerate(data.pairs.at(range(3 * number, 3 * number + 3))):
            said = sampled_by_hand(sampler, sequence.prompt_ids, 3 * number + i, end)
            retain.append((sequence.prompt_ids, said))
        total = 0.5 * forget_loss(naive, pairs(data, batch, "forget"))
        total = total + mismatch_loss(naive, pairs(data, batch, "mismatch"))
        total = total + retain_loss(naive, reference, retain)
        step = gradients(total, naive)
        with torch.no_grad():
            for name, parameter in naive.named_parameters():
                parameter -= SGD["learning_rate"] * step[name]
    ours, theirs = trained_weights(policy), trained_weights(naive)
    largest = max((theirs[n] - start[n]).abs().max().item() for n in theirs)
    worst = max((ours[n] - theirs[n]).abs().max().item() for n in theirs)
    assert worst < 1e-9 * largest


class Spy(OnPolicy):
    """Notes the retain answers of each batch, and when it samples."""

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        self.seen: dict[int, list[tuple[int, ...]]] = {}
        self.sampled_at: list[int] = []

    def _sample_from(self, data, first) -> None:
        self.sampled_at.append(first)
        super()._sample_from(data, first)

    def resampled(self, batch):
        made = super().resampled(batch)
        answers = made.answers["retain"]
        self.seen[batch.index] = [
            tuple(answers.targets[answers.sequence == n].tolist())
            for n in range(answers.num_sequences)
        ]
        return made


def test_accumulation_changes_no_continuation(make_model, make_data, quiet_trainer):
    one, many = (
        Spy(make_model(), refresh_every=2, max_new_tokens=NEW, learning_rate=1e-3) for _ in range(2)
    )
    quiet_trainer(max_steps=3).fit(one, make_data(batch_size=2))
    quiet_trainer(max_steps=3, accumulate_grad_batches=2).fit(many, make_data(batch_size=1))
    assert one.sampled_at == [0, 2] and many.sampled_at == [0, 4]  # in batches
    for number, answers in one.seen.items():
        assert sorted(answers) == sorted(many.seen[2 * number] + many.seen[2 * number + 1])
    assert sorted(one.seen) == [0, 1, 2] and sorted(many.seen) == list(range(6))


def test_with_lora_the_reference_is_the_policy_without_its_adapter(
    make_model, make_data, quiet_trainer
):
    module = Spy(make_model(), refresh_every=2, max_new_tokens=NEW, lora={"r": 2})
    quiet_trainer(max_steps=3).fit(module, make_data())
    assert isinstance(module.reference, AdapterOff)
    gold = {s.response_ids for s in module.trainer.datamodule.sequences["retain"]}
    assert not {ids for answers in module.seen.values() for ids in answers} & gold


def test_what_cannot_be_sampled_for_is_refused(make_model, make_data, quiet_trainer):
    model = make_model()
    with pytest.raises(ConfigError, match=r"mode=cached keeps the states of known answers"):
        OnPolicy(model, reference="cached")
    with pytest.raises(ConfigError, match=r"refresh_every=0"):
        OnPolicy(model, refresh_every=0)
    forget = {"loss": "unlearning.losses.gradient_ascent", "role": "forget"}
    with pytest.raises(ConfigError, match="No term is on retain answers"):
        OnPolicy(model, terms={"forget": forget})
    with pytest.raises(ConfigError, match=r"max_new_tokens=40, together more than max_length=48"):
        quiet_trainer(max_steps=1).fit(OnPolicy(model, max_new_tokens=40), make_data())
    data: UnlearningDataModule = make_data()
    data.setup()
    with pytest.raises(ConfigError, match="of an UnlearningDataModule's retain prompts"):
        quiet_trainer(max_steps=1).fit(OnPolicy(model), [data.batch_at(0)])
