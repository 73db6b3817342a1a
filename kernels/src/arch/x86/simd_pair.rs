//! Two registers as one: panels with twice the rows, so that a column that was read serves twice as
//! many products.

use core::marker::PhantomData;

use super::simd_reg::{SimdReg, functions};

/// Two registers of `U`; the first has the first rows.
pub(super) struct SimdPair<U>(PhantomData<U>);

impl<U: SimdReg> SimdReg for SimdPair<U> {
    const MR: usize = 2 * U::MR;
    const NR: usize = U::NR;
    const NARROW: bool = U::NARROW;
    type One = U;
    type I = [U::I; 2];
    type F = [U::F; 2];

    functions! {
        fn splat(x: i32) -> Self::I = [U::splat(x); 2];
        fn load(p: *const u8) -> Self::I = [U::load(p), U::load(p.wrapping_add(4 * U::MR))];
        fn load_any(p: *const u8) -> Self::I =
            [U::load_any(p), U::load_any(p.wrapping_add(4 * U::MR))];
        fn store(a: Self::I, p: *mut u8) = {
            U::store(a[0], p);
            U::store(a[1], p.wrapping_add(4 * U::MR));
        };
        fn add(a: Self::I, b: Self::I) -> Self::I = [U::add(a[0], b[0]), U::add(a[1], b[1])];
        fn times255(a: Self::I) -> Self::I = [U::times255(a[0]), U::times255(a[1])];
        fn times(a: Self::I, b: i32) -> Self::I = [U::times(a[0], b), U::times(a[1], b)];
        fn and(a: Self::I, bits: i32) -> Self::I = [U::and(a[0], bits), U::and(a[1], bits)];
        fn or(a: Self::I, b: Self::I) -> Self::I = [U::or(a[0], b[0]), U::or(a[1], b[1])];
        fn sub_bytes(a: Self::I, b: u8) -> Self::I = [U::sub_bytes(a[0], b), U::sub_bytes(a[1], b)];
        fn look_up(table: &[u8; 16], a: Self::I) -> Self::I =
            [U::look_up(table, a[0]), U::look_up(table, a[1])];
        fn shift(a: Self::I, up: i32) -> Self::I = [U::shift(a[0], up), U::shift(a[1], up)];
        fn shift_down(a: Self::I, by: usize) -> Self::I =
            [U::shift_down(a[0], by), U::shift_down(a[1], by)];
        fn shift_signed(a: Self::I, down: i32) -> Self::I =
            [U::shift_signed(a[0], down), U::shift_signed(a[1], down)];

        fn dot(acc: Self::I, w: Self::I, x: Self::I) -> Self::I =
            [U::dot(acc[0], w[0], x[0]), U::dot(acc[1], w[1], x[1])];
        fn pairs<const SIGNED: bool>(w: Self::I, x: Self::I) -> Self::I =
            [U::pairs::<SIGNED>(w[0], x[0]), U::pairs::<SIGNED>(w[1], x[1])];
        fn add_pairs(a: Self::I, b: Self::I) -> Self::I =
            [U::add_pairs(a[0], b[0]), U::add_pairs(a[1], b[1])];
        fn add_pairs_in_order(a: Self::I, b: Self::I) -> Self::I =
            [U::add_pairs_in_order(a[0], b[0]), U::add_pairs_in_order(a[1], b[1])];
        fn widen(acc: Self::I, pairs: Self::I) -> Self::I =
            [U::widen(acc[0], pairs[0]), U::widen(acc[1], pairs[1])];

        fn halves(p: *const u8) -> Self::F = [U::halves(p), U::halves(p.wrapping_add(2 * U::MR))];
        fn load_bytes(p: *const u8) -> Self::I = [U::load_bytes(p), U::load_bytes(p.wrapping_add(U::MR))];
        fn from_bits(a: Self::I) -> Self::F = [U::from_bits(a[0]), U::from_bits(a[1])];
        fn low_halves(a: Self::I) -> Self::F = [U::low_halves(a[0]), U::low_halves(a[1])];
        fn to_float(a: Self::I) -> Self::F = [U::to_float(a[0]), U::to_float(a[1])];
        fn splat_float(x: f32) -> Self::F = [U::splat_float(x); 2];
        fn load_float(p: *const u8) -> Self::F =
            [U::load_float(p), U::load_float(p.wrapping_add(4 * U::MR))];
        fn store_panel(a: Self::F, p: *mut u8) = {
            U::store_panel(a[0], p);
            U::store_panel(a[1], p.wrapping_add(4 * U::MR));
        };
        fn add_float(a: Self::F, b: Self::F) -> Self::F =
            [U::add_float(a[0], b[0]), U::add_float(a[1], b[1])];
        fn mul_float(a: Self::F, b: Self::F) -> Self::F =
            [U::mul_float(a[0], b[0]), U::mul_float(a[1], b[1])];
        fn store_float(a: Self::F, p: *mut f32) = {
            U::store_float(a[0], p);
            U::store_float(a[1], p.wrapping_add(U::MR));
        };
    }
}
