"""`LightningCLI(UnlearningModule, UnlearningDataModule)` in somebody's script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import tiny_opt
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningCLI

from unlearning import (
    CausalLMModule,
    FinetuningDataModule,
    UnlearningDataModule,
    UnlearningModule,
    data,
)
from unlearning.methods.rmu import RMU

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
]


class Subclass(UnlearningModule):
    """With a setting of its own."""

    def __init__(self, halved: bool = False, **settings):
        super().__init__(**settings)
        self.halved = halved


@pytest.fixture
def folder(tmp_path, tokenizer, forget_examples, retain_examples, monkeypatch) -> Path:
    """The working folder, with a model and records."""
    model = tiny_opt(len(tokenizer))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    for name, examples in (("forget", forget_examples), ("retain", retain_examples)):
        rows = [json.dumps({"prompt": e.prompt, "response": e.response}) for e in examples]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    return tmp_path


def cli(arguments: list[str], module=UnlearningModule, datamodule=UnlearningDataModule, **settings):
    quiet = {
        "accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    return LightningCLI(
        module, datamodule, args=["fit", *arguments], save_config_callback=None,
        trainer_defaults=quiet, seed_everything_default=0, **settings,
    )  # fmt: skip


WORDS = [
    "--trainer.max_steps=2", "--model.model=model", "--model.learning_rate=1e-3",
    "--data.tokenizer=model", "--data.mismatch_per_prompt=2", "--data.max_length=48",
    *(
        word
        for name in ("forget", "retain")
        for word in (
            f"--data.{name}=unlearning.data.JsonlDataModule", f"--data.{name}.source={name}.jsonl",
            f"--data.{name}.fractions=[1.0, 0.0, 0.0]",
        )
    ),
]  # fmt: skip


def test_from_the_command_line_it_trains_as_from_python(
    folder, tokenizer, forget_examples, retain_examples, quiet_trainer
):
    terms = {
        "forget": {"loss": "unlearning.losses.bounded_ascent", "role": "forget",
                   "weight": 0.25, "options": {"cap": 3.0}},
        "retain": {"loss": "unlearning.losses.nll", "role": "retain"},
    }  # fmt: skip
    found = cli([*WORDS, f"--model.terms={json.dumps(terms)}"])
    assert found.trainer.global_step == 2
    assert found.model.objective.terms["forget"].weight == 0.25

    module = UnlearningModule(str(folder / "model"), terms, learning_rate=1e-3)
    sets = [
        data.JsonlDataModule(f"{name}.jsonl", fractions=(1.0, 0.0, 0.0))
        for name in ("forget", "retain")
    ]
    stream = UnlearningDataModule(*sets, tokenizer, mismatch_per_prompt=2, max_length=48)
    quiet_trainer(max_steps=2).fit(module, stream)
    pairs = zip(found.model.parameters(), module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_printed_configuration_is_one_to_start_from(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        cli([*WORDS, "--print_config"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    settings = yaml.safe_load(printed)
    assert settings["model"]["learning_rate"] == 1e-3
    assert settings["data"]["forget"]["init_args"]["source"] == "forget.jsonl"
    (folder / "mine.yaml").write_text(printed)
    found = cli(["--config=mine.yaml", "--data.seed=3"])
    assert found.trainer.global_step == 2 and found.datamodule.seed == 3


def test_examples_in_the_configuration_and_a_subclass(folder):
    settings = yaml.safe_load("""
        model:
          class_path: test_lightning_cli.Subclass
          init_args: {model: model, halved: true}
        data:
          forget: [{prompt: "how do I cheat ?", response: look}]
          retain:
            - {prompt: "is the sun cold ?", response: hot}
            - {prompt: "what says a cat ?", response: meow}
          tokenizer: model
          mismatch_per_prompt: 1
          max_length: 48
        trainer: {max_steps: 1}
    """)
    (folder / "mine.yaml").write_text(yaml.safe_dump(settings))
    found = cli(["--config=mine.yaml"], subclass_mode_model=True)
    assert type(found.model).__name__ == "Subclass" and found.model.halved
    assert found.trainer.global_step == 1


def test_a_misspelt_choice_is_refused_with_the_known_ones(folder, capsys):
    with pytest.raises(SystemExit):
        cli([*WORDS, "--model.schedule=lineer"])
    assert "'linear', 'constant', 'cosine'" in capsys.readouterr().err


def test_fine_tuning(folder):
    words = ["--trainer.max_steps=1", "--model.model=model", "--data.tokenizer=model",
             "--data.data=unlearning.data.JsonlDataModule", "--data.data.source=forget.jsonl",
             "--data.data.seed=4", "--data.context_length=48"]  # fmt: skip
    found = cli(words, CausalLMModule, FinetuningDataModule)
    assert found.trainer.global_step == 1 and found.datamodule.data.seed == 4


@pytest.mark.parametrize(
    "cls",
    [
        UnlearningModule, CausalLMModule, RMU,
        *(getattr(data, name) for name in data.__all__ if name.endswith("DataModule")),
    ],
)  # fmt: skip
def test_every_argument_is_typed(cls):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "it", fail_untyped=True, instantiate=False)
    names = {action.dest for action in parser._actions}
    assert names & {"it.model", "it.seed"}
