"""One optimizer step of every method, as a Trainer runs it, against the plain way (`plain.py`).

    python experiments/methods/steps.py                            # every method, 512 x 8
    python experiments/methods/steps.py --shape small --rounds 1   # does it run?
    python experiments/methods/steps.py --methods paper,npo        # overwrites the json

Both take the same tokens in one process, in turns: after each step of the Trainer the plain step of
the same batch. Then, from equal weights a little away from the reference, loss and gradient of the
two are compared, their forwards counted and the most memory of forward and backward measured.
Every method has its default settings and trains in full; `reference.mode` is auto, and what that
is stands in the table. What is set otherwise is in `settings`. Left out: altpo, whose step is
dpo's; loku, which is ihl in an adapter; task_vector, which has no step; to_reference and
match_reference, the paper's with limits of our own; names that are a method with other weights.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it
sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))

import measure
import torch
from cases import SHAPES, MethodData, cap_of, config_of, data_of, layers_of, settings, trained_of
from lightning import Callback, LightningModule, Trainer
from plain import METHODS, Examples, PlainStep
from torch import Tensor

from unlearning.generation.generate import generate
from unlearning.methods.on_policy import OnPolicy
from unlearning.methods.rerouting import Rerouting
from unlearning.models.decoder import unwrap
from unlearning.module import UnlearningModule
from unlearning.reference import Copy
from unlearning.run.config.method import build_module
from unlearning.training.step_rule import with_gradient
from unlearning.types import Batch, TokenizedExample

RESULTS = Path(__file__).parent / "results"
WARM_UP = 1
FORWARD_ALONE = 1 / 3
"""A forward without a backward, in forwards that have one."""
Seconds = tuple[float, float]
"""By the clock, and of the processor."""


class Turns(Callback):
    """Times the Trainer's steps, data and logging included, and after each of them a plain one."""

    def __init__(self, plain: PlainStep, data: MethodData, steps: int) -> None:
        self.plain, self.data, self.steps = plain, data, steps
        self.ours: list[Seconds] = []
        self.theirs: list[Seconds] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin()

    def _begin(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        wall, cpu = self._begun
        self.ours.append((time.perf_counter() - wall, time.process_time() - cpu))
        examples = examples_of(self.data, pl_module, batch)
        self.plain.progress = batch.index / (2 * self.steps)
        self.theirs.append(measure.both_seconds(lambda: self.plain.step(examples), "cpu"))
        self._begin()


def examples_of(data: MethodData, module: Any, batch: Batch) -> Examples:
    """Each answer with its prompt, by role; of `OnPolicy` the continuations that it samples."""
    found: dict[Any, list[TokenizedExample]] = {}
    for tree in data.trees_at(batch.index):
        for answer in tree.answers:
            found.setdefault(answer.role, []).append(TokenizedExample(tree.prompt_ids, answer.ids))
    if isinstance(module, OnPolicy):
        retain = module.resampled(batch).answers["retain"]
        assert retain.prompt is not None  # rows have an order of their own
        said = [retain.targets[retain.sequence == n] for n in retain.prompt.argsort().tolist()]
        pairs = zip(found["retain"], said, strict=True)
        found["retain"] = [replace(e, response_ids=tuple(ids.tolist())) for e, ids in pairs]
    return found


def compare(name: str, shape_name: str, rounds: int) -> dict[str, Any]:
    """One row of the table."""
    shape, steps = SHAPES[shape_name], rounds + WARM_UP
    config, layers = config_of(name, shape), layers_of(name, shape)
    module: Any = build_module(config, shape.model(), None)
    data = data_of(name, config, shape_name)
    model = shape.model()
    plain = PlainStep(name, model, deepcopy(model), layers, trained_of(name, shape), cap_of(shape))
    turns = Turns(plain, data, steps)
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", devices=1, callbacks=[turns], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    ours, theirs = turns.ours[WARM_UP:], turns.theirs[WARM_UP:]
    row: dict[str, Any] = {"method": name, "settings": settings(name, shape)}
    row["reference"] = "none"
    if module.reference is not None:
        row["reference"] = type(module.reference).__name__.lower()
    row |= check(module, plain, data, steps - 1)
    shares: list[Seconds] = [(0.0, 0.0), (0.0, 0.0)]
    if isinstance(module, OnPolicy):
        shares = sampling(module, plain, data)
    row["sampling_ms"] = {
        kind: [1e3 * share[n] for share in shares] for n, kind in enumerate(("wall", "cpu"))
    }
    ours, theirs = (
        [(wall + share[0], cpu + share[1]) for wall, cpu in seconds]
        for seconds, share in zip((ours, theirs), shares, strict=True)
    )
    return row | timing(ours, theirs)


def timing(ours: list[Seconds], theirs: list[Seconds]) -> dict[str, Any]:
    """Medians in ms, and of the ratios of neighbours."""
    found: dict[str, Any] = {}
    for place, kind in enumerate(("wall", "cpu")):
        a, b = ([each[place] for each in seconds] for seconds in (ours, theirs))
        ratios = [y / x for x, y in zip(a, b, strict=True)]
        found |= {
            f"ours_{kind}_ms": 1e3 * measure.median(a),
            f"plain_{kind}_ms": 1e3 * measure.median(b),
            f"ratio_{kind}": measure.median(ratios),
            f"ratio_{kind}_quartiles": list(measure.spread(ratios)),
        }
    return found


def check(module: Any, plain: PlainStep, data: MethodData, number: int) -> dict[str, Any]:
    """Agreement, forwards and memory of both on one batch, beside the clock."""
    torch.manual_seed(1)
    with torch.no_grad():  # away from the reference, where the KL has no gradient
        for weight in module.policy.parameters():
            weight.add_(torch.randn_like(weight), alpha=1e-3)
    plain.model.load_state_dict(module.policy.state_dict())
    if module.rule is not None:
        plain.smoothed = list(module.rule.state_dict().get("smoothed", {}).values())
    if isinstance(module, Rerouting):
        module.schedule(1, 2)
    plain.progress = 1 / 4
    batch = data.batch_at(number)
    examples = examples_of(data, module, batch)
    if isinstance(module, OnPolicy):
        batch = module.resampled(batch)
    module.head_memory()  # let go: it is part of what a step takes
    found: dict[str, Any] = {}
    models: list[Any] = [module.policy]
    if isinstance(module.reference, Copy):
        models += module.reference._model
    with counted([unwrap(model).get_decoder() for model in models]) as forwards:
        mib = measure.peak_bytes(lambda: found.update(ours=backward(module, batch)), "cpu") / 2**20
    with counted([plain.model, plain.frozen]) as plain_forwards:
        plain_mib = (
            measure.peak_bytes(lambda: found.update(plain=plain.backward(examples)), "cpu") / 2**20
        )
    ours_loss, terms = float(found["ours"]), found["plain"]
    tokens = {role: sum(len(e.response_ids) for e in each) for role, each in examples.items()}
    return {
        "forwards": [*forwards, 0][:2],
        "plain_forwards": plain_forwards,
        "mib": mib,
        "plain_mib": plain_mib,
        "positions": batch.only(module.objective.roles).rows.input_ids.numel(),
        "answer_tokens": {role: tokens[role] for role in sorted(module.objective.roles)},
        "loss": [ours_loss, sum(terms)],
        # By the terms' sizes: ascent and descent nearly cancel out.
        "loss_difference": abs(ours_loss - sum(terms)) / sum(map(abs, terms)),
        "gradient_difference": gradient_difference(module.policy, plain.model),
    }


def backward(module: UnlearningModule, batch: Batch) -> Tensor:
    """Leaves a step's gradient at the policy's weights, as `training_step` does, and returns the
    weighted sum of the terms."""
    if module.rule is None:
        total = module.loss(batch).total
    else:
        terms = module.term_gradients(batch)
        step = module.rule.gradient(terms)
        total = with_gradient(terms.values.total, terms.parameters, step)
    total.backward()
    return total.detach()


@contextmanager
def counted(models: list[Any]) -> Iterator[list[int]]:
    """Counts the forwards of each model within the block."""
    counts = [0] * len(models)

    def count(place: int) -> Any:
        def hook(*_: Any) -> None:
            counts[place] += 1

        return hook

    hooks = [model.register_forward_pre_hook(count(n)) for n, model in enumerate(models)]
    yield counts
    for hook in hooks:
        hook.remove()


def gradient_difference(one: Any, other: Any) -> float:
    """The largest difference of any entry, as a share of the largest entry."""
    pairs = [(p.grad, q.grad) for p, q in zip(one.parameters(), other.parameters(), strict=True)]
    scale = max(float(q.abs().max()) for _, q in pairs if q is not None)
    differences = [p if q is None else q if p is None else p - q for p, q in pairs]
    return max(float(d.abs().max()) for d in differences if d is not None) / scale


def sampling(module: OnPolicy, plain: PlainStep, data: MethodData) -> list[Seconds]:
    """A step's share of sampling the continuations of `refresh_every` steps at once: ours, and by
    transformers' `generate`, padded on the left."""
    trees = [tree for n in range(module.refresh_every) for tree in data.trees_at(n)]
    prompts = [t.prompt_ids for t in trees if t.answers[0].role == "retain"]
    width, pad, new = max(map(len, prompts)), data.pad_token_id, module.max_new_tokens
    ids_BL = torch.tensor([(pad,) * (width - len(p)) + p for p in prompts])
    mask_BL = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])

    def ours() -> None:
        generate(module.policy, data.tokenizer, prompts, new, sampling=module.sampling)

    def theirs() -> None:
        plain.model.generate(
            input_ids=ids_BL, attention_mask=mask_BL, do_sample=True, max_new_tokens=new,
            pad_token_id=pad,
        )  # fmt: skip

    taken: list[list[Seconds]] = [[], []]
    for _ in range(3):
        for seconds, work in zip(taken, (ours, theirs), strict=True):
            seconds.append(measure.both_seconds(work, "cpu"))
    every = module.refresh_every
    wall, cpu = ([measure.median([s[n] for s in each]) / every for each in taken] for n in (0, 1))
    return list(zip(wall, cpu, strict=True))


def per_forward(row: dict[str, Any], kind: str = "wall") -> float:
    """Our ms of a forward and its backward, without sampling."""
    policy, reference = row["forwards"]
    step_ms: float = row[f"ours_{kind}_ms"] - row["sampling_ms"][kind][0]
    return step_ms / (policy + FORWARD_ALONE * reference)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; forwards are of the policy + of the reference."""
    lines = [
        "| method | reference | forwards | plain | ms | plain ms | ratio | by processor time | MiB "
        "| plain MiB | a forward, of `paper`'s | by processor time | loss differs | gradient |",
        f"|{'---|' * 14}",
    ]
    paper = next((row for row in rows if row["method"] == "paper"), None)
    for row in rows:
        shares = ["", ""]
        if paper is not None:
            kinds = ("wall", "cpu")
            shares = [f"{per_forward(row, k) / per_forward(paper, k):.2f}" for k in kinds]
        low, high = row["ratio_wall_quartiles"]
        ours, theirs = (
            f"{policy} + {reference}"
            for policy, reference in (row["forwards"], row["plain_forwards"])
        )
        lines.append(
            f"| `{row['method']}` | {row['reference']} | {ours} | {theirs} "
            f"| {row['ours_wall_ms']:.0f} | {row['plain_wall_ms']:.0f} "
            f"| {row['ratio_wall']:.2f} ({low:.2f}..{high:.2f}) | {row['ratio_cpu']:.2f} "
            f"| {row['mib']:.0f} | {row['plain_mib']:.0f} | {shares[0]} | {shares[1]} "
            f"| {row['loss_difference']:.0e} | {row['gradient_difference']:.0e} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=list(SHAPES), default="full")
    parser.add_argument("--methods", help=f"of {', '.join(METHODS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "unlearning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    chosen = options.methods.split(",") if options.methods else list(METHODS)
    if unknown := set(chosen) - set(METHODS):
        parser.error(f"no such methods: {', '.join(sorted(unknown))}")
    written: dict[str, Any] = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
        "shape": asdict(SHAPES[options.shape]),
        "rounds": options.rounds,
        "rows": [],
    }
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / ("steps.json" if options.shape == "full" else "steps_small.json")
    start = time.perf_counter()
    for name in chosen:
        row = compare(name, options.shape, options.rounds)
        written["rows"].append(row)
        file.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        gc.collect()
        print(
            f"{time.perf_counter() - start:4.0f} s  {name}: {row['ours_wall_ms']:.0f} ms, plain "
            f"{row['plain_wall_ms']:.0f} ms, ratio {row['ratio_wall']:.2f}, gradient differs by "
            f"{row['gradient_difference']:.0e}",
            flush=True,
        )
    print(f"\n{table(written['rows'])}")


if __name__ == "__main__":
    main()
