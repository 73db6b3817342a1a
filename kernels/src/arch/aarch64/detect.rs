//! Detection of CPU features, from the auxiliary vector that the Linux kernel gives every process.
//!
//! The identification registers (`mrs` of `ID_AA64ISAR0_EL1`) say the same, but reading them is safe
//! only where the kernel emulates it: from Linux 4.11 on, which it reports as the bit `CPUID` of
//! `AT_HWCAP` (Documentation/arch/arm64/cpu-feature-registers.rst), in the vector that has the answer
//! itself. The vector is in `/proc/self/auxv` on every version of Linux and Android for this
//! architecture, and in QEMU's user mode. Without libc it takes three system calls, whose numbers
//! never change. Where there is no `/proc`, or another system, it stays at what the compiler was told
//! (`-C target-feature`, or a target such as macOS whose CPUs all have it).

/// The sets that Teff has code for, beyond NEON, which every target of this module has.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) dotprod: bool,
    pub(super) i8mm: bool,
}

pub(super) fn detect() -> Found {
    let compiled = Found {
        dotprod: cfg!(target_feature = "dotprod"),
        i8mm: cfg!(all(target_feature = "dotprod", target_feature = "i8mm")),
    };
    if compiled.i8mm {
        return compiled;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some([hwcap, hwcap2]) = linux::hwcaps() {
        // HWCAP_ASIMDDP and HWCAP2_I8MM (arch/arm64/include/uapi/asm/hwcap.h).
        let dotprod = compiled.dotprod || hwcap >> 20 & 1 == 1;
        return Found { dotprod, i8mm: dotprod && hwcap2 >> 13 & 1 == 1 };
    }
    compiled
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use core::arch::asm;
    use core::ffi::CStr;

    const OPENAT: usize = 56;
    const CLOSE: usize = 57;
    const READ: usize = 63;
    /// `AT_FDCWD`, which an absolute path ignores.
    const CWD: usize = -100isize as usize;
    /// `O_CLOEXEC`; reading is 0.
    const CLOEXEC: usize = 0o2_000_000;

    const AT_NULL: u64 = 0;
    const AT_HWCAP: u64 = 16;
    const AT_HWCAP2: u64 = 26;

    /// The result, or minus the error's number.
    ///
    /// # Safety
    /// The arguments are right for system call `n`, which has four at most.
    unsafe fn syscall(n: usize, a: [usize; 4]) -> isize {
        let result;
        // SAFETY: the kernel's convention: number in x8, arguments from x0 on, the result in x0, and
        // all other registers kept; what the call does to memory is the caller's promise.
        unsafe {
            asm!(
                "svc 0",
                in("x8") n,
                inlateout("x0") a[0] => result,
                in("x1") a[1],
                in("x2") a[2],
                in("x3") a[3],
                options(nostack),
            );
        }
        result
    }

    /// A file open for reading.
    struct File(usize);

    impl File {
        fn open(path: &CStr) -> Option<File> {
            // SAFETY: openat reads the path up to its NUL.
            let fd = unsafe { syscall(OPENAT, [CWD, path.as_ptr() as usize, CLOEXEC, 0]) };
            usize::try_from(fd).ok().map(File)
        }

        fn read(&self, to: &mut [u8]) -> Option<usize> {
            // SAFETY: read writes to this slice, no more than its length.
            let n = unsafe { syscall(READ, [self.0, to.as_mut_ptr() as usize, to.len(), 0]) };
            usize::try_from(n).ok()
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            // SAFETY: the descriptor is ours alone.
            unsafe { syscall(CLOSE, [self.0, 0, 0, 0]) };
        }
    }

    /// `AT_HWCAP` and `AT_HWCAP2` of this process; 0 for one that isn't there.
    pub(super) fn hwcaps() -> Option<[u64; 2]> {
        let file = File::open(c"/proc/self/auxv")?;
        // Pairs of tag and value. Kernels have about twenty; of more, the first are enough.
        let mut bytes = [0; 1024];
        let mut len = 0;
        while len < bytes.len() {
            match file.read(&mut bytes[len..])? {
                0 => break,
                n => len += n,
            }
        }
        let mut found = [0; 2];
        for pair in bytes[..len].as_chunks::<16>().0 {
            let [tag, value] = bytemuck::cast::<[u8; 16], [u64; 2]>(*pair);
            match tag {
                AT_NULL => break,
                AT_HWCAP => found[0] = value,
                AT_HWCAP2 => found[1] = value,
                _ => {}
            }
        }
        Some(found)
    }
}
