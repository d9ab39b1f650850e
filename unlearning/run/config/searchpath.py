"""Adds the user's own configuration folders: `--config-dir <folder>` and
`hydra.searchpath=[...]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unlearning.errors import ConfigError
from unlearning.run.config.folder import config_folder

KEY = "hydra.searchpath"
FLAGS = ("--config-dir", "-cd")


def with_searchpath(arguments: Sequence[str]) -> list[str]:
    """Joins all configuration folders in one `hydra.searchpath` argument, as absolute paths.

    A flag is lost on the way to the jobs of a sweep, and a relative path when a sweep is resumed
    from elsewhere; a setting with absolute paths reaches them like any other.

    Raises:
        ConfigError: a folder does not exist, or holds files that Hydra would not read.
    """
    others, folders = list[str](), list[str]()
    words = iter(arguments)
    for word in words:
        flag, separator, value = word.partition("=")
        if flag in FLAGS:
            folder = value if separator else next(words, None)
            if not folder:
                raise ConfigError(f"{flag} needs a folder: {flag} <folder>.")
            folders.append(folder)
        elif flag.lstrip("+") == KEY:
            folders += _listed(word)
        else:
            others.append(word)
    if not folders:
        return others
    sources = dict.fromkeys(_source(folder) for folder in folders)
    word = f"{KEY}=[{','.join(_quoted(source) for source in sources)}]"
    # Beside the other settings: Hydra's parser takes them all in one place only.
    settings = (n for n, other in enumerate(others) if "=" in other and other[0] != "-")
    place = next(settings, len(others))
    return [*others[:place], word, *others[place:]]


def searchpath_of(arguments: Sequence[str]) -> list[str]:
    """Returns the argument that `with_searchpath` has added, if there is one."""
    return [word for word in arguments if word.startswith(f"{KEY}=")]


def _listed(word: str) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        value = OverridesParser.create().parse_override(word).value()
    except HydraException as error:
        raise ConfigError(f"In {word!r}: {error}") from error
    if not (isinstance(value, list) and all(isinstance(entry, str) for entry in value)):
        raise ConfigError(f"{word}: expected a list of folders, as in {KEY}=[file://my_conf].")
    return value


def _source(folder: str) -> str:
    scheme, separator, path = folder.partition("://")
    if separator and scheme != "file":  # pkg://package.folder
        return folder
    found = Path(path if separator else folder).expanduser().resolve()
    if not found.is_dir():
        raise ConfigError(
            f"The configuration folder {folder} does not exist (looked for {found}). Give the "
            "folder that holds yours, such as one with experiment/<name>.yaml in it."
        )
    _check_names(found)
    return f"file://{found}"


def _check_names(folder: Path) -> None:
    """Checks that no file of the user's has the name of one of ours, which Hydra would take
    instead."""
    ours = config_folder()
    if folder == ours:
        return
    names = (file.relative_to(ours) for file in sorted(ours.rglob("*.yaml")))
    hidden = [str(name) for name in names if (folder / name).is_file()]
    if hidden:
        more = f" and {len(hidden) - 3} more" if len(hidden) > 3 else ""
        raise ConfigError(
            f"{folder} holds {', '.join(hidden[:3])}{more}, which the package's own files of that "
            "name would hide. Give yours other names."
        )


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
