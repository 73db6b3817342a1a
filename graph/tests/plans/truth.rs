//! Logits against the definition in f64, written here in straight loops.

#![cfg(feature = "alloc")]

use core::cell::Cell;

use proptest::prelude::*;
use teff_graph::layers::{Activation, Dense, FeedForward, Mixer, Norm, NormKind, Norms, Router};
use teff_graph::{
    Layer, LayerRole as L, LogitsFor, NeverCancel, Options, Outputs, Role, RopeScaling, Segment,
    Spec,
};
use teff_kernels::{Cpu, Format, KvFormat, RopeKind};

use crate::common::draw::{any_spec, everything, several_streams};
use crate::common::{Model, Room, cases, run_on, tokens};

type Rows = Vec<Vec<f64>>;

/// The weights in f64, and how close a choice of experts was.
struct Truth<'a> {
    model: &'a Model,
    margin: f64,
    /// The largest number of which squares are added: f32 has none above 2^128.
    largest: Cell<f64>,
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
        let largest =
            x.iter().flatten().fold(self.largest.get(), |largest, x| largest.max(x.abs()));
        self.largest.set(largest);
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
        let b = if w == bias { vec![] } else { self.layer(l, bias) };
        let w = self.layer(l, w);
        x.iter().map(|x| product(&w, &b, x)).collect()
    }

    /// Queries, keys and values of a layer, by token and head; queries and keys are turned.
    fn heads(&self, l: usize, which: usize, h: &Rows) -> Vec<Rows> {
        let (heads, _) = self.heads_and_gates(l, which, h);
        heads
    }

    /// The same, and the gates that follow each query.
    fn heads_and_gates(&self, l: usize, which: usize, h: &Rows) -> (Vec<Rows>, Rows) {
        let spec = &self.model.spec;
        let a = spec.layers.get(l as u32).attention().unwrap();
        let (q, kv, d) = (a.q_dim(), a.kv_dim(), a.head_dim as usize);
        let mut flat: Rows = if a.fused {
            let all = self.linear(l, L::AttnQkv, L::AttnQkvBias, h);
            let range = [0..q, q..q + kv, q + kv..q + 2 * kv][which].clone();
            all.iter().map(|row| row[range.clone()].to_vec()).collect()
        } else {
            let from = if which == 2 && a.keys_as_values { 1 } else { which };
            let w = [L::AttnQ, L::AttnK, L::AttnV][from];
            let b = [L::AttnQBias, L::AttnKBias, L::AttnVBias][from];
            self.linear(l, w, b, h)
        };
        let mut gates: Rows = vec![];
        if a.gate && which == 0 {
            for row in &mut flat {
                let heads: Vec<&[f64]> = row.chunks(2 * d).collect();
                gates.push(heads.iter().flat_map(|head| &head[d..]).copied().collect());
                *row = heads.iter().flat_map(|head| &head[..d]).copied().collect();
            }
        }
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
                if which == 2 && a.value_norm {
                    head = normalise(NormKind::Rms, eps, &vec![1.0; d], &[], &head);
                }
                if let (true, Some(rope)) = (which < 2, a.rope) {
                    self.turn(rope, t, &mut head);
                }
                heads.push(head);
            }
            out.push(heads);
        }
        (out, gates)
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
                RopeScaling::Proportional { pairs, .. } if j >= pairs as usize => f64::INFINITY,
                RopeScaling::Proportional { factor, .. } => f64::from(factor),
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
        let (q, gates) = self.heads_and_gates(l, 0, h);
        let own = a.shared_kv.is_none().then(|| [self.heads(l, 1, h), self.heads(l, 2, h)]);
        caches.push(own);
        let source = a.shared_kv.map_or(l, |s| s as usize);
        let [keys, values] = caches[source].as_ref().unwrap();
        let head_gate = self.layer(l, L::AttnHeadGate);
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
            if a.head_gate {
                let gates = product(&head_gate, &[], &h[t]);
                for (i, x) in row.iter_mut().enumerate() {
                    *x *= sigmoid(gates[i / d]);
                }
            }
            if let Some(gates) = gates.get(t) {
                row.iter_mut().zip(gates).for_each(|(x, gate)| *x *= sigmoid(*gate));
            }
            out.push(row);
        }
        out
    }

    fn delta_net(&self, l: usize, h: &Rows) -> Rows {
        let layer = *self.model.spec.layers.get(l as u32);
        let net = *layer.delta_net().unwrap();
        let [nk, nv, dk, dv, n] =
            [net.key_heads, net.value_heads, net.key_dim, net.value_dim, net.taps]
                .map(|x| x as usize);
        let none = L::AttnQkvBias; // of which the layer has none
        let of = |role| self.linear(l, role, none, h);
        let (u, z, a, b) = (of(L::DeltaQkv), of(L::DeltaGate), of(L::DeltaAlpha), of(L::DeltaBeta));
        let [taps, rate, bias, weight] =
            [L::DeltaTaps, L::DeltaRate, L::DeltaBias, L::DeltaNorm].map(|r| self.layer(l, r));
        let mut state = vec![vec![vec![0.0; dv]; dk]; nv];
        let mut out = vec![];
        for t in 0..h.len() {
            let mut c = vec![];
            for channel in 0..2 * nk * dk + nv * dv {
                let mut sum = 0.0;
                for j in 0..n {
                    if let Some(at) = (t + 1 + j).checked_sub(n) {
                        sum += taps[channel * n + j] * u[at][channel];
                    }
                }
                c.push(sum * sigmoid(sum));
            }
            let unit = |x: &[f64]| {
                let size = (x.iter().map(|x| x * x).sum::<f64>() + 1e-6f32 as f64).sqrt();
                x.iter().map(|x| x / size).collect::<Vec<f64>>()
            };
            let mut row = vec![];
            for j in 0..nv {
                let q = unit(&c[j % nk * dk..][..dk]);
                let k = unit(&c[(nk + j % nk) * dk..][..dk]);
                let v = &c[2 * nk * dk + j * dv..][..dv];
                let decay = (rate[j] * (a[t][j] + bias[j]).exp().ln_1p()).exp();
                let s = &mut state[j];
                s.iter_mut().flatten().for_each(|s| *s *= decay);
                let mut o = vec![0.0; dv];
                for i in 0..dv {
                    let known: f64 = (0..dk).map(|r| s[r][i] * k[r]).sum();
                    let d = sigmoid(b[t][j]) * (v[i] - known);
                    (0..dk).for_each(|r| s[r][i] += k[r] * d);
                    let read: f64 = (0..dk).map(|r| s[r][i] * q[r]).sum();
                    o[i] = read / (dk as f64).sqrt();
                }
                let o = normalise(NormKind::Rms, layer.norms.before.eps, &weight, &[], &o);
                let gate = &z[t][j * dv..][..dv];
                row.extend(o.iter().zip(gate).map(|(o, z)| o * z * sigmoid(*z)));
            }
            out.push(row);
        }
        self.linear(l, L::DeltaOut, none, &out)
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

    /// Outputs of the experts that `by` makes a token choose.
    fn experts(&mut self, l: usize, by: &Rows, h: &Rows) -> Rows {
        let e = *self.model.spec.layers.get(l as u32).experts().unwrap();
        let router = self.layer(l, L::ExpertRouter);
        let router_bias = self.layer(l, L::ExpertRouterBias);
        let choice_bias = self.layer(l, L::ExpertChoiceBias);
        let parts = [
            (L::ExpertGate, L::ExpertGateBias),
            (L::ExpertUp, L::ExpertUpBias),
            (L::ExpertDown, L::ExpertDownBias),
        ];
        let [mut gate, mut up, down] = parts.map(|(w, b)| (self.layer(l, w), self.layer(l, b)));
        if e.fused {
            let each = e.inner as usize * self.model.spec.width as usize;
            for both in self.layer(l, L::ExpertGateUp).chunks(2 * each) {
                gate.0.extend(&both[..each]);
                up.0.extend(&both[each..]);
            }
        }
        let factors = self.layer(l, L::ExpertScale);
        let none = L::FfnUpBias;
        let shared_score = self.linear(l, L::SharedRouter, none, h);
        let [shared_gate, shared_up] =
            [L::SharedGate, L::SharedUp].map(|w| self.linear(l, w, none, h));
        let mut inner: Rows = vec![];
        for (gate, up) in shared_gate.iter().zip(&shared_up) {
            inner.push(gate.iter().zip(up).map(|(g, u)| join(e.activation, *g, *u)).collect());
        }
        let shared = match e.shared {
            Some(_) => self.linear(l, L::SharedDown, none, &inner),
            None => vec![vec![]; h.len()],
        };
        let used = e.used as usize;
        let mut out = vec![];
        for (t, x) in h.iter().enumerate() {
            let mut p = product(&router, &router_bias, &by[t]);
            match e.router {
                Router::Softmax => softmax(&mut p),
                _ => p.iter_mut().for_each(|p| *p = sigmoid(*p)),
            }
            let bias = |i: usize| choice_bias.get(i).copied().unwrap_or(0.0);
            let by: Vec<f64> = p.iter().enumerate().map(|(i, p)| p + bias(i)).collect();
            let mut order: Vec<usize> = (0..p.len()).collect();
            order.sort_by(|&a, &b| by[b].total_cmp(&by[a]));
            if let Some(&next) = order.get(used) {
                self.margin = self.margin.min(by[order[used - 1]] - by[next]);
            }
            let chosen = &order[..used];
            let mut all: f64 = chosen.iter().map(|&i| p[i]).sum();
            if e.router != Router::Softmax {
                all += 1e-6;
            }
            let mut sum = vec![0.0; x.len()];
            for &i in chosen {
                let part = |(w, b): &(Vec<f64>, Vec<f64>), x: &[f64]| {
                    let [w, b] = [w, b].map(|x| {
                        let each = x.len() / p.len();
                        &x[i * each..][..each]
                    });
                    product(w, b, x)
                };
                let (g, u) = (part(&gate, x), part(&up, x));
                let inner: Vec<f64> =
                    g.iter().zip(&u).map(|(g, u)| join(e.activation, *g, *u)).collect();
                let share = if e.normalised { p[i] / all } else { p[i] };
                let share = share * f64::from(e.scale) * factors.get(i).copied().unwrap_or(1.0);
                for (sum, y) in sum.iter_mut().zip(part(&down, &inner)) {
                    *sum += share * y;
                }
            }
            let weight = match shared_score[t].first() {
                Some(score) => sigmoid(*score),
                None => 1.0,
            };
            for (sum, y) in sum.iter_mut().zip(&shared[t]) {
                *sum += weight * y;
            }
            out.push(sum);
        }
        out
    }

    /// Outputs of a dense part.
    fn dense(&self, l: usize, d: &Dense, h: &Rows) -> Rows {
        let mut up = self.linear(l, L::FfnUp, L::FfnUpBias, h);
        let mut gate = self.linear(l, L::FfnGate, L::FfnGateBias, h);
        if d.fused {
            let both = self.linear(l, L::FfnGateUp, L::FfnUpBias, h);
            let parts = both.iter().map(|row| row.split_at(d.inner as usize));
            (gate, up) = parts.map(|(g, u)| (g.to_vec(), u.to_vec())).unzip();
        }
        let mut inner: Rows = vec![];
        if let Some(cut) = d.sparsity {
            for row in &mut gate {
                let n = row.len() as f64;
                let mean = row.iter().sum::<f64>() / n;
                let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
                let cutoff = mean + f64::from(cut) * variance.sqrt();
                row.iter_mut().for_each(|x| *x = (*x - cutoff).max(0.0));
            }
        }
        if d.gated {
            for (gate, up) in gate.iter().zip(&up) {
                let both = gate.iter().zip(up);
                inner.push(both.map(|(g, u)| join(d.activation, *g, *u)).collect());
            }
        } else {
            for up in &up {
                inner.push(up.iter().map(|u| activate(d.activation, *u)).collect());
            }
        }
        if d.sub_norm {
            let before = self.model.spec.layers.get(l as u32).norms.before;
            let (sub, weight) = (Norm { kind: NormKind::Rms, ..before }, L::FfnSubNorm);
            inner = self.norm(sub, Role::Layer(l as u32, weight), Role::OutputNormBias, &inner);
        }
        self.linear(l, L::FfnDown, L::FfnDownBias, &inner)
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

    /// All residual streams, of the first one.
    fn start_streams(&self, x: &Rows) -> Vec<Rows> {
        let w = self.model.spec.width as usize;
        let mut all = vec![x.clone()];
        for matrix in self.get(Role::StreamProj).chunks(w * w) {
            let one = |x: &Vec<f64>| scaled_to(product(matrix, &[], x), x);
            all.push(x.iter().map(one).collect());
        }
        all
    }

    /// The mean of all residual streams.
    fn end_streams(&self, all: &[Rows]) -> Rows {
        let w = self.model.spec.width as usize;
        let mut sum = all[0].clone();
        for (matrix, x) in self.get(Role::StreamUnembd).chunks(w * w).zip(&all[1..]) {
            for ((sum, x), first) in sum.iter_mut().zip(x).zip(&all[0]) {
                let y = scaled_to(product(matrix, &[], x), first);
                sum.iter_mut().zip(y).for_each(|(s, y)| *s += y);
            }
        }
        sum.iter_mut().flatten().for_each(|x| *x /= all.len() as f64);
        sum
    }

    /// Scores of the streams.
    fn modalities(&self, l: usize, layer: &Layer, x: &Rows) -> Rows {
        let weight = self.layer(l, L::StreamRouterNorm);
        let router = self.layer(l, L::StreamRouter);
        let one = |x: &Vec<f64>| {
            let h = normalise(NormKind::Rms, layer.norms.before.eps, &weight, &[], x);
            let scores = product(&router, &[], &h);
            scores.iter().map(|s| (s / x.len() as f64).tanh()).collect()
        };
        x.iter().map(one).collect()
    }

    /// Inputs of all layers, by token.
    fn layer_inputs(&self, tokens: &[u32], x: &Rows) -> Rows {
        let spec = &self.model.spec;
        let Some(of) = spec.per_layer else { return vec![] };
        let (n, all) = (of.width as usize, of.width as usize * spec.layers.len() as usize);
        let [table, proj, norm] =
            [Role::PerLayerEmbd, Role::PerLayerProj, Role::PerLayerNorm].map(|r| self.get(r));
        let mut out = vec![];
        for (&token, x) in tokens.iter().zip(x) {
            let token = if token < of.vocab { token as usize } else { 0 };
            let mut row = vec![];
            let x = product(&proj, &[], x);
            let x: Vec<f64> = x.iter().map(|x| x / f64::from(spec.width).sqrt()).collect();
            for (p, e) in x.chunks(n).zip(table[token * all..][..all].chunks(n)) {
                let p = normalise(NormKind::Rms, spec.norm.eps, &norm, &[], p);
                let sums = p.iter().zip(e).map(|(p, e)| p + e * f64::from(of.width).sqrt());
                row.extend(sums.map(|x| x / 2f64.sqrt()));
            }
            out.push(row);
        }
        out
    }

    #[allow(clippy::needless_range_loop)] // as the formulas have their indices
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
        let inputs = self.layer_inputs(tokens, &x);
        let mut all = self.start_streams(&x);
        let mut caches = vec![];
        for l in 0..spec.layers.len() as usize {
            let layer = *spec.layers.get(l as u32);
            let of = |role| Role::Layer(l as u32, role);
            let before = layer.norms.before;
            let sub = Norm { kind: NormKind::Rms, ..before };
            let norms = [(L::AttnNorm, L::AttnNormBias), (L::FfnNorm, L::FfnNormBias)];
            let [for_mixer, for_ffn] = norms.map(|(w, b)| (of(w), of(b)));
            let predicted = layer.streams.map(|s| {
                let by = self.modalities(l, &layer, &all[s.active as usize]);
                let n = s.count as usize;
                let c = self.layer(l, L::StreamPredict);
                let mut out = all.clone();
                for t in 0..by.len() {
                    for i in 0..n {
                        for j in 0..n {
                            let c: f64 = (0..n).map(|k| c[(i * n + j) * n + k] * by[t][k]).sum();
                            for d in 0..w {
                                out[i][t][d] += c * all[j][t][d];
                            }
                        }
                    }
                }
                x = out[s.active as usize].clone();
                out
            });
            let h = self.inputs(&layer, for_mixer, &x);
            let laurel = layer.streams.map(|_| {
                let low = self.linear(l, L::LaurelLeft, L::LaurelLeft, &h);
                let mut out = self.linear(l, L::LaurelRight, L::LaurelRight, &low);
                let weight = self.layer(l, L::LaurelNorm);
                for (out, h) in out.iter_mut().zip(&h) {
                    *out = normalise(NormKind::Rms, before.eps, &weight, &[], out);
                    out.iter_mut().zip(h).for_each(|(o, h)| *o += h);
                }
                out
            });
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
                Mixer::DeltaNet(_) => {
                    caches.push(None);
                    self.delta_net(l, &h)
                }
                _ => panic!("not drawn"),
            };
            self.add(l, &layer, L::AttnPostNorm, out, &mut x);
            for (x, y) in x.iter_mut().zip(laurel.iter().flatten()) {
                x.iter_mut().zip(y).for_each(|(x, y)| *x = (*x + y) / 2f64.sqrt());
            }
            let h = self.inputs(&layer, for_ffn, &x);
            let out = match layer.ffn {
                FeedForward::Dense(d) => self.dense(l, &d, &h),
                FeedForward::Experts(_) => self.experts(l, &h, &h),
                FeedForward::DenseAndExperts(both) => {
                    let rms =
                        |s: &Self, role, x: &Rows| s.norm(sub, of(role), Role::OutputNormBias, x);
                    let dense = self.dense(l, &both.dense, &h);
                    let dense = rms(self, L::DensePostNorm, &dense);
                    let mut by = rms(self, L::RouterNorm, &x);
                    let root = f64::from(spec.width).sqrt();
                    by.iter_mut().flatten().for_each(|x| *x /= root);
                    let h = rms(self, L::ExpertNorm, &x);
                    let chosen = self.experts(l, &by, &h);
                    let chosen = rms(self, L::ExpertPostNorm, &chosen);
                    let rows = dense.iter().zip(&chosen);
                    rows.map(|(d, c)| d.iter().zip(c).map(|(d, c)| d + c).collect()).collect()
                }
                _ => panic!("not drawn"),
            };
            self.add(l, &layer, L::FfnPostNorm, out, &mut x);
            if let (Some(s), Some(predicted)) = (layer.streams, predicted) {
                let (by, c) = (self.modalities(l, &layer, &x), self.layer(l, L::StreamCorrect));
                let n = s.count as usize;
                all = predicted.clone();
                for t in 0..by.len() {
                    for (i, row) in c.chunks(n).enumerate() {
                        let c: f64 = row.iter().zip(&by[t]).map(|(c, m)| c * m).sum();
                        for d in 0..w {
                            let new = x[t][d] - predicted[s.active as usize][t][d];
                            all[i][t][d] += (c + 1.0) * new;
                        }
                    }
                }
                let scale = self.layer(l, L::StreamScale);
                x = all[s.active as usize].clone();
                for x in &mut x {
                    x.iter_mut().zip(&scale).for_each(|(x, s)| *x *= s);
                }
            }
            if let Some(input) = layer.input {
                let n = input.width as usize;
                let mut gates = self.linear(l, L::InputGate, L::InputGate, &x);
                for (gate, all) in gates.iter_mut().zip(&inputs) {
                    for (g, i) in gate.iter_mut().zip(&all[l * n..]) {
                        *g = activate(input.activation, *g) * i;
                    }
                }
                let out = self.linear(l, L::InputProj, L::InputProj, &gates);
                let post = Layer { norms: Norms { post: true, ..layer.norms }, ..layer };
                match layer.streams {
                    None => self.add(l, &post, L::InputPostNorm, out, &mut x),
                    Some(_) => {
                        for stream in &mut all[1..] {
                            self.add(l, &post, L::InputPostNorm, out.clone(), stream);
                        }
                    }
                }
            }
            if layer.scales.output {
                let factor = self.layer(l, L::LayerScale)[0];
                x.iter_mut().flatten().for_each(|x| *x *= factor);
            }
        }
        if spec.streams.is_some() {
            x = self.end_streams(&all);
        }
        let h = self.norm(spec.norm, Role::OutputNorm, Role::OutputNormBias, &x);
        let head = self.get(Role::Output);
        let divisor = f64::from(spec.logit_divisor);
        let cap =
            |x: f64| spec.logit_cap.map_or(x, |cap| (x / f64::from(cap)).tanh() * f64::from(cap));
        let logits =
            |h: &Vec<f64>| product(&head, &[], h).iter().map(|x| cap(x / divisor)).collect();
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

/// `y` with the magnitude of `x`.
fn scaled_to(y: Vec<f64>, x: &[f64]) -> Vec<f64> {
    let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let factor = (square(x) / square(&y).max(1e-5)).sqrt();
    y.iter().map(|y| y * factor).collect()
}

thread_local! {
    /// Error of every product, as a share of the sum of its terms' magnitudes; 0 for the truth.
    static ERROR: Cell<f64> = const { Cell::new(0.0) };
}

fn product(w: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
    let mut out = vec![];
    for (r, row) in w.chunks(x.len()).enumerate() {
        let sum: f64 = row.iter().zip(x).map(|(w, x)| w * x).sum();
        let size: f64 = row.iter().zip(x).map(|(w, x)| (w * x).abs()).sum();
        // Of either sign, whatever the row.
        let sign = if (r as u32).wrapping_mul(0x9e37_79b9) >> 31 == 0 { 1.0 } else { -1.0 };
        out.push(sum + bias.get(r).copied().unwrap_or(0.0) + sign * ERROR.get() * size);
    }
    out
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(x: &mut [f64]) {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f64 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

/// A gate's output and the other's, combined.
fn join(act: Activation, gate: f64, up: f64) -> f64 {
    match act {
        Activation::SwigluClamped { alpha, limit } => {
            let (alpha, limit) = (f64::from(alpha), f64::from(limit));
            let gate = gate.min(limit);
            (up.clamp(-limit, limit) + 1.0) * gate * sigmoid(alpha * gate)
        }
        act => activate(act, gate) * up,
    }
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

/// The error of the runner's logits, how close the closest choice of experts was, and the largest number.
fn nmse(spec: &Spec<'static>, n: usize) -> (f64, f64, f64) {
    let model = Model::new(spec.clone(), |_| Format::F32);
    let tokens = tokens(3, n, spec.vocab);
    let mut truth =
        Truth { model: &model, margin: f64::INFINITY, largest: Cell::new(0.0), context: n };
    let want: Vec<f64> = truth.logits(&tokens).into_iter().flatten().collect();
    let options = Options {
        batch: 9,
        logits: 9,
        context: n,
        kv: KvFormat::F32,
        outputs: Outputs::Logits,
        pages: 0,
    };
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, &options, Cpu::best(), (1, 1));
    let mut got = vec![];
    for tokens in tokens.chunks(9) {
        let segments = [Segment::new(tokens, LogitsFor::All)];
        got.extend(run_on(&mut runner, &segments, &NeverCancel, 1).unwrap());
    }
    assert_eq!(got.len(), want.len());
    let got: Vec<f64> = got.into_iter().map(f64::from).collect();
    (distance(&got, &want), truth.margin, truth.largest.get())
}

fn distance(got: &[f64], want: &[f64]) -> f64 {
    let error: f64 = got.iter().zip(want).map(|(g, w)| (g - w).powi(2)).sum();
    error / want.iter().map(|w| w * w).sum::<f64>()
}

/// The error of logits in f64 of which every product is wrong by as much as f32 rounds: what the model makes of
/// errors that none can avoid.
fn unavoidable(spec: &Spec<'static>, n: usize) -> f64 {
    let model = Model::new(spec.clone(), |_| Format::F32);
    let tokens = tokens(3, n, spec.vocab);
    let logits = |error: f64| -> Vec<f64> {
        let largest = Cell::new(0.0);
        let mut truth = Truth { model: &model, margin: f64::INFINITY, largest, context: n };
        ERROR.set(error);
        let logits = truth.logits(&tokens).into_iter().flatten().collect();
        ERROR.set(0.0);
        logits
    };
    distance(&logits(f64::from(f32::EPSILON)), &logits(0.0))
}

#[test]
fn everything_is_true() {
    for spec in [everything(), several_streams()] {
        let (nmse, margin, _) = nmse(&spec, 100);
        assert!(margin > 1e-5, "{margin}");
        assert!(nmse <= 1e-10, "{nmse}");
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn logits_are_true(spec in any_spec(), n in prop_oneof![1usize..30, Just(150)]) {
        let (nmse, margin, largest) = nmse(&spec, n);
        // Where two experts are as good, either may be chosen.
        prop_assume!(margin > 1e-4);
        // Layers without norms can square numbers again and again, and each time double their error.
        prop_assume!(largest < 1e6);
        if nmse > 1e-10 {
            // Few of the drawn models make more of a small error.
            let unavoidable = unavoidable(&spec, n);
            prop_assert!(nmse <= 4.0 * unavoidable, "{nmse}, unavoidable {unavoidable}");
        }
    }
}
