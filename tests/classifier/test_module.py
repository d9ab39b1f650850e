from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from unlearning.classifier import HarmClassifierModule, harm_loss
from unlearning.errors import ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


def quiet_trainer(**settings: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "accelerator": "cpu",
    }
    return Trainer(**{**quiet, **settings})


def test_loss_by_hand():
    # sigmoid(0) = 1/2; sigmoid(ln 3) = 3/4; sigmoid(-ln 3) = 1/4.
    logits = torch.tensor([[0.0, math.log(3)], [-math.log(3), math.log(3)]])
    targets = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    by_hand = -(math.log(1 / 2) + math.log(3 / 4) + math.log(3 / 4) + math.log(1 / 4)) / 4
    assert harm_loss(logits, targets).item() == pytest.approx(by_hand, abs=1e-6)


def test_loss_of_one_label_pushes_its_logit_towards_the_target():
    logits = torch.tensor([[0.0], [0.0]], requires_grad=True)
    harm_loss(logits, torch.tensor([[1.0], [0.0]])).backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-0.25, 0.25])


def test_loss_is_fp32_for_half_precision_logits():
    logits = torch.tensor([[9.0]], dtype=torch.bfloat16)
    assert harm_loss(logits, torch.tensor([[0.0]])).dtype == torch.float32


def test_saved_configuration_says_what_the_outputs_are(make_bert):
    module = HarmClassifierModule(make_bert(2), labels=("toxic", "threat"))
    config = module.model.config
    assert config.id2label == {0: "toxic", 1: "threat"}
    assert config.label2id == {"toxic": 0, "threat": 1}
    assert config.problem_type == "multi_label_classification"


def test_builds_from_a_path_with_a_fresh_head(make_bert, tmp_path):
    make_bert(2).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"bias is \[2\] in the files and should be \[3\]"):
        HarmClassifierModule(str(tmp_path), labels=("a", "b", "c"))
    module = HarmClassifierModule(str(tmp_path), labels=("toxic", "threat"))
    assert module.model.config.num_labels == 2
    assert module.hparams["model"] == str(tmp_path)


def test_outputs_that_are_not_one_per_label_are_an_error(make_bert):
    with pytest.raises(ConfigError, match="1 outputs for 6 labels"):
        HarmClassifierModule(make_bert(1))


@pytest.mark.parametrize("setting", [{"lr": 0.0}, {"threshold": 1.0}, {"warmup_steps": -1}])
def test_setting_out_of_range_is_an_error(make_bert, setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        HarmClassifierModule(make_bert(1), labels=("toxic",), **setting)


class Watch(Callback):
    """Whether dropout was on, and the learning rate, at every training step."""

    def __init__(self) -> None:
        self.dropout_on: list[bool] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        modules = [m for m in pl_module.model.modules() if isinstance(m, torch.nn.Dropout)]
        self.dropout_on.append(all(m.training for m in modules) and bool(modules))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_dropout_is_on_and_the_rate_rises_then_falls_linearly(toy, make_bert, bert_tokenizer):
    model = make_bert(1).eval()  # as from_pretrained returns it
    module = HarmClassifierModule(model, labels=("toxic",), lr=1.0e-3, warmup_steps=2)
    watch = Watch()
    data = toy(tokenizer=bert_tokenizer, batch_size=32, max_length=64)  # 5 batches of 160
    quiet_trainer(max_epochs=2, callbacks=[watch]).fit(module, datamodule=data)
    assert watch.dropout_on == [True] * 10
    by_hand = [0.0, 0.5, *(1 - step / 8 for step in range(8))]
    assert watch.rates == pytest.approx([1e-3 * factor for factor in by_hand])


def test_checkpoint_loads_with_weights_only(toy, make_bert, bert_tokenizer, tmp_path):
    seed_everything(0, verbose=False)
    module = HarmClassifierModule(make_bert(1), labels=("toxic",), lr=1e-3, threshold=0.4)
    data = toy(tokenizer=bert_tokenizer, max_length=64)
    trainer = quiet_trainer(max_steps=3)
    trainer.fit(module, datamodule=data)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    loaded = HarmClassifierModule.load_from_checkpoint(
        path, model=make_bert(1, seed=5), weights_only=True
    )
    assert (loaded.hparams["lr"], loaded.threshold, loaded.labels) == (1e-3, 0.4, ["toxic"])
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name


def test_scores_of_the_test_part_equal_one_pass_over_it(toy, make_bert, bert_tokenizer):
    module = HarmClassifierModule(make_bert(1), labels=("toxic",))
    data = toy(tokenizer=bert_tokenizer, max_length=64, batch_size=8)
    logged = quiet_trainer().test(module, datamodule=data, verbose=False)[0]
    assert module.test_scores is not None
    found = module.test_scores["any"]
    comments = data.comments("test")
    inputs = bert_tokenizer([c.text for c in comments], padding=True, return_tensors="pt")
    with torch.no_grad():
        says = module.model.eval()(**inputs).logits[:, 0] > 0  # sigmoid above one half
    right = [bool(say) == c.harmful for say, c in zip(says, comments, strict=True)]
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    assert found["examples"] == len(comments)
    assert logged["test/accuracy"] == pytest.approx(found["accuracy"])


def test_the_validation_loss_counts_every_comment_alike(toy, make_bert, bert_tokenizer):
    module = HarmClassifierModule(make_bert(1), labels=("toxic",))
    data = toy(tokenizer=bert_tokenizer, max_length=64, batch_size=13)  # 13 and 7
    logged = quiet_trainer().validate(module, datamodule=data, verbose=False)[0]
    comments = data.comments("validation")
    assert len(comments) == 20
    inputs = bert_tokenizer([c.text for c in comments], padding=True, return_tensors="pt")
    targets = torch.tensor([[float(c.harmful)] for c in comments])
    with torch.no_grad():
        whole = harm_loss(module.model.eval()(**inputs).logits, targets)
    assert logged["val/loss"] == pytest.approx(whole.item(), rel=1e-5)
