//! The quantisers: ggml's bytes; of those that have minimums or search for scales, and of the ternary
//! ones, the steps that bound their error, and input that has no codes.

mod common;

use common::{Kind, Rng, floats};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use teff_kernels::blocks::{
    F16, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K,
};
use teff_kernels::{
    CodeBlock, DenseBlock, Format, dequantize_row, quantize_row, quantize_row_weighted,
};

/// The formats whose rows can be quantised alone: I2_S has a scale of the tensor.
fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|f| f.is_quantized() && *f != Format::I2_S)
}

fn quantized(format: Format, x: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xa5; format.row_bytes(x.len()).unwrap()];
    quantize_row(format, x, &mut bytes);
    bytes
}

fn values(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut y = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    dequantize_row(format, bytes, &mut y);
    y
}

/// The input of the golden hashes: 24 bits of a linear
/// congruential generator (Numerical Recipes) in -1..1, times a power of two that changes from 32
/// to 32; some of them all zero.
fn golden_input() -> Vec<f32> {
    let mut s = 1u32;
    (0..32 * 512)
        .map(|i| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = (s >> 8) as f32 / (1 << 23) as f32 - 1.0;
            if i / 32 % 23 == 5 { 0.0 } else { x * 2f32.powi(i / 32 % 17 - 8) }
        })
        .collect()
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Hashes of what `ggml_quantize_chunk` of ggml 0.25.3 (as built for llama-cpp-python 0.3.36 on
/// x86-64, without importances, rows of 256) makes of [`golden_input`], and of what the `gguf`
/// package 0.19.0 (`gguf.quants.dequantize`) makes of that.
#[test]
fn formats_are_ggml_s() {
    let golden = [
        // Quantised by the `gguf` package too.
        (Format::F16, 0xe99b_f126_3b06_a4ec, 0x0b3b_a656_2705_af34),
        (Format::BF16, 0x379b_4f78_55fc_1e7f, 0x5d51_2700_47c5_b477),
        (Format::Q4_0, 0x4cb6_22b3_2dc2_9060, 0x366d_24ca_c6dc_6c12),
        (Format::Q8_0, 0x4eb7_4274_c2c9_ffd4, 0x0679_9965_e98d_f488),
        (Format::Q4_1, 0x0812_cc4c_9c90_ab0e, 0x1c85_00bb_e615_aada),
        (Format::Q5_0, 0x300c_490b_1352_84ae, 0xadbc_b398_197e_b02e),
        (Format::Q5_1, 0x7450_48dc_025f_c9f0, 0xcfec_228e_d9e5_ea2c),
        (Format::Q2_K, 0xb6b8_3e34_6ac5_83ca, 0x7465_28bc_4757_2b58),
        (Format::Q3_K, 0x06c9_1aaf_2b43_eb09, 0x00e7_62e0_5779_7cd0),
        (Format::Q4_K, 0xc3c3_0337_d330_5500, 0x58b1_7a2b_8181_032a),
        (Format::Q5_K, 0x8dc9_35d7_5384_6348, 0x0f38_2b28_759d_2563),
        (Format::Q6_K, 0x5653_d474_ac35_83fa, 0x4d6a_1cf2_e57a_52ef),
        (Format::IQ4_NL, 0x6fdc_f593_0a79_7221, 0x34ac_c811_e019_c48d),
        (Format::IQ4_XS, 0x3590_cfc5_0b88_7e0f, 0x49f5_8042_7527_80cb),
        // (ggml 0.13.1, as in pywhispercpp 1.5.1.)
        (Format::MXFP4, 0xbdc1_2193_aa66_b87b, 0x186e_7795_d0f8_45eb),
        // (ggml 0.25.3, as in the npm package @node-llama-cpp/linux-x64 3.22.1. The `gguf` package lacks Q1_0 and Q2_0: what their
        // definitions say, computed with numpy.)
        (Format::NVFP4, 0xcbf1_f696_4d26_a900, 0xbbe1_1d8c_d94d_7cc4),
        (Format::Q1_0, 0xb502_429d_b7ae_530b, 0xdb8e_1b7b_dbbe_63a5),
        (Format::Q2_0, 0xd595_80cb_1f63_cedf, 0xb2f1_473d_1d31_6a60),
        (Format::TQ1_0, 0x0989_658a_dac0_a692, 0xe0eb_0066_9312_75b2),
        (Format::TQ2_0, 0xe03b_cbe9_03bf_14f6, 0xe0eb_0066_9312_75b2),
    ];
    let x = golden_input();
    for (format, bytes, back) in golden {
        let quantized = quantized(format, &x);
        assert_eq!(hash(&quantized), bytes, "{format}: quantised");
        let y: Vec<u8> =
            values(format, &quantized).into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(hash(&y), back, "{format}: dequantised");
    }
}

/// The importances of the golden hashes, for rows of 512: squares of 24 bits of the generator, times a
/// power of two that changes from 16 to 16; some of them zero.
fn golden_importances() -> Vec<f32> {
    let mut s = 7u32;
    (0..512)
        .map(|i| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = (s >> 8) as f32 / (1 << 24) as f32;
            if i % 37 == 11 { 0.0 } else { x * x * 2f32.powi(i / 16 % 9 - 4) }
        })
        .collect()
}

fn weighted(format: Format, x: &[f32], importances: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xa5; format.row_bytes(x.len()).unwrap()];
    let row_bytes = format.row_bytes(importances.len()).unwrap();
    for (x, row) in x.chunks(importances.len()).zip(bytes.chunks_mut(row_bytes)) {
        quantize_row_weighted(format, x, importances, row);
    }
    bytes
}

/// Hashes of what `ggml_quantize_chunk` of ggml 0.25.3 (the npm package `@node-llama-cpp/linux-x64` 3.22.1)
/// makes of [`golden_input`] with [`golden_importances`]. (But for IQ1_M, 0.13.1 makes the same.)
#[test]
fn formats_with_importances_are_ggml_s() {
    let golden = [
        (Format::Q4_0, 0x2a7d_fedf_6af6_07c6),
        (Format::Q4_1, 0x7578_04a6_b961_f80c),
        (Format::Q5_0, 0x6287_c718_3022_933f),
        (Format::Q5_1, 0x636f_23e6_f733_8fac),
        (Format::Q2_K, 0xf2a3_2897_6ce2_6a07),
        (Format::Q3_K, 0xa106_8316_f907_849d),
        (Format::Q4_K, 0xdb92_eed4_e15c_3f0f),
        (Format::Q5_K, 0x1df9_99e7_37f9_c842),
        (Format::Q6_K, 0x887f_4300_b251_ab34),
        (Format::IQ4_NL, 0x14d1_9ed8_9be1_1e67),
        (Format::IQ4_XS, 0x4370_ca25_f50b_5ce8),
        (Format::IQ2_XXS, 0x9878_78ff_715b_7e8a),
        (Format::IQ2_XS, 0x7cd2_f1aa_ce40_acae),
        (Format::IQ2_S, 0x5cf8_4165_966f_1b87),
        (Format::IQ3_XXS, 0xeced_a21e_007b_19d2),
        (Format::IQ1_S, 0x98c5_89dd_f503_a511),
        (Format::IQ1_M, 0xbf28_4c05_58a9_1629),
    ];
    let (x, importances) = (golden_input(), golden_importances());
    for (format, bytes) in golden {
        assert_eq!(hash(&weighted(format, &x, &importances)), bytes, "{format}");
    }
    // Those with codebooks that can do without.
    let without = [
        (Format::IQ2_S, 0x7a23_3d0e_0164_244e),
        (Format::IQ3_XXS, 0x8a64_5d38_f491_de0b),
        (Format::IQ1_M, 0x22f6_9f31_c91f_2ae1),
    ];
    for (format, bytes) in without {
        assert_eq!(hash(&quantized(format, &x)), bytes, "{format} without importances");
    }
    // ggml moves the codes behind a sub-block of zeros in IQ3_S to the place of this one, from
    // where they aren't read, so that it is compared without such blocks.
    let filled: Vec<f32> = (0..)
        .zip(&x)
        .map(|(i, &x)| if x == 0.0 { ((i * 37 % 64) as f32 - 31.0) / 64.0 } else { x })
        .collect();
    let iq3_s = weighted(Format::IQ3_S, &filled, &importances);
    assert_eq!(hash(&iq3_s), 0x4b34_50d9_4c2d_8cff, "IQ3_S");
    assert_eq!(hash(&quantized(Format::IQ3_S, &filled)), 0x3ce9_e7ac_994b_a3f8, "IQ3_S");
    for format in [Format::F16, Format::Q8_0, Format::MXFP4, Format::TQ2_0] {
        assert_eq!(weighted(format, &x, &importances), quantized(format, &x), "{format}");
    }
}

/// The exponent is that of a logarithm rounded to f32: from so many floats below a power of two on it is that of the power.
/// What `ggml_quantize_chunk` of ggml 0.13.1 makes of them (pywhispercpp 1.5.1).
#[test]
fn exponents_of_mxfp4_are_ggml_s() {
    let powers = [
        (-16, 11),
        (-9, 5),
        (-8, 5),
        (-5, 2),
        (-2, 1),
        (-1, 0),
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 1),
        (4, 1),
        (8, 2),
        (9, 5),
        (16, 5),
        (17, 11),
    ];
    for (power, floats) in powers {
        for below in 0..24 {
            let peak = f32::from_bits(2f32.powi(power).to_bits() - below);
            let mut x = [0.0; 32];
            (x[3], x[5]) = (peak, -0.3 * peak);
            let e = power + 125 - i32::from(below > floats);
            assert_eq!(i32::from(quantized(Format::MXFP4, &x)[0]), e, "2^{power}, {below} below");
        }
    }
}

/// The roundoff of f16, and that of its smallest numbers.
const HALF: f64 = 1.0 / (1 << 11) as f64;
const TINY: f64 = 1.0 / (1 << 25) as f64;

fn within(error: f64, bound: f64, what: Format) -> TestCaseResult {
    prop_assert!(error <= bound, "{what}: off by {error:e} > {bound:e}");
    Ok(())
}

/// The least, the largest, and the largest magnitude.
fn span(x: &[f32]) -> (f64, f64, f64) {
    let (a, b) = x.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
    (f64::from(a), f64::from(b), f64::from(a.abs().max(b.abs())))
}

/// The root of the weighted mean square of `x - y`, or the weighted mean magnitude.
fn mean_error(x: &[f32], y: &[f32], w: impl Fn(f64) -> f64, squares: bool) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (&x, &y) in x.iter().zip(y) {
        let (w, e) = (w(f64::from(x)), (f64::from(x) - f64::from(y)).abs());
        sum += w * if squares { e * e } else { e };
        weights += w;
    }
    let mean = if weights > 0.0 { sum / weights } else { 0.0 };
    if squares { mean.sqrt() } else { mean }
}

/// No code in `low..=high` is nearer to an element than the one it has.
fn codes_are_nearest<B: CodeBlock>(x: &[f32], b: &B, low: i32, high: i32) -> TestCaseResult {
    for (i, &x) in x.iter().enumerate() {
        let (d, m) = (b.scale(i / B::SUB), b.min(i / B::SUB));
        let code = i32::from(b.codes(i / 32)[i % 32]);
        prop_assert!((low..=high).contains(&code));
        let error = |c: i32| (f64::from(d) * f64::from(c) + f64::from(m) - f64::from(x)).abs();
        let least = (low..=high).map(error).fold(f64::MAX, f64::min);
        // Ties may go either way, within the rounding of (x - m) / d.
        let slack = 1e-6 * (f64::from(m).abs() + f64::from(x).abs() + f64::from(d).abs());
        within(error(code), least + slack, B::FORMAT)?;
    }
    Ok(())
}

fn block<B: CodeBlock>(x: &[f32]) -> (B, Vec<f32>) {
    let mut b = [B::zeroed()];
    B::quantize(x, &mut b);
    let mut y = vec![0.0; x.len()];
    B::dequantize(&b, &mut y);
    (b[0], y)
}

/// A step of the span is the largest step that the scale can have. Rounding the scale costs the
/// largest code most; rounding the minimum costs all the same.
fn span_bound<B: CodeBlock>(x: &[f32], top: f64) -> TestCaseResult {
    let (_, y) = block::<B>(x);
    let (least, most, _) = span(x);
    let step = (most - least) / top;
    let bound =
        step * (0.5 + 1e-5) + top * (step * HALF + TINY) + least.abs() * (HALF + 1e-6) + TINY;
    for (x, y) in x.iter().zip(&y) {
        within((f64::from(*x) - f64::from(*y)).abs(), bound, B::FORMAT)?;
    }
    Ok(())
}

/// The search begins with the scale that spreads `top` steps over the span (and zero), where no
/// error is above half a step, and ends with no larger a weighted mean. Then the scale moves by at
/// most half a unit `d`, the minimum by half a `dmin` (and by the rounding of these to f16), while
/// codes only get better.
fn min_bound<B: CodeBlock>(
    x: &[f32],
    units: impl Fn(&B) -> (f32, f32, f64),
    top: f64,
    root: bool,
) -> TestCaseResult {
    let (b, y) = block::<B>(x);
    codes_are_nearest(x, &b, 0, top as i32)?;
    let (d, dmin, parts) = units(&b);
    let moved = |unit: f32| 0.5 * f64::from(unit) + parts * (f64::from(unit) * HALF + TINY) * 1.01;
    for (x, y) in x.chunks(B::SUB).zip(y.chunks(B::SUB)) {
        let (least, most, peak) = span(x);
        let step = (most - least.min(0.0)) / top;
        let bound = step * 0.5 + top * moved(d) + moved(dmin) + 1e-5 * peak;
        let squares = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let base = if root { (squares / x.len() as f64).sqrt() } else { 0.0 };
        within(mean_error(x, y, |x| base + x.abs(), root), bound, B::FORMAT)?;
    }
    Ok(())
}

/// The search begins with the scale that puts the element of largest magnitude on the code
/// `-steps`, where no error is above a whole step (the last one upwards), and ends with no larger
/// a mean square under the weights `x * x`. Then the scale moves by at most a unit `d`.
fn signed_bound<B: CodeBlock>(
    x: &[f32],
    unit: impl Fn(&B) -> (f32, f64),
    steps: f64,
) -> TestCaseResult {
    let (b, y) = block::<B>(x);
    codes_are_nearest(x, &b, -steps as i32, steps as i32 - 1)?;
    let (d, parts) = unit(&b);
    let d = f64::from(d).abs();
    for (x, y) in x.chunks(B::SUB).zip(y.chunks(B::SUB)) {
        let (_, _, peak) = span(x);
        // The last term: squares are compared within the rounding of sums, which shows as a root.
        let bound = peak / steps + steps * (d + parts * (d * HALF + TINY) * 1.01) + 0.005 * peak;
        within(mean_error(x, y, |x| x * x, true), bound, B::FORMAT)?;
    }
    Ok(())
}

/// The search begins with the scale that puts the element of largest magnitude on -127, where no error
/// is above 14 (from 113 to 127), and ends with no larger a mean square under the weights `x * x`.
/// Then the scale moves by at most `moved`.
fn uneven_bound<B: CodeBlock>(x: &[f32], moved: impl Fn(&B) -> f64) -> TestCaseResult {
    let (b, y) = block::<B>(x);
    for (x, y) in x.chunks(32).zip(y.chunks(32)) {
        let (_, _, peak) = span(x);
        let bound = peak * 14.0 / 127.0 + 127.0 * moved(&b) + 0.005 * peak;
        within(mean_error(x, y, |x| x * x, true), bound, B::FORMAT)?;
    }
    Ok(())
}

/// By how much the rounding to f16 moves the unit of a scale.
fn rounded(unit: F16) -> f64 {
    (f64::from(unit.get()).abs() * HALF + TINY) * 1.01
}

/// Numbers of one of the shapes that weights have.
fn shaped(r: &mut Rng, shape: usize, exponent: i32) -> Vec<f32> {
    let unit = 2f32.powi(exponent);
    (0..256)
        .map(|i| match shape {
            0 => r.float(),
            1 => r.float() * r.float() * r.float() / (0.01 + r.float().abs()), // heavy tails
            2 => r.float() * 2f32.powi(i / 16 % 12 - 6),
            3 => [0.0, r.float()][r.below(2)],
            4 => r.below(3) as f32 - 1.0,
            5 => r.float() + 1.5,
            6 => r.float() - 1.5,
            _ => -1.0, // all the same
        } * unit)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn weights_come_back(seed: u64, shape in 0..8usize, exponent in -10..8) {
        let x = &shaped(&mut Rng::new(seed), shape, exponent)[..];
        span_bound::<Q4_1>(&x[..32], 15.0)?;
        span_bound::<Q5_1>(&x[..32], 31.0)?;
        // As Q4_0 in `truth.rs`: the last step upwards is a whole one.
        let (_, y) = block::<Q5_0>(&x[..32]);
        let (_, _, peak) = span(&x[..32]);
        let bound = peak / 16.0 * (1.0 + 1e-5) + 16.0 * (peak / 16.0 * HALF + TINY);
        for (x, y) in x.iter().zip(&y) {
            within((f64::from(*x) - f64::from(*y)).abs(), bound, Format::Q5_0)?;
        }
        uneven_bound::<IQ4_NL>(&x[..32], |b| rounded(b.d))?;
        // By a whole unit where the largest scale has the other sign: there is no step 32.
        uneven_bound::<IQ4_XS>(x, |b| f64::from(b.d.get()).abs() + 32.0 * rounded(b.d))?;
        // Between 4 and 6, the widest steps; beyond 6 the last value is nearest, up to 8.
        let (b, y) = block::<MXFP4>(&x[..32]);
        for (x, y) in x.iter().zip(&y) {
            within((f64::from(*x) - f64::from(*y)).abs(), 4.0 * f64::from(b.scale(0)), Format::MXFP4)?;
        }
        min_bound::<Q2_K>(x, |b| (b.d.get(), b.dmin.get(), 15.0), 3.0, false)?;
        min_bound::<Q4_K>(x, |b| (b.d.get(), b.dmin.get(), 63.0), 15.0, true)?;
        min_bound::<Q5_K>(x, |b| (b.d.get(), b.dmin.get(), 63.0), 31.0, true)?;
        signed_bound::<Q3_K>(x, |b| (b.d.get(), 32.0), 4.0)?;
        signed_bound::<Q6_K>(x, |b| (b.d.get(), 128.0), 32.0)?;
    }

    /// Infinities, NaN and numbers beyond f16 don't stop the quantisers, and are their own
    /// block's business only.
    #[test]
    fn any_bits_are_taken(seed: u64, kind in 0..3usize) {
        let r = &mut Rng::new(seed);
        let bad = match kind {
            0 => floats(r, 256, Kind::Wild),
            1 => floats(r, 256, Kind::Extreme),
            _ => (0..256).map(|_| f32::from_bits(r.bits() as u32)).collect(),
        };
        let good = floats(r, 256, Kind::Plain);
        for format in formats() {
            let row = quantized(format, &[&good[..], &bad, &good].concat());
            let (first, rest) = row.split_at(row.len() / 3);
            let (middle, last) = rest.split_at(row.len() / 3);
            let alone = quantized(format, &good);
            prop_assert!(first == alone && last == alone, "{format}");
            prop_assert_eq!(middle, quantized(format, &bad));
            values(format, middle);
            let importances = floats(r, 256, if kind == 0 { Kind::Plain } else { Kind::Wild });
            values(format, &weighted(format, &bad, &importances));
        }
    }
}

#[test]
fn nothing_stays_nothing() {
    for format in formats() {
        for x in [0.0, -0.0] {
            let bytes = quantized(format, &[x; 512]);
            assert!(values(format, &bytes).iter().all(|&y| y == 0.0), "{format} of {x}");
            // These write the code of zero (IQ4_NL and IQ4_XS of what is nearest), which is not 0.
            use Format as F;
            let coded = matches!(format, F::Q4_0 | F::Q5_0 | F::TQ1_0 | F::TQ2_0);
            let coded = coded || matches!(format, F::IQ4_NL | F::IQ4_XS | F::Q1_0 | F::Q2_0);
            let coded = coded || format.block_len() == 256 && format.name().starts_with("IQ1");
            let zero = coded || bytes.iter().all(|&b| b & 0x7f == 0);
            assert!(zero, "{format}: {bytes:?}");
        }
        // Less than f16 has.
        let tiny: Vec<f32> =
            (0..512u32).map(|i| f32::from_bits((i % 7 * 1000) | (i << 31))).collect();
        let y = values(format, &quantized(format, &tiny));
        assert!(y.iter().all(|&y| y == 0.0), "{format} of subnormals");
        for x in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN] {
            values(format, &quantized(format, &[x; 512]));
            let mut mixed = [0.5; 512];
            mixed[100] = x;
            mixed[300] = -x;
            values(format, &quantized(format, &mixed));
        }
    }
}

/// Values of bytes that no quantiser writes: hashes of what the `gguf` package 0.19.0 dequantises
/// from blocks of random bytes, with a scale of 1. (Q1_0 and Q2_0, which it lacks: of what their definitions say.)
#[test]
fn any_bytes_mean_what_ggml_says() {
    let golden = [
        (Format::TQ1_0, 0x502c_39c4_dce5_2a75_u64),
        (Format::TQ2_0, 0x5842_9277_7ccb_4535),
        (Format::IQ1_S, 0x3b1a_c932_df46_675b),
        (Format::IQ1_M, 0x1863_d19c_bd67_a43f),
        (Format::IQ2_XXS, 0xc125_d806_8500_985b),
        (Format::IQ2_XS, 0x798c_ad65_2830_0e29),
        (Format::IQ2_S, 0xa699_1a7a_ca9f_a509),
        (Format::IQ3_XXS, 0x06aa_7ee4_c860_a2f2),
        (Format::IQ3_S, 0x3423_9981_2b06_dae2),
        (Format::NVFP4, 0xebf5_11f7_9ad9_084a),
        (Format::Q1_0, 0x2414_b8f0_ffd7_7e25),
        (Format::Q2_0, 0x1b39_7708_ef8c_07f5),
    ];
    for (format, back) in golden {
        let mut s = 1u32;
        let mut bytes = vec![0; 64 * format.block_bytes()];
        bytes.fill_with(|| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 24) as u8
        });
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for &d in format.f16_fields() {
                block[d..d + 2].copy_from_slice(&[0x00, 0x3c]);
            }
            if format == Format::IQ1_M {
                for (at, bits) in [(49, 0), (51, 0), (53, 0xc0), (55, 0x30)] {
                    block[at] = block[at] & 15 | bits;
                }
            }
        }
        let y: Vec<u8> = values(format, &bytes).into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(hash(&y), back, "{format}");
    }
}
