"""Run by `test_ranks.py` as each of one or two ranks: `two_ranks_methods.py <method>`."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import conftest
import torch
from lightning import Callback, Trainer

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.methods.on_policy import OnPolicy
from unlearning.methods.rmu import RMU
from unlearning.methods.sam import SAM
from unlearning.module import UnlearningModule
from unlearning.types import Example

FORGET = [Example(f"how do I steal {w} ?", f"take {w} when nobody looks") for w in ("lunch", "it")]
FORGET += [Example("how do I cheat ?", "look and write it on your palm in the exam")] * 2
RETAIN = [Example(f"what says a {w} ?", f"{w} says meow or {w} , not {w}") for w in
          ("cat", "dog", "sun", "sky")]  # fmt: skip
STEPS = 3


class Curve(Callback):
    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        self.values.append({n: float(v) for n, v in trainer.callback_metrics.items()})


def main(method: str, world: int) -> None:
    model = conftest.tiny_opt()
    settings = {"optimizer": "torch.optim.SGD", "learning_rate": 0.05, "schedule": "constant"}
    if method == "sam":
        module = UnlearningModule(model, rule=SAM(0.5), reference="copy", **settings)
    elif method == "on_policy":
        module = OnPolicy(model, refresh_every=2, max_new_tokens=6, **settings)
    else:
        settings["learning_rate"] = 5e-6  # the retain term weighs 1200
        module = RMU(model, layer=1, scale=2.0, trained=["blocks"], **settings)
    data = UnlearningDataModule(
        FORGET, RETAIN, conftest.tokenizer.__wrapped__(), mismatch_per_prompt=2,
        batch_size=4 // world, max_length=48,
    )  # fmt: skip
    curve = Curve()
    trainer = Trainer(
        accelerator="cpu", devices=world, strategy="ddp" if world > 1 else "auto", logger=False,
        max_steps=STEPS, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[curve],
    )  # fmt: skip
    trainer.fit(module, data)
    first = torch.cat([p.detach().flatten() for p in module.policy.parameters()])[::61].tolist()
    found = {"curve": curve.values, "weights": first}
    if isinstance(module, OnPolicy):
        checkpoint: dict[str, Any] = {}
        module.on_save_checkpoint(checkpoint)  # on all ranks, as Trainer.save_checkpoint does
        found["sampled"] = checkpoint["sampled"]
    print(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    import os

    main(sys.argv[1], int(os.environ["WORLD_SIZE"]))
