//! Finding a name that is there twice, without memory to sort or to remember all of them.
//!
//! The names are walked in rounds. Each round looks only at the names whose hash falls to it, few
//! enough that their fingerprints fit a table of 2 KiB on the stack; only where two fingerprints
//! agree are the names themselves compared. A file of up to 256 names takes one round, and `n`
//! names cost `n * n / 256` steps, which the caps on their number bound. An attacker who knows the
//! hash can make names fall into one round or share a fingerprint: that is noticed and is an
//! error, so the bound holds for hostile files too.

/// Fingerprints that the table holds.
const SLOTS: usize = 512;
/// Names that a round should get on average: half of the table.
const PER_ROUND: usize = 256;
/// Names a round may get. By chance alone, 1.75 times the average has odds below 1e-20.
const MOST: usize = 448;
/// Fingerprints of different names that may agree. By chance even one among 65536 names has odds
/// below one in a hundred.
const FALSE_ALARMS: usize = 16;

/// Why names are not all different: the number of the name at which that was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Clash {
    /// It was there before.
    Duplicate(usize),
    /// Too many names share its hash.
    Hostile(usize),
}

/// Checks that the `count` names that each call of `names` walks over are all different.
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
            // Three independent parts of the hash: the round, the slot and the fingerprint.
            if (hash >> 48) % rounds != round {
                continue;
            }
            if used == MOST {
                return Err(Clash::Hostile(i));
            }
            let print = (hash as u32).max(1); // 0 marks a free slot
            let mut slot = (hash >> 32) as usize % SLOTS;
            while table[slot] != 0 {
                if table[slot] == print {
                    if names().take(i).any(|other| other == name) {
                        return Err(Clash::Duplicate(i));
                    }
                    alarms += 1;
                    if alarms > FALSE_ALARMS {
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

/// A hash of good spread, 8 bytes a step.
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

    /// `count` different names: the numbers, with the name number `twin` a copy of number 0.
    fn names(count: u32, twin: Option<u32>) -> impl Fn() -> IntoIter<&'static [u8]> {
        // Leaked: a test's few hundred KiB, so that the names can outlive the closure.
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
        // 20000 names searched for those of round 0 of 4: more than a round may hold.
        let all: Vec<[u8; 4]> = (0..20000u32)
            .map(u32::to_le_bytes)
            .filter(|n| (hash(n) >> 48).is_multiple_of(4))
            .take(1024)
            .collect();
        let found = check(1024, || all.iter().map(|n| &n[..]));
        assert_eq!(found, Err(Clash::Hostile(MOST)));
    }
}
