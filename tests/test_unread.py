"""Answers that no forward of a step reads are not run, and nobody misses them."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning import Callback
from naive import gradients, relative_error, token_nlls
from test_module import SGD, pairs
from torch.nn.functional import cross_entropy

from unlearning.data.parts import ALL
from unlearning.methods.graddiff import GRADDIFF_TERMS
from unlearning.methods.gru import GRU
from unlearning.methods.sam import SAM
from unlearning.models.decoder import decode, output_head
from unlearning.module import UnlearningModule
from unlearning.objective import PAPER_TERMS
from unlearning.training.batch_loss import BatchValues
from unlearning.types import Batch

IDK_TERMS = {
    "forget": {"loss": "unlearning.losses.nll", "role": "alternate"},
    "retain": {"loss": "unlearning.losses.nll", "role": "retain"},
}
UNREAD = {  # terms, rule, and the roles of each forward of a step
    "idk_nll": (IDK_TERMS, None, [{"alternate", "retain"}]),
    "sam": (PAPER_TERMS, SAM(0.5), [{"forget"}, {"forget"}, {"mismatch", "retain"}]),
    "gru": (GRADDIFF_TERMS, GRU(), [{"forget"}, {"retain"}]),
}


def gradient_of_a_step(module, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    if module.rule is None:
        total = module.loss(batch).total
        return total.item(), gradients(total, module.policy)
    terms = module.term_gradients(batch)
    step = module.rule.gradient(terms)
    module.rule.step_done()
    return terms.values.total.item(), step


@pytest.mark.parametrize(
    ("method", "mode"),
    [("idk_nll", "auto"), ("sam", "copy"), ("sam", "cached"), ("gru", "auto")],
)
def test_branches_that_no_forward_reads_are_not_run(
    make_model, make_data, quiet_trainer, method, mode
):
    """Counted; loss and gradient are those of the rows that hold all branches."""
    terms, rule, forwards = UNREAD[method]
    module = UnlearningModule(
        make_model().double(), terms, rule=copy.deepcopy(rule), reference=mode,
        schedule="constant", **SGD,
    ).double()  # fmt: skip
    data = make_data(alternate=["not five", "look at the sky"])
    quiet_trainer(max_steps=1, precision="64-true").fit(module, data)
    ran: list[tuple[int, int]] = []  # of each forward: all positions, and those without pads

    def count(*seen) -> None:
        rows = seen[-1]["position_ids"]
        ran.append((rows.numel(), int((rows > 0).sum())))

    module.policy.get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    chosen, smoothed = data.forwards, module.rule and module.rule.state_dict()
    found = {}
    for name, reads in {"chosen": chosen, "all": [ALL]}.items():
        if smoothed:
            module.rule.load_state_dict(smoothed)
        ran.clear()
        data.forwards = reads
        batch = data.batch_at(1)
        assert batch.answers.keys() == {"forget", "alternate", "mismatch", "retain"}
        found[name] = (*gradient_of_a_step(module, batch), list(ran))
    loss, gradient, positions = found["chosen"]
    assert loss == pytest.approx(found["all"][0], rel=1e-12)
    assert relative_error(gradient, found["all"][1]) < 1e-10
    assert len(positions) == len(found["all"][2]) == len(forwards)
    assert sum(run for run, _ in positions) < sum(run for run, _ in found["all"][2])
    for (_, tokens), roles in zip(positions, forwards, strict=True):
        kept = [tree.only(a.role in roles for a in tree.answers) for tree in data.trees_at(1)]
        # All but the first of each have a position above 0, and pads have none.
        assert tokens == sum(tree.length - 1 for tree in kept if tree.answers)


@pytest.mark.parametrize("method", UNREAD)
def test_nor_are_their_rows_where_each_has_one(make_model, make_data, quiet_trainer, method):
    """Padded rows, as many as there are answers."""
    terms, rule, forwards = UNREAD[method]
    module = UnlearningModule(make_model(), terms, rule=copy.deepcopy(rule))
    data = make_data(alternate=["not five", "look at the sky"], layout="padded")
    quiet_trainer(max_steps=1).fit(module, data)
    rows: list[int] = []
    module.policy.get_decoder().register_forward_hook(lambda *seen: rows.append(len(seen[-1][0])))
    gradient_of_a_step(module, data.batch_at(1))
    answers = [answer.role for tree in data.trees_at(1) for answer in tree.answers]
    assert rows == [sum(role in roles for role in answers) for roles in forwards]


class ReadsForget(UnlearningModule):
    """Terms on other answers, and a loss of its own on those to forget."""

    def loss(self, batch: Batch) -> BatchValues:
        values = super().loss(batch)
        hidden = decode(self.policy, batch.rows).flatten(0, 1)
        answers = batch.answers["forget"]
        logits = output_head(self.policy).weight @ hidden[answers.loss_index].T
        return BatchValues(values.total + cross_entropy(logits.T, answers.targets), values.terms)


def test_a_loss_of_a_subclass_sees_every_answer(make_model, make_data, quiet_trainer):
    module = ReadsForget(make_model(), IDK_TERMS, schedule="constant", **SGD)
    data, seen = make_data(alternate=["not five", "look at the sky"]), []

    class Watches(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            seen.append({role: sorted(of.examples) for role, of in batch.answers.items()})

    quiet_trainer(max_steps=1, callbacks=[Watches()]).fit(module, data)
    trees = data.trees_at(0)
    expected = {
        role: sorted(a.example for tree in trees for a in tree.answers if a.role == role)
        for role in ("forget", "alternate", "mismatch", "retain")
    }
    assert seen == [expected] and all(expected.values())
    batch = data.batch_at(1)
    plain = UnlearningModule(module.policy, IDK_TERMS).loss(batch).total
    nlls = [token_nlls(module.policy, pair) for pair in pairs(data, batch, "forget")]
    expected = plain + torch.cat(nlls).mean()
    torch.testing.assert_close(module.loss(batch).total, expected, rtol=1e-5, atol=1e-5)
