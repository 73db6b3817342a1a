//! Quantised matrices, and their rows as f32.

use teff_kernels::dequantize_row;

/// Matrix, or several that lie one after another.
pub(super) struct Item<'a> {
    pub(super) name: String,
    /// Dimensions in front of the last two.
    pub(super) stack: Vec<u32>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) codes: Codes<'a>,
    pub(super) scales: Grid,
    pub(super) zeros: Option<Zeros<'a>>,
    /// Group of each column, if these are not in order.
    pub(super) groups: Option<Vec<usize>>,
    /// Factor of all [`Codes::Fp4`].
    pub(super) factor: f32,
}

/// Codes of weights, by row of outputs.
#[derive(Clone, Copy)]
pub(super) enum Codes<'a> {
    E4m3(&'a [u8]),
    E5m2(&'a [u8]),
    Int8(&'a [u8]),
    /// Two numbers of four bits in a byte, the first one lowest.
    Fp4(&'a [u8]),
    /// Words of so many codes of `bits` bits along a row, less half their range.
    Words {
        words: &'a [u8],
        bits: u32,
        per_row: usize,
    },
    /// Words of codes along a column (GPTQ): `[inputs / codes, outputs]`.
    Columns {
        words: &'a [u8],
        bits: u32,
    },
    /// Words of eight codes of eight outputs in AWQ's order: `[inputs, outputs / 8]`.
    Awq {
        words: &'a [u8],
    },
}

/// Numbers that are taken off codes, by row and group.
pub(super) enum Zeros<'a> {
    /// As [`Codes::Int8`], for every row and group.
    Int8(&'a [u8]),
    /// Words along the rows: `[rows / codes, groups]`, less half their range.
    Words { words: &'a [u8], bits: u32 },
    /// Words along the rows: `[groups, rows / codes]`, to which `plus` is added (GPTQ).
    Rows { words: &'a [u8], bits: u32, plus: i32 },
    /// As [`Codes::Awq`]: `[groups, rows / 8]`.
    Awq { words: &'a [u8] },
}

/// Scales: one for `rows` rows and `cols` columns each.
pub(super) struct Grid {
    pub(super) values: Vec<f32>,
    /// Scales in a row of the grid.
    pub(super) width: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// True if rows of the grid are groups of columns.
    pub(super) turned: bool,
}

impl Grid {
    fn at(&self, row: usize, group: usize) -> f32 {
        match self.turned {
            true => self.values[group * self.width + row / self.rows],
            false => self.values[row / self.rows * self.width + group],
        }
    }
}

/// Word `i` of the little-endian words in `bytes`.
pub(super) fn word(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks::<4>().0[i])
}

/// Number of codes in a word.
pub(super) fn per_word(bits: u32) -> usize {
    (32 / bits) as usize
}

pub(super) fn code_in(word: u32, i: usize, bits: u32) -> i32 {
    (word >> (bits * i as u32) & ((1 << bits) - 1)) as i32
}

/// Place in a word of AWQ of output `i` of eight.
pub(super) const AWQ: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

pub(super) fn e4m3(code: u8) -> f32 {
    let (sign, e, m) = (code >> 7, u32::from(code >> 3 & 15), u32::from(code & 7));
    let magnitude = match (e, m) {
        (15, 7) => f32::NAN,
        (0, m) => m as f32 / 512.0,
        (e, m) => f32::from_bits((e + 120) << 23 | m << 20),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

pub(super) fn e2m1(code: u8) -> f32 {
    let magnitude = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][usize::from(code & 7)];
    if code & 8 != 0 { -magnitude } else { magnitude }
}

pub(super) fn e5m2(code: u8) -> f32 {
    // The upper half of an f16.
    let mut x = [0.0];
    dequantize_row(teff_kernels::Format::F16, &[0, code], &mut x);
    x[0]
}

impl Item<'_> {
    /// Row `r` of matrix `e`.
    pub(super) fn fill(&self, e: usize, r: usize, out: &mut [f32]) {
        let at = e * self.rows + r;
        let (grid, cols) = (&self.scales, self.cols);
        for (k, x) in out.iter_mut().enumerate() {
            let group = match &self.groups {
                Some(groups) => groups[k],
                None => k / grid.cols,
            };
            // Grids of a stack lie one after another; rows of them never share a block.
            let grid_row = e * self.rows.div_ceil(grid.rows) * grid.rows + r;
            let scale = grid.at(grid_row, group);
            let code = match self.codes {
                Codes::E4m3(codes) => {
                    *x = e4m3(codes[at * cols + k]) * scale;
                    continue;
                }
                Codes::E5m2(codes) => {
                    *x = e5m2(codes[at * cols + k]) * scale;
                    continue;
                }
                Codes::Fp4(codes) => {
                    let i = at * cols + k;
                    let code = codes[i / 2] >> (i % 2 * 4) & 15;
                    // A product of three and four bits is exact.
                    *x = e2m1(code) * scale * self.factor;
                    continue;
                }
                Codes::Int8(codes) => i32::from(codes[at * cols + k] as i8),
                Codes::Words { words, bits, per_row } => {
                    let n = per_word(bits);
                    code_in(word(words, at * per_row + k / n), k % n, bits) - (1 << (bits - 1))
                }
                Codes::Columns { words, bits } => {
                    let n = per_word(bits);
                    code_in(word(words, k / n * self.rows + r), k % n, bits)
                }
                Codes::Awq { words } => {
                    code_in(word(words, k * (self.rows / 8) + r / 8), AWQ[r % 8], 4)
                }
            };
            let zero = match &self.zeros {
                None => 0,
                Some(Zeros::Int8(zeros)) => {
                    let i = grid_row / grid.rows * grid.width + group;
                    i32::from(zeros[i] as i8)
                }
                Some(Zeros::Words { words, bits }) => {
                    let n = per_word(*bits);
                    let at = r / n * grid.width + group;
                    code_in(word(words, at), r % n, *bits) - (1 << (bits - 1))
                }
                Some(Zeros::Rows { words, bits, plus }) => {
                    let n = per_word(*bits);
                    let at = group * (self.rows / n) + r / n;
                    code_in(word(words, at), r % n, *bits) + plus
                }
                Some(Zeros::Awq { words }) => {
                    code_in(word(words, group * (self.rows / 8) + r / 8), AWQ[r % 8], 4)
                }
            };
            *x = (code - zero) as f32 * scale;
        }
    }

    pub(super) fn matrices(&self) -> usize {
        self.stack.iter().map(|&n| n as usize).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_eight_bits() {
        let values = [(0x00, 0.0), (0x01, 1.0 / 512.0), (0x07, 7.0 / 512.0), (0x08, 1.0 / 64.0)];
        for (code, value) in values.into_iter().chain([(0x38, 1.0), (0x3c, 1.5), (0x7e, 448.0)]) {
            assert_eq!(e4m3(code), value, "{code:#x}");
            assert_eq!(e4m3(code | 0x80).to_bits(), (-value).to_bits());
        }
        assert!(e4m3(0x7f).is_nan() && e5m2(0x7e).is_nan());
        assert_eq!((e5m2(0x3c), e5m2(0xc0), e5m2(0x01)), (1.0, -2.0, 1.0 / 65536.0));
    }

    #[test]
    fn places_of_awq() {
        // AutoAWQ packs output order[i] at place i.
        let order = [0, 2, 4, 6, 1, 3, 5, 7];
        (0..8).for_each(|i| assert_eq!(AWQ[order[i]], i));
    }
}
