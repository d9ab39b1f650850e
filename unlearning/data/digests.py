"""Finds duplicate texts by their digests, without holding the texts in memory.

Sixteen bytes of a sha256: of 10^9 texts, two have the same ones with a chance below 10^-20.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.bytes_]
"""[texts], 16 bytes each, which compare as those bytes do (numpy pads both sides alike)."""
SIZE = 16


def digests(texts: Iterable[str], count: int = -1) -> Digests:
    """Returns the first 16 bytes of each text's sha256; they sort as the whole hash does.

    Args:
        count: how many texts there are, where that is known: the array need not grow then, which
            would take room for the old and the new one.
    """
    # An unpaired surrogate, which JSON can bring, has no UTF-8 of its own.
    hashes = (hashlib.sha256(text.encode("utf-8", "surrogatepass")) for text in texts)
    return np.fromiter((hashed.digest()[:SIZE] for hashed in hashes), f"S{SIZE}", count)


def firsts(found: Digests) -> NDArray[np.int64]:
    """Returns the indices at which a digest occurs for the first time, in ascending order."""
    places = np.unique(found, return_index=True)[1]
    places.sort()
    return places


def contained(wanted: Digests, among: Digests) -> NDArray[np.bool_]:
    """Tells for each digest whether it is among the others, which are *sorted in place*."""
    if not len(among):
        return np.zeros(len(wanted), dtype=np.bool_)
    among.sort()
    places = np.searchsorted(among, wanted)
    return among[np.minimum(places, len(among) - 1)] == wanted
