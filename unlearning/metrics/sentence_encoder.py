"""Sentence embeddings by an encoder of transformers, pooled as its folder says.

A folder of sentence-transformers is a list of modules: an encoder, its pooling and, mostly, a
normalisation. Those that are nothing else are read here; no other package is needed, and no code
that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from unlearning.errors import ConfigError
from unlearning.files.parsing import read_json
from unlearning.loading import load_config, load_pretrained, load_tokenizer, native_only
from unlearning.weight_files import check_weight_files, is_absent

Pooling = Literal["mean", "cls"]
MODULES, POOLING, LENGTH = "modules.json", "1_Pooling", "sentence_bert_config.json"
PREFIX = "pooling_mode_"
KNOWN = ("Transformer", "Pooling", "Normalize")
DESCRIPTION = ("*.json", "*.txt", "*.model")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
SPARE = ("pooler",)
"""BERT's layer above the first token, which no pooling here reads."""


@dataclass(frozen=True)
class EncoderFolder:
    """What a folder says about its sentence embeddings.

    Args:
        encoder: folder of the encoder and its tokenizer.
        pooling: mean over the tokens of the attention mask, or the first token's state.
        max_length: tokens of a text that are read, the special ones included; None: as many as the
            encoder has positions.
        lower_case: texts are put in lower case before they are tokenised.
        beyond: what of the folder only sentence-transformers can compute; "": nothing.
    """

    encoder: Path
    pooling: Pooling = "mean"
    max_length: int | None = None
    lower_case: bool = False
    beyond: str = ""


class SentenceEncoder:
    """Computes normalised sentence embeddings with an encoder of transformers, in fp32.

    The last hidden states h_BLD are pooled over the tokens of the attention mask m,
    sum_l m_l h_l / sum_l m_l (or h_0), and divided by their norm (arXiv 1908.10084).

    Args:
        folder: what `describe_encoder` or `check_encoder` returns.
        batch_size: texts per forward; texts of similar length share one.

    Raises:
        ConfigError: it is no encoder, its weights are damaged or missing, or it pools in a way that
            is not known here.
    """

    def __init__(self, folder: EncoderFolder, device: str = "cpu", batch_size: int = 32) -> None:
        if folder.beyond:
            raise ConfigError(f"{folder.encoder}: {folder.beyond}; expected a mean or [CLS].")
        _check_is_encoder(folder.encoder)
        check_weight_files(folder.encoder)
        self.folder = folder
        self.tokenizer = load_tokenizer(folder.encoder)
        self.model = load_pretrained(
            "AutoModel", folder.encoder, "encoder", spare=SPARE, dtype=torch.float32
        ).to(device).eval()  # fmt: skip
        positions = getattr(self.model.config, "max_position_embeddings", None)
        limits = (folder.max_length, positions, self.tokenizer.model_max_length)
        self.max_length = min(limit for limit in limits if limit)
        self.batch_size = batch_size

    @torch.inference_mode()
    def __call__(self, texts: list[str], /) -> NDArray[np.float64]:
        """Computes the embeddings, [n, D]."""
        found = np.zeros((len(texts), self.model.config.hidden_size))
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            found[rows] = self._embed([texts[row] for row in rows]).double().cpu().numpy()
        return found

    def _embed(self, texts: Sequence[str]) -> Tensor:
        given = [text.lower() if self.folder.lower_case else text for text in texts]
        batch = self.tokenizer(
            given, padding="longest", truncation=True, max_length=self.max_length,
            return_tensors="pt",
        ).to(self.model.device)  # fmt: skip
        hidden_BLD = self.model(**batch).last_hidden_state
        pooled_BD = pool(hidden_BLD, batch["attention_mask"], self.folder.pooling)
        return torch.nn.functional.normalize(pooled_BD, dim=-1)


def pool(hidden_BLD: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    """Pools token states to one a text, [B, D].

    Examples:
        >>> states = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> pool(states, torch.tensor([[1, 1, 0]]), "mean")
        tensor([[2.]])
    """
    if pooling == "cls":
        return hidden_BLD[:, 0]
    mask_BL1 = mask_BL.unsqueeze(-1).to(hidden_BLD.dtype)
    return (hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1)


def check_encoder(model: str) -> EncoderFolder | None:
    """Checks a local folder: an encoder with whole weights and a tokenizer. No weight is read.

    Returns:
        Its description; None for a name that is no folder here and so can only be a hub id.

    Raises:
        ConfigError: there is no such folder, it is no encoder, or weights are damaged or missing.
    """
    if is_absent(model, "encoder"):
        return None
    found = describe_encoder(Path(model))
    if not found.beyond:
        _check_is_encoder(found.encoder)
        check_weight_files(found.encoder)
        load_pretrained("AutoModel", found.encoder, "encoder", spare=SPARE, device_map="meta")
        load_tokenizer(found.encoder)
    return found


def describe_encoder(folder: Path) -> EncoderFolder:
    """Reads how a folder's sentence embeddings are made; without a description, by the mean.

    Raises:
        ConfigError: a description cannot be read.
    """
    try:
        return _described(folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{folder}: {MODULES}, {LENGTH} or {POOLING} is not what sentence-transformers writes "
            f"({error!r}). Save or download the model again."
        ) from error


def _described(folder: Path) -> EncoderFolder:
    listed = read_json(folder / MODULES) if (folder / MODULES).is_file() else []
    paths = {str(each["type"]).rpartition(".")[2]: str(each["path"]) for each in listed}
    if listed and tuple(paths) not in (KNOWN, KNOWN[:2]):
        return EncoderFolder(folder, beyond=f"its modules are {', '.join(paths)}")
    encoder = folder / paths.get("Transformer", "")
    settings = _settings(encoder / LENGTH)
    pooling = _poolings(_settings(folder / paths.get("Pooling", POOLING) / "config.json"))
    if len(pooling) != 1 or pooling[0] not in get_args(Pooling):
        return EncoderFolder(encoder, beyond=f"it pools by {' and '.join(pooling) or 'nothing'}")
    length = settings.get("max_seq_length")
    return EncoderFolder(
        encoder, pooling[0], None if length is None else int(length),
        bool(settings.get("do_lower_case")),
    )  # fmt: skip


def local_folder(model: str) -> Path:
    """Returns the folder of a model: itself, or a hub's, downloaded once.

    Raises:
        ConfigError: there is no such folder, and no hub gives it.
    """
    if not is_absent(model, "encoder"):
        return Path(model)
    from huggingface_hub import snapshot_download

    with native_only(model, "encoder"):
        for weights in WEIGHTS:  # the same ones in other formats are left there
            folder = Path(snapshot_download(model, allow_patterns=[*DESCRIPTION, weights]))
            if any(folder.rglob(weights)):
                break
    return folder


def _settings(file: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(file) if file.is_file() else {}
    return found


def _poolings(settings: Mapping[str, Any]) -> list[Any]:
    """Returns the ways of pooling that a pooling's config.json asks for, all of them at once."""
    if not settings:
        return ["mean"]
    if "pooling_mode" in settings:  # since version 5 of the package
        named = settings["pooling_mode"]
        return [named] if isinstance(named, str) else list(named)
    names = {f"{PREFIX}mean_tokens": "mean", f"{PREFIX}cls_token": "cls"}
    return [names.get(n, n) for n, on in settings.items() if n.startswith(PREFIX) and on is True]


def _check_is_encoder(folder: Path) -> None:
    config = load_config(folder, "encoder")
    known = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    decodes = any(getattr(config, name, False) for name in ("is_encoder_decoder", "is_decoder"))
    if decodes or not known:
        raise ConfigError(
            f"{folder} is a {config.model_type}, which is no encoder of sentences; expected a BERT "
            "or one of its kin, such as sentence-transformers/all-MiniLM-L6-v2."
        )
