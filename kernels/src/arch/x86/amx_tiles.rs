//! The tiles of AMX: registers of sixteen rows of 64 bytes, and products of them (Intel SDM, vol. 1,
//! chapter 18). By inline assembly: the intrinsics are not stable.
//!
//! The compiler knows nothing of tiles and makes no use of them, and the ABI keeps none over
//! calls. So a block of assembly finds its operands in memory and leaves its sums there; only the
//! configuration lives from one block to the next, as long as a [`Tmul`] does, and drivers call
//! nothing while they have one.

use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};

/// Rows of a tile, and 32-bit lanes of a row.
pub(super) const SIDE: usize = 16;
/// Integers of a tile.
pub(super) const TILE: usize = SIDE * SIDE;
/// Bytes of a row that [`TileDot::four`] multiplies in one step.
pub(super) const STEP: usize = 64;

/// Products of tiles, configured; dropped, they are released.
///
/// # Safety
/// Of all functions: what the implementation asks of the CPU.
pub(super) trait TileDot: Sized {
    /// For products of rows of `k` bytes: 64, or less and a multiple of 4.
    unsafe fn configure(k: usize) -> Self;

    /// The sums of products of sixteen rows of codes with sixteen of weights, sixteen integers for
    /// each row of codes. `SET` is 0 or 1, in turns: other registers, so that one product need not
    /// wait for another.
    ///
    /// # Safety
    /// A row of `k` codes lies at `x` and fifteen times `ld` bytes further; at `w`, `k / 4` groups of
    /// four bytes of each of the weights' rows side by side; [`TILE`] integers can be written at `to`,
    /// which is aligned to 64.
    unsafe fn one<const SET: usize>(&self, x: *const i8, ld: usize, w: *const u8, to: *mut i32);

    /// The same for 32 rows of each and rows of `steps` (not 0) times 64 bytes, configured for 64: the
    /// first sixteen rows of codes with the first and the last sixteen of weights, then the others.
    ///
    /// # Safety
    /// As [`TileDot::one`], with twice as many rows and `steps` times as many groups, and room for
    /// four tiles at `to`.
    unsafe fn four(&self, x: *const i8, ld: usize, w: *const u8, steps: usize, to: *mut i32);
}

/// Operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The instructions. Of the CPU they ask AMX-INT8, and of the process that it may use tiles
/// ([`permitted`]).
pub(super) struct Tmul(());

/// Assembly that changes all tiles and memory.
macro_rules! tiles {
    ($($code:literal),* ; $($operands:tt)*) => {
        asm!(
            $($code,)*
            $($operands)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

impl TileDot for Tmul {
    #[inline(always)]
    unsafe fn configure(k: usize) -> Self {
        // Sums are tiles 0 to 3, codes 4 and 5, weights 6 and 7.
        let mut config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        config.row_bytes[..8].copy_from_slice(&[64, 64, 64, 64, k as u16, k as u16, 64, 64]);
        let (all, groups) = (SIDE as u8, (k / 4) as u8);
        config.rows[..8].copy_from_slice(&[all, all, all, all, all, all, groups, groups]);
        // SAFETY: the CPU and the process by the caller; 64 bytes at config, as the format has it.
        unsafe { tiles!("ldtilecfg [{0}]"; in(reg) &raw const config,) };
        Tmul(())
    }

    #[inline(always)]
    unsafe fn one<const SET: usize>(&self, x: *const i8, ld: usize, w: *const u8, to: *mut i32) {
        // SAFETY: the caller's promises; a Tmul exists only while tiles are configured.
        unsafe {
            if SET == 0 {
                tiles!(
                    "tilezero tmm0",
                    "tileloadd tmm6, [{w} + {row}*1]",
                    "tileloadd tmm4, [{x} + {ld}*1]",
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tilestored [{to} + {row}*1], tmm0";
                    w = in(reg) w, x = in(reg) x, to = in(reg) to,
                    ld = in(reg) ld, row = in(reg) 4 * SIDE,
                );
            } else {
                tiles!(
                    "tilezero tmm1",
                    "tileloadd tmm7, [{w} + {row}*1]",
                    "tileloadd tmm5, [{x} + {ld}*1]",
                    "tdpbssd tmm1, tmm5, tmm7",
                    "tilestored [{to} + {row}*1], tmm1";
                    w = in(reg) w, x = in(reg) x, to = in(reg) to,
                    ld = in(reg) ld, row = in(reg) 4 * SIDE,
                );
            }
        }
    }

    #[inline(always)]
    unsafe fn four(&self, x: *const i8, ld: usize, w: *const u8, steps: usize, to: *mut i32) {
        // SAFETY: as above.
        unsafe {
            tiles!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{w} + {group}*1]",
                "tileloadd tmm4, [{x0} + {ld}*1]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {group}*1 + 64]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{x1} + {ld}*1]",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "add {x0}, 64",
                "add {x1}, 64",
                "add {w}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{to} + {row}*1], tmm0",
                "tilestored [{to} + {row}*1 + 1024], tmm1",
                "tilestored [{to} + {row}*1 + 2048], tmm2",
                "tilestored [{to} + {row}*1 + 3072], tmm3";
                w = inout(reg) w => _, x0 = inout(reg) x => _,
                x1 = inout(reg) x.wrapping_add(SIDE * ld) => _,
                steps = inout(reg) steps => _, to = in(reg) to, ld = in(reg) ld,
                row = in(reg) 4 * SIDE, group = in(reg) 8 * SIDE,
            );
        }
    }
}

impl Drop for Tmul {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: where tiles were configured they can be released.
        unsafe { tiles!("tilerelease";) };
    }
}

impl Tmul {
    /// Products from registers, six tiles of sums a round: for measuring.
    #[inline(always)]
    #[cfg(feature = "roofline")]
    pub(super) fn rounds(&self, rounds: u64) {
        // SAFETY: as in `one`, and no memory.
        unsafe {
            tiles!(
                "test {n}, {n}",
                "jz 3f",
                "2:",
                "tdpbssd tmm0, tmm6, tmm7",
                "tdpbssd tmm1, tmm6, tmm7",
                "tdpbssd tmm2, tmm6, tmm7",
                "tdpbssd tmm3, tmm6, tmm7",
                "tdpbssd tmm4, tmm6, tmm7",
                "tdpbssd tmm5, tmm6, tmm7",
                "dec {n}",
                "jnz 2b",
                "3:";
                n = inout(reg) rounds => _,
            );
        }
    }
}

/// Linux's answer: not asked yet, may, may not.
static ANSWER: AtomicU8 = AtomicU8::new(0);

/// Asks Linux to let the process use tiles, once for all threads: it then saves
/// larger registers for each that uses them.
pub(super) fn permitted() -> bool {
    match ANSWER.load(Ordering::Relaxed) {
        0 => {
            // Threads that ask at the same time get the same answer.
            let may = ask();
            ANSWER.store(if may { 1 } else { 2 }, Ordering::Relaxed);
            may
        }
        answer => answer == 1,
    }
}

/// Asks Linux (Documentation/arch/x86/xstate.rst).
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn ask() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let answer: isize;
    // SAFETY: a system call of two numbers. It keeps all registers but rax, rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

/// Elsewhere nobody is asked yet.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn ask() -> bool {
    false
}

/// Tiles in plain Rust, so that the drivers can be tested on any CPU.
#[cfg(test)]
pub(super) mod model {
    use super::{SIDE, STEP, TileDot};

    /// Bytes of a row that they were configured for.
    pub(in crate::arch::x86) struct Model(usize);

    /// One product of `groups` groups.
    unsafe fn product(
        x: *const i8,
        ld: usize,
        (w, stride, groups): (*const u8, usize, usize),
        to: *mut i32,
    ) {
        for t in 0..SIDE {
            for r in 0..SIDE {
                let mut sum = 0i32;
                for k in 0..4 * groups {
                    // SAFETY: the caller's promises.
                    let (x, w) = unsafe {
                        (*x.add(t * ld + k), *w.add(k / 4 * stride + 4 * r + k % 4).cast::<i8>())
                    };
                    sum += i32::from(x) * i32::from(w);
                }
                // SAFETY: as above.
                unsafe { *to.add(t * SIDE + r) = sum };
            }
        }
    }

    impl TileDot for Model {
        unsafe fn configure(k: usize) -> Self {
            assert!(k.is_multiple_of(4) && (1..=STEP).contains(&k));
            Model(k)
        }

        unsafe fn one<const SET: usize>(
            &self,
            x: *const i8,
            ld: usize,
            w: *const u8,
            to: *mut i32,
        ) {
            assert!(SET < 2 && to.addr().is_multiple_of(64));
            // SAFETY: the caller's promises.
            unsafe { product(x, ld, (w, 4 * SIDE, self.0 / 4), to) }
        }

        unsafe fn four(&self, x: *const i8, ld: usize, w: *const u8, steps: usize, to: *mut i32) {
            assert!(self.0 == STEP && steps > 0 && to.addr().is_multiple_of(64));
            for i in 0..4 {
                let (x, w) = (x.wrapping_add(i / 2 * SIDE * ld), w.wrapping_add(i % 2 * 4 * SIDE));
                // SAFETY: the caller's promises.
                unsafe {
                    product(x, ld, (w, 8 * SIDE, steps * STEP / 4), to.add(i * super::TILE));
                }
            }
        }
    }
}
