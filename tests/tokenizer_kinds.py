"""Small tokenizers of every kind, trained on the spot: each knows every letter of the texts."""

from __future__ import annotations

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

TEXT = [
    "### Question: Where do I look for the old road?\n### Answer: Look behind the house.",
    "user assistant system Yes, it is. No: you do not (7, 8, 12). 'Never' said the cat...",
    "Then the wind said look again, and the old house was there. abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,:;?!#'()\n <> [ ] / _ | - é ü",
] * 3
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|turn|>", "<|end|>"]
SPACE = "▁"

KINDS = (
    "bytes", "bytes_with_space", "prepend", "metaspace_always", "metaspace_first",
    "metaspace_never", "unigram", "unigram_prepend", "wordpiece", "words",
)  # fmt: skip


def make(kind: str, start: bool = False, end: bool = False, **options) -> PreTrainedTokenizerFast:
    """A tokenizer of a kind.

    Args:
        start: it puts `<s>` before every text.
        end: it puts `</s>` behind every text.
        options: of the tokenizer, for example `chat_template`.
    """
    inner = _made(kind)
    if start or end:
        pieces = ["<s>"] * start + ["$A"] + ["</s>"] * end
        ids = [(token, inner.token_to_id(token)) for token in ("<s>", "</s>")]
        inner.post_processor = TemplateProcessing(single=" ".join(pieces), special_tokens=ids)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **{**names, **options})


def _made(kind: str) -> Tokenizer:
    if kind == "words":
        words = sorted({word for text in TEXT for word in text.split()})
        vocabulary = {token: number for number, token in enumerate([*SPECIAL, *words])}
        inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        inner.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
        return inner
    settings = {"vocab_size": 400, "special_tokens": SPECIAL, "show_progress": False}
    if kind.startswith("unigram"):
        inner = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **settings)
    elif kind == "wordpiece":
        inner = Tokenizer(models.WordPiece(unk_token="<unk>"))
        trainer = trainers.WordPieceTrainer(**settings)
    else:
        inner = Tokenizer(models.BPE(unk_token="<unk>"))
        alphabet = pre_tokenizers.ByteLevel.alphabet() if kind.startswith("bytes") else []
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **settings)
    if kind.startswith("bytes"):
        spaced = kind == "bytes_with_space"
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
        inner.decoder = decoders.ByteLevel()
    elif kind.endswith("prepend"):  # SentencePiece's, as of Llama 2
        inner.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "never")  # no piece across words
        inner.train_from_iterator(TEXT, trainer)
        inner.pre_tokenizer = pre_tokenizers.Sequence([])
        replaced = [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        inner.normalizer = normalizers.Sequence(replaced)
        inner.decoder = decoders.Sequence(
            [decoders.Replace(SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        return inner
    elif kind == "wordpiece":
        inner.normalizer = normalizers.BertNormalizer(lowercase=True)
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inner.decoder = decoders.WordPiece()
    else:
        scheme = kind.split("_")[1] if "_" in kind else "always"
        inner.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme)
        inner.decoder = decoders.Metaspace(SPACE, scheme)
    inner.train_from_iterator(TEXT, trainer)
    return inner
