//! The C interface, declared for C in `runtime/include/teff.h`, which says for each function what it
//! does, who owns what, and which threads may call it. (`tests/capi.rs` compares the two.)
//!
//! Nothing here trusts its caller further than C forces it to: pointers are compared to NULL and to
//! their alignment, lengths to what memory can have, options to their size, texts to UTF-8; a
//! session that is in use says so. What can't be checked is in every function's `Safety`: that a
//! pointer points to as much as is said, and that an object has not been freed.
//!
//! Every function runs inside `status::guard`: no panic leaves it.

mod args;
mod model;
mod options;
mod session;
mod status;

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
    TEFF_FINISH_CALLBACK, TEFF_FINISH_CONTEXT, TEFF_FINISH_END, TEFF_FINISH_LENGTH,
    TEFF_FINISH_NONE, TEFF_LOGITS_ALL, TEFF_LOGITS_LAST, TEFF_LOGITS_NONE, TeffOnText, TeffSession,
    teff_session_cancel, teff_session_describe, teff_session_fork, teff_session_free,
    teff_session_generate, teff_session_generate_tokens, teff_session_new, teff_session_restore,
    teff_session_resume, teff_session_save, teff_session_set_timeout, teff_session_step,
    teff_session_tokens, teff_session_truncate,
};
pub use status::{STATUSES, teff_error_text, teff_status_name};

use core::ffi::{CStr, c_char};

/// The version, as C has it.
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no zeros"),
    };

/// The library's version, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn teff_version() -> *const c_char {
    VERSION.as_ptr()
}
