"""Seconds and memory of one unlearning step of a real model: `--help` lists what can be varied.

One line of JSON. A process measures one variant, since its peak of memory is the process's. Steps
are those of the Trainer on PKU-SafeRLHF and TruthfulQA, in batches of 2 with K = 5 mismatch
answers, or, with `--textbook`, the step of `unlearning.textbook` on the same batches: padded rows,
logits at every position, a second model as the reference.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="hub id or folder")
parser.add_argument("records", help="folder with pku_saferlhf/ and truthfulqa/")
parser.add_argument("--precision", default="32-true", help="32-true or bf16-true")
parser.add_argument("--lora", action="store_true", help="r 16; else every weight")
parser.add_argument("--textbook", action="store_true")
parser.add_argument("--template", default="chat", help="chat or question")
parser.add_argument("--steps", type=int, default=8, help="that are timed, after two")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--chunk-size", type=int, help="positions whose logits are held at once")
parser.add_argument("--max-length", type=int, default=512)
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch  # noqa: E402
from lightning import Callback, Trainer, seed_everything  # noqa: E402

from unlearning import UnlearningDataModule, UnlearningModule  # noqa: E402
from unlearning.data import (  # noqa: E402
    ChatTemplate,
    PKUDataModule,
    PromptTemplate,
    TruthfulQADataModule,
)
from unlearning.models.load import load_model, load_tokenizer  # noqa: E402
from unlearning.textbook import PAPER_WEIGHTS, textbook_losses  # noqa: E402
from unlearning.types import TokenizedExample  # noqa: E402

WARM_UP, PAIRS = 2, 64
LORA = {"r": 16, "alpha": 32, "dropout": 0.0}


class Seconds(Callback):
    """Times a step from its batch's start to its end, by the clock and by the processor."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.begun = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, *_: Any) -> None:
        self.wall.append(time.perf_counter() - self.begun[0])
        self.cpu.append(time.process_time() - self.begun[1])


def stream() -> UnlearningDataModule:
    """The paper's batches; of so few pairs that the reference's states are computed in seconds."""
    folder = Path(options.records)
    forget = PKUDataModule(str(folder / "pku_saferlhf/pairs.jsonl"), answers="unsafe")
    retain = TruthfulQADataModule(str(folder / "truthfulqa/TruthfulQA.csv"))
    template = ChatTemplate() if options.template == "chat" else PromptTemplate()
    return UnlearningDataModule(
        forget.examples("train")[:PAIRS], retain.examples("train")[:PAIRS],
        load_tokenizer(options.model), template, batch_size=2, max_length=options.max_length,
        mismatch_per_prompt=5,
    )  # fmt: skip


def ours(data: UnlearningDataModule, seconds: Seconds) -> None:
    module = UnlearningModule(
        load_model(options.model), lora=LORA if options.lora else None, reference="cached",
        learning_rate=2e-4 if options.lora else 2e-6, chunk_size=options.chunk_size,
    )  # fmt: skip
    trainer = Trainer(
        max_steps=WARM_UP + options.steps, accelerator="cpu", precision=options.precision,
        callbacks=[seconds], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)


def textbook(data: UnlearningDataModule, seconds: Seconds) -> None:
    data.setup()
    dtype = torch.float32 if options.precision == "32-true" else torch.bfloat16
    model, frozen = (load_model(options.model, dtype) for _ in range(2))
    frozen.eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-6, fused=True)
    for number in range(WARM_UP + options.steps):
        seconds.on_train_batch_start()
        losses = textbook_losses(model, frozen, by_role(data, number))
        torch.stack([PAPER_WEIGHTS[r] * loss for r, loss in losses.items()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.on_train_batch_end()


def by_role(data: UnlearningDataModule, number: int) -> dict[Any, list[TokenizedExample]]:
    """Each answer of a batch with its prompt."""
    found: dict[Any, list[TokenizedExample]] = {}
    for tree in data.trees_at(number):
        for answer in tree.answers:
            pair = TokenizedExample(tuple(tree.prompt_ids), tuple(answer.ids))
            found.setdefault(answer.role, []).append(pair)
    return found


def main() -> None:
    torch.set_num_threads(options.threads)
    seed_everything(0, verbose=False)
    data, seconds = stream(), Seconds()
    (textbook if options.textbook else ours)(data, seconds)
    timed = range(WARM_UP, WARM_UP + options.steps)
    trees = [tree for number in timed for tree in data.trees_at(number)]
    answers = sum(len(answer.ids) for tree in trees for answer in tree.answers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "step": "textbook" if options.textbook else "lora" if options.lora else "full",
                "precision": options.precision,
                "threads": options.threads,
                "seconds": round(statistics.mean(seconds.wall[WARM_UP:]), 3),
                "cpu_seconds": round(statistics.mean(seconds.cpu[WARM_UP:]), 3),
                "peak_gib": round(peak, 2),
                "answer_tokens": round(answers / options.steps),
                "prompt_tokens": round(sum(len(t.prompt_ids) for t in trees) / options.steps),
            }
        )
    )


if __name__ == "__main__":
    main()
