from __future__ import annotations

import functools
import sys
from types import ModuleType

import pytest

from unlearning.errors import ConfigError
from unlearning.imports import import_object, import_path, stored_name
from unlearning.losses import TokenLosses, gradient_ascent
from unlearning.methods.npo import npo


def mine(tokens: TokenLosses, by: float = 2.0):
    return by * tokens.nll.sum()


class Holder:
    def method(self, tokens: TokenLosses):
        """No import path of one attribute leads here."""

    def __call__(self, tokens: TokenLosses):
        """An object that is called like a function."""


@pytest.mark.parametrize("function", [gradient_ascent, mine])
def test_an_import_path_leads_back(function):
    assert import_object(import_path(function)) is function
    assert (
        stored_name(function)
        == import_path(function)
        == f"{function.__module__}.{function.__name__}"
    )


def nameless() -> dict[str, object]:
    def local(tokens: TokenLosses):
        return tokens.nll.sum()

    @functools.wraps(mine)
    def wrapped(tokens: TokenLosses):
        return tokens.nll.sum()

    here = __name__
    return {
        f"<{here}.nameless.<locals>.<lambda>>": lambda tokens: tokens.nll.sum(),
        f"<{here}.nameless.<locals>.local>": local,
        f"<{here}.mine>": wrapped,  # the path leads to another function
        f"<partial({here}.mine, by=3)>": functools.partial(mine, by=3),
        "<partial(unlearning.methods.npo.npo, beta=0.2)>": functools.partial(npo, beta=0.2),
        f"<{here}.Holder.method>": Holder().method,
        f"<{here}.Holder>": Holder(),
    }


@pytest.mark.parametrize("name", nameless())
def test_what_has_no_import_path_is_stored_by_its_name(name):
    function = nameless()[name]
    assert import_path(function) is None
    assert stored_name(function) == name
    with pytest.raises(ConfigError, match=r"stored by its name only.*terms=\.\.\."):
        import_object(name)


def test_a_function_of_the_script_is_found_in_that_script_only(monkeypatch):
    script = ModuleType("__main__")
    exec("def own_loss(tokens): return tokens.nll.sum()", script.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert stored_name(script.own_loss) == "__main__.own_loss"
    assert import_object("__main__.own_loss") is script.own_loss
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    with pytest.raises(ConfigError, match=r"'__main__' has no 'own_loss'.*the script that stored"):
        import_object("__main__.own_loss")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("unlearning.losses.gradient_asent", r"did you mean unlearning\.losses\.gradient_ascent\?"),
        ("unlearning.lossess.npo", "Cannot import 'unlearning.lossess.npo'"),
        ("npo", r"Cannot import 'npo'.*package\.module\.name"),
    ],
)
def test_a_path_that_leads_nowhere(path, message):
    with pytest.raises(ConfigError, match=message):
        import_object(path)
