//! Heads that share keys and values: the same bits however many of them a worker computes at once.

mod common;

use std::sync::Barrier;
use std::thread;

use teff_graph::family::gpt2;
use teff_graph::{Broken, LogitsFor, Memory, NeverCancel, Options, Plan, Runner, Spec, Step, Team};
use teff_kernels::{Cpu, Format, KvFormat};

use common::{tensors, weights};

/// Thread of a team.
struct Worker<'a> {
    rank: usize,
    size: usize,
    barrier: &'a Barrier,
}

// SAFETY: `logits` makes one worker for each rank, and the barrier is std's.
unsafe impl Team for Worker<'_> {
    fn rank(&self) -> usize {
        self.rank
    }
    fn size(&self) -> usize {
        self.size
    }
    fn barrier(&self) -> Result<(), Broken> {
        self.barrier.wait();
        Ok(())
    }
}

/// Logits of all tokens, fed `chunk` at a time to `threads` threads.
fn logits(spec: &Spec, format: Format, kv: KvFormat, chunk: usize, threads: usize) -> Vec<f32> {
    let options = Options { batch: chunk, logits: chunk, context: 96, kv };
    let plan = Plan::build(spec, &|_| format, &options, &Cpu::best()).unwrap();
    let memory = Memory::allocate(&plan.memory_requirements, threads).unwrap();
    let owned = weights(spec, format);
    let table = tensors(spec, format, &owned);
    let mut runner = Runner::new(plan, table.into(), Cpu::best(), threads, memory).unwrap();
    let tokens: Vec<u32> = (0..90).map(|i| i * 7 % spec.vocab).collect();
    let mut out = vec![];
    for (i, tokens) in tokens.chunks(chunk).enumerate() {
        let step =
            Step { tokens, position: i * chunk, logits: LogitsFor::All, cancel: &NeverCancel };
        let running = runner.begin(&step).unwrap();
        let barrier = Barrier::new(threads);
        thread::scope(|s| {
            for rank in 0..threads {
                let (running, barrier) = (&running, &barrier);
                s.spawn(move || running.walk(&Worker { rank, size: threads, barrier }).unwrap());
            }
        });
        out.extend_from_slice(runner.logits(tokens.len()));
    }
    out
}

#[test]
fn groups_of_heads_have_the_same_bits_in_any_share() {
    for (heads, kv_heads, head_dim) in [(4, 4, 16), (6, 2, 16), (4, 1, 16), (8, 2, 32), (14, 2, 32)]
    {
        let spec = Spec {
            vocab: 50,
            context: 96,
            layers: 2,
            width: 64,
            heads,
            kv_heads,
            head_dim,
            ffn: 64,
            ..gpt2::small()
        };
        for (format, kv) in [(Format::F32, KvFormat::F32), (Format::Q8_0, KvFormat::F16)] {
            let want = logits(&spec, format, kv, 90, 1);
            assert!(want.iter().all(|x| x.is_finite()));
            for (chunk, threads) in [(1, 1), (1, 2), (1, 3), (1, 5), (3, 2), (7, 1), (33, 2)] {
                let got = logits(&spec, format, kv, chunk, threads);
                let same = want.iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(
                    same && want.len() == got.len(),
                    "{heads} heads, {kv_heads} of the cache, {format}: steps of {chunk} tokens, \
                     {threads} threads"
                );
            }
        }
    }
}
