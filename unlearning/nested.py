"""Walks nested mappings, such as a configuration or `metrics.json`, by dotted path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def walk(node: Any, path: str = "", lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Yields all that lies below a node with its path (`a`, `a.b`, `a.b[0]`), parents first.

    Args:
        node: plain mappings, lists and values.
        path: of the node itself.
        lists: whether a list's items are looked into.
    """
    below: list[tuple[str, Any]] = []
    if isinstance(node, Mapping):
        below = [(f"{path}.{name}" if path else str(name), child) for name, child in node.items()]
    elif lists and isinstance(node, list):
        below = [(f"{path}[{number}]", child) for number, child in enumerate(node)]
    for here, child in below:
        yield here, child
        yield from walk(child, here, lists)


def leaves(node: Any, path: str = "", lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Yields what has nothing below it, empty mappings and lists included; see `walk`."""
    for here, value in walk(node, path, lists):
        inner = isinstance(value, Mapping) or (lists and isinstance(value, list))
        if not (inner and value):
            yield here, value


def mapped(node: Any, change: Callable[[Any], Any]) -> Any:
    """Returns a plain copy, dicts with text keys and lists, with every other value changed.

    Examples:
        >>> mapped({"a": (1, 2), 3: {"b": 4}}, lambda value: -value)
        {'a': [-1, -2], '3': {'b': -4}}
    """
    if isinstance(node, Mapping):
        return {str(name): mapped(child, change) for name, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [mapped(child, change) for child in node]
    return change(node)
