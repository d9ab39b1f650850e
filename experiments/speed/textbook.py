"""The step as it is usually written, to compare ours with.

Three padded forwards (forget, mismatch, retain) with logits for every position, and a second model
as the reference at every step. Right label masks, the same loss and the same gradient as ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from unlearning.data.layout import Tree
from unlearning.types import Role

WEIGHTS: dict[Role, float] = {"forget": 0.5, "mismatch": 1.0, "retain": 1.0}
IGNORED = -100
Pair = tuple[tuple[int, ...], tuple[int, ...]]


def pairs(trees: list[Tree]) -> dict[Role, list[Pair]]:
    """Every answer with its prompt."""
    found: dict[Role, list[Pair]] = {}
    for tree in trees:
        for answer in tree.answers:
            found.setdefault(answer.role, []).append((tree.prompt_ids, answer.ids))
    return found


def padded(examples: list[Pair], device: str) -> dict[str, Tensor]:
    """input_ids, attention_mask and labels, [B, L] each."""
    length = max(len(prompt) + len(answer) for prompt, answer in examples)
    ids = torch.ones(len(examples), length, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (prompt, answer) in enumerate(examples):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(answer)
    found = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: tensor.to(device) for name, tensor in found.items()}


def logits_of(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """[B, L - 1, V]: of the positions that predict a token."""
    output = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    logits = output.logits[:, :-1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def mean_of_means(values_BL: Tensor, kept_BL: Tensor) -> Tensor:
    return ((values_BL * kept_BL).sum(1) / kept_BL.sum(1)).mean()


def nll(model: Any, batch: dict[str, Tensor]) -> Tensor:
    labels = batch["labels"][:, 1:]
    values = functional.cross_entropy(
        logits_of(model, batch).transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    return mean_of_means(values, labels != IGNORED)


def kl(model: Any, reference: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        log_q = logits_of(reference, batch).log_softmax(-1)
    log_p = logits_of(model, batch).log_softmax(-1)
    values = functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    return mean_of_means(values, batch["labels"][:, 1:] != IGNORED)


def loss(model: Any, reference: Any, batches: dict[Role, dict[str, Tensor]]) -> Tensor:
    """What the step descends (arXiv 2405.15152, Eq. 1)."""
    total = -WEIGHTS["forget"] * nll(model, batches["forget"])
    if "mismatch" in batches:
        total = total + WEIGHTS["mismatch"] * nll(model, batches["mismatch"])
    return total + WEIGHTS["retain"] * kl(model, reference, batches["retain"])


def step(
    model: Any,
    reference: Any,
    optimizer: Optimizer,
    trees: list[Tree],
    autocast: Callable[[], Any],
    device: str = "cpu",
) -> None:
    batches = {role: padded(examples, device) for role, examples in pairs(trees).items()}
    with autocast():
        total = loss(model, reference, batches)
    total.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
