//! How IQ1 looks for scales and entries of its grid with importances: elements are sorted, and every split
//! into three levels is tried with both shifts; levels that are not on the grid give way to the best of the
//! entries around them. Weights, tries and the order of sums are those of ggml's quantisers (0.25.3), so
//! the bytes are the same.

use super::codebook::Codebook;
use super::codebook_search::{Grid, Near};
use super::search::{self, code};
use super::{DenseBlock, F16};

/// Values of the levels, shifted up, and shifted down.
const UP: [f32; 3] = [-0.875, 0.125, 1.125];
const DOWN: [f32; 3] = [-1.125, -0.125, 0.875];

fn values(down: bool) -> &'static [f32; 3] {
    if down { &DOWN } else { &UP }
}

/// Level of a byte of the grid.
pub(super) fn level(byte: u8) -> u8 {
    (byte - 120) / 8
}

/// A sub-block that was searched.
#[derive(Clone, Copy)]
struct Found {
    scale: f32,
    entries: [u16; 4],
    /// Which halves are shifted down; for IQ1_S all is the first half.
    down: [bool; 2],
}

/// The best split so far: where the levels 1 and 2 begin among the sorted elements, and the shifts.
struct Split {
    score: f32,
    scale: f32,
    at: [usize; 2],
    down: [bool; 2],
    any: bool,
}

impl Split {
    fn try_one(&mut self, (xc, cc): (f32, f32), at: [usize; 2], down: [bool; 2]) {
        if cc > 0.0 && xc * xc > self.score * cc {
            self.scale = xc / cc;
            (self.score, self.at, self.down, self.any) = (self.scale * xc, at, down, true);
        }
    }
}

/// Sums of weighted elements and of weights up to each in this order, one shift for all.
fn split_whole<const N: usize>(x: &[f32; N], w: &[f32; N], order: &[usize; N], best: &mut Split) {
    let (mut xs, mut ws) = ([0.0f32; 33], [0.0f32; 33]);
    for (j, &i) in order.iter().enumerate() {
        xs[j + 1] = xs[j] + w[i] * x[i];
        ws[j + 1] = ws[j] + w[i];
    }
    for a in 0..=N {
        for b in a..=N {
            for down in [false, true] {
                let v = values(down);
                let xc = (xs[a] - xs[0]) * v[0] + (xs[b] - xs[a]) * v[1] + (xs[N] - xs[b]) * v[2];
                let cc = (ws[a] - ws[0]) * v[0] * v[0]
                    + (ws[b] - ws[a]) * v[1] * v[1]
                    + (ws[N] - ws[b]) * v[2] * v[2];
                best.try_one((xc, cc), [a, b], [down; 2]);
            }
        }
    }
}

/// The same with a shift for each half.
fn split_halves<const N: usize>(x: &[f32; N], w: &[f32; N], order: &[usize; N], best: &mut Split) {
    let (mut xs, mut ws) = ([[0.0f32; 33]; 2], [[0.0f32; 33]; 2]);
    for (j, &i) in order.iter().enumerate() {
        for h in 0..2 {
            (xs[h][j + 1], ws[h][j + 1]) = (xs[h][j], ws[h][j]);
        }
        let h = usize::from(i >= N / 2);
        xs[h][j + 1] = xs[h][j] + w[i] * x[i];
        ws[h][j + 1] = ws[h][j] + w[i];
    }
    // Neighbouring values are 1 apart, so that sums of three parts come down to these.
    let sums = |h: usize, down: bool, a: usize, b: usize| {
        let v = values(down);
        let (xs, ws) = (&xs[h], &ws[h]);
        let xc = xs[N] * v[2] - (xs[a] + xs[b]);
        let cc = ws[N] * v[2] * v[2]
            + ws[a] * (v[0] * v[0] - v[1] * v[1])
            + ws[b] * (v[1] * v[1] - v[2] * v[2]);
        (xc, cc)
    };
    for a in 0..=N {
        for b in a..=N {
            for down in [[false, false], [false, true], [true, false], [true, true]] {
                let (first, second) = (sums(0, down[0], a, b), sums(1, down[1], a, b));
                best.try_one((first.0 + second.0, first.1 + second.1), [a, b], down);
            }
        }
    }
}

fn sub_block<const N: usize>(
    grid: &Grid,
    near: &mut Near,
    x: &[f32; N],
    w: &[f32; N],
    nothing: f32,
    halves: bool,
) -> Found {
    let none = Found { scale: 0.0, entries: [0; 4], down: [false; 2] };
    let most = x[1..].iter().fold(x[0].abs(), |m, v| if m > v.abs() { m } else { v.abs() });
    if most < nothing {
        return none;
    }
    let mut order: [usize; N] = core::array::from_fn(|i| i);
    // Zeros of both signs are equal, and equal elements stay in order.
    order.sort_unstable_by(|&a, &b| (x[a] + 0.0).total_cmp(&(x[b] + 0.0)).then(a.cmp(&b)));
    let mut best = Split { score: f32::MIN, scale: most, at: [0; 2], down: [false; 2], any: false };
    match halves {
        true => split_halves(x, w, &order, &mut best),
        false => split_whole(x, w, &order, &mut best),
    }
    if !best.any {
        return none;
    }
    let mut levels = [0u8; N];
    for (j, &i) in order.iter().enumerate() {
        levels[i] = u8::from(j >= best.at[0]) + u8::from(j >= best.at[1]);
    }
    let (mut scale, mut down) = (best.scale, best.down);
    if scale < 0.0 {
        levels = levels.map(|l| 2 - l);
        (scale, down) = (-scale, down.map(|d| !d));
    }
    let mut found = Found { down, ..none };
    let value_of = |eight: usize| values(down[if halves { eight } else { 0 }]);
    let mut on_grid = true;
    for eight in 0..N / 8 {
        let at = 8 * eight..8 * eight + 8;
        grid.look(&levels[at.clone()], near);
        on_grid &= near.is_on_grid();
        let value = value_of(eight);
        let entry =
            grid.best(near, &x[at.clone()], &w[at], scale, |level| value[usize::from(level)]);
        found.entries[eight] = entry;
    }
    if !on_grid {
        let (mut xc, mut cc) = (0.0f32, 0.0f32);
        for (i, (x, w)) in x.iter().zip(w).enumerate() {
            let q = value_of(i / 8)[usize::from(grid.level(found.entries[i / 8], i % 8))];
            xc += w * q * x;
            cc += w * q * q;
        }
        if xc > 0.0 && cc > 0.0 {
            scale = xc / cc;
        }
    }
    Found { scale, ..found }
}

/// Quantises blocks of 256: with a shift for each half of a sub-block of 16, or one for all of one of 32.
pub(super) fn quantize<B: Codebook, const N: usize>(
    x: &[f32],
    importances: Option<&[f32]>,
    out: &mut [B],
) {
    assert_eq!(x.len(), out.len() * 256);
    assert!(importances.is_none_or(|w| w.len() == x.len()));
    let halves = N == 16;
    let grid = Grid::new::<B>(level, 3);
    let mut near = Near::new();
    for (i, (x, b)) in x.as_chunks::<256>().0.iter().zip(out).enumerate() {
        let importances = importances.map(|w| &w[256 * i..][..256]);
        let mean = 2.0 * search::squares(x) / 256.0;
        let weights = |sub: usize, x: &[f32; N]| match importances {
            Some(all) => search::weights(x, &all.as_chunks::<N>().0[sub], mean),
            None => x.map(|v| v * v),
        };
        let subs = x.as_chunks::<N>().0;
        let empty = Found { scale: 0.0, entries: [0; 4], down: [false; 2] };
        let (mut all, mut most) = ([empty; 16], 0.0f32);
        for (sub, (found, x)) in all.iter_mut().zip(subs).enumerate() {
            let nothing = if halves { 1e-7 } else { 1e-12 };
            *found = sub_block(&grid, &mut near, x, &weights(sub, x), nothing, halves);
            most = if most > found.scale { most } else { found.scale };
        }
        *b = bytemuck::Zeroable::zeroed();
        let none = most == 0.0;
        let mut d = most / 15.0;
        let inverse = if none { 0.0 } else { 1.0 / d };
        let half = |f: Found| code(0.5 * (inverse * f.scale - 1.0), 0.0, 7.0);
        if halves {
            // The unit by least squares over all of the block.
            let (mut xc, mut cc) = (0.0f32, 0.0f32);
            for (sub, (found, x)) in all.iter().zip(subs).enumerate() {
                let w = weights(sub, x);
                let step = 2.0 * half(*found) + 1.0;
                for (i, (x, w)) in x.iter().zip(w).enumerate() {
                    let level = grid.level(found.entries[i / 8], i % 8);
                    let q = values(found.down[i / 8])[usize::from(level)] * step;
                    xc += w * q * x;
                    cc += w * q * q;
                }
            }
            if cc > 0.0 && !none {
                d = xc / cc;
            }
        }
        let steps = all.map(|f| if none { 0 } else { half(f) as u8 });
        let factor = if halves { 1.1125 } else { 1.125 };
        b.set_scales(F16::nearest(d * factor), &steps[..256 / N]);
        let per = N / 8;
        for eight in 0..32 {
            let found = &all[eight / per];
            let entry = usize::from(found.entries[eight % per]);
            let down = found.down[if halves { eight % per } else { 0 }] && !none;
            b.set(eight, [entry, 0], u8::from(down));
        }
    }
}
