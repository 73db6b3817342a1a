//! The suite for third parties: this machine's backends pass it, and it finds what is wrong with
//! others, in little memory too.

use std::ops::Range;

use teff_kernels::equivalence::{EquivalenceError as E, MEMORY, check};
use teff_kernels::{
    Activations, AttentionParams, Backend, Cpu, DenseActivations, Format, KvHead, Matrix, Q8RowMut,
    Scalar, Tile, TopK,
};

#[test]
fn backends_of_this_machine_pass() {
    let mut memory = vec![0; MEMORY];
    let all = check(&Scalar, 1, 36, &mut memory).unwrap();
    assert!(all > 36 * (2 * 16 + 20), "{all}");
    for b in Cpu::NAMES.iter().filter_map(|name| Cpu::by_name(name).ok()) {
        assert_eq!(check(&b, 1, 36, &mut memory), Ok(all), "{}", b.name());
    }
}

#[test]
fn little_memory_is_enough_for_small_shapes() {
    let mut memory = vec![0; 256 << 10];
    let all = check(&Cpu::best(), 7, 9, &mut memory);
    assert!(matches!(all, Ok(450..)), "{all:?}");
    for len in [0, 100, 10_000] {
        match check(&Scalar, 7, 9, &mut memory[..len]) {
            Err(E::Memory { needed, got }) => assert!(got == len && needed > got),
            other => panic!("{len}: {other:?}"),
        }
    }
}

/// Fault of a backend.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Wrong {
    /// The last bit of one output of one format, for the second row of activations.
    LastBit(Format),
    /// A column more than it should write.
    OneMore,
    /// Rows counted from the beginning of the matrix.
    Rows,
    /// The sign of a zero.
    NegativeZero,
    /// The sum of the last codes.
    Sum,
    /// Of equal elements, the last.
    Ties,
    /// One position too many.
    Window,
}

struct Broken(Wrong);

impl Backend for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        mut rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        if self.0 == Wrong::Rows {
            rows = 0..rows.len();
        }
        Scalar.matmul(w, x, rows, y, scratch);
        match self.0 {
            Wrong::LastBit(format) if w.format() == format && y.n() > 1 && y.width() > 0 => {
                let last = y.width() - 1;
                let v = &mut y.row(1)[last];
                if v.is_finite() {
                    *v = f32::from_bits(v.to_bits() ^ 1);
                }
            }
            Wrong::OneMore if y.n() > 1 && y.width() > 1 => {
                // All of it one to the right: the last column lies outside.
                let (n, width) = (y.n(), y.width());
                let mut part = y.cols(1, width - 1);
                part.row(n - 1)[0] += 1.0;
            }
            _ => {}
        }
    }
    fn scale(&self, x: &mut [f32], factor: f32) {
        Scalar.scale(x, factor);
        if self.0 == Wrong::NegativeZero {
            x.iter_mut().filter(|x| **x == 0.0).for_each(|x| *x = -*x);
        }
    }
    fn quantize(&self, x: &[f32], out: Q8RowMut<'_>) {
        let Q8RowMut { q, lo, d, s } = out;
        Scalar.quantize(x, Q8RowMut { q, lo, d, s });
        if self.0 == Wrong::Sum
            && let Some(s) = s.last_mut()
        {
            *s += 1;
        }
    }
    fn argmax(&self, x: &[f32]) -> usize {
        let first = Scalar.argmax(x);
        match self.0 {
            Wrong::Ties => x.iter().rposition(|v| *v == x[first]).unwrap_or(first),
            _ => first,
        }
    }
    fn top_k(&self, x: &[f32], out: &mut [(u32, f32)]) -> TopK {
        Scalar.top_k(x, out)
    }
    fn attend(
        &self,
        q: &DenseActivations<'_>,
        kv: &KvHead<'_>,
        position: usize,
        params: &AttentionParams<'_>,
        out: &mut Tile<'_>,
    ) {
        let more = if self.0 == Wrong::Window { 1 } else { 0 };
        let window = params.window.map(|w| w.saturating_add(more));
        Scalar.attend(q, kv, position, &AttentionParams { window, ..*params }, out);
    }
}

#[test]
fn what_is_wrong_is_found() {
    let mut memory = vec![0; MEMORY];
    let mut found = |wrong| match check(&Broken(wrong), 3, 12, &mut memory) {
        Err(E::Different { case, index, want, got }) => {
            assert_ne!(want, got);
            (case, index, want, got)
        }
        other => panic!("{wrong:?}: {other:?}"),
    };
    for format in Format::ALL {
        let (case, index, want, got) = found(Wrong::LastBit(format));
        assert!(case.operation.starts_with("matmul") && case.format == format.name());
        assert_eq!((index, want ^ got), (2 * case.rows - 1, 1), "{case}");
    }
    assert!(found(Wrong::Rows).0.operation.contains("part"));
    assert!(found(Wrong::OneMore).0.operation.starts_with("matmul"));
    assert_eq!(found(Wrong::NegativeZero).0.operation, "scale");
    assert_eq!(found(Wrong::Sum).0.operation, "quantize, sums");
    assert_eq!(found(Wrong::Ties).0.operation, "argmax");
    assert!(found(Wrong::Window).0.operation.starts_with("attend"));
}
