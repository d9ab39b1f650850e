"""Splits a causal language model into its decoder and the output head on top of it.

The losses call the decoder, pick the positions that carry loss, and apply the head there only.
That is right only where the model's own logits are `head(decoder(x))`, at most scaled or
soft-capped (`logit_map`). It is *tried* on a few tokens rather than looked up in a list of
architectures, and so is what a model does to rows (`trial`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearning.errors import ConfigError
from unlearning.head.logits import Head, logits_of
from unlearning.head.tied_gradient import TiedGradient, only_looks_up
from unlearning.models.logit_map import LogitMap, find_logit_map
from unlearning.models.parts import decoder_of
from unlearning.models.tree_masks import attention_masks
from unlearning.types import Rows

CausalLM = PreTrainedModel | PeftModel


def unwrap(model: CausalLM) -> PreTrainedModel:
    """Returns the Hugging Face model inside a PEFT wrapper; its layers still carry the adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def decode(model: CausalLM, rows: Rows, tied: TiedGradient | None = None) -> Tensor:
    """Computes the last hidden states [R, L, D] of the rows, as `output_head` takes them: after the
    final norm, and scaled where the model scales its logits.

    Args:
        tied: embeds the tokens in place of the embedding layer, see `tied_gradient`.
    """
    base = unwrap(model)
    hidden = last_hidden(base, rows, tied)
    scale = _logit_map(base).scale
    return hidden if scale == 1 else hidden * scale


def last_hidden(base: PreTrainedModel, rows: Rows, tied: TiedGradient | None = None) -> Tensor:
    """Computes the last hidden states [R, L, D] as the decoder gives them, see `decode`."""
    inputs: dict[str, object] = {"attention_mask": attention_masks(base, rows), "use_cache": False}
    if tied is None:
        inputs["input_ids"] = rows.input_ids
    else:
        inputs["inputs_embeds"] = tied.embed(rows.input_ids)
    if rows.attention_mask.ndim == 4:  # padded rows count from 0, in whatever way the model counts
        inputs["position_ids"] = rows.position_ids
    return decoder_of(base)(**inputs).last_hidden_state


def output_head(model: CausalLM) -> Head:
    """Returns the output head, which makes the model's own logits of what `decode` returns.

    Raises:
        ConfigError: the head is no plain linear layer (an adapter on it, say), or the model does
            more to its logits than scale and soft-cap them.
    """
    base = unwrap(model)
    head = _linear_head(base)
    found = _logit_map(base)
    bias = head.bias if head.bias is None or found.of_bias == 1 else head.bias * found.of_bias
    return Head(head.weight, bias, found.softcap)


def _linear_head(base: PreTrainedModel) -> nn.Linear:
    head = base.get_output_embeddings()
    if type(head) is nn.Linear:
        return head
    name = type(base).__name__
    if isinstance(head, BaseTunerLayer):
        raise ConfigError(
            f"The output head of {name} is a {type(head).__name__}, and the losses need a plain "
            "nn.Linear. Take the head (lm_head) out of the adapter's target modules."
        )
    kind = "no output head" if head is None else f"a {type(head).__name__} as output head"
    raise ConfigError(
        f"{name} has {kind}, and the losses need a plain nn.Linear there. Choose another model."
    )


_LOGIT_MAPS: WeakKeyDictionary[nn.Module, LogitMap] = WeakKeyDictionary()


def _logit_map(base: PreTrainedModel) -> LogitMap:
    """Returns what the model does to its logits; found out once per model, and checked. One
    without weights, on `meta`, has no logits to look at: the run itself will."""
    if base.device.type == "meta":
        _linear_head(base)
        return LogitMap()
    if base not in _LOGIT_MAPS:
        _linear_head(base)  # else there is nothing to look at
        ids = probe_ids(base)
        with torch.no_grad(), torch.autocast(base.device.type, enabled=False), evaluating(base):
            found = find_logit_map(base, ids)
            _check_logits(base, ids, found)
        _LOGIT_MAPS[base] = found
    return _LOGIT_MAPS[base]


def tied_gradient(model: CausalLM) -> TiedGradient | None:
    """Returns a `TiedGradient` for one forward where embedding and head share one trained
    weight, and the decoder accepts embeddings in place of tokens; else None."""
    base = unwrap(model)
    embedding = base.get_input_embeddings()
    weight = _linear_head(base).weight
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
        ids = probe_ids(base)
        decoder, embedding = decoder_of(base), base.get_input_embeddings()
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


def context_length(model: CausalLM) -> int | None:
    """Returns how many tokens the model has positions for; None where there is no limit."""
    config = unwrap(model).config.get_text_config(decoder=True)
    limits = (getattr(config, name, None) for name in CONTEXT_NAMES)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


CONTEXT_NAMES = ("max_position_embeddings", "max_seq_len", "max_target_positions")


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


def check_head(model: CausalLM) -> None:
    """Checks that the model's logits are those of `output_head` and `decode`.

    Raises:
        ConfigError: naming the model's class, and what it does.
    """
    output_head(model)


def _check_logits(base: PreTrainedModel, ids: Tensor, found: LogitMap) -> None:
    """Compares the model's logits with those that the losses make."""
    head = _linear_head(base)
    states = decoder_of(base)(input_ids=ids, use_cache=False).last_hidden_state[0]
    bias = None if head.bias is None else head.bias * found.of_bias
    states = (states * found.scale).to(head.weight.dtype)
    ours = logits_of(states, Head(head.weight, bias, found.softcap), torch.float32)
    theirs = base(input_ids=ids, use_cache=False).logits[0].float()
    if ours.shape != theirs.shape:
        raise ConfigError(
            f"{type(base).__name__} gives logits of {theirs.shape[-1]} tokens and its output head "
            f"{ours.shape[-1]}; the losses here would not be its own. Choose another model."
        )
    error = (ours - theirs).abs().max()
    tolerance = 1e-4 if head.weight.dtype == torch.float32 else 2e-2
    if not error <= tolerance * theirs.abs().max():
        raise ConfigError(
            f"The logits of {type(base).__name__} are not those of its output head on its decoder's"
            f" hidden states (they differ by {error:.3g}), so the losses here would not be its own."
            " Choose another model."
        )


def probe_ids(base: PreTrainedModel) -> Tensor:
    """Returns eight tokens [1, 8] to try a model with."""
    vocabulary = embedded_tokens(base)
    return torch.arange(8, device=base.device)[None] * 7 % vocabulary


def frozen_copy(model: CausalLM) -> CausalLM:
    """Returns an independent copy in eval mode without gradients."""
    other = copy.deepcopy(model).eval().requires_grad_(False)
    if unwrap(model) in _LOGIT_MAPS:
        _LOGIT_MAPS[unwrap(other)] = _LOGIT_MAPS[unwrap(model)]  # type: ignore[arg-type]
    return other  # type: ignore[return-value]
