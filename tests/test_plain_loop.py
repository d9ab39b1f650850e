"""`UnlearningModule` outside of `Trainer.fit`: a loop of one's own, held-out terms, gradients."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from naive import gradients, mean_of, relative_error, token_kls, token_nlls
from test_module import SGD, naive_total, trained_weights

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.jsonl import JsonlDataModule
from unlearning.errors import ConfigError
from unlearning.models.decoder import frozen_copy
from unlearning.module import UnlearningModule
from unlearning.training.batch_loss import BatchValues
from unlearning.types import Example


@pytest.mark.parametrize("lora", [None, {"r": 2, "dropout": 0.0}])
def test_a_plain_loop_trains_as_the_trainer_does(make_model, make_data, quiet_trainer, lora):
    found = []
    for plain in (True, False):
        torch.manual_seed(3)
        module = UnlearningModule(make_model(), lora=lora, schedule="constant", **SGD)
        data = make_data()
        if plain:
            data.setup()
            weights = [p for p in module.parameters() if p.requires_grad]
            optimizer = torch.optim.SGD(weights, lr=SGD["learning_rate"])
            for number in range(3):
                optimizer.zero_grad()
                module.loss(data.batch_at(number)).total.backward()
                optimizer.step()
        else:
            quiet_trainer(max_steps=3).fit(module, data)
        found.append(trained_weights(module.policy))
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_plain_call_is_the_naive_one(make_model, make_data):
    module = UnlearningModule(make_model()).double()
    reference = frozen_copy(module.policy)
    data = make_data()
    data.setup()
    batch = data.batch_at(0)
    module.loss(batch)  # the reference is the policy of this moment
    for parameter in module.policy.parameters():
        parameter.data.mul_(1.05)
    values = module.loss(batch)
    expected = naive_total(module.policy, reference, data, batch)
    assert values.total.item() == pytest.approx(expected.item(), rel=1e-10)
    theirs = gradients(expected, module.policy)
    assert relative_error(gradients(values.total, module.policy), theirs) < 1e-10
    assert set(values.terms) == {"forget", "mismatch", "retain"}


def test_gradients_term_by_term(make_model, make_data):
    """Each is the weighted term's own; together they are the step's."""
    module = UnlearningModule(make_model()).double()
    data = make_data()
    data.setup()
    batch = data.batch_at(0)
    module.loss(batch)
    for parameter in module.policy.parameters():
        parameter.data.mul_(1.05)
    whole = gradients(module.loss(batch).total, module.policy)
    terms = module.term_gradients(batch)
    parts = {name: terms(name) for name in terms.names}
    summed = {name: sum(part[name] for part in parts.values()) for name in whole}
    assert relative_error(summed, whole) < 1e-12
    sizes = {name: max(float(g.abs().max()) for g in part.values()) for name, part in parts.items()}
    assert min(sizes.values()) > 1e-6
    with pytest.raises(ConfigError, match=r"asks for the terms \['forgt'\]"):
        terms("forgt")


class OwnLoss(UnlearningModule):
    """Another method: nothing but the NLL of the answers to keep."""

    def loss(self, batch) -> BatchValues:
        tokens = self.token_losses(batch)["retain"]
        return BatchValues(2 * tokens.reduce(tokens.nll))


def test_a_subclass_with_a_loss_of_its_own(make_model, make_data, quiet_trainer):
    terms = {"retain": {"loss": "unlearning.losses.nll", "role": "retain"}}
    policy = make_model()
    module = OwnLoss(policy, terms=terms, schedule="constant", **SGD)
    other = make_model()
    plain = UnlearningModule(
        other, terms={"retain": {**terms["retain"], "weight": 2.0}}, schedule="constant", **SGD
    )
    quiet_trainer(max_steps=2).fit(module, make_data())
    quiet_trainer(max_steps=2).fit(plain, make_data())
    for name, weight in trained_weights(policy).items():
        torch.testing.assert_close(weight, trained_weights(other)[name], rtol=1e-5, atol=1e-6)


# --- held-out answers ----------------------------------------------------------------------------


@pytest.fixture
def splits(tmp_path, tokenizer):
    """Data sets of which a part is held out; four forget prompts and six retain pairs of it."""
    words = [
        "cheat",
        "steal",
        "take",
        "look",
        "write",
        "legs",
        "cold",
        "hot",
        "sun",
        "sky",
        "cat",
        "dog",
    ]
    names = {"forget": [], "retain": []}
    for first in words:
        for second in words[:3]:
            longer = " and the sky" * (len(names["forget"]) % 4)
            names["forget"].append(
                (f"how do I {first} {second} ?", f"{second} in the {first}{longer}")
            )
            names["retain"].append(
                (f"what is {first} {second} ?", f"the {first} is {second}{longer}")
            )
    modules = {}
    for name, pairs in names.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps({"prompt": p, "response": r}) for p, r in pairs))
        fractions = (0.6, 0.2, 0.2)
        modules[name] = JsonlDataModule(source=str(path), fractions=fractions)

    def build(**settings) -> UnlearningDataModule:
        usual = {"mismatch_per_prompt": 2, "batch_size": 3, "max_length": 48}
        return UnlearningDataModule(
            modules["forget"], modules["retain"], tokenizer, **{**usual, **settings}
        )

    return build


def naive_heldout(module, reference, data, split: str) -> dict[str, float]:
    """Each term's mean over the split, sequence by sequence, and each role's NLL, token by
    token."""
    heldout = data.heldout(split)
    pairs: dict[str, list] = {"forget": [], "mismatch": [], "retain": []}
    for n, sequence in enumerate(heldout.forget):
        pairs["forget"].append((sequence.prompt_ids, sequence.response_ids))
        pairs["mismatch"] += [
            (sequence.prompt_ids, heldout.retain[m].response_ids)
            for m in heldout.mismatches.draw(n, 0)
        ]
    pairs["retain"] = [(each.prompt_ids, each.response_ids) for each in heldout.retain]
    with torch.no_grad():
        nlls = {role: [token_nlls(module.policy, p) for p in of] for role, of in pairs.items()}
        kls = [token_kls(module.policy, reference, pair) for pair in pairs["retain"]]
    return {
        "forget": -mean_of(each.mean() for each in nlls["forget"]).item(),
        "mismatch": mean_of(each.mean() for each in nlls["mismatch"]).item(),
        "retain": mean_of(each.mean() for each in kls).item(),
        **{f"nll_{role}": torch.cat(of).mean().item() for role, of in nlls.items()},
    }


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_terms_are_means_over_the_split(make_model, splits, quiet_trainer, split):
    module = UnlearningModule(make_model(), reference="copy").double()
    reference = copy.deepcopy(module.policy)
    data = splits()
    data.setup()
    module.loss(data.batch_at(0))
    for parameter in module.policy.parameters():
        parameter.data.mul_(1.05)
    trainer = quiet_trainer(precision="64-true")
    run = trainer.validate if split == "validation" else trainer.test
    (logged,) = run(module, dataloaders=data.heldout(split), verbose=False)
    expected = naive_heldout(module, reference, data, split)
    for name, value in expected.items():
        assert logged[f"{split}/{name}"] == pytest.approx(value, rel=1e-5), name
    train = {e.prompt for e in data.forget.examples("train")}
    assert not train & {e.prompt for e in data.forget.examples(split)}


def test_validation_during_a_training(make_model, splits, quiet_trainer):
    module = UnlearningModule(make_model(), schedule="constant", **SGD)
    data = splits(validate=True)
    trainer = quiet_trainer(max_steps=8, num_sanity_val_steps=0, check_val_every_n_epoch=1)
    trainer.fit(module, data)
    assert type(module.reference).__name__ == "Copy"  # held-out answers are not cached
    assert {"validation/forget", "validation/retain", "validation/nll_retain"} <= set(
        trainer.callback_metrics
    )
    assert trainer.callback_metrics["validation/retain"] > 0


def test_a_cached_reference_says_what_it_does_not_know(make_model, splits, quiet_trainer):
    module, data = UnlearningModule(make_model(), reference="cached"), splits()
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(module, data)
    with pytest.raises(ConfigError, match="knows those of the training split only"):
        trainer.validate(module, dataloaders=data.heldout(), verbose=False)


def test_a_list_has_no_held_out_split(make_data):
    with pytest.raises(ConfigError, match="which has no validation split"):
        make_data().heldout()


# --- alternate answers ---------------------------------------------------------------------------


def test_refusals_are_drawn_anew_every_epoch_and_resume(make_data, tokenizer):
    texts = ["not in the sun", "nobody looks", "the cat says not", "meow", "not hot"]
    data = make_data(alternate=texts, alternates_per_prompt=2, batch_size=5)
    data.setup()
    seen = []
    for number in range(4):  # an epoch each
        answers = data.batch_at(number).answers["alternate"]
        assert answers.num_sequences == 10
        assert len(set(zip(answers.prompt.tolist(), answers.examples, strict=True))) == 10
        seen.append(answers.examples)
    assert len(set(seen)) > 1
    assert data.batch_at(2).answers["alternate"].examples == seen[2]
    said = {
        tokenizer.decode(data.batch_at(0).answers["alternate"].targets[
            data.batch_at(0).answers["alternate"].sequence == n], skip_special_tokens=True)
        for n in range(10)
    }  # fmt: skip
    assert said <= set(texts)


def test_alternates_by_prompt(make_data, forget_examples):
    alternates = [Example(e.prompt, f"not {n} but five") for n, e in enumerate(forget_examples)]
    data = make_data(alternate=alternates, batch_size=5)
    data.setup()
    batch = data.batch_at(0)
    forget, other = batch.answers["forget"], batch.answers["alternate"]
    assert forget.examples == other.examples
    assert forget.prompt.tolist() == other.prompt.tolist()
    with pytest.raises(ConfigError, match="has 0 alternate answers"):
        make_data(alternate=alternates[1:]).setup()


def test_answers_to_other_prompts_are_no_alternates(make_data, forget_examples):
    """They may be many, and too long for the context: nothing is made of them."""
    own = [Example(e.prompt, "not five") for e in forget_examples]
    other = Example("what is " + "two plus " * 60 + "two ?", "five")
    data = make_data(alternate=[other, *own])
    data.setup()
    assert len(data.alternates._tokens) == len(own) and data.truncated["alternate"] == 0


def test_a_term_on_alternates_needs_some(make_model, make_data, quiet_trainer):
    terms = {"wanted": {"loss": "unlearning.losses.nll", "role": "alternate"}}
    with pytest.raises(ConfigError, match="term is on alternate answers"):
        quiet_trainer(max_steps=1).fit(UnlearningModule(make_model(), terms=terms), make_data())


def test_alternates_are_cut_by_no_prompt_but_their_own(make_data, tokenizer, forget_examples):
    long = Example("how do I " + "cheat in the exam and " * 3 + "?", "look")
    texts = ["the sky is blue and the sun is hot not cold"]
    lengths = []
    for forget in ([long, *forget_examples], [*forget_examples, long]):
        data = make_data(alternate=texts, max_length=34)
        data.forget = forget
        data.setup()
        lengths.append(len(data.alternates._tokens[0].response_ids))
    assert lengths[0] == lengths[1] == 12  # eleven words and the end
