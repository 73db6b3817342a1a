//! Plans from outside: what is changed in operations and states does not verify.

#![cfg(feature = "alloc")]

use proptest::prelude::*;
use teff_graph::layers::{Activation, FeedForward, Router};
use teff_graph::ops::{Op, Output, QkvPart};
use teff_graph::plan::{BufferId, State, StateId, StateKind};
use teff_graph::{Options, Outputs, Plan, PlanError, Role, Spec, TensorId};
use teff_kernels::{Format, KvFormat, Scalar};

use crate::common::draw::{any_kv, any_spec, everything, format_of};
use crate::common::{cases, layers};

/// The plan with other operations, and with a buffer that holds the logits at their end.
fn with_ops(plan: &Plan<'static>, ops: Vec<Op>) -> Plan<'static> {
    let mut buffers = plan.buffers.to_vec();
    let last = ops.iter().filter(|op| **op == Op::Barrier).count();
    for output in [plan.logits, plan.hidden].into_iter().flatten() {
        buffers[output.index()].dies = last as u16;
    }
    Plan { ops: ops.into(), buffers: buffers.into(), ..plan.clone() }
}

/// The same plan with buffers that live all the time, apart: so that no change is wrong for the sake
/// of lifetimes or places alone.
fn roomy(plan: &Plan<'static>) -> Plan<'static> {
    let mut buffers = plan.buffers.to_vec();
    let mut scratch = 0usize;
    for b in &mut buffers {
        (b.born, b.dies, b.over, b.offset) = (0, u16::MAX, None, scratch);
        let rows = plan.max_rows(b.rows);
        scratch += b.bytes(rows).unwrap().next_multiple_of(64);
    }
    let mut plan = Plan { buffers: buffers.into(), ..plan.clone() };
    plan.memory_requirements.scratch = scratch;
    with_ops(&plan, plan.ops.to_vec())
}

/// Plans that differ from a right one in one thing.
struct Mutations<'a> {
    plan: &'a Plan<'static>,
    all: Vec<(String, Plan<'static>)>,
}

impl Mutations<'_> {
    fn op(&mut self, i: usize, what: &str, change: impl FnOnce(&mut Op)) {
        let mut ops = self.plan.ops.to_vec();
        change(&mut ops[i]);
        if ops[i] == self.plan.ops[i] {
            return;
        }
        let what = format!("operation {i}, {what}: {:?}", ops[i]);
        self.all.push((what, Plan { ops: ops.into(), ..self.plan.clone() }));
    }

    fn ops(&mut self, what: String, change: impl FnOnce(&mut Vec<Op>)) {
        let mut ops = self.plan.ops.to_vec();
        change(&mut ops);
        self.all.push((what, with_ops(self.plan, ops)));
    }

    fn states(&mut self, what: &str, change: impl FnOnce(&mut Vec<State>)) {
        let mut states = self.plan.states.to_vec();
        change(&mut states);
        let what = format!("{what}: {states:?}");
        self.all.push((what, Plan { states: states.into(), ..self.plan.clone() }));
    }
}

/// Another state than this one: whatever it is, one of the two is then written or read wrongly.
fn other_fixed(plan: &Plan<'_>, own: StateId) -> Option<StateId> {
    let fixed = |s: &State| matches!(s.kind, StateKind::Fixed { .. });
    let at = (0..plan.states.len()).find(|&i| {
        i != own.index() && fixed(&plan.states[i]) != fixed(&plan.states[own.index()])
    })?;
    Some(StateId::new(at as u16))
}

fn of_states(m: &mut Mutations<'_>) {
    let n = m.plan.states.len();
    for i in 0..n {
        m.states("offset", |s| s[i].offset += 64);
        m.states("offset", |s| s[i].offset -= 64);
        m.states("offset", |s| s[i].offset = 0);
        m.states("layer", |s| s[i].layer = 4);
        m.states("layer", |s| s[i].layer = u16::MAX);
        if i > 0 {
            m.states("two of a layer", |s| s[i].layer = s[i - 1].layer);
            m.states("order", |s| s.swap(i - 1, i));
            let same = StateKind::Fixed { bytes: 0 };
            m.states("nothing", |s| {
                s[i].kind = match s[i].kind {
                    StateKind::Fixed { bytes: 0 } => StateKind::Fixed { bytes: 4 },
                    _ => same,
                }
            });
        }
        match m.plan.states[i].kind {
            StateKind::Fixed { bytes } => {
                for wrong in [bytes + 4, bytes.wrapping_sub(4), usize::MAX, usize::MAX / 2] {
                    m.states("bytes", |s| s[i].kind = StateKind::Fixed { bytes: wrong });
                }
            }
            StateKind::Kv { heads, head_dim, window, capacity } => {
                let kv = |heads, head_dim, window, capacity| StateKind::Kv {
                    heads,
                    head_dim,
                    window,
                    capacity,
                };
                for kind in [
                    kv(heads + 1, head_dim, window, capacity),
                    kv(0, head_dim, window, capacity),
                    kv(heads, head_dim + 1, window, capacity),
                    kv(heads, 0, window, capacity),
                    kv(heads, head_dim, window + 1, capacity),
                    kv(heads, head_dim, window.wrapping_sub(1), capacity),
                    kv(heads, head_dim, window, capacity - 64),
                    kv(heads, head_dim, window, capacity + 1),
                    kv(heads, head_dim, window, capacity + 64),
                    kv(heads, head_dim, window, usize::MAX / 64 * 64),
                    kv(heads, head_dim, window, 0),
                ] {
                    m.states("cache", |s| s[i].kind = kind);
                }
            }
            _ => panic!("a kind that is not known here"),
        }
    }
    if n > 0 {
        m.states("one is missing", |s| s.truncate(n - 1));
        m.states("all are missing", Vec::clear);
    }
    m.states("one too many", |s| {
        let offset = m_offset(s);
        s.push(State { layer: 3, kind: StateKind::Fixed { bytes: 64 }, offset });
    });
    let mut less = m.plan.clone();
    less.memory_requirements.state -= 1;
    m.all.push(("less memory for states".into(), less));
}

/// Somewhere behind the states.
fn m_offset(states: &[State]) -> usize {
    states.last().map_or(64, |s| s.offset + 64)
}

/// A tensor that is a vector, of which no operation takes products, and one past all of them.
fn wrong_tensors(spec: &Spec<'_>) -> [TensorId; 2] {
    [spec.id(Role::OutputNorm), TensorId::new(spec.tensors() as u16)]
}

/// Changes of the numbers of an operation.
fn of_numbers(m: &mut Mutations<'_>, i: usize) {
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        m.op(i, "a number", |op| match op {
            Op::Embed(e) => e.scale = x,
            Op::Norm(n) => n.eps = x,
            Op::NormAdd(n) => n.eps = x,
            Op::Linear(l) => l.scale = x,
            Op::Project(p) => p.eps = x,
            Op::Attend(a) => a.scale = x,
            Op::Route(r) => r.scale = x,
            Op::ExpertsDown(e) => e.scale = x,
            Op::LayerInputs(i) => i.eps = x,
            Op::AddToStreams(a) => a.eps = x,
            Op::Merge(m) => m.scale = x,
            Op::SparseGate(s) => s.cut = x,
            Op::GateHeads(g) => g.eps = x,
            _ => {}
        });
        m.op(i, "a second number", |op| match op {
            Op::NormAdd(n) => n.scale = x,
            Op::Attend(a) => a.growth = x,
            Op::Gated(g) => g.act = Activation::SwigluClamped { alpha: x, limit: 1.0 },
            Op::ExpertsGated(g) => g.act = Activation::SwigluClamped { alpha: 1.0, limit: x },
            Op::LayerInputs(i) => i.scale = x,
            Op::Linear(l) => l.cap = Some(x),
            _ => {}
        });
    }
    for w in wrong_tensors(&m.plan.spec) {
        m.op(i, "weights", |op| match op {
            Op::Embed(e) => e.table = w,
            Op::Linear(l) => l.w = w,
            Op::Project(p) => p.w = w,
            Op::Gated(g) => g.gate = w,
            Op::ExpertsGated(e) => e.gate = w,
            Op::ExpertsDown(e) => e.w = w,
            Op::LayerInputs(i) => i.table = w,
            Op::GateInput(g) => g.w = w,
            Op::StreamProducts(s) => s.w = w,
            _ => {}
        });
        m.op(i, "other weights", |op| match op {
            Op::Gated(g) => g.up = w,
            Op::ExpertsGated(e) => e.up = w,
            _ => {}
        });
        m.op(i, "biases", |op| match op {
            Op::Route(r) => r.bias = Some(w),
            Op::ExpertsGated(e) => e.gate_bias = Some(w),
            Op::ExpertsDown(e) => e.bias = Some(w),
            _ => {}
        });
        m.op(i, "other biases", |op| {
            if let Op::ExpertsGated(e) = op {
                e.up_bias = Some(w);
            }
        });
    }
    let matrix = m.plan.spec.id(Role::TokenEmbd);
    m.op(i, "a vector", |op| match op {
        Op::Norm(n) => n.weight = matrix,
        Op::NormAdd(n) => n.weight = matrix,
        Op::Linear(l) => l.bias = Some(matrix),
        Op::Project(p) => p.k_norm = Some(matrix),
        Op::ShortConv(c) => c.taps = matrix,
        Op::DeltaConv(c) => c.taps = matrix,
        Op::DeltaGates(g) => g.bias = matrix,
        Op::GateHeads(g) => g.norm = Some(matrix),
        Op::ExpertsGated(e) => e.gate_bias = Some(matrix),
        Op::ExpertsDown(e) => e.bias = Some(matrix),
        Op::LayerInputs(i) => i.weight = matrix,
        Op::AddToStreams(a) => a.weight = matrix,
        Op::PredictStreams(p) => p.coefs = matrix,
        Op::CorrectStreams(c) => c.coefs = matrix,
        Op::Route(r) => r.scales = Some(matrix),
        _ => {}
    });
    m.op(i, "a factor", |op| {
        if let Op::NormAdd(n) = op {
            n.then = Some(matrix);
        }
    });
    m.op(i, "no bound", |op| {
        if let Op::Linear(l) = op {
            l.cap = Some(0.0);
        }
    });
    let beyond = BufferId::new(m.plan.buffers.len() as u16);
    m.op(i, "a buffer that is not there", |op| match op {
        Op::Embed(e) => e.out = beyond,
        Op::RopeTable(r) => r.out = beyond,
        Op::Norm(n) => n.x = beyond,
        Op::NormAdd(n) => n.out = beyond,
        Op::Linear(l) => l.to = Output::Store(beyond),
        Op::Project(p) => p.x = beyond,
        Op::Gated(g) => g.up_x = beyond,
        Op::Attend(a) => a.q = beyond,
        Op::ShortConv(c) => c.out = beyond,
        Op::Route(r) => r.scores = beyond,
        Op::ExpertsGated(e) => e.routes = beyond,
        Op::ExpertsDown(e) => e.routes = beyond,
        Op::SelectRows(s) => s.x = beyond,
        Op::Convert(c) => c.x = beyond,
        Op::StoreHeads(s) => s.x = beyond,
        Op::ScaleHeads(s) => s.x = beyond,
        Op::LayerInputs(i) => i.x = beyond,
        Op::GateInput(g) => g.inputs = beyond,
        Op::StartStreams(s) => s.x = beyond,
        Op::StreamProducts(s) => s.out = beyond,
        Op::PredictStreams(p) => p.by = beyond,
        Op::CorrectStreams(c) => c.a = beyond,
        Op::AddToStreams(a) => a.streams = beyond,
        Op::EndStreams(e) => e.y = beyond,
        Op::Merge(m) => m.y = beyond,
        Op::SparseGate(s) => s.up = beyond,
        Op::DeltaConv(c) => c.x = beyond,
        Op::DeltaGates(g) => g.decay = beyond,
        Op::DeltaRule(d) => d.beta = beyond,
        Op::GateHeads(g) => g.gate = beyond,
        _ => {}
    });
    m.op(i, "another buffer that is not there", |op| match op {
        Op::ExpertsDown(e) => e.shared = Some(beyond),
        Op::ScaleHeads(s) => s.gate = beyond,
        _ => {}
    });
    m.op(i, "a score that is not there", |op| {
        if let Op::ExpertsDown(e) = op {
            e.shared_score = Some(beyond);
        }
    });
    m.op(i, "a gate that an operation has not", |op| {
        if let Op::Linear(l) = op {
            l.act = Some(Activation::SwigluClamped { alpha: 1.0, limit: 1.0 });
        }
    });
}

const PARTS: [QkvPart; 5] =
    [QkvPart::All, QkvPart::Key, QkvPart::Value, QkvPart::Query, QkvPart::KeyAndValue];
/// Other sizes of linear attention.
fn other_heads(h: teff_graph::ops::DeltaHeads) -> [teff_graph::ops::DeltaHeads; 5] {
    use teff_graph::ops::DeltaHeads;
    [
        DeltaHeads { key_heads: h.key_heads + 1, ..h },
        DeltaHeads { value_heads: h.value_heads + 1, ..h },
        DeltaHeads { key_dim: h.key_dim + 1, ..h },
        DeltaHeads { value_dim: 0, ..h },
        // As many elements, in other heads.
        DeltaHeads { value_heads: h.value_heads * 2, value_dim: h.value_dim / 2, ..h },
    ]
}

/// Changes of the shape of an operation.
fn of_shapes(m: &mut Mutations<'_>, i: usize) {
    let plan = m.plan;
    let state = |id: StateId| plan.states[id.index()].kind;
    let no_state = StateId::new(plan.states.len() as u16);
    match plan.ops[i] {
        Op::RopeTable(_) => m.op(i, "a rope that is not there", |op| {
            if let Op::RopeTable(r) = op {
                r.rope = 7;
            }
        }),
        Op::Convert(c) => {
            for first in [c.first + 1, u32::MAX] {
                m.op(i, "first", |op| *op = Op::Convert(teff_graph::ops::Convert { first, ..c }));
            }
        }
        Op::StreamProducts(s) => {
            for (stack, each) in [(s.stack + 1, s.each), (0, s.each), (s.stack, !s.each)] {
                // One matrix has the same inputs either way.
                if s.stack == 1 && stack == 1 {
                    continue;
                }
                m.op(i, "a stack", |op| {
                    *op = Op::StreamProducts(teff_graph::ops::StreamProducts { stack, each, ..s });
                });
            }
        }
        Op::StartStreams(s) => m.op(i, "active", |op| {
            *op = Op::StartStreams(teff_graph::ops::StartStreams { active: u8::MAX, ..s });
        }),
        Op::AddToStreams(a) => m.op(i, "active", |op| {
            *op = Op::AddToStreams(teff_graph::ops::AddToStreams { active: u8::MAX, ..a });
        }),
        Op::PredictStreams(p) => {
            for (streams, active) in [(p.streams + 1, p.active), (0, 0), (p.streams, p.streams)] {
                m.op(i, "streams", |op| {
                    *op = Op::PredictStreams(teff_graph::ops::PredictStreams {
                        streams,
                        active,
                        ..p
                    });
                });
            }
        }
        Op::CorrectStreams(c) => {
            for (streams, active) in [(c.streams + 1, c.active), (0, 0), (c.streams, c.streams)] {
                m.op(i, "streams", |op| {
                    *op = Op::CorrectStreams(teff_graph::ops::CorrectStreams {
                        streams,
                        active,
                        ..c
                    });
                });
            }
        }
        Op::GateInput(g) => {
            for layer in [plan.spec.layers.len() as u16, u16::MAX] {
                m.op(i, "layer", |op| {
                    *op = Op::GateInput(teff_graph::ops::GateInput { layer, ..g });
                });
            }
        }
        Op::Project(p) => {
            let changed = [
                ("heads", p.heads + 1, p.kv_heads, p.head_dim, p.state),
                ("heads of the cache", p.heads, p.kv_heads + 1, p.head_dim, p.state),
                ("a head's width", p.heads, p.kv_heads, p.head_dim + 1, p.state),
                ("no heads of the cache", p.heads, 0, p.head_dim, p.state),
                ("no width", p.heads, p.kv_heads, 0, p.state),
                ("no state", p.heads, p.kv_heads, p.head_dim, no_state),
            ];
            for (what, heads, kv_heads, head_dim, state) in changed {
                m.op(i, what, |op| {
                    // A product of keys doesn't look at the number of queries.
                    if !(what == "heads"
                        && matches!(p.part, QkvPart::Key | QkvPart::Value | QkvPart::KeyAndValue))
                    {
                        *op = Op::Project(teff_graph::ops::Project {
                            heads,
                            kv_heads,
                            head_dim,
                            state,
                            ..p
                        });
                    }
                });
            }
            for part in PARTS {
                // Where the widths agree, another state lacks what this one has twice.
                m.op(i, "a part", |op| *op = Op::Project(teff_graph::ops::Project { part, ..p }));
            }
            if let Some(state) = other_fixed(plan, p.state) {
                m.op(i, "a fixed state", |op| {
                    *op = Op::Project(teff_graph::ops::Project { state, ..p });
                });
            }
        }
        Op::StoreHeads(s) => {
            let mut changed = vec![
                teff_graph::ops::StoreHeads { heads: s.heads + 1, ..s },
                teff_graph::ops::StoreHeads { heads: 0, ..s },
                teff_graph::ops::StoreHeads { head_dim: s.head_dim + 1, ..s },
                teff_graph::ops::StoreHeads { head_dim: 0, ..s },
                teff_graph::ops::StoreHeads { state: no_state, ..s },
            ];
            for part in PARTS {
                changed.push(teff_graph::ops::StoreHeads { part, ..s });
            }
            if let Some(state) = other_fixed(plan, s.state) {
                changed.push(teff_graph::ops::StoreHeads { state, ..s });
            }
            for s in changed {
                m.op(i, "heads", |op| *op = Op::StoreHeads(s));
            }
        }
        Op::Attend(a) => {
            let StateKind::Kv { window, .. } = state(a.state) else { panic!() };
            let mut changed = vec![
                teff_graph::ops::Attend { heads: a.heads + 1, ..a },
                teff_graph::ops::Attend { heads: 0, ..a },
                teff_graph::ops::Attend { kv_heads: a.kv_heads + 1, ..a },
                teff_graph::ops::Attend { kv_heads: 0, ..a },
                teff_graph::ops::Attend { head_dim: a.head_dim + 1, ..a },
                teff_graph::ops::Attend { state: no_state, ..a },
            ];
            if window > 0 {
                changed.push(teff_graph::ops::Attend { window: 0, ..a });
                changed.push(teff_graph::ops::Attend { window: window + 1, ..a });
                changed.push(teff_graph::ops::Attend { window: u32::MAX, ..a });
            }
            if let Some(state) = other_fixed(plan, a.state) {
                changed.push(teff_graph::ops::Attend { state, ..a });
            }
            for a in changed {
                m.op(i, "attention", |op| *op = Op::Attend(a));
            }
        }
        Op::ShortConv(c) => {
            let mut changed = vec![
                teff_graph::ops::ShortConv { n: c.n + 1, ..c },
                teff_graph::ops::ShortConv { n: c.n - 1, ..c },
                teff_graph::ops::ShortConv { n: 0, ..c },
                teff_graph::ops::ShortConv { state: no_state, ..c },
                teff_graph::ops::ShortConv { taps: plan.spec.id(Role::OutputNorm), ..c },
            ];
            if let Some(state) = other_fixed(plan, c.state) {
                changed.push(teff_graph::ops::ShortConv { state, ..c });
            }
            for c in changed {
                m.op(i, "convolution", |op| *op = Op::ShortConv(c));
            }
        }
        Op::DeltaConv(c) => {
            for (state, n) in [(no_state, c.n), (c.state, c.n + 1), (c.state, c.n - 1)] {
                m.op(i, "convolution", |op| {
                    *op = Op::DeltaConv(teff_graph::ops::DeltaConv { state, n, ..c });
                });
            }
            for heads in other_heads(c.heads) {
                m.op(i, "heads", |op| {
                    *op = Op::DeltaConv(teff_graph::ops::DeltaConv { heads, ..c });
                });
            }
            if let Some(state) = other_fixed(plan, c.state) {
                m.op(i, "a cache", |op| {
                    *op = Op::DeltaConv(teff_graph::ops::DeltaConv { state, ..c });
                });
            }
            m.op(i, "in place", |op| {
                *op = Op::DeltaConv(teff_graph::ops::DeltaConv { out: c.x, ..c });
            });
        }
        Op::DeltaGates(g) => {
            let rate = plan.spec.id(Role::OutputNorm);
            for g in [
                teff_graph::ops::DeltaGates { rate, ..g },
                teff_graph::ops::DeltaGates { decay: g.beta, ..g },
            ] {
                m.op(i, "gates", |op| *op = Op::DeltaGates(g));
            }
        }
        Op::DeltaRule(d) => {
            let mut changed = vec![
                teff_graph::ops::DeltaRule { state: no_state, ..d },
                teff_graph::ops::DeltaRule { x: d.out, ..d },
                teff_graph::ops::DeltaRule { decay: d.out, ..d },
                teff_graph::ops::DeltaRule { out: d.x, ..d },
            ];
            for heads in other_heads(d.heads) {
                changed.push(teff_graph::ops::DeltaRule { heads, ..d });
            }
            if let Some(state) = other_fixed(plan, d.state) {
                changed.push(teff_graph::ops::DeltaRule { state, ..d });
            }
            for d in changed {
                m.op(i, "delta rule", |op| *op = Op::DeltaRule(d));
            }
        }
        Op::GateHeads(g) => {
            for head_dim in [0, g.head_dim + 1] {
                if head_dim == 0 || g.norm.is_some() {
                    m.op(i, "heads", |op| {
                        *op = Op::GateHeads(teff_graph::ops::GateHeads { head_dim, ..g });
                    });
                }
            }
            m.op(i, "its gate in place", |op| {
                *op = Op::GateHeads(teff_graph::ops::GateHeads { gate: g.out, ..g });
            });
        }
        Op::Route(r) => {
            for used in [0, r.used + 1, r.used.wrapping_sub(1), u16::MAX] {
                m.op(i, "used", |op| *op = Op::Route(teff_graph::ops::Route { used, ..r }));
            }
            let router = match r.router {
                Router::Sigmoid { bias: true } => Router::Softmax,
                _ => Router::Sigmoid { bias: true },
            };
            m.op(i, "router", |op| *op = Op::Route(teff_graph::ops::Route { router, ..r }));
        }
        Op::ExpertsGated(e) => {
            for (experts, used) in
                [(e.experts + 1, e.used), (e.experts - 1, e.used), (0, e.used), (1, e.used)]
                    .into_iter()
                    .chain([(e.experts, e.used + 1), (e.experts, e.used - 1), (e.experts, 0)])
            {
                m.op(i, "experts", |op| {
                    *op = Op::ExpertsGated(teff_graph::ops::ExpertsGated { experts, used, ..e });
                });
            }
        }
        Op::ExpertsDown(e) => {
            let wrong = e.routes;
            m.op(i, "outputs of another width", |op| {
                *op = Op::ExpertsDown(teff_graph::ops::ExpertsDown { shared: Some(wrong), ..e });
            });
            m.op(i, "a score of another width", |op| {
                *op = Op::ExpertsDown(teff_graph::ops::ExpertsDown {
                    shared_score: Some(wrong),
                    ..e
                });
            });
            for (experts, used) in
                [(e.experts + 1, e.used), (e.experts - 1, e.used), (0, e.used), (1, e.used)]
                    .into_iter()
                    .chain([(e.experts, e.used + 1), (e.experts, e.used - 1), (e.experts, 0)])
            {
                m.op(i, "experts", |op| {
                    *op = Op::ExpertsDown(teff_graph::ops::ExpertsDown { experts, used, ..e });
                });
            }
        }
        _ => {}
    }
}

/// Operations that are missing, there twice, or in the wrong place.
fn of_places(m: &mut Mutations<'_>, i: usize) {
    let plan = m.plan;
    let op = plan.ops[i];
    let stores = match op {
        Op::Barrier => return,
        Op::Linear(l) => matches!(l.to, Output::Store(_)),
        Op::ExpertsDown(e) => matches!(e.to, Output::Store(_)),
        Op::NormAdd(_) | Op::Merge(_) | Op::AddToStreams(_) | Op::DeltaGates(_) => false,
        _ => true,
    };
    // All write something, which two must not do in one phase.
    m.ops(format!("operation {i} twice: {op:?}"), |ops| ops.insert(i, op));
    if stores {
        m.ops(format!("without operation {i}: {op:?}"), |ops| {
            ops.remove(i);
        });
    }
    // The last product may as well be in a phase of its own.
    if stores && plan.ops[i..].contains(&Op::Barrier) {
        m.ops(format!("operation {i} at the end: {op:?}"), |ops| {
            ops.remove(i);
            ops.extend([Op::Barrier, op]);
        });
    }
    if let Op::Project(p) = op
        && p.part != QkvPart::Query
    {
        // Written again in a phase of its own, after attention.
        m.ops(format!("two writers: {op:?}"), |ops| ops.extend([Op::Barrier, op]));
    }
    if let Op::Attend(_) = op {
        // Before what it reads is written: one phase earlier.
        if let Some(barrier) = plan.ops[..i].iter().rposition(|o| *o == Op::Barrier) {
            m.ops(format!("too early: {op:?}"), |ops| {
                ops.remove(i);
                ops.insert(barrier, op);
            });
        }
    }
}

fn mutations<'a>(plan: &'a Plan<'static>) -> Vec<(String, Plan<'static>)> {
    let mut m = Mutations::<'a> { plan, all: vec![] };
    of_states(&mut m);
    for i in 0..plan.ops.len() {
        of_numbers(&mut m, i);
        of_shapes(&mut m, i);
        of_places(&mut m, i);
    }
    m.all
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn changed_operations_and_states_do_not_verify(
        spec in any_spec(), seed: u64, kv in any_kv(), batch in 1usize..40, context in 1usize..192,
    ) {
        let o = Options { batch, logits: 1, context, kv, outputs: Outputs::Logits, pages: 0 };
        let plan =
            roomy(&Plan::build(&spec, &|id| format_of(&spec, id, seed), &o, &Scalar).unwrap());
        prop_assert_eq!(plan.verify(), Ok(()));
        for (what, changed) in mutations(&plan) {
            prop_assert!(changed.verify().is_err(), "{}", what);
        }
    }
}

#[test]
fn what_is_wrong_has_a_name() {
    let spec = everything();
    let o = Options {
        batch: 8,
        logits: 2,
        context: 500,
        kv: KvFormat::F32,
        outputs: Outputs::Logits,
        pages: 0,
    };
    let plan = roomy(&Plan::build(&spec, &|_| Format::F32, &o, &Scalar).unwrap());
    assert_eq!(plan.verify(), Ok(()));
    let at = |f: &dyn Fn(&Op) -> bool| plan.ops.iter().position(f).unwrap();
    let verdict = |change: &dyn Fn(&mut Vec<Op>)| {
        let mut ops = plan.ops.to_vec();
        change(&mut ops);
        with_ops(&plan, ops).verify()
    };
    // A cache needs its keys, once, and before the layer that shares it reads them.
    let keys = at(&|op| matches!(op, Op::Project(p) if p.part == QkvPart::Key));
    let wrong = Err(PlanError::State { state: 0 });
    let key = plan.ops[keys];
    assert_eq!(verdict(&|ops| assert_eq!(ops.remove(keys), key)), wrong);
    assert_eq!(verdict(&|ops| ops.insert(keys, key)), wrong);
    assert_eq!(verdict(&|ops| ops.extend([Op::Barrier, key])), wrong);
    let late = verdict(&|ops| {
        ops.remove(keys);
        ops.extend([Op::Barrier, key]);
    });
    assert_eq!(late, wrong);
    // The caches of the first attention and of the windowed one, exchanged.
    assert_eq!(plan.states.len(), 8);
    let attend = at(&|op| matches!(op, Op::Attend(_)));
    let swapped = verdict(&|ops| {
        for op in ops.iter_mut() {
            if let Op::Attend(a) = op
                && a.state.index() < 3
            {
                a.state = StateId::new(2 - a.state.index() as u16);
            }
        }
    });
    assert_eq!(swapped, Err(PlanError::Shape { op: attend }));
    // Another number of experts than the router chose.
    let route = at(&|op| matches!(op, Op::Route(_)));
    let used = verdict(&|ops| match &mut ops[route] {
        Op::Route(r) => r.used = 1,
        _ => unreachable!(),
    });
    assert_eq!(used, Err(PlanError::Shape { op: route }));
    // A choice that is too wide.
    let Op::Route(choice) = plan.ops[route] else { unreachable!() };
    let mut wide = plan.clone();
    let mut buffers = wide.buffers.to_vec();
    buffers[choice.out.index()].cols += 1;
    wide.buffers = buffers.into();
    assert_eq!(wide.verify(), Err(PlanError::Shape { op: route }));
    // Logits in a buffer that no operation writes.
    let mut unwritten = plan.clone();
    let mut buffers = unwritten.buffers.to_vec();
    buffers.push(*plan.buffer(plan.logits.unwrap()));
    buffers[plan.buffers.len()].offset = plan.memory_requirements.scratch;
    unwritten.memory_requirements.scratch *= 2;
    unwritten.logits = Some(BufferId::new(plan.buffers.len() as u16));
    unwritten.buffers = buffers.into();
    let buffer = plan.buffers.len() as u16;
    assert_eq!(unwritten.verify(), Err(PlanError::Hazard { buffer }));
    // More buffers than have numbers.
    let mut many = plan.clone();
    let mut buffers = many.buffers.to_vec();
    buffers.resize(usize::from(u16::MAX) + 1, buffers[0]);
    many.buffers = buffers.into();
    assert_eq!(many.verify(), Err(PlanError::Capacity { capacity: u16::MAX.into() }));
}

/// A layer of three experts that reads another layer's choice among eight.
#[test]
fn a_choice_is_of_so_many_experts() {
    let spec = everything();
    let experts = |n| {
        let mut layer = *spec.layers.get(0);
        if let FeedForward::Experts(e) = &mut layer.ffn {
            e.experts = n;
        }
        layer
    };
    let all = [experts(8), experts(3), *spec.layers.get(1)];
    let spec = Spec { layers: layers(&all), ..spec };
    let o = Options {
        batch: 8,
        logits: 2,
        context: 500,
        kv: KvFormat::F32,
        outputs: Outputs::Logits,
        pages: 0,
    };
    let plan = roomy(&Plan::build(&spec, &|_| Format::F32, &o, &Scalar).unwrap());
    let mut ops = plan.ops.to_vec();
    let route = |op: &Op| if let Op::Route(r) = op { Some(r.out) } else { None };
    let first = ops.iter().find_map(route).unwrap();
    let gated = ops.iter().position(|op| matches!(op, Op::ExpertsGated(e) if e.experts == 3));
    for op in &mut ops {
        match op {
            Op::ExpertsGated(e) if e.experts == 3 => e.routes = first,
            Op::ExpertsDown(e) if e.experts == 3 => e.routes = first,
            _ => {}
        }
    }
    let forged = with_ops(&plan, ops);
    assert_eq!(forged.verify(), Err(PlanError::Shape { op: gated.unwrap() }));
}

/// Experts whose inner width is no whole groups of ternary weights' inputs.
#[test]
#[cfg(feature = "ternary")]
fn formats_that_do_not_fit_are_errors_of_their_operation() {
    let spec = everything();
    let spec = spec.with_layers(|mut layer| {
        match &mut layer.ffn {
            FeedForward::Experts(e) => e.inner = 128,
            FeedForward::DenseAndExperts(both) => both.experts.inner = 128,
            _ => {}
        }
        layer
    });
    let format = |id| match spec.slot(id).unwrap().role {
        Role::Layer(_, teff_graph::LayerRole::ExpertDown) => Format::I2_S,
        _ => Format::F32,
    };
    let o = Options {
        batch: 8,
        logits: 2,
        context: 500,
        kv: KvFormat::F32,
        outputs: Outputs::Logits,
        pages: 0,
    };
    let got = Plan::build(&spec, &format, &o, &Scalar).map(|_| ());
    assert!(matches!(got, Err(PlanError::Shape { .. })), "{got:?}");
    // Rows of 20 elements are no blocks at all.
    let narrow = Spec { width: 20, ..everything() };
    let got = Plan::build(&narrow, &|_| Format::Q8_0, &o, &Scalar).map(|_| ());
    assert!(got.is_err(), "{got:?}");
}
