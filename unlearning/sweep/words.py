"""Parses the overrides typed after `unlearn -m`: what is swept over, and how jobs are run."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.nested import leaves
from unlearning.run.config.flags import MULTIRUN
from unlearning.run.config.overrides import searched

SWEEP = "sweep."  # the sweep's own node: no part of what a job is
# May change from one start of a sweep to the next: how the jobs are run, not which ones.
LAUNCHING = (
    "hydra/launcher", "hydra.launcher.", "hydra.sweep.dir", "hydra.sweeper.n_trials",
    "hydra.sweeper.n_jobs", "hydra.sweeper.seeds", "sweep.objectives", "sweep.name",
)  # fmt: skip
OF_THE_SWEEP = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper",
                "hydra.sweep.", "hydra.run.", "hydra.mode")  # fmt: skip


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Returns the overrides among the arguments of a multirun.

    Raises:
        ConfigError: there is another flag than -m, or a single run to resume.
    """
    words = [word for word in arguments if word not in MULTIRUN]
    if any(key_of(word) == "resume" for word in words):
        raise ConfigError(
            "resume=<run folder> goes on with one run: leave out -m. With a sweep: "
            "unlearn -m sweep.resume=<sweep folder>."
        )
    flags = [word for word in words if word.startswith("-")]
    if flags:
        raise ConfigError(f"A sweep (-m) takes overrides only, not {' '.join(flags)}.")
    return [word for word in words if key_of(word) != "hydra.mode"]


def key_of(word: str) -> str:
    """Returns the key of an override: `objective.forget.weight` of `+objective.forget.weight=1`.

    Examples:
        >>> key_of("+objective.forget.weight=1")
        'objective.forget.weight'
    """
    return word.partition("=")[0].lstrip("+~").strip()


def starts(word: str, prefixes: Iterable[str]) -> bool:
    """Whether the override's key is, or lies below, one of the prefixes."""
    return key_of(word).startswith(tuple(prefixes))


def resume_folder(words: Sequence[str]) -> Path | None:
    """Returns the value of `sweep.resume`, if it is given.

    Like `resume` it is taken as it is, commas and all, unless it was quoted for Hydra.
    """
    given = [word for word in words if key_of(word) == "sweep.resume"]
    if not given:
        return None
    text = given[-1].partition("=")[2].strip()
    if not text.startswith(("'", '"')):
        return None if text == "null" else Path(text)
    try:
        value = OverridesParser.create().parse_override(given[-1]).value()
    except HydraException as error:
        raise ConfigError(f"In {given[-1]!r}: {error}") from error
    return Path(str(value))


def resumed_words(stored: Sequence[str], given: Sequence[str], folder: Path) -> list[str]:
    """Returns the stored overrides, with the given ones in place of those on how jobs are run.

    Raises:
        ConfigError: what is given would make other jobs.
    """
    given = [word for word in given if key_of(word) != "sweep.resume"]
    wanted = Counter(word for word in given if not starts(word, LAUNCHING))
    made = Counter(word for word in stored if not starts(word, LAUNCHING))
    if wanted and wanted != made:
        only_given, only_stored = sorted((wanted - made).elements()), (made - wanted).elements()
        raise ConfigError(
            f"{folder} is a sweep over other jobs. Given now: {' '.join(only_given) or 'nothing'}; "
            f"given then, and not now: {' '.join(sorted(only_stored)) or 'nothing'}. "
            f"Go on with it as it was: unlearn -m sweep.resume={shlex.quote(str(folder))}; or "
            "start another."
        )
    launching = [word for word in given if starts(word, LAUNCHING)]
    replaced = {key_of(word) for word in launching}
    return [word for word in stored if key_of(word) not in replaced] + launching


def swept_keys(words: Sequence[str], config: DictConfig) -> list[str]:
    """Returns the keys that differ from job to job: swept over or searched through."""
    parsed = OverridesParser.create().parse_overrides(list(words))
    over = [o.key_or_group for o in (*parsed, *searched(config)) if o.is_sweep_override()]
    fixed = {o.key_or_group for o in parsed if not o.is_sweep_override()}
    return [key for key in dict.fromkeys([*over, *_compared(config)]) if key not in fixed]


def _compared(config: DictConfig) -> list[str]:
    """Returns what differs from job to job of a comparison beside what all methods search."""
    if "methods" not in config.hydra.sweeper:
        return []
    plain = OmegaConf.to_container(config.hydra.sweeper.get("own") or OmegaConf.create())
    own = [key for words in plain.values() for key, _ in leaves(words or {}, lists=False)]  # type: ignore[union-attr]
    return ["method", *own, "seed"]


def label(overrides: Sequence[str], swept: Sequence[str]) -> str:
    """Names a job by the overrides in which it differs: `forget.weight=0.25 seed=1`.

    Examples:
        >>> label(["objective.forget.weight=0.25", "seed=1"], ["objective.forget.weight", "seed"])
        'forget.weight=0.25 seed=1'
    """
    values = {key_of(word): word.partition("=")[2] for word in overrides}
    # A label stands in a configuration, where a dollar and a brace would be looked up.
    parts = (f"{_short(key, swept)}={_rounded(values[key])}" for key in swept if key in values)
    return " ".join(parts).replace("${", "{")


def _rounded(value: str) -> str:
    """Rounds a number for display; a search proposes sixteen digits."""
    try:
        return value if len(value) <= 8 else f"{float(value):.4g}"
    except ValueError:
        return value


def _short(key: str, among: Sequence[str]) -> str:
    """Returns the last parts of a key: two, or as many as tell it from the others."""
    parts = key.split(".")
    for count in range(2, len(parts)):
        short = ".".join(parts[-count:])
        if sum(other == key or other.endswith(f".{short}") for other in among) == 1:
            return short
    return key


def quoted(value: str) -> str:
    """Quotes a value for Hydra's override grammar."""
    return QuotedString(text=value, quote=Quote.single).with_quotes()
