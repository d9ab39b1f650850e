from __future__ import annotations

import pytest
import torch
from transformers import BertModel

from unlearning.classifier import check_model_folder, load_classifier
from unlearning.classifier.pretrained import check_fit
from unlearning.errors import ConfigError


def test_loads_the_weights_in_fp32_whatever_is_stored(make_bert, tmp_path):
    model = make_bert(2).half()
    model.save_pretrained(tmp_path)
    loaded = load_classifier(str(tmp_path))
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight.float()), name


def test_folder_without_weights_says_which_files_were_expected(make_bert, tmp_path):
    make_bert(1).config.save_pretrained(tmp_path)
    for load in (check_model_folder, load_classifier):
        with pytest.raises(ConfigError, match=r"has no weights \(looked for model"):
            load(str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        check_model_folder(str(tmp_path))


def test_folder_without_configuration_and_file_are_errors(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        check_model_folder(str(tmp_path))
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="is a file"):
        check_model_folder(str(file))


def test_broken_weights_are_an_error(make_bert, tmp_path):
    make_bert(1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(ConfigError, match="Git LFS pointer"):
        load_classifier(str(tmp_path))


def test_unknown_name_is_an_error():
    check_model_folder("nobody/no-such-model")  # could be on the hub
    with pytest.raises(ConfigError, match="nobody/no-such-model"):
        load_classifier("nobody/no-such-model")


def test_model_without_a_trained_head_is_refused_unless_it_is_to_be_trained(make_bert, tmp_path):
    BertModel(make_bert(1).config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"lack 2 of its .*classifier\.weight.*They are its head"):
        load_classifier(str(tmp_path))
    assert load_classifier(str(tmp_path), trained=False, num_labels=6).config.num_labels == 6


def test_tokenizer_that_does_not_belong_to_the_model_is_an_error(make_bert, bert_tokenizer):
    model = make_bert(1)
    check_fit(model, bert_tokenizer, 64)
    with pytest.raises(ConfigError, match="max_length=65 is beyond the classifier's 64"):
        check_fit(model, bert_tokenizer, 65)
    model.resize_token_embeddings(10)
    with pytest.raises(ConfigError, match="vocabulary 10"):
        check_fit(model, bert_tokenizer, 64)
