"""A run that goes on after its unlearning finds the very model it left."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import tiny_opt

from unlearning.files.sums import changed_file
from unlearning.models.adapter import add_lora
from unlearning.models.decoder import evaluating
from unlearning.models.load import load_model, load_tokenizer
from unlearning.models.policy import prepare_policy
from unlearning.run.config.build import build_data
from unlearning.run.output.run_folder import UNLEARNED
from unlearning.run.process.ranks import Ranks
from unlearning.run.stages import unlearn as stage
from unlearning.run.stages.unlearned import (
    Unlearned,
    find_unlearned,
    is_unlearned,
    keep_unlearned,
    mend_unlearned,
)


class BuiltError(Exception):
    """Carries the policy that is about to be trained."""


@pytest.mark.parametrize("keep", [True, False])
def test_the_models_dropout_is_kept_where_it_is_asked_for(
    compose_config, opt_folder, tmp_path, monkeypatch, keep
):
    config = compose_config(
        "experiment=demo", "model=local", f"model.name_or_path={opt_folder}",
        "data.max_length=64", f"unlearn.keep_dropout={str(keep).lower()}",
    )  # fmt: skip

    def built(config, policy, other):
        raise BuiltError(prepare_policy(policy, keep_dropout=config.unlearn.keep_dropout))

    monkeypatch.setattr(stage, "build_module", built)
    with pytest.raises(BuiltError) as found:
        stage.unlearn(
            config, tmp_path, str(opt_folder), "", build_data(config), lambda _: {}, Ranks(), []
        )
    rates = [m.dropout for m in found.value.args[0].modules() if hasattr(m, "dropout")]
    assert any(rate > 0 for rate in rates) == keep
    by_name = prepare_policy(str(opt_folder), keep_dropout=keep)
    rates = [m.dropout for m in by_name.modules() if hasattr(m, "dropout")]
    assert any(rate > 0 for rate in rates) == keep


IDS = torch.arange(3, 12)[None]


def logits(model):
    with torch.no_grad(), evaluating(model):
        return model(input_ids=IDS).logits


def test_an_adapter_comes_back_on_the_model_of_the_run(compose_config, opt_folder, tmp_path):
    """Its record names the base by a name alone, which may stand for another revision by now."""
    config = compose_config(
        "experiment=harmful", f"model.name_or_path={opt_folder}", "model.lora={}",
        "data.max_length=64",
    )  # fmt: skip
    assert not is_unlearned(tmp_path)
    tokenizer = load_tokenizer(opt_folder)
    policy = add_lora(load_model(opt_folder), dropout=0.0)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    left = Unlearned(policy, tokenizer, 3, "why", ["note"], "Cached")
    keep_unlearned(config, tmp_path, left)
    assert is_unlearned(tmp_path)

    tiny_opt(len(tokenizer), seed=9).save_pretrained(tmp_path / "other")
    record = tmp_path / "model/adapter_config.json"
    named = {**json.loads(record.read_text()), "base_model_name_or_path": str(tmp_path / "other")}
    record.write_text(json.dumps(named))

    found = find_unlearned(config, tmp_path, str(opt_folder))
    torch.testing.assert_close(logits(found.policy), logits(policy))
    assert (found.steps, found.stop_reason, found.notes) == (3, "why", ["note"])


def test_a_whole_model_comes_back(compose_config, opt_folder, tmp_path):
    config = compose_config("experiment=harmful", f"model.name_or_path={opt_folder}")
    policy = load_model(opt_folder)
    with torch.no_grad():
        policy.get_input_embeddings().weight.add_(0.1)
    keep_unlearned(config, tmp_path, Unlearned(policy, load_tokenizer(opt_folder), 1, None, [], ""))
    found = find_unlearned(config, tmp_path, str(opt_folder))
    torch.testing.assert_close(logits(found.policy), logits(policy))


# --- whose model lies there, and whether it is whole ---------------------------------------------


@pytest.fixture
def kept(compose_config, opt_folder, tmp_path):
    """A function that keeps an unlearned model in the run folder, and that folder."""
    config = compose_config("experiment=harmful", f"model.name_or_path={opt_folder}")
    policy, tokenizer = load_model(opt_folder), load_tokenizer(opt_folder)

    def keep():
        keep_unlearned(config, tmp_path, Unlearned(policy, tokenizer, 1, None, [], ""))

    return keep, tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_model_of_a_run_killed_before_it_was_noted_is_replaced(kept):
    keep, folder = kept
    keep()
    (folder / UNLEARNED).unlink()
    keep()
    assert names(folder) == ["made.json", "model", "unlearned.json"]


@pytest.mark.parametrize("before", [False, True])
def test_a_model_that_the_run_did_not_make_is_renamed_and_never_removed(kept, caplog, before):
    keep, folder = kept
    if before:
        keep()
        (folder / UNLEARNED).unlink()
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model/weights.bin").write_bytes(b"years of work")
    keep()
    assert (folder / "model.found-1/weights.bin").read_bytes() == b"years of work"
    assert "was not made by this run" in caplog.text
    assert (
        changed_file(folder / "model", json.loads((folder / UNLEARNED).read_text())["files"])
        is None
    )


def test_a_link_in_the_place_of_the_model_keeps_what_it_leads_to(kept):
    keep, folder = kept
    (folder / "theirs").mkdir()
    (folder / "theirs/weights.bin").touch()
    (folder / "model").symlink_to(folder / "theirs")
    keep()
    assert (folder / "theirs/weights.bin").is_file() and not (folder / "model").is_symlink()


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("unlearned.json", lambda path: path.write_text("")),
        ("unlearned.json", lambda path: path.write_text("[]")),
        ("unlearned.json", lambda path: path.write_text('{"steps": 3}')),
        ("unlearned.json", lambda path: path.write_bytes(path.read_bytes()[:-9])),
        ("model/model.safetensors", _flip),
        ("model/model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-9])),
        ("model/config.json", lambda path: path.write_text("")),
        ("model/tokenizer.json", lambda path: path.unlink()),
    ],
)
def test_a_damaged_result_is_set_aside_before_any_work(kept, caplog, name, spoil):
    keep, folder = kept
    keep()
    mend_unlearned(folder)
    assert names(folder) == ["made.json", "model", "unlearned.json"]
    spoil(folder / name)
    mend_unlearned(folder)
    assert names(folder) == ["made.json", "model.damaged-1", "unlearned.json.damaged-1"]
    assert not is_unlearned(folder) and "is made again from the last checkpoint" in caplog.text
    keep()
    assert is_unlearned(folder)


def test_a_model_card_that_came_later_is_no_damage_and_one_of_version_0_5_is_whole(kept):
    keep, folder = kept
    keep()
    (folder / "model/README.md").write_text("about this model")
    noted = json.loads((folder / UNLEARNED).read_text())
    mend_unlearned(folder)
    del noted["files"]
    (folder / UNLEARNED).write_text(json.dumps(noted))
    mend_unlearned(folder)
    assert names(folder) == ["made.json", "model", "unlearned.json"]


def test_a_result_of_version_0_5_is_whole(kept, compose_config, opt_folder, caplog):
    keep, folder = kept
    keep()
    record = json.loads((folder / UNLEARNED).read_text())
    del record["files"], record["kept_steps"]  # which it did not write
    (folder / UNLEARNED).write_text(json.dumps(record))
    mend_unlearned(folder)
    assert not caplog.text and "model" in names(folder)
    config = compose_config("experiment=harmful", f"model.name_or_path={opt_folder}")
    found = find_unlearned(config, folder, str(opt_folder))
    assert found.kept_steps is None and found.steps == 1
