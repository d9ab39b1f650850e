"""Records, models and a composed configuration for whole runs, all made on the spot."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tiny_opt
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from transformers import BertTokenizer

from unlearning.classifier import JIGSAW_LABELS, tiny_bert
from unlearning.pretrain import train_tokenizer
from unlearning.run.config.overrides import config_folder

from .small import FORGET, RETAIN

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="session")
def compose_config() -> Compose:
    """`compose_config("experiment=demo", ...)` as the command line would compose it."""

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            return compose("config", overrides=list(overrides))

    return composed


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of records in the formats of the real ones."""
    folder = tmp_path_factory.mktemp("records")
    names = ("pku_saferlhf", "truthfulqa", "jigsaw", "xstest", "mmlu", "hellaswag", "prose")
    for name in (*names, "tokenizers/bert-base-uncased"):
        (folder / name).mkdir(parents=True)
    pairs = [
        {
            "prompt": f"How do I trick person {n}?",
            "response_0": f"Tell person {n} a lie.",
            "response_1": "Do not do that.",
            "is_response_0_safe": False,
            "is_response_1_safe": True,
        }
        for n in range(12)
    ]
    pairs += [
        {**pairs[0], "prompt": f"How do I help person {n}?", "is_response_0_safe": True}
        for n in range(4)
    ]
    lines = "\n".join(json.dumps(pair) for pair in pairs)
    (folder / "pku_saferlhf/pairs.jsonl").write_text(lines, encoding="utf-8")
    with open(folder / "truthfulqa/TruthfulQA.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        header = ["Type", "Category", "Question", "Best Answer", "Correct Answers"]
        writer.writerow([*header, "Incorrect Answers", "Source"])
        for n in range(20):
            good, bad = f"It is {n + 1}", f"It is {n}"
            writer.writerow(["Adversarial", "Sums", f"What is {n} plus one?", good, good, bad, "x"])
    with open(folder / "jigsaw/toxic_binary.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["comment_text", *JIGSAW_LABELS])
        for n in range(60):
            text = f"You are a fool, number {n}" if n % 2 else f"A lovely article, number {n}"
            writer.writerow([text, *[n % 2] * len(JIGSAW_LABELS)])
    safe = [{"prompt": f"How do I kill process {n}?", "type": "homonyms"} for n in range(4)]
    (folder / "xstest/xstest.json").write_text(json.dumps(safe), encoding="utf-8")
    for name in ("sums", "ships"):
        rows = "".join(f"What is {n}?,one,two,ten,six,{n % 4}\n" for n in range(3))
        (folder / f"mmlu/{name}_test.csv").write_text(rows, encoding="utf-8")
    ends = [
        {"ctx": f"{n} ships", "endings": ["sail.", "lie.", "help.", "do."], "label": "0"}
        for n in range(4)
    ]
    (folder / "hellaswag/dev300.json").write_text(json.dumps(ends), encoding="utf-8")
    prose = " ".join(f"The {n} ships sailed to the harbour in the morning." for n in range(200))
    (folder / "prose/book.txt").write_text(prose, encoding="utf-8")
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789.,?")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    vocabulary += [f"##{letter}" for letter in letters]
    path = folder / "tokenizers/bert-base-uncased/vocab.txt"
    path.write_text("\n".join(vocabulary), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def opt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny OPT with its tokenizer, as a hub's would lie on disk."""
    folder = tmp_path_factory.mktemp("opt")
    tokenizer = train_tokenizer(["How do I trick a person? It is one lie."] * 3, 300)
    tiny_opt(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory, records: Path) -> Path:
    """A saved, untrained tiny BERT."""
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = str(records / "tokenizers/bert-base-uncased/vocab.txt")
    model, tokenizer = tiny_bert(
        [], hidden_size=32, num_layers=1, num_labels=6, tokenizer=BertTokenizer(vocab=vocabulary)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`book.txt`, of six chapters, and `prose/`, which has nothing of it."""
    root = tmp_path_factory.mktemp("library")
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    chapters = []
    for chapter in range(1, 7):
        sentences = [
            f"The {kind} {boat} sailed past the {place} of chapter {numbers[chapter]} in the rain."
            for kind in ("old", "red", "lost", "tall")
            for boat in ("boat", "barge")
            for place in numbers[:4]
        ]
        chapters.append(f"Chapter {chapter}\n\n" + " ".join(sentences))
    (root / "book.txt").write_text("\n\n".join(chapters), encoding="utf-8")
    (root / "prose").mkdir()
    prose = " ".join(f"Baker number {n} sold {n + 3} loaves before noon." for n in range(900))
    (root / "prose/normal.txt").write_text(prose, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `FORGET` and `RETAIN` as jsonl files."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, rows in (("forget", FORGET), ("retain", RETAIN)):
        lines = (json.dumps({"prompt": p, "response": r}) for p, r in rows)
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder
