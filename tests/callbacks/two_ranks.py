"""Run by `test_harm.py` as each of two ranks: `two_ranks.py <harmful word> <prompt> ...`."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import conftest
import torch
from lightning import Callback, Trainer

from unlearning.callbacks import CollapseGuard, GracefulStop, HarmEvaluation, SampleGenerations
from unlearning.data.datamodule import UnlearningDataModule

from .conftest import ScriptedModule, flat
from .test_harm import FirstWords

RANK = int(os.environ["RANK"])


class SignalRankOne(Callback):
    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if RANK == 1 and trainer.global_step == 1:
            os.kill(os.getpid(), signal.SIGINT)


class SpoilRankOne(Callback):
    """After the last step, and only here: no loss has seen it, and no gradient has spread it."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if RANK == 1 and trainer.global_step == trainer.max_steps:
            with torch.no_grad():
                next(pl_module.parameters()).fill_(math.nan)


def fit(*callbacks: Callback, **settings: Any) -> tuple[Trainer, ScriptedModule]:
    module = ScriptedModule(conftest.tiny_opt(), schedule="constant", **settings)
    tokenizer, forget, retain = (
        getattr(conftest, name)._get_wrapped_function()
        for name in ("tokenizer", "forget_examples", "retain_examples")
    )
    data = UnlearningDataModule(
        forget(), retain(), tokenizer(), mismatch_per_prompt=2, batch_size=1, max_length=48
    )
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_steps=3, logger=False,
        callbacks=list(callbacks), enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer, module


def main(word: str, prompts: list[str]) -> None:
    tokenizer = conftest.tokenizer._get_wrapped_function()()
    logged, judged = {}, {}
    for count in (1, len(prompts)):
        scorer = FirstWords(word)
        harm = HarmEvaluation(prompts[:count], tokenizer, scorer, 10, max_new_tokens=8)
        trainer, _ = fit(harm)
        logged[count] = {n: float(v) for n, v in trainer.callback_metrics.items() if "harm" in n}
        judged[count] = scorer.texts
    guard, folder = CollapseGuard(every_n_steps=2), Path(tempfile.mkdtemp())
    samples = SampleGenerations(prompts, tokenizer, folder / "said.jsonl", 10, max_new_tokens=8)
    _, module = fit(SpoilRankOne(), guard, samples)
    event = guard.events[0]
    weights = flat(module)
    assert weights.isfinite().all()
    guarded = {"limit": event["limit"], "step": event["step"], "restored": event["restored_step"]}
    guarded["weights"] = float(weights.double().sum())
    stop = GracefulStop(folder, "")
    trainer, _ = fit(SignalRankOne(), stop)
    assert stop.interrupted
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    files = sorted(path.name for path in folder.iterdir())
    shutil.rmtree(folder)
    result = {
        "logged": logged, "judged": judged, "guard": guarded, "stopped": trainer.global_step,
        "files": files, "samples": [json.loads(line)["completion"] for line in lines],
    }  # fmt: skip
    print(json.dumps(result), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], sys.argv[2:])
