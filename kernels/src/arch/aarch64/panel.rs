//! Panels: the order of packed codes, and the products of bytes that the instruction sets differ in.

use core::arch::aarch64::*;

use super::gemv::Dot;
use super::gemv_ternary::TernaryDot;
use crate::WIDE_UNIT;

/// Rows of a panel.
pub(super) const MR: usize = 8;
/// Columns of a tile.
pub(super) const NR: usize = 4;
/// Codes of each row in a step of a panel.
pub(super) const STEP: usize = 16;

/// Steps of half a group.
pub(super) const HALF: usize = WIDE_UNIT / STEP;

/// Sixteen codes of eight rows.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Step(pub(super) [[i8; 16]; MR]);

// SAFETY: plain numbers, without padding.
unsafe impl bytemuck::Zeroable for Step {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Step {}

/// The sums of the columns of a tile with eight rows, in two registers.
pub(super) type Sums = [[int32x4_t; 2]; NR];

/// Products of panels.
pub(super) trait Gemm {
    /// Products of rows that are not in panels.
    type Gemv: Dot + TernaryDot;

    /// Sixteen codes of eight rows, in the order of the set.
    ///
    /// # Safety
    /// The CPU has the instructions of the implementation.
    unsafe fn arrange(rows: [int8x16_t; MR]) -> Step;

    /// The sums of the products of these steps with as many codes at each `x`.
    ///
    /// # Safety
    /// The CPU has the instructions of the implementation; `16 * STEPS` codes lie at each `x`;
    /// where `SMALL`, those of the panel are -64..=64.
    unsafe fn sums<const STEPS: usize, const SMALL: bool>(
        steps: &[Step; STEPS],
        x: [*const i8; NR],
    ) -> Sums;

    /// The same of ternary weights: half a group.
    ///
    /// # Safety
    /// As for [`Gemm::sums`]; the panel's codes are -1..=2.
    #[inline(always)]
    unsafe fn ternary_sums(steps: &[Step; HALF], x: [*const i8; NR]) -> Sums {
        // SAFETY: the caller's promises.
        unsafe { Self::sums::<HALF, true>(steps, x) }
    }
}
