//! Logits against the definition in f64, written here in straight loops.

#![cfg(feature = "alloc")]

use proptest::prelude::*;
use teff_graph::layers::{Activation, FeedForward, Mixer, Norm, NormKind};
use teff_graph::{
    Layer, LayerRole as L, LogitsFor, NeverCancel, Options, Outputs, Role, RopeScaling, Segment,
    Spec,
};
use teff_kernels::{Cpu, Format, KvFormat, RopeKind};

use crate::common::draw::{any_spec, everything};
use crate::common::{Model, Room, cases, run_on, tokens};

type Rows = Vec<Vec<f64>>;

/// The weights in f64, and how close a choice of experts was.
struct Truth<'a> {
    model: &'a Model,
    margin: f64,
    /// Context of the session.
    context: usize,
}

impl Truth<'_> {
    fn get(&self, role: Role) -> Vec<f64> {
        self.model.values(role).iter().map(|&x| f64::from(x)).collect()
    }

    fn layer(&self, l: usize, role: L) -> Vec<f64> {
        self.get(Role::Layer(l as u32, role))
    }

    fn norm(&self, norm: Norm, weight: Role, bias: Role, x: &Rows) -> Rows {
        let (w, b) = (self.get(weight), self.get(bias));
        x.iter().map(|x| normalise(norm.kind, norm.eps, &w, &b, x)).collect()
    }

    /// Inputs of a part of a layer.
    fn inputs(&self, layer: &Layer, (weight, bias): (Role, Role), x: &Rows) -> Rows {
        match layer.norms.pre {
            true => self.norm(layer.norms.before, weight, bias, x),
            false => x.clone(),
        }
    }

    fn linear(&self, l: usize, w: L, bias: L, x: &Rows) -> Rows {
        let (w, b) = (self.layer(l, w), self.layer(l, bias));
        x.iter().map(|x| product(&w, &b, x)).collect()
    }

    /// Queries, keys and values of a layer, by token and head; queries and keys are turned.
    fn heads(&self, l: usize, which: usize, h: &Rows) -> Vec<Rows> {
        let spec = &self.model.spec;
        let a = spec.layers.get(l as u32).attention().unwrap();
        let (q, kv, d) = (a.q_dim(), a.kv_dim(), a.head_dim as usize);
        let flat = if a.fused {
            let all = self.linear(l, L::AttnQkv, L::AttnQkvBias, h);
            let range = [0..q, q..q + kv, q + kv..q + 2 * kv][which].clone();
            all.iter().map(|row| row[range.clone()].to_vec()).collect()
        } else {
            let w = [L::AttnQ, L::AttnK, L::AttnV][which];
            let b = [L::AttnQBias, L::AttnKBias, L::AttnVBias][which];
            self.linear(l, w, b, h)
        };
        let norm =
            if which < 2 { self.layer(l, [L::AttnQNorm, L::AttnKNorm][which]) } else { vec![] };
        let eps = spec.layers.get(l as u32).norms.before.eps;
        let mut out = vec![];
        for (t, row) in flat.iter().enumerate() {
            let mut row = row.clone();
            if a.wide_norm && !norm.is_empty() {
                row = normalise(NormKind::Rms, eps, &norm, &[], &row);
            }
            let mut heads = vec![];
            for head in row.chunks(d) {
                let mut head = head.to_vec();
                if !a.wide_norm && !norm.is_empty() {
                    head = normalise(NormKind::Rms, eps, &norm, &[], &head);
                }
                if let (true, Some(rope)) = (which < 2, a.rope) {
                    self.turn(rope, t, &mut head);
                }
                heads.push(head);
            }
            out.push(heads);
        }
        out
    }

    fn turn(&self, rope: u8, position: usize, head: &mut [f64]) {
        let rope = self.model.spec.ropes[usize::from(rope)];
        let n = rope.dims as usize / 2;
        for j in 0..n {
            let mut freq = f64::from(rope.base).powf(-(j as f64) / n as f64);
            freq /= match rope.scaling {
                RopeScaling::None => 1.0,
                RopeScaling::Linear(factor) => f64::from(factor),
                RopeScaling::Factors => self.get(Role::RopeFactors)[j],
                RopeScaling::Long { original } if self.context > original as usize => {
                    self.get(Role::RopeFactorsLong)[j]
                }
                RopeScaling::Long { .. } => self.get(Role::RopeFactorsShort)[j],
                RopeScaling::Yarn { factor, fast, slow, original, truncate } => {
                    let number = |turns: f32| {
                        let waves =
                            f64::from(original) / (f64::from(turns) * std::f64::consts::TAU);
                        n as f64 * waves.ln() / f64::from(rope.base).ln()
                    };
                    let (mut low, mut high) = (number(fast), number(slow));
                    if truncate {
                        (low, high) = (low.floor(), high.ceil());
                    }
                    (low, high) = (low.max(0.0), high.min(2.0 * n as f64 - 1.0));
                    let share = ((j as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    1.0 / (share / f64::from(factor) + 1.0 - share)
                }
                _ => panic!("not drawn"),
            };
            let (sin, cos) = (position as f64 * freq).sin_cos();
            let (sin, cos) = (sin * f64::from(rope.magnitude), cos * f64::from(rope.magnitude));
            let (a, b) = match rope.kind {
                RopeKind::Norm => (2 * j, 2 * j + 1),
                RopeKind::NeoX => (j, j + n),
            };
            let (x, y) = (head[a], head[b]);
            (head[a], head[b]) = (x * cos - y * sin, x * sin + y * cos);
        }
    }

    fn attention(&self, l: usize, h: &Rows, caches: &mut Vec<Option<[Vec<Rows>; 2]>>) -> Rows {
        let a = self.model.spec.layers.get(l as u32).attention().unwrap();
        let q = self.heads(l, 0, h);
        let own = a.shared_kv.is_none().then(|| [self.heads(l, 1, h), self.heads(l, 2, h)]);
        caches.push(own);
        let source = a.shared_kv.map_or(l, |s| s as usize);
        let [keys, values] = caches[source].as_ref().unwrap();
        let (d, group) = (a.head_dim as usize, (a.heads / a.kv_heads) as usize);
        let sinks = self.layer(l, L::AttnSinks);
        let mut out = vec![];
        for t in 0..h.len() {
            let first = a.window.map_or(0, |w| (t + 1).saturating_sub(w as usize));
            let growth = a.temperature.map_or(0.0, |temperature| {
                let stretches = t / temperature.every as usize;
                f64::from(temperature.growth) * (1.0 + stretches as f64).ln()
            });
            let scale = f64::from(a.scale) * (1.0 + growth);
            let mut row = vec![];
            for (i, q) in q[t].iter().enumerate() {
                let mut scores = vec![];
                for key in &keys[first..=t] {
                    let dot: f64 = q.iter().zip(&key[i / group]).map(|(q, k)| q * k).sum();
                    let cap = a.softcap.map_or(f64::INFINITY, f64::from);
                    let score = dot * scale;
                    scores.push(if a.softcap.is_some() {
                        cap * (score / cap).tanh()
                    } else {
                        score
                    });
                }
                scores.extend(sinks.get(i));
                softmax(&mut scores);
                let mut sum = vec![0.0; d];
                for (p, value) in scores.iter().zip(&values[first..=t]) {
                    for (sum, v) in sum.iter_mut().zip(&value[i / group]) {
                        *sum += p * v;
                    }
                }
                row.extend(sum);
            }
            out.push(row);
        }
        out
    }

    fn short_conv(&self, l: usize, h: &Rows) -> Rows {
        let n = self.model.spec.layers.get(l as u32).short_conv().unwrap().taps as usize;
        let w = self.model.spec.width as usize;
        let (taps, bias) = (self.layer(l, L::ConvTaps), self.layer(l, L::ConvTapsBias));
        let inner = self.linear(l, L::ConvIn, L::ConvInBias, h);
        let mut out = vec![];
        for t in 0..inner.len() {
            let mut row = vec![];
            for c in 0..w {
                let mut sum = bias.get(c).copied().unwrap_or(0.0);
                for j in 0..n {
                    if let Some(at) = (t + 1 + j).checked_sub(n) {
                        sum += taps[c * n + j] * inner[at][c] * inner[at][2 * w + c];
                    }
                }
                row.push(inner[t][w + c] * sum);
            }
            out.push(row);
        }
        out
    }

    fn experts(&mut self, l: usize, h: &Rows) -> Rows {
        let e = *self.model.spec.layers.get(l as u32).experts().unwrap();
        let router = self.layer(l, L::ExpertRouter);
        let [gate, up, down] =
            [L::ExpertGate, L::ExpertUp, L::ExpertDown].map(|r| self.layer(l, r));
        let used = e.used as usize;
        let mut out = vec![];
        for x in h {
            let mut p = product(&router, &[], x);
            softmax(&mut p);
            let mut order: Vec<usize> = (0..p.len()).collect();
            order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
            if let Some(&next) = order.get(used) {
                self.margin = self.margin.min(p[order[used - 1]] - p[next]);
            }
            let chosen = &order[..used];
            let all: f64 = chosen.iter().map(|&i| p[i]).sum();
            let mut sum = vec![0.0; x.len()];
            for &i in chosen {
                let part = |w: &[f64], x: &[f64]| {
                    let each = w.len() / p.len();
                    product(&w[i * each..][..each], &[], x)
                };
                let (g, u) = (part(&gate, x), part(&up, x));
                let inner: Vec<f64> =
                    g.iter().zip(&u).map(|(g, u)| activate(e.activation, *g) * u).collect();
                let share = if e.normalised { p[i] / all } else { p[i] };
                for (sum, y) in sum.iter_mut().zip(part(&down, &inner)) {
                    *sum += share * y;
                }
            }
            out.push(sum);
        }
        out
    }

    /// Adds a part's outputs to the residual stream.
    fn add(&self, l: usize, layer: &Layer, post: L, out: Rows, x: &mut Rows) {
        let weight = self.layer(l, post);
        for (x, mut out) in x.iter_mut().zip(out) {
            if layer.norms.post {
                out = normalise(NormKind::Rms, layer.norms.before.eps, &weight, &[], &out);
            }
            for (x, out) in x.iter_mut().zip(out) {
                *x += f64::from(layer.scales.residual) * out;
            }
        }
    }

    fn logits(&mut self, tokens: &[u32]) -> Rows {
        let spec = &self.model.spec;
        let w = spec.width as usize;
        let (embd, positions) = (self.get(Role::TokenEmbd), self.get(Role::PositionEmbd));
        let mut x: Rows = vec![];
        for (t, &token) in tokens.iter().enumerate() {
            let row = &embd[token as usize * w..][..w];
            let place = |i| if spec.embed.positions { positions[t * w + i] } else { 0.0 };
            let scale = f64::from(spec.embed.scale);
            x.push(row.iter().enumerate().map(|(i, e)| e * scale + place(i)).collect());
        }
        let mut caches = vec![];
        for l in 0..spec.layers.len() as usize {
            let layer = *spec.layers.get(l as u32);
            let of = |role| Role::Layer(l as u32, role);
            let before = layer.norms.before;
            let sub = Norm { kind: NormKind::Rms, ..before };
            let norms = [(L::AttnNorm, L::AttnNormBias), (L::FfnNorm, L::FfnNormBias)];
            let [for_mixer, for_ffn] = norms.map(|(w, b)| (of(w), of(b)));
            let h = self.inputs(&layer, for_mixer, &x);
            let out = match layer.mixer {
                Mixer::Attention(a) => {
                    let mut out = self.attention(l, &h, &mut caches);
                    if a.sub_norm {
                        out = self.norm(sub, of(L::AttnSubNorm), Role::OutputNormBias, &out);
                    }
                    self.linear(l, L::AttnOut, L::AttnOutBias, &out)
                }
                Mixer::ShortConv(_) => {
                    caches.push(None);
                    let out = self.short_conv(l, &h);
                    self.linear(l, L::ConvOut, L::ConvOutBias, &out)
                }
                _ => panic!("not drawn"),
            };
            self.add(l, &layer, L::AttnPostNorm, out, &mut x);
            let h = self.inputs(&layer, for_ffn, &x);
            let out = match layer.ffn {
                FeedForward::Dense(d) => {
                    let mut up = self.linear(l, L::FfnUp, L::FfnUpBias, &h);
                    let mut gate = self.linear(l, L::FfnGate, L::FfnGateBias, &h);
                    if d.fused {
                        let both = self.linear(l, L::FfnGateUp, L::FfnUpBias, &h);
                        let parts = both.iter().map(|row| row.split_at(d.inner as usize));
                        (gate, up) = parts.map(|(g, u)| (g.to_vec(), u.to_vec())).unzip();
                    }
                    let mut inner: Rows = vec![];
                    if d.gated {
                        for (gate, up) in gate.iter().zip(&up) {
                            let both = gate.iter().zip(up);
                            inner.push(both.map(|(g, u)| activate(d.activation, *g) * u).collect());
                        }
                    } else {
                        for up in &up {
                            inner.push(up.iter().map(|u| activate(d.activation, *u)).collect());
                        }
                    }
                    if d.sub_norm {
                        inner = self.norm(sub, of(L::FfnSubNorm), Role::OutputNormBias, &inner);
                    }
                    self.linear(l, L::FfnDown, L::FfnDownBias, &inner)
                }
                FeedForward::Experts(_) => self.experts(l, &h),
                _ => panic!("not drawn"),
            };
            self.add(l, &layer, L::FfnPostNorm, out, &mut x);
        }
        let h = self.norm(spec.norm, Role::OutputNorm, Role::OutputNormBias, &x);
        let head = self.get(Role::Output);
        let divisor = f64::from(spec.logit_divisor);
        let logits = |h: &Vec<f64>| product(&head, &[], h).iter().map(|x| x / divisor).collect();
        h.iter().map(logits).collect()
    }
}

fn normalise(kind: NormKind, eps: f32, weight: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = if kind == NormKind::Layer { x.iter().sum::<f64>() / n } else { 0.0 };
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let factor = 1.0 / (variance + f64::from(eps)).sqrt();
    let term = |i| if kind == NormKind::Layer { bias[i] } else { 0.0 };
    x.iter().enumerate().map(|(i, x)| (x - mean) * factor * weight[i] + term(i)).collect()
}

fn product(w: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
    let mut out = vec![];
    for (r, row) in w.chunks(x.len()).enumerate() {
        let sum: f64 = row.iter().zip(x).map(|(w, x)| w * x).sum();
        out.push(sum + bias.get(r).copied().unwrap_or(0.0));
    }
    out
}

fn softmax(x: &mut [f64]) {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f64 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

fn activate(act: Activation, x: f64) -> f64 {
    match act {
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Relu2 => x.max(0.0) * x.max(0.0),
        _ => panic!("not drawn"),
    }
}

/// The error of the runner's logits, and how close the closest choice of experts was.
fn nmse(spec: &Spec<'static>, n: usize) -> (f64, f64) {
    let model = Model::new(spec.clone(), |_| Format::F32);
    let tokens = tokens(3, n, spec.vocab);
    let mut truth = Truth { model: &model, margin: f64::INFINITY, context: n };
    let want: Vec<f64> = truth.logits(&tokens).into_iter().flatten().collect();
    let options =
        Options { batch: 9, logits: 9, context: n, kv: KvFormat::F32, outputs: Outputs::Logits };
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, &options, Cpu::best(), (1, 1));
    let mut got = vec![];
    for tokens in tokens.chunks(9) {
        let segments = [Segment::new(tokens, LogitsFor::All)];
        got.extend(run_on(&mut runner, &segments, &NeverCancel, 1).unwrap());
    }
    assert_eq!(got.len(), want.len());
    let error: f64 = got.iter().zip(&want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum();
    let size: f64 = want.iter().map(|w| w * w).sum();
    (error / size, truth.margin)
}

#[test]
fn everything_is_true() {
    let (nmse, margin) = nmse(&everything(), 100);
    assert!(margin > 1e-5, "{margin}");
    assert!(nmse <= 1e-10, "{nmse}");
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn logits_are_true(spec in any_spec(), n in prop_oneof![1usize..30, Just(150)]) {
        let (nmse, margin) = nmse(&spec, n);
        // Where two experts are as good, either may be chosen.
        prop_assume!(margin > 1e-4);
        prop_assert!(nmse <= 1e-10, "{nmse}");
    }
}
