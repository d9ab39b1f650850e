"""Runs the stages of a run in their order."""

from __future__ import annotations

import signal
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearning.errors import INTERRUPTED, PREEMPTED
from unlearning.files.atomic import remove_leftovers
from unlearning.run.checks.devices import check_devices
from unlearning.run.checks.evaluation import look_through_evaluation, measures_harm
from unlearning.run.checks.lengths import check_lengths, tokenizer_named
from unlearning.run.checks.places import check_losses, check_places, make_cache
from unlearning.run.checks.validate import look_through, validate
from unlearning.run.config.answers import asks_for_alternates, asks_model
from unlearning.run.config.debug import limited
from unlearning.run.config.evaluate import EVALUATE, evaluated_models, evaluation_config
from unlearning.run.config.gguf import with_gguf
from unlearning.run.config.resolving import unresolved
from unlearning.run.config.schema import check_schema
from unlearning.run.output.claim import claim
from unlearning.run.output.console import console
from unlearning.run.output.run_folder import (
    REPORT,
    check_folder,
    forget_earlier_run,
    save_config,
)
from unlearning.run.process.ranks import Ranks
from unlearning.run.stages.alternate_answers import answer_forget_prompts
from unlearning.run.stages.answers import evaluate_kept, evaluate_loaded
from unlearning.run.stages.context import RunContext, run_context
from unlearning.run.stages.evaluated import adapter_base, makes_base
from unlearning.run.stages.finetune import finetune
from unlearning.run.stages.models import Judge, judges_harm, make_base, ordinary_folder, train_judge
from unlearning.run.stages.oracle import STAGE as ORACLE
from unlearning.run.stages.oracle import evaluate_oracle, trains_oracle
from unlearning.run.stages.own_answers import answer_retain_prompts
from unlearning.run.stages.report import report, report_evaluation
from unlearning.run.stages.unlearn import unlearn_or_find
from unlearning.run.stages.unlearned import mend_unlearned


def unlearning_run(run: RunContext) -> int:
    """Runs an experiment from the base model to the report of its unlearning.

    Returns:
        The exit code: 0 after a report, another one after an interruption.
    """
    judge = train_judge(run)
    base = make_base(run)
    if run.config.model.base is not None:  # of any other base it was looked at before
        check_lengths(run.config, run.data, run.sets, tokenizer_named(run.config, base))
    original = None if run.config.finetune is None else evaluate_kept(run, judge, base, "original")
    finetuned = finetune(run, base)
    oracle = evaluate_oracle(run, judge, base)
    before = evaluate_kept(run, judge, finetuned.model, "before")
    own = answer_retain_prompts(run, finetuned.model, base)
    alternate = answer_forget_prompts(run, finetuned.model)
    unlearned = unlearn_or_find(run, judge, finetuned.model, base, own, alternate)
    if unlearned.signal is not None:
        return _stopped(run, unlearned.signal)
    if run.ranks.leads:
        after = evaluate_loaded(run, judge, unlearned.policy, unlearned.tokenizer, "after")
        models = {"original": original, ORACLE: oracle.answers, "before": before, "after": after}
        answers = {stage: found for stage, found in models.items() if found is not None}
        trained = {"finetune": finetuned.facts, "oracle_model": oracle.facts}
        trained |= {} if own is None else {"own_answers": own.facts()}
        trained |= {} if alternate is None else {"alternate_answers": alternate.facts()}
        report(run, judge, answers, unlearned, trained)
    return 0


def evaluation_run(run: RunContext) -> int:
    """Measures one model as it is, or two and the change from the first to the second.

    Returns:
        The exit code, 0.
    """
    config, judged = run.config, measures_harm(run.sets)
    run.stages.total += judged and judges_harm(config)
    made = make_base(run) if makes_base(config) else None
    judge = train_judge(run) if judged else Judge()
    answers = {}
    for stage, name in evaluated_models(config).items():
        model = name or made
        assert model is not None  # check_evaluation() saw to it
        base = adapter_base(config, model, made)
        model, base = ordinary_folder(run.store, model), base and ordinary_folder(run.store, base)
        answers[stage] = evaluate_kept(run, judge, model, stage, base)
    report_evaluation(run, judge, answers)
    return 0


def effective_config(config: DictConfig) -> DictConfig:
    """Returns the configuration with its debug limits, of an evaluation what it needs.

    Raises:
        ConfigError: the task is unknown, or a value does not resolve.
    """
    found = limited(evaluation_config(with_gguf(config))).copy()
    try:
        OmegaConf.resolve(found)  # a run goes by what is saved for its resume
    except OmegaConfBaseException as error:
        raise unresolved(config, error) from error
    return found


def _number_of_evaluations(config: DictConfig) -> int:
    """Counts the models and the report, and the base where it is made; a classifier is counted
    when the prompt sets are there."""
    return len(evaluated_models(config)) + 1 + makes_base(config)


def _number_of_stages(config: DictConfig) -> int:
    """Counts base, evaluate before, unlearn, evaluate after, report, and those asked for."""
    finetuned, oracle = config.finetune is not None, bool(config.oracle)
    asked = judges_harm(config) + asks_model(config) + asks_for_alternates(config)
    return 5 + asked + 2 * finetuned + oracle + trains_oracle(config)


def _stopped(run: RunContext, number: int) -> int:
    """Returns the exit code of a run that a signal has stopped and that can be resumed."""
    code = PREEMPTED if number == signal.SIGTERM else INTERRUPTED
    run.tracking.stopped(code)
    return code


def run(config: DictConfig, folder: Path, resume: bool = False) -> Path | None:
    """One run from records to report, in this process.

    Args:
        config: composed and complete.
        folder: the run folder; must not hold a finished run.
        resume: resume the folder's run where it stopped.

    Returns:
        The report's path; None after `validate=true` or an interruption.

    Raises:
        ConfigError: before any work starts, for anything a user can have got wrong.
    """
    check(config, folder, resume)
    if config.validate:
        return None
    with claim(folder):
        prepare(config, folder, resume)
        return folder / REPORT if go(config, folder) == 0 else None


def check(config: DictConfig, folder: Path, resume: bool = False, world: int = 1) -> int:
    """Whether the run can start.

    Args:
        world: how many processes there are already.

    Returns:
        How many it needs.

    Raises:
        ConfigError: for anything a user can have got wrong.
    """
    check_folder(folder, resume)
    check_schema(config)
    if resume:
        check_losses(folder)
    config = effective_config(config)
    check_places(config, folder)
    needed = check_devices(config, world)
    lines = validate(config)
    if config.validate:
        for line in lines:
            console.print(f"  {line}", markup=False)
        console.print("The configuration is valid; nothing was loaded or trained.", markup=False)
    return needed


def prepare(config: DictConfig, folder: Path, resume: bool = False) -> None:
    """Makes cache and run folder, with the configuration that a resumed run goes by; clears what
    a killed run left half written there. For the process that holds the folder.

    Raises:
        ConfigError: the cache cannot be written.
    """
    make_cache(config)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    if resume:
        mend_unlearned(folder)
    else:
        forget_earlier_run(folder)
        save_config(effective_config(config), folder)


def go(config: DictConfig, folder: Path, ranks: Ranks | None = None) -> int:
    """The stages of a run that was checked and prepared, on every one of its ranks.

    Returns:
        The exit code: 0 after a report, another one after an interruption.
    """
    config, ranks = effective_config(config), ranks or Ranks()
    evaluates = config.task == EVALUATE
    number = _number_of_evaluations(config) if evaluates else _number_of_stages(config)
    looking = look_through_evaluation if evaluates else look_through
    with run_context(config, folder, ranks, number, looking) as run:
        code = evaluation_run(run) if evaluates else unlearning_run(run)
    if code == 0:
        ranks.share()  # the others are there until the report is
    return code
