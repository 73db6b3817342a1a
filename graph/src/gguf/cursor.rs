//! Reading forward through the file's bytes, never past their end.

use super::error::{GgufError, Place};

/// A position in a file.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At `at`, or at the end where the file is shorter.
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

    /// The next `n` bytes, or `None` (and no step) where there are fewer.
    pub(super) fn bytes(&mut self, n: u64) -> Option<&'a [u8]> {
        let n = usize::try_from(n).ok()?;
        let got = self.file[self.at..].get(..n)?;
        self.at += n;
        Some(got)
    }

    /// The next little-endian u32.
    pub(super) fn u32(&mut self, place: impl FnOnce() -> Place) -> Result<u32, GgufError> {
        self.array(place).map(u32::from_le_bytes)
    }

    /// The next little-endian u64.
    pub(super) fn u64(&mut self, place: impl FnOnce() -> Place) -> Result<u64, GgufError> {
        self.array(place).map(u64::from_le_bytes)
    }

    /// The next string: a u64 length and as many bytes.
    pub(super) fn string(&mut self, place: impl Fn() -> Place) -> Result<&'a [u8], GgufError> {
        let len = self.u64(&place)?;
        self.bytes(len).ok_or_else(|| GgufError::StringBeyondFile {
            place: place(),
            at: self.at,
            len,
            left: self.left() as u64,
        })
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(
        &mut self,
        place: impl FnOnce() -> Place,
    ) -> Result<[u8; N], GgufError> {
        match self.file[self.at..].first_chunk::<N>() {
            Some(got) => {
                self.at += N;
                Ok(*got)
            }
            None => Err(self.truncated(place(), N as u64)),
        }
    }

    /// The error for a file that ends before the next `need` bytes.
    pub(super) fn truncated(&self, place: Place, need: u64) -> GgufError {
        GgufError::Truncated { place, at: self.at, need, left: self.left() as u64 }
    }
}
