//! The model in flash: its file, its plan, and the texts of its tokens.

use teff_graph::plan::ALIGN;
use teff_graph::{Tensor, WeightsError};

#[rustfmt::skip]
#[cfg_attr(feature = "gemma4", path = "plan_gemma4.rs")]
#[cfg_attr(feature = "q4_0", path = "plan_q4_0.rs")]
#[cfg_attr(not(any(feature = "gemma4", feature = "q4_0")), path = "plan_q8_0.rs")]
pub(crate) mod plan;

#[cfg(all(feature = "gemma4", feature = "q4_0"))]
compile_error!("the features gemma4 and q4_0 name two models, and the image has one");

/// Bytes that begin where weights and arenas do.
#[repr(C, align(64))]
pub(crate) struct Aligned<T: ?Sized>(pub(crate) T);

const _: () = assert!(align_of::<Aligned<u8>>() == ALIGN);

#[cfg(feature = "gemma4")]
static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../model-gemma4.gguf"));
#[cfg(feature = "q4_0")]
static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../model-q4_0.gguf"));
#[cfg(not(any(feature = "gemma4", feature = "q4_0")))]
static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../model-q8_0.gguf"));

const _: () = assert!(FILE.0.len() == plan::FILE_BYTES, "the plan is another file's");

/// FNV-1a of 64 bits, to go on from.
pub(crate) const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a.
pub(crate) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// True if the file is the one that the plan was written for.
pub(crate) fn is_whole() -> bool {
    fnv(FNV, &FILE.0) == plan::FILE_HASH
}

/// A table of weights.
pub(crate) type Weights = [Tensor<'static>; plan::WEIGHTS.len()];

/// Fills the table of weights; they stay where they are.
pub(crate) fn weights(table: &mut Weights) -> Result<(), WeightsError> {
    for ((slot, location), tensor) in plan::SPEC.slots().zip(&plan::WEIGHTS).zip(table) {
        *tensor = location.tensor(&slot, &FILE.0)?;
    }
    Ok(())
}

/// The text of a token as the file has it: a string after the other, lengths before them.
fn text(token: u32) -> Option<&'static str> {
    let mut rest = FILE.0.get(plan::TOKENS_AT..)?;
    let mut skip = token;
    loop {
        let (len, text) = rest.split_first_chunk::<8>()?;
        let (text, next) = text.split_at_checked(u64::from_le_bytes(*len) as usize)?;
        if skip == 0 {
            return str::from_utf8(text).ok();
        }
        (skip, rest) = (skip - 1, next);
    }
}

/// The bytes of a token. Byte-level BPE writes each as a character: what is printable in Latin-1 as
/// itself, all others one after another from U+0100 on.
pub(crate) fn bytes(token: u32) -> impl Iterator<Item = u8> {
    text(token).unwrap_or_default().chars().filter_map(|c| {
        Some(match u32::from(c) {
            c @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => c as u8,
            c @ 0x100..=0x120 => (c - 0x100) as u8,
            c @ 0x121..=0x142 => (c - 0x121 + 0x7f) as u8,
            0x143 => 0xad,
            _ => return None,
        })
    })
}
