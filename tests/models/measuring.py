"""What a tiny model of one architecture does in this package, held against naive computations."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from architectures import tiny_model
from naive import (
    answer_log_probs,
    forget_loss,
    gradients,
    mismatch_loss,
    relative_error,
    token_nlls,
)
from transformers import AutoModelForCausalLM

from unlearning import UnlearningModule
from unlearning.data.layout import Answer, Tree, make_batch
from unlearning.errors import ConfigError
from unlearning.generation.generate import answer_scores, generate
from unlearning.models.trial import why_no_tree_rows
from unlearning.types import TokenizedExample

NUMBERS = tuple(torch.randperm(90, generator=torch.Generator().manual_seed(1)).add(3).tolist())
TREES = [
    Tree(
        NUMBERS[:24], (Answer("forget", 0, NUMBERS[24:44]), Answer("mismatch", 0, NUMBERS[40:60]))
    ),
    Tree(NUMBERS[60:65], (Answer("retain", 1, NUMBERS[65:90]),)),
]
PAIRS = {a.role: (tree.prompt_ids, a.ids) for tree in TREES for a in tree.answers}
PROMPTS = [
    "the sun is hot , not cold",
    "what colour is the sky ? " * 4,
    "meow",
    "a dog has four legs " * 4,
]
NLL, GRADIENT, BF16 = 1e-5, 1e-4, 0.1


def differences(model_type: str, tokenizer: Any) -> dict[str, float]:
    model = tiny_model(model_type)
    plain = tiny_model(model_type)
    found = {}
    module = UnlearningModule(model, reference="copy")
    weights = {name: term.weight for name, term in module.objective.terms.items()}
    total = weights["forget"] * forget_loss(plain, [PAIRS["forget"]]) + weights[
        "mismatch"
    ] * mismatch_loss(plain, [PAIRS["mismatch"]])
    wanted = gradients(total, plain)
    layouts = ["padded"] if (why := why_no_tree_rows(model)) else ["padded", "tree"]
    for layout in layouts:
        batch = make_batch(TREES, layout, pad_token_id=1)
        values = module.loss(batch)
        found[f"{layout} loss"] = abs(float(values.total - total))
        found[f"{layout} kl"] = abs(float(values.terms["retain"]))
        found[f"{layout} gradient"] = relative_error(gradients(values.total, model), wanted)
    found["why"] = why
    model.eval()
    examples = [TokenizedExample(*pair) for pair in PAIRS.values()]
    scores = answer_scores(model, examples, 1, batch_size=3)
    with torch.no_grad():
        found["scores"] = max(
            abs(s.nll - float(token_nlls(plain, p).sum())) for s, p in zip(scores, PAIRS.values())
        )
    together = generate(model, tokenizer, PROMPTS, 24, batch_size=4)
    alone = [generate(model, tokenizer, [p], 24)[0] for p in PROMPTS]
    found["generation"] = sum(a.ids != b.ids for a, b in zip(together, alone))
    with torch.autocast("cpu", torch.bfloat16):
        scores = answer_scores(model, examples, 1, batch_size=3)
        found["bf16"] = max(
            abs(s.nll - float(token_nlls(plain, p).sum())) / s.tokens
            for s, p in zip(scores, PAIRS.values())
        )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.no_grad():
            found["saved"] = float(
                (
                    answer_log_probs(again, PAIRS["forget"])
                    - answer_log_probs(model, PAIRS["forget"])
                )
                .abs()
                .max()
            )
    try:
        module = UnlearningModule(model, lora={}, reference="adapter_off")
        trained = [n for n, p in module.policy.named_parameters() if p.requires_grad]
        values = module.loss(make_batch(TREES, layouts[-1], pad_token_id=1))
        found["lora loss"] = abs(float(values.total - total))
        values.total.backward()
        lora = [p.grad for n, p in module.policy.named_parameters() if p.requires_grad]
        found["lora"] = float(
            not (
                trained
                and all("lora_" in n for n in trained)
                and any(g is not None and g.abs().max() > 0 for g in lora)
            )
        )
    except ConfigError as e:
        found["lora refused"] = str(e)
    return found
