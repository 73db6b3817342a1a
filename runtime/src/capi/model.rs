//! Models and their tokenizers, for C.

use core::ffi::{CStr, c_char};
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use super::args::{Buffer, Out, object, options, out_struct, slice, string, text};
use super::options::{
    TEFF_ADD_BOS, TEFF_NO_TOKEN, TEFF_PARSE_SPECIAL, TeffLoadOptions, TeffModelInfo, TeffNeeds,
    TeffSessionOptions, check_flags, load_options, session_options,
};
use super::status::{Done, Fail, Status, guard};
use crate::Model;
use crate::tokenizer::{Specials, Tokenizer};

/// Model: `teff_model`. Sessions share ownership, so it may be freed before them.
#[derive(Debug)]
pub struct TeffModel {
    pub(super) model: Arc<Model>,
    architecture: CString,
    name: CString,
}

// Any thread may use a model at any time, and free it.
const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<TeffModel>();
};

/// C string of a text, which would end at a zero inside it.
pub(super) fn c_text(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|&b| b != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

impl TeffModel {
    fn give(model: Model, out: &Out<*mut TeffModel>) {
        let architecture = c_text(model.spec().arch);
        let name = c_text(model.name().unwrap_or_default());
        let model = TeffModel { model: Arc::new(model), architecture, name };
        out.set(Box::into_raw(Box::new(model)));
    }

    fn tokenizer(&self) -> Done<&Tokenizer> {
        self.model.tokenizer().map_err(|e| {
            Fail::new(Status::Tokenizer, format_args!("the model has no tokenizer: {e}"))
        })
    }
}

/// Path of a string: any bytes on Unix, UTF-8 elsewhere.
fn path(string: &CStr) -> Done<&Path> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Ok(Path::new(std::ffi::OsStr::from_bytes(string.to_bytes())))
    }
    #[cfg(not(unix))]
    {
        let text = string.to_str().map_err(|_| Fail::new(Status::Utf8, "`path` is not UTF-8"))?;
        Ok(Path::new(text))
    }
}

/// Opens a GGUF file or a Hugging Face folder.
///
/// # Safety
/// `path_name` is NULL or ends with a zero; `opts` is NULL or points to as many bytes as it says;
/// `model` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_model_open(
    path_name: *const c_char,
    opts: *const TeffLoadOptions,
    model: *mut *mut TeffModel,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (out, path_name, opts) = unsafe {
            let out = Out::new(model, "model")?;
            out.set(core::ptr::null_mut());
            (out, string(path_name, "path")?, options(opts, "options")?)
        };
        // SAFETY: as above: names in options end with a zero.
        let opts = unsafe { load_options(&opts)? };
        TeffModel::give(Model::open_with(path(path_name)?, &opts)?, &out);
        Ok(())
    })
}

/// Opens a model from the bytes of a GGUF file, which are used in place.
///
/// # Safety
/// As [`teff_model_open`]; the `len` bytes are there and don't change until the model and all of
/// its sessions have been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_model_open_bytes(
    bytes: *const u8,
    len: usize,
    opts: *const TeffLoadOptions,
    model: *mut *mut TeffModel,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises; the bytes live as long as anything that uses them.
        let (out, bytes, opts): (_, &'static [u8], _) = unsafe {
            let out = Out::new(model, "model")?;
            out.set(core::ptr::null_mut());
            (out, slice(bytes, len, "bytes")?, options(opts, "options")?)
        };
        // SAFETY: as above: names in options end with a zero.
        let opts = unsafe { load_options(&opts)? };
        TeffModel::give(Model::from_bytes(bytes, &opts)?, &out);
        Ok(())
    })
}

/// Frees a model; its sessions stay valid. NULL is ignored.
///
/// # Safety
/// `model` is NULL or from this library, not freed yet, and used by no call under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_model_free(model: *mut TeffModel) {
    guard(|| {
        if !model.is_null() {
            // SAFETY: not NULL, so it came from `TeffModel::give`, once: the caller's promise.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

/// Writes a description of a model.
///
/// # Safety
/// `model` is NULL or a model; `info` is NULL or may be written, its size being set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_model_describe(
    model: *const TeffModel,
    info: *mut TeffModelInfo,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (model, out) = unsafe { (object(model, "model")?, out_struct(info, "info")?) };
        let spec = model.model.spec();
        let tokenizer = model.model.tokenizer().ok();
        let id = |id: Option<u32>| id.unwrap_or(TEFF_NO_TOKEN);
        out.set(TeffModelInfo {
            size: size_of::<TeffModelInfo>(),
            architecture: model.architecture.as_ptr(),
            name: model.name.as_ptr(),
            parameters: spec.parameters(),
            file_bytes: model.model.file_bytes(),
            weight_bytes: model.model.weight_bytes(),
            owned_bytes: model.model.owned_bytes(),
            vocabulary: spec.vocab,
            context: spec.context,
            layers: spec.layers.len(),
            width: spec.width,
            bos: id(tokenizer.and_then(Tokenizer::bos)),
            eos: id(tokenizer.and_then(Tokenizer::eos)),
            has_tokenizer: u32::from(tokenizer.is_some()),
            reserved: 0,
        });
        Ok(())
    })
}

/// Computes the bytes that a session with these options will take.
///
/// # Safety
/// As [`teff_model_describe`]; `opts` is NULL or points to as many bytes as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_model_needs(
    model: *const TeffModel,
    opts: *const TeffSessionOptions,
    needs: *mut TeffNeeds,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (model, opts, out) = unsafe {
            (object(model, "model")?, options(opts, "options")?, out_struct(needs, "needs")?)
        };
        // SAFETY: as above: names in options end with a zero.
        let opts = unsafe { session_options(&opts)? };
        let needs = model.model.memory_requirements(&opts)?;
        let plan = needs.plan;
        out.set(TeffNeeds {
            size: size_of::<TeffNeeds>(),
            total: needs.total() as u64,
            cache: plan.state as u64,
            arena: plan.scratch as u64,
            threads_own: plan.per_thread.saturating_mul(needs.threads) as u64,
            tables: (needs.tables + needs.checkpoints) as u64,
            threads: needs.threads as u32,
            reserved: 0,
        });
        Ok(())
    })
}

/// Tokenizes a text.
///
/// # Safety
/// `model` is NULL or a model; `text_bytes` has `len` bytes; `tokens` has room for `capacity`;
/// `needed` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_tokenize(
    model: *const TeffModel,
    text_bytes: *const c_char,
    len: usize,
    flags: u32,
    tokens: *mut u32,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (model, text, to, needed) = unsafe {
            (
                object(model, "model")?,
                text(text_bytes, len, "text")?,
                Buffer::new(tokens, capacity, "tokens")?,
                Out::new(needed, "needed")?,
            )
        };
        check_flags(flags, TEFF_PARSE_SPECIAL | TEFF_ADD_BOS)?;
        let tokenizer = model.tokenizer()?;
        let specials = match flags & TEFF_PARSE_SPECIAL {
            0 => Specials::Ignore,
            _ => Specials::Parse,
        };
        let mut all = Vec::new();
        if flags & TEFF_ADD_BOS != 0 && tokenizer.add_bos() {
            all.extend(tokenizer.bos());
        }
        tokenizer.encode_into(text, specials, &mut Default::default(), &mut all)?;
        needed.set(all.len());
        if to.is_question() { Ok(()) } else { to.fill(&all) }
    })
}

/// Writes the text of tokens, with a terminating zero.
///
/// # Safety
/// `model` is NULL or a model; `tokens` has `n` tokens; `text` has room for `capacity` bytes;
/// `needed` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_detokenize(
    model: *const TeffModel,
    tokens: *const u32,
    n: usize,
    text: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (model, tokens, to, needed) = unsafe {
            (
                object(model, "model")?,
                slice(tokens, n, "tokens")?,
                Buffer::new(text.cast::<u8>(), capacity, "text")?,
                Out::new(needed, "needed")?,
            )
        };
        let mut text = model.tokenizer()?.decode(tokens)?.into_bytes();
        needed.set(text.len());
        if to.is_question() {
            return Ok(());
        }
        text.push(0);
        to.fill(&text)
    })
}

/// Returns the bytes of one token, which live as long as the model.
///
/// # Safety
/// `model` is NULL or a model; `bytes` and `len` are NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_token_bytes(
    model: *const TeffModel,
    token: u32,
    bytes: *mut *const u8,
    len: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: this function's own promises.
        let (model, bytes, len) =
            unsafe { (object(model, "model")?, Out::new(bytes, "bytes")?, Out::new(len, "len")?) };
        let tokenizer = model.tokenizer()?;
        let vocab = tokenizer.vocab_size();
        let lacks = || {
            Fail::new(
                Status::Token,
                format_args!("{token} is no token: the vocabulary has {vocab}"),
            )
        };
        let found = tokenizer.token_bytes(token).ok_or_else(lacks)?;
        bytes.set(found.as_ptr());
        len.set(found.len());
        Ok(())
    })
}

/// Returns 1 if this token ends the text, otherwise 0.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn teff_token_ends(model: *const TeffModel, token: u32) -> i32 {
    let mut ends = 0;
    guard(|| {
        // SAFETY: this function's own promise.
        let model = unsafe { object(model, "model")? };
        ends = i32::from(model.tokenizer()?.is_end(token));
        Ok(())
    });
    ends
}
