//! Small models, drawn.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use teff_graph::layers::{
    Activation, Attention, Dense, Experts, FeedForward, Layer, Mixer, Norm, NormKind, Norms,
    Scales, ShortConv, Temperature,
};
use teff_graph::{Embed, Head, LayerRole, Role, Rope, RopeScaling, Spec, TensorId};
use teff_kernels::{ActivationKind, Format, KvFormat, RopeKind, WIDE_BLOCK};

use super::layers;

/// Positions of the models drawn.
pub(crate) const CONTEXT: u32 = 192;

prop_compose! {
    fn any_attention()(
        kv_heads in 1u32..3, per_kv in 1u32..4, head_dim in select(vec![4u32, 6, 16, 32]),
        [fused, qkv_bias, out_bias, qk_norm, wide] in any::<[bool; 5]>(),
        window in prop::option::of(prop_oneof![1u32..20, Just(63), 60u32..100]),
        rope in prop::option::of(0u8..2),
        shared in prop::option::weighted(0.3, any::<Index>()),
        scale in select(vec![1.0f32, 0.25]),
        temperature in prop::option::weighted(0.3, (select(vec![0.1f32, 1.5]), 1u32..40)),
        softcap in prop::option::weighted(0.3, select(vec![0.5f32, 4.0])),
        sinks in prop::bool::weighted(0.3),
    ) -> (Attention, Option<Index>) {
        let heads = kv_heads * per_kv;
        let (sub_norm, wide_norm) = (false, wide && qk_norm && !fused);
        (Attention {
            heads, kv_heads, head_dim, fused, qkv_bias, out_bias, qk_norm, wide_norm, sub_norm, rope,
            window, scale, softcap, sinks,
            temperature: temperature.map(|(growth, every)| Temperature { growth, every }),
            shared_kv: None,
        }, shared)
    }
}

fn any_activation() -> impl Strategy<Value = Activation> {
    select(vec![Activation::GeluTanh, Activation::Silu, Activation::Relu2])
}

/// Widths of rows that some or all formats fit.
fn any_width() -> impl Strategy<Value = u32> {
    prop_oneof![4 => select(vec![20u32, 32, 64]), 1 => Just(128), 1 => Just(256)]
}

prop_compose! {
    fn any_dense()(
        inner in any_width(), gated: bool, activation in any_activation(),
        [bias, sub_norm, fused] in any::<[bool; 3]>(),
    ) -> FeedForward {
        let fused = fused && gated && !bias && inner % 16 == 0;
        FeedForward::Dense(Dense { inner, gated, fused, activation, bias, sub_norm })
    }
}

prop_compose! {
    fn any_experts()(
        experts in 2u32..=8, used in 1u32..=3, inner in any_width(), activation in any_activation(),
        normalised: bool,
    ) -> FeedForward {
        let used = used.min(experts);
        FeedForward::Experts(Experts { experts, used, inner, activation, normalised })
    }
}

prop_compose! {
    /// A layer, and whose keys and values it shares if it can.
    fn any_layer()(
        (attention, shared) in any_attention(), sub_norm: bool,
        conv in prop::option::weighted(0.3, (1u32..6, any::<bool>())),
        ffn in prop_oneof![any_dense(), any_experts()],
        layer_norm: bool, [pre, post] in any::<[bool; 2]>(), residual in select(vec![1.0f32, 0.5]),
    ) -> (Layer, Option<Index>) {
        let mixer = match conv {
            Some((taps, bias)) => Mixer::ShortConv(ShortConv { taps, bias }),
            None => Mixer::Attention(Attention { sub_norm, ..attention }),
        };
        let kind = if layer_norm { NormKind::Layer } else { NormKind::Rms };
        let norms = Norms { before: Norm { kind, eps: 1e-5 }, pre, post };
        (Layer { mixer, ffn, norms, scales: Scales { residual } }, shared)
    }
}

/// Makes a layer share the keys and values of an earlier one, where there is any.
fn share(all: &mut [Layer], l: usize, which: Index) {
    let own: Vec<usize> =
        (0..l).filter(|&i| all[i].attention().is_some_and(Attention::has_kv)).collect();
    if own.is_empty() {
        return;
    }
    let source = *which.get(&own);
    let Some(of) = all[source].attention().copied() else { return };
    if let Mixer::Attention(a) = &mut all[l].mixer {
        a.shared_kv = Some(source as u32);
        a.fused = false;
        (a.kv_heads, a.head_dim) = (of.kv_heads, of.head_dim);
        a.heads = a.heads.next_multiple_of(of.kv_heads);
        a.window = match (of.window, a.window) {
            (None, own) => own,
            (Some(of), own) => Some(own.map_or(of, |own| own.min(of))),
        };
    }
}

prop_compose! {
    /// A model of 1 to 4 layers, each as it likes.
    pub(crate) fn any_spec()(
        drawn in prop::collection::vec(any_layer(), 1..5),
        vocab in 1u32..60, width in any_width(), positions: bool, own: bool, scaling in 0..4usize,
        layer_norm: bool, token_scales in prop::bool::weighted(0.1),
        [logit_divisor, magnitude] in [select(vec![1.0f32, 3.0]), select(vec![1.0f32, 0.75])],
        rope_kind in select(vec![RopeKind::NeoX, RopeKind::Norm]),
    ) -> Spec<'static> {
        let mut all: Vec<Layer> = drawn.iter().map(|d| d.0).collect();
        for (l, (_, shared)) in drawn.iter().enumerate() {
            if let Some(which) = shared {
                share(&mut all, l, *which);
            }
        }
        // One scale for a token needs norms before all last products.
        let token_scales = token_scales
            && all.iter().all(|l| l.dense().is_some_and(|d| d.sub_norm)
                && l.attention().is_some_and(|a| a.sub_norm));
        let yarn = RopeScaling::Yarn {
            factor: 8.0, fast: 16.0, slow: 0.5, original: 32.0, truncate: false,
        };
        let long = RopeScaling::Long { original: 20 };
        let scaling = [RopeScaling::Factors, RopeScaling::Linear(2.0), yarn, long][scaling];
        let ropes = vec![
            Rope { kind: rope_kind, dims: 4, base: 10_000.0, scaling: RopeScaling::None, magnitude: 1.0 },
            Rope { kind: rope_kind, dims: 4, base: 100.0, scaling, magnitude },
        ];
        let kind = if layer_norm { NormKind::Layer } else { NormKind::Rms };
        Spec {
            arch: "drawn",
            vocab,
            context: CONTEXT,
            width,
            embed: Embed { scale: 1.5, positions },
            layers: layers(&all),
            ropes: ropes.into(),
            norm: Norm { kind, eps: 1e-6 },
            head: if own { Head::Own } else { Head::Tied },
            logit_divisor,
            token_scales,
        }
    }
}

/// One of the formats that fit a tensor.
pub(crate) fn format_of(spec: &Spec<'_>, id: TensorId, seed: u64) -> Format {
    let Some(slot) = spec.slot(id) else { return Format::F32 };
    // The inputs of experts' last products lie one after another, in whole groups.
    let last = matches!(slot.role, Role::Layer(_, LayerRole::ExpertDown));
    let groups = |f: &Format| {
        !last || f.activations() != ActivationKind::Wide || slot.cols.is_multiple_of(WIDE_BLOCK)
    };
    let fits = |f: &Format| f.is_built() && slot.cols.is_multiple_of(f.block_len()) && groups(f);
    let fits: Vec<Format> = Format::ALL.into_iter().filter(fits).collect();
    fits[(seed.rotate_left(id.index() as u32) % fits.len() as u64) as usize]
}

/// One of the formats of caches.
pub(crate) fn any_kv() -> impl Strategy<Value = KvFormat> {
    select(KvFormat::ALL.to_vec())
}

/// A model that has everything: attention with and without a window, shared keys and values, a short
/// convolution, experts, norms wherever there may be some.
pub(crate) fn everything() -> Spec<'static> {
    let attention = Attention {
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        fused: false,
        qkv_bias: true,
        out_bias: true,
        qk_norm: true,
        wide_norm: false,
        sub_norm: true,
        rope: Some(0),
        window: None,
        scale: 0.25,
        softcap: None,
        sinks: false,
        temperature: None,
        shared_kv: None,
    };
    let (inner, activation) = (96, Activation::Silu);
    let dense = Dense { inner, gated: true, fused: false, activation, bias: true, sub_norm: true };
    let experts = Experts { experts: 6, used: 2, inner: 32, activation, normalised: true };
    let rms = Norms { before: Norm { kind: NormKind::Rms, eps: 1e-6 }, pre: true, post: true };
    let first = Layer {
        mixer: Mixer::Attention(attention),
        ffn: FeedForward::Experts(experts),
        norms: rms,
        scales: Scales { residual: 0.5 },
    };
    let conv = Layer {
        mixer: Mixer::ShortConv(ShortConv { taps: 4, bias: true }),
        ffn: FeedForward::Dense(dense),
        ..first
    };
    let window = Attention {
        window: Some(11),
        rope: Some(1),
        fused: true,
        softcap: Some(5.0),
        sinks: true,
        ..attention
    };
    let layer_norm = Norm { kind: NormKind::Layer, eps: 1e-5 };
    let windowed = Layer {
        mixer: Mixer::Attention(window),
        norms: Norms { before: layer_norm, pre: true, post: false },
        ..conv
    };
    let temperature = Some(Temperature { growth: 0.5, every: 30 });
    let shared = Attention { shared_kv: Some(0), window: Some(40), temperature, ..attention };
    let last = Layer { mixer: Mixer::Attention(shared), ..first };
    // Norms after the parts alone, and over all heads together.
    let wide = Attention { wide_norm: true, ..attention };
    let after = Layer { mixer: Mixer::Attention(wide), norms: Norms { pre: false, ..rms }, ..conv };
    let rope =
        |base, dims, scaling| Rope { kind: RopeKind::NeoX, dims, base, scaling, magnitude: 1.25 };
    let yarn =
        RopeScaling::Yarn { factor: 4.0, fast: 8.0, slow: 1.0, original: 24.0, truncate: true };
    let ropes = vec![rope(10_000.0, 16, RopeScaling::Factors), rope(1000.0, 8, yarn)];
    Spec {
        arch: "everything",
        vocab: 50,
        context: 1024,
        width: 64,
        embed: Embed { scale: 8.0, positions: true },
        layers: layers(&[first, conv, windowed, last, after]),
        ropes: ropes.into(),
        norm: layer_norm,
        head: Head::Own,
        logit_divisor: 0.5,
        token_scales: false,
    }
}
