from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from unlearning.errors import ConfigError
from unlearning.metrics.embedding import EmbeddingSimilarity, load_encoder
from unlearning.metrics.kinds import metrics_of_kind
from unlearning.metrics.likeness import similarity_metrics
from unlearning.metrics.prompt_sets import described
from unlearning.types import PromptSet

VECTORS = {"east": [2.0, 0.0], "north": [0.0, 5.0], "north-east": [3.0, 3.0], "west": [-1.0, 0.0]}


def _encode(texts: list[str], /) -> np.ndarray:
    return np.array([VECTORS[text] for text in texts])


def test_cosines_by_hand() -> None:
    found = EmbeddingSimilarity(_encode)(
        ["east", "east", "north-east", "east"], ["east", "north", "north", "west"]
    )
    np.testing.assert_allclose(found, [1, 0, 2**-0.5, -1], atol=1e-12)


def test_empty_answers_are_not_embedded() -> None:
    found = EmbeddingSimilarity(_encode)(["", " ", "east"], ["\n", "east", ""])
    assert found.tolist() == [1.0, 0.0, 0.0]
    assert EmbeddingSimilarity(_encode)([], []).shape == (0,)


def test_unpaired_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 hypotheses for 2 targets"):
        EmbeddingSimilarity(_encode)(["east"], ["east", "west"])


def _beyond(folder: Path) -> str:
    """A folder with a module that only sentence-transformers can compute."""
    kinds = ("Transformer", "Pooling", "Dense")
    modules = [{"path": kind, "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    return str(folder)


def test_without_the_package_the_error_names_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'unlearning\[embedding\]'"):
        load_encoder(_beyond(tmp_path))


class _SentenceTransformer:
    """Stands in for the package: takes what it takes and embeds by lengths."""

    def __init__(self, model: str, *, device: str, trust_remote_code: bool) -> None:
        assert not trust_remote_code  # never the code that comes with a model
        if any(Path(model).glob("damaged")):
            raise OSError("it is damaged")
        self.device = device

    def encode(
        self, texts: list[str], *, batch_size: int, convert_to_numpy: bool, show_progress_bar: bool
    ) -> np.ndarray:
        assert convert_to_numpy
        assert not show_progress_bar
        return np.array([[len(text), batch_size] for text in texts], dtype=np.float32)


def test_what_takes_the_package_is_loaded_by_it(tmp_path, monkeypatch) -> None:
    package: Any = ModuleType("sentence_transformers")
    package.SentenceTransformer = _SentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    encode = load_encoder(_beyond(tmp_path), batch_size=4)
    assert encode(["ab", "abc"]).tolist() == [[2, 4], [3, 4]]
    (tmp_path / "damaged").touch()
    with pytest.raises(ConfigError, match=r"cannot load the embedding model .* it is damaged"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "first", "to_target", "to_original"),
    [
        ("harmful", "embedding_to_target", "lower", None),
        ("copyright", "embedding_to_target", "lower", None),
        ("retain", "embedding_to_original", "higher", "higher"),
        ("related", "embedding_to_original", "higher", "higher"),
    ],
)
def test_tables_show_it_in_front_where_it_is_measured(kind, first, to_target, to_original) -> None:
    asked, usual = PromptSet("asked", kind), list(metrics_of_kind(kind))
    further = similarity_metrics("embedding", EmbeddingSimilarity(_encode), kind)
    assert all(metric.unit == "cosine (-1..1)" for metric in further)
    without = described([asked], {"asked": usual})["asked"]
    found = described([asked], {"asked": [*usual, *further]})["asked"]
    assert set(found["front"]) - set(without["front"]) == {first}
    assert found["directions"]["embedding_to_target"] == to_target
    assert found["directions"]["embedding_to_original"] == to_original
