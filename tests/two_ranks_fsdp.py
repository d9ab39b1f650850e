"""Run by `test_fsdp.py` as each of two ranks: `two_ranks_fsdp.py <folder> <scenario> ...`.

A scenario trains a tiny model under FSDP and, to hold it against, under DDP. Rank 0 has the whole
weights and reports.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import conftest
import torch
from callbacks.conftest import ScriptedModule
from callbacks.test_bleu import TEXT
from callbacks.test_harm import FirstWords
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from methods.two_ranks_methods import DPO_TERMS
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from unlearning.callbacks import (
    BleuEvaluation,
    CollapseGuard,
    HarmEvaluation,
    RetainUtility,
    SampleGenerations,
)
from unlearning.callbacks.snapshot import Snapshot
from unlearning.checkpoints import WholeCheckpointIO
from unlearning.data.datamodule import UnlearningDataModule
from unlearning.errors import ConfigError
from unlearning.fsdp import ShardedStrategy, gathered, whole_policy
from unlearning.generation.generate import generate
from unlearning.methods.jensun import JensUn
from unlearning.methods.loku import LoKU
from unlearning.methods.on_policy import OnPolicy
from unlearning.methods.pdu import PDU
from unlearning.methods.rerouting import Rerouting
from unlearning.methods.rmu import RMU
from unlearning.models.adapter import merge_adapter
from unlearning.models.decoder import CausalLM
from unlearning.models.load import save_model
from unlearning.types import Example

RANK = int(os.environ.get("RANK", "0"))
STEPS = 5  # three batches an epoch and rank
LORA = {"r": 2, "dropout": 0.0}
SGD = {"optimizer": "torch.optim.SGD", "optimizer_options": {"momentum": 0.9}}
CASES: dict[str, dict[str, Any]] = {
    "full": {"reference": "cached"},
    "lora, adapter off": {"lora": LORA, "reference": "adapter_off"},
    "lora, cached": {"lora": LORA, "reference": "cached"},
    "an untied head": {"architecture": "llama"},
    "rotary positions": {"architecture": "gpt_neox"},
    "mixed precision": {"architecture": "gpt_neox", "trainer": {"precision": "bf16-mixed"}},
    "recomputed": {"gradient_checkpointing": True},
    "lora, recomputed": {"lora": LORA, "gradient_checkpointing": True},
    "dropout": {"keep_dropout": True, "lora": {"r": 2, "dropout": 0.2}},
    "accumulated": {"trainer": {"accumulate_grad_batches": 2}},
    "clipped": {**SGD, "trainer": {"gradient_clip_val": 0.5}},
    "lora, clipped": {**SGD, "lora": LORA, "trainer": {"gradient_clip_val": 0.5}},
    "clipped by value": {**SGD, "trainer": {"gradient_clip_val": 0.01,
                                            "gradient_clip_algorithm": "value"}},
}  # fmt: skip
KTO_TERMS: dict[str, dict[str, Any]] = {
    "forget": {"loss": "unlearning.methods.kto.undesirable", "role": ["forget", "mismatch"]},
    "desirable": {"loss": "unlearning.methods.kto.desirable", "role": ["retain", "mismatch"]},
}
METHODS: dict[str, dict[str, Any]] = {
    "pdu": {"method": PDU, "epsilon": 2.0, "dual_warmup_epochs": 1, "dual_step": 0.5},
    "jensun": {"method": JensUn, "refusal": "look not"},
    "rerouting": {"method": Rerouting, "layers": (0, 1), "lora": LORA},
    "altpo": {"terms": DPO_TERMS, "lora": LORA},
    "rmu": {"method": RMU, "layer": 0, "scale": 2.0, "lora": LORA},
    "kto": {"terms": KTO_TERMS, "lora": LORA},
}
CANNOT: dict[str, dict[str, Any]] = {
    "gru": {"rule": {"_target_": "unlearning.methods.gru.GRU"}},
    "sam": {"rule": {"_target_": "unlearning.methods.sam.SAM"}},
    "loku": {"method": LoKU, "lora": LORA},
    "on_policy": {"method": OnPolicy, "max_new_tokens": 6},
    "pdu": {"method": PDU},
    "rerouting": {"method": Rerouting, "layers": (0, 1)},
    "rmu": {"method": RMU, "layer": 0},
    "kto": {"terms": KTO_TERMS},
}


class Curve(Callback):
    """Every logged value of each step, and how many weights this rank held between them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.held = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.held = sum(p.numel() for p in pl_module.parameters())

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.rows.append({name: float(v) for name, v in trainer.callback_metrics.items()})


class Fitted:
    """A finished training, and on rank 0 its whole weights."""

    def __init__(self, strategy: str, *callbacks: Callback, **settings: Any) -> None:
        trainer, ckpt = settings.pop("trainer", {}), settings.pop("ckpt_path", None)
        torch.manual_seed(11)  # of the adapter, and of dropout
        model = conftest.tiny_model(settings.pop("architecture", "opt"))
        usual = {"learning_rate": 1e-2, "schedule": "linear"}
        kind = settings.pop("method", ScriptedModule)
        self.module, self.curve = kind(model, **{**usual, **settings}), Curve()
        self.start = {n: v.clone() for n, v in self.module.policy.state_dict().items()}
        self.trainer = Trainer(
            accelerator="cpu", devices=2,
            strategy=ShardedStrategy() if strategy == "fsdp" else strategy,
            logger=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, callbacks=[*callbacks, self.curve],
            **{"max_steps": STEPS, "enable_checkpointing": False, **trainer},
        )  # fmt: skip
        self.trainer.fit(self.module, data(), ckpt_path=ckpt, weights_only=True if ckpt else None)
        self.policy = whole_policy(self.trainer, self.module)
        assert (self.policy is None) == (RANK > 0)

    @property
    def weights(self) -> dict[str, Tensor]:
        return {} if self.policy is None else dict(self.policy.state_dict())


def fixture(name: str) -> Any:
    return getattr(conftest, name)._get_wrapped_function()()


def data() -> UnlearningDataModule:
    return UnlearningDataModule(
        fixture("forget_examples"), fixture("retain_examples"), fixture("tokenizer"),
        mismatch_per_prompt=2, batch_size=1, max_length=48, alternate=["the cat", "not in the sun"],
    )  # fmt: skip


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of a weight; the names have to be the same."""
    assert one.keys() == other.keys(), sorted(one.keys() ^ other.keys())
    return max((float((one[n] - other[n]).abs().max()) for n in one), default=0.0)


def equality(folder: Path, case: str) -> dict[str, Any]:
    settings = {**CASES, **METHODS}[case]
    ours, theirs = Fitted("fsdp", **settings), Fitted("ddp", **settings)
    pairs = zip(ours.curve.rows, theirs.curve.rows, strict=True)
    free = {**settings, "trainer": {}} if "clipped" in case else None
    result = {
        "loss": max(abs(a[n] - b[n]) for a, b in pairs for n in a),
        "steps": len(ours.curve.rows),
        "first": ours.curve.rows[0],
        "last": ours.curve.rows[-1],
        "first_kl": [run.curve.rows[0].get("train/retain") for run in (ours, theirs)],
        "held": ours.curve.held / theirs.curve.held,
        "weights": distance(ours.weights, theirs.weights),
    }
    if RANK == 0:
        result["moved"] = distance(ours.weights, ours.start)
    if free is not None:
        result["clipping_matters"] = distance(ours.weights, Fitted("fsdp", **free).weights)
    return result


def resume(folder: Path, case: str) -> dict[str, Any]:
    """From every step and by every strategy on, against the run that was never stopped."""
    settings, result = CASES[case], dict[str, Any]()
    io = {**settings.get("trainer", {}), "plugins": [WholeCheckpointIO()]}
    every = {**settings, "trainer": {**io, "enable_checkpointing": True}}
    for strategy in ("fsdp", "ddp"):
        keep = ModelCheckpoint(
            folder / strategy, filename="{step}", every_n_train_steps=1, save_top_k=-1
        )
        whole = Fitted(strategy, keep, **every)
        for other in ("fsdp", "ddp"):
            for step in (1, 4) if other == strategy == "fsdp" else (3,):
                path = folder / strategy / f"step={step}.ckpt"
                resumed = Fitted(other, ckpt_path=path, **{**settings, "trainer": io})
                assert resumed.trainer.global_step == STEPS
                far = distance(resumed.weights, whole.weights)
                result[f"{strategy} to {other}"] = max(
                    result.get(f"{strategy} to {other}", 0.0), far
                )
    one, two = (torch.load(folder / s / "step=3.ckpt", weights_only=True) for s in ("fsdp", "ddp"))
    result["file"] = distance(one["state_dict"], two["state_dict"])
    final = {f"policy.{name}": weight for name, weight in whole.weights.items()}
    if RANK == 0:
        last = torch.load(folder / "ddp" / f"step={STEPS - 1}.ckpt", weights_only=True)
        result["to_go"] = max(
            float((value - final[name]).abs().max()) for name, value in last["state_dict"].items()
        )
    moments = [c["optimizer_states"][0]["state"] for c in (one, two)]
    assert moments[0].keys() == moments[1].keys()
    result["moments"] = max(distance(moments[0][n], moments[1][n]) for n in moments[0])
    result["names"] = sorted(one["state_dict"])
    result["same_entries"] = one.keys() == two.keys()
    return result


def refused(folder: Path) -> dict[str, Any]:
    """A checkpoint of another model, an adapter that cannot be split, a second model."""
    said = {}
    keep = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, monitor=None)
    Fitted("fsdp", keep, trainer={"enable_checkpointing": True, "max_steps": 1}, lora=LORA)
    broken = folder / "broken.ckpt"
    if RANK == 0:
        broken.write_bytes((folder / "step=1.ckpt").read_bytes()[:-100])
    for name, settings in {
        "broken": {"ckpt_path": broken, "trainer": {"plugins": [WholeCheckpointIO()]}},
        "checkpoint": {"ckpt_path": folder / "step=1.ckpt"},
        "copy": {"reference": "copy"},
        "adalora": {"lora": {"kind": "adalora", "r": 2}},
        "mismatch": {
            "terms": {
                "kl": {
                    "loss": "unlearning.losses.kl_to_reference",
                    "role": "mismatch",
                    "needs_reference": True,
                }
            }
        },
        **CANNOT,
    }.items():
        try:
            Fitted("fsdp", **settings)
        except ConfigError as error:
            said[name] = str(error)
    return said


def callbacks(folder: Path) -> dict[str, Any]:
    """What is evaluated in training, with shards of three and two prompts, and of one and none."""
    result: dict[str, Any] = {}
    for strategy in ("fsdp", "ddp"):
        for count in (1, 5):
            path = folder / f"{strategy}{count}.jsonl"
            watching = watchers(count, path)
            fitted = Fitted(strategy, *watching, **WATCHED)
            result[f"{strategy} {count}"] = {
                "logged": evaluated(fitted.curve.rows),
                "said": path.read_text().splitlines() if RANK == 0 else [],
                "mine": watching[0].scorer.texts,  # type: ignore[attr-defined]
            }
        result[f"{strategy} noticed"] = distance(
            fitted.weights, Fitted(strategy, **WATCHED).weights
        )
    return result


WATCHED: dict[str, Any] = {
    "schedule": "constant",
    "learning_rate": 5e-3,
    "trainer": {"max_steps": 4},
}


def watchers(count: int, path: Path) -> list[Callback]:
    """Every evaluation, after each step, of so many prompts; the untrained model is scored 100."""
    tokenizer, examples = fixture("tokenizer"), fixture("forget_examples")[:count]
    prompts = [example.prompt for example in examples]
    told = [c.text for c in generate(conftest.tiny_model().eval(), tokenizer, prompts, 8)]
    book = [Example(prompt, f" {text}") for prompt, text in zip(prompts, told, strict=True)]
    scorer = FirstWords(*(text.split()[0] for text in told[:3]))
    return [
        HarmEvaluation(prompts, tokenizer, scorer, 1, max_new_tokens=8),
        BleuEvaluation(book, tokenizer, TEXT, 1, max_new_tokens=8),
        SampleGenerations(prompts, tokenizer, path, 1, max_new_tokens=8),
    ]


def evaluated(rows: list[dict[str, float]]) -> list[list[float]]:
    """Per step the harmful rate, that of broken answers, and BLEU."""
    return [[row[n] for n in ("harm/rate", "harm/broken_rate", "bleu/forget")] for row in rows]


def agreed(folder: Path) -> dict[str, Any]:
    """Where each rank stops early, and what it takes for the best checkpoint."""
    found = {}
    for strategy in ("fsdp", "ddp"):
        early = EarlyStopping("bleu/forget", patience=1, mode="min", check_on_train_epoch_end=True)
        best = ModelCheckpoint(
            folder / strategy, filename="{step}", monitor="bleu/forget", every_n_train_steps=1
        )
        settings = {**WATCHED, "learning_rate": 2e-2}
        settings["trainer"] = {"max_steps": 15, "enable_checkpointing": True}
        fitted = Fitted(strategy, watchers(5, folder / "said.jsonl")[1], early, best, **settings)
        found[strategy] = [fitted.trainer.global_step, Path(best.best_model_path).name]
        found[strategy] += [float(best.best_model_score), early.wait_count]  # type: ignore[arg-type]
    return found


class Spoil(Callback):
    """Rank 1's part alone, after the last step: no loss has seen it."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if RANK == 1 and trainer.global_step == trainer.max_steps:
            with torch.no_grad():
                max(pl_module.parameters(), key=Tensor.numel).fill_(float("nan"))


def guard(folder: Path) -> dict[str, Any]:
    """What comes back is what was, on both ranks' parts, with and without the moments."""
    result = {}
    spoilt = CollapseGuard(every_n_steps=2)
    fitted = Fitted("fsdp", Spoil(), spoilt, schedule="constant", trainer={"max_steps": 5})
    restored = Fitted("fsdp", schedule="constant", trainer={"max_steps": 3})
    result["event"] = spoilt.events[0]
    result["stopped"] = distance(fitted.weights, restored.weights)
    script = {"train/nll_retain": lambda step: 9.0 if step in (4, 8) else 1.0}
    runs = []
    for strategy in ("fsdp", "ddp"):
        lower = CollapseGuard(
            retain_perplexity=2.0, action="lower", factor=0.5, every_n_steps=2, window=1
        )
        runs.append(Fitted(strategy, lower, script=script, trainer={"max_steps": 9}))
        result[strategy] = lower.events
    result["lowered"] = distance(runs[0].weights, runs[1].weights)
    return result


def utility(folder: Path) -> dict[str, Any]:
    """A budget of retain utility, measured between backward and update: with gradients there."""
    result: dict[str, Any] = {}
    fitted = []
    for strategy in ("fsdp", "ddp"):
        for limit in (1e3, 1 + 1e-6):
            measured = RetainUtility(fixture("forget_examples")[:3], fixture("tokenizer"), limit)
            guard = CollapseGuard(every_n_steps=2, retain_utility=measured)
            clipped = {"gradient_clip_val": 0.5, "max_steps": 3}
            fitted.append(Fitted(strategy, guard, **SGD, trainer=clipped))
            result[f"{strategy}, {limit:g}"] = [measured.nll_before, guard.events]
    fitted.append(Fitted("fsdp", **SGD, trainer=clipped))
    result["unmeasured"] = distance(fitted[0].weights, fitted[-1].weights)
    result["stopped"] = distance(fitted[1].weights, fitted[3].weights)
    return result


def saved(folder: Path) -> dict[str, Any]:
    """Ordinary folders, once the process group has gone; so this comes last."""
    cases = ("full", "lora, cached")
    fitted = {case: [Fitted(name, **CASES[case]) for name in ("fsdp", "ddp")] for case in cases}
    torch.distributed.destroy_process_group()
    if RANK:
        return {}
    return {case: saved_case(folder / case, case, *fitted[case]) for case in cases}


def saved_case(folder: Path, case: str, fitted: Fitted, plain: Fitted) -> dict[str, Any]:
    tokenizer, ours = fixture("tokenizer"), fitted.policy
    assert ours is not None and not any("FullyS" in type(m).__name__ for m in ours.modules())
    found: dict[str, Any] = {"classes": [type(ours).__name__, type(plain.policy).__name__]}
    folder.mkdir()
    save_model(ours, tokenizer, folder / "ours")
    save_model(plain.policy, tokenizer, folder / "plain")  # type: ignore[arg-type]
    found["files"] = [sorted(p.name for p in (folder / f).iterdir()) for f in ("ours", "plain")]
    (weights,) = (folder / "ours").glob("*.safetensors")
    both = [load_file(folder / name / weights.name) for name in ("ours", "plain")]
    found["weights"] = distance(*both)
    model: CausalLM = ours
    if "lora" in CASES[case]:
        model = merge_adapter(ours)  # type: ignore[arg-type]
        save_model(model, tokenizer, folder / "merged")
    last = folder / ("merged" if "lora" in CASES[case] else "ours")
    read = AutoModelForCausalLM.from_pretrained(last)
    prompts = [example.prompt for example in fixture("forget_examples")]
    answers = [generate(m, tokenizer, prompts, 8) for m in (model, read)]
    found["said"] = [[completion.text for completion in each] for each in answers]
    tied = [m.get_input_embeddings().weight is m.get_output_embeddings().weight
            for m in (model, read)]  # fmt: skip
    found["tied"] = tied
    return found


class Look(Callback):
    """Looks at the whole policy between steps."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.whole: list[int] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        with gathered(trainer, pl_module) as policy:
            self.kinds |= {type(module).__name__ for module in policy.modules()}
            self.whole.append(sum(p.numel() for p in policy.parameters()))
            for _ in range(RANK):  # one rank alone may go through the model
                policy(input_ids=torch.arange(4)[None])
            with torch.no_grad():
                next(policy.parameters()).zero_()  # lost


def looked(folder: Path) -> dict[str, Any]:
    look = Look()
    seen, free = Fitted("fsdp", look), Fitted("fsdp")
    module = conftest.tiny_model()
    snapshot = Snapshot(module)
    assert snapshot.finite()
    return {
        "kinds": sorted(look.kinds),
        "whole": sorted(set(look.whole)),
        "numel": sum(p.numel() for p in module.parameters()),
        "noticed": distance(seen.weights, free.weights),
    }


SCENARIOS: dict[str, Callable[..., Any]] = {
    name: globals()[name]
    for name in (
        "equality",
        "resume",
        "refused",
        "callbacks",
        "agreed",
        "guard",
        "utility",
        "saved",
        "looked",
    )
}


def main(folder: Path, wanted: list[str]) -> None:
    result = {}
    for scenario in wanted:
        name, _, case = scenario.partition(":")
        place = folder / scenario.replace(" ", "_")
        place.mkdir(exist_ok=True)
        result[scenario] = SCENARIOS[name](place, *([case] if case else []))
    print(json.dumps(result), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    faulthandler.dump_traceback_later(200, exit=True)  # a rank that waits in vain says where
    main(Path(sys.argv[1]), sys.argv[2:])
