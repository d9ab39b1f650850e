"""Data types of the project: what flows from a record on disk to a score in a report.

Suffix legend, used everywhere: R rows of a batch, L tokens in a row, S answer sequences,
N positions that carry loss, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from unlearning.errors import ConfigError

if TYPE_CHECKING:  # text-only users (report, command line) never pay for importing torch
    import torch
    from torch import Tensor

Role = Literal["forget", "alternate", "mismatch", "retain", "train"]
"""The role of an answer: to forget; another answer to the same prompt, to be given instead (a
refusal, a plausible alternative); an irrelevant answer to the same prompt; one to retain; or one to
fine-tune on."""


TurnRole = Literal["system", "user", "assistant"]
"""Who speaks in a turn of a dialogue, in the words of chat templates."""

Turns = Sequence[tuple[str, str]] | tuple[tuple[str, str], ...]

Alternatives = Mapping[str, Sequence[str]] | tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with one answer, as plain text, before any template or tokenizer.

    Args:
        alternatives: other answers to the prompt by what they are, for example `paraphrased`,
            `perturbed` or `choices`; a mapping of names to texts, kept as sorted pairs of tuples.
        label: which of the `choices` is right.
        turns: of a dialogue, what was said before `prompt`, its last user turn: (role, text) with
            the role `system`, `user` or `assistant`. Kept as a tuple of pairs.
        response_ids: the response as a model generated it, in tokens, with the end token if it
            ended there. They are trained on as they are; without them, the text is tokenised.

    Raises:
        ConfigError: a turn has another role.
    """

    prompt: str
    response: str
    alternatives: Alternatives = ()
    label: int | None = None
    turns: Turns = ()
    response_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.turns != ():
            object.__setattr__(self, "turns", tuple((role, text) for role, text in self.turns))
            known = get_args(TurnRole)
            if unknown := sorted({role for role, _ in self.turns} - {*known}):
                raise ConfigError(
                    f"A turn of the dialogue that ends with {self.prompt[:60]!r} has the role "
                    f"{unknown[0]!r}; expected {', '.join(known)}."
                )
        if self.alternatives != ():
            pairs = dict(self.alternatives).items()
            plain = tuple(sorted((name, tuple(texts)) for name, texts in pairs))
            object.__setattr__(self, "alternatives", plain)

    @property
    def conversation(self) -> str:
        """The prompt as one text with the turns before it; the prompt alone where there are none.

        Two Examples have the same one exactly where they ask the same.

        Examples:
            >>> before = [("user", "1?"), ("assistant", "2")]
            >>> print(Example("And 2?", "4", turns=before).conversation)
            user: 1?
            assistant: 2
            user: And 2?
        """
        if not self.turns:
            return self.prompt
        said = (*self.turns, ("user", self.prompt))
        return "\n".join(f"{role}: {text}" for role, text in said)

    def alternative(self, name: str) -> tuple[str, ...]:
        """The texts of one kind; empty where there are none."""
        return dict(self.named_alternatives()).get(name, ())

    def named_alternatives(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Names with their texts, in the order of the names."""
        return self.alternatives  # type: ignore[return-value]  # see __post_init__


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """A tokenised Example. Prompt and answer are tokenised separately, so that they never merge."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]


@dataclass
class Rows:
    """Token rows, the inputs of the decoder.

    Args:
        input_ids: [R, L] int64.
        position_ids: [R, L] int64; in a tree row they restart after the prompt for every branch.
        attention_mask: bool; [R, 1, L, L] (tree: who may see whom) or [R, L] (right padding).
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Rows:
        return Rows(
            *(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self))
        )

    def part(self, first: int, end: int, width: int) -> Rows:
        """Returns some of the rows, up to a length."""
        mask = self.attention_mask[first:end, ..., :width]
        return Rows(
            self.input_ids[first:end, :width],
            self.position_ids[first:end, :width],
            mask[:, :, :width] if mask.ndim == 4 else mask,
        )


@dataclass
class AnswerTokens:
    """The answer tokens of one role: their positions in the rows, and their ids.

    Args:
        loss_index: [N] int64, flat index into R * L of the position that *predicts* the target.
            This is the only place where the next-token shift and the prompt mask are made.
        targets: [N] int64, the answer tokens.
        sequence: [N] int64, to which of the S sequences each token belongs.
        num_sequences: S.
        examples: the S indices of the sequences in their data set's training split.
        prompt: [S] int64, which of the batch's prompts each sequence answers.
        row_range: the first row that holds some of them, and the one behind the last; None where
            that is not known.
    """

    loss_index: Tensor
    targets: Tensor
    sequence: Tensor
    num_sequences: int
    examples: tuple[int, ...] = ()
    prompt: Tensor | None = None
    row_range: tuple[int, int] | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> AnswerTokens:
        moved = {
            name: getattr(self, name).to(device, non_blocking=non_blocking)
            for name in ("loss_index", "targets", "sequence", "prompt")
            if getattr(self, name) is not None
        }
        return replace(self, **moved)


@dataclass
class Batch:
    """A training batch: token rows, and the answers in them by role.

    Args:
        rows: the token rows.
        answers: per role, where its answers stand. A role that is not drawn is absent.
        index: this batch's number in the stream of its rank, from which the stream resumes.
        widths: of each row, the length beyond which there are pads alone, in its neighbours as
            well; () where that is not known.
    """

    rows: Rows
    answers: dict[Role, AnswerTokens]
    index: int = 0
    widths: tuple[int, ...] = ()

    def only(self, roles: Collection[Role]) -> Batch:
        """Returns the batch of some roles, with the rows from the first to the last that hold their
        answers, as long as these need."""
        count, length = self.rows.input_ids.shape
        answers = {role: tokens for role, tokens in self.answers.items() if role in roles}
        ranges = [tokens.row_range or (0, count) for tokens in answers.values()] or [(0, count)]
        first, end = min(each[0] for each in ranges), max(each[1] for each in ranges)
        width = max(self.widths[first:end], default=length)

        def moved(tokens: AnswerTokens) -> AnswerTokens:
            row, place = tokens.loss_index // length, tokens.loss_index % length
            found = tokens.row_range and (tokens.row_range[0] - first, tokens.row_range[1] - first)
            return replace(tokens, loss_index=(row - first) * width + place, row_range=found)

        return replace(
            self, rows=self.rows.part(first, end, width), widths=self.widths[first:end],
            answers={role: moved(tokens) for role, tokens in answers.items()},
        )  # fmt: skip

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        answers = {role: tokens.to(device, non_blocking) for role, tokens in self.answers.items()}
        return replace(self, rows=self.rows.to(device, non_blocking), answers=answers)


@dataclass(frozen=True)
class AlternativeScore:
    """What a model makes of one of an Example's alternatives, given the prompt.

    Args:
        text: the alternative, without the template.
        nll: summed over its tokens, in nats; the end token included where the template appends one.
        tokens: how many that sum is over.
        end_nll: the end token's part of it; 0 without one.
    """

    text: str
    nll: float
    tokens: int
    end_nll: float = 0.0


@dataclass(frozen=True)
class Generation:
    """One model answer with everything a metric needs, one line of `generations.jsonl`.

    Args:
        stage: which model: `original` (before it was fine-tuned on what it is to forget), `before`
            or `after` unlearning, or any other name.
        prompt_set: which set the prompt is from, for example `harmful_heldout`.
        index: number of the prompt within its set; pairs `before` with `after`.
        prompt: the prompt as the user wrote it, without template; with the turns before it.
        target: the data set's own answer; for a passage of running text, its true continuation.
        completion: the model's answer only, without the prompt and without special tokens. For a
            passage, as many tokens of it as the true continuation has. Empty where no metric needs
            an answer.
        num_tokens: generated tokens, the end token included.
        finished: whether the model ended the answer itself (False: cut at the token limit).
        harm_probability: the classifier's largest harmful-label probability of the *completion*,
            in 0..1; None where no classifier ran.
        target_nll: summed NLL (nats) of the target's tokens given the prompt.
        target_tokens: how many tokens that sum is over.
        target_matches: how many of them are the model's first choice, given the prompt and the
            true tokens before (exact memorisation, arXiv 2205.10770).
        target_suffix: how many of the last ones are, without a miss (extraction strength).
        verbatim_tokens: the longest run of tokens that completion and reference share, in tokens
            of the model.
        split: of the data set that the prompt is from: train, validation, test or all; "" where it
            is not known.
        alternatives: scores of the Example's alternatives, by what they are.
        label: which of `alternatives["choices"]` is right.
    """

    stage: str
    prompt_set: str
    index: int
    prompt: str
    target: str
    completion: str
    num_tokens: int = 0
    finished: bool = True
    harm_probability: float | None = None
    target_nll: float | None = None
    target_tokens: int = 0
    target_matches: int | None = None
    target_suffix: int | None = None
    verbatim_tokens: int | None = None
    split: str = ""
    alternatives: Mapping[str, Sequence[AlternativeScore]] = field(default_factory=dict)
    label: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a line of `generations.jsonl`; without the last three where there are none."""
        found = asdict(self)
        optional = ("split", "alternatives", "label")
        return {k: v for k, v in found.items() if k not in optional or v not in ("", {}, None)}


@dataclass(frozen=True)
class PromptSet:
    """A named list of prompts, with what is to be measured on them.

    Args:
        name: unique, for example `harmful_heldout`.
        kind: stands for a choice of metrics, see `unlearning.metrics.kinds`: `harmful` (the answer
            should no longer be harmful), `copyright` (the text should no longer be continued),
            `retain` (the answer should stay as it was), `related` (harmless, on the forget set's
            topics), or "".
        examples: prompts with the data set's own answers.
        split: of the data set: train, validation, test or all; "" where that is not known.
        source: the data set's name.
        metrics: further metrics, each made by `unlearning.metrics.metric`.
        template: a mapping of those settings of the prompt template that are this set's own, or a
            `Template`; see `unlearning.data.template.template_of`.
        max_length: tokens of a prompt with an answer that is scored; None: as of the others.
        part: of the split: `validation`, `test`, or "" for all of it.
    """

    name: str
    kind: str = ""
    examples: list[Example] = field(default_factory=list)
    split: str = ""
    source: str = ""
    metrics: tuple[Any, ...] = ()
    template: Any = field(default_factory=dict)
    max_length: int | None = None
    part: str = ""
