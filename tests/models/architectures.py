"""Tiny random models of the causal language models of transformers, one for each class."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY, WINDOW = 96, 16
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 128, "is_decoder": True,
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "d_model": 32, "n_layers": 2,
    "n_heads": 4, "max_seq_len": 128, "num_layers": 2, "num_heads": 4, "ffn_dim": 48,
    "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "rotary_dim": 4,
    "sliding_window": WINDOW, "use_sliding_window": True, "attention_chunk_size": WINDOW,
    "window_size": WINDOW, "max_window_layers": 1, "initializer_range": 0.3, "init_std": 0.3,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "n_shared_experts": 1,
    "shared_intermediate_size": 16, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "kv_lora_rank": 16, "q_lora_rank": 16,
    "mamba_d_state": 8, "state_size": 8, "mamba_n_heads": 4, "mamba_d_head": 16,
    "mamba_chunk_size": 8, "chunk_size": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "mamba_num_heads": 8, "mamba_head_dim": 8,
    "tie_word_embeddings": False,
}  # fmt: skip
"""Settings of every configuration that has them. Layers may be of two kinds: both are there."""
SLIDING = {"layer_types": ["sliding_attention", "full_attention"]}
LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
CONV = {"layer_types": ["conv", "full_attention"]}
OWN_LAYERS = {"layer_types": ...}
MAMBA_HYBRID = {
    "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2,
    "head_dim": ..., "num_key_value_heads": 4, "n_mamba_heads": 8,
}  # fmt: skip
LATENT = {"head_dim": 8, "qk_rope_head_dim": 8, "num_key_value_heads": 4}
INDEXED = LATENT | {"index_topk": WINDOW, "index_head_dim": 8, "index_n_heads": 16}
PER_LAYER = {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8}
OWN: dict[str, dict[str, Any]] = {
    "axk1": LATENT, "axk2": LATENT, "deepseek_v2": LATENT, "deepseek_v3": LATENT,
    "glm4_moe_lite": LATENT, "minicpm3": LATENT, "youtu": LATENT, "deepseek_v32": INDEXED,
    "glm_moe_dsa": INDEXED, "hy_v4": INDEXED, "dots3_note_text": INDEXED | OWN_LAYERS,
    "bailing_hybrid": LATENT | LINEAR, "granitemoehybrid": LINEAR, "qwen3_next": LINEAR,
    "qwen3_5_text": LINEAR, "qwen3_5_moe_text": LINEAR, "bamba": {"attn_layer_indices": [1]},
    "kimi_linear": LATENT | LINEAR | {"linear_head_dim": 8, "linear_num_heads": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "inkling_text": OWN_LAYERS | {"logits_mup_width_multiplier": 1.0}, "inkling2_text": OWN_LAYERS,
    "zaya": OWN_LAYERS | {"num_experts_per_tok": 1},
    "recurrent_gemma": OWN_LAYERS | {
        "block_types": ("recurrent", "attention"), "attention_window_size": WINDOW
    },
    "nemotron_h": OWN_LAYERS | {
        "num_hidden_layers": ..., "layers_block_type": ["linear_attention", "moe", "full_attention"]
    },
    "longcat_flash": LATENT | {
        "ffn_hidden_size": 48, "expert_ffn_hidden_size": 16, "moe_topk": 2, "zero_expert_num": 2
    },
    "qwen4_exp_text": LINEAR | {
        "hc_lowrank": 8, "ple_layer_ids": [], "initializer_range": 0.6, "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8, "indexer_budget": WINDOW, "indexer_compress_ratio": 4,
    },
    "cohere": {"logit_scale": 1.5}, "cohere2": {"logit_scale": 1.5},
    "cohere2_moe": {"logit_scale": 1.5},
    "cohere_compass_text": {
        "logit_scale": 1.5,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in SLIDING["layer_types"]
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {
            "hidden_size": 32, "ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2
        },
    },
    "deepseek_v4": {"layer_types": ["sliding_attention", "compressed_sparse_attention"]},
    "falcon_h1": {"mamba_d_ssm": 64, "lm_head_multiplier": 0.9},
    "gemma3n_text": PER_LAYER | {
        "num_hidden_layers": 4, "layer_types": SLIDING["layer_types"] * 2,
        "num_kv_shared_layers": 2, "laurel_rank": 8,
    },
    "gemma4_text": PER_LAYER | {"final_logit_softcapping": 30.0},
    "granite": {"logits_scaling": 0.7}, "granitemoe": {"logits_scaling": 0.7},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "lfm2": CONV, "lfm2_moe": CONV | {"num_dense_layers": 1}, "lfm3": CONV,
    "llama4_text": {
        "layer_types": ["chunked_attention", "full_attention"], "intermediate_size_mlp": 48
    },
    "mamba2": {"num_heads": 8, "n_groups": 1},
    "minimax": LINEAR | {"block_size": 8, "sliding_window": None},
    "modernbert-decoder": {"local_attention": 2 * WINDOW}, "doge": {"keep_window_size": WINDOW},
    "reformer": {
        "axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 16), "attention_head_size": 8,
        "attn_layers": ("local", "local"), "local_attn_chunk_length": WINDOW,
    },
    "roc_bert": {
        "pronunciation_vocab_size": VOCABULARY, "shape_vocab_size": VOCABULARY,
        "pronunciation_embed_dim": 8, "shape_embed_dim": 8,
    },
    "xlstm": {
        "hidden_size": 64, "num_heads": 2, "qk_dim_factor": 1.0, "chunk_size": 16,
        "ffn_round_up_to_multiple_of": 8,
    },
    "xmod": {"default_language": "en_XX"}, "zamba": MAMBA_HYBRID, "zamba2": MAMBA_HYBRID,
}  # fmt: skip
"""Settings of single model types; `...` leaves a common one out."""
NOT_TRIED = {
    "with images or sound": [
        "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "git", "got_ocr2",
        "mllama", "moss_transcribe_diarize", "musicgen", "musicgen_melody", "phi4_multimodal",
    ],
    "on bytes, in patches": ["blt"],
    "a draft of another model's answer": ["gemma4_assistant", "gemma4_unified_assistant"],
}  # fmt: skip


def class_name(model_type: str) -> str:
    return str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type])


def model_types() -> list[str]:
    """One model type for each class, of text alone where a class has several."""
    left_out = {model_type for types in NOT_TRIED.values() for model_type in types}
    found: dict[str, str] = {}
    for model_type in sorted(
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, key=lambda each: (not each.endswith("_text"), len(each))
    ):
        if model_type not in left_out:
            found.setdefault(class_name(model_type), model_type)
    return sorted(found.values())


def tiny_config(model_type: str) -> PreTrainedConfig:
    """A configuration with every common setting that this type has, and its own."""
    kind = CONFIG_MAPPING[model_type]
    renamed = kind.attribute_map
    known = {field.name for field in dataclasses.fields(kind)} | set(renamed)
    settings = {k: v for k, v in COMMON.items() if k in known and renamed.get(k) not in COMMON}
    if {"layer_types", "sliding_window"} <= known:
        settings |= SLIDING
    settings |= OWN.get(model_type, {})
    return kind(**{name: value for name, value in settings.items() if value is not ...})


def tiny_model(model_type: str, seed: int = 0) -> PreTrainedModel:
    """A random model whose predictions are far from uniform."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(model_type))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2 and 0 < weight.std() < 0.1:
                weight.mul_(0.3 / weight.std())
    return model.eval()
