//! Files mapped into memory, the only `unsafe` of loading, and memory in pages of its own.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapMut, MmapOptions};

/// The file's first `len` bytes, read-only, where the system keeps them.
///
/// Whoever truncates the file while it is mapped makes the next read of the missing part a fault
/// of the process (SIGBUS); `LoadOptions::mmap` switches mapping off for who can't rule that out.
pub(crate) fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // The bytes of a map are only ever seen as `&[u8]` or as plain numbers for which every bit
    // pattern is a value, and everything read from them that decides a length or an offset is copied
    // out and checked before it is used. So a file that another program rewrites in place changes
    // numbers, and nothing that memory safety rests on.
    //
    // SAFETY: the mapping is read-only and private to this process. That nobody rewrites the file,
    // or truncates it, is asked of the caller in the documentation of `LoadOptions::mmap`, as of
    // every program that maps files.
    let map = unsafe { MmapOptions::new().len(len).map(file) }?;
    // Where the system has the file in large pieces or is yet to read it, large pages: a program that
    // only reads does so at 30 for 23 to 27 GB/s after a cold start (90 MB). Teff's decoding gains up to
    // 1.03, often nothing. It is an advice, which not every system takes.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

/// `len` zeros, in large pages where the system takes the advice.
pub(crate) fn zeroed(len: usize) -> io::Result<MmapMut> {
    // No more than a slice can have.
    isize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let pages = MmapMut::map_anon(len)?;
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Ok(pages)
}
