//! Keyed hashes for the tables of tokens and merges.

/// A keyed hash, so that no file can be crafted to overload one part of a table. The key differs
/// from run to run; no result depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher {
    key: u64,
}

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xd6e8_feb8_6659_fd93;

impl Hasher {
    pub(crate) fn new() -> Self {
        Hasher { key: random() }
    }

    /// The full product of two words, folded into one.
    fn fold(a: u64, b: u64) -> u64 {
        let p = u128::from(a) * u128::from(b);
        p as u64 ^ (p >> 64) as u64
    }

    /// The hash of two ids.
    pub(crate) fn pair(self, a: u32, b: u32) -> u64 {
        let word = u64::from(a) << 32 | u64::from(b);
        Self::fold(word ^ self.key, A ^ self.key.rotate_left(32))
    }

    /// The hash of a token's bytes.
    pub(crate) fn bytes(self, bytes: &[u8]) -> u64 {
        let mut h = self.key ^ bytes.len() as u64;
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            h = Self::fold(h ^ u64::from_le_bytes(*word), A);
        }
        let last = tail.iter().fold(0, |v, &b| v << 8 | u64::from(b));
        Self::fold(h ^ last, B ^ self.key.rotate_left(32))
    }
}

#[cfg(feature = "std")]
fn random() -> u64 {
    use core::hash::BuildHasher;

    std::hash::RandomState::new().hash_one(0u64)
}

/// Addresses of the stack, the heap and the program: without std there is no other source of random
/// numbers. Systems that load programs at random addresses make them hard to guess.
#[cfg(not(feature = "std"))]
fn random() -> u64 {
    let (stack, heap) = (0u8, alloc::boxed::Box::new(0u8));
    let code = random as fn() -> u64;
    let all = [(&raw const stack).addr(), (&raw const *heap).addr(), code as usize];
    all.iter().fold(B, |h, &address| Hasher::fold(h ^ address as u64, A))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_prelude::*;

    #[test]
    fn what_differs_anywhere_has_another_hash() {
        let hasher = Hasher::new();
        let texts = ["", "a", "b", "aa", "aaaaaaaa", "aaaaaaaab", "aaaaaaaaaaaaaaaa", "\0", "\0\0"];
        let mut all: Vec<u64> = texts.iter().map(|t| hasher.bytes(t.as_bytes())).collect();
        all.extend([(1, 2), (2, 1), (0, 3)].map(|(a, b)| hasher.pair(a, b)));
        all.push(Hasher { key: !hasher.key }.bytes(b"a"));
        let n = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), n);
    }
}
