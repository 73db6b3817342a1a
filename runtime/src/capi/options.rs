//! The structs of `teff.h`, and what they mean.

use core::ffi::c_char;
use core::ptr::null;

use teff_kernels::{Cpu, Format, KvFormat};

use super::args::{CStruct, name};
use super::status::{Done, Fail};
use crate::pool::MAX_THREADS;
use crate::sample::Sampling;
use crate::session::{DEFAULT_BATCH, default_backend};
use crate::{Generate, LoadOptions, SessionOptions};

/// Flag of [`TeffLoadOptions`]: files are read into memory, not mapped.
pub const TEFF_LOAD_READ: u32 = 1;
/// Flag of [`TeffLoadOptions`]: matrices are repacked ([`LoadOptions::repack`]) for the backend of
/// sessions whose options name none.
pub const TEFF_LOAD_REPACK: u32 = 2;
/// Flag of tokenizing: names of special tokens in the text become those tokens.
pub const TEFF_PARSE_SPECIAL: u32 = 1;
/// Flag of tokenizing: the token that texts begin with comes first, where the model wants one.
pub const TEFF_ADD_BOS: u32 = 2;
/// The cache has f32.
pub const TEFF_KV_F32: u32 = 0;
/// The cache has f16.
pub const TEFF_KV_F16: u32 = 1;
/// The cache has int8.
pub const TEFF_KV_Q8: u32 = 2;
/// No token.
pub const TEFF_NO_TOKEN: u32 = u32::MAX;

/// How a model is opened: `teff_load_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffLoadOptions {
    /// Its own size.
    pub size: usize,
    /// Bytes that loading may take; 0: any.
    pub budget: u64,
    /// The format to which plain matrices are quantised; NULL: as they are.
    pub quantize: *const c_char,
    /// The same for the head alone.
    pub head: *const c_char,
    /// `TEFF_LOAD_READ` and `TEFF_LOAD_REPACK`, or 0.
    pub flags: u32,
    /// 0.
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

/// What a session is to be: `teff_session_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffSessionOptions {
    /// Its own size.
    pub size: usize,
    /// Positions of the cache; 0: as many as the model was made for.
    pub context: usize,
    /// Most tokens of one step; 0: 512.
    pub batch: usize,
    /// Most tokens of one step whose logits are wanted; 0: one.
    pub logits: usize,
    /// Bytes that the session may take; 0: any.
    pub budget: u64,
    /// Who computes; NULL: whom the environment variable TEFF_BACKEND names, else the best of this
    /// machine.
    pub backend: *const c_char,
    /// Threads, the caller's included; 0: one for every core.
    pub threads: u32,
    /// How the cache stores keys and values.
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

/// How to continue a text: `teff_generate_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffGenerateOptions {
    /// Its own size.
    pub size: usize,
    /// Most tokens; 0: until the model ends the text or the context is full.
    pub max_tokens: usize,
    /// Where the random numbers start.
    pub seed: u64,
    /// Divides the logits; 0: always the most likely token.
    pub temperature: f32,
    /// The share of probability that stays; 1 is off.
    pub top_p: f32,
    /// The least probability that stays, as a share of the largest; 0 is off.
    pub min_p: f32,
    /// Divides positive logits of recent tokens and multiplies the others; 1 is off.
    pub repeat_penalty: f32,
    /// How many of the largest logits stay; 0 is off.
    pub top_k: u32,
    /// How many tokens are recent.
    pub repeat_last_n: u32,
    /// Not 0: go on where the model would end the text.
    pub ignore_end: u32,
    /// 0.
    pub reserved: u32,
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
            top_k: s.top_k as u32,
            repeat_last_n: s.repeat_last_n as u32,
            ignore_end: 0,
            reserved: 0,
        }
    }
}

// SAFETY: `repr(C)` with its size first, and numbers otherwise.
unsafe impl CStruct for TeffGenerateOptions {
    const NAME: &'static str = "teff_generate_options";
}

/// What there is to know of a model: `teff_model_info`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffModelInfo {
    /// Its own size.
    pub size: usize,
    /// Such as `llama`. It lives as long as the model, as does `name`.
    pub architecture: *const c_char,
    /// The model's name; empty where it has none.
    pub name: *const c_char,
    /// Parameters, every layer counted.
    pub parameters: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Bytes of all weights, in place or not.
    pub weight_bytes: u64,
    /// Bytes of memory that the model took for itself.
    pub owned_bytes: u64,
    /// Tokens of the vocabulary: as many logits has a step.
    pub vocabulary: u32,
    /// Positions that the model was made for.
    pub context: u32,
    /// Layers.
    pub layers: u32,
    /// Elements of a token's vector.
    pub width: u32,
    /// The token that begins texts, or `TEFF_NO_TOKEN`.
    pub bos: u32,
    /// The token that ends texts, or `TEFF_NO_TOKEN`.
    pub eos: u32,
    /// 1 where there is a tokenizer.
    pub has_tokenizer: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffModelInfo {
    const NAME: &'static str = "teff_model_info";
}

/// The bytes that a session will take: `teff_needs`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffNeeds {
    /// Its own size.
    pub size: usize,
    /// All of it.
    pub total: u64,
    /// The KV cache.
    pub cache: u64,
    /// What a step works in.
    pub arena: u64,
    /// The threads' own, all together.
    pub threads_own: u64,
    /// The plan, the table of weights, and room for the text's tokens.
    pub tables: u64,
    /// Threads.
    pub threads: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: `repr(C)` with its size first, and numbers otherwise.
unsafe impl CStruct for TeffNeeds {
    const NAME: &'static str = "teff_needs";
}

/// What a session is: `teff_session_info`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TeffSessionInfo {
    /// Its own size.
    pub size: usize,
    /// Bytes that it took.
    pub bytes: u64,
    /// Who computes; it lives as long as the session.
    pub backend: *const c_char,
    /// Positions of the cache.
    pub context: usize,
    /// Most tokens of one step.
    pub batch: usize,
    /// Most tokens of one step whose logits are wanted.
    pub logits: usize,
    /// Threads.
    pub threads: u32,
    /// How the cache stores keys and values.
    pub kv: u32,
}

// SAFETY: `repr(C)` with its size first, and numbers and pointers otherwise.
unsafe impl CStruct for TeffSessionInfo {
    const NAME: &'static str = "teff_session_info";
}

fn zero(value: u32, name: &str) -> Done {
    match value {
        0 => Ok(()),
        _ => Err(Fail::argument(format_args!("`{name}` is {value}, but must be 0"))),
    }
}

/// Refuses flags other than `known`.
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
        budget: (o.budget != 0).then_some(o.budget),
    })
}

/// # Safety
/// The backend's name is NULL or ends with a zero.
pub(super) unsafe fn session_options(o: &TeffSessionOptions) -> Done<SessionOptions> {
    let given = |n: usize| (n != 0).then_some(n);
    let threads = o.threads as usize;
    if threads > MAX_THREADS {
        let max = MAX_THREADS;
        return Err(Fail::argument(format_args!(
            "`threads` is {threads}, but must be at most {max}"
        )));
    }
    // SAFETY: the caller's promise.
    let backend = match unsafe { name(o.backend, "backend")? } {
        None => None,
        Some(name) => Some(
            Cpu::by_name(name)
                .map_err(|e| Fail::argument(format_args!("`backend`: {name}: {e}")))?,
        ),
    };
    let kv = match o.kv {
        TEFF_KV_F32 => KvFormat::F32,
        TEFF_KV_F16 => KvFormat::F16,
        TEFF_KV_Q8 => KvFormat::Q8,
        other => {
            return Err(Fail::argument(format_args!("`kv` is {other}: no cache format has that")));
        }
    };
    let mut options = SessionOptions::default();
    options.context = given(o.context);
    options.batch = given(o.batch).unwrap_or(DEFAULT_BATCH);
    options.logits = given(o.logits).unwrap_or(1);
    options.kv = kv;
    options.backend = backend;
    options.threads = given(threads);
    // More than can be addressed is no limit.
    options.budget = given(usize::try_from(o.budget).unwrap_or(0));
    Ok(options)
}

pub(super) fn kv_id(kv: KvFormat) -> u32 {
    match kv {
        KvFormat::F32 => TEFF_KV_F32,
        KvFormat::F16 => TEFF_KV_F16,
        KvFormat::Q8 => TEFF_KV_Q8,
    }
}

pub(super) fn generate_options(o: &TeffGenerateOptions) -> Done<Generate> {
    zero(o.reserved, "reserved")?;
    let sampling = Sampling {
        temperature: o.temperature,
        top_k: o.top_k as usize,
        top_p: o.top_p,
        min_p: o.min_p,
        repeat_penalty: o.repeat_penalty,
        repeat_last_n: o.repeat_last_n as usize,
        seed: o.seed,
    };
    let max_tokens = (o.max_tokens != 0).then_some(o.max_tokens);
    Ok(Generate { sampling, max_tokens, ignore_eos: o.ignore_end != 0 })
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
