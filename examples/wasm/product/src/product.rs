//! Products of unpacked weights, with vectors where the build has them.

/// Rows of weights side by side: lanes of a register.
pub(crate) const ROWS: usize = 4;

/// Lanes of a sum of floats: part of its definition.
const LANES: usize = 16;

/// Four rows of unpacked weights.
pub(crate) struct Codes<'a> {
    /// Row after row.
    pub(crate) codes: &'a [i8],
    /// The four rows' scales of each group.
    pub(crate) scales: &'a [[f32; ROWS]],
    /// Their minimums, in formats that have some.
    pub(crate) mins: Option<&'a [[f32; ROWS]]>,
    /// Codes that share a scale: 16, 32 or 256.
    pub(crate) group: usize,
}

/// A row of quantised activations.
pub(crate) struct Row<'a> {
    pub(crate) q: &'a [i8],
    pub(crate) lo: Option<&'a [i8]>,
    pub(crate) d: &'a [f32],
    /// Sums of 16 codes each.
    pub(crate) s: &'a [i32],
    /// Codes that share a scale.
    pub(crate) block: usize,
}

/// Four outputs: over the groups in ascending order `acc = acc + (dw * dx) * (isum as f32)`, with
/// minimums `(dw * dx) * (isum as f32) + mw * (dx * (xsum as f32))`.
pub(crate) fn four(w: &Codes<'_>, x: &Row<'_>) -> [f32; ROWS] {
    let cols = x.q.len();
    let rows = w.codes.chunks_exact(cols);
    let mut ws = [&w.codes[..0]; ROWS];
    for (w, row) in ws.iter_mut().zip(rows) {
        *w = row;
    }
    assert!(ws.iter().all(|w| w.len() == cols));
    let mut acc = [0.0f32; ROWS];
    for (g, (q, scales)) in x.q.chunks(w.group).zip(w.scales).enumerate() {
        let first = g * w.group;
        let codes = ws.map(|row| &row[first..][..q.len()]);
        let mut sums = sums(codes, q);
        if let Some(lo) = x.lo {
            let lower = self::sums(codes, &lo[first..][..q.len()]);
            for (sum, lower) in sums.iter_mut().zip(lower) {
                *sum = 255 * *sum + lower;
            }
        }
        let d = x.d[first / x.block];
        let mut terms = [0.0; ROWS];
        for i in 0..ROWS {
            terms[i] = (scales[i] * d) * sums[i] as f32;
        }
        if let Some(mins) = w.mins {
            let s: i32 = x.s[first / 16..][..q.len() / 16].iter().sum();
            let s = d * s as f32;
            for i in 0..ROWS {
                terms[i] += mins[g][i] * s;
            }
        }
        for i in 0..ROWS {
            acc[i] += terms[i];
        }
    }
    acc
}

/// The sums of products of four rows of codes with the same activations; lengths are multiples of 16.
#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn sums(w: [&[i8]; ROWS], x: &[i8]) -> [i32; ROWS] {
    w.map(|w| w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum())
}

/// The sums of products of four rows of codes with the same activations; lengths are multiples of 16.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn sums(w: [&[i8]; ROWS], x: &[i8]) -> [i32; ROWS] {
    use core::arch::wasm32::*;

    /// # Safety
    /// Sixteen bytes behind `p`, which vectors of wasm may have anywhere.
    #[inline(always)]
    unsafe fn load(p: &[i8; 16]) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { v128_load(p.as_ptr().cast()) }
    }
    let mut acc = [i32x4_splat(0); ROWS];
    let ws = w.map(|w| w.as_chunks::<16>().0);
    for (i, x) in x.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: an array of sixteen.
        let x = unsafe { load(x) };
        for (acc, w) in acc.iter_mut().zip(ws) {
            // SAFETY: an array of sixteen.
            let w = unsafe { load(&w[i]) };
            // At most 127 * 128 each, so that pairs of them are summed in 32 bits.
            let lo = i32x4_extadd_pairwise_i16x8(i16x8_extmul_low_i8x16(w, x));
            let hi = i32x4_extadd_pairwise_i16x8(i16x8_extmul_high_i8x16(w, x));
            *acc = i32x4_add(*acc, i32x4_add(lo, hi));
        }
    }
    let [a, b, c, d] = acc;
    let pairs =
        |a, b| i32x4_add(i32x4_shuffle::<0, 4, 2, 6>(a, b), i32x4_shuffle::<1, 5, 3, 7>(a, b));
    let (ab, cd) = (pairs(a, b), pairs(c, d));
    let all = i32x4_add(i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd));
    [
        i32x4_extract_lane::<0>(all),
        i32x4_extract_lane::<1>(all),
        i32x4_extract_lane::<2>(all),
        i32x4_extract_lane::<3>(all),
    ]
}

/// One output of floats: sixteen strided partial sums by fused multiply-adds, then halves added to
/// halves.
pub(crate) fn one(w: &[f32], x: &[f32]) -> f32 {
    let mut acc = [0.0f32; LANES];
    let (ws, w_rest) = w.as_chunks::<LANES>();
    let (xs, x_rest) = x.as_chunks::<LANES>();
    for (w, x) in ws.iter().zip(xs) {
        fused(w, x, &mut acc);
    }
    if !w_rest.is_empty() {
        let padded = |rest: &[f32]| {
            let mut full = [0.0; LANES];
            full[..rest.len()].copy_from_slice(rest);
            full
        };
        fused(&padded(w_rest), &padded(x_rest), &mut acc);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            acc[i] += acc[i + half];
        }
        half /= 2;
    }
    acc[0]
}

/// `acc = w * x + acc`, rounded once.
///
/// The product is exact in f64. Rounding the sum to f64 and then to f32 is the same as rounding it
/// once, unless the f64 lies just between two f32 (its last 29 bits are a one and zeros) or the f32
/// is subnormal: then libm computes it the slow way.
fn fused(w: &[f32; LANES], x: &[f32; LANES], acc: &mut [f32; LANES]) {
    let mut hard = false;
    let mut easy = [0.0f32; LANES];
    for i in 0..LANES {
        let sum = f64::from(w[i]) * f64::from(x[i]) + f64::from(acc[i]);
        easy[i] = sum as f32;
        hard |= sum.to_bits() as u32 & 0x1fff_ffff == 0x1000_0000;
        hard |= easy[i].abs() <= f32::MIN_POSITIVE;
    }
    if hard {
        for i in 0..LANES {
            acc[i] = libm::fmaf(w[i], x[i], acc[i]);
        }
    } else {
        *acc = easy;
    }
}
