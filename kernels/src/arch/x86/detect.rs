//! Detection of the features of the CPU, and of the registers that the operating system saves, by CPUID
//! and XGETBV (Intel SDM, vol. 1, 13.2 and 15.2; vol. 2, CPUID).

use core::arch::x86_64::{__cpuid_count, _xgetbv};

/// The sets that Teff has code for.
pub(super) struct Found {
    pub(super) avx2: bool,
    pub(super) avxvnni: bool,
    pub(super) avx512bw: bool,
    pub(super) avx512: bool,
    pub(super) amx: bool,
}

fn bits(word: u32, wanted: &[u32]) -> bool {
    wanted.iter().all(|b| word >> b & 1 == 1)
}

#[target_feature(enable = "xsave")]
fn saved_state() -> u64 {
    // SAFETY: called only where CPUID reports OSXSAVE, so XGETBV exists and register 0 does too.
    unsafe { _xgetbv(0) }
}

pub(super) fn detect() -> Found {
    let none = Found { avx2: false, avxvnni: false, avx512bw: false, avx512: false, amx: false };
    if __cpuid_count(0, 0).eax < 7 {
        return none;
    }
    let (one, seven) = (__cpuid_count(1, 0), __cpuid_count(7, 0));
    if !bits(one.ecx, &[27]) {
        return none; // no OSXSAVE: the system saves no vector registers
    }
    // SAFETY: OSXSAVE implies XSAVE and XGETBV.
    let state = unsafe { saved_state() };
    // FMA, F16C and AVX; AVX2; the halves of the 256-bit registers.
    let avx2 = bits(one.ecx, &[12, 29, 28]) && bits(seven.ebx, &[5]) && state & 0b110 == 0b110;
    // The second leaf exists where the first one's EAX says so.
    let avxvnni = avx2 && seven.eax >= 1 && bits(__cpuid_count(7, 1).eax, &[4]);
    // F, DQ, BW, VL; mask registers and both halves of the 512-bit registers.
    let avx512bw = avx2 && bits(seven.ebx, &[16, 17, 30, 31]) && state & 0b1110_0000 == 0b1110_0000;
    let avx512 = avx512bw && bits(seven.ecx, &[11]);
    // TILE, INT8; the configuration and the tiles.
    let amx = avx512 && bits(seven.edx, &[24, 25]) && state >> 17 & 0b11 == 0b11;
    Found { avx2, avxvnni, avx512bw, avx512, amx }
}
