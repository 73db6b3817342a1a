//! The registers of the gemm micro-kernels, whatever their width: a lane of 32 bits for each row of a
//! panel.

/// Memory on the stack that begins with a line. Where the compiler can't do without it, it aligns all that
/// it puts there, and no register that it has no room for lies across two lines (Zen 3: IQ4_NL by 4
/// columns ran at 8 to 14.5 products a cycle, as the stack lay, and runs at 14.5).
#[repr(align(64))]
pub(super) struct Aligned<T>(pub(super) T);

/// A register, or several that are used as one.
///
/// # Safety
/// Of all functions: the CPU has the instructions of the implementation. Loads and stores are of
/// whole registers, and aligned to them unless the function says otherwise.
pub(super) trait SimdReg {
    /// Rows of a panel: lanes.
    const MR: usize;
    /// The most columns of a tile: 4 or 8.
    const NR: usize;
    /// Products are summed in pairs of 16 bits ([`SimdReg::pairs`]); otherwise in fours of 32 bits
    /// ([`SimdReg::dot`]).
    const NARROW: bool;
    /// The single register, of an implementation with several.
    type One: SimdReg;
    /// Integer lanes.
    type I: Copy;
    /// Float lanes.
    type F: Copy;

    /// The same integer in all lanes.
    unsafe fn splat(x: i32) -> Self::I;
    /// Integers of a panel.
    unsafe fn load(p: *const u8) -> Self::I;
    /// Integers at any address.
    unsafe fn load_any(p: *const u8) -> Self::I;
    /// Stores integers of a panel.
    unsafe fn store(a: Self::I, p: *mut u8);
    /// The sum of each lane.
    unsafe fn add(a: Self::I, b: Self::I) -> Self::I;
    /// `255 * a`.
    unsafe fn times255(a: Self::I) -> Self::I;
    /// The lower half of `a * b`.
    unsafe fn times(a: Self::I, b: i32) -> Self::I;
    /// `a & bits`.
    unsafe fn and(a: Self::I, bits: i32) -> Self::I;
    /// `a | b`.
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I;
    /// `a - b` in each byte.
    unsafe fn sub_bytes(a: Self::I, b: u8) -> Self::I;
    /// The byte of the table for each byte of `a`, which are below 16.
    unsafe fn look_up(table: &[u8; 16], a: Self::I) -> Self::I;
    /// `a << up`, or `a >> -up` (unsigned) if `up` is negative.
    unsafe fn shift(a: Self::I, up: i32) -> Self::I;
    /// `a >> by` (unsigned), by a number that need not be constant.
    unsafe fn shift_down(a: Self::I, by: usize) -> Self::I;
    /// `a >> down` (signed).
    unsafe fn shift_signed(a: Self::I, down: i32) -> Self::I;

    /// `acc` plus the products of the four unsigned bytes of each lane of `w` with four codes of `x`.
    unsafe fn dot(acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// Products of unsigned (`SIGNED`: signed) bytes of `w` with codes, summed in pairs.
    unsafe fn pairs<const SIGNED: bool>(w: Self::I, x: Self::I) -> Self::I;
    /// Sums of pairs.
    unsafe fn add_pairs(a: Self::I, b: Self::I) -> Self::I;
    /// [`SimdReg::add_pairs`], of which the compiler makes no trees.
    unsafe fn add_pairs_in_order(a: Self::I, b: Self::I) -> Self::I;
    /// `acc` plus the two sums of pairs of each lane.
    unsafe fn widen(acc: Self::I, pairs: Self::I) -> Self::I;

    /// One f16 a lane, at any address.
    unsafe fn halves(p: *const u8) -> Self::F;
    /// One byte a lane, at any address.
    unsafe fn load_bytes(p: *const u8) -> Self::I;
    /// Bits as floats.
    unsafe fn from_bits(a: Self::I) -> Self::F;
    /// The f16 in the lower half of each lane.
    unsafe fn low_halves(a: Self::I) -> Self::F;
    /// Integers as floats.
    unsafe fn to_float(a: Self::I) -> Self::F;
    /// The same float in all lanes.
    unsafe fn splat_float(x: f32) -> Self::F;
    /// Floats of a panel.
    unsafe fn load_float(p: *const u8) -> Self::F;
    /// Stores floats of a panel.
    unsafe fn store_panel(a: Self::F, p: *mut u8);
    /// The sum of each lane.
    unsafe fn add_float(a: Self::F, b: Self::F) -> Self::F;
    /// The product of each lane.
    unsafe fn mul_float(a: Self::F, b: Self::F) -> Self::F;
    /// Stores floats at any address.
    unsafe fn store_float(a: Self::F, p: *mut f32);
}

/// Functions of a [`SimdReg`], each a single expression.
macro_rules! functions {
    ($(fn $name:ident $(<const $c:ident: bool>)? ($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name $(<const $c: bool>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promises, for the instructions and for addresses.
                unsafe { $body }
            }
        )*
    };
}
pub(super) use functions;

/// Half of the power of two whose exponent, plus 127, is in each lane (0 to 255), as [`crate::blocks::MXFP4`] has it: that of
/// half the exponent times that of the rest. Both are normal floats, where the product may not be.
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
pub(super) unsafe fn half_power<U: SimdReg>(e: U::I) -> U::F {
    // SAFETY: the caller's promise.
    unsafe {
        let half = U::shift(e, -1);
        let rest = U::add(half, U::and(e, 1));
        let power = |a| U::from_bits(U::shift(U::add(a, U::splat(63)), 23));
        U::mul_float(power(half), power(rest))
    }
}

/// Scale of sub-block `sub` of [`crate::blocks::IQ4_XS`]: the unit times the step, of which lanes have the lower four bits,
/// and the upper two, of all sub-blocks.
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
pub(super) unsafe fn six_bit_scale<U: SimdReg>(
    (d, low, high): (U::F, U::I, U::I),
    sub: usize,
) -> U::F {
    // SAFETY: the caller's promise.
    unsafe {
        let low = U::and(U::shift_down(low, 4 * sub), 15);
        let high = U::and(U::shift_down(high, 2 * sub), 3);
        let step = U::add(U::or(low, U::shift(high, 4)), U::splat(-32));
        U::mul_float(d, U::to_float(step))
    }
}
