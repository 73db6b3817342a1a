//! Small models, drawn.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use teff_graph::layers::{
    Activation, Attention, DeltaNet, Dense, DenseAndExperts, Experts, FeedForward, Layer,
    LayerInput, Mixer, Norm, NormKind, Norms, Router, Scales, SharedExpert, ShortConv, Streams,
    Temperature,
};
use teff_graph::{Embed, Head, LayerRole, PerLayer, Role, Rope, RopeScaling, Spec, TensorId};
use teff_kernels::{ActivationKind, Format, KvFormat, RopeKind, WIDE_BLOCK};

use super::layers;

/// Positions of the models drawn.
pub(crate) const CONTEXT: u32 = 192;

prop_compose! {
    fn any_attention()(
        kv_heads in 1u32..3, per_kv in 1u32..4, head_dim in select(vec![4u32, 6, 16, 32]),
        [fused, qkv_bias, out_bias, qk_norm, wide, value_norm] in any::<[bool; 6]>(),
        [as_values, elements] in [prop::bool::weighted(0.2), prop::bool::weighted(0.3)],
        window in prop::option::of(prop_oneof![1u32..20, Just(63), 60u32..100]),
        rope in prop::option::of(0u8..2),
        shared in prop::option::weighted(0.3, any::<Index>()),
        scale in select(vec![1.0f32, 0.25]),
        temperature in prop::option::weighted(0.3, (select(vec![0.1f32, 1.5]), 1u32..40)),
        softcap in prop::option::weighted(0.3, select(vec![0.5f32, 4.0])),
        sinks in prop::bool::weighted(0.3), gate in prop::bool::weighted(0.3),
    ) -> (Attention, Option<Index>) {
        let heads = kv_heads * per_kv;
        let (sub_norm, wide_norm) = (false, wide && qk_norm && !fused);
        let keys_as_values = as_values && !fused && !wide_norm;
        let elements = elements && !fused && !wide_norm;
        (Attention {
            heads, kv_heads, head_dim, fused, qkv_bias, out_bias, qk_norm, wide_norm, value_norm,
            keys_as_values, sub_norm, rope, window, scale, softcap, sinks, gate: elements,
            head_gate: gate && !elements && !fused && !wide_norm,
            temperature: temperature.map(|(growth, every)| Temperature { growth, every }),
            shared_kv: None,
        }, shared)
    }
}

prop_compose! {
    fn any_delta_net()(
        key_heads in 1u32..3, each in 1u32..4, key_dim in select(vec![4u32, 16, 20]),
        value_dim in select(vec![4u32, 16, 32, 48]), taps in 1u32..6,
    ) -> Mixer {
        let value_heads = key_heads * each;
        Mixer::DeltaNet(DeltaNet { key_heads, value_heads, key_dim, value_dim, taps })
    }
}

fn any_activation() -> impl Strategy<Value = Activation> {
    select(vec![Activation::GeluTanh, Activation::Silu, Activation::Relu2])
}

/// An activation of a gated part.
fn any_gated_activation() -> impl Strategy<Value = Activation> {
    let clamped = Just(Activation::SwigluClamped { alpha: 1.5, limit: 0.75 });
    prop_oneof![3 => any_activation(), 1 => clamped]
}

/// Widths of rows that some or all formats fit.
fn any_width() -> impl Strategy<Value = u32> {
    prop_oneof![4 => select(vec![20u32, 32, 64]), 1 => Just(128), 1 => Just(256)]
}

prop_compose! {
    fn any_dense()(
        inner in any_width(), gated: bool, activation in any_gated_activation(),
        [bias, sub_norm, fused] in any::<[bool; 3]>(),
        sparsity in prop::option::weighted(0.2, select(vec![-0.5f32, 0.0, 1.0])),
    ) -> FeedForward {
        let gated = gated || matches!(activation, Activation::SwigluClamped { .. });
        let fused = fused && gated && !bias && inner % 16 == 0;
        let sparsity = sparsity.filter(|_| gated && !fused);
        FeedForward::Dense(Dense { inner, gated, fused, activation, bias, sub_norm, sparsity })
    }
}

prop_compose! {
    fn any_experts()(
        experts in 2u32..=8, used in 1u32..=3, inner in any_width(),
        activation in any_gated_activation(),
        [normalised, bias, fused] in any::<[bool; 3]>(), scale in select(vec![1.0f32, 2.5]),
        router in select(vec![
            Router::Softmax, Router::Sigmoid { bias: false }, Router::Sigmoid { bias: true },
        ]),
        shared in prop::option::of((any_width(), any::<bool>())),
    ) -> Experts {
        let (used, fused) = (used.min(experts), fused && !bias && inner % 16 == 0);
        let shared = shared.map(|(inner, gated)| SharedExpert { inner, gated });
        Experts {
            experts, used, inner, activation, normalised, fused, router, scale, bias, shared,
        }
    }
}

prop_compose! {
    /// A dense part beside experts, in a layer that has norms around its parts.
    fn any_both()(dense in any_dense(), experts in any_experts()) -> FeedForward {
        let FeedForward::Dense(dense) = dense else { return dense };
        let dense = Dense { gated: true, bias: false, sub_norm: false, sparsity: None, ..dense };
        let (router, scale) = (Router::Softmax, 1.0);
        let experts = Experts { router, scale, bias: false, shared: None, ..experts };
        FeedForward::DenseAndExperts(DenseAndExperts { dense, experts })
    }
}

prop_compose! {
    /// A layer, whose keys and values it shares if it can, and the activation of its inputs if the
    /// model has some.
    fn any_layer()(
        (attention, shared) in any_attention(), sub_norm: bool,
        conv in prop::option::weighted(0.3, (1u32..6, any::<[bool; 2]>())),
        delta in prop::option::weighted(0.3, any_delta_net()),
        ffn in prop_oneof![
            3 => any_dense(), 3 => any_experts().prop_map(FeedForward::Experts), 1 => any_both()
        ],
        layer_norm: bool, [pre, post, output] in any::<[bool; 3]>(),
        residual in select(vec![1.0f32, 0.5]),
        input in prop::option::weighted(0.5, any_activation()),
    ) -> (Layer, Option<Index>, Option<Activation>) {
        let mixer = match (conv, delta) {
            (_, Some(delta)) => delta,
            (Some((taps, [bias, fine])), _) => Mixer::ShortConv(ShortConv { taps, bias, fine }),
            _ => Mixer::Attention(Attention { sub_norm, ..attention }),
        };
        let kind = if layer_norm { NormKind::Layer } else { NormKind::Rms };
        let both = matches!(ffn, FeedForward::DenseAndExperts(_));
        let (pre, post) = (pre || both, post || both);
        let norms = Norms { before: Norm { kind, eps: 1e-5 }, pre, post };
        let scales = Scales { residual, output: output && post };
        (Layer { mixer, ffn, norms, input: None, streams: None, scales }, shared, input)
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
        vocab in 1u32..60, width in any_width(), positions: bool, own: bool, scaling in 0..5usize,
        layer_norm: bool, token_scales in prop::bool::weighted(0.1),
        [logit_divisor, magnitude] in [select(vec![1.0f32, 3.0]), select(vec![1.0f32, 0.75])],
        rope_kind in select(vec![RopeKind::NeoX, RopeKind::Norm]),
        logit_cap in prop::option::weighted(0.3, select(vec![1.0f32, 6.0])),
        inputs in prop::option::weighted(0.3, (select(vec![20u32, 32]), 1u32..60)),
        streams in prop::option::weighted(0.15, (2u32..5, any::<Index>(), 1u32..40, any::<bool>())),
    ) -> Spec<'static> {
        let mut all: Vec<Layer> = drawn.iter().map(|d| d.0).collect();
        let inputs = inputs.filter(|_| drawn.iter().any(|d| d.2.is_some()));
        let per_layer = inputs.map(|(width, vocab)| PerLayer { width, vocab });
        for (layer, (_, _, input)) in all.iter_mut().zip(&drawn) {
            let own = input.zip(per_layer);
            layer.input = own.map(|(activation, of)| LayerInput { width: of.width, activation });
        }
        let streams = streams.zip(per_layer).map(|((count, active, rank, scaled), of)| {
            let active = active.index(count as usize) as u32;
            (Streams { count, active, scaled, rank }, of.width)
        });
        if let Some((streams, width)) = streams {
            let activation = Activation::GeluTanh;
            for layer in &mut all {
                let input = layer.input.unwrap_or(LayerInput { width, activation });
                (layer.input, layer.streams) = (Some(input), Some(streams));
                (layer.norms.pre, layer.norms.post) = (true, true);
                layer.scales = Scales { residual: 1.0, output: false };
            }
        }
        for (l, (_, shared, _)) in drawn.iter().enumerate() {
            if let Some(which) = shared {
                share(&mut all, l, *which);
            }
        }
        // One scale for a token needs norms before all last products.
        let token_scales = token_scales
            && all.iter().all(|l| l.input.is_none() && l.dense().is_some_and(|d| d.sub_norm)
                && l.attention().is_some_and(|a| a.sub_norm));
        let yarn = RopeScaling::Yarn {
            factor: 8.0, fast: 16.0, slow: 0.5, original: 32.0, truncate: false,
        };
        let long = RopeScaling::Long { original: 20 };
        let part = RopeScaling::Proportional { pairs: 1, factor: 1.5 };
        let scaling = [RopeScaling::Factors, RopeScaling::Linear(2.0), yarn, long, part][scaling];
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
            logit_cap,
            per_layer,
            streams: streams.map(|s| s.0.count),
            token_scales,
        }
    }
}

/// One of the formats that fit a tensor.
pub(crate) fn format_of(spec: &Spec<'_>, id: TensorId, seed: u64) -> Format {
    let Some(slot) = spec.slot(id) else { return Format::F32 };
    // The inputs of experts' last products, and of those at the end of residual streams, lie one after
    // another, in whole groups.
    let last = matches!(slot.role, Role::Layer(_, LayerRole::ExpertDown) | Role::StreamUnembd);
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

/// A model that has everything: attention with and without a window, shared keys and values, keys that
/// are values, gates, a short convolution, linear attention, experts, norms wherever there may be some,
/// inputs of layers.
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
        value_norm: true,
        keys_as_values: false,
        gate: false,
        sub_norm: true,
        rope: Some(0),
        window: None,
        scale: 0.25,
        softcap: None,
        sinks: false,
        head_gate: false,
        temperature: None,
        shared_kv: None,
    };
    let (inner, activation) = (96, Activation::Silu);
    let dense = Dense {
        inner,
        gated: true,
        fused: false,
        activation,
        bias: true,
        sub_norm: true,
        sparsity: None,
    };
    let experts = Experts::new(6, 2, 32);
    let rms = Norms { before: Norm { kind: NormKind::Rms, eps: 1e-6 }, pre: true, post: true };
    let first = Layer {
        mixer: Mixer::Attention(Attention { head_gate: true, ..attention }),
        ffn: FeedForward::Experts(experts),
        norms: rms,
        input: Some(LayerInput { width: 32, activation: Activation::GeluTanh }),
        streams: None,
        scales: Scales { residual: 0.5, output: true },
    };
    let conv = Layer {
        mixer: Mixer::ShortConv(ShortConv { taps: 4, bias: true, fine: true }),
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
        ffn: FeedForward::Dense(Dense { sparsity: Some(0.5), ..dense }),
        norms: Norms { before: layer_norm, pre: true, post: false },
        input: None,
        streams: None,
        scales: Scales { residual: 1.0, output: false },
    };
    let temperature = Some(Temperature { growth: 0.5, every: 30 });
    let shared = Attention { shared_kv: Some(0), window: Some(40), temperature, ..attention };
    let last = Layer { mixer: Mixer::Attention(shared), ..first };
    // Norms after the parts alone, and over all heads together.
    let wide = Attention { wide_norm: true, ..attention };
    let after = Layer { mixer: Mixer::Attention(wide), norms: Norms { pre: false, ..rms }, ..conv };
    // Keys that are values, and no inputs of its own.
    let keys = Attention { keys_as_values: true, rope: Some(1), ..attention };
    let keys = Layer { mixer: Mixer::Attention(keys), input: None, ..conv };
    // A dense part and experts.
    let activation = Activation::GeluTanh;
    let both = DenseAndExperts {
        dense: Dense { bias: false, sub_norm: false, activation, ..dense },
        experts: Experts { fused: true, activation, ..experts },
    };
    let both = Layer { ffn: FeedForward::DenseAndExperts(both), ..first };
    let delta = DeltaNet { key_heads: 2, value_heads: 4, key_dim: 20, value_dim: 48, taps: 4 };
    let delta = Layer { mixer: Mixer::DeltaNet(delta), ..conv };
    let gated = Layer { mixer: Mixer::Attention(Attention { gate: true, ..attention }), ..conv };
    let rope =
        |base, dims, scaling| Rope { kind: RopeKind::NeoX, dims, base, scaling, magnitude: 1.25 };
    let yarn =
        RopeScaling::Yarn { factor: 4.0, fast: 8.0, slow: 1.0, original: 24.0, truncate: true };
    let ropes = vec![rope(10_000.0, 16, RopeScaling::Factors), rope(1000.0, 8, yarn)];
    // Experts with all that they may have.
    let activation = Activation::SwigluClamped { alpha: 1.702, limit: 1.5 };
    let chosen = Experts {
        activation,
        router: Router::Sigmoid { bias: true },
        scale: 1.5,
        bias: true,
        shared: Some(SharedExpert { inner: 96, gated: true }),
        ..experts
    };
    let chosen = Layer { ffn: FeedForward::Experts(chosen), ..last };
    Spec {
        arch: "everything",
        vocab: 50,
        context: 1024,
        width: 64,
        embed: Embed { scale: 8.0, positions: true },
        layers: layers(&[first, conv, windowed, last, after, chosen, keys, both, delta, gated]),
        ropes: ropes.into(),
        norm: layer_norm,
        head: Head::Own,
        logit_divisor: 0.5,
        logit_cap: Some(20.0),
        per_layer: Some(PerLayer { width: 32, vocab: 40 }),
        streams: None,
        token_scales: false,
    }
}

/// The same layers with several residual streams.
pub(crate) fn several_streams() -> Spec<'static> {
    let spec = everything();
    let streams = Streams { count: 3, active: 1, scaled: true, rank: 16 };
    let input = Some(LayerInput { width: 32, activation: Activation::GeluTanh });
    let spec = Spec { streams: Some(3), ..spec };
    spec.with_layers(|layer| Layer {
        norms: Norms { pre: true, post: true, ..layer.norms },
        scales: Scales { residual: 1.0, output: false },
        input,
        streams: Some(streams),
        ..layer
    })
}
