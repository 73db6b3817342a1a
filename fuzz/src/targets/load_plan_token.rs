//! Arbitrary bytes as a model: loaded, planned, one token computed. Memory stays within the limits
//! stated from the file's size and then from the plan.

use super::super::Counting;
use teff_graph::LogitsFor;
use teff_runtime::{LoadOptions, Model, SessionOptions};

/// Memory that a session takes beyond what it reports: boxes of fixed size.
const FIXED: usize = 16 << 10;

/// Checks one input.
pub fn run(file: &[u8]) {
    let (bytes, len) = (file.to_vec(), file.len());
    let load = || Model::from_bytes(bytes, &LoadOptions::default());
    let (model, peak) = Counting::peak_of(load);
    assert!(peak <= 2 * len + (1 << 20), "loading took {peak} bytes for a file of {len}");
    let model = match model {
        Ok(model) => model,
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    assert!(model.tensor_infos().count() == model.spec().tensors());
    let options = SessionOptions {
        context: Some(model.spec().context.min(64) as usize),
        batch: 4,
        threads: Some(1),
        budget: Some(64 << 20),
        ..SessionOptions::default()
    };
    let (needs, peak) = Counting::peak_of(|| model.memory_requirements(&options));
    let needs = match needs {
        Ok(needs) => needs.total(),
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    // Computing the requirements builds the plan, which is part of them.
    assert!(needs <= 64 << 20 && peak <= 2 * needs + FIXED, "{peak} bytes to plan {needs}");
    let (session, peak) = Counting::peak_of(|| model.session(&options));
    let mut session = session.expect("what fits the budget, and a heap that has it");
    assert!(peak <= needs + FIXED, "a session of {needs} bytes took {peak}");
    let token = file.last().map_or(0, |&b| u32::from(b)) % model.spec().vocab;
    let (logits, peak) =
        Counting::peak_of(|| session.eval(&[token], LogitsFor::Last).map(<[f32]>::len));
    assert_eq!(logits.ok(), Some(model.spec().vocab as usize));
    assert_eq!(peak, 0, "a token took memory");
}
