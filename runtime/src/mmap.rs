//! Memory-mapped files (the only `unsafe` code of loading) and anonymous page-aligned memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapMut, MmapOptions};

/// Maps the file's first `len` bytes, read-only.
///
/// If another program truncates the file while it is mapped, the next read of the missing part is a
/// fault (SIGBUS) that ends the process. Callers that can't rule this out disable mapping with
/// `LoadOptions::mmap`.
pub(crate) fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // The bytes of a map are only ever seen as `&[u8]`, or as plain numbers for which every bit
    // pattern is valid, and everything read from them that determines a length or an offset is
    // copied out and checked before use. So a file that another program rewrites in place changes
    // numbers, but nothing that memory safety relies on.
    //
    // SAFETY: the mapping is read-only and private to this process. The documentation of
    // `LoadOptions::mmap` requires of the caller, as every program that maps files does, that the
    // file is neither rewritten nor truncated.
    let map = unsafe { MmapOptions::new().len(len).map(file) }?;
    // Requests large pages, for file systems that cache files in large pieces and for files not
    // cached yet: a program that only reads gets 30 instead of 23 to 27 GB/s after a cold start (90
    // MB). Decoding gains a factor of up to 1.03, often nothing. It is only a hint, which not every
    // system supports.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

/// Gives back the pages of a range of a mapped file, if the system can: the next read of them comes
/// from the file again.
pub(crate) fn discard(map: &Mmap, range: std::ops::Range<usize>) {
    #[cfg(target_os = "linux")]
    {
        use memmap2::UncheckedAdvice::DontNeed;

        let Some(part) = map.get(range.clone()) else { return };
        // SAFETY: nothing was written to these pages, which are mapped read-only: what is read after
        // this is the file's content, as before.
        let _ = unsafe { map.unchecked_advise_range(DontNeed, range.start, part.len()) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (map, range);
}

/// `len` zero bytes, in large pages if the system follows the hint.
pub(crate) fn zeroed(len: usize) -> io::Result<MmapMut> {
    // At most as large as a slice can be.
    isize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let pages = MmapMut::map_anon(len)?;
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Ok(pages)
}
