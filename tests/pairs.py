"""A batch with several answers to each prompt, and a policy that has moved from its reference, for
tests of methods that compare answers."""

from __future__ import annotations

from pathlib import Path

import torch
from naive import Pair, token_nlls
from omegaconf import OmegaConf
from torch import Tensor, nn

from unlearning.data.layout import Answer, Tree, make_batch
from unlearning.losses import TokenLosses
from unlearning.models.decoder import frozen_copy
from unlearning.models.load import disable_dropout
from unlearning.objective import Objective
from unlearning.reference import build_reference
from unlearning.training.batch_loss import BatchLoss, BatchValues

# In a tree row the longest comes first, so that the order of the prompts is another one there.
PROMPTS = ((7, 8), (5, 9, 3, 12, 30), (28, 6, 17))
FORGET = ((40, 41, 2), (50, 51, 52, 53, 54, 2), (44, 2))
ALTERNATE = (((60, 61, 2), (62, 2)), ((63, 64, 65, 66, 2), (67, 2)), ((68, 69, 2), (61, 60, 59, 2)))
MISMATCH = ((70, 71, 2), (72, 2), (73, 74, 75, 2))
RETAIN = (((20, 21, 22), (80, 81, 82, 2)), ((23, 24), (83, 2)))


def pairs(role: str) -> list[Pair]:
    """(prompt, answer) of each answer of a role."""
    if role == "retain":
        return list(RETAIN)
    if role == "alternate":
        return [(p, a) for p, answers in zip(PROMPTS, ALTERNATE, strict=True) for a in answers]
    answers = {"forget": FORGET, "mismatch": MISMATCH}[role]
    return list(zip(PROMPTS, answers, strict=True))


def moved_policy(make_model) -> tuple[nn.Module, nn.Module]:
    """A policy in fp64, and its reference."""
    policy = make_model().double()  # OPT: other norms are in fp32
    disable_dropout(policy)
    reference = frozen_copy(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.05)
    return policy, reference


def values_of(policy, reference, terms, layout: str = "tree", alternates: int = 2) -> BatchValues:
    """What the code makes of the batch, with so many alternate answers to each prompt."""
    trees = [
        Tree(
            prompt,
            (
                Answer("forget", n, FORGET[n]),
                *(Answer("alternate", k, a) for k, a in enumerate(ALTERNATE[n][:alternates])),
                Answer("mismatch", n, MISMATCH[n]),
            ),
        )
        for n, prompt in enumerate(PROMPTS)
    ]
    trees += [Tree(prompt, (Answer("retain", n, a),)) for n, (prompt, a) in enumerate(RETAIN)]
    batch = make_batch(trees, layout, pad_token_id=1)  # type: ignore[arg-type]
    objective = Objective(terms)
    needed = objective.reference_roles
    kept = build_reference("copy", policy, model=reference) if needed else None
    return BatchLoss(objective, chunk_size=3)(policy, batch, kept)


def ratio(policy, reference, pair: Pair) -> Tensor:
    """log p_policy - log p_reference of an answer."""
    return token_nlls(reference, pair).sum().detach() - token_nlls(policy, pair).sum()


def made(nlls, references=None, prompts=None, reduction="mean") -> TokenLosses:
    """TokenLosses of answers that are given as lists of their tokens' NLLs, by policy and
    reference; one answer to a prompt unless told otherwise."""
    sequence = torch.tensor([n for n, answer in enumerate(nlls) for _ in answer])

    def flat(lists) -> Tensor:
        return torch.tensor([v for answer in lists for v in answer], dtype=torch.float64)

    return TokenLosses(
        flat(nlls).requires_grad_(), sequence, len(nlls), reduction,
        reference_nll=None if references is None else flat(references),
        prompt=torch.tensor(list(range(len(nlls))) if prompts is None else prompts),
    )  # fmt: skip


def terms_of(method: str) -> dict:
    """The objective of a file of `conf/method`."""
    folder = Path(__file__).resolve().parents[1] / "conf/method"
    config = OmegaConf.load(folder / f"{method}.yaml")
    return OmegaConf.to_container(config, resolve=True)["objective"]  # type: ignore[index,call-overload]
