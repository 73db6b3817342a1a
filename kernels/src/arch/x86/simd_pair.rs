//! Two registers as one: twice the rows of a panel, so that a column that was read serves twice as many
//! products.

use core::marker::PhantomData;

use super::gemm::SimdReg;

/// Two registers of `U`, the first rows in the first.
pub(super) struct SimdPair<U>(PhantomData<U>);

impl<U: SimdReg> SimdReg for SimdPair<U> {
    const MR: usize = 2 * U::MR;
    const NR: usize = U::NR;
    const NARROW: bool = U::NARROW;
    type One = U;
    type I = [U::I; 2];
    type F = [U::F; 2];

    #[inline(always)]
    unsafe fn splat(x: i32) -> [U::I; 2] {
        // SAFETY: the caller's promises, here and below; what is behind a register is the second.
        unsafe { [U::splat(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::load(p), U::load(p.wrapping_add(4 * U::MR))] }
    }
    #[inline(always)]
    unsafe fn add(a: [U::I; 2], b: [U::I; 2]) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::add(a[0], b[0]), U::add(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn times255(a: [U::I; 2]) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::times255(a[0]), U::times255(a[1])] }
    }
    #[inline(always)]
    unsafe fn load_any(p: *const u8) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::load_any(p), U::load_any(p.wrapping_add(4 * U::MR))] }
    }
    #[inline(always)]
    unsafe fn and(a: [U::I; 2], bits: i32) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::and(a[0], bits), U::and(a[1], bits)] }
    }
    #[inline(always)]
    unsafe fn or(a: [U::I; 2], b: [U::I; 2]) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::or(a[0], b[0]), U::or(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub_bytes(a: [U::I; 2], b: u8) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::sub_bytes(a[0], b), U::sub_bytes(a[1], b)] }
    }
    #[inline(always)]
    unsafe fn look_up(table: &[u8; 16], a: [U::I; 2]) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::look_up(table, a[0]), U::look_up(table, a[1])] }
    }
    #[inline(always)]
    unsafe fn shift(a: [U::I; 2], up: i32) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::shift(a[0], up), U::shift(a[1], up)] }
    }
    #[inline(always)]
    unsafe fn shift_down(a: [U::I; 2], by: usize) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::shift_down(a[0], by), U::shift_down(a[1], by)] }
    }
    #[inline(always)]
    unsafe fn shift_signed(a: [U::I; 2], down: i32) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::shift_signed(a[0], down), U::shift_signed(a[1], down)] }
    }
    #[inline(always)]
    unsafe fn times(a: [U::I; 2], b: i32) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::times(a[0], b), U::times(a[1], b)] }
    }
    #[inline(always)]
    unsafe fn halves(p: *const u8) -> [U::F; 2] {
        // SAFETY: as above.
        unsafe { [U::halves(p), U::halves(p.wrapping_add(2 * U::MR))] }
    }
    #[inline(always)]
    unsafe fn low_halves(a: [U::I; 2]) -> [U::F; 2] {
        // SAFETY: as above.
        unsafe { [U::low_halves(a[0]), U::low_halves(a[1])] }
    }
    #[inline(always)]
    unsafe fn store(a: [U::I; 2], p: *mut u8) {
        // SAFETY: as above.
        unsafe {
            U::store(a[0], p);
            U::store(a[1], p.wrapping_add(4 * U::MR));
        }
    }
    #[inline(always)]
    unsafe fn store_panel(a: [U::F; 2], p: *mut u8) {
        // SAFETY: as above.
        unsafe {
            U::store_panel(a[0], p);
            U::store_panel(a[1], p.wrapping_add(4 * U::MR));
        }
    }
    #[inline(always)]
    unsafe fn dot(acc: [U::I; 2], w: [U::I; 2], x: [U::I; 2]) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::dot(acc[0], w[0], x[0]), U::dot(acc[1], w[1], x[1])] }
    }
    #[inline(always)]
    unsafe fn pairs<const SIGNED: bool>(w: [U::I; 2], x: [U::I; 2]) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::pairs::<SIGNED>(w[0], x[0]), U::pairs::<SIGNED>(w[1], x[1])] }
    }
    #[inline(always)]
    unsafe fn add_pairs(a: [U::I; 2], b: [U::I; 2]) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::add_pairs(a[0], b[0]), U::add_pairs(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn widen(acc: [U::I; 2], pairs: [U::I; 2]) -> [U::I; 2] {
        // SAFETY: as above.
        unsafe { [U::widen(acc[0], pairs[0]), U::widen(acc[1], pairs[1])] }
    }
    #[inline(always)]
    unsafe fn to_float(a: [U::I; 2]) -> [U::F; 2] {
        // SAFETY: as above.
        unsafe { [U::to_float(a[0]), U::to_float(a[1])] }
    }
    #[inline(always)]
    unsafe fn splat_float(x: f32) -> [U::F; 2] {
        // SAFETY: as above.
        unsafe { [U::splat_float(x); 2] }
    }
    #[inline(always)]
    unsafe fn load_float(p: *const u8) -> [U::F; 2] {
        // SAFETY: as above.
        unsafe { [U::load_float(p), U::load_float(p.wrapping_add(4 * U::MR))] }
    }
    #[inline(always)]
    unsafe fn add_float(a: [U::F; 2], b: [U::F; 2]) -> [U::F; 2] {
        // SAFETY: as above.
        unsafe { [U::add_float(a[0], b[0]), U::add_float(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul_float(a: [U::F; 2], b: [U::F; 2]) -> [U::F; 2] {
        // SAFETY: as above.
        unsafe { [U::mul_float(a[0], b[0]), U::mul_float(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn store_float(a: [U::F; 2], p: *mut f32) {
        // SAFETY: as above.
        unsafe {
            U::store_float(a[0], p);
            U::store_float(a[1], p.wrapping_add(U::MR));
        }
    }
}
