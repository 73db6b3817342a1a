//! Heads that share keys and values: the same bits however many of them a worker takes at once.

#![cfg(feature = "alloc")]

use teff_graph::family::gpt2;
use teff_graph::{LogitsFor, NeverCancel, Options, Outputs, Segment, Spec};
use teff_kernels::{Cpu, Format, KvFormat};

use crate::common::{Model, Room, run_on, with_attention, with_dense, with_len};

/// The logits of all tokens, fed `chunk` at a time to `threads` threads.
fn logits(model: &Model, kv: KvFormat, chunk: usize, threads: usize) -> Vec<f32> {
    let options = Options {
        batch: chunk,
        logits: chunk,
        context: 96,
        kv,
        outputs: Outputs::Logits,
        pages: 0,
    };
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, &options, Cpu::best(), (threads, 1));
    let tokens: Vec<u32> = (0..90).map(|i| i * 7 % model.spec.vocab).collect();
    let mut out = vec![];
    for tokens in tokens.chunks(chunk) {
        let segments = [Segment::new(tokens, LogitsFor::All)];
        out.extend(run_on(&mut runner, &segments, &NeverCancel, threads).unwrap());
    }
    out
}

#[test]
fn groups_of_heads_have_the_same_bits_in_any_share() {
    for (heads, kv_heads, head_dim) in [(4, 4, 16), (6, 2, 16), (4, 1, 16), (8, 2, 32), (14, 2, 32)]
    {
        let spec = with_attention(&with_len(&gpt2::small(), 2), |a| {
            (a.heads, a.kv_heads, a.head_dim) = (heads, kv_heads, head_dim);
        });
        let spec = with_dense(&spec, |d| d.inner = 64);
        let spec = Spec { vocab: 50, context: 96, width: 64, ..spec };
        for (format, kv) in [(Format::F32, KvFormat::F32), (Format::Q8_0, KvFormat::F16)] {
            if !format.is_built() {
                continue;
            }
            let model = Model::new(spec.clone(), |_| format);
            let want = logits(&model, kv, 90, 1);
            assert!(want.iter().all(|x| x.is_finite()));
            for (chunk, threads) in [(1, 1), (1, 2), (1, 3), (1, 5), (3, 2), (7, 1), (33, 2)] {
                let got = logits(&model, kv, chunk, threads);
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
