"""Splits a causal language model into its decoder and the output head on top of it.

The losses call the decoder, pick the positions that carry loss, and apply the head there only.
That is right only where the model's own logits are exactly `head(decoder(x))`, and tree rows only
where its attention takes a 4-D mask and explicit positions. Both are *tried* on a few tokens rather
than looked up in a list of architectures; windows are made small for that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearning.data.layout import Answer, Tree, make_batch
from unlearning.errors import ConfigError
from unlearning.head.tied_gradient import TiedGradient, only_looks_up
from unlearning.models.tree_masks import attention_masks, small_windows, why_no_mask
from unlearning.types import Rows

CausalLM = PreTrainedModel | PeftModel


def unwrap(model: CausalLM) -> PreTrainedModel:
    """Returns the Hugging Face model inside a PEFT wrapper; its layers still carry the adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def decode(model: CausalLM, rows: Rows, tied: TiedGradient | None = None) -> Tensor:
    """Computes the last hidden states [R, L, D] of the rows, after the final norm and before the
    head.

    Args:
        tied: embeds the tokens in place of the embedding layer, see `tied_gradient`.
    """
    tokens = (
        {"input_ids": rows.input_ids}
        if tied is None
        else {"inputs_embeds": tied.embed(rows.input_ids)}
    )
    output = unwrap(model).get_decoder()(
        **tokens,
        position_ids=rows.position_ids,
        attention_mask=attention_masks(unwrap(model), rows),
        use_cache=False,
    )
    return output.last_hidden_state


def output_head(model: CausalLM) -> tuple[Tensor, Tensor | None]:
    """Returns the output head's weight [V, D] and its bias [V] or None.

    Raises:
        ConfigError: the head is no plain linear layer (an adapter on it, say).
    """
    head = unwrap(model).get_output_embeddings()
    if type(head) is not nn.Linear:
        raise ConfigError(
            f"The output head is a {type(head).__name__}, and the losses need a plain nn.Linear. "
            "Take the head (lm_head) out of the adapter's target modules."
        )
    return head.weight, head.bias


def tied_gradient(model: CausalLM) -> TiedGradient | None:
    """Returns a `TiedGradient` for one forward where embedding and head share one trained
    weight, and the decoder accepts embeddings in place of tokens; else None."""
    base = unwrap(model)
    embedding = base.get_input_embeddings()
    weight = output_head(base)[0]
    if getattr(embedding, "weight", None) is not weight or not weight.requires_grad:
        return None
    if not only_looks_up(embedding) or not _takes_embeddings(base):
        return None
    return TiedGradient(embedding)


_TAKES_EMBEDDINGS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def _takes_embeddings(base: PreTrainedModel) -> bool:
    """Whether hidden states from embedded tokens equal those from tokens; tried once per model."""
    if base not in _TAKES_EMBEDDINGS:
        ids = _probe_ids(base)
        decoder, embedding = base.get_decoder(), base.get_input_embeddings()
        with evaluating(base):
            wanted = decoder(input_ids=ids, use_cache=False).last_hidden_state
            try:
                found = decoder(inputs_embeds=embedding(ids), use_cache=False).last_hidden_state
            except (TypeError, ValueError, RuntimeError, AttributeError):
                _TAKES_EMBEDDINGS[base] = False
            else:
                _TAKES_EMBEDDINGS[base] = torch.equal(found, wanted)
    return _TAKES_EMBEDDINGS[base]


def is_eight_bit(model: CausalLM) -> bool:
    """Whether the linear layers are in 8 bits, and so can be neither trained nor merged into."""
    return bool(getattr(unwrap(model), "is_loaded_in_8bit", False))  # set by transformers


def embedded_tokens(model: CausalLM) -> int:
    """Returns the number of rows of the input embedding: the tokens the model can be given."""
    weight = unwrap(model).get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight.shape[0]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts a model into eval mode for the block, and restores each module's own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def check_head(model: CausalLM) -> None:
    """Checks that a model's logits are `head(decoder(x))`; scaled or soft-capped logits are
    refused.

    Raises:
        ConfigError: naming the model's class and the largest difference.
    """
    base = unwrap(model)
    ids = _probe_ids(base)
    with evaluating(model):
        hidden = base.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        ours = nn.functional.linear(hidden, *output_head(model)).float()
        theirs = base(input_ids=ids, use_cache=False).logits.float()
    error = (ours - theirs).abs().max()
    if not error <= 1e-2 * theirs.abs().max().clamp(min=1):
        raise ConfigError(
            f"{type(base).__name__} does something after its output head (its logits differ from "
            f"head(decoder(x)) by {error:.3g}); the losses here would not be its own. Use a model "
            "without logit scaling or soft-capping."
        )


def takes_tree_rows(model: CausalLM) -> bool:
    """Tests whether hidden states of a tree row equal those of padded rows."""
    return not why_no_tree_rows(model)


@torch.no_grad()
def why_no_tree_rows(model: CausalLM) -> str:
    """Says why a model takes no tree rows; empty where it does.

    Tried on a few tokens, with windows and chunks smaller than these.
    """
    base = unwrap(model)
    if why := why_no_mask(base):
        return why
    ids = tuple(_probe_ids(base)[0].tolist())
    tree = Tree(ids[:4], (Answer("forget", 0, ids[2:6]), Answer("mismatch", 0, ids[3:8])))
    other = Tree(ids[5:7], (Answer("forget", 1, ids[2:5]),))  # a second in the row
    found = []
    with evaluating(model), small_windows(base):
        for layout in ("padded", "tree"):
            batch = make_batch([tree, other], layout, ids[0]).to(base.device)  # type: ignore[arg-type]
            try:
                hidden = decode(model, batch.rows).flatten(0, 1)
            except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError):
                return "its decoder takes no 4-D mask with position ids"
            found.append(torch.cat([hidden[a.loss_index] for a in batch.answers.values()]).float())
    # In 8 bits, which inputs are computed in full depends on the rows beside.
    exact = base.dtype == torch.float32 and not is_eight_bit(base)
    error = ((found[0] - found[1]).norm(dim=-1) / found[0].norm(dim=-1).clamp(min=1e-6)).max()
    if not error <= (1e-4 if exact else 5e-2):
        return f"its hidden states in a tree row are others than in padded rows, by {error:.1g}"
    return ""


def _probe_ids(base: PreTrainedModel) -> Tensor:
    vocabulary = embedded_tokens(base)
    return torch.arange(8, device=base.device)[None] * 7 % vocabulary


def frozen_copy(model: CausalLM) -> CausalLM:
    """Returns an independent copy in eval mode without gradients."""
    return copy.deepcopy(model).eval().requires_grad_(False)  # type: ignore[return-value]
