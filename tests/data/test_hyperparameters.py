"""A logger of the user's own gets the data's settings beside the module's."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger

from unlearning import CausalLMModule, UnlearningDataModule, UnlearningModule
from unlearning.data import (
    ExampleDataModule,
    FinetuningDataModule,
    JsonlDataModule,
    PromptTemplate,
    StoryDataModule,
)
from unlearning.data.hyperparameters import NOT_LOGGED
from unlearning.types import Example


class Mine(ExampleDataModule):
    """A data set with arguments of its own."""

    def __init__(self, rows: list[str], folder: Path, level: int = 3, extra=None, **settings):
        super().__init__(**settings)
        self.rows = rows

    def read(self):
        return [Example(f"what is {row} ?", row) for row in self.rows]


SETTINGS = {
    "fractions": [0.8, 0.1, 0.1], "seed": 5, "batch_size": 4, "max_length": 32, "skip_empty": False,
    "train_prompts": None, "answers_per_prompt": None,
}  # fmt: skip


def test_a_logger_has_module_and_data(model, make_data, quiet_trainer, tmp_path):
    data = make_data(seed=7, mismatch_per_prompt=3, cache_dir=tmp_path)
    logger = CSVLogger(tmp_path, name="", version="log")
    # cache_dir is another one here than there: nothing that Lightning could refuse to merge.
    quiet_trainer(max_steps=1, logger=logger, log_every_n_steps=1).fit(
        UnlearningModule(model), data
    )
    logged = yaml.safe_load((tmp_path / "log/hparams.yaml").read_text())
    assert (logged["batch_size"], logged["mismatch_per_prompt"], logged["seed"]) == (2, 3, 7)
    assert (logged["learning_rate"], logged["reduction"]) == (2e-6, "mean")
    assert not logged.keys() & {"forget", "retain", "tokenizer", "template"}


def test_no_name_means_two_things():
    """Lightning refuses to log a name to which module and data give different values."""

    def names(cls) -> set[str]:
        return {*inspect.signature(cls).parameters} - {"self", *NOT_LOGGED}

    for module in (UnlearningModule, CausalLMModule):
        for data in (UnlearningDataModule, FinetuningDataModule, ExampleDataModule):
            assert not names(module) & names(data)


def test_subclasses_have_theirs_and_only_what_is_plain(tokenizer):
    extra = {"object": object()}
    data = Mine(
        ["a", "b"], Path("x/y"), extra=extra, tokenizer=tokenizer, template=PromptTemplate(),
        cache_dir="somewhere", **{**SETTINGS, "fractions": (0.8, 0.1, 0.1)},
    )  # fmt: skip
    assert data.hparams == {"rows": ["a", "b"], "folder": "x/y", "level": 3, **SETTINGS}
    assert "rows" not in Mine([str(n) for n in range(21)], Path("x")).hparams  # data, too


def test_arguments_that_a_subclass_fixes_are_those_in_force():
    hparams = StoryDataModule(seed=3).hparams
    assert (hparams["seed"], hparams["passage_words"], hparams["finetune_on"]) == (
        3,
        60,
        "passages",
    )
    assert hparams["fractions"] == [*StoryDataModule().fractions]


def test_a_checkpoint_restores_the_data_module(
    make_model, make_data, tokenizer, quiet_trainer, tmp_path, forget_examples, retain_examples
):
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(UnlearningModule(make_model()), make_data(seed=7, batch_size=1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["datamodule_hyper_parameters"]["seed"] == 7
    loaded = UnlearningDataModule.load_from_checkpoint(
        tmp_path / "a.ckpt", weights_only=True, forget=forget_examples, retain=retain_examples,
        tokenizer=tokenizer,
    )  # fmt: skip
    assert (loaded.seed, loaded.batch_size, loaded.mismatch_per_prompt) == (7, 1, 2)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
@pytest.mark.parametrize("alone", [True, False])
def test_fine_tuning_logs_its_data(model, tokenizer, quiet_trainer, tmp_path, alone):
    rows = [{"prompt": f"what is {n} ?", "response": "five"} for n in range(10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = JsonlDataModule(
        str(tmp_path / "pairs.jsonl"), tokenizer=tokenizer, **{**SETTINGS, "max_length": 16}
    )
    wrapped = FinetuningDataModule(data, tokenizer, context_length=16, batch_size=3, seed=6)
    logger = CSVLogger(tmp_path, name="", version="log")
    trainer = quiet_trainer(max_steps=1, logger=logger, log_every_n_steps=1)
    trainer.fit(CausalLMModule(model), data if alone else wrapped)
    logged = yaml.safe_load((tmp_path / "log/hparams.yaml").read_text())
    if alone:
        assert (logged["source"], logged["seed"]) == (str(tmp_path / "pairs.jsonl"), 5)
    else:
        assert (logged["context_length"], logged["batch_size"], logged["seed"]) == (16, 3, 6)
    assert logged["optimizer"] == "adamw"
