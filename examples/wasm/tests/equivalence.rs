//! The page's backend passes the suite that Teff's own backends pass.

use teff_kernels::equivalence::{MEMORY, check};
use teff_wasm::compact::Compact;

#[test]
fn compact_gives_the_bits_of_the_scalar_truth() {
    let mut memory = vec![0; MEMORY];
    assert!(check(&Compact, 1, 36, &mut memory).unwrap() > 1000);
}
