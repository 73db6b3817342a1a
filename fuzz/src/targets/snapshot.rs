//! Arbitrary bytes as a snapshot of a session, with the checksum that belongs to them. A session
//! continues if it can be restored, and is unchanged otherwise.

use std::cell::RefCell;
use std::sync::LazyLock;

use super::super::tiny_gguf;
use teff_graph::LogitsFor;
use teff_kernels::Format;
use teff_runtime::{LoadOptions, Model, Session, SessionOptions};

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let file = tiny_gguf(Format::Q8_0, false);
    Model::from_bytes(file, &LoadOptions::default()).expect("a model of ours")
});

thread_local! {
    static SESSION: RefCell<Session<'static>> = RefCell::new({
        let options = SessionOptions {
            context: Some(16),
            batch: 4,
            threads: Some(1),
            ..SessionOptions::default()
        };
        MODEL.session(&options).expect("a session of some kilobytes")
    });
}

/// Offset of the checksum, and of what follows it.
const SUM: (usize, usize) = (36, 44);

/// Replaces the checksum by the right one.
fn seal(bytes: &mut [u8]) {
    if bytes.len() < SUM.1 {
        return;
    }
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for part in [&bytes[..SUM.0], &bytes[SUM.1..]] {
        // A last word is there even where nothing is left for it.
        for at in (0..=part.len() / 8 * 8).step_by(8) {
            let mut word = [0; 8];
            let rest = &part[at..part.len().min(at + 8)];
            word[..rest.len()].copy_from_slice(rest);
            sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum ^= sum >> 32;
        }
    }
    bytes[SUM.0..SUM.1].copy_from_slice(&sum.to_le_bytes());
}

/// Checks one input.
pub fn run(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    let bytes = &bytes[..];
    SESSION.with_borrow_mut(|session| {
        session.truncate(0);
        session.eval(&[1, 2, 3], LogitsFor::Last).expect("three tokens");
        match session.restore(bytes) {
            Ok(()) => {
                assert_eq!(session.snapshot(), bytes);
                assert!(session.computed() <= session.tokens().len());
                assert!(session.tokens().len() <= session.context());
                if session.tokens().len() < session.context() {
                    session.eval(&[5], LogitsFor::Last).expect("room for one more");
                }
            }
            Err(e) => {
                assert!(!e.to_string().is_empty());
                assert_eq!(session.tokens(), [1, 2, 3]);
                assert_eq!(session.computed(), 3);
            }
        }
    });
}
