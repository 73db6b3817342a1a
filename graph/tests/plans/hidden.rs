//! Hidden states: they are what the head multiplies, and asking for them changes no bit of the
//! logits.

#![cfg(feature = "alloc")]

use proptest::prelude::*;
use teff_graph::plan::BufferType;
use teff_graph::{
    LogitsFor, NeverCancel, Options, Outputs, PlanError, Role, Segment, SequenceId, Spec,
};
use teff_kernels::{Cpu, Format, KvFormat};

use crate::common::draw::{any_kv, any_spec, everything, format_of};
use crate::common::{Model, Room, bits, cases, run_on, tokens};

/// Tokens of two sequences, of which the first has outputs for all, the second for its last.
fn outputs(model: &Model, options: &Options, threads: usize) -> (Vec<f32>, Vec<f32>) {
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, options, Cpu::best(), (threads, 2));
    let (mut logits, mut hidden) = (vec![], vec![]);
    for step in 0..2 {
        let (a, b) = (tokens(step, 3, model.spec.vocab), tokens(9 + step, 4, model.spec.vocab));
        let segments = [
            Segment { sequence: SequenceId(0), tokens: &a, logits: LogitsFor::All },
            Segment { sequence: SequenceId(1), tokens: &b, logits: LogitsFor::Last },
        ];
        logits.extend(run_on(&mut runner, &segments, &NeverCancel, threads).unwrap());
        hidden.extend_from_slice(runner.hidden(4));
    }
    (logits, hidden)
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn the_same_bits_whatever_is_asked_for(
        spec in any_spec(), kv in any_kv(), seed: u64, threads in 1usize..4,
    ) {
        let model = Model::new(spec.clone(), |id| format_of(&spec, id, seed));
        let of = |which| Options { batch: 7, logits: 4, context: 32, kv, outputs: which, pages: 0 };
        let (logits, none) = outputs(&model, &of(Outputs::Logits), 1);
        let (no_logits, hidden) = outputs(&model, &of(Outputs::Hidden), threads);
        let both = outputs(&model, &of(Outputs::Both), threads);
        prop_assert!(none.is_empty() && no_logits.is_empty());
        prop_assert_eq!(logits.len(), 8 * spec.vocab as usize);
        prop_assert_eq!(hidden.len(), 8 * spec.width as usize);
        prop_assert_eq!((bits(&both.0), bits(&both.1)), (bits(&logits), bits(&hidden)));
    }
}

/// The product of the head and hidden states, computed in f64, is the logits.
#[test]
fn the_head_turns_hidden_states_into_logits() {
    let spec = everything();
    let model = Model::new(spec.clone(), |_| Format::F32);
    let (kv, outputs_of) = (KvFormat::F32, Outputs::Both);
    let options = Options { batch: 7, logits: 4, context: 32, kv, outputs: outputs_of, pages: 0 };
    let (logits, hidden) = outputs(&model, &options, 1);
    let head = model.values(Role::Output);
    let (width, vocab) = (spec.width as usize, spec.vocab as usize);
    let (mut error, mut size) = (0.0, 0.0);
    for (h, logits) in hidden.chunks(width).zip(logits.chunks(vocab)) {
        for (row, got) in head.chunks(width).zip(logits) {
            let want: f64 = row.iter().zip(h).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            let mut want = want / f64::from(spec.logit_divisor);
            if let Some(cap) = spec.logit_cap {
                want = f64::from(cap) * (want / f64::from(cap)).tanh();
            }
            error += (f64::from(*got) - want).powi(2);
            size += want.powi(2);
        }
    }
    assert!(size > 1.0 && error / size < 1e-12, "{error} of {size}");
}

/// Hidden states alone need neither the head's product nor memory for logits.
#[test]
fn hidden_states_alone_have_no_head() {
    let spec = Spec { vocab: 5000, ..everything() };
    let model = Model::new(spec.clone(), |_| Format::Q8_0);
    let plan = |outputs| {
        let options =
            Options { batch: 8, logits: 8, context: 32, kv: KvFormat::F32, outputs, pages: 0 };
        model.plan(&options, &Cpu::best())
    };
    let (logits, hidden, both) =
        (plan(Outputs::Logits), plan(Outputs::Hidden), plan(Outputs::Both));
    let head = spec.id(Role::Output);
    let has_head = |p: &teff_graph::Plan<'_>| {
        p.ops.iter().any(|op| matches!(op, teff_graph::ops::Op::Linear(l) if l.w == head))
    };
    assert!(has_head(&logits) && !has_head(&hidden) && has_head(&both));
    assert!(
        hidden.memory_requirements.scratch + 8 * 5000 * 4 / 2 < logits.memory_requirements.scratch
    );
    let more = both.memory_requirements.scratch - logits.memory_requirements.scratch;
    assert!(more <= 8 * spec.width as usize * 4, "{more} bytes more");

    // A plan has the outputs that its options name, in buffers of their shapes.
    let wrong = |p: teff_graph::Plan<'static>| matches!(p.verify(), Err(PlanError::Shape { .. }));
    assert!(wrong(teff_graph::Plan { hidden: None, ..both.clone() }));
    assert!(wrong(teff_graph::Plan { logits: None, ..both.clone() }));
    assert!(wrong(teff_graph::Plan { logits: None, ..logits.clone() }));
    assert!(wrong(teff_graph::Plan { hidden: both.logits, ..both.clone() }));
    let kept = both.buffers[both.hidden.unwrap().index()];
    assert_eq!((kept.kind, kept.cols), (BufferType::F32, spec.width));
    let mut buffers = both.buffers.to_vec();
    buffers[both.hidden.unwrap().index()].dies -= 1;
    let early = teff_graph::Plan { buffers: buffers.into(), ..both.clone() };
    assert!(matches!(early.verify(), Err(PlanError::Hazard { .. })));
}
