"""Tries on a few tokens what a model does to rows, rather than look it up in a list of
architectures.

Padded rows serve a model whose tokens see earlier ones only, and are left alone by pads after them;
tree rows one whose attention takes a 4-D mask and explicit positions.
"""

from __future__ import annotations

from contextlib import nullcontext
from weakref import WeakKeyDictionary, WeakSet

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearning.data.layout import Answer, Tree, make_batch
from unlearning.errors import ConfigError
from unlearning.models.decoder import (
    CausalLM,
    decode,
    evaluating,
    is_eight_bit,
    last_hidden,
    probe_ids,
    unwrap,
)
from unlearning.models.parts import decoder_of
from unlearning.models.tree_masks import small_windows, why_no_mask
from unlearning.types import Rows

REMEDY = "Choose another model; docs/models.md has a table of those that work."
_CHECKED: WeakSet[nn.Module] = WeakSet()
_TAKES_LEFT_PADS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def check_model(model: CausalLM) -> None:
    """Checks once that a model is a causal language model of text that padded rows serve.

    Raises:
        ConfigError: naming the model's class, and what it does instead.
    """
    base = unwrap(model)
    if base in _CHECKED:
        return
    name = type(base).__name__
    if base.config.is_encoder_decoder:
        raise ConfigError(f"{name} has an encoder, and only decoders can be used. {REMEDY}")
    head = base.get_output_embeddings()
    if head is None:
        raise ConfigError(f"{name} has no output head. {REMEDY}")
    if decoder_of(base) is base:
        raise ConfigError(f"{name} has no decoder apart from its output head. {REMEDY}")
    ids = probe_ids(base)
    other = torch.cat([ids[:, :5], ids[:, :3]], dim=1)
    mask = torch.ones_like(ids).bool()
    short = mask.clone()
    short[:, 5:] = False
    before = [parameter._version for parameter in base.parameters()]
    with evaluating(base):
        alone = _tried(base, ids[:, :5], mask[:, :5])
        later = _tried(base, torch.cat([ids, other]), torch.cat([mask, mask]))[:, :5]
        padded = _tried(base, torch.cat([ids, other]), torch.cat([mask, short]))[1:, :5]
    if before != [parameter._version for parameter in base.parameters()]:
        raise ConfigError(
            f"{name} changes its own weights between train and eval mode, so that they would be "
            f"trained and saved wrong. {REMEDY}"
        )
    if isinstance(head, nn.Linear) and head.in_features != alone.shape[-1]:
        raise ConfigError(
            f"The output head of {name} is not on its decoder's hidden states (these have "
            f"{alone.shape[-1]} numbers, and it takes {head.in_features}). {REMEDY}"
        )
    # A router that is near a tie may choose another expert where the numbers are coarse.
    tolerance = 1e-3 if _is_exact(base) else 0.5
    if relative_error(later, alone) > tolerance:
        raise ConfigError(
            f"{name} is no causal model as it is configured: a later token changes the hidden "
            f"states of earlier ones. {REMEDY}"
        )
    if relative_error(padded, alone) > tolerance:
        raise ConfigError(f"In {name}, pads after a sequence change its hidden states. {REMEDY}")
    _CHECKED.add(base)


def _tried(base: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    try:
        return last_hidden(base, Rows(ids, positions, mask))
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise ConfigError(
            f"{type(base).__name__} does not compute hidden states of plain tokens "
            f"({type(error).__name__}: {error}). {REMEDY}"
        ) from error


@torch.no_grad()
def check_train_mode(model: CausalLM) -> None:
    """Checks that a model without dropout computes the same in train mode as in eval mode; else
    policy and reference would differ before the first step.

    Raises:
        ConfigError: it draws random numbers, or computes something else.
    """
    base = unwrap(model)
    ids = probe_ids(base)
    mask = torch.ones_like(ids).bool()
    plain = model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()
    with isolate_rng(), plain:  # an adapter has its own dropout
        trained = _tried(base, ids, mask)
        with evaluating(base):
            wanted = _tried(base, ids, mask)
    if relative_error(trained, wanted) > (1e-3 if _is_exact(base) else 0.5):
        raise ConfigError(
            f"{type(base).__name__} computes something else in train mode than in eval mode, with "
            f"dropout off: its loss would not be that of the model that is saved. {REMEDY}"
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
    ids = tuple(probe_ids(base)[0].tolist())
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
    error = relative_error(found[1], found[0])
    if not error <= (1e-4 if _is_exact(base) else 5e-2):
        return f"its hidden states in a tree row are others than in padded rows, by {error:.1g}"
    return ""


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of any position's hidden state, as a share of its length."""
    difference = (found.float() - wanted.float()).norm(dim=-1)
    return float((difference / wanted.float().norm(dim=-1).clamp(min=1e-6)).max())


def _is_exact(base: PreTrainedModel) -> bool:
    # In 8 bits, which inputs are computed in full depends on the rows beside.
    return base.dtype == torch.float32 and not is_eight_bit(base)


@torch.no_grad()
def takes_left_pads(model: CausalLM) -> bool:
    """Tests once whether pads before a prompt leave the logits after it as they are.

    They do not where positions are counted from the row's start, or pads enter a recurrent state;
    in some models only once keys and values are cached, hence three tokens.
    """
    base = unwrap(model)
    if getattr(base.config.get_text_config(decoder=True), "index_topk", None):
        return False  # which of equally good tokens are picked depends on the columns
    if base not in _TAKES_LEFT_PADS:
        ids = probe_ids(base)
        mask = torch.ones_like(ids)
        short = mask.clone()
        short[:, :3] = 0
        rows = torch.cat([ids, ids.masked_fill(short == 0, 0)])
        with evaluating(model), isolate_rng():
            alone = _next_logits(model, ids[:, 3:], mask[:, 3:])
            padded = _next_logits(model, rows, torch.cat([mask, short]))[1:]
        tolerance = 1e-3 if _is_exact(base) else 0.1
        _TAKES_LEFT_PADS[base] = relative_error(padded, alone) <= tolerance
    return _TAKES_LEFT_PADS[base]


def _next_logits(model: CausalLM, ids: Tensor, mask: Tensor, steps: int = 3) -> Tensor:
    """Returns the logits [B, steps, V] of the first generated tokens."""
    output = model.generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=mask, min_new_tokens=steps, max_new_tokens=steps,
        do_sample=False, num_beams=1, pad_token_id=0, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    return torch.stack(output.logits, dim=1)
