//! Duplicate detection for names, without memory to sort or store them all.
//!
//! The names are scanned in rounds. Each round considers only the names whose hash selects it, few
//! enough for their fingerprints to fit in a 2 KiB table on the stack; the names themselves are
//! compared only when two fingerprints match. A file of up to 256 names takes one round, and `n`
//! names take `n * n / 256` steps, which the limits on their number bound. An attacker who knows
//! the hash can craft names that fall into one round or share a fingerprint: that is detected and
//! is an error, so the bound holds for hostile files too.

/// Number of fingerprints in the table.
const SLOTS: usize = 512;
/// Target number of names per round: half of the table.
const PER_ROUND: usize = 256;
/// Maximum number of names per round. By chance alone, 1.75 times the average has odds below 1e-20.
const MAX_PER_ROUND: usize = 448;
/// Maximum number of matching fingerprints of different names. By chance, even one among 65536
/// names has odds below one in a hundred.
const MAX_FALSE_MATCHES: usize = 16;

/// Reason why the names are not known to be distinct, with the index of the offending name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Clash {
    /// The name occurred before.
    Duplicate(usize),
    /// Too many names share its hash.
    Hostile(usize),
}

/// Checks that the `count` names that each call of `names` iterates over are distinct.
pub(super) fn check<'a, I>(count: usize, names: impl Fn() -> I) -> Result<(), Clash>
where
    I: Iterator<Item = &'a [u8]>,
{
    let rounds = count.div_ceil(PER_ROUND) as u64;
    let mut alarms = 0;
    for round in 0..rounds {
        let mut table = [0u32; SLOTS];
        let mut used = 0;
        for (i, name) in names().enumerate() {
            let hash = hash(name);
            // Three independent parts of the hash: round, slot and fingerprint.
            if (hash >> 48) % rounds != round {
                continue;
            }
            if used == MAX_PER_ROUND {
                return Err(Clash::Hostile(i));
            }
            let print = (hash as u32).max(1); // 0 marks an empty slot
            let mut slot = (hash >> 32) as usize % SLOTS;
            while table[slot] != 0 {
                if table[slot] == print {
                    if names().take(i).any(|other| other == name) {
                        return Err(Clash::Duplicate(i));
                    }
                    alarms += 1;
                    if alarms > MAX_FALSE_MATCHES {
                        return Err(Clash::Hostile(i));
                    }
                }
                slot = (slot + 1) % SLOTS;
            }
            table[slot] = print;
            used += 1;
        }
    }
    Ok(())
}

/// A well-distributed hash, 8 bytes per step.
fn hash(name: &[u8]) -> u64 {
    let mix = |h: u64| {
        let h = (h ^ (h >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^ (h >> 29)
    };
    let (words, tail) = name.as_chunks::<8>();
    let mut h = name.len() as u64;
    for word in words {
        h = mix(h ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    mix(mix(h ^ u64::from_le_bytes(last)))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::{IntoIter, Vec};

    /// `count` distinct 4-byte names, except that the name at `twin` is a copy of
    /// the first.
    fn names(count: u32, twin: Option<u32>) -> impl Fn() -> IntoIter<&'static [u8]> {
        // Leaked so that the names can outlive the closure: a few hundred KiB, in a test.
        let all: &'static [[u8; 4]] = Vec::leak(
            (0..count).map(|i| if twin == Some(i) { 0 } else { i }.to_le_bytes()).collect(),
        );
        move || all.iter().map(|n| &n[..]).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn different_names_pass() {
        for count in [0, 1, 2, 255, 256, 257, 1000, 5000] {
            assert_eq!(check(count as usize, names(count, None)), Ok(()), "{count}");
        }
    }

    #[test]
    fn a_twin_is_found_wherever_it_stands() {
        for count in [2, 300, 2000] {
            for twin in [1, count / 2, count - 1] {
                let found = check(count as usize, names(count, Some(twin)));
                assert_eq!(found, Err(Clash::Duplicate(twin as usize)), "{twin} of {count}");
            }
        }
    }

    #[test]
    fn many_names_of_one_round_are_refused() {
        // The names in round 0 of 4 out of 20000: more than a round may hold.
        let all: Vec<[u8; 4]> = (0..20000u32)
            .map(u32::to_le_bytes)
            .filter(|n| (hash(n) >> 48).is_multiple_of(4))
            .take(1024)
            .collect();
        let found = check(1024, || all.iter().map(|n| &n[..]));
        assert_eq!(found, Err(Clash::Hostile(MAX_PER_ROUND)));
    }
}
