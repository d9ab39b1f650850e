"""Our step, as a Trainer runs it, against the textbook step: `make bench`, `make bench-gpu`.

Both run in one process on the same tokens, in turns: after every few steps of the Trainer, a
callback makes as many textbook steps. Reported are medians over the rounds, and the median of the
ratios of neighbours; and, from the same weights, how far loss and gradient of the two differ.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import time
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it

import measure
import torch
from lightning import Callback, LightningModule, Trainer
from workload import RandomData, Shape

from unlearning.data.layout import Tree
from unlearning.module import UnlearningModule
from unlearning.reference import build_reference
from unlearning.textbook import PAPER_WEIGHTS, textbook_losses
from unlearning.types import Role, TokenizedExample

RESULTS = Path(__file__).parent / "results"
WARM_UP = 1
EXAMPLES = 64
"""Of each set; the reference's states of all of them are computed before the first step."""
LORA = {"r": 16, "alpha": 32, "dropout": 0.0}


TEXTBOOKS: dict[Any, dict[str, float]] = {}
"""What the textbook step takes, counted once for each shape, batch size and precision."""


@dataclass(frozen=True)
class Variant:
    """One way to run our step, and how many rounds it is given."""

    shape: Shape
    batch_size: int
    layout: str = "tree"
    reference: str = "cached"
    lora: bool = False
    precision: str = "32-true"
    compiled: bool = False
    rounds: int = 5
    textbook_precision: str = "32-true"
    optimizer: str = "adamw"
    block: int = 3

    @property
    def name(self) -> str:
        how = "LoRA" if self.lora else "full"
        compiled = ", compiled" if self.compiled else ""
        eight = ", 8-bit AdamW" if self.optimizer == "adamw_8bit" else ""
        return f"{how}, {self.layout}, {self.reference}, {self.precision}{compiled}{eight}"


class Turns(Callback):
    """Times the Trainer's steps, and after every `block` of them as many textbook steps.

    A block is more than one step: what the textbook step leaves of memory and caches slows the step
    after it, which in a training is one of its own kind.

    Ours is from the end of one block of textbook steps to the end of our next: data, callbacks,
    logging and optimizer included.

    Args:
        bare: make as many of our steps without the Trainer, too, to see what it adds.
    """

    def __init__(self, other: Any, block: int, device: str, bare: bool = False) -> None:
        self.other, self.block, self.device, self.bare = other, block, device, bare
        self.ours: list[float] = []
        self.without: list[float] = []
        self.theirs: list[float] = []
        self.cpu_ratios: list[float] = []
        self._numbers: list[int] = []
        self._begun = (0.0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin()

    def _begin(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._numbers.append(batch.index)
        if len(self._numbers) < self.block:
            return
        measure.synchronise(self.device)
        wall, cpu = time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]
        self.ours.append(wall / self.block)
        if self.bare:
            alone = partial(_bare_step, trainer, pl_module, self.device)
            took = measure.seconds(lambda: [alone(n) for n in self._numbers], self.device)
            self.without.append(took / self.block)
        took, theirs_cpu = measure.both_seconds(self._others, self.device)
        self.theirs.append(took / self.block)
        self.cpu_ratios.append(theirs_cpu / cpu)
        self._numbers.clear()
        self._begin()

    def _others(self) -> None:
        for number in self._numbers:
            self.other(number)


def _bare_step(trainer: Trainer, module: Any, device: str, number: int) -> None:
    batch = trainer.datamodule.batch_at(number).to(device)  # type: ignore[attr-defined]
    module.loss(batch).total.backward()
    trainer.optimizers[0].step()
    module.release_gradients()


class Textbook:
    """The step of `unlearning.textbook`, with AdamW and autocast as ours has them."""

    def __init__(
        self, shape: Shape, precision: str, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        self.device, self.precision = device, precision
        self.model = shape.model(device, dtype)
        self.reference = shape.model(device, dtype).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=2e-6, fused=True)

    def autocast(self) -> Any:
        if self.precision == "32-true":
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    def step(self, trees: list[Tree]) -> None:
        self.backward(trees)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, trees: list[Tree]) -> torch.Tensor:
        with self.autocast():
            losses = textbook_losses(self.model, self.reference, examples_of(trees))
        loss = torch.stack([PAPER_WEIGHTS[role] * each for role, each in losses.items()]).sum()
        loss.backward()
        return loss.detach()


def examples_of(trees: list[Tree]) -> dict[Role, list[TokenizedExample]]:
    """Each answer with its prompt, by role."""
    found: dict[Role, list[TokenizedExample]] = {}
    for tree in trees:
        for answer in tree.answers:
            example = TokenizedExample(tree.prompt_ids, answer.ids)
            found.setdefault(answer.role, []).append(example)
    return found


def fitted(variant: Variant, device: str, callbacks: list[Callback], steps: int) -> Any:
    """Data and module after so many steps of a Trainer."""
    data = RandomData(
        variant.batch_size,
        layout=variant.layout,  # type: ignore[arg-type]
        vocabulary=variant.shape.vocabulary,
        examples=EXAMPLES,
    )
    module = UnlearningModule(
        variant.shape.model(device),
        lora=LORA if variant.lora else None,
        reference=variant.reference,  # type: ignore[arg-type]
        optimizer=variant.optimizer,
    )
    if variant.compiled:
        module.policy.get_decoder().compile(dynamic=True)  # type: ignore[operator]
    trainer = Trainer(
        max_steps=steps,
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=variant.precision,  # type: ignore[arg-type]
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return data, module


def peak_of_a_run(variant: Variant) -> float:
    """GiB on a GPU that holds nothing else: weights, optimizer and step."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    fitted(variant, "cuda", [], 4)
    return torch.cuda.max_memory_allocated() / 2**30


def compare(variant: Variant, device: str, block: int) -> dict[str, Any]:
    """One row of the table."""
    alone = {"run_gib": peak_of_a_run(variant)} if device == "cuda" else {}
    other = Textbook(variant.shape, variant.textbook_precision, device)
    same = RandomData(variant.batch_size, vocabulary=variant.shape.vocabulary, examples=EXAMPLES)
    same.setup()
    bare = variant.precision == "32-true"  # else the Trainer's autocast and copies belong to it
    turns = Turns(lambda number: other.step(same.trees_at(number)), block, device, bare)
    data, module = fitted(variant, device, [turns], (variant.rounds + WARM_UP) * block)
    ours, theirs = turns.ours[WARM_UP:], turns.theirs[WARM_UP:]
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    row: dict[str, Any] = {
        "variant": asdict(variant),
        "name": variant.name,
        "ours_ms": 1e3 * measure.median(ours),
        "ours_spread_ms": _ms(measure.spread(ours)),
        "textbook_ms": 1e3 * measure.median(theirs),
        "textbook_spread_ms": _ms(measure.spread(theirs)),
        "ratio": measure.median(ratios),
        "ratio_spread": measure.spread(ratios),
        "steps_per_second": 1 / measure.median(ours),
    }
    if device == "cpu":
        row["cpu_ratio"] = measure.median(turns.cpu_ratios[WARM_UP:])
    if bare:
        without = turns.without[WARM_UP:]
        row["bare_ms"] = 1e3 * measure.median(without)
        row["trainer_adds"] = (
            measure.median([a / b for a, b in zip(ours, without, strict=True)]) - 1
        )
    del turns
    return row | alone | quantities(variant, module, other, data, device)


def quantities(
    variant: Variant, module: UnlearningModule, other: Textbook, data: RandomData, device: str
) -> dict[str, Any]:
    """Agreement, counts and memory on batches beside the clock."""
    module.to(device)
    number = WARM_UP
    trees, batch = data.trees_at(number), data.batch_at(number).to(device)
    half = variant.precision != "32-true"

    def ours() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext():
            loss = module.loss(batch).total
        loss.backward()
        return loss.detach()

    def bare(batch: Any) -> None:
        total = module.loss(batch).total
        total.backward()
        optimizer.step()
        module.release_gradients()

    found: dict[str, Any] = {}
    trained = [p for p in module.policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-6, fused=True)
    if not half:
        bare(batch)
        again = [measure.seconds(lambda: bare(batch), device) for _ in range(3)]
        found["batch_ms"] = 1e3 * measure.median(again)  # of the batch whose FLOPs are counted
    module.policy.zero_grad()
    module.head_memory()  # let go: it is part of what a step takes
    other.optimizer.zero_grad()

    def freed(work: Any, of: Any) -> Any:
        def run() -> None:
            of.zero_grad(set_to_none=True)
            work()
            of.zero_grad(set_to_none=True)

        return run

    mine, theirs = freed(ours, module.policy), freed(lambda: other.backward(trees), other.model)
    found["memory_mib"] = measure.peak_bytes(mine, device) / 2**20
    same = (variant.shape, variant.batch_size, variant.textbook_precision)
    if same not in TEXTBOOKS:
        TEXTBOOKS[same] = {
            "textbook_memory_mib": measure.peak_bytes(theirs, device) / 2**20,
            "textbook_gflop": measure.flops(theirs) / 1e9,
        }
    found |= TEXTBOOKS[same]
    found["memory_ratio"] = found["memory_mib"] / found["textbook_memory_mib"]
    found["gflop"] = measure.flops(mine) / 1e9
    found["least_gflop"] = least_flops(variant, trees) / 1e9
    answers = [a for tree in trees for a in tree.answers]
    found["answer_tokens"] = sum(len(a.ids) for a in answers)
    found["batch_gflop_of"] = number
    if not half and not variant.lora:
        found |= agreement(variant, device, trees, batch, data)
    return found


def agreement(
    variant: Variant,
    device: str,
    trees: list[Tree],
    batch: Any,
    data: RandomData,
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """The largest difference of any gradient entry, as a share of the largest entry, and the
    losses' relative difference; both from the same weights, one step away from the reference."""
    other = Textbook(variant.shape, "32-true", device, dtype)
    module = UnlearningModule(
        variant.shape.model(device, dtype),
        reference=variant.reference,  # type: ignore[arg-type]
    )
    module.reference = build_reference(variant.reference, module.policy, dtype=dtype)  # type: ignore[arg-type]
    module.reference.prepare({"retain": data.sequences["retain"]}, data.pad_token_id)
    with torch.no_grad():
        for a, b in zip(module.policy.parameters(), other.model.parameters(), strict=True):
            noise = torch.randn_like(a) * 1e-3
            a += noise
            b += noise
    total = module.loss(batch).total
    total.backward()
    expected = other.backward(trees)
    pairs = list(zip(module.policy.parameters(), other.model.parameters(), strict=True))
    scale = max(float(b.grad.abs().max()) for _, b in pairs if b.grad is not None)
    worst = max(
        float((a.grad - b.grad).abs().max())
        for a, b in pairs
        if a.grad is not None and b.grad is not None
    )
    return {
        "gradient_difference": worst / scale,
        "loss_difference": float((total.detach() - expected).abs() / expected.abs()),
    }


def least_flops(variant: Variant, trees: list[Tree]) -> float:
    """Products a step cannot do without: every fed token once through the layers, the head at every
    answer token; forward, and backward to inputs and to trained weights. Attention is left out."""
    width, layers = variant.shape.width, variant.shape.layers
    fed = sum(tree.length for tree in trees)
    answers = [(a.role, len(a.ids)) for tree in trees for a in tree.answers]
    scored = sum(length for _, length in answers)
    retained = sum(length for role, length in answers if role == "retain")
    passes = 2 if variant.lora else 3
    head = 2 * width * variant.shape.vocabulary
    return passes * (fed * layers * 24 * width**2 + scored * head) + retained * head


def _ms(pair: tuple[float, float]) -> list[float]:
    return [1e3 * value for value in pair]


def table(rows: list[dict[str, Any]], rates: dict[str, float]) -> str:
    lines = [
        "| model, batch | variant | ms | textbook ms | ratio | by processor time "
        "| memory MiB (ratio) | GFLOP (least) "
        "| answer tokens/s | MFU | gradient differs by | the Trainer adds |",
        f"|{'---|' * 12}",
    ]
    for row in rows:
        variant = row["variant"]
        shape = variant["shape"]
        rate = rates["fp32" if variant["precision"] == "32-true" else "bf16"]
        seconds = row.get("batch_ms", row["ours_ms"]) / 1e3
        differs = row.get("gradient_difference")
        low, high = row["ratio_spread"]
        by_cpu = f"{row['cpu_ratio']:.2f}" if "cpu_ratio" in row else ""
        adds = f"{row['trainer_adds']:+.0%}" if "trainer_adds" in row else ""
        lines.append(
            f"| {shape['width']} x {shape['layers']}, B {variant['batch_size']} | {row['name']} "
            f"| {row['ours_ms']:.0f} | {row['textbook_ms']:.0f} "
            f"| {row['ratio']:.2f} ({low:.2f}..{high:.2f}) | {by_cpu} "
            f"| {row['memory_mib']:.0f} ({row['memory_ratio']:.2f}) "
            f"| {row['gflop']:.0f} ({row['least_gflop']:.0f}) "
            f"| {row['answer_tokens'] / seconds:.0f} | {1e9 * row['gflop'] / seconds / rate:.0%} "
            f"| {'' if differs is None else f'{differs:.0e}'} "
            f"| {adds} |"
        )
    return "\n".join(lines)


def cpu_variants(quick: bool, every: bool) -> list[Variant]:
    if quick:
        return [Variant(Shape(64, 2, 1000), 2, rounds=2)]
    small, large = Shape(512, 8), Shape(1024, 12)
    found = [
        Variant(small, 2),
        Variant(small, 2, lora=True),
        Variant(small, 8, rounds=3, block=1),
        Variant(large, 2, rounds=5, block=1),
    ]
    if every:
        found += [
            Variant(small, 2, layout=layout, reference=reference, lora=lora, rounds=3)
            for layout in ("tree", "padded")
            for lora in (False, True)
            for reference in ("cached", "copy", *(["adapter_off"] if lora else []))
            if (layout, reference) != ("tree", "cached")
        ]
        found.append(Variant(small, 2, compiled=True, rounds=3))
    return found


def gpu_variants(quick: bool, every: bool) -> list[Variant]:
    if quick:
        return [Variant(Shape(64, 2, 1000), 2, rounds=2, precision="bf16-true")]
    shape, low = Shape(2048, 24), "bf16-mixed"
    found = [Variant(shape, 2, rounds=2)]  # whose gradients are compared
    found += [
        Variant(shape, size, precision="bf16-true", rounds=rounds, textbook_precision=other)
        for size, rounds in ((2, 5), (32, 3))
        for other in ("32-true", low)
    ]
    found.append(Variant(shape, 2, precision=low, rounds=3, textbook_precision=low))
    lora = Variant(shape, 2, precision="bf16-true", lora=True, rounds=3, textbook_precision=low)
    return [*found, lora]


def exact(variants: list[Variant], device: str) -> None:
    """Prints whether loss and gradient are the textbook's in fp64, where no rounding is seen."""
    for variant in variants:
        # Few examples: the reference's states of all are computed.
        data = RandomData(variant.batch_size, vocabulary=variant.shape.vocabulary, examples=16)
        data.setup()
        trees, batch = data.trees_at(WARM_UP), data.batch_at(WARM_UP).to(device)
        found = agreement(variant, device, trees, batch, data, torch.float64)
        print(f"{variant.shape}, B {variant.batch_size}: {found}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--all", action="store_true", help="every layout and reference, too")
    parser.add_argument("--exact", action="store_true", help="compare gradients in fp64 instead")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    device, cuda = arguments.device, arguments.device == "cuda"
    rates = {
        "fp32": measure.matmul_rate(torch.float32, device),
        "bf16": measure.matmul_rate(torch.bfloat16, device),
    }
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.cuda.get_device_name() if cuda else platform.machine()}; products at "
        f"{rates['fp32'] / 1e9:.0f} GFLOP/s in fp32, {rates['bf16'] / 1e9:.1f} in bf16\n"
    )
    variants = (gpu_variants if cuda else cpu_variants)(arguments.quick, arguments.all)
    if not cuda and rates["bf16"] > rates["fp32"] / 2 and not arguments.quick:
        variants += [
            Variant(Shape(512, 8), 2, precision="bf16-true"),
            Variant(Shape(512, 8), 2, precision="bf16-mixed"),
        ]
    elif not cuda:
        print("This CPU has no fast products in bf16; those rows are left out.\n")
    if arguments.exact:
        exact([v for v in variants if not v.lora], device)
        return
    rows: list[dict[str, Any]] = []
    arguments.results.mkdir(exist_ok=True, parents=True)
    for variant in variants:
        rows.append(compare(variant, device, block=5 if cuda else variant.block))
        print(table(rows, rates).splitlines()[0 if len(rows) == 1 else -1])
        if len(rows) == 1:
            print("\n".join(table(rows, rates).splitlines()[1:]))
        written = {"rates": rates, "torch": torch.__version__, "rows": rows}
        name = f"bench_{device}{'_quick' if arguments.quick else ''}.json"
        (arguments.results / name).write_text(json.dumps(written, indent=1), encoding="utf-8")
        if cuda:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
