//! Engines and their requests, for C.
//!
//! As with sessions, ownership is shared between the caller and every call in progress. A request's
//! stream is behind a lock that no one waits for; cancelling doesn't need it.

use core::ffi::c_char;
use core::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use super::args::{CStruct, Out, object, options, out_struct, slice};
use super::model::TeffModel;
use super::options::{
    TEFF_KV_F32, TeffGenerateOptions, backend, generate_options, kv_format, thread_count, zero,
};
use super::session::{TEFF_FINISH_NONE, finish_id};
use super::status::{Done, Fail, Status, guard};
use crate::engine::{
    CancelHandle, Engine, EngineBuilder, EngineMemoryRequirements, EngineOptions, Event, Request,
    Stream,
};

/// Nothing has happened within the time.
pub const TEFF_EVENT_NONE: u32 = 0;
/// A choice's prompt was computed.
pub const TEFF_EVENT_PROMPT: u32 = 1;
/// A choice goes on by a piece of text.
pub const TEFF_EVENT_PIECE: u32 = 2;
/// A choice has ended.
pub const TEFF_EVENT_FINISHED: u32 = 3;
/// A choice has ended by an error.
pub const TEFF_EVENT_FAILED: u32 = 4;
/// All choices have ended, and all events were taken.
pub const TEFF_EVENT_END: u32 = 5;
/// Time of a poll that waits as long as it takes.
pub const TEFF_WAIT: u32 = u32::MAX;

/// Options of an engine: `teff_engine_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffEngineOptions {
    /// Size of this struct.
    pub size: usize,
    /// Positions of a sequence; 0 for the model's context, or as many as the cache has room for.
    pub context: usize,
    /// Maximum number of sequences that run at a time; 0 for 16.
    pub sequences: usize,
    /// Maximum number of sequences that wait; 0 for 1024.
    pub queue: usize,
    /// Maximum number of tokens in a step; 0 for 512.
    pub batch: usize,
    /// Maximum number of bytes that the engine may take; 0 for no limit.
    pub memory: u64,
    /// Bytes of the KV cache; 0 for what the memory leaves.
    pub cache: u64,
    /// Name of the backend; NULL as in [`TeffSessionOptions`](super::TeffSessionOptions).
    pub backend: *const c_char,
    /// Number of threads; 0 for one per core.
    pub threads: u32,
    /// Format of keys and values in the cache.
    pub kv: u32,
    /// Milliseconds that a step may take while answers run; 0 for 100.
    pub pause_ms: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

impl Default for TeffEngineOptions {
    fn default() -> Self {
        TeffEngineOptions {
            size: size_of::<Self>(),
            context: 0,
            sequences: 0,
            queue: 0,
            batch: 0,
            memory: 0,
            cache: 0,
            backend: null(),
            threads: 0,
            kv: TEFF_KV_F32,
            pause_ms: 0,
            reserved: 0,
        }
    }
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffEngineOptions {
    const NAME: &'static str = "teff_engine_options";
}

/// Description of an engine, and the bytes that it takes: `teff_engine_info`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffEngineInfo {
    /// Size of this struct.
    pub size: usize,
    /// Total of the following bytes.
    pub total: u64,
    /// Pages of the KV cache.
    pub page_bytes: u64,
    /// Checkpoints of recurrent states and windows.
    pub checkpoint_bytes: u64,
    /// Working memory of a step, and memory of the threads.
    pub arena: u64,
    /// The sequences' own memory.
    pub sequences: u64,
    /// Plan, table of weights, tables of pages, and tokens.
    pub tables: u64,
    /// Samplers of the sequences.
    pub samplers: u64,
    /// Number of pages.
    pub pages: u64,
    /// Number of checkpoints.
    pub checkpoints: u64,
    /// Positions of a sequence.
    pub context: u64,
    /// Number of threads.
    pub threads: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

// SAFETY: `repr(C)` with its size first, and numbers otherwise.
unsafe impl CStruct for TeffEngineInfo {
    const NAME: &'static str = "teff_engine_info";
}

impl TeffEngineInfo {
    fn of(memory: &EngineMemoryRequirements) -> TeffEngineInfo {
        TeffEngineInfo {
            size: size_of::<TeffEngineInfo>(),
            total: memory.total() as u64,
            page_bytes: memory.page_bytes as u64,
            checkpoint_bytes: memory.checkpoint_bytes as u64,
            arena: memory.arena as u64,
            sequences: memory.sequences as u64,
            tables: memory.tables as u64,
            samplers: memory.samplers as u64,
            pages: memory.pages as u64,
            checkpoints: memory.checkpoints as u64,
            context: memory.context as u64,
            threads: memory.threads as u32,
            reserved: 0,
        }
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// State and counters of an engine: `teff_engine_counts`.
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub struct TeffEngineCounts {
            /// Size of this struct.
            pub size: usize,
            $($(#[$doc])* pub $name: u64,)*
        }

        // SAFETY: `repr(C)` with its size first, and numbers otherwise.
        unsafe impl CStruct for TeffEngineCounts {
            const NAME: &'static str = "teff_engine_counts";
        }

        impl TeffEngineCounts {
            fn of(stats: &crate::engine::EngineStats) -> TeffEngineCounts {
                TeffEngineCounts {
                    size: size_of::<TeffEngineCounts>(),
                    $($name: stats.$name as u64,)*
                }
            }
        }
    };
}

counts! {
    /// Sequences that wait to be admitted.
    waiting,
    /// Sequences that run.
    running,
    /// Tokens of the last step.
    batch_tokens,
    /// Sequences of the last step.
    batch_sequences,
    /// Pages of the KV cache.
    pages,
    /// Pages that running sequences use.
    pages_running,
    /// Pages that only cached prefixes use.
    pages_cached,
    /// Pages that nothing uses.
    pages_free,
    /// Checkpoints that there is room for.
    checkpoints,
    /// Checkpoints in use.
    checkpoints_used,
    /// Requests submitted.
    requests,
    /// Sequences submitted.
    sequences,
    /// Sequences that ended, for whatever reason.
    ended_sequences,
    /// Sequences that were cancelled.
    cancelled,
    /// Prompt tokens of admitted sequences.
    prompt_tokens,
    /// Those among them that came from cached prefixes.
    cached_tokens,
    /// Generated tokens.
    generated_tokens,
    /// Steps.
    steps,
    /// Tokens that were computed.
    computed_tokens,
    /// Sequences that were pushed out, to be computed again.
    preemptions,
    /// Cached pages that were given up for others.
    evictions,
}

/// Event of a request: `teff_event`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffEvent {
    /// Size of this struct.
    pub size: usize,
    /// `TEFF_EVENT_PIECE` and others.
    pub kind: u32,
    /// Index of the choice.
    pub choice: u32,
    /// Text of a piece, or of an error, with a terminating zero; otherwise empty.
    pub text: *const c_char,
    /// Bytes of the text.
    pub len: usize,
    /// Tokens of a piece.
    pub tokens: *const u32,
    /// Number of the piece's tokens.
    pub n_tokens: usize,
    /// Tokens of the prompt, once it was computed.
    pub prompt_tokens: usize,
    /// Those among them that came from a cached prefix.
    pub cached_tokens: usize,
    /// Tokens that were generated, once the choice has ended.
    pub generated: usize,
    /// Reason of the end: `TEFF_FINISH_LENGTH` and others.
    pub finish: u32,
    /// Status of the error.
    pub status: i32,
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffEvent {
    const NAME: &'static str = "teff_event";
}

impl TeffEvent {
    fn new(kind: u32, choice: usize) -> TeffEvent {
        TeffEvent {
            size: size_of::<TeffEvent>(),
            kind,
            choice: choice as u32,
            text: c"".as_ptr(),
            len: 0,
            tokens: null(),
            n_tokens: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            generated: 0,
            finish: TEFF_FINISH_NONE,
            status: Status::Ok as i32,
        }
    }
}

/// Engine: `teff_engine`.
#[derive(Debug)]
pub struct TeffEngine {
    engine: Engine,
}

/// Request: `teff_request`.
#[derive(Debug)]
pub struct TeffRequest {
    cancel: CancelHandle,
    /// True once the caller has freed it.
    freed: AtomicBool,
    taken: Mutex<Taken>,
}

/// A request's stream, and what its last event refers to.
#[derive(Debug)]
struct Taken {
    stream: Stream,
    /// Text with a terminating zero.
    text: Vec<u8>,
    tokens: Vec<u32>,
}

// Any thread may call.
const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<TeffEngine>();
    shared_by_threads::<TeffRequest>();
};

/// Shares ownership of an object for the duration of a call.
///
/// # Safety
/// `pointer` is NULL or from `Arc::into_raw`, and the caller's share is still there.
unsafe fn share<T>(pointer: *const T, name: &str) -> Done<Arc<T>> {
    // SAFETY: the caller's promise; this only checks the pointer.
    unsafe { object(pointer, name)? };
    // SAFETY: not NULL; the rest is the caller's promise.
    Ok(unsafe {
        Arc::increment_strong_count(pointer);
        Arc::from_raw(pointer)
    })
}

/// # Safety
/// `model` is NULL or a model; `opts` is NULL or points to as many bytes as it says.
unsafe fn builder(model: *const TeffModel, opts: *const TeffEngineOptions) -> Done<EngineBuilder> {
    // SAFETY: the caller's promise.
    let (model, o) = unsafe { (object(model, "model")?, options(opts, "options")?) };
    zero(o.reserved, "reserved")?;
    let given = |n: usize| (n != 0).then_some(n);
    // A limit beyond the address space is no limit.
    let bytes = |n: u64| given(usize::try_from(n).unwrap_or(0));
    let mut all = EngineOptions::default().with_kv(kv_format(o.kv)?);
    // SAFETY: as above: names in options end with a zero.
    all.backend = unsafe { backend(o.backend)? };
    (all.context, all.threads) = (given(o.context), thread_count(o.threads)?);
    (all.memory, all.cache) = (bytes(o.memory), bytes(o.cache));
    all.sequences = given(o.sequences).unwrap_or(all.sequences);
    all.queue = given(o.queue).unwrap_or(all.queue);
    all.batch = given(o.batch).unwrap_or(all.batch);
    if o.pause_ms != 0 {
        all.pause = Duration::from_millis(o.pause_ms.into());
    }
    Ok(Engine::builder(&model.model).options(all))
}

/// Writes the bytes that an engine would take.
///
/// # Safety
/// `model` is NULL or a model; `opts` is NULL or points to as many bytes as it says; `info` is NULL
/// or may be written, its size being set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_engine_memory(
    model: *const TeffModel,
    opts: *const TeffEngineOptions,
    info: *mut TeffEngineInfo,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (builder, out) = unsafe { (builder(model, opts)?, out_struct(info, "info")?) };
        out.set(TeffEngineInfo::of(&builder.memory_requirements()?));
        Ok(())
    })
}

/// Creates an engine of a model.
///
/// # Safety
/// As [`teff_engine_memory`]; `engine` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_engine_new(
    model: *const TeffModel,
    opts: *const TeffEngineOptions,
    engine: *mut *mut TeffEngine,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (out, builder) = unsafe {
            let out = Out::new(engine, "engine")?;
            out.set(null_mut());
            (out, builder(model, opts)?)
        };
        let engine = TeffEngine { engine: builder.build()? };
        out.set(Arc::into_raw(Arc::new(engine)).cast_mut());
        Ok(())
    })
}

/// Frees an engine, whose requests end; waits for its step. NULL is ignored.
///
/// # Safety
/// `engine` is NULL or from this library and not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_engine_free(engine: *mut TeffEngine) {
    guard(|| {
        if !engine.is_null() {
            // SAFETY: not NULL, so it came from `Arc::into_raw`, and this is the caller's share.
            drop(unsafe { Arc::from_raw(engine.cast_const()) });
        }
        Ok(())
    });
}

/// Writes a description of an engine.
///
/// # Safety
/// `engine` is NULL or an engine; `info` is NULL or may be written, its size being set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_engine_describe(
    engine: *const TeffEngine,
    info: *mut TeffEngineInfo,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (of, out) = unsafe { (share(engine, "engine")?, out_struct(info, "info")?) };
        out.set(TeffEngineInfo::of(of.engine.memory_requirements()));
        Ok(())
    })
}

/// Writes the state and the counters of an engine.
///
/// # Safety
/// `engine` is NULL or an engine; `counts` is NULL or may be written, its size being set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_engine_stats(
    engine: *const TeffEngine,
    counts: *mut TeffEngineCounts,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (of, out) = unsafe { (share(engine, "engine")?, out_struct(counts, "counts")?) };
        out.set(TeffEngineCounts::of(&of.engine.stats()));
        Ok(())
    })
}

/// Submits a request for continuations of a prompt.
///
/// # Safety
/// `engine` is NULL or an engine; `tokens` has `n` tokens; `opts` is NULL or points to as many bytes
/// as it says; `request` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_engine_submit(
    engine: *mut TeffEngine,
    tokens: *const u32,
    n: usize,
    opts: *const TeffGenerateOptions,
    choices: u32,
    deadline_ms: u64,
    priority: i32,
    request: *mut *mut TeffRequest,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (out, of, tokens, opts) = unsafe {
            let out = Out::new(request, "request")?;
            out.set(null_mut());
            let of = share(engine.cast_const(), "engine")?;
            (out, of, slice(tokens, n, "tokens")?, options(opts, "options")?)
        };
        // SAFETY: as above: the stop strings are there, and end with a zero.
        let generate = unsafe { generate_options(&opts)? };
        let (context, tokens_given) = (of.engine.context(), tokens.len());
        if tokens_given > context {
            // Before they are copied.
            let e = crate::EngineError::PromptTooLong { tokens: tokens_given, context };
            return Err(e.into());
        }
        let mut asked = Request::new(tokens.to_vec(), generate)
            .with_choices(choices as usize)
            .with_priority(priority);
        if deadline_ms != 0 {
            asked = asked.with_deadline(Duration::from_millis(deadline_ms));
        }
        let stream = of.engine.submit(asked)?;
        let request = TeffRequest {
            cancel: stream.cancel_handle(),
            freed: AtomicBool::new(false),
            taken: Mutex::new(Taken { stream, text: Vec::new(), tokens: Vec::new() }),
        };
        out.set(Arc::into_raw(Arc::new(request)).cast_mut());
        Ok(())
    })
}

impl TeffRequest {
    fn lock(&self) -> Done<MutexGuard<'_, Taken>> {
        self.taken.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Fail::new(
                Status::Busy,
                "another thread polls this request: wait for its event, or cancel the request",
            ),
            TryLockError::Poisoned(_) => Fail::new(
                Status::Panic,
                "an earlier call on this request failed inside Teff: free it",
            ),
        })
    }
}

impl Taken {
    /// The next event, for which this waits so many milliseconds.
    fn next(&mut self, timeout_ms: u32) -> TeffEvent {
        let event = match timeout_ms {
            0 => self.stream.try_next(),
            TEFF_WAIT => self.stream.next(),
            ms => self.stream.next_timeout(Duration::from_millis(ms.into())),
        };
        match event {
            Some(event) => self.keep(event),
            None if self.stream.is_ended() => TeffEvent::new(TEFF_EVENT_END, 0),
            None => TeffEvent::new(TEFF_EVENT_NONE, 0),
        }
    }

    /// Keeps what an event refers to, until the next one.
    fn keep(&mut self, event: Event) -> TeffEvent {
        match event {
            Event::Prompt { choice, tokens, cached, .. } => TeffEvent {
                prompt_tokens: tokens,
                cached_tokens: cached,
                ..TeffEvent::new(TEFF_EVENT_PROMPT, choice)
            },
            Event::Piece { choice, piece } => {
                self.tokens = piece.tokens;
                let event = TeffEvent::new(TEFF_EVENT_PIECE, choice);
                let (tokens, n_tokens) = (self.tokens.as_ptr(), self.tokens.len());
                TeffEvent { tokens, n_tokens, ..self.with_text(event, piece.text) }
            }
            Event::Finished { choice, finish, generated } => TeffEvent {
                generated,
                finish: finish_id(Some(finish)),
                ..TeffEvent::new(TEFF_EVENT_FINISHED, choice)
            },
            Event::Failed { choice, error } => {
                let (status, text) = Fail::from(error).into_parts();
                let event = TeffEvent::new(TEFF_EVENT_FAILED, choice);
                TeffEvent { status: status as i32, ..self.with_text(event, text) }
            }
        }
    }

    fn with_text(&mut self, event: TeffEvent, text: String) -> TeffEvent {
        let len = text.len();
        self.text = text.into_bytes();
        self.text.push(0);
        TeffEvent { text: self.text.as_ptr().cast(), len, ..event }
    }
}

/// Takes the next event of a request, if one comes in time.
///
/// # Safety
/// `request` is NULL or a request; `event` is NULL or may be written, its size being set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_request_poll(
    request: *mut TeffRequest,
    timeout_ms: u32,
    event: *mut TeffEvent,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (of, out) =
            unsafe { (share(request.cast_const(), "request")?, out_struct(event, "event")?) };
        let mut taken = of.lock()?;
        out.set(TeffEvent::new(TEFF_EVENT_NONE, 0));
        let next = taken.next(timeout_ms);
        if of.freed.load(Ordering::Acquire) {
            // What the event refers to goes with this call.
            return Err(Fail::new(Status::Cancelled, "the request was freed by another thread"));
        }
        out.set(next);
        Ok(())
    })
}

/// Cancels all choices of a request. Callable from any thread.
///
/// # Safety
/// `request` is NULL or a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_request_cancel(request: *mut TeffRequest) -> i32 {
    guard(|| {
        // SAFETY: this function's own promise.
        unsafe { share(request.cast_const(), "request")? }.cancel.cancel();
        Ok(())
    })
}

/// Frees a request, which is cancelled. NULL is ignored.
///
/// # Safety
/// `request` is NULL or from this library and not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_request_free(request: *mut TeffRequest) {
    guard(|| {
        if !request.is_null() {
            // SAFETY: not NULL, so it came from `Arc::into_raw`, and this is the caller's share.
            let request = unsafe { Arc::from_raw(request.cast_const()) };
            request.freed.store(true, Ordering::Release);
            request.cancel.cancel();
        }
        Ok(())
    });
}
