//! Hyper-parameters as GGUF metadata: the inverse of what the families read.

use teff_graph::family;
use teff_graph::gguf::GgufValue;
use teff_graph::layers::{Attention, DeltaNet, Experts, Layer, NormKind, Router};
use teff_graph::{RopeScaling, Spec};

use crate::gguf_write::{GgufHeader, WriteError};

/// Writes the hyper-parameters of a model into a header, under the names of llama.cpp's converter.
///
/// Not every [`Spec`] can be expressed in GGUF's keys: a caller with a spec from elsewhere should
/// read the result again ([`teff_graph::family`]) and compare. What GGUF stores as a tensor
/// ([`RopeScaling::Factors`]) or expresses by having a tensor (biases, a separate head) is left to
/// the caller.
///
/// # Errors
/// [`WriteError`] if the header has one of the keys already.
pub fn put_spec(h: &mut GgufHeader, spec: &Spec<'_>) -> Result<(), WriteError> {
    let (arch, layers) = (spec.arch, || spec.layers.iter());
    let by_kind = family::of_arch(arch).is_some_and(|f| f.gguf.by_kind);
    // A layer with a short convolution has no heads of keys and values.
    let kv_heads = |l: &Layer| l.attention().map_or(0, |a| a.kv_heads as i32);
    let all: Vec<i32> = layers().filter(|l| l.delta_net().is_none()).map(kv_heads).collect();
    let mixed = all.windows(2).any(|w| w[0] != w[1]);
    if mixed {
        h.put_i32s(&format!("{arch}.attention.head_count_kv"), &all)?;
    }
    let all: Vec<i32> = layers().filter_map(inner).map(|n| n as i32).collect();
    let wider = by_kind && all.windows(2).any(|w| w[0] != w[1]);
    if wider {
        h.put_i32s(&format!("{arch}.feed_forward_length"), &all)?;
    }
    let cuts = || layers().map(|l| l.dense().and_then(|d| d.sparsity));
    if spec.streams.is_some() {
        let all: Vec<f32> = cuts().map(|cut| cut.unwrap_or(f32::NEG_INFINITY)).collect();
        h.put_f32s(&format!("{arch}.activation_sparsity_scale"), &all)?;
    }
    if by_kind {
        let windowed = |l: &Layer| l.attention().is_some_and(|a| a.window.is_some());
        let all: Vec<bool> = layers().map(windowed).collect();
        h.put_bools(&format!("{arch}.attention.sliding_window_pattern"), &all)?;
    }
    let linear = family::of_arch(arch).is_some_and(|f| f.gguf.linear);
    let net = layers().find_map(Layer::delta_net).copied().or(linear.then_some(NO_NET));
    if net.is_some() {
        let linear: Vec<bool> = layers().map(|l| l.delta_net().is_some()).collect();
        h.put_bools(&format!("{arch}.attention.recurrent_layers"), &linear)?;
        // The parts that images have, which llama.cpp wants to see.
        let n = spec.ropes.first().map_or(0, |rope| rope.dims as i32 / 2);
        let sections = [(n + 2) / 3, (n + 1) / 3, n / 3, 0];
        h.put_i32s(&format!("{arch}.rope.dimension_sections"), &sections)?;
    }
    let mut put = |key: &str, value: GgufValue<'_>| h.put(&format!("{arch}.{key}"), value);
    put("block_count", GgufValue::U32(spec.layers.len()))?;
    put("context_length", GgufValue::U32(spec.context))?;
    put("embedding_length", GgufValue::U32(spec.width))?;
    if let Some(ffn) = layers().find_map(inner).filter(|_| !wider) {
        put("feed_forward_length", GgufValue::U32(ffn))?;
    }
    let eps = match spec.norm.kind {
        NormKind::Layer => "attention.layer_norm_epsilon",
        _ => "attention.layer_norm_rms_epsilon",
    };
    put(eps, GgufValue::F32(spec.norm.eps))?;
    let scaled = family::of_arch(arch).is_some_and(|f| f.gguf.scales);
    if scaled {
        put("embedding_scale", GgufValue::F32(spec.embed.scale))?;
        put("logit_scale", GgufValue::F32(spec.logit_divisor))?;
        if let Some(layer) = layers().next() {
            put("residual_scale", GgufValue::F32(layer.scales.residual))?;
        }
    }
    if by_kind {
        let shared = layers().filter(|l| l.attention().is_some_and(|a| !a.has_kv())).count();
        put("attention.shared_kv_layers", GgufValue::U32(shared as u32))?;
        let inputs = spec.per_layer.map_or(0, |p| p.width);
        put("embedding_length_per_layer_input", GgufValue::U32(inputs))?;
    }
    if let Some(streams) = layers().find_map(|l| l.streams) {
        put("altup.num_inputs", GgufValue::U32(streams.count))?;
        put("altup.active_idx", GgufValue::U32(streams.active))?;
    }
    if let Some(cap) = spec.logit_cap {
        put("final_logit_softcapping", GgufValue::F32(cap))?;
    }
    if let Some(experts) = layers().find_map(Layer::experts) {
        let Experts { experts: n, used, inner, .. } = *experts;
        put("expert_count", GgufValue::U32(n))?;
        put("expert_used_count", GgufValue::U32(used))?;
        put("expert_feed_forward_length", GgufValue::U32(inner))?;
        if matches!(experts.router, Router::Sigmoid { .. }) {
            let dense = layers().take_while(|l| l.experts().is_none()).count();
            put("leading_dense_block_count", GgufValue::U32(dense as u32))?;
            put("expert_gating_func", GgufValue::U32(2))?;
        }
        if let Some(shared) = experts.shared {
            put("expert_shared_feed_forward_length", GgufValue::U32(shared.inner))?;
        }
    }
    if let Some(conv) = layers().find_map(Layer::short_conv) {
        put("shortconv.l_cache", GgufValue::U32(conv.taps))?;
    }
    if let Some(net) = net {
        put("ssm.conv_kernel", GgufValue::U32(net.taps))?;
        put("ssm.state_size", GgufValue::U32(net.key_dim))?;
        put("ssm.group_count", GgufValue::U32(net.key_heads))?;
        put("ssm.time_step_rank", GgufValue::U32(net.value_heads))?;
        put("ssm.inner_size", GgufValue::U32(net.value_width() as u32))?;
        // Only where it says the same as the list.
        let full = layers().position(|l| l.delta_net().is_none());
        let every = full.map_or(spec.layers.len(), |l| l as u32) + 1;
        if layers().zip(1..).all(|(l, n)| l.delta_net().is_none() == (n % every == 0)) {
            put("full_attention_interval", GgufValue::U32(every))?;
        }
    }
    let Some(attention) = layers().find_map(Layer::attention) else {
        // Readers want these all the same.
        if let Some(rope) = spec.ropes.first().filter(|_| linear) {
            put("attention.head_count", GgufValue::U32(1))?;
            put("attention.head_count_kv", GgufValue::U32(1))?;
            put("attention.key_length", GgufValue::U32(rope.dims))?;
            put("attention.value_length", GgufValue::U32(rope.dims))?;
            put("rope.dimension_count", GgufValue::U32(rope.dims))?;
            put("rope.freq_base", GgufValue::F32(rope.base))?;
        }
        return Ok(());
    };
    let &Attention { heads, head_dim, .. } = attention;
    put("attention.head_count", GgufValue::U32(heads))?;
    if scaled {
        put("attention.scale", GgufValue::F32(attention.scale))?;
    }
    if let Some(cap) = attention.softcap {
        put("attn_logit_softcapping", GgufValue::F32(cap))?;
    }
    if let Some(temperature) = attention.temperature {
        put("attention.temperature_scale", GgufValue::F32(temperature.growth))?;
    }
    if !mixed && (attention.kv_heads != heads || spec.norm.kind == NormKind::Rms) {
        put("attention.head_count_kv", GgufValue::U32(attention.kv_heads))?;
    }
    // Windows are stored as one size and a period; there are no keys for anything else.
    let window = |l: &Layer| l.attention().and_then(|a| a.window);
    let windowed = layers().find(|l| window(l).is_some());
    if let Some(size) = windowed.and_then(window) {
        put("attention.sliding_window", GgufValue::U32(size))?;
        let full = layers().position(|l| window(l).is_none());
        let every = full.map_or(0, |l| l as u32 + 1);
        if !by_kind {
            put("attention.sliding_window_pattern", GgufValue::U32(every))?;
        }
    }
    let rope = |l: &Layer| spec.ropes.get(usize::from(l.attention()?.rope?));
    let full = layers().find(|l| l.attention().is_some() && window(l).is_none());
    let first = full.or(windowed).and_then(rope);
    if first.is_some() || scaled {
        let head_dim = full.and_then(Layer::attention).map_or(head_dim, |a| a.head_dim);
        put("attention.key_length", GgufValue::U32(head_dim))?;
        put("attention.value_length", GgufValue::U32(head_dim))?;
    }
    if let Some(a) = windowed.and_then(Layer::attention).filter(|_| by_kind) {
        put("attention.key_length_swa", GgufValue::U32(a.head_dim))?;
        put("attention.value_length_swa", GgufValue::U32(a.head_dim))?;
    }
    let Some(first) = first else {
        if scaled {
            put("rope.scaling.finetuned", GgufValue::Bool(false))?;
        }
        return Ok(());
    };
    put("rope.dimension_count", GgufValue::U32(first.dims))?;
    put("rope.freq_base", GgufValue::F32(first.base))?;
    if let Some(other) = windowed.and_then(rope).filter(|r| *r != first) {
        put("rope.freq_base_swa", GgufValue::F32(other.base))?;
        if other.dims != first.dims {
            put("rope.dimension_count_swa", GgufValue::U32(other.dims))?;
        }
    }
    if let RopeScaling::Linear(factor) = first.scaling {
        put("rope.scaling.type", GgufValue::Str("linear"))?;
        put("rope.scaling.factor", GgufValue::F32(factor))?;
    }
    if let RopeScaling::Long { original } = first.scaling {
        put("rope.scaling.original_context_length", GgufValue::U32(original))?;
        put("rope.scaling.attn_factor", GgufValue::F32(first.magnitude))?;
    }
    if let RopeScaling::Yarn { factor, fast, slow, original, .. } = first.scaling {
        put("rope.scaling.type", GgufValue::Str("yarn"))?;
        put("rope.scaling.factor", GgufValue::F32(factor))?;
        put("rope.scaling.original_context_length", GgufValue::U32(original as u32))?;
        put("rope.scaling.yarn_beta_fast", GgufValue::F32(fast))?;
        put("rope.scaling.yarn_beta_slow", GgufValue::F32(slow))?;
        let plain = if factor > 1.0 { 0.1 * f64::from(factor).ln() + 1.0 } else { 1.0 };
        if first.magnitude == 1.0 {
            put("rope.scaling.yarn_log_multiplier", GgufValue::F32(1.0))?;
        } else if (f64::from(first.magnitude) / plain - 1.0).abs() > 1e-7 {
            put("rope.scaling.yarn_attn_factor", GgufValue::F32(first.magnitude))?;
        }
    }
    Ok(())
}

/// Numbers of linear attention that no layer has, which llama.cpp wants to see: the defaults of
/// transformers' class.
const NO_NET: DeltaNet =
    DeltaNet { key_heads: 16, value_heads: 32, key_dim: 128, value_dim: 128, taps: 4 };

/// Inner width of a feed-forward part.
fn inner(layer: &Layer) -> Option<u32> {
    // Of a dense part and experts side by side it is that of the former.
    layer.dense().map(|d| d.inner).or(layer.experts().map(|e| e.inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use teff_graph::family::Shapes;
    use teff_graph::gguf::Gguf;
    use teff_graph::layers::{Activation, FeedForward, Mixer};
    use teff_graph::{Head, Layers, List, Role, Rope};

    /// Shapes of a model's tensors by their GGUF names.
    struct Tensors<'a>(&'a Spec<'a>);

    impl Shapes for Tensors<'_> {
        fn shape(&self, name: &str) -> Option<(usize, usize)> {
            let family = family::of_arch(self.0.arch)?;
            let slot = self.0.slots().find(|s| {
                let mut text = String::new();
                family.gguf_name(s.role, &mut text).unwrap();
                text == name && (s.role != Role::Output || self.0.head == Head::Own)
            })?;
            Some((slot.all_rows(), slot.cols))
        }
    }

    fn attention(l: Layer, f: impl Fn(&mut Attention)) -> Layer {
        let mut l = l;
        if let Mixer::Attention(a) = &mut l.mixer {
            f(a);
        }
        l
    }

    #[test]
    fn what_is_written_is_read() {
        use family::{
            bitnet, gemma2, gemma3, gemma3n, gemma4, gpt_oss, gpt2, granite, lfm2, llama, mistral3,
            olmo2, phi3, qwen, qwen2moe, qwen3moe, qwen35, qwen35moe, smollm3,
        };
        let scaled = |scaling| llama::tinyllama().with_ropes(|r| Rope { scaling, ..r });
        let silu = |l: Layer| {
            let FeedForward::Dense(d) = l.ffn else { return l };
            let activation = Activation::Silu;
            let ffn = FeedForward::Dense(teff_graph::layers::Dense { activation, ..d });
            attention(Layer { ffn, ..l }, |a| a.kv_heads = a.heads)
        };
        let gemma = gemma3::gemma3_1b();
        let wider = gemma.with_layers(|l| attention(l, |a| a.window = a.window.map(|_| 1024)));
        let (kinds, four) = (gemma.layers.kinds(), [0, 0, 0, 1]);
        let period = Spec { layers: Layers::new(kinds, &four, 26), ..gemma.borrowed() };
        let granite = granite::granite3_8b().with_layers(|l| attention(l, |a| a.rope = None));
        let unrotated = Spec { ropes: List::Borrowed(&[]), logit_divisor: 6.0, ..granite };
        // OLMo 3: windows in three of four layers, and YaRN in the others.
        let scaling = RopeScaling::Yarn {
            factor: 8.0,
            fast: 32.0,
            slow: 1.0,
            original: 8192.0,
            truncate: true,
        };
        let plain = olmo2::olmo2_7b();
        let [full, windowed] = [(0, None), (1, Some(4096))].map(|(rope, window)| {
            attention(*plain.layers.get(0), |a| (a.rope, a.window) = (Some(rope), window))
        });
        let both = [windowed, full];
        let layers = Layers::new(&both, &[0, 0, 0, 1], 32);
        let ropes = [Rope { scaling, magnitude: 1.207_944_2, ..plain.ropes[0] }, plain.ropes[0]];
        let olmo3 = Spec { layers, ropes: List::Borrowed(&ropes), ..plain.borrowed() };
        let yarn = |magnitude, slow| {
            let (factor, fast, original, truncate) = (8.0, 24.0, 2048.0, true);
            let scaling = RopeScaling::Yarn { factor, fast, slow, original, truncate };
            qwen::qwen3_14b().with_ropes(|r| Rope { scaling, magnitude, ..r })
        };
        let qwen = qwen35::qwen3_5_0_8b();
        let of_one_kind = |kind: usize| Spec {
            layers: Layers::new(&qwen.layers.kinds()[kind..=kind], &[0], 24).to_owned(),
            ..qwen.clone()
        };
        for spec in [
            of_one_kind(0),
            of_one_kind(1),
            gpt2::small(),
            llama::tinyllama(),
            scaled(RopeScaling::Linear(4.0)),
            scaled(RopeScaling::Factors),
            gemma.borrowed(),
            wider,
            period,
            gemma2::gemma2_2b(),
            gemma3n::gemma3n_e2b(),
            gemma4::gemma4_e2b(),
            gemma4::gemma4_26b_a4b(),
            qwen::qwen2_5_14b(),
            qwen::qwen3_14b(),
            qwen2moe::qwen1_5_moe(),
            qwen3moe::qwen3_30b_a3b(),
            gpt_oss::gpt_oss_20b(),
            lfm2::lfm2_1_2b(),
            lfm2::lfm2_8b_a1b(),
            llama::mixtral_8x7b(),
            granite::granite3_3b_a800m(),
            granite::granite3_8b(),
            unrotated,
            smollm3::smollm3_3b(),
            phi3::phi4_mini(),
            mistral3::ministral3_3b(),
            qwen35::qwen3_5_0_8b(),
            qwen35::qwen3_5_4b(),
            qwen35moe::qwen3_5_35b_a3b(),
            olmo2::olmo2_7b(),
            olmo3,
            yarn(1.0, 1.0),
            yarn(0.1 * 8f32.ln() + 1.0, 2.0),
            yarn(1.5, 1.0),
            bitnet::bitnet_2b(),
            Spec { arch: "bitnet-25", ..bitnet::bitnet_2b() },
            // No key for this: grouped queries decide.
            Spec { arch: "bitnet", ..bitnet::bitnet_2b() },
            Spec { arch: "bitnet", ..bitnet::bitnet_2b().with_layers(silu) },
        ] {
            let mut h = GgufHeader::new();
            h.put("general.architecture", GgufValue::Str(spec.arch)).unwrap();
            put_spec(&mut h, &spec).unwrap();
            let bytes = h.write(Vec::new()).unwrap().finish().unwrap();
            let gguf = Gguf::parse(&bytes).unwrap();
            let family = family::of_arch(spec.arch).unwrap();
            assert_eq!(family.read_gguf(&gguf, &Tensors(&spec)).unwrap(), spec, "{}", spec.arch);
        }
    }
}
