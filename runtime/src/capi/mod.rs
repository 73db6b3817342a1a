//! C interface, declared in `runtime/include/teff.h`, which documents for each function its effect,
//! ownership and thread safety. (`tests/capi.rs` compares the two.)
//!
//! Callers are trusted no further than C requires: pointers are checked for NULL and for alignment,
//! lengths against what memory can hold, options for their size, texts for UTF-8, and a session or
//! request in use returns `TEFF_BUSY`. The rest is in the `Safety` section of every function: that a pointer
//! points to as many elements as stated, and that an object has not been freed.
//!
//! Every function runs inside `status::guard`, so no panic leaves it.

mod args;
mod engine;
mod model;
mod options;
mod session;
mod status;

pub use engine::{
    TEFF_EVENT_END, TEFF_EVENT_FAILED, TEFF_EVENT_FINISHED, TEFF_EVENT_NONE, TEFF_EVENT_PIECE,
    TEFF_EVENT_PROMPT, TEFF_WAIT, TeffEngine, TeffEngineCounts, TeffEngineInfo, TeffEngineOptions,
    TeffEvent, TeffRequest, teff_engine_describe, teff_engine_free, teff_engine_memory,
    teff_engine_new, teff_engine_stats, teff_engine_submit, teff_request_cancel, teff_request_free,
    teff_request_poll,
};
pub use model::{
    TeffModel, teff_detokenize, teff_model_describe, teff_model_free, teff_model_needs,
    teff_model_open, teff_model_open_bytes, teff_token_bytes, teff_token_ends, teff_tokenize,
};
pub use options::{
    TEFF_ADD_BOS, TEFF_KV_F16, TEFF_KV_F32, TEFF_KV_Q8, TEFF_LOAD_READ, TEFF_LOAD_REPACK,
    TEFF_NO_TOKEN, TEFF_PARSE_SPECIAL, TeffGenerateOptions, TeffLoadOptions, TeffModelInfo,
    TeffNeeds, TeffSessionInfo, TeffSessionOptions,
};
pub use session::{
    TEFF_FINISH_CALLBACK, TEFF_FINISH_CANCELLED, TEFF_FINISH_CONTEXT, TEFF_FINISH_DEADLINE,
    TEFF_FINISH_END, TEFF_FINISH_LENGTH, TEFF_FINISH_NONE, TEFF_FINISH_STOP, TEFF_LOGITS_ALL,
    TEFF_LOGITS_LAST, TEFF_LOGITS_NONE, TeffOnText, TeffSession, teff_session_cancel,
    teff_session_describe, teff_session_fork, teff_session_free, teff_session_generate,
    teff_session_generate_tokens, teff_session_new, teff_session_restore, teff_session_resume,
    teff_session_save, teff_session_set_timeout, teff_session_step, teff_session_tokens,
    teff_session_truncate,
};
pub use status::{STATUSES, teff_error_text, teff_status_name};

use core::ffi::{CStr, c_char};

/// Version as a C string.
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no zeros"),
    };

/// Version of the library, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn teff_version() -> *const c_char {
    VERSION.as_ptr()
}
