//! Random numbers for seeds and ids.

use std::hash::{BuildHasher, RandomState};

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random bytes of the system. If it has none, those of the standard library's hashes do: nothing that
/// must stay secret is made of them.
fn fill(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        for chunk in bytes.chunks_mut(8) {
            let random = RandomState::new().hash_one(0u8).to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}

/// A seed that JSON numbers hold exactly: 53 bits.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes) >> 11
}

/// An id: a prefix and 24 letters or digits.
pub(crate) fn id(prefix: &str) -> String {
    let mut bytes = [0; 24];
    fill(&mut bytes);
    let letters = bytes.iter().map(|&b| char::from(LETTERS[usize::from(b) % LETTERS.len()]));
    prefix.chars().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_seeds_fit_into_doubles() {
        let (a, b) = (id("call_"), id("call_"));
        assert!(a != b && a.starts_with("call_") && a.len() == 29);
        assert!((0..100).all(|_| seed() < 1 << 53));
        assert_ne!(seed(), seed());
    }
}
