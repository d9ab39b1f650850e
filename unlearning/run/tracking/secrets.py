"""Refuses keys and passwords in the configuration, so that no run writes them anywhere."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearning.errors import ConfigError
from unlearning.nested import walk
from unlearning.run.config.override_values import override_values

# The last part of a setting's name. Tokens of a vocabulary (`eos_token`) are no secrets.
NAMES = re.compile(
    r"(^|_)(api_?key|access_?key|private_?key|secret(_?key)?|passw(or)?d|credentials?)$"
    r"|^token$|(^|_)(hf|hub|auth|access|api|bearer|identity|refresh|session|wandb)_?token$",
    re.IGNORECASE,
)
# The last part of an environment variable's name: WANDB_API_KEY, HF_TOKEN, GITHUB_TOKEN, ...
VARIABLES = re.compile(
    r"(API_?KEY|ACCESS_?KEY|SECRET_?KEY|PRIVATE_?KEY|TOKEN|SECRET|PASSW(OR)?D)$", re.IGNORECASE
)
SHAPES = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|\bwandb_v\d_[A-Za-z0-9_]{20,}"  # Weights & Biases; its older keys look like any hash
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"  # GitHub, GitLab
    r"|\bsk-[\w-]{20,}"  # OpenAI and others
    r"|\bxox[abprs]-[\w-]{10,}|\bAKIA[0-9A-Z]{16}\b"  # Slack, Amazon
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|://[^/\s@]*:[^/\s@]+@|://[^/\s@:]{16,}@"  # a password, or a token alone, in an address
    r"|[?&](api_?key|access_?key|(\w+_)?token|secret|passw(or)?d|sig(nature)?)=[^&\s]{8,}",
    re.IGNORECASE,
)
# What Weights & Biases and others give out as a key; below a setting that speaks of one.
HASH = re.compile(r"[0-9a-f]{32,64}", re.IGNORECASE)
# A secret's name inside a text that may be a mapping.
WRITTEN = re.compile(
    r"(api_?key|access_?key|private_?key|secret(_?key)?|passw(or)?d|credentials?|\b(\w+_)?token)"
    r"[\"']?\s*[:=]",
    re.IGNORECASE,
)
SHORTEST = 8  # a shorter value of a variable is no key, and turns up by chance
NOTHING = {"", "null", "none", "false", "true", "???"}


def check_secrets(arguments: Sequence[str], config: DictConfig | None = None) -> None:
    """Raises a ConfigError for a key, token or password among overrides and settings.

    Found are settings that are called so, values that look so, and values that hold what a
    variable of the environment or a login file keeps secret. The message never holds the value.

    Args:
        arguments: of the command line.
        config: composed; every value in it is saved and sent to trackers.

    Raises:
        ConfigError: naming the setting.
    """
    known = list(_known())
    for word in arguments:
        key, separator, text = word.partition("=")
        name = key.lstrip("+~-") if separator else "an argument"
        if _is_secret(key, known):
            raise ConfigError(_message("an argument"))
        if _is_secret(text, known):
            raise ConfigError(_message(name))
        values = override_values(word)  # of one that does not parse nothing is known
        _check_below(name, values, known)
        if not values and (NAMES.search(name.rpartition(".")[2]) or WRITTEN.search(text)):
            raise ConfigError(_message(name))
    if config is not None:
        plain = OmegaConf.to_container(config, resolve=False)
        _check_below("", [plain], known)
        for path, value in walk(plain):
            if isinstance(value, str) and "${" in value:  # may fetch what the environment holds
                _check(path, _resolved(config, path), known)


def _check_below(name: str, values: Sequence[Any], known: Sequence[str]) -> None:
    """Checks the values of a setting, and all that lies below them, keys included."""
    for path, value in ((path, v) for each in values for path, v in _with_itself(each, name)):
        if _is_secret(path, known):
            raise ConfigError(_message(path.rpartition(".")[0] or "a top-level key"))
        if value is not None and not isinstance(value, (Mapping, list)):
            _check(path, value, known)


def _with_itself(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    yield from walk(value, path)


def check_no_environment(config: DictConfig, folder: Path) -> None:
    """Checks that a run folder's configuration reads no variable of the environment, whose value
    would be saved in it; a run writes none that does.

    Raises:
        ConfigError: naming the setting.
    """
    for path, value in walk(OmegaConf.to_container(config, resolve=False)):
        if isinstance(value, str) and "${oc.env" in value:
            raise ConfigError(
                f"{path} in {folder / 'config.yaml'} reads a variable of the environment, which no "
                "run writes there. Write the value itself, or start a run of its own."
            )


def _check(path: str, value: Any, known: Sequence[str]) -> None:
    text = str(value).strip("'\" ")
    name = re.sub(r"(\[\d+\])+$", "", path).rpartition(".")[2]
    # The number of a token of the vocabulary is none.
    number = isinstance(value, (int, float)) and name.lower() == "token"
    if (
        (NAMES.search(name) and text.lower() not in NOTHING and not number)
        or ("key" in name.lower() and HASH.fullmatch(text))
        or (text[:1] in ("{", "[") and WRITTEN.search(text))
        or _is_secret(text, known)
    ):
        raise ConfigError(_message(path))


def _is_secret(text: str, known: Sequence[str]) -> bool:
    return bool(SHAPES.search(text)) or any(secret in text for secret in known)


def _message(path: str) -> str:
    return (
        f"{path} holds what looks like a key, token or password (not shown here). Settings are "
        "saved in the run folder and sent to trackers, so secrets never belong there: remove it, "
        "and give it as a variable of the environment (WANDB_API_KEY, HF_TOKEN) or log in once "
        "(`wandb login`, `hf auth login`)."
    )


def _resolved(config: DictConfig, path: str) -> Any:
    try:
        return OmegaConf.select(config, path)
    except OmegaConfBaseException:  # what is missing or misspelt is named by who needs it
        return None


def _known() -> Iterator[str]:
    """Collects secrets that this process could know, from the environment and from login files."""
    for name, value in os.environ.items():
        if VARIABLES.search(name) and len(value) >= SHORTEST and value.lower() not in NOTHING:
            yield value
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface")).expanduser()
    token = Path(os.environ.get("HF_TOKEN_PATH", home / "token")).expanduser()
    if token.is_file():
        yield from (line for line in token.read_text().split() if len(line) >= SHORTEST)
    yield from (secret for _, secret in logins() if len(secret) >= SHORTEST)


def logins() -> Iterator[tuple[str, str]]:
    """Reads hosts with their passwords from the netrc file that `wandb login` writes."""
    home = Path.home()
    paths = [os.environ.get("NETRC"), home / ".netrc", home / "_netrc"]
    path = next((Path(p).expanduser() for p in paths if p and Path(p).expanduser().is_file()), None)
    if path is None:
        return
    try:
        hosts = netrc.netrc(path).hosts
    except (netrc.NetrcParseError, OSError):
        return  # of no use to anybody then; W&B says so itself
    for host, (_, _, secret) in hosts.items():
        if secret:
            yield host, secret
