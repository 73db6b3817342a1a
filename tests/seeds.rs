//! The fuzz targets' checks on their seeds, and on some hundred random changes of each: what a fuzzer would find in its
//! first moments. (`.ci/run fuzz` searches for longer, with the address sanitizer.)

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, unreachable_pub, reason = "a crate of its own: parts of it are for others")]
mod fuzz;

use std::panic::catch_unwind;
use std::path::Path;
use std::{fs, process};

use fuzz::targets::TARGETS;

/// The checks count what is allocated.
#[global_allocator]
static HEAP: fuzz::Counting = fuzz::Counting;

/// Bytes of all changed inputs of a seed together, or one input if that is longer; and how many at most.
const CHANGED_BYTES: usize = 1 << 19;
const CHANGES: usize = 300;

/// Bytes that change the meaning of those around them.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\"\\{}[],:0-9eE.";

/// A generator of random numbers (PCG's multiplier and increment).
struct Random(u64);

impl Random {
    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// Changes a few places of an input.
fn change(input: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(input.len());
        let some = (1 + random.below(16)).min(input.len() - at.min(input.len()));
        match random.below(6) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..at + some)),
            2 => {
                let copy = input[at..at + some].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            3 => input.insert(at, TELLING[random.below(TELLING.len())]),
            n => {
                if let Some(byte) = input.get_mut(at) {
                    let telling = TELLING[random.below(TELLING.len())];
                    *byte = if n == 4 { telling } else { *byte ^ 1 << random.below(8) };
                }
            }
        }
    }
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for &(name, run) in TARGETS {
        let mut seeds: Vec<_> = fs::read_dir(folder.join(name))
            .unwrap_or_else(|e| panic!("the seeds of {name}: {e}"))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let (mut inputs, mut random) = (0, Random(1));
        for path in seeds {
            let seed = fs::read(&path).expect("a seed");
            let changes = CHANGES.min(CHANGED_BYTES / seed.len().max(1)).max(1);
            for round in 0..=changes {
                let mut input = seed.clone();
                if round > 0 {
                    change(&mut input, &mut random);
                }
                if catch_unwind(|| run(&input)).is_err() {
                    let kept = std::env::temp_dir().join(format!("teff-{name}-{round}"));
                    let written = fs::write(&kept, &input);
                    println!(
                        "{name}: {} changed {round}: {} {written:?}",
                        path.display(),
                        kept.display()
                    );
                    process::exit(1);
                }
                inputs += 1;
            }
        }
        println!("{name}: {inputs} inputs");
    }
}
