//! Hyper-parameters as GGUF metadata: the other way round than the families read them.

use teff_graph::gguf::GgufValue;
use teff_graph::{Activation, Norm, Positions, RopeScaling, Spec};

use crate::gguf_write::{GgufHeader, WriteError};

/// Puts the hyper-parameters of a model into a header, as llama.cpp's converter names them.
///
/// Not every [`Spec`] can be said in GGUF's keys: whoever writes one from elsewhere reads it again
/// ([`teff_graph::family`]) and compares. What GGUF keeps as a tensor ([`RopeScaling::Factors`]) or
/// says by having a tensor (biases, a head of its own) is left to the caller.
///
/// # Errors
/// [`WriteError`] where the header has one of the keys already.
pub fn put_spec(h: &mut GgufHeader, spec: &Spec) -> Result<(), WriteError> {
    let arch = spec.arch;
    let mut put = |key: &str, value| h.put(&format!("{arch}.{key}"), value);
    put("block_count", GgufValue::U32(spec.layers))?;
    put("context_length", GgufValue::U32(spec.context))?;
    put("embedding_length", GgufValue::U32(spec.width))?;
    put("feed_forward_length", GgufValue::U32(spec.ffn))?;
    put("attention.head_count", GgufValue::U32(spec.heads))?;
    if spec.kv_heads != spec.heads || spec.norm == Norm::Rms {
        put("attention.head_count_kv", GgufValue::U32(spec.kv_heads))?;
    }
    let eps = match spec.norm {
        Norm::Layer => "attention.layer_norm_epsilon",
        _ => "attention.layer_norm_rms_epsilon",
    };
    put(eps, GgufValue::F32(spec.norm_eps))?;
    if let Some(window) = spec.window {
        put("attention.sliding_window", GgufValue::U32(window.size))?;
        put("attention.sliding_window_pattern", GgufValue::U32(window.full_every))?;
    }
    let Positions::Rotary(rotary) = spec.positions else { return Ok(()) };
    put("attention.key_length", GgufValue::U32(spec.head_dim))?;
    put("attention.value_length", GgufValue::U32(spec.head_dim))?;
    put("rope.dimension_count", GgufValue::U32(rotary.dims))?;
    put("rope.freq_base", GgufValue::F32(rotary.base))?;
    if spec.window.is_some() {
        put("rope.freq_base_swa", GgufValue::F32(rotary.window_base))?;
    }
    if let RopeScaling::Linear(factor) = rotary.scaling {
        put("rope.scaling.type", GgufValue::Str("linear"))?;
        put("rope.scaling.factor", GgufValue::F32(factor))?;
    }
    // Only BitNet's first files leave the function open; nothing but its readers' rule says it.
    debug_assert!(spec.activation != Activation::Relu2 || spec.sub_norms);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use teff_graph::family::{self, Shapes};
    use teff_graph::gguf::Gguf;
    use teff_graph::{Head, Role, Window};

    /// The shapes of a model's tensors by their GGUF names.
    struct Tensors<'a>(&'a Spec);

    impl Shapes for Tensors<'_> {
        fn shape(&self, name: &str) -> Option<(usize, usize)> {
            let slot = self.0.slots().find(|s| {
                let mut text = String::new();
                family::gguf_name(s.role, &mut text).unwrap();
                text == name && (s.role != Role::Output || self.0.head == Head::Own)
            })?;
            Some((slot.rows, slot.cols))
        }
    }

    #[test]
    fn what_is_written_is_read() {
        use family::{bitnet, gemma3, gpt2, llama, qwen};
        let wide = Window { size: 1024, full_every: 4 };
        let rotary = |scaling| match llama::tinyllama().positions {
            Positions::Rotary(r) => Positions::Rotary(teff_graph::Rotary { scaling, ..r }),
            learned => learned,
        };
        for spec in [
            gpt2::small(),
            llama::tinyllama(),
            Spec { positions: rotary(RopeScaling::Linear(4.0)), ..llama::tinyllama() },
            Spec { positions: rotary(RopeScaling::Factors), ..llama::tinyllama() },
            gemma3::gemma3_1b(),
            Spec { window: Some(wide), ..gemma3::gemma3_1b() },
            qwen::qwen2_5_14b(),
            qwen::qwen3_14b(),
            bitnet::bitnet_2b(),
            Spec { arch: "bitnet-25", ..bitnet::bitnet_2b() },
            // What no key says: grouped queries decide.
            Spec { arch: "bitnet", ..bitnet::bitnet_2b() },
            Spec {
                arch: "bitnet",
                kv_heads: 20,
                activation: Activation::Silu,
                ..bitnet::bitnet_2b()
            },
        ] {
            let mut h = GgufHeader::new();
            h.put("general.architecture", GgufValue::Str(spec.arch)).unwrap();
            put_spec(&mut h, &spec).unwrap();
            let bytes = h.write(Vec::new()).unwrap().finish().unwrap();
            let gguf = Gguf::parse(&bytes).unwrap();
            let read = family::of_arch(spec.arch).unwrap().from_gguf;
            assert_eq!(read(&gguf, &Tensors(&spec)).unwrap(), spec, "{}", spec.arch);
        }
    }
}
