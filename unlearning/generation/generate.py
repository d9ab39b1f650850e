"""Generates completions, and scores known answers by their likelihood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from unlearning.data.encode import encode_prompt_texts
from unlearning.data.layout import padded_batch
from unlearning.data.template import unescaped
from unlearning.errors import ConfigError
from unlearning.generation.batch_size import bytes_a_row, free_memory, in_batches, rows_that_fit
from unlearning.generation.decoding import continuations
from unlearning.generation.sampling import Sampling
from unlearning.generation.stopping import StopRule, as_tokens, before_stop, stop_tokens
from unlearning.head.logits import Head, softcapped_
from unlearning.head.token_losses import token_losses
from unlearning.models.decoder import (
    CausalLM,
    context_length,
    decode,
    evaluating,
    output_head,
    unwrap,
)
from unlearning.models.trial import check_model, takes_left_pads
from unlearning.types import TokenizedExample


@dataclass(frozen=True)
class Completion:
    """A model's completion of a prompt.

    Args:
        text: without the prompt and without special tokens.
        ids: the generated tokens, the end token included.
        finished: whether the model ended it (False: cut at the limit).
    """

    text: str
    ids: tuple[int, ...]
    finished: bool

    @property
    def num_tokens(self) -> int:
        return len(self.ids)


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


@contextmanager
def inference_mode(model: CausalLM) -> Iterator[None]:
    """Context of eval mode without gradients, which leaves the random number generators
    unchanged."""
    with evaluating(model), isolate_rng(), torch.inference_mode():
        yield


def generate(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | Sequence[int]],
    max_new_tokens: int = 64,
    batch_size: int | None = None,
    on_answered: Callable[[int], None] | None = None,
    stop_strings: Sequence[str] = (),
    end_tokens: Sequence[int] = (),
    sampling: Sampling | None = None,
    **options: Any,
) -> list[Completion]:
    """Completes templated prompts in batches, greedily unless `sampling` or `options` (of
    `model.generate`) say otherwise.

    Prompts of like length share a batch and are padded on the left, which leaves the text what it
    would be for each prompt alone. Where pads would change it, only prompts of one length share a
    batch (it is tried). A completion ends with an end token of the tokenizer or of the model's
    `generation_config`, or of `end_tokens`.

    Args:
        prompts: as text in its template, or as tokens, see `encode_prompts`.
        batch_size: prompts at once; None: as many as the free memory holds. Fewer where CUDA runs
            out of memory all the same.
        on_answered: told after each batch how many prompts it had.
        stop_strings: a completion also ends before the first of these texts in it.
        end_tokens: more tokens that end a completion, such as a chat template's end of a turn.
        sampling: draws each token; what a prompt is answered depends on its place among the
            prompts and not on the batch size.

    Raises:
        ConfigError: a prompt with its completion would not fit the model's context.
    """
    ends = stop_tokens(model, tokenizer, end_tokens)
    if "eos_token_id" in options:
        ends = tuple(sorted(as_tokens(options.pop("eos_token_id"))))
    stop = StopRule(ends, tuple(map(unescaped, stop_strings)), tokenizer)
    pad = padding_token(tokenizer)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    encoded = iter(encode_prompt_texts(texts, tokenizer))
    ids = [next(encoded) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda n: -len(ids[n]))
    if ids:
        _check_context(model, tokenizer, ids[order[0]], max_new_tokens)
    found: dict[int, Completion] = {}

    def answer(numbers: list[int]) -> None:
        width = max(len(ids[n]) for n in numbers)
        rows = torch.tensor([[pad] * (width - len(ids[n])) + ids[n] for n in numbers])
        mask = torch.tensor([[0] * (width - len(ids[n])) + [1] * len(ids[n]) for n in numbers])
        rows, mask = rows.to(model.device), mask.to(model.device)
        draws = None if sampling is None else sampling.draws(numbers, max_new_tokens)
        said = continuations(
            model, rows, mask, max_new_tokens, pad, stop, options, sampling, draws
        )  # fmt: skip
        for number, row in zip(numbers, said, strict=True):
            found[number] = _completion(row, stop)
        if on_answered is not None:
            on_answered(len(numbers))

    if ids:
        size = batch_size or _rows_at_once(model, len(ids[order[0]]), max_new_tokens)
        with inference_mode(model):
            for numbers in _side_by_side(model, order, ids):
                in_batches(numbers, size, answer)
    return [found[number] for number in range(len(ids))]


def _side_by_side(
    model: CausalLM, order: list[int], ids: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Groups prompts, longest first, into those that may share a batch: all of them, or those of
    one length where a model does not take pads before a prompt."""
    if len({len(ids[n]) for n in order}) == 1 or takes_left_pads(model):
        return [order]
    return [list(group) for _, group in groupby(order, key=lambda n: len(ids[n]))]


def _rows_at_once(model: CausalLM, prompt_tokens: int, new_tokens: int) -> int:
    base = unwrap(model)
    row = bytes_a_row(base.config, prompt_tokens, new_tokens, base.dtype.itemsize)
    return rows_that_fit(row, free_memory(base.device))  # type: ignore[arg-type]


def _check_context(
    model: CausalLM, tokenizer: PreTrainedTokenizerBase, ids: list[int], max_new_tokens: int
) -> None:
    """Checks prompt lengths before the first batch: past its context, a model fails with an
    IndexError."""
    context = context_length(model)
    if context is not None and len(ids) + max_new_tokens > context:
        prompt = str(tokenizer.decode(ids[:60], skip_special_tokens=True))
        raise ConfigError(
            f"A prompt has {len(ids)} tokens and max_new_tokens={max_new_tokens}, together more "
            f"than the model's context of {context}. Lower max_new_tokens or remove the prompt, "
            f"which begins {prompt[:60]!r}."
        )


def _completion(row: list[int], stop: StopRule) -> Completion:
    place = next((n for n, token in enumerate(row) if token in stop.tokens), None)
    said = row[:place]  # without the end token, which not every tokenizer calls special
    cut = before_stop(said, stop.tokenizer, stop.strings)
    if cut is not None:
        return Completion(cut[0].strip(), tuple(cut[1]), True)
    text = decoded(said, stop.tokenizer)
    return Completion(text, tuple(said if place is None else row[: place + 1]), place is not None)


def decoded(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Decodes the text of a completion."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def padding_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns a token to pad with; padding is masked, so that any does."""
    pad = tokenizer.pad_token_id
    return int(pad if pad is not None else tokenizer.eos_token_id or 0)


def answer_scores(
    model: CausalLM,
    sequences: Sequence[TokenizedExample],
    pad_token_id: int,
    batch_size: int | None = None,
    end_token_id: int | None = None,
    on_scored: Callable[[int], None] | None = None,
) -> list[AnswerScore]:
    """Computes how likely each answer is given its prompt, and how much of it is memorised.

    Args:
        batch_size: see `generate`.
        end_token_id: what an answer may end with.
        on_scored: told after each batch how many answers it had.
    """
    lengths = [len(s.prompt_ids) + len(s.response_ids) for s in sequences]
    order = sorted(range(len(sequences)), key=lambda n: -lengths[n])
    found: dict[int, AnswerScore] = {}
    check_model(model)
    head = output_head(model)

    def score(numbers: list[int]) -> None:
        batch = padded_batch([("retain", [(n, sequences[n]) for n in numbers])], pad_token_id)
        batch = batch.to(unwrap(model).device)
        answers = batch.answers["retain"]
        hidden = decode(model, batch.rows).flatten(0, 1)[answers.loss_index]
        nll, _, _ = token_losses(hidden, head, answers.targets)
        sums = nll.double().new_zeros(len(numbers)).index_add(0, answers.sequence, nll.double())
        hits = _first_choices(hidden, head) == answers.targets
        lengths_here = [len(sequences[n].response_ids) for n in numbers]
        each = zip(numbers, sums.tolist(), hits.cpu().split(lengths_here),
                   nll.double().cpu().split(lengths_here), strict=True)  # fmt: skip
        for number, total, mine, token_nll in each:
            suffix = int(mine.flip(0).cumprod(0).sum())
            ended = sequences[number].response_ids[-1] == end_token_id
            last = float(token_nll[-1]) if ended else 0.0
            found[number] = AnswerScore(total, len(mine), int(mine.sum()), suffix, last)
        if on_scored is not None:
            on_scored(len(numbers))

    if order:
        size = batch_size or _rows_at_once(model, lengths[order[0]], 0)
        with inference_mode(model):
            in_batches(order, size, score)
    return [found[number] for number in range(len(sequences))]


def _first_choices(hidden_ND: Tensor, head: Head, chunk_size: int = 512) -> Tensor:
    """Returns the most likely token at each of N positions, in chunks of `chunk_size` positions."""
    weight, bias, softcap = head.cast(hidden_ND.dtype)
    logits = (functional.linear(part, weight, bias) for part in hidden_ND.split(chunk_size))
    return torch.cat([softcapped_(some, softcap).argmax(-1) for some in logits])
