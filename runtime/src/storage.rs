//! The memory that holds a model: mapped files, files read into memory, converted tensors.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// Alignment of owned bytes: a cache line, and the widest vector register.
pub(crate) const ALIGN: usize = 64;

/// Owned bytes that start at a multiple of [`ALIGN`]. Their address is stable while this lives.
pub(crate) enum Aligned {
    /// Heap memory: up to `ALIGN - 1` bytes of padding, then the bytes.
    Heap { buf: Vec<u8>, start: usize },
    /// Anonymous pages, for sizes large enough to benefit from large pages.
    #[cfg(feature = "mmap")]
    Pages(memmap2::MmapMut),
}

/// Minimum size in bytes for which large pages are requested: memory in small pages is read with
/// more TLB misses, and the CPU's prefetcher stops at each page boundary.
#[cfg(feature = "mmap")]
const LARGE_PAGES_MIN: usize = 16 << 20;

impl Aligned {
    /// An empty heap buffer with room for exactly `len` bytes, and the offset of the first one.
    fn heap_buffer(len: usize) -> io::Result<(Vec<u8>, usize)> {
        let mut buf = Vec::new();
        if len == 0 {
            return Ok((buf, 0));
        }
        let room = len.checked_add(ALIGN - 1).ok_or(io::ErrorKind::OutOfMemory)?;
        buf.try_reserve_exact(room).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let start = buf.as_ptr().addr().wrapping_neg() % ALIGN;
        buf.resize(start, 0);
        Ok((buf, start))
    }

    /// `len` zero bytes in anonymous pages; `None` for small sizes, or if the system or build has
    /// no support.
    #[cfg(feature = "mmap")]
    fn pages(len: usize) -> Option<Aligned> {
        if len < LARGE_PAGES_MIN {
            return None;
        }
        crate::mmap::zeroed(len).ok().map(Aligned::Pages)
    }

    #[cfg(not(feature = "mmap"))]
    fn pages(_: usize) -> Option<Aligned> {
        None
    }

    /// `len` zero bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] if allocation fails.
    pub(crate) fn zeroed(len: usize) -> io::Result<Aligned> {
        if let Some(pages) = Aligned::pages(len) {
            return Ok(pages);
        }
        let (mut buf, start) = Aligned::heap_buffer(len)?;
        buf.resize(start + len, 0);
        Ok(Aligned::Heap { buf, start })
    }

    /// Reads the next `len` bytes of `file`, which must have that many.
    fn read(mut file: &File, len: usize) -> io::Result<Aligned> {
        if let Some(mut pages) = Aligned::pages(len) {
            file.read_exact(&mut pages)?;
            return Ok(pages);
        }
        let (mut buf, start) = Aligned::heap_buffer(len)?;
        let got = file.take(len as u64).read_to_end(&mut buf)?;
        if got != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Aligned::Heap { buf, start })
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Aligned::Heap { buf, start } => &buf[*start..],
            #[cfg(feature = "mmap")]
            Aligned::Pages(pages) => pages,
        }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Aligned::Heap { buf, start } => &mut buf[*start..],
            #[cfg(feature = "mmap")]
            Aligned::Pages(pages) => pages,
        }
    }
}

/// The bytes of a file. Their address is stable while this lives, even if it is moved.
pub(crate) enum Bytes {
    /// Mapped.
    #[cfg(feature = "mmap")]
    Map(memmap2::Mmap),
    /// Read.
    Read(Aligned),
    /// Provided by the caller.
    Given(Cow<'static, [u8]>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(feature = "mmap")]
            Bytes::Map(map) => map,
            Bytes::Read(bytes) => bytes,
            Bytes::Given(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// Maps a file of `len` bytes; `None` if the system or build has no support.
    #[cfg(feature = "mmap")]
    pub(crate) fn map(file: &File, len: usize) -> Option<Bytes> {
        crate::mmap::map(file, len).ok().map(Bytes::Map)
    }

    /// Maps a file of `len` bytes; `None` if the system or build has no support.
    #[cfg(not(feature = "mmap"))]
    pub(crate) fn map(_: &File, _: usize) -> Option<Bytes> {
        None
    }

    /// Reads the next `len` bytes of the file, which must have that many.
    pub(crate) fn read(file: &File, len: usize) -> io::Result<Bytes> {
        Aligned::read(file, len).map(Bytes::Read)
    }

    /// Tells the system that these bytes will not be read soon, so that they don't count as this
    /// process's memory: those of a mapped file come back from the file if they are.
    pub(crate) fn discard(&self, range: std::ops::Range<usize>) {
        match self {
            #[cfg(feature = "mmap")]
            Bytes::Map(map) => crate::mmap::discard(map, range),
            Bytes::Read(_) | Bytes::Given(_) => {
                let _ = range;
            }
        }
    }

    /// Number of bytes in memory owned by the model, as opposed to pages of a file.
    pub(crate) fn owned(&self) -> usize {
        match self {
            #[cfg(feature = "mmap")]
            Bytes::Map(_) => 0,
            Bytes::Read(bytes) => bytes.len(),
            Bytes::Given(Cow::Owned(bytes)) => bytes.len(),
            Bytes::Given(Cow::Borrowed(_)) => 0,
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self {
            #[cfg(feature = "mmap")]
            Bytes::Map(_) => "mapped",
            Bytes::Read(_) => "read",
            Bytes::Given(_) => "given",
        };
        write!(f, "{} bytes, {how}", self.len())
    }
}

/// Opens a regular file and returns its length. Anything else (a pipe, a device) could block
/// forever or never end, so it is refused before it is opened.
pub(crate) fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let regular = |m: &std::fs::Metadata| match m.is_file() {
        true => Ok(m.len()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    };
    regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    let len = regular(&file.metadata()?)?;
    Ok((file, len))
}

/// True if two paths are the same file, including hard links if the system can tell.
pub(crate) fn is_same(a: &Path, b: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (a, b) = (std::fs::metadata(a)?, std::fs::metadata(b)?);
        if (a.dev(), a.ino()) == (b.dev(), b.ino()) {
            return Ok(true);
        }
    }
    Ok(std::fs::canonicalize(a)? == std::fs::canonicalize(b)?)
}

/// File that is deleted unless it is finished.
pub(crate) struct Unfinished {
    path: Option<std::path::PathBuf>,
}

impl Unfinished {
    /// Creates a new file in the folder of `output`.
    pub(crate) fn beside(output: &Path) -> io::Result<(File, Unfinished)> {
        let mut name = std::ffi::OsString::from(".");
        name.push(output.file_name().unwrap_or_default());
        name.push(format!(".{}.part", std::process::id()));
        let path = output.with_file_name(name);
        let file = File::create_new(&path)?;
        Ok((file, Unfinished { path: Some(path) }))
    }

    /// Renames the file to its final name.
    pub(crate) fn finish(mut self, output: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            std::fs::rename(path, output)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_bytes_are_aligned_and_zero() {
        for len in [0, 1, 63, 64, 65, 1000, (16 << 20) + 1] {
            let b = Aligned::zeroed(len).unwrap();
            assert_eq!(b.len(), len);
            assert!(b.iter().all(|&x| x == 0));
            assert!(len == 0 || b.as_ptr().addr().is_multiple_of(ALIGN));
        }
    }

    #[test]
    fn more_than_memory_is_an_error() {
        for len in [usize::MAX, usize::MAX / 2 + 1] {
            let e = Aligned::zeroed(len).err().unwrap();
            assert_eq!(e.kind(), io::ErrorKind::OutOfMemory);
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_opened() {
        assert!(open_file(Path::new("/dev/zero")).is_err());
        assert!(open_file(Path::new(env!("CARGO_MANIFEST_DIR"))).is_err());
    }
}
