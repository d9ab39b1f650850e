"""`data`: the data sets, and how they become tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, Discriminator, StringConstraints, Tag

from unlearning.data.instruction import check_instruction
from unlearning.ranges import LARGEST, Count, Positive, Seed, Whole
from unlearning.run.config.schema.kinds import Closed, Open, Says, Target, Text

MaxLength = Annotated[int, Ge(16), Le(LARGEST)]
TopP = Annotated[float, Gt(0), Le(1)]


class Template(Closed):
    """Arguments of `PromptTemplate`."""

    prompt_format: Text = "{prompt}"
    answer_prefix: Text = ""
    append_eos: bool = True


class ChatSettings(Closed):
    """Arguments of `ChatTemplate`."""

    system: Text | None = None
    enable_thinking: bool = False
    options: dict[str, Any] | None = None


AnswersOf = Literal["data", "model", "both"]


class Answers(Closed):
    """Whose answers the retain and the mismatch term are on. Configurations of version 0.6 lack
    it."""

    retain: AnswersOf = "data"
    mismatch: AnswersOf = "data"
    max_new_tokens: Count = 64
    samples: Count = 1
    temperature: Positive | None = None
    top_p: TopP | None = None
    seed: Seed = 0
    limit: Count | None = None
    keep_broken: bool = False


Instruction = Annotated[
    str,
    StringConstraints(max_length=100_000),
    AfterValidator(check_instruction),
    Says("text with {prompt} in it"),
]


class AlternatesOfModel(Closed):
    """Alternate answers that the model gives itself, before it unlearns."""

    of: Literal["model"]
    instruction: Instruction
    samples: Count = 5
    temperature: Positive = 1.0
    top_p: TopP | None = None
    max_new_tokens: Count = 64
    seed: Seed = 0
    keep_broken: bool = False


def _kind_of_alternate(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "model's" if "of" in value and "_target_" not in value else "data set"
    return "texts"


Alternate = Annotated[
    Annotated[list[Text], Tag("texts")]
    | Annotated[AlternatesOfModel, Tag("model's")]
    | Annotated[Target, Tag("data set")]
    | Annotated[None, Tag("none")],
    Discriminator(_kind_of_alternate),
]


class EvaluationData(Open):
    """What an evaluation needs of it; any further name is a data set that prompt sets can ask."""

    seed: Seed
    forget: Target | None
    retain: Target | None
    related: Target | None
    template: Template | Target
    max_length: MaxLength
    __pydantic_extra__: dict[str, Target | None]


class Data(EvaluationData):
    alternate: Alternate = None
    alternates_per_prompt: Count = 1
    answers: Answers = Answers()
    mismatch_per_prompt: Whole
    layout: Literal["auto", "tree", "padded"]
