//! Bounds-checked forward reads over the file's bytes.

use super::error::{ErrorContext, GgufError};

/// A read position in a file.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at `at`, or at the end if the file is shorter.
    pub(super) fn new(file: &'a [u8], at: usize) -> Self {
        Cursor { file, at: at.min(file.len()) }
    }

    /// The offset from the start of the file.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes from here to the end of the file.
    pub(super) fn left(&self) -> usize {
        self.file.len() - self.at
    }

    /// The next `n` bytes; `None`, without advancing, if fewer are left.
    pub(super) fn bytes(&mut self, n: u64) -> Option<&'a [u8]> {
        let n = usize::try_from(n).ok()?;
        let got = self.file[self.at..].get(..n)?;
        self.at += n;
        Some(got)
    }

    /// The next little-endian u32.
    pub(super) fn u32(&mut self, context: impl FnOnce() -> ErrorContext) -> Result<u32, GgufError> {
        self.array(context).map(u32::from_le_bytes)
    }

    /// The next little-endian u64.
    pub(super) fn u64(&mut self, context: impl FnOnce() -> ErrorContext) -> Result<u64, GgufError> {
        self.array(context).map(u64::from_le_bytes)
    }

    /// The next string: a u64 length followed by that many bytes.
    pub(super) fn string(
        &mut self,
        context: impl Fn() -> ErrorContext,
    ) -> Result<&'a [u8], GgufError> {
        let len = self.u64(&context)?;
        self.bytes(len).ok_or_else(|| GgufError::StringBeyondFile {
            context: context(),
            at: self.at,
            len,
            left: self.left() as u64,
        })
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(
        &mut self,
        context: impl FnOnce() -> ErrorContext,
    ) -> Result<[u8; N], GgufError> {
        match self.file[self.at..].first_chunk::<N>() {
            Some(got) => {
                self.at += N;
                Ok(*got)
            }
            None => Err(self.truncated(context(), N as u64)),
        }
    }

    /// The error for a file that ends before the next `need` bytes.
    pub(super) fn truncated(&self, context: ErrorContext, need: u64) -> GgufError {
        GgufError::Truncated { context, at: self.at, need, left: self.left() as u64 }
    }
}
