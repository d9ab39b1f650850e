"""`model.gguf=<file>` in a configuration: for runs and evaluations, before any work."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("gguf")

from gguf_file import llama, write_gguf
from omegaconf import open_dict

from unlearning.errors import ConfigError
from unlearning.run.config.schema import check_schema
from unlearning.run.output.store import Store
from unlearning.run.pipeline import effective_config
from unlearning.run.stages.models import base_model, load_base

from .small import checked


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(llama(), tmp_path_factory.mktemp("gguf") / "tiny.gguf")


NAMED = [
    "model=smollm2_135m model.gguf",
    "model=gemma3_270m model.gguf",
    "model=local model.gguf",
    "model=opt_1.3b model.gguf",
    "model=tiny model.gguf",
    "model=local model.name_or_path",
]


@pytest.mark.parametrize("named", NAMED)
def test_the_file_comes_before_a_groups_defaults(compose_config, file, named):
    group, key = named.split()
    config = effective_config(compose_config("experiment=demo", group, f"{key}={file}"))
    model = config.model
    assert (model.name_or_path, model.base, model.tokenizer) == (str(file), None, None)
    assert effective_config(config) == config  # what a resume reads


def test_a_file_is_name_enough_for_a_model_that_has_no_other(compose_config, file):
    check_schema(compose_config("experiment=demo", "model=local", f"model.gguf={file}"))
    with pytest.raises(ConfigError, match=r"need a value: model\.name_or_path"):
        check_schema(compose_config("experiment=demo", "model=local"))
    with pytest.raises(ConfigError, match=r"model\.gguf=5 must be"):
        check_schema(compose_config("experiment=demo", "model=local", "model.gguf=5"))


def test_another_tokenizer_is_kept(compose_config, file, opt_folder):
    options = ["model=local", f"model.gguf={file}", f"model.tokenizer={opt_folder}"]
    config = effective_config(compose_config("experiment=demo", *options))
    assert config.model.tokenizer == str(opt_folder)


def test_a_configuration_of_version_0_5_has_no_such_key(compose_config):
    config = compose_config("experiment=demo").copy()
    with open_dict(config):
        del config.model["gguf"]
    assert effective_config(config).model.name_or_path is None


def test_a_run_is_checked_and_starts_from_an_ordinary_folder(compose_config, file, tmp_path):
    options = ["model=local", f"model.gguf={file}", "data.max_length=120", "model.lora={}"]
    config = effective_config(compose_config("experiment=demo", *options))
    assert f"model: {file}" in checked(config)
    base, kept = base_model(config, Store(tmp_path / "kept"), tracking=None)
    assert not kept and base.startswith(str(tmp_path / "kept/gguf"))
    model, tokenizer = load_base(config, base)  # checks that they belong together
    assert type(model).__name__ == "LlamaForCausalLM" and len(tokenizer) == 259


def test_what_does_not_fit_is_refused_before_any_work(compose_config, file, tmp_path):
    common = ["experiment=demo", "model=local"]
    long = effective_config(compose_config(*common, f"model.gguf={file}", "data.max_length=999"))
    with pytest.raises(ConfigError, match="999 is above the model's context, 128"):
        checked(long)
    cut = shutil.copy(file, tmp_path / "cut.gguf")
    cut.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"cut\.gguf.* is no GGUF file, or was cut short"):
        checked(effective_config(compose_config(*common, f"model.gguf={cut}")))
    bare = write_gguf(llama(), tmp_path / "bare.gguf", with_tokenizer=False)
    with pytest.raises(ConfigError, match=r"bare\.gguf holds no tokenizer"):
        checked(effective_config(compose_config(*common, f"model.gguf={bare}")))


def test_an_evaluation_is_checked_too(compose_config, file):
    options = ["task=evaluate", "model=local", f"model.gguf={file}", "data.max_length=120"]
    config = effective_config(compose_config("experiment=demo", *options))
    too_long = effective_config(
        compose_config("experiment=demo", *options[:-1], "data.max_length=999")
    )
    assert any(f"model: {file}" in line for line in checked(config))
    with pytest.raises(ConfigError, match="above the context"):
        checked(too_long)
