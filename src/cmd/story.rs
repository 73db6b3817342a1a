//! The model that is part of the program, a GPT-2 of 3 million parameters that writes short stories:
//! `examples/gpt2` trains it.

use teff::{LoadError, LoadOptions, Model};

/// Bytes at an address that suits weights, which are used in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static GGUF: &Aligned<[u8]> = &Aligned(*include_bytes!("../../examples/gpt2/model.gguf"));

/// The beginning of its stories.
pub(crate) const BEGINNING: &str = "Once upon a time";

/// How to name another model, for those who named none.
pub(crate) const ADVICE: &str = "this was the story model, which is part of teff, since no model was \
                                 named; for another: `teff run MODEL.gguf -p TEXT` (see `teff run \
                                 --help`)";

/// Opens it.
pub(crate) fn open(options: &LoadOptions) -> Result<Model, LoadError> {
    Model::from_bytes(&GGUF.0, options)
}
