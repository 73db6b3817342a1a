//! Structs of `teff.h` and their conversion.

use core::ffi::c_char;
use core::ptr::null;

use teff_kernels::{Cpu, Format, KvFormat};

use super::args::{CStruct, name, slice};
use super::status::{Done, Fail, Status};
use crate::pool::MAX_THREADS;
use crate::sample::Sampling;
use crate::session::{DEFAULT_BATCH, default_backend};
use crate::{Generate, LoadOptions, SessionOptions};

/// Flag of [`TeffLoadOptions`] to read files into memory instead of mapping them.
pub const TEFF_LOAD_READ: u32 = 1;
/// Flag of [`TeffLoadOptions`] to repack matrices ([`LoadOptions::repack`]) for the backend of
/// sessions whose options name none.
pub const TEFF_LOAD_REPACK: u32 = 2;
/// Flag of tokenizing to turn names of special tokens in the text into those tokens.
pub const TEFF_PARSE_SPECIAL: u32 = 1;
/// Flag of tokenizing to begin with the BOS token, if the model wants one.
pub const TEFF_ADD_BOS: u32 = 2;
/// Cache of f32.
pub const TEFF_KV_F32: u32 = 0;
/// Cache of f16.
pub const TEFF_KV_F16: u32 = 1;
/// Cache of int8.
pub const TEFF_KV_Q8: u32 = 2;
/// Value for the absence of a token.
pub const TEFF_NO_TOKEN: u32 = u32::MAX;

/// Options of opening a model: `teff_load_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffLoadOptions {
    /// Size of this struct.
    pub size: usize,
    /// Maximum number of bytes that loading may take; 0 for no limit.
    pub budget: u64,
    /// Format to which plain matrices are quantised; NULL to leave them unchanged.
    pub quantize: *const c_char,
    /// Format to which the head is quantised; NULL to leave it unchanged.
    pub head: *const c_char,
    /// `TEFF_LOAD_READ` and `TEFF_LOAD_REPACK`, or 0.
    pub flags: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

impl Default for TeffLoadOptions {
    fn default() -> Self {
        let (size, quantize) = (size_of::<Self>(), null());
        TeffLoadOptions { size, budget: 0, quantize, head: quantize, flags: 0, reserved: 0 }
    }
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffLoadOptions {
    const NAME: &'static str = "teff_load_options";
}

/// Options of a session: `teff_session_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffSessionOptions {
    /// Size of this struct.
    pub size: usize,
    /// Positions of the cache; 0 for the model's context.
    pub context: usize,
    /// Maximum number of tokens in a step; 0 for 512.
    pub batch: usize,
    /// Maximum number of rows of logits in a step; 0 for one.
    pub logits: usize,
    /// Maximum number of bytes that the session may take; 0 for no limit.
    pub budget: u64,
    /// Name of the backend; NULL for the one named by the environment variable TEFF_BACKEND, or
    /// otherwise the best of this machine.
    pub backend: *const c_char,
    /// Threads, including the caller's; 0 for one per core.
    pub threads: u32,
    /// Format of keys and values in the cache.
    pub kv: u32,
}

impl Default for TeffSessionOptions {
    fn default() -> Self {
        TeffSessionOptions {
            size: size_of::<Self>(),
            context: 0,
            batch: 0,
            logits: 0,
            budget: 0,
            backend: null(),
            threads: 0,
            kv: TEFF_KV_F32,
        }
    }
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffSessionOptions {
    const NAME: &'static str = "teff_session_options";
}

/// Options of generating text: `teff_generate_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffGenerateOptions {
    /// Size of this struct.
    pub size: usize,
    /// Maximum number of tokens; 0 to continue until the model ends the text or the context is
    /// full.
    pub max_tokens: usize,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Divisor of the logits; 0 for the most likely token always.
    pub temperature: f32,
    /// Share of probability that is kept; 1 is off.
    pub top_p: f32,
    /// Smallest probability that is kept, as a share of the largest; 0 is off.
    pub min_p: f32,
    /// Divisor of positive logits of recent tokens, and factor of the others; 1 is off.
    pub repeat_penalty: f32,
    /// Number subtracted from the logits of recent tokens; 0 is off.
    pub presence_penalty: f32,
    /// Number subtracted from the logit of a recent token for each occurrence; 0 is off.
    pub frequency_penalty: f32,
    /// Number of the largest logits that are kept; 0 is off.
    pub top_k: u32,
    /// Number of tokens that count as recent; `UINT32_MAX` for all.
    pub repeat_last_n: u32,
    /// Not 0 to continue after the model ends the text.
    pub ignore_end: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Stop strings, each with a terminating zero; may be NULL if there are none.
    pub stop: *const *const c_char,
    /// Number of stop strings.
    pub n_stop: usize,
}

impl Default for TeffGenerateOptions {
    fn default() -> Self {
        let s = Sampling::default();
        TeffGenerateOptions {
            size: size_of::<Self>(),
            max_tokens: 0,
            seed: s.seed,
            temperature: s.temperature,
            top_p: s.top_p,
            min_p: s.min_p,
            repeat_penalty: s.repeat_penalty,
            presence_penalty: s.presence_penalty,
            frequency_penalty: s.frequency_penalty,
            top_k: s.top_k as u32,
            repeat_last_n: s.repeat_last_n as u32,
            ignore_end: 0,
            reserved: 0,
            stop: null(),
            n_stop: 0,
        }
    }
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffGenerateOptions {
    const NAME: &'static str = "teff_generate_options";
}

/// Description of a model: `teff_model_info`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffModelInfo {
    /// Size of this struct.
    pub size: usize,
    /// Architecture, such as `llama`. It lives as long as the model, as does `name`.
    pub architecture: *const c_char,
    /// Name of the model; empty if it has none.
    pub name: *const c_char,
    /// Number of parameters, of all layers.
    pub parameters: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Bytes of all weights, in place or converted.
    pub weight_bytes: u64,
    /// Bytes of memory that the model allocated.
    pub owned_bytes: u64,
    /// Size of the vocabulary, which is the number of logits of a step.
    pub vocabulary: u32,
    /// Context length that the model was trained for.
    pub context: u32,
    /// Number of layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Token that begins texts, or `TEFF_NO_TOKEN`.
    pub bos: u32,
    /// Token that ends texts, or `TEFF_NO_TOKEN`.
    pub eos: u32,
    /// 1 if there is a tokenizer.
    pub has_tokenizer: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffModelInfo {
    const NAME: &'static str = "teff_model_info";
}

/// Bytes that a session will take: `teff_needs`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffNeeds {
    /// Size of this struct.
    pub size: usize,
    /// Total of the following.
    pub total: u64,
    /// KV cache.
    pub cache: u64,
    /// Working memory of a step.
    pub arena: u64,
    /// Memory of all threads together.
    pub threads_own: u64,
    /// The plan, the table of weights, and room for the tokens of the text.
    pub tables: u64,
    /// Number of threads.
    pub threads: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

// SAFETY: `repr(C)` with its size first, and numbers otherwise.
unsafe impl CStruct for TeffNeeds {
    const NAME: &'static str = "teff_needs";
}

/// Description of a session: `teff_session_info`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffSessionInfo {
    /// Size of this struct.
    pub size: usize,
    /// Bytes that it took.
    pub bytes: u64,
    /// Name of the backend, which lives as long as the session.
    pub backend: *const c_char,
    /// Positions of the cache.
    pub context: usize,
    /// Maximum number of tokens in a step.
    pub batch: usize,
    /// Maximum number of rows of logits in a step.
    pub logits: usize,
    /// Number of threads.
    pub threads: u32,
    /// Format of keys and values in the cache.
    pub kv: u32,
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffSessionInfo {
    const NAME: &'static str = "teff_session_info";
}

/// Returns an error for a field that must be 0.
pub(super) fn zero(value: u32, name: &str) -> Done {
    match value {
        0 => Ok(()),
        _ => Err(Fail::argument(format_args!("`{name}` is {value}, but must be 0"))),
    }
}

/// Returns an error for flags other than `known`.
pub(super) fn check_flags(flags: u32, known: u32) -> Done {
    match flags & !known {
        0 => Ok(()),
        rest => Err(Fail::argument(format_args!("`flags` has bits without meaning: {rest:#x}"))),
    }
}

/// # Safety
/// The names are NULL or end with a zero.
pub(super) unsafe fn load_options(o: &TeffLoadOptions) -> Done<LoadOptions> {
    check_flags(o.flags, TEFF_LOAD_READ | TEFF_LOAD_REPACK)?;
    zero(o.reserved, "reserved")?;
    let format = |pointer, field| {
        // SAFETY: the caller's promise.
        let Some(name) = (unsafe { name(pointer, field)? }) else { return Ok(None) };
        let unknown = || Fail::argument(format_args!("`{field}`: no format is named \"{name}\""));
        Format::from_name(name).map(Some).ok_or_else(unknown)
    };
    Ok(LoadOptions {
        mmap: o.flags & TEFF_LOAD_READ == 0,
        quantize: format(o.quantize, "quantize")?,
        head: format(o.head, "head")?,
        repack: if o.flags & TEFF_LOAD_REPACK == 0 { None } else { Some(default_backend()?) },
        repack_limit: None,
        budget: (o.budget != 0).then_some(o.budget),
    })
}

/// Number of threads of options; `None` for one per core.
pub(super) fn thread_count(threads: u32) -> Done<Option<usize>> {
    let threads = threads as usize;
    if threads > MAX_THREADS {
        let max = MAX_THREADS;
        return Err(Fail::argument(format_args!(
            "`threads` is {threads}, but must be at most {max}"
        )));
    }
    Ok((threads != 0).then_some(threads))
}

/// Backend of this name; `None` for NULL.
///
/// # Safety
/// The name is NULL or ends with a zero.
pub(super) unsafe fn backend(pointer: *const c_char) -> Done<Option<Cpu>> {
    // SAFETY: the caller's promise.
    let Some(name) = (unsafe { name(pointer, "backend")? }) else { return Ok(None) };
    let cpu = Cpu::by_name(name);
    cpu.map(Some).map_err(|e| Fail::argument(format_args!("`backend`: {name}: {e}")))
}

/// Format of the cache with this number.
pub(super) fn kv_format(kv: u32) -> Done<KvFormat> {
    match kv {
        TEFF_KV_F32 => Ok(KvFormat::F32),
        TEFF_KV_F16 => Ok(KvFormat::F16),
        TEFF_KV_Q8 => Ok(KvFormat::Q8),
        other => Err(Fail::argument(format_args!("`kv` is {other}: no cache format has that"))),
    }
}

/// # Safety
/// The backend's name is NULL or ends with a zero.
pub(super) unsafe fn session_options(o: &TeffSessionOptions) -> Done<SessionOptions> {
    let given = |n: usize| (n != 0).then_some(n);
    let threads = thread_count(o.threads)?;
    // SAFETY: the caller's promise.
    let backend = unsafe { backend(o.backend)? };
    Ok(SessionOptions {
        context: given(o.context),
        batch: given(o.batch).unwrap_or(DEFAULT_BATCH),
        logits: given(o.logits).unwrap_or(1),
        kv: kv_format(o.kv)?,
        backend,
        threads,
        // A limit beyond the address space is no limit.
        budget: given(usize::try_from(o.budget).unwrap_or(0)),
        ..SessionOptions::default()
    })
}

pub(super) fn kv_id(kv: KvFormat) -> u32 {
    match kv {
        KvFormat::F32 => TEFF_KV_F32,
        KvFormat::F16 => TEFF_KV_F16,
        KvFormat::Q8 => TEFF_KV_Q8,
    }
}

/// # Safety
/// There are `n_stop` stop strings, each of which is NULL or ends with a zero.
pub(super) unsafe fn generate_options(o: &TeffGenerateOptions) -> Done<Generate> {
    zero(o.reserved, "reserved")?;
    let sampling = Sampling {
        temperature: o.temperature,
        top_k: o.top_k as usize,
        top_p: o.top_p,
        min_p: o.min_p,
        repeat_penalty: o.repeat_penalty,
        presence_penalty: o.presence_penalty,
        frequency_penalty: o.frequency_penalty,
        repeat_last_n: match o.repeat_last_n {
            u32::MAX => usize::MAX,
            n => n as usize,
        },
        seed: o.seed,
    };
    let max_tokens = (o.max_tokens != 0).then_some(o.max_tokens);
    let mut stop = Vec::new();
    // SAFETY: the caller's promise.
    for pointer in unsafe { slice(o.stop, o.n_stop, "stop")? } {
        // SAFETY: as above.
        let Some(text) = (unsafe { name(*pointer, "stop")? }) else {
            return Err(Fail::new(Status::Null, "one of `stop` is NULL"));
        };
        stop.push(text.to_owned());
    }
    let ignore_eos = o.ignore_end != 0;
    Ok(Generate { sampling, max_tokens, ignore_eos, stop, ..Generate::default() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use teff_kernels::Backend;

    use super::*;
    use crate::Model;

    #[test]
    fn flags_repack_for_the_default_backend() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/gpt2/gpt2-Q4_0.gguf");
        let repacked = |flags| {
            let options = TeffLoadOptions { flags, ..TeffLoadOptions::default() };
            // SAFETY: the names are NULL.
            let options = unsafe { load_options(&options) }.unwrap_or_else(|_| panic!("{flags}"));
            let model = Model::open_with(&file, &options).unwrap();
            assert!(model.session(&SessionOptions::default()).is_ok());
            model.tensor_infos().filter(|t| t.repacked).count()
        };
        assert_eq!(repacked(0), 0);
        let gains = default_backend().unwrap().repacks(Format::Q4_0);
        assert_eq!(repacked(TEFF_LOAD_REPACK) > 0, gains);
    }
}
