"""`unlearn`: the command line. Heavy imports wait until a run starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import BAD_INPUT, ConfigError
from unlearning.run.overrides import check_overrides, config_folder


def main() -> None:
    """Entry point of the console script."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Waiting threads sleep instead of spinning: on a machine that others use, too, spinning made a
    # step six times as slow. Read when torch is loaded, hence here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["report"]:
            return _report(arguments[1:])
        resumed = [word for word in arguments if word.startswith("resume=")]
        if resumed:
            return _resume(arguments, Path(resumed[0].removeprefix("resume=")))
        check_overrides(arguments)
    except ConfigError as error:
        _fail(error)
    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(_job)()


def _job(config: DictConfig) -> None:
    _exit(config, Path(HydraConfig.get().runtime.output_dir))


def _exit(config: DictConfig, folder: Path, resume: bool = False) -> None:
    from unlearning.run.start import start

    code = start(config, folder, resume)
    if code:
        sys.exit(code)


def _resume(arguments: list[str], folder: Path) -> None:
    if len(arguments) > 1:
        raise ConfigError(
            "resume=<run folder> takes the run's own configuration; leave out "
            f"{', '.join(word for word in arguments if not word.startswith('resume='))}."
        )
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{folder} is no run folder: it has no config.yaml.")
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    _exit(config, folder, resume=True)


def _report(arguments: list[str]) -> None:
    from unlearning.report import write_report

    if len(arguments) != 1:
        raise ConfigError("Give one run folder: unlearn report <run folder>.")
    print(write_report(Path(arguments[0])))


def _fail(error: ConfigError) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
