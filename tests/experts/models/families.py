"""Tiny random models of every mixture-of-experts family of the installed transformers.

A family is built from its own configuration with the small values below, for whatever field it has;
`FAMILIES` says which class and what has to differ.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import logging
import warnings
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import transformers

D, VOCAB, EXPERTS, CHOICES, LAYERS = 32, 64, 4, 2, 2

#: Field of a configuration -> small value.
SMALL: dict[str, Any] = {
    "attention_dropout": 0.0,
    "attention_chunk_size": 16,
    "attn_config": None,
    "aux_loss_coef": 0.01,
    "bos_token_id": 1,
    "conv_L_cache": 3,
    "d_ff": 16,
    "d_kv": 8,
    "d_model": D,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 16,
    "decoder_layers": LAYERS,
    "decoder_layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_sparse_step": 1,
    "encoder_sparse_step": 1,
    "dropout": 0.0,
    "dropout_rate": 0.0,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 16,
    "encoder_layers": LAYERS,
    "eos_token_id": 2,
    "expert_capacity": 64,
    "expert_ffn_hidden_size": 16,
    "ffn_hidden_size": 32,
    "first_k_dense_replace": 0,
    "head_dim": 8,
    "hidden_size": D,
    "index_head_dim": 8,
    "index_n_heads": 2,
    "index_topk": 4,
    "intermediate_size": 32,
    "intermediate_size_mlp": 32,
    "kv_channels": 8,
    "kv_lora_rank": 8,
    "linear_conv_kernel_dim": 2,
    "linear_head_dim": 8,
    "linear_num_heads": 2,
    "linear_key_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_value_head_dim": 8,
    "mlp_layer_types": ["sparse", "sparse"],
    "mlp_only_layers": [],
    "mamba_chunk_size": 4,
    "mamba_d_conv": 2,
    "mamba_d_head": 8,
    "mamba_d_state": 4,
    "mamba_dt_rank": 4,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 8,
    "max_position_embeddings": 64,
    "moe_intermediate_size": 16,
    "moe_k": CHOICES,
    "moe_num_experts": EXPERTS,
    "moe_num_shared_experts": 1,
    "moe_topk": CHOICES,
    "moe_top_k": CHOICES,
    "n_group": 1,
    "n_routed_experts": EXPERTS,
    "n_shared_experts": 1,
    "num_attention_heads": 4,
    "num_decoder_layers": LAYERS,
    "num_dense_layers": 0,
    "num_experts": EXPERTS,
    "num_experts_per_tok": CHOICES,
    "num_heads": 4,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 2,
    "num_layers": LAYERS,
    "num_local_experts": EXPERTS,
    "num_shared_experts": 1,
    "num_sparse_decoder_layers": LAYERS,
    "num_sparse_encoder_layers": LAYERS,
    "pad_token_id": 0,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "router_hidden_size": 8,
    "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16,
    "sliding_window": 16,
    "swa_head_dim": 8,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "top_k_experts": CHOICES,
    "topk_group": 1,
    "v_head_dim": 8,
    "vocab_size": VOCAB,
}


@dataclass(frozen=True)
class Family:
    """How a family is built.

    Parameters
    ----------
    model : str
        Class of transformers.
    changes : mapping
        Fields of its configuration that differ from `SMALL`.
    """

    model: str
    changes: dict[str, Any] = field(default_factory=dict)


def small(kind: type, changes: dict[str, Any]) -> Any:
    """A configuration with every small value it has a field for."""
    names = {one.name for one in dataclasses.fields(kind)} | set(kind.attribute_map)
    values = {name: value for name, value in SMALL.items() if name in names}
    mapped = kind.attribute_map
    for name, target in mapped.items():
        if name in values and target in values:
            del values[name]
    values.update(changes)
    return kind(**{name: value for name, value in values.items() if value is not ...})


@cache
def _built(name: str) -> Any:
    family = FAMILIES[name]
    kind = getattr(transformers, family.model, None)
    if kind is None:
        module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        kind = getattr(module, family.model)
    torch.manual_seed(0)
    config = small(kind.config_class, dict(family.changes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(config)
    for module in model.modules():
        table = getattr(module, "tid2eid", None)
        if isinstance(table, torch.Tensor):  # made of zeros: one expert twice
            row = torch.arange(table.shape[0]).unsqueeze(1)
            table.copy_((row + torch.arange(table.shape[1])) % EXPERTS)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return model.eval()


def tiny(name: str) -> Any:
    """A tiny random model of a family; every call gives another copy, never run before."""
    return copy.deepcopy(_built(name))


@cache
def shared(name: str) -> Any:
    """The same model at each call, for tests that leave it as it was."""
    return tiny(name)


HALVES = ["linear_attention", "full_attention"]
MLA = {"qk_rope_head_dim": 8, "head_dim": 8, "num_key_value_heads": 4}

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
MROPE = {**ROPE, "mrope_section": [1, 1, 2]}

FAMILIES: dict[str, Family] = {
    "afmoe": Family("AfmoeForCausalLM"),
    "aria": Family("AriaTextForCausalLM", {"moe_num_shared_experts": 1}),
    "axk1": Family("AXK1ForCausalLM", MLA),
    "axk2": Family("AXK2ForCausalLM", MLA),
    "bailing_hybrid": Family("BailingHybridForCausalLM", {"layer_types": HALVES, **MLA}),
    "beam": Family("BeamForCausalLM"),
    "cohere2_moe": Family("Cohere2MoeForCausalLM"),
    "dbrx": Family(
        "DbrxForCausalLM",
        {
            "d_model": D,
            "n_heads": 4,
            "n_layers": LAYERS,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
            "ffn_config": {
                "hidden_size": D,
                "ffn_hidden_size": 16,
                "moe_num_experts": EXPERTS,
                "moe_top_k": CHOICES,
                "ffn_act_fn": {"name": "silu"},
                "moe_loss_weight": 0.01,
            },
        },
    ),
    "deepseek_ocr2": Family("DeepseekOcr2TextModel", {"num_key_value_heads": 4}),
    "deepseek_v2": Family("DeepseekV2ForCausalLM", MLA),
    "deepseek_v3": Family("DeepseekV3ForCausalLM", MLA),
    "deepseek_v32": Family("DeepseekV32ForCausalLM", MLA),
    "deepseek_v4": Family(
        "DeepseekV4ForCausalLM",
        {"num_hidden_layers": 4, "mlp_layer_types": ["hash_moe", "hash_moe", "moe", "moe"]},
    ),
    "diffusion_gemma": Family("DiffusionGemmaEncoderTextModel", {"enable_moe_block": True}),
    "dots1": Family("Dots1ForCausalLM"),
    "dots3_note": Family("Dots3NoteForCausalLM", {**MLA}),
    "ernie4_5_moe": Family("Ernie4_5_MoeForCausalLM"),
    "ernie4_5_vl_moe": Family(
        "Ernie4_5_VLMoeTextModel",
        {"moe_intermediate_size": [16, 16], "rope_parameters": MROPE},
    ),
    "exaone_moe": Family("ExaoneMoeForCausalLM"),
    "flex_olmo": Family("FlexOlmoForCausalLM"),
    "flint": Family("FlintForCausalLM"),
    "gemma4": Family(
        "Gemma4ForCausalLM", {"enable_moe_block": True, "hidden_size_per_layer_input": 0}
    ),
    "glm4_moe": Family("Glm4MoeForCausalLM"),
    "glm4_moe_lite": Family("Glm4MoeLiteForCausalLM", MLA),
    "glm4v_moe": Family(
        "Glm4vMoeTextModel",
        {"rope_parameters": MROPE},
    ),
    "glm5_next": Family(
        "Glm5NextTextModel", {"layer_types": HALVES, "index_kpool": 2, **MLA, "qk_rope_head_dim": 0}
    ),
    "glm_moe_dsa": Family("GlmMoeDsaForCausalLM", MLA),
    "gpt_oss": Family("GptOssForCausalLM"),
    "granitemoe": Family("GraniteMoeForCausalLM"),
    "granitemoe_swa": Family("GraniteMoeSWAForCausalLM"),
    "granitemoehybrid": Family("GraniteMoeHybridForCausalLM", {"layer_types": HALVES}),
    "granitemoeshared": Family("GraniteMoeSharedForCausalLM"),
    "hunyuan_v1_moe": Family("HunYuanMoEV1ForCausalLM"),
    "hy_v3": Family("HYV3ForCausalLM"),
    "hy_v4": Family("HYV4ForCausalLM"),
    "hy_v4_vl": Family("HYV4VLTextModel", {"rope_parameters": MROPE, **MLA}),
    "inkling": Family("InklingForCausalLM", {"rel_extent": 16}),
    "inkling2": Family("Inkling2ForCausalLM", {"rel_extent": 16, "unpadded_vocab_size": VOCAB}),
    "inkling2_loop": Family(
        "Inkling2LoopForCausalLM", {"rel_extent": 16, "unpadded_vocab_size": VOCAB}
    ),
    "jamba": Family(
        "JambaForCausalLM",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 1,
            "expert_layer_offset": 0,
            "use_mamba_kernels": False,
        },
    ),
    "jetmoe": Family("JetMoeForCausalLM"),
    "kimi_linear": Family("KimiLinearForCausalLM", {"layer_types": HALVES, **MLA}),
    "kolibri1": Family("Kolibri1ForCausalLM"),
    "laguna": Family("LagunaForCausalLM"),
    "lara_mini": Family("LaraMiniForCausalLM", {"layer_types": HALVES}),
    "lfm2_moe": Family("Lfm2MoeForCausalLM", {"layer_types": ["conv", "full_attention"]}),
    "llama4": Family("Llama4ForCausalLM"),
    "longcat_flash": Family(
        "LongcatFlashForCausalLM", {"zero_expert_num": 2, "moe_topk": CHOICES, **MLA}
    ),
    "mellum": Family("MellumForCausalLM"),
    "mimo_v2_flash": Family("MiMoV2FlashForCausalLM"),
    "minimax": Family("MiniMaxForCausalLM"),
    "minimax_m2": Family("MiniMaxM2ForCausalLM"),
    "minimax_m3_vl": Family("MiniMaxM3VLForCausalLM"),
    "mistral4": Family(
        "Mistral4ForCausalLM",
        {
            "rope_parameters": {
                **ROPE,
                "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": 64,
            },
            **MLA,
        },
    ),
    "mistral_large4": Family("MistralLarge4TextModel", MLA),
    "mixtral": Family("MixtralForCausalLM"),
    "muse_spark": Family("MuseSparkTextModel", {"moe_hidden_size": 16}),
    "nemotron_h": Family(
        "NemotronHForCausalLM",
        {
            "layers_block_type": ["full_attention", "moe", "linear_attention", "moe"],
            "num_hidden_layers": ...,
            "mamba_num_heads": 4,
            "mamba_head_dim": 8,
            "ssm_state_size": 4,
            "n_groups": 1,
            "moe_shared_expert_intermediate_size": 16,
            "moe_latent_size": 16,
        },
    ),
    "nllb_moe": Family("NllbMoeForConditionalGeneration"),
    "olmoe": Family("OlmoeForCausalLM"),
    "openai_privacy_filter": Family("OpenAIPrivacyFilterModel"),
    "phimoe": Family("PhimoeForCausalLM", {"router_jitter_noise": 0.9}),
    "qwen2_moe": Family("Qwen2MoeForCausalLM"),
    "qwen3_5_moe": Family("Qwen3_5MoeForCausalLM", {"layer_types": HALVES}),
    "qwen3_moe": Family("Qwen3MoeForCausalLM"),
    "qwen3_next": Family("Qwen3NextForCausalLM", {"layer_types": HALVES}),
    "qwen3_omni_moe": Family("Qwen3OmniMoeThinkerTextModel"),
    "qwen3_vl_moe": Family("Qwen3VLMoeTextModel"),
    "qwen4_exp": Family(
        "Qwen4ExpForCausalLM",
        {
            "layer_types": HALVES,
            "indexer_budget": 4,
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 8,
            "indexer_compress_ratio": 2,
        },
    ),
    "solar_open": Family("SolarOpenForCausalLM"),
    "step3p7": Family("Step3p7TextModel"),
    "switch_transformers": Family("SwitchTransformersForConditionalGeneration"),
    "unlimited_ocr": Family("UnlimitedOcrTextModel", {"num_key_value_heads": 4}),
    "zaya": Family("ZayaForCausalLM", {"num_experts_per_tok": 1}),
}

#: Families of the installed transformers that are left out, and why.
LEFT_OUT = {
    "doge": "retrieves rank-one experts by product keys inside the layer: there is no router apart",
    "seamless_m4t": "names a configuration field after experts, and has none",
    "vitpose_backbone": "chooses an expert by the data set, not by a router",
}

#: Families that hold the mixture-of-experts model of another.
BORROWED = {"kimi_k25": "deepseek_v3"}


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (2, 6), and a mask whose first row is padded on the left by two."""
    ids = torch.randint(3, VOCAB, (2, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[0, :2] = 0
    return ids, mask


def run(model: Any, ids: torch.Tensor, mask: torch.Tensor | None = None, **kwargs: Any) -> Any:
    """A forward pass, of both halves where there are two."""
    if model.config.is_encoder_decoder:
        kwargs.setdefault("decoder_input_ids", ids)
        kwargs.setdefault("decoder_attention_mask", mask)
    return model(ids, attention_mask=mask, **kwargs)


def answer(output: Any) -> torch.Tensor:
    """Logits (b, s, vocabulary), or hidden states where the model has no head."""
    logits = getattr(output, "logits", None)
    value: torch.Tensor = output.last_hidden_state if logits is None else logits
    return value


def shown(output: Any) -> tuple[Any, ...]:
    """The router logits of an output, of both halves where there are two."""
    names = ("router_logits", "encoder_router_logits", "decoder_router_logits")
    return tuple(part for name in names for part in (getattr(output, name, None) or ()))
