//! Models of a session: borrowed, or shared with others.

use core::ops::Deref;
use std::sync::Arc;

use teff_graph::Tensor;

use crate::model::Model;

/// Model that a session uses for `'m`: borrowed for as long, or kept by a share of its own.
#[derive(Clone)]
pub(crate) enum ModelRef<'m> {
    Borrowed(&'m Model),
    Shared(Arc<Model>),
}

impl Deref for ModelRef<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        match self {
            ModelRef::Borrowed(model) => model,
            ModelRef::Shared(model) => model,
        }
    }
}

impl<'m> ModelRef<'m> {
    /// The model's tensors, in order of their numbers.
    ///
    /// # Safety
    /// The tensors, and whatever is made of them, are used no longer than a clone of `self` exists.
    pub(crate) unsafe fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'m>> {
        let model: &'m Model = match self {
            ModelRef::Borrowed(model) => model,
            // SAFETY: the model lives in an `Arc`, where it neither moves nor changes, for as long
            // as any share exists: by the caller's promise, as long as the tensors are used.
            ModelRef::Shared(model) => unsafe { &*Arc::as_ptr(model) },
        };
        model.tensors()
    }
}
