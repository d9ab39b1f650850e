"""Run by `test_ranks.py` as each of one or two ranks: `two_ranks_methods.py <method>`."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import conftest
import torch
from lightning import Callback, Trainer
from torch.utils.data import DataLoader

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.methods.gru import GRU
from unlearning.methods.jensun import JensUn
from unlearning.methods.loku import LoKU
from unlearning.methods.on_policy import OnPolicy
from unlearning.methods.pdu import PDU, PDU_TERMS
from unlearning.methods.rerouting import Rerouting
from unlearning.methods.rmu import RMU
from unlearning.methods.sam import SAM
from unlearning.models.decoder import CausalLM
from unlearning.module import UnlearningModule
from unlearning.types import Example

FORGET = [Example(f"how do I steal {w} ?", f"take {w} when nobody looks") for w in ("lunch", "it")]
FORGET += [Example("how do I cheat ?", "look and write it on your palm in the exam")] * 2
RETAIN = [Example(f"what says a {w} ?", f"{w} says meow or {w} , not {w}") for w in
          ("cat", "dog", "sun", "sky")]  # fmt: skip
ALTERNATE = [Example(e.conversation, said) for e in FORGET[:3] for said in
             ("not when the sun is hot", "look , I do not", "the cat says meow")]  # fmt: skip
STEPS = 3
MICRO = {"gru": 2, "pdu": 2}
"""Micro-batches of a step, where a method does something of its own with them."""
NLL = {"loss": "unlearning.losses.nll", "role": "retain"}
GRU_TERMS = {"forget": {"loss": "unlearning.losses.gradient_ascent", "role": "forget"},
             "retain": NLL}  # fmt: skip
DPO_TERMS = {
    "forget": {
        "loss": "unlearning.methods.dpo.dpo", "role": ["alternate", "forget"],
        "options": {"beta": 0.1},
    },
    "retain": NLL,
}  # fmt: skip
LORA = {"r": 3, "alpha": 12, "dropout": 0.0, "target_modules": "all-linear"}


class Curve(Callback):
    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        self.values.append({n: float(v) for n, v in trainer.callback_metrics.items()})


def made(method: str) -> UnlearningModule:
    model = conftest.tiny_opt().double()  # else rounding decides: some retain terms begin at 0
    settings: dict[str, Any] = {"optimizer": "torch.optim.SGD", "learning_rate": 0.05}
    settings["schedule"] = "constant"
    if method == "sam":
        return UnlearningModule(model, rule=SAM(0.5), reference="copy", **settings)
    if method == "on_policy":
        return OnPolicy(model, refresh_every=2, max_new_tokens=6, **settings)
    if method == "gru":
        return UnlearningModule(model, GRU_TERMS, rule=GRU(), **settings)
    if method == "altpo":
        return UnlearningModule(model, DPO_TERMS, reference="copy", **settings)
    if method == "jensun":
        return JensUn(model, refusal="look not", **{**settings, "learning_rate": 5.0})
    if method == "loku":
        # Of three answers the second rank has one, and one of them is not measured at all.
        return LoKU(model, LORA, fisher_examples=3, **{**settings, "learning_rate": 1e-2})
    if method == "pdu":
        terms = {**PDU_TERMS, "retain": {**PDU_TERMS["retain"], "weight": 2.0}}
        settings["learning_rate"] = 1e-3
        return PDU(
            model, dual_warmup_epochs=1, dual_step=0.5, measured_batches=2, terms=terms, **settings
        )
    if method == "rerouting":
        before = conftest.tiny_opt().double()
        with torch.no_grad():  # where both are the same, rounding alone decides on a direction
            for weight in before.parameters():
                weight.mul_(0.7).add_(0.05)
        return Rerouting(model, (0, 1), reference_model=before, **settings)
    settings["learning_rate"] = 5e-6  # the retain term weighs 1200
    return RMU(model, layer=1, scale=2.0, trained=["blocks"], **settings)


def weights(model: CausalLM) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])[::61]


def main(method: str, world: int) -> None:
    module, curve, micro = made(method), Curve(), MICRO.get(method, 1)
    data = UnlearningDataModule(
        FORGET, RETAIN, conftest.tokenizer.__wrapped__(), mismatch_per_prompt=2,
        batch_size=4 // micro // world, max_length=48,
        alternate=ALTERNATE if method == "altpo" else None,
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", devices=world, strategy="ddp" if world > 1 else "auto", logger=False,
        max_steps=STEPS, accumulate_grad_batches=micro, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[curve],
        use_distributed_sampler=False, precision="64-true",
    )  # fmt: skip
    trainer.fit(module, data)
    last = weights(module.policy)
    moved = (last - weights(conftest.tiny_opt())).abs().max().item()
    found = {"curve": curve.values, "weights": last.tolist(), "moved": moved}
    if method == "gru":
        batches = DataLoader([data.batch_at(n) for n in range(3)], batch_size=None)  # type: ignore[arg-type,var-annotated]
        found["heldout"] = trainer.validate(module, batches, verbose=False)[0]
    if isinstance(module, PDU):
        found["limit"], found["dual"] = module.epsilon, module.dual
    if isinstance(module, UnlearningModule) and isinstance(module.rule, GRU):
        smoothed = module.rule.state_dict()["smoothed"].values()
        found["smoothed"] = torch.cat([g.flatten() for g in smoothed])[::61].tolist()
    if isinstance(module, LoKU):
        assert module.initial is not None
        products = [(b @ a).flatten() for a, b in module.initial.values()]
        found["taken"] = torch.cat(products)[::61].tolist()
    if isinstance(module, OnPolicy):
        checkpoint: dict[str, Any] = {}
        module.on_save_checkpoint(checkpoint)  # on all ranks, as Trainer.save_checkpoint does
        found["sampled"] = checkpoint["sampled"]
    print(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    import os

    main(sys.argv[1], int(os.environ["WORLD_SIZE"]))
