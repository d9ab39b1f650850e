"""Run by `test_finetune.py` as each of one or two ranks.

Each rank trains on its share of the same batches, whose answers have unlike numbers of tokens.
"""

from __future__ import annotations

import json
import os
import warnings

import conftest
import torch
from lightning import Callback, Trainer
from test_finetune import SGD, batch_of
from torch.utils.data import DataLoader

from unlearning.finetune import CausalLMModule
from unlearning.models.load import disable_dropout

LONG, SHORT = ((5, 9, 3), tuple(range(40, 58))), ((7, 8), (50,))
STEPS = 4


class Curve(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        self.values.append(float(trainer.callback_metrics["train/nll"]))


def main() -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    mine = [LONG, SHORT] if world == 1 else [[LONG], [SHORT]][rank]
    model = conftest.tiny_opt()
    disable_dropout(model)
    module, curve = CausalLMModule(model, **SGD), Curve()
    batches = DataLoader([batch_of(mine)] * STEPS, batch_size=None, num_workers=0)
    trainer = Trainer(
        accelerator="cpu", devices=world, strategy="ddp" if world > 1 else "auto", logger=False,
        max_steps=STEPS, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[curve],
    )  # fmt: skip
    trainer.fit(module, batches)
    heldout = DataLoader([batch_of(mine)], batch_size=None, num_workers=0)
    (validated,) = trainer.validate(module, heldout, verbose=False)
    sums = [float(parameter.double().sum()) for parameter in model.parameters()]
    first = torch.cat([p.detach().flatten() for p in model.parameters()])[::97].tolist()
    print(json.dumps({"curve": curve.values, "sums": sums, "weights": first, **validated}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
