//! The gated delta rule.

use super::random::{Kind, Rng, fill_floats};
use super::room::{Room, take};
use super::{Case, EquivalenceError, UNTOUCHED, same, same_tile};
use crate::{Backend, DeltaInputs, DeltaStart, DenseActivations, Scalar, Tile};

/// Case of [`Backend::delta_rule`].
#[derive(Clone, Copy, Debug)]
pub struct Delta {
    /// Rows of the state, and width of queries and keys.
    pub rows: usize,
    /// Columns of the state.
    pub columns: usize,
    /// Tokens.
    pub n: usize,
    /// Tokens of the first of two calls, which continue each other.
    pub cut: usize,
    /// Kind of the numbers.
    pub kind: Kind,
    /// Floats between the rows of inputs and outputs.
    pub gap: usize,
    /// Of its numbers.
    pub seed: u64,
}

/// [`Backend::delta_rule`] from zeros, from another state and in place, at once and in two calls; gives
/// the number of cases.
///
/// # Errors
/// [`EquivalenceError`].
///
/// # Panics
/// If there are no rows, no tokens, or fewer tokens than `cut`.
pub fn delta_rule<'m>(
    b: &dyn Backend,
    d: &Delta,
    room: &mut dyn Room<'m>,
) -> Result<u64, EquivalenceError> {
    let &Delta { rows, columns, n, cut, kind, gap, seed } = d;
    let r = &mut Rng::new(seed);
    let size = columns.div_ceil(16) * 16 * rows;
    let ld = 2 * rows + columns + 2 + gap;
    let (x, from) = (take(room, 1, n * ld)?, take(room, 0, size)?);
    fill_floats(r, x, kind);
    fill_floats(r, from, kind);
    let x = DenseActivations::new(x, n, ld, ld);
    let inputs = |first: usize, n: usize| {
        let part = |at: usize, cols: usize| x.rows(first, n).cols_of(at, cols);
        DeltaInputs {
            q: part(0, rows),
            k: part(rows, rows),
            v: part(2 * rows, columns),
            decay: part(2 * rows + columns, 1),
            beta: part(2 * rows + columns + 1, 1),
        }
    };
    let (want_state, state) = (take(room, 0, size)?, take(room, 3, size)?);
    let width = columns + gap;
    let (want, got) = (take(room, 0, n * columns)?, take(room, 2, n * width)?);
    let case = |operation| Case { operation, format: "", rows, cols: columns, n, kind, seed };
    for (name, start) in [
        ("delta_rule, from zeros", DeltaStart::Zeros),
        ("delta_rule, from another state", DeltaStart::From(from)),
        ("delta_rule, in place", DeltaStart::InPlace),
    ] {
        let mut tile = Tile::new(want, n, columns, columns);
        want_state.copy_from_slice(from);
        Scalar.delta_rule(start, want_state, &inputs(0, n), &mut tile);
        for cut in [0, cut] {
            got.fill(UNTOUCHED);
            state.copy_from_slice(from);
            let mut tile = Tile::new(got, n, columns, width);
            b.delta_rule(start, state, &inputs(0, cut), &mut tile.rows(0, cut));
            let rest = if cut == 0 { start } else { DeltaStart::InPlace };
            b.delta_rule(rest, state, &inputs(cut, n - cut), &mut tile.rows(cut, n - cut));
            let truth = |t: usize| &want[t * columns..][..columns];
            same_tile(&case(name), (got, 0, columns, width), truth)?;
            // What lies beside the last columns is open.
            for (p, (want, got)) in want_state.chunks(16).zip(state.chunks(16)).enumerate() {
                let own = (columns - p / rows * 16).min(16);
                same(&case(name), &want[..own], &got[..own])?;
            }
        }
    }
    Ok(6)
}
