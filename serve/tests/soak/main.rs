//! Soak: many clients that ask for everything at once, leave at every point, and make mistakes.
//!
//! By default some hundred requests to a server in this process. `TEFF_SOAK=N` and `TEFF_SOAK_TEFF=PATH`
//! send N requests to the command `teff serve` at this path, and watch its memory
//! (`cargo xtask ci soak --tier nightly`).

mod ask;
mod client;
mod mix;
mod random;
#[path = "../server/common.rs"]
#[allow(dead_code, reason = "this test has a client of its own")]
mod server;
mod target;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use client::Done;
use mix::{Kind, Mix};
use target::Target;

/// Clients at the same time.
const CLIENTS: usize = 24;

/// Faults after which a run ends early.
const ENOUGH: usize = 20;

/// What became of the turns so far.
#[derive(Default)]
struct Outcome {
    kinds: BTreeMap<Kind, u64>,
    faults: Vec<String>,
}

/// Takes the turns from `from` to `to` by all clients, and waits for them.
fn turns(mix: &Mix, seed: u64, from: u64, to: u64, outcome: &Mutex<Outcome>) {
    let next = AtomicU64::new(from);
    let client = || {
        let mut kept = None;
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= to {
                return;
            }
            let (kind, done) = mix.turn(seed, i, &mut kept);
            let mut all = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            *all.kinds.entry(kind).or_default() += 1;
            if let Err(e) = done {
                kept = None;
                all.faults.push(format!("turn {i} of seed {seed}, {kind:?}: {e}"));
            }
            if all.faults.len() >= ENOUGH {
                return;
            }
        }
    };
    std::thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(client))));
}

/// Parts of a run, after each of which all requests have ended and the server's memory is looked at.
const PARTS: u64 = 20;

/// Takes `n` turns, and checks the server after each part of them. Returns a report.
///
/// Memory goes up and down, since the heap keeps for a while what large bodies took: what must not grow is the least of
/// it, from the parts up to 30% of the turns, the first one aside, to the last fifth.
fn soak(target: &dyn Target, seed: u64, n: u64) -> Done<String> {
    let start = Instant::now();
    let mix = Mix::new(target.address())?;
    let outcome = Mutex::new(Outcome::default());
    let (mut memory, mut metrics) = (Vec::new(), None);
    for part in 0..PARTS {
        turns(&mix, seed, n * part / PARTS, n * (part + 1) / PARTS, &outcome);
        metrics = Some(target::settled(target.address())?);
        memory.extend(target.memory());
    }
    let Outcome { kinds, faults } = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !faults.is_empty() {
        return Err(format!("{} faults:\n{}", faults.len(), faults.join("\n")));
    }
    let seconds = start.elapsed().as_secs();
    let mut report = format!("{n} requests in {seconds} s, seed {seed}\n{kinds:?}\n");
    report.extend(metrics.map(|metrics| metrics.to_string()));
    let least = |of: &[u64]| of.iter().copied().min();
    let all = memory.len();
    if let (Some(before), Some(after)) = (
        memory.get(1..6).and_then(least),
        memory.get(all.saturating_sub(4)..).filter(|_| all == PARTS as usize).and_then(least),
    ) {
        let growth = 100.0 * (after as f64 / before as f64 - 1.0);
        report += &format!(
            "\nresident memory in KiB after each part: {memory:?}: the least of the second to the sixth \
             {before}, of the last four {after}: {growth:+.2}%"
        );
        if growth > 2.0 {
            return Err(format!("memory grew: {report}"));
        }
    }
    Ok(report)
}

#[test]
fn a_few_hundred_requests_of_every_kind() {
    let server = target::InProcess::start();
    match soak(&server, 1, 300) {
        Ok(report) => println!("{report}"),
        Err(e) => panic!("{e}"),
    }
    server.end();
}

#[test]
fn requests_to_the_command() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let (Some(n), Some(teff)) = (number("TEFF_SOAK"), std::env::var_os("TEFF_SOAK_TEFF")) else {
        println!("skipped: TEFF_SOAK and TEFF_SOAK_TEFF don't say how many, and to which command");
        return;
    };
    let server = target::Command::start(teff.as_ref());
    let done = soak(&server, number("TEFF_SOAK_SEED").unwrap_or(1), n);
    // The log first: it may have the cause.
    let ended = server.end();
    match (done, ended) {
        (Ok(report), Ok(())) => println!("{report}"),
        (done, ended) => panic!("{done:?} {ended:?}"),
    }
}
