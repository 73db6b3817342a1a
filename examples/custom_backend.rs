//! A custom backend: it overrides one operation, passes the conformance suite of Teff's own
//! backends, and runs a model with the same bits.
//!
//! ```text
//! cargo run --release --example custom_backend
//! ```

use std::error::Error;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use teff::kernels::blocks::Q8_0;
use teff::kernels::equivalence::{self, MEMORY};
use teff::kernels::{Activations, DenseBlock, Matrix, Scalar, Tile};
use teff::{Backend, Cpu, Format, LoadOptions, LogitsFor, Model, SessionOptions, Specials};

/// Number of weight rows multiplied with one row of activations at a time.
const ROWS: usize = 4;

/// Products of Q8_0 by four rows at a time; all other formats and operations as in [`Scalar`].
#[derive(Default)]
struct FourRows {
    /// Number of outputs computed here, to show that it is really called.
    outputs: AtomicU64,
}

impl Backend for FourRows {
    fn name(&self) -> &'static str {
        "four-rows"
    }

    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        let (Format::Q8_0, Activations::Q8(activations)) = (w.format(), x) else {
            return Scalar.matmul(w, x, rows, y, scratch);
        };
        assert!(
            activations.cols() == w.cols() && y.n() == activations.n() && y.width() == rows.len()
        );
        for t in 0..activations.n() {
            let (x, y) = (activations.row(t), y.row(t));
            for (i, y) in y.chunks_mut(ROWS).enumerate() {
                // The last rows are computed together with duplicates, whose results are dropped.
                let last = rows.end - 1;
                let row = |k: usize| w.row::<Q8_0>((rows.start + i * ROWS + k).min(last));
                let w: [&[Q8_0]; ROWS] = std::array::from_fn(row);
                let mut acc = [0.0f32; ROWS];
                for block in 0..x.d.len() {
                    let codes = block * 32..(block + 1) * 32;
                    for (acc, w) in acc.iter_mut().zip(w) {
                        let w = &w[block];
                        let dot = |q: &[i8]| -> i32 {
                            w.q.iter().zip(q).map(|(w, q)| i32::from(*w) * i32::from(*q)).sum()
                        };
                        // Integers may be added in any order; 16-bit codes are two planes.
                        let mut sum = dot(&x.q[codes.clone()]);
                        if let Some(lo) = x.lo {
                            sum = 255 * sum + dot(&lo[codes.clone()]);
                        }
                        // Floats may not: this line, block by block, is the definition.
                        *acc += (w.d.get() * x.d[block]) * sum as f32;
                    }
                }
                y.copy_from_slice(&acc[..y.len()]);
            }
        }
        self.outputs.fetch_add((activations.n() * rows.len()) as u64, Ordering::Relaxed);
    }
}

/// The bytes of a file, aligned as weights should be.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("gpt2/model.gguf"));

/// FNV-1a over the bits of the logits of every token of a prompt.
fn hash(model: &Model, backend: &dyn Backend) -> Result<u64, Box<dyn Error>> {
    let options = SessionOptions { logits: 64, threads: Some(2), ..SessionOptions::default() };
    let mut session = model.session_builder(&options).foreign_backend(backend).build()?;
    let tokenizer = model.tokenizer()?;
    let prompt = tokenizer.encode("Once upon a time there was a small grain.", Specials::Ignore)?;
    let logits = session.eval(&prompt, LogitsFor::All)?;
    let bytes = logits.iter().flat_map(|x| x.to_bits().to_le_bytes());
    Ok(bytes
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)))
}

fn run() -> Result<(), Box<dyn Error>> {
    let own = FourRows::default();
    let mut memory = vec![0; MEMORY];
    let cases = equivalence::check(&own, 1, 36, &mut memory)?;
    println!("{}: {cases} cases have the bits of the scalar truth", own.name());
    let outputs = own.outputs.swap(0, Ordering::Relaxed);
    assert!(outputs > 0, "the suite never came to what it should test");

    let model = Model::from_bytes(&MODEL.0, &LoadOptions::default())?;
    let want = hash(&model, &own)?;
    let outputs = own.outputs.load(Ordering::Relaxed);
    assert!(outputs > 0, "the model never came to the product");
    println!("{}: {want:016x}, {outputs} outputs by its own product", own.name());
    for name in Cpu::NAMES {
        let Ok(backend) = Cpu::by_name(name) else { continue };
        let got = hash(&model, &backend)?;
        println!("{name}: {got:016x}");
        assert_eq!(got, want, "{name} gives other logits");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}

#[test]
fn a_backend_of_ones_own_gives_the_same_bits() {
    run().unwrap();
}
