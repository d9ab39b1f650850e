"""`unlearn`, the command line. Hydra and OmegaConf are imported once there are settings to look
at, torch once a run starts.
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unlearning.errors import BAD_INPUT, INTERRUPTED, ConfigError
from unlearning.run.config.evaluate import EVALUATE, evaluation_overrides
from unlearning.run.config.flags import HELP, MULTIRUN, wants_multirun
from unlearning.run.config.folder import config_folder
from unlearning.run.config.help import help_text
from unlearning.run.config.searchpath import with_searchpath
from unlearning.run.process.importing import uncollected
from unlearning.version import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig

RESUME = "resume="


def main() -> None:
    """Entry point of the console script."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Waiting threads sleep instead of spinning: on a machine that others use, too, spinning made a
    # step six times as slow. Read when torch is loaded, hence here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    make_working_folder_importable()
    try:
        code = _main(sys.argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        if _pressed(error):  # while modules are imported or the configuration is composed
            print("\nStopped before the run began.", file=sys.stderr)
            code = INTERRUPTED
        elif isinstance(error, ConfigError):
            code = _told(error)
        else:
            raise
    if code:
        sys.exit(code)


def _pressed(error: BaseException | None) -> bool:
    """Whether Ctrl-C was pressed; libraries whose clean-up fails raise another error then."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def make_working_folder_importable() -> None:
    """Adds the working folder to `sys.path`, for a `_target_` or `loss` of the user's own, as
    `python -m unlearning` does.

    The jobs of a sweep and the ranks of a run are started with `-m`, and need no more.
    """
    if not sys.flags.safe_path and not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())


def _main(arguments: list[str]) -> int:
    if arguments[:1] == ["report"]:
        return _report(arguments[1:])
    if "--version" in arguments:  # Hydra would tell its own
        print(f"unlearning {__version__}")
        return 0
    if arguments in [[*word, flag] for word in ([], [EVALUATE]) for flag in HELP]:
        print(help_text(config_folder()))
        return 0
    from unlearning.run.tracking.secrets import check_secrets

    check_secrets(arguments)  # before anything repeats them
    arguments = with_searchpath(arguments)
    if arguments[:1] == [EVALUATE] and not set(arguments) & set(HELP):
        arguments = evaluation_overrides(arguments[1:])
    if wants_multirun(arguments):
        from unlearning.sweep import multirun

        return multirun(arguments)
    # What is left of a sweep here shows something, which Hydra does not do together with -m.
    arguments = [word for word in arguments if word not in MULTIRUN]
    resumed = [word for word in arguments if word.startswith(RESUME)]
    others = [word for word in arguments if not word.startswith(RESUME)]
    if not resumed:
        return _composed(arguments)
    named = resumed[-1].removeprefix(RESUME)
    if not named:  # an unset variable of a shell, and not the working folder
        raise ConfigError("resume= needs a run folder: unlearn resume=<run folder>.")
    return _resumed(Path(named), others)


def _resumed(folder: Path, others: list[str]) -> int:
    from unlearning.run.output.run_folder import load_config
    from unlearning.run.tracking.secrets import check_no_environment
    from unlearning.sweep import is_sweep
    from unlearning.sweep.words import quoted

    if is_sweep(folder):
        raise ConfigError(
            f"{folder} is a sweep. To go on with it: unlearn -m sweep.resume="
            f"{shlex.quote(str(folder))}; with one of its runs: unlearn resume=<its folder>."
        )
    config = load_config(folder)
    check_no_environment(config, folder)
    if others:  # has to be the run's own configuration, which is looked at when it is composed
        return _composed([*others, f"hydra.run.dir={quoted(str(folder))}"], resume=True)
    return _start(config, folder, resume=True)


def _composed(arguments: list[str], resume: bool = False) -> int:
    """Lets Hydra handle the arguments: a run, `--cfg job`, `--info` ..."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from unlearning.run.config.loss_options import with_own_options
    from unlearning.run.config.one_run import check_one_run, run_composed
    from unlearning.run.config.overrides import check_overrides

    chosen = check_overrides(arguments)
    check_one_run(arguments)
    arguments = with_own_options(arguments, chosen)
    codes: list[int] = []

    def job(config: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            codes.append(_start(config, folder, resume, composed=True))
        except ConfigError as error:  # before which Hydra would put a line of its own
            codes.append(_told(error))

    sys.argv[1:] = arguments
    # A flag may name other configurations or ask for no run, and a mode for several.
    plain = not any(word.startswith("-") or "hydra.mode" in word for word in arguments)
    if plain and chosen.hydra.mode is None:
        run_composed(arguments, job)
    else:
        settings = {"config_path": str(config_folder()), "config_name": "config"}
        hydra.main(version_base="1.3", **settings)(job)()
    return codes[0] if codes else 0


def _told(error: ConfigError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return BAD_INPUT


def _start(config: DictConfig, folder: Path, resume: bool, composed: bool = False) -> int:
    from unlearning.run.config.schema import check_schema
    from unlearning.run.tracking.secrets import check_secrets

    try:
        check_secrets([], config)  # first: the schema's messages show values
        check_schema(config)
        with uncollected():
            from unlearning.run.start import start
    except BaseException:
        with suppress(OSError):  # Hydra made it; nothing ran
            folder.rmdir()
        raise
    return start(config, folder, resume, compare=resume and composed)


def _report(arguments: list[str]) -> int:
    from unlearning.report import write_report
    from unlearning.report.compare import is_comparison, write_comparison
    from unlearning.report.sweep import is_sweep_folder, write_sweep_report

    if set(arguments) & set(HELP):
        print("unlearn report <run or sweep folder>: writes its report again.")
        return 0
    if len(arguments) != 1 or not arguments[0] or arguments[0].startswith("-"):
        raise ConfigError("Give one run or sweep folder: unlearn report <folder>.")
    folder = Path(arguments[0])
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder. Give one of a run or a sweep.")
    try:
        if is_comparison(folder):
            print(write_comparison(folder))
        else:
            print(write_sweep_report(folder) if is_sweep_folder(folder) else write_report(folder))
    except OSError as error:
        raise ConfigError(f"The report of {folder} cannot be written: {error}.") from error
    return 0


if __name__ == "__main__":
    main()
