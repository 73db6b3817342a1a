//! Sessions, for C.
//!
//! Ownership of a session is shared between the caller and every call in progress. If a callback
//! frees the session, or another thread does while it computes, it lives until the last call that
//! uses it returns. The computing state is behind a lock that no one waits for: if it is taken (by
//! another thread, or by the call that runs this callback), the result is `TEFF_BUSY`.

use core::ffi::{c_char, c_void};
use core::ptr::null_mut;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use teff_graph::{LogitsFor, StepError};
use teff_kernels::Backend;

use super::args::{Buffer, Out, object, options, out_struct, slice, text};
use super::model::{TeffModel, c_text};
use super::options::{
    TeffGenerateOptions, TeffSessionInfo, TeffSessionOptions, generate_options, kv_id,
    session_options,
};
use super::status::{Done, Fail, Status, guard};
use crate::{Finish, Generation, Model, Session, SessionError, SessionOptions, StopHandle};

/// No logits; only the cache is updated.
pub const TEFF_LOGITS_NONE: u32 = 0;
/// Logits of the last token.
pub const TEFF_LOGITS_LAST: u32 = 1;
/// Logits of all tokens.
pub const TEFF_LOGITS_ALL: u32 = 2;

/// It has not ended.
pub const TEFF_FINISH_NONE: u32 = 0;
/// The maximum number of tokens was reached.
pub const TEFF_FINISH_LENGTH: u32 = 1;
/// The model ended the text.
pub const TEFF_FINISH_END: u32 = 2;
/// The context is full.
pub const TEFF_FINISH_CONTEXT: u32 = 3;
/// The callback ended it.
pub const TEFF_FINISH_CALLBACK: u32 = 4;
/// The text came to a stop string.
pub const TEFF_FINISH_STOP: u32 = 5;
/// The request of an engine was cancelled.
pub const TEFF_FINISH_CANCELLED: u32 = 6;
/// The deadline of the request has passed.
pub const TEFF_FINISH_DEADLINE: u32 = 7;

/// Callback that receives a piece of text: `teff_on_text`. Unwinding out of it aborts the process
/// instead of being undefined behaviour.
pub type TeffOnText = unsafe extern "C-unwind" fn(*mut c_void, *const c_char, usize) -> i32;

/// Properties of a session that are known without its lock.
#[derive(Clone, Debug)]
struct Facts {
    bytes: usize,
    backend: CString,
    context: usize,
    batch: usize,
    logits: usize,
    threads: usize,
    kv: u32,
}

/// Session: `teff_session`.
#[derive(Debug)]
pub struct TeffSession {
    stop: StopHandle,
    facts: Facts,
    session: Mutex<Session<'static>>,
    model: Arc<Model>,
}

// Any thread may call: the computing state is locked and may move between threads.
const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<TeffSession>();
};

impl TeffSession {
    fn new(model: &Arc<Model>, options: &SessionOptions) -> Done<Arc<TeffSession>> {
        let session = model.session_owned(options)?;
        let facts = Facts {
            bytes: session.memory_requirements().total(),
            backend: c_text(Backend::name(session.backend())),
            context: session.context(),
            batch: session.batch(),
            logits: options.logits.min(session.batch()),
            threads: session.threads(),
            kv: kv_id(options.kv),
        };
        Ok(TeffSession::wrap(session, Arc::clone(model), facts))
    }

    fn wrap(session: Session<'static>, model: Arc<Model>, facts: Facts) -> Arc<TeffSession> {
        let stop = session.stop_handle();
        Arc::new(TeffSession { stop, facts, session: Mutex::new(session), model })
    }

    fn lock(&self) -> Done<MutexGuard<'_, Session<'static>>> {
        self.session.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Fail::new(
                Status::Busy,
                "another call on this session is under way (in another thread, or the one that \
                 called this callback): wait for its end, or cancel it",
            ),
            TryLockError::Poisoned(_) => Fail::new(
                Status::Panic,
                "an earlier call on this session failed inside Teff: free it and make a new one",
            ),
        })
    }
}

/// Shares ownership of a session for the duration of a call.
///
/// # Safety
/// `session` is NULL or from this library and not freed yet.
unsafe fn share(session: *const TeffSession) -> Done<Arc<TeffSession>> {
    // SAFETY: the caller's promise; this only checks the pointer.
    unsafe { object(session, "session")? };
    // SAFETY: not NULL, so it came from `Arc::into_raw`, and the caller's share is still there.
    Ok(unsafe {
        Arc::increment_strong_count(session);
        Arc::from_raw(session)
    })
}

/// Creates a session of a model.
///
/// # Safety
/// `model` is NULL or a model; `opts` is NULL or points to as many bytes as it says; `session` is
/// NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_new(
    model: *const TeffModel,
    opts: *const TeffSessionOptions,
    session: *mut *mut TeffSession,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (out, model, opts) = unsafe {
            let out = Out::new(session, "session")?;
            out.set(null_mut());
            (out, object(model, "model")?, options(opts, "options")?)
        };
        // SAFETY: as above: names in options end with a zero.
        let opts = unsafe { session_options(&opts)? };
        let session = TeffSession::new(&model.model, &opts)?;
        out.set(Arc::into_raw(session).cast_mut());
        Ok(())
    })
}

/// Creates another session that continues the same text independently.
///
/// # Safety
/// `session` is NULL or a session; `fork` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_fork(
    session: *mut TeffSession,
    fork: *mut *mut TeffSession,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (out, from) = unsafe {
            let out = Out::new(fork, "fork")?;
            let from = share(session)?;
            out.set(null_mut());
            (out, from)
        };
        let forked = from.lock()?.fork()?;
        let fork = TeffSession::wrap(forked, Arc::clone(&from.model), from.facts.clone());
        out.set(Arc::into_raw(fork).cast_mut());
        Ok(())
    })
}

/// Frees a session; a call that uses it is cancelled and returns as such. NULL is ignored.
///
/// # Safety
/// `session` is NULL or from this library and not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_free(session: *mut TeffSession) {
    guard(|| {
        if !session.is_null() {
            // SAFETY: not NULL, so it came from `Arc::into_raw`, and this is the caller's share.
            let session = unsafe { Arc::from_raw(session.cast_const()) };
            session.stop.cancel();
        }
        Ok(())
    });
}

/// Writes a description of a session.
///
/// # Safety
/// `session` is NULL or a session; `info` is NULL or may be written, its size being set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_describe(
    session: *const TeffSession,
    info: *mut TeffSessionInfo,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (of, out) = unsafe { (share(session)?, out_struct(info, "info")?) };
        let facts = &of.facts;
        out.set(TeffSessionInfo {
            size: size_of::<TeffSessionInfo>(),
            bytes: facts.bytes as u64,
            backend: facts.backend.as_ptr(),
            context: facts.context,
            batch: facts.batch,
            logits: facts.logits,
            threads: facts.threads as u32,
            kv: facts.kv,
        });
        Ok(())
    })
}

/// Returns an error if the context has no room for the tokens, before anything reads them.
fn check_room(session: &Session<'_>, tokens: usize) -> Done {
    let (context, position) = (session.context(), session.tokens().len());
    match tokens > context - position {
        true => {
            Err(SessionError::from(StepError::ContextFull { context, position, tokens }).into())
        }
        false => Ok(()),
    }
}

/// Appends tokens, computes, and copies the logits. Only a cancelled step leaves its tokens in the
/// text.
fn eval(
    session: &mut Session<'static>,
    tokens: &[u32],
    want: LogitsFor,
    to: Option<&Buffer<f32>>,
) -> Done {
    let before = session.tokens().len();
    session.push(tokens)?;
    let fail = match session.advance(want) {
        Ok(logits) => return to.map_or(Ok(()), |to| to.fill(logits)),
        Err(e) => Fail::from(e),
    };
    if !fail.is(Status::Cancelled) {
        session.truncate(before);
    }
    Err(fail)
}

/// Appends tokens to the text and computes all pending ones.
///
/// # Safety
/// `session` is NULL or a session; `tokens` has `n` tokens; `logits` has room for `capacity`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_step(
    session: *mut TeffSession,
    tokens: *const u32,
    n: usize,
    want: u32,
    logits: *mut f32,
    capacity: usize,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promise.
        let of = unsafe { share(session)? };
        let want = match want {
            TEFF_LOGITS_NONE => LogitsFor::None,
            TEFF_LOGITS_LAST => LogitsFor::Last,
            TEFF_LOGITS_ALL => LogitsFor::All,
            other => return Err(Fail::argument(format_args!("`want` is {other}"))),
        };
        let mut session = of.lock()?;
        check_room(&session, n)?;
        // SAFETY: this function's own promise.
        let tokens = unsafe { slice(tokens, n, "tokens")? };
        if want == LogitsFor::None {
            return eval(&mut session, tokens, want, None);
        }
        // All checks come before anything is appended.
        let pending = session.tokens().len() - session.computed();
        let rows = want.rows(pending + n); // both are of the context
        if rows > of.facts.logits {
            let max = of.facts.logits;
            return Err(Fail::argument(format_args!(
                "logits of {rows} tokens at a time, but the session was made for {max}: give fewer \
                 tokens, or raise `logits` and `batch` of its options"
            )));
        }
        if logits.is_null() {
            return Err(Fail::new(Status::Null, "`logits` is NULL"));
        }
        // SAFETY: this function's own promise.
        let to = unsafe { Buffer::new(logits, capacity, "logits")? };
        to.check(rows.saturating_mul(of.model.spec().vocab as usize))?;
        eval(&mut session, tokens, want, Some(&to))
    })
}

/// Passes the pieces of a generation to a callback.
fn stream(
    generation: &mut Generation<'_, '_>,
    call: impl Fn(&[u8], usize) -> i32,
    finish: Option<&Out<u32>>,
) -> Done {
    let mut piece = Vec::new();
    let set = |value| {
        if let Some(finish) = finish {
            finish.set(value);
        }
    };
    while let Some(text) = generation.next_piece()? {
        piece.clear();
        piece.extend_from_slice(text.as_bytes());
        piece.push(0);
        if call(&piece, text.len()) != 0 {
            set(TEFF_FINISH_CALLBACK);
            return Ok(());
        }
    }
    set(finish_id(generation.finish()));
    Ok(())
}

/// Number of the reason why a text ended.
pub(super) fn finish_id(finish: Option<Finish>) -> u32 {
    match finish {
        Some(Finish::Length) => TEFF_FINISH_LENGTH,
        Some(Finish::Stop(_) | Finish::Complete) => TEFF_FINISH_END,
        Some(Finish::ContextFull) => TEFF_FINISH_CONTEXT,
        Some(Finish::StopString(_)) => TEFF_FINISH_STOP,
        Some(Finish::Cancelled) => TEFF_FINISH_CANCELLED,
        Some(Finish::Deadline) => TEFF_FINISH_DEADLINE,
        None => TEFF_FINISH_NONE,
    }
}

/// Arguments of a generation other than the prompt.
struct Request {
    opts: *const TeffGenerateOptions,
    on_text: Option<TeffOnText>,
    user: *mut c_void,
    finish: *mut u32,
}

impl Request {
    /// # Safety
    /// `opts` is NULL or points to as many bytes as it says; `on_text` may be called with `user`;
    /// `finish` is NULL or may be written.
    unsafe fn run(
        &self,
        of: &TeffSession,
        start: impl for<'s> FnOnce(
            &'s mut Session<'static>,
            &crate::Generate,
        ) -> Done<Generation<'s, 'static>>,
    ) -> Done {
        // SAFETY: the caller's promise.
        let (finish, opts) =
            unsafe { (Out::optional(self.finish, "finish")?, options(self.opts, "options")?) };
        if let Some(finish) = &finish {
            finish.set(TEFF_FINISH_NONE);
        }
        let Some(on_text) = self.on_text else {
            return Err(Fail::new(Status::Null, "`on_text` is NULL"));
        };
        let call = |piece: &[u8], len| {
            // SAFETY: the caller's promise; the piece lives until the callback returns.
            unsafe { on_text(self.user, piece.as_ptr().cast(), len) }
        };
        // SAFETY: the caller's promise: the stop strings are there, and end with a zero.
        let opts = unsafe { generate_options(&opts)? };
        let mut session = of.lock()?;
        stream(&mut start(&mut session, &opts)?, call, finish.as_ref())
    }
}

/// Appends a prompt to the text and continues it.
///
/// # Safety
/// `session` is NULL or a session; `prompt` has `len` bytes; `opts` is NULL or points to as many
/// bytes as it says; `on_text` is NULL or may be called with `user`; `finish` is NULL or may be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_generate(
    session: *mut TeffSession,
    prompt: *const c_char,
    len: usize,
    opts: *const TeffGenerateOptions,
    on_text: Option<TeffOnText>,
    user: *mut c_void,
    finish: *mut u32,
) -> i32 {
    guard(|| {
        let request = Request { opts, on_text, user, finish };
        // SAFETY: this function's own promises.
        unsafe {
            let (of, prompt) = (share(session)?, text(prompt, len, "prompt")?);
            request.run(&of, |session, opts| Ok(session.generate(prompt, opts)?))
        }
    })
}

/// Appends prompt tokens to the text and continues it.
///
/// # Safety
/// As [`teff_session_generate`]; `tokens` has `n` tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_generate_tokens(
    session: *mut TeffSession,
    tokens: *const u32,
    n: usize,
    opts: *const TeffGenerateOptions,
    on_text: Option<TeffOnText>,
    user: *mut c_void,
    finish: *mut u32,
) -> i32 {
    guard(|| {
        let request = Request { opts, on_text, user, finish };
        // SAFETY: this function's own promises.
        unsafe {
            let of = share(session)?;
            request.run(&of, |session, opts| {
                check_room(session, n)?;
                Ok(session.generate_ids(slice(tokens, n, "tokens")?, opts)?)
            })
        }
    })
}

/// Cancels the step in progress and all later ones, until the session is resumed. Callable from any
/// thread.
///
/// # Safety
/// `session` is NULL or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_cancel(session: *mut TeffSession) -> i32 {
    guard(|| {
        // SAFETY: this function's own promise.
        unsafe { share(session)? }.stop.cancel();
        Ok(())
    })
}

/// Revokes cancellation and time limit. Callable from any thread.
///
/// # Safety
/// `session` is NULL or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_resume(session: *mut TeffSession) -> i32 {
    guard(|| {
        // SAFETY: this function's own promise.
        unsafe { share(session)? }.stop.resume();
        Ok(())
    })
}

/// Cancels automatically after this many milliseconds. Callable from any thread.
///
/// # Safety
/// `session` is NULL or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_set_timeout(
    session: *mut TeffSession,
    milliseconds: u64,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promise.
        unsafe { share(session)? }.stop.set_timeout(Duration::from_millis(milliseconds));
        Ok(())
    })
}

/// Copies the tokens of the text.
///
/// # Safety
/// `session` is NULL or a session; `tokens` has room for `capacity`; `needed` is NULL or may be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_tokens(
    session: *const TeffSession,
    tokens: *mut u32,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (of, to, needed) = unsafe {
            (share(session)?, Buffer::new(tokens, capacity, "tokens")?, Out::new(needed, "needed")?)
        };
        let session = of.lock()?;
        needed.set(session.tokens().len());
        if to.is_question() { Ok(()) } else { to.fill(session.tokens()) }
    })
}

/// Truncates the text to its first `len` tokens.
///
/// # Safety
/// `session` is NULL or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_truncate(session: *mut TeffSession, len: usize) -> i32 {
    guard(|| {
        // SAFETY: this function's own promise.
        let of = unsafe { share(session)? };
        of.lock()?.truncate(len);
        Ok(())
    })
}

/// Saves the text and its cache as bytes.
///
/// # Safety
/// `session` is NULL or a session; `bytes` has room for `capacity`; `needed` is NULL or may be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_save(
    session: *const TeffSession,
    bytes: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (of, to, needed) = unsafe {
            (share(session)?, Buffer::new(bytes, capacity, "bytes")?, Out::new(needed, "needed")?)
        };
        let snapshot = of.lock()?.snapshot();
        needed.set(snapshot.len());
        if to.is_question() { Ok(()) } else { to.fill(&snapshot) }
    })
}

/// Replaces the text and its cache with saved ones.
///
/// # Safety
/// `session` is NULL or a session; `bytes` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_session_restore(
    session: *mut TeffSession,
    bytes: *const u8,
    len: usize,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (of, bytes) = unsafe { (share(session)?, slice(bytes, len, "bytes")?) };
        of.lock()?.restore(bytes)?;
        Ok(())
    })
}
