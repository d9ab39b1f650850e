"""What this package does with a model of one architecture, held against naive computations."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from naive import (
    answer_log_probs,
    forget_loss,
    gradients,
    mismatch_loss,
    relative_error,
    token_nlls,
)
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from unlearning import UnlearningModule
from unlearning.data.layout import Answer, Layout, Tree, make_batch
from unlearning.generation.generate import generate
from unlearning.generation.likelihood import answer_scores
from unlearning.models.decoder import decode, last_hidden, output_head
from unlearning.models.load import save_model
from unlearning.models.tree_masks import LIMITED
from unlearning.models.trial import takes_left_pads, why_no_tree_rows
from unlearning.types import TokenizedExample

NUMBERS = tuple(torch.randperm(90, generator=torch.Generator().manual_seed(1)).add(3).tolist())
TREES = [
    Tree(
        NUMBERS[:24],
        (Answer("forget", 0, NUMBERS[24:44]), Answer("mismatch", 0, NUMBERS[40:60])),
    ),
    Tree(NUMBERS[60:65], (Answer("retain", 1, NUMBERS[65:90]),)),
]
PAIRS = {answer.role: (tree.prompt_ids, answer.ids) for tree in TREES for answer in tree.answers}
PROMPTS = ["the sun is hot , not cold", "meow", "a dog has four legs " * 4]
NEW_TOKENS = 10
NLL, GRADIENT, BF16 = 1e-4, 1e-3, 0.15
"""Tolerances: nats of a mean or sum of NLLs; of the largest entry; nats a token under bf16."""


def facts(model: PreTrainedModel) -> dict[str, str]:
    """The row of a working model in the table of docs/models.md."""
    config = model.config.get_text_config(decoder=True)
    settings = config.to_dict()
    kinds = [str(kind) for kind in getattr(config, "layer_types", None) or ()]
    notes = []
    if "sliding_attention" in kinds or (not kinds and settings.get("sliding_window")):
        notes.append("sliding window")
    if "chunked_attention" in kinds:
        notes.append("chunks")
    if any("expert" in name for name, _ in model.named_modules()):
        notes.append("experts")
    others = {kind for kind in kinds if kind not in LIMITED}
    notes += sorted(kind.replace("_", " ") for kind in others)
    if abs(logit_scale(model) - 1) > 1e-3:
        notes.append("scaled logits")
    if output_head(model).softcap is not None:
        notes.append("capped logits")
    if not takes_autocast(model):
        notes.append("no bf16-mixed")
    if not takes_left_pads(model):
        notes.append("prompts of one length share a batch")
    rows = "padded" if why_no_tree_rows(model) else "tree"
    return {"rows": rows, "notes": ", ".join(notes)}


def logit_scale(model: PreTrainedModel) -> float:
    """By how much the hidden states of `decode` are scaled."""
    rows = make_batch(TREES, "padded", pad_token_id=1).rows
    with torch.no_grad():
        return float(decode(model, rows).norm() / last_hidden(model, rows).norm())


def reason(error: str) -> str:
    """The part of a refusal that is the same for every size."""
    first = error.split(" Choose another model")[0].split(", so the losses here")[0]
    return re.sub(r" \(.*\)", "", first).rstrip(".")


def check_uneven(model: PreTrainedModel) -> None:
    with torch.no_grad():
        entropy = -(p := answer_log_probs(model, PAIRS["retain"])).exp().mul(p).sum(-1).mean()
    assert entropy < 0.92 * math.log(p.shape[-1]), "nothing is shown by uniform predictions"


def check_training(module: UnlearningModule, plain: PreTrainedModel, layouts: list[Layout]) -> None:
    """Loss and gradient of the paper's objective at step 0, where the KL is 0."""
    weights = {name: term.weight for name, term in module.objective.terms.items()}
    wanted = weights["forget"] * forget_loss(plain, [PAIRS["forget"]])
    wanted = wanted + weights["mismatch"] * mismatch_loss(plain, [PAIRS["mismatch"]])
    naive = gradients(wanted, plain)
    for layout in layouts:
        values = module.loss(make_batch(TREES, layout, pad_token_id=1))
        assert abs(float(values.terms["retain"])) < NLL, layout
        assert abs(float(values.total - wanted)) < NLL, layout
        found = gradients(values.total, module.policy)
        assert relative_error(found, naive) < GRADIENT, layout


def scored(model: PreTrainedModel) -> list[float]:
    """NLL of each answer, in a batch."""
    examples = [TokenizedExample(*pair) for pair in PAIRS.values()]
    return [each.nll for each in answer_scores(model, examples, pad_token_id=1, batch_size=3)]


def check_scores(model: PreTrainedModel, wanted: list[Tensor]) -> None:
    for nll, naive in zip(scored(model), wanted, strict=True):
        assert abs(nll - float(naive.sum())) < NLL * len(naive)


def check_bf16(model: PreTrainedModel, plain: PreTrainedModel, wanted: list[Tensor]) -> None:
    """Under autocast: within `BF16` nats a token of fp32, beside what the naive loss is off."""
    with torch.autocast("cpu", torch.bfloat16):
        found, coarse = scored(model), naive_nlls(plain)
    for nll, naive, exact in zip(found, coarse, wanted, strict=True):
        off = abs(float(naive.sum()) - float(exact.sum()))
        assert abs(nll - float(exact.sum())) < BF16 * len(exact) + 2 * off


def takes_autocast(model: PreTrainedModel) -> bool:
    try:
        with torch.autocast("cpu", torch.bfloat16):
            naive_nlls(model)
    except RuntimeError:
        return False
    return True


def check_generation(model: PreTrainedModel, tokenizer: Any) -> None:
    together = generate(model, tokenizer, PROMPTS, NEW_TOKENS, batch_size=4)
    alone = [generate(model, tokenizer, [prompt], NEW_TOKENS)[0] for prompt in PROMPTS]
    assert [each.ids for each in together] == [each.ids for each in alone]


def check_saving(model: PreTrainedModel, folder: Path) -> None:
    save_model(model, None, folder)
    again = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        found, wanted = (answer_log_probs(each, PAIRS["forget"]) for each in (again, model))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def check_lora(module: UnlearningModule, layout: Layout, wanted: list[Tensor]) -> None:
    """Only factors of the adapter are trained, and at step 0 they change nothing."""
    trained = {n: p for n, p in module.policy.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    batch = make_batch(TREES, layout, pad_token_id=1)
    module.loss(batch).total.backward()
    assert any(float(p.grad.abs().max()) > 0 for p in trained.values() if p.grad is not None)
    module.policy.eval()
    with torch.no_grad():
        found = module.token_losses(batch)["forget"].nll
    torch.testing.assert_close(found, wanted[0], atol=1e-4, rtol=1e-4)
    assert decode(module.policy, batch.rows).requires_grad


def naive_nlls(model: PreTrainedModel) -> list[Tensor]:
    with torch.no_grad():
        return [token_nlls(model, pair) for pair in PAIRS.values()]
