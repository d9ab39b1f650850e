"""Scores known answers by their likelihood; answers to one prompt share its computation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.data.layout import Answer, Layout, Tree, make_batch
from unlearning.generation.batch_size import in_batches
from unlearning.generation.generate import inference_mode, rows_at_once
from unlearning.head.logits import Head, softcapped_
from unlearning.head.token_losses import token_losses
from unlearning.models.decoder import CausalLM, decode, output_head, unwrap
from unlearning.models.trial import check_model, takes_tree_rows
from unlearning.types import TokenizedExample


@dataclass(frozen=True)
class AnswerScore:
    """The likelihood of a known answer, each token given the prompt and the true tokens before it.

    Args:
        nll: summed over the tokens, in nats.
        tokens: how many.
        matches: how many of them are the model's first choice.
        suffix: how many of the last ones are, without a miss.
        end_nll: of the end token alone; 0 where the answer has none.
    """

    nll: float
    tokens: int
    matches: int
    suffix: int
    end_nll: float = 0.0


def answer_scores(
    model: CausalLM,
    sequences: Sequence[TokenizedExample],
    pad_token_id: int,
    batch_size: int | None = None,
    end_token_id: int | None = None,
    on_scored: Callable[[int], None] | None = None,
) -> list[AnswerScore]:
    """Computes how likely each answer is given its prompt, and how much of it is memorised.

    Answers that follow each other and have one prompt, such as choices, are computed as the
    branches of a tree, the prompt once, where the model takes tree rows; else a row each. Both
    give the same values but for rounding. Logits are computed in fp32 also where the model is in
    bf16, in which those of two choices are often the same number.

    Args:
        batch_size: rows at once, see `generate`.
        end_token_id: what an answer may end with.
        on_scored: told after each batch how many answers it had.
    """
    found: dict[int, AnswerScore] = {}
    check_model(model)
    trees = _trees(sequences)
    layout: Layout = "padded"
    if len(trees) < len(sequences) and takes_tree_rows(model):
        layout = "tree"
    else:
        trees = [Tree(tree.prompt_ids, (answer,)) for tree in trees for answer in tree.answers]
    order = sorted(range(len(trees)), key=lambda n: -_positions(trees[n]))
    head = output_head(model)
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    head = head.cast(dtype)

    def score(numbers: list[int]) -> None:
        batch = make_batch([trees[n] for n in numbers], layout, pad_token_id)
        batch = batch.to(unwrap(model).device)
        answers = batch.answers["retain"]
        hidden = decode(model, batch.rows).flatten(0, 1)[answers.loss_index].to(dtype)
        nll, _, _ = token_losses(hidden, head, answers.targets)
        hits = (_first_choices(hidden, head) == answers.targets).cpu()
        sizes = [len(sequences[n].response_ids) for n in answers.examples]
        parts = zip(
            answers.examples, nll.double().cpu().split(sizes), hits.split(sizes), strict=True
        )
        for number, token_nll, mine in parts:
            suffix = int(mine.flip(0).cumprod(0).sum())
            ended = sequences[number].response_ids[-1] == end_token_id
            last = float(token_nll[-1]) if ended else 0.0
            total = float(token_nll.sum())
            found[number] = AnswerScore(total, len(mine), int(mine.sum()), suffix, last)
        if on_scored is not None:
            on_scored(len(answers.examples))

    if order:
        size = batch_size or rows_at_once(model, _positions(trees[order[0]]), 0)
        with inference_mode(model):
            in_batches(order, size, score)
    return [found[number] for number in range(len(sequences))]


def _trees(sequences: Sequence[TokenizedExample]) -> list[Tree]:
    """Joins the answers that follow each other and have one prompt; their `example` is the number
    of their sequence."""
    numbered = groupby(enumerate(sequences), key=lambda pair: pair[1].prompt_ids)
    return [
        Tree(prompt, tuple(Answer("retain", n, each.response_ids) for n, each in group))
        for prompt, group in numbered
    ]


def _positions(tree: Tree) -> int:
    return len(tree.prompt_ids) + sum(len(answer.ids) for answer in tree.answers)


def _first_choices(hidden_ND: Tensor, head: Head, chunk_size: int = 512) -> Tensor:
    """Returns the most likely token at each of N positions, in chunks of `chunk_size` positions."""
    weight, bias, softcap = head
    logits = (functional.linear(part, weight, bias) for part in hidden_ND.split(chunk_size))
    return torch.cat([softcapped_(some, softcap).argmax(-1) for some in logits])
