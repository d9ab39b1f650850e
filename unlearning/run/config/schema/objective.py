"""`method` and `objective`: what is minimised, and how."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import MinLen

from unlearning.ranges import NotNegative, Whole
from unlearning.run.config.schema.finetune import Finetune
from unlearning.run.config.schema.kinds import Closed, ImportPath, Roles, Says, Target, Text


class Term(Closed):
    """Arguments of `unlearning.terms.Term`."""

    loss: ImportPath
    role: Roles | Annotated[list[Roles], MinLen(1)]
    weight: Annotated[
        NotNegative,
        Says("0 or a positive number; gradient ascent is in the loss's sign, not in the weight"),
    ]
    options: dict[str, Any] | None = None
    layer: Whole | Text | None = None
    needs_reference: bool | None = None


class Method(Target):
    """Further keys are arguments of the class that `_target_` names."""

    rule: Target | None = None
    tuning: Finetune | None = None
    __pydantic_extra__: dict[str, Any]
