//! Settings of config.json that Teff doesn't have.

use crate::common::{Folder, Plain};
use crate::load_families::{config, open, small, tensors, write};
use teff_graph::family;
use teff_kernels::Format;

/// Every setting that would change results and is not supported is reported by name.
#[test]
fn unknown_switches_are_refused_by_name() {
    let cases = [
        ("LlamaForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        (
            "LlamaForCausalLM",
            r#""rope_scaling":{"rope_type":"dynamic","factor":4.0},"#,
            "rope_scaling.rope_type",
        ),
        (
            "LlamaForCausalLM",
            r#""rope_scaling":{"type":"dynamic","factor":4.0},"#,
            "rope_scaling.type",
        ),
        (
            "LlamaForCausalLM",
            r#""rope_parameters":{"rope_type":"longrope"},"#,
            "rope_parameters.rope_type",
        ),
        (
            "LlamaForCausalLM",
            r#""rope_parameters":{"rope_type":"linear"},"#,
            "rope_parameters.factor",
        ),
        ("LlamaForCausalLM", r#""partial_rotary_factor":0.5,"#, "partial_rotary_factor"),
        (
            "Qwen2ForCausalLM",
            r#""layer_types":["full_attention","sliding_attention"],"#,
            "layer_types",
        ),
        ("Qwen2ForCausalLM", r#""max_window_layers":"1","#, "max_window_layers"),
        ("Gemma3ForCausalLM", r#""final_logit_softcapping":30.0,"#, "final_logit_softcapping"),
        ("Gemma3ForCausalLM", r#""hidden_activation":"silu","#, "hidden_activation"),
        (
            "Gemma3ForCausalLM",
            r#""use_bidirectional_attention":true,"#,
            "use_bidirectional_attention",
        ),
        ("Gemma3ForCausalLM", r#""layer_types":["full_attention","chunked"],"#, "layer_types"),
        ("BitNetForCausalLM", r#""hidden_act":"silu","#, "hidden_act"),
        (
            "BitNetForCausalLM",
            r#""quantization_config":{"quant_method":"bitsandbytes"},"#,
            "quantization_config.quant_method",
        ),
        (
            "LlamaForCausalLM",
            r#""quantization_config":{"quant_method":"bitnet"},"#,
            "quantization_config.quant_method",
        ),
        ("Qwen3MoeForCausalLM", r#""num_experts":1.5,"#, "num_experts"),
        ("Qwen3MoeForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        (
            "Qwen3MoeForCausalLM",
            r#""num_experts":4,"num_experts_per_tok":5,"moe_intermediate_size":64,"#,
            "1 to 64",
        ),
        ("Lfm2ForCausalLM", r#""layer_types":["conv","sliding_attention"],"#, "layer_types"),
        ("Lfm2ForCausalLM", r#""layer_types":["conv"],"#, "layer_types"),
        ("Lfm2ForCausalLM", r#""conv_L_cache":65,"layer_types":["conv","conv"],"#, "taps"),
        ("Qwen3_5ForCausalLM", r#""linear_num_value_heads":3,"#, "multiple"),
        ("Qwen3_5ForCausalLM", r#""attn_output_gate":false,"#, "attn_output_gate"),
        ("Qwen3_5ForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        ("Qwen3_5ForCausalLM", r#""layer_types":["conv","conv"],"#, "layer_types"),
        ("Qwen3_5ForCausalLM", r#""linear_conv_kernel_dim":65,"#, "taps"),
        ("Qwen4ExpForCausalLM", "", "hyper-connections, n-gram embeddings"),
        ("SmolLM3ForCausalLM", r#""no_rope_layers":[1],"#, "no_rope_layers"),
        ("SmolLM3ForCausalLM", r#""no_rope_layers":[1,0,1],"#, "no_rope_layers"),
        ("SmolLM3ForCausalLM", r#""no_rope_layers":[1,2],"#, "no_rope_layers"),
        ("SmolLM3ForCausalLM", r#""no_rope_layers":4,"#, "no_rope_layers"),
        (
            "SmolLM3ForCausalLM",
            r#""sliding_window":8,"layer_types":["full_attention","sliding_attention"],"#,
            "layer_types",
        ),
        ("SmolLM3ForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        (
            "Ministral3ForCausalLM",
            r#""rope_parameters":{"rope_type":"linear","factor":2,"llama_4_scaling_beta":0.1},"#,
            "llama_4_scaling_beta",
        ),
        (
            "Ministral3ForCausalLM",
            r#""rope_parameters":{"rope_type":"yarn","llama_4_scaling_beta":-1},"#,
            "factor of scores",
        ),
        ("Ministral3ForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        (
            "Phi3ForCausalLM",
            r#""rope_scaling":{"type":"longrope","long_factor":[1],"short_factor":[1]},"#,
            "rope_scaling.long_factor",
        ),
        ("Phi3ForCausalLM", r#""rope_scaling":{"type":"linear","factor":2},"#, "rope_scaling.type"),
        ("Phi3ForCausalLM", r#""partial_rotary_factor":1.5,"#, "partial_rotary_factor"),
        (
            "Phi3ForCausalLM",
            r#""partial_rotary_factor":0.5,"rope_parameters":{"partial_rotary_factor":0.75},"#,
            "partial_rotary_factor",
        ),
        ("Phi3ForCausalLM", r#""attention_bias":true,"#, "attention_bias"),
        ("Olmo2ForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        ("Olmo3ForCausalLM", r#""sliding_window":null,"#, "sliding_window"),
        ("Olmo3ForCausalLM", r#""layer_types":["full_attention"],"#, "layer_types"),
        (
            "Olmo3ForCausalLM",
            r#""rope_scaling":{"rope_type":"yarn","factor":8,"beta_fast":1,"beta_slow":2},"#,
            "descending",
        ),
        ("GraniteForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        ("GraniteForCausalLM", r#""logits_scaling":0,"#, "divisor of the logits"),
        ("GraniteMoeHybridForCausalLM", "", "layer_types"),
        (
            "GraniteMoeHybridForCausalLM",
            r#""num_local_experts":1.5,"layer_types":["attention","attention"],"#,
            "num_local_experts",
        ),
        ("GraniteMoeForCausalLM", r#""num_local_experts":0,"#, "num_local_experts"),
        ("GraniteMoeSharedForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        ("Qwen2MoeForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        ("Lfm2MoeForCausalLM", "", "layer_types"),
        ("Lfm2MoeForCausalLM", r#""num_dense_layers":"1","#, "num_dense_layers"),
        ("MixtralForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        (
            "MixtralForCausalLM",
            r#""quantization_config":{"quant_method":"mxfp4"},"#,
            "quantization_config.quant_method",
        ),
        ("GraniteMoeHybridForCausalLM", r#""num_local_experts":0,"#, "layer_types"),
        (
            "GraniteMoeHybridForCausalLM",
            r#""num_local_experts":0,"layer_types":["attention","mamba"],"#,
            "layer_types",
        ),
        (
            "GraniteMoeHybridForCausalLM",
            r#""num_local_experts":0,"layer_types":["attention","attention","attention"],"#,
            "layer_types",
        ),
        (
            "GraniteMoeHybridForCausalLM",
            r#""num_local_experts":0,"layer_types":["attention","attention"],
            "position_embedding_type":"alibi","#,
            "position_embedding_type",
        ),
        (
            "GraniteMoeHybridForCausalLM",
            r#""num_local_experts":0,"layer_types":["attention","attention"],
            "normalization_function":"layernorm","#,
            "normalization_function",
        ),
        (
            "GraniteMoeHybridForCausalLM",
            r#""num_local_experts":0,"layer_types":["attention","full_attention"],"#,
            "shared_mlp.input_linear",
        ),
        ("DbrxForCausalLM", "", "DbrxForCausalLM"),
        ("Gemma2ForCausalLM", r#""hidden_activation":"gelu","#, "hidden_activation"),
        ("Gemma2ForCausalLM", r#""attention_bias":true,"#, "attention_bias"),
        ("Gemma2ForCausalLM", r#""attn_logit_softcapping":0,"#, "attn_logit_softcapping"),
        ("Gemma2ForCausalLM", r#""final_logit_softcapping":-1,"#, "final_logit_softcapping"),
        ("Gemma2ForCausalLM", r#""sliding_window":null,"#, "sliding_window"),
        ("Gemma3nForCausalLM", "", "residual branch"),
        ("Gemma3nForCausalLM", r#""hidden_activation":"silu","#, "hidden_activation"),
        ("Gemma3nForCausalLM", r#""altup_num_inputs":9,"#, "altup_num_inputs"),
        ("Gemma4ForCausalLM", r#""hidden_activation":"silu","#, "hidden_activation"),
        ("Gemma4ForCausalLM", r#""attention_bias":true,"#, "attention_bias"),
        ("Gemma4ForCausalLM", r#""sliding_window":null,"#, "sliding_window"),
        (
            "Gemma4ForCausalLM",
            r#""use_bidirectional_attention":"all","#,
            "use_bidirectional_attention",
        ),
        ("Gemma4ForCausalLM", r#""enable_moe_block":true,"#, "moe_intermediate_size"),
        ("Gemma4ForCausalLM", r#""num_kv_shared_layers":2,"#, "num_kv_shared_layers"),
        ("Gemma4ForCausalLM", r#""per_layer_config":{"0":{"head_dim":16}},"#, "per_layer_config"),
        (
            "Gemma4ForCausalLM",
            r#""per_layer_config":{"1":{"intermediate_size":16}},"#,
            "per_layer_config",
        ),
        ("Gemma4ForCausalLM", r#""per_layer_config":{"1":{"head_dim":0}},"#, "per_layer_config"),
        ("Gemma4ForCausalLM", r#""rope_scaling":{"rope_type":"yarn","factor":2},"#, "rope_scaling"),
        (
            "Gemma4ForCausalLM",
            r#""rope_parameters":{"rope_type":"default","rope_theta":1e4},"#,
            "rope_parameters.full_attention",
        ),
        (
            "Gemma4ForCausalLM",
            r#""rope_parameters":{"full_attention":{"rope_type":"yarn","rope_theta":1e4}},"#,
            "rope_parameters.full_attention.rope_type",
        ),
        ("Gemma4ForCausalLM", "", "per_layer_token_embd.weight"),
    ];
    for (class, more, key) in cases {
        let family = family::of_class(class).unwrap_or(&family::llama::LLAMA);
        let spec = small(family::llama::tinyllama());
        let all = tensors(family, &spec, Format::F32, |_, x| x);
        let folder = Folder::new();
        let mut plain: Vec<Plain> = all.into_iter().map(|(_, t)| t).collect();
        plain.dedup_by(|a, b| a.name == b.name); // shares of one tensor
        write(&folder, &config(class, more), &plain);
        let e = open(&folder).unwrap_err().to_string();
        assert!(e.contains(key), "{class} {more}: {e}");
    }
}
