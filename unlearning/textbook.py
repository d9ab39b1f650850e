"""The unlearning step of arXiv 2405.15152, written as its equation.

    theta <- theta - e1 grad L_fgt - e2 grad L_rdn - e3 grad L_nor      (Eq. 1)

Plain PyTorch: a padded forward for each term and logits at every position. `UnlearningModule` takes
the same step, faster and in less memory: a test compares losses, gradients and weights in fp64.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel as Model

from unlearning.types import Role, TokenizedExample

Examples = Sequence[TokenizedExample]
ByRole = Mapping[Role, Examples]
PAPER_WEIGHTS: dict[Role, float] = {"forget": 0.5, "mismatch": 1.0, "retain": 1.0}  # e1, e2, e3
IGNORED = -100


def textbook_step(
    model: Model, frozen: Model, batch: ByRole, weights: Mapping[Role, float], rate: float
) -> dict[Role, Tensor]:
    """Updates `model` by one step of gradient descent on Eq. 1, and returns the terms before it.

    `frozen` is the model before unlearning. A batch has forget pairs (x_fgt, y_fgt), mismatch
    pairs (each x_fgt with K unrelated answers) and retain pairs (x_nor, y_nor).
    """
    losses = textbook_losses(model, frozen, batch)
    total = torch.stack([weights[role] * loss for role, loss in losses.items()]).sum()
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(total, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.data -= rate * gradient
    return losses


def textbook_losses(model: Model, frozen: Model, batch: ByRole) -> dict[Role, Tensor]:
    """Computes L_fgt, L_rdn (unless K = 0) and L_nor."""
    losses: dict[Role, Tensor] = {"forget": -nll(model, batch["forget"])}
    if batch.get("mismatch"):
        losses["mismatch"] = nll(model, batch["mismatch"])
    return losses | {"retain": kl(model, frozen, batch["retain"])}


def nll(model: Model, examples: Examples) -> Tensor:
    """-log p(y | x): mean over the tokens of an answer y, then over answers."""
    logits_BLV, labels_BL = forward(model, examples)
    return mean(cross_entropy(logits_BLV.mT, labels_BL, reduction="none"), labels_BL)


def kl(model: Model, frozen: Model, examples: Examples) -> Tensor:
    """Forward KL(frozen || model) at the positions that predict y, averaged as in `nll`."""
    logits_BLV, labels_BL = forward(model, examples)
    with torch.no_grad():
        log_q_BLV = forward(frozen, examples)[0].log_softmax(-1)
    kl_BLV = kl_div(logits_BLV.log_softmax(-1), log_q_BLV, reduction="none", log_target=True)
    return mean(kl_BLV.sum(-1), labels_BL)


def forward(model: Model, examples: Examples) -> tuple[Tensor, Tensor]:
    """Logits [B, L, V], and the tokens they predict [B, L]: IGNORED in prompts and padding."""
    ids = [torch.tensor(e.prompt_ids + e.response_ids) for e in examples]
    labels = [torch.tensor((IGNORED,) * len(e.prompt_ids) + e.response_ids) for e in examples]
    ids_BL, mask_BL, labels_BL = (
        pad_sequence(rows, batch_first=True, padding_value=value).to(model.device)
        for rows, value in ((ids, 0), ([torch.ones_like(i) for i in ids], 0), (labels, IGNORED))
    )
    logits = model(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False).logits[:, :-1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), labels_BL[:, 1:]


def mean(values_BL: Tensor, labels_BL: Tensor) -> Tensor:
    return ((values_BL * (labels_BL != IGNORED)).sum(1) / (labels_BL != IGNORED).sum(1)).mean()
