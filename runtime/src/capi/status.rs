//! Status codes, error text of each thread, and the barrier against panics.

use core::any::Any;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use teff_graph::gguf::GgufError;
use teff_graph::{ArenaError, PlanError, RunnerError, SpecError, StepError};

use crate::config::ConfigError;
use crate::engine::EngineError;
use crate::model::{LoadError, LoadErrorKind};
use crate::pool::PoolError;
use crate::sample::SamplingError;
use crate::session::SessionError;
use crate::tokenizer::TokenizerError;

macro_rules! statuses {
    ($($variant:ident $c:literal $value:literal $doc:literal)*) => {
        /// Return value of a function; in C the constants `TEFF_OK` and so on.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(i32)]
        pub(super) enum Status {
            $(#[doc = $doc] $variant = $value,)*
        }

        /// All status codes with their names in C.
        pub const STATUSES: &[(i32, &CStr)] = &[$(($value, $c)),*];
    };
}

statuses! {
    Ok c"TEFF_OK" 0 "Done."
    Null c"TEFF_NULL" 1 "A pointer is NULL that must not be."
    Argument c"TEFF_ARGUMENT" 2 "A value is out of range or contradicts another."
    Utf8 c"TEFF_UTF8" 3 "A text is not UTF-8."
    Buffer c"TEFF_BUFFER" 4 "A buffer of the caller's is too small."
    Io c"TEFF_IO" 5 "A file can't be read."
    Model c"TEFF_MODEL" 6 "A file is no model, or damaged."
    Unsupported c"TEFF_UNSUPPORTED" 7 "A model that Teff has no code for."
    Budget c"TEFF_BUDGET" 8 "More memory is needed than the caller allows."
    Memory c"TEFF_MEMORY" 9 "The system refused memory."
    Threads c"TEFF_THREADS" 10 "The system refused threads."
    Tokenizer c"TEFF_TOKENIZER" 11 "The model has no tokenizer, or it can't take the text."
    Token c"TEFF_TOKEN" 12 "A token that the vocabulary lacks."
    Context c"TEFF_CONTEXT" 13 "The context has no room."
    Empty c"TEFF_EMPTY" 14 "There is nothing to compute or to continue."
    Cancelled c"TEFF_CANCELLED" 15 "It was cancelled or the time is over."
    Busy c"TEFF_BUSY" 16 "Another call on this object is under way, or too many requests wait."
    Snapshot c"TEFF_SNAPSHOT" 17 "Bytes that are no snapshot of such a session."
    Numbers c"TEFF_NUMBERS" 18 "Logits that nothing can be drawn from."
    Panic c"TEFF_PANIC" 19 "An error inside Teff."
}

/// Status with its text.
#[derive(Debug)]
pub(super) struct Fail {
    status: Status,
    text: String,
}

impl Fail {
    pub(super) fn new(status: Status, text: impl fmt::Display) -> Self {
        Fail { status, text: text.to_string() }
    }

    pub(super) fn is(&self, status: Status) -> bool {
        self.status == status
    }

    /// Status and text.
    pub(super) fn into_parts(self) -> (Status, String) {
        (self.status, self.text)
    }

    /// Error of a value that is invalid for a parameter.
    pub(super) fn argument(text: impl fmt::Display) -> Self {
        Fail::new(Status::Argument, text)
    }
}

/// Result of the inner part of a function.
pub(super) type Done<T = ()> = Result<T, Fail>;

/// Bytes of a thread's error text, including its final 0. Longer texts end in an ellipsis.
const TEXT: usize = 1024;

thread_local! {
    // Plain bytes: storing an error allocates nothing, and a thread leaves nothing behind.
    static LAST: UnsafeCell<[u8; TEXT]> = const { UnsafeCell::new([0; TEXT]) };
}

fn set_text(text: &str) {
    const DOTS: &str = "...";
    let (mut end, mut tail) = (text.len(), "");
    if end >= TEXT {
        (end, tail) = (TEXT - 1 - DOTS.len(), DOTS);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
    }
    LAST.with(|last| {
        // SAFETY: the bytes are this thread's alone, nothing below calls anything that reads them,
        // and no reference to them lives longer than this closure.
        let last = unsafe { &mut *last.get() };
        last[..end].copy_from_slice(&text.as_bytes()[..end]);
        // A text with a zero in it would end there for C; a replacement keeps the rest visible.
        last[..end].iter_mut().filter(|b| **b == 0).for_each(|b| *b = b'?');
        last[end..end + tail.len()].copy_from_slice(tail.as_bytes());
        last[end + tail.len()] = 0;
    });
}

/// Text of the last error in this thread; empty before the first. The next error in this thread
/// overwrites it.
#[unsafe(no_mangle)]
pub extern "C" fn teff_error_text() -> *const c_char {
    LAST.with(|last| last.get().cast_const().cast())
}

/// Name of a status, such as `TEFF_BUSY`; `unknown status` for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn teff_status_name(status: i32) -> *const c_char {
    let known = STATUSES.iter().find(|(value, _)| *value == status);
    known.map_or(c"unknown status", |(_, name)| name).as_ptr()
}

/// Drops the payload of a panic, whose own destructor may panic.
fn forget(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(second);
    }
}

/// Runs the inner part of a function: an error becomes a status and this thread's text, and so does
/// a panic. (With `panic = "abort"` there is nothing to catch.)
///
/// State that a panic may leave inconsistent is behind a session's lock, which it poisons.
pub(super) fn guard(inside: impl FnOnce() -> Done) -> i32 {
    let failed = match catch_unwind(AssertUnwindSafe(inside)) {
        Ok(Ok(())) => return Status::Ok as i32,
        Ok(Err(fail)) => fail,
        Err(payload) => {
            let said = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
                (Some(text), _) => text,
                (None, Some(text)) => text.as_str(),
                (None, None) => "no text",
            };
            let fail = Fail::new(
                Status::Panic,
                format_args!("an error inside Teff, please report it: {said}"),
            );
            forget(payload);
            fail
        }
    };
    set_text(&failed.text);
    failed.status as i32
}

impl From<LoadError> for Fail {
    fn from(e: LoadError) -> Self {
        use LoadErrorKind as E;
        let status = match &e.kind {
            E::Io(_) => Status::Io,
            E::TooLarge { .. } | E::OutOfMemory { .. } => Status::Memory,
            E::Budget { .. } => Status::Budget,
            E::NotQuantized { .. } | E::NoQuantizer | E::AlreadyQuantized { .. } => {
                Status::Argument
            }
            E::UnknownArchitecture { .. }
            | E::Config(ConfigError::UnknownArchitecture { .. })
            | E::Spec(SpecError::Unsupported { .. })
            | E::UnknownTensor { .. }
            | E::Dtype { .. }
            | E::QuantizedVector { .. }
            | E::QuantizedTensor { .. }
            | E::Split { .. }
            | E::TooManyTensors { .. } => Status::Unsupported,
            E::Tokenizer(_) => Status::Tokenizer,
            E::Gguf(e) => match **e {
                GgufError::BigEndian
                | GgufError::Version { .. }
                | GgufError::UnknownFormat { .. } => Status::Unsupported,
                _ => Status::Model,
            },
            _ => Status::Model,
        };
        Fail::new(status, e)
    }
}

impl From<SessionError> for Fail {
    fn from(e: SessionError) -> Self {
        use SessionError as E;
        let status = match &e {
            E::Budget { .. } => Status::Budget,
            E::Backend { .. } | E::Repacked { .. } | E::Draft(_) => Status::Argument,
            E::Plan(e) | E::Runner(RunnerError::Plan(e)) => of_plan(e),
            E::Runner(RunnerError::Arena(ArenaError::OutOfMemory { .. }))
            | E::Sampling(SamplingError::Memory { .. }) => Status::Memory,
            E::Runner(RunnerError::Threads(_)) => Status::Argument,
            E::Runner(_) => Status::Panic,
            E::Pool(PoolError::Spawn { .. }) => Status::Threads,
            E::Pool(PoolError::NoThreads | PoolError::TooManyThreads { .. }) => Status::Argument,
            E::Pool(_) => Status::Panic,
            E::Step(StepError::ContextFull { .. }) => Status::Context,
            E::Step(StepError::BadToken { .. }) => Status::Token,
            E::Step(StepError::Cancelled) => Status::Cancelled,
            E::Step(StepError::Empty) | E::EmptyPrompt => Status::Empty,
            E::Step(StepError::BatchTooLarge { .. } | StepError::TooManyLogits { .. }) => {
                Status::Argument
            }
            E::Step(_) => Status::Panic,
            E::Sampling(_) => Status::Argument,
            E::Sample(_) => Status::Numbers,
            E::Constraint(_) => Status::Argument,
            E::Tokenizer(e) => of_tokenizer(e),
            E::NoTokenizer(_) => Status::Tokenizer,
            E::EmptyStop { .. } | E::StopToken { .. } | E::LogitBias { .. } | E::NoLogits => {
                Status::Argument
            }
            E::Window { .. } | E::ShortText { .. } => Status::Argument,
            E::Snapshot(_) | E::Restore(_) => Status::Snapshot,
        };
        Fail::new(status, e)
    }
}

impl From<EngineError> for Fail {
    fn from(e: EngineError) -> Self {
        use EngineError as E;
        let status = match e {
            E::Session(e) => return e.into(),
            E::Cache { .. } => Status::Budget,
            E::Option { .. } | E::Constraint(_) => Status::Argument,
            E::PromptTooLong { .. } => Status::Context,
            E::Busy { .. } => Status::Busy,
            E::Step { .. } => Status::Panic,
            E::Io(_) => Status::Io,
            E::Ended => Status::Cancelled,
        };
        Fail::new(status, e)
    }
}

fn of_plan(e: &PlanError) -> Status {
    match e {
        PlanError::Context { .. } | PlanError::Logits { .. } => Status::Argument,
        PlanError::Overflow => Status::Memory,
        PlanError::Spec(_) => Status::Model,
        _ => Status::Panic,
    }
}

fn of_tokenizer(e: &TokenizerError) -> Status {
    match e {
        TokenizerError::NoSuchId { .. } => Status::Token,
        TokenizerError::TextTooLong { .. } => Status::Argument,
        _ => Status::Tokenizer,
    }
}

impl From<TokenizerError> for Fail {
    fn from(e: TokenizerError) -> Self {
        Fail::new(of_tokenizer(&e), e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        // SAFETY: the text of this thread ends with a zero, and nothing fails in the meantime.
        unsafe { CStr::from_ptr(teff_error_text()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn no_panic_leaves() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a destructor");
            }
        }
        std::thread::spawn(|| {
            assert_eq!(text(), "");
            assert_eq!(guard(|| panic!("at {}", 7)), Status::Panic as i32);
            assert!(text().ends_with("at 7"), "{}", text());
            assert_eq!(guard(|| std::panic::panic_any(Bomb)), Status::Panic as i32);
            assert!(text().ends_with("no text"), "{}", text());
            assert_eq!(guard(|| Ok(())), 0);
        })
        .join()
        .unwrap();
        // The errors of another thread are not this one's.
        assert_eq!(guard(|| Err(Fail::argument("mine"))), Status::Argument as i32);
        std::thread::spawn(|| guard(|| Err(Fail::argument("theirs")))).join().unwrap();
        assert_eq!(text(), "mine");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        for (before, long) in (0..4).map(|n| (n, "x".repeat(n) + &"\u{20ac}".repeat(400))) {
            set_text(&long);
            let cut = text();
            assert!(cut.len() < TEXT && cut.len() > TEXT - 8, "{before}: {}", cut.len());
            let start = cut.strip_suffix("...").unwrap();
            assert!(long.starts_with(start));
        }
        set_text(&"y".repeat(TEXT - 1));
        assert_eq!(text(), "y".repeat(TEXT - 1));
        set_text("a\0b");
        assert_eq!(text(), "a?b");
    }

    #[test]
    fn every_status_has_one_name() {
        for (i, (value, name)) in STATUSES.iter().enumerate() {
            assert_eq!(i as i32, *value);
            // SAFETY: names are static and end with a zero.
            assert_eq!(unsafe { CStr::from_ptr(teff_status_name(*value)) }, *name);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { CStr::from_ptr(teff_status_name(-1)) }, c"unknown status");
    }
}
