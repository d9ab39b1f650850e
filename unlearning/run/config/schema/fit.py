"""Checks that settings fit together which are valid one by one."""

from __future__ import annotations

from collections.abc import Iterator

from unlearning.run.config.schema.data import AlternatesOfModel
from unlearning.run.config.schema.run import EvaluationRun, Run, UnlearningRun
from unlearning.run.config.schema.trainer import INSTEAD


def misfits(run: UnlearningRun | EvaluationRun) -> Iterator[str]:
    """Yields a sentence for each pair of settings that do not fit together."""
    yield from _classifier(run)
    for name in run.trainer.__pydantic_extra__:
        if name in INSTEAD:
            yield f"trainer.{name} is set by each stage itself. Use {INSTEAD[name]}."
    yield from _sources(run)
    if isinstance(run, UnlearningRun):
        yield from _unlearning(run)
        yield from _roles(run)
        yield from _steps(run)
        yield from _answers(run)


def _classifier(run: Run) -> Iterator[str]:
    judge = run.classifier
    if judge.tiny is not None and judge.model is not None:
        yield (
            f"classifier.model={judge.model} and classifier.tiny, one from scratch, are both "
            "given. Set one of them to null."
        )
    if judge.tiny is not None and judge.train is None:
        yield "classifier.tiny is a model from scratch, and with classifier.train=null untrained."
    if judge.train is not None and judge.tiny is None and judge.model is None:
        yield "classifier.train has nothing to train: give classifier.model or classifier.tiny."


def _sources(run: UnlearningRun | EvaluationRun) -> Iterator[str]:
    """Yields a sentence for each prompt set whose data set does not exist."""
    known = ["forget", "retain", "related", *run.data.__pydantic_extra__]
    for name, prompt_set in run.evaluation.prompt_sets.items():
        source = None if prompt_set is None else prompt_set.source
        if isinstance(source, str) and source not in known:
            yield (
                f"evaluation.prompt_sets.{name}.source={source!r} must be one of "
                f"{', '.join(known)}, the data sets under `data`, or a data set of its own (a "
                "mapping with _target_)."
            )


def _unlearning(run: UnlearningRun) -> Iterator[str]:
    if run.compare_with is not None:
        yield (
            f"compare_with={run.compare_with}: two models are compared by unlearn evaluate; a run "
            "compares its own. Leave it out."
        )
    if run.reference.mode == "adapter_off":
        if run.model.lora is None:
            yield "reference.mode=adapter_off needs a LoRA policy: set model.lora={}."
        elif run.reference.of == "base":
            yield (
                "reference.mode=adapter_off is the fine-tuned model; with reference.of=base choose "
                "cached or copy."
            )
    if run.finetune is not None and run.finetune.eight_bit and run.finetune.adapter is None:
        yield "finetune.eight_bit=true needs an adapter: 8-bit weights do not train."


def _roles(run: UnlearningRun) -> Iterator[str]:
    """Yields a sentence for each term on answers that the data do not have."""
    for name, term in run.objective.items():
        roles = [term.role] if isinstance(term.role, str) else term.role
        if term.weight == 0:
            continue
        if "mismatch" in roles and run.data.mismatch_per_prompt == 0:
            yield (
                f"data.mismatch_per_prompt=0 draws no mismatch answers, and objective.{name} is on "
                f"them. Raise it, or set objective.{name}.weight=0."
            )
        if "alternate" in roles and not run.data.alternate:
            yield (
                f"objective.{name} is on alternate answers, and data.alternate has none: give "
                'texts, such as data.alternate=["I do not know."], or a data set of the forget '
                "prompts. +data/alternate=refusals brings some texts, +data/alternate=model "
                "answers of the model's own, and +data/alternate=pku_safe the safe answers of "
                "PKU-SafeRLHF."
            )


def _answers(run: UnlearningRun) -> Iterator[str]:
    answers, alternate = run.data.answers, run.data.alternate
    per_prompt = run.data.alternates_per_prompt
    if isinstance(alternate, AlternatesOfModel) and alternate.samples < per_prompt:
        yield (
            f"data.alternate.samples={alternate.samples} answers of the model to each forget "
            f"prompt are fewer than data.alternates_per_prompt={per_prompt}. Raise the first, or "
            "lower the second."
        )
    if answers.temperature is None and answers.samples > 1:
        yield (
            f"data.answers.samples={answers.samples} greedy answers to a prompt would be the same "
            "one. Set data.answers.temperature=1, or samples=1."
        )
    if answers.temperature is None and answers.top_p is not None:
        yield (
            f"data.answers.top_p={answers.top_p} has no meaning for greedy answers. Set "
            "data.answers.temperature=1, or top_p=null."
        )


def _steps(run: UnlearningRun) -> Iterator[str]:
    if run.debug is not None:  # which sets the steps, and no warm-up
        return
    given = {"unlearn": (run.unlearn.warmup_steps, run.unlearn.max_steps)}
    if run.finetune is not None and run.finetune.max_steps != -1:
        given["finetune"] = (run.finetune.warmup_steps, run.finetune.max_steps)
    for key, (warmup, steps) in given.items():
        if warmup > steps:
            yield f"{key}.warmup_steps={warmup} must lie in 0..{steps}, {key}.max_steps."
