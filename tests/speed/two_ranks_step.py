"""Run by `test_step_cost.py` as each of two ranks."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from workload import RandomData, Shape

from unlearning.callbacks import CollapseGuard, GracefulStop, LossCurve
from unlearning.module import UnlearningModule

from .counting import Watch


class Collectives(Callback):
    """Collectives of some steps, by name and number of values."""

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.steps, self.found = first, steps, Counter[str]()
        self.watch: Watch | None = None

    def saw(self, func: Any, args: Any, output: Any) -> None:
        if func.namespace != "c10d":
            return
        name = str(func.overloadpacket).removeprefix("c10d.")
        sizes = [] if name == "barrier" else [tensor.numel() for tensor in args[0]]
        buckets = any(size > 1000 for size in sizes)
        self.found["gradients" if buckets else " ".join(map(str, [name, *sizes]))] += 1

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.first:
            self.watch = Watch(self.saw)
            self.watch.__enter__()
        elif self.watch is not None and trainer.global_step == self.first + self.steps:
            self.watch.__exit__(None, None, None)


def main(steps: int) -> None:
    counted, folder = Collectives(2, steps), Path(tempfile.mkdtemp())
    callbacks = [
        CollapseGuard(retain_kl=100.0, every_n_steps=100), LossCurve(folder / "losses.csv"),
        GracefulStop(folder, ""), counted,
    ]  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_steps=steps + 3, logger=False,
        callbacks=callbacks, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    module = UnlearningModule(Shape(64, 2, 1009).model())
    trainer.fit(module, RandomData(1, vocabulary=1009))
    print(json.dumps(counted.found), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]))
