//! Arbitrary bytes as a snapshot of a session. A session continues if it can be restored, and is
//! unchanged otherwise.
#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use teff_fuzz::tiny_gguf;
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

fuzz_target!(|bytes: &[u8]| {
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
});
