//! Properties of sampling.

use proptest::prelude::*;
use teff_runtime::sample::{SampleError, Sampler, Sampling, SamplingError};

/// Everything off: the plain distribution of the logits.
fn plain(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, seed, ..Sampling::greedy() }
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    // Few distinct values among them, so that ties are common; some tokens impossible.
    let logit = prop_oneof![
        8 => -20.0f32..20.0,
        4 => (-3i8..4).prop_map(f32::from),
        1 => Just(f32::NEG_INFINITY),
        1 => Just(-0.0f32),
    ];
    proptest::collection::vec(logit, 1..400)
        .prop_filter("some token must be possible", |l| l.iter().any(|x| x.is_finite()))
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![0.01f32..3.0, Just(1.0)];
    let top_k = prop_oneof![Just(0usize), 1usize..500, 1usize..10];
    let top_p = prop_oneof![Just(1.0f32), 0.001f32..1.0];
    let min_p = prop_oneof![Just(0.0f32), 0.0f32..=1.0];
    (temperature, top_k, top_p, min_p, penalties(), any::<u64>()).prop_map(
        |(temperature, top_k, top_p, min_p, penalties, seed)| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            seed,
            ..penalties
        },
    )
}

/// Tokens of any size, or a few that occur again and again.
fn history() -> impl Strategy<Value = Vec<u32>> {
    let any = proptest::collection::vec(any::<u32>(), 0..20);
    prop_oneof![any, proptest::collection::vec(0u32..8, 0..40)]
}

/// Greedy sampling with any penalties.
fn penalties() -> impl Strategy<Value = Sampling> {
    let repeat = prop_oneof![2 => Just(1.0f32), 1 => 0.2f32..3.0];
    let presence = prop_oneof![2 => Just(0.0f32), 1 => -3.0f32..3.0];
    let frequency = prop_oneof![2 => Just(0.0f32), 1 => -3.0f32..3.0];
    let last_n = prop_oneof![3 => 0usize..10, 1 => Just(usize::MAX)];
    (repeat, presence, frequency, last_n).prop_map(|(repeat, presence, frequency, last_n)| {
        let s = Sampling::greedy().with_repeat_penalty(repeat, last_n);
        s.with_presence_penalty(presence).with_frequency_penalty(frequency)
    })
}

/// The logits after the penalties, the slow way: a token at a time.
fn penalized(s: &Sampling, logits: &[f32], history: &[u32]) -> Vec<f32> {
    let recent: Vec<u32> = history.iter().rev().take(s.repeat_last_n).copied().collect();
    let of = |(id, &logit): (usize, &f32)| {
        let n = recent.iter().filter(|t| **t as usize == id).count();
        if n == 0 || logit == f32::NEG_INFINITY {
            return logit;
        }
        let x = if logit > 0.0 { logit / s.repeat_penalty } else { logit * s.repeat_penalty };
        x - (n as f32 * s.frequency_penalty + s.presence_penalty)
    };
    logits.iter().enumerate().map(of).collect()
}

/// Reference implementation, the slow way: the remaining tokens with their weights, and the total
/// of the weights.
fn truth(s: &Sampling, logits: &[f32], history: &[u32]) -> Vec<(u32, f32)> {
    let logits = penalized(s, logits, history);
    let mut left: Vec<(u32, f32)> =
        logits.iter().enumerate().map(|(i, &x)| (i as u32, x)).collect();
    left.retain(|(_, x)| *x > f32::NEG_INFINITY);
    let by_rank =
        |a: &(u32, f32), b: &(u32, f32)| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0));
    let top_k_on = s.top_k > 0 && s.top_k < logits.len();
    if top_k_on {
        left.sort_by(by_rank);
        left.truncate(s.top_k);
    }
    let largest = left.iter().map(|t| t.1).fold(f32::NEG_INFINITY, f32::max);
    let w = |x: f32| teff_kernels::exp(x - largest);
    if s.top_p < 1.0 {
        let total: f64 = left.iter().map(|t| f64::from(w(t.1))).sum();
        left.sort_by(by_rank);
        let mut sum = 0.0;
        let mut n = 0;
        while n < left.len() && sum < f64::from(s.top_p) * total {
            sum += f64::from(w(left[n].1));
            n += 1;
        }
        left.truncate(n);
    }
    left.retain(|t| w(t.1) >= s.min_p);
    for t in &mut left {
        t.1 = teff_kernels::exp((t.1 - largest) / s.temperature);
    }
    left
}

proptest! {
    #[test]
    fn draws_from_what_the_definition_leaves(
        s in sampling(), logits in logits(), history in history(),
    ) {
        let vocab = logits.len();
        let history: Vec<u32> = history.into_iter().map(|id| id % vocab as u32).collect();
        let mut sampler = Sampler::new(s, vocab).unwrap();
        let expected = truth(&s, &logits, &history);
        let total: f64 = expected.iter().map(|t| f64::from(t.1)).sum();
        for _ in 0..3 {
            let id = sampler.sample(&logits, &history).unwrap();
            let got: Vec<(u32, f64)> = sampler.choices().collect();
            let expected: Vec<(u32, f64)> =
                expected.iter().map(|&(id, w)| (id, f64::from(w) / total)).collect();
            prop_assert_eq!(&got, &expected);
            prop_assert!(got.iter().any(|&(token, p)| token == id && p > 0.0));
        }
        if s.top_k > 0 {
            prop_assert!(expected.len() <= s.top_k);
        }
        prop_assert!(!expected.is_empty());
    }

    #[test]
    fn greedy_is_the_first_of_the_largest(logits in logits(), other in sampling()) {
        let mut best = 0;
        for (i, x) in logits.iter().enumerate() {
            if *x > logits[best] {
                best = i;
            }
        }
        let zero = Sampling { temperature: 0.0, ..other };
        let one = Sampling { top_k: 1, ..other };
        for s in [Sampling::greedy(), zero, one] {
            let mut sampler = Sampler::new(s, logits.len()).unwrap();
            prop_assert_eq!(sampler.sample(&logits, &[]), Ok(best as u32));
        }
    }

    #[test]
    fn a_wrong_history_leaves_nothing_behind(
        s in sampling(), logits in logits(), history in history(),
    ) {
        let s = Sampling { presence_penalty: 0.5, repeat_last_n: usize::MAX, ..s };
        let (vocab, id) = (logits.len(), logits.len() as u32);
        let history: Vec<u32> = history.into_iter().map(|id| id % vocab as u32).collect();
        let mut sampler = Sampler::new(s, vocab).unwrap();
        let wrong = [&history[..], &[id], &history].concat();
        let refused = SampleError::BadToken { position: history.len(), id, vocab };
        prop_assert_eq!(sampler.sample(&logits, &wrong), Err(refused));
        let mut fresh = Sampler::new(s, vocab).unwrap();
        prop_assert_eq!(sampler.sample(&logits, &history), fresh.sample(&logits, &history));
        prop_assert!(sampler.choices().eq(fresh.choices()));
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens(s in sampling(), logits in logits()) {
        let draw = |sampler: &mut Sampler| -> Vec<u32> {
            (0..10).map(|_| sampler.sample(&logits, &[]).unwrap()).collect()
        };
        let mut sampler = Sampler::new(s, logits.len()).unwrap();
        let first = draw(&mut sampler);
        let second = draw(&mut sampler);
        sampler.reseed(s.seed);
        prop_assert_eq!(&first, &draw(&mut sampler));
        prop_assert_eq!(&second, &draw(&mut sampler.clone()));
        let mut again = Sampler::new(s, logits.len()).unwrap();
        prop_assert_eq!(&first, &draw(&mut again));
    }

    /// Renumbering the tokens renumbers the choices: ids matter only for ties.
    #[test]
    fn renumbering_the_tokens_renumbers_the_choices(
        s in sampling(), order in Just((0..300u32).collect::<Vec<_>>()).prop_shuffle(),
        step in 0.01f32..0.2,
    ) {
        let logits: Vec<f32> = (0..300).map(|i| i as f32 * step - 5.0).collect(); // no ties
        let mut shuffled = vec![0.0; 300];
        for (i, &to) in order.iter().enumerate() {
            shuffled[to as usize] = logits[i];
        }
        let mut sampler = Sampler::new(s, 300).unwrap();
        let id = sampler.sample(&logits, &[]).unwrap();
        let mut choices: Vec<(u32, f64)> =
            sampler.choices().map(|(id, p)| (order[id as usize], p)).collect();
        let by_rank = (1..300).contains(&s.top_k) || s.top_p < 1.0;
        let mut other = Sampler::new(s, 300).unwrap();
        let other_id = other.sample(&shuffled, &[]).unwrap();
        let mut other_choices: Vec<(u32, f64)> = other.choices().collect();
        if by_rank {
            prop_assert_eq!(order[id as usize], other_id);
        } else {
            choices.sort_by_key(|c| c.0);
            other_choices.sort_by_key(|c| c.0);
        }
        prop_assert_eq!(choices.len(), other_choices.len());
        for (a, b) in choices.iter().zip(&other_choices) {
            prop_assert_eq!(a.0, b.0);
            prop_assert!((a.1 - b.1).abs() <= 1e-12); // sums in another order
        }
    }

    #[test]
    fn every_bad_logit_is_named(
        s in sampling(), greedy: bool, logits in logits(), at: prop::sample::Index, nan: bool,
    ) {
        let s = Sampling { temperature: if greedy { 0.0 } else { s.temperature }, ..s };
        let mut bad = logits.clone();
        let index = at.index(bad.len());
        bad[index] = if nan { f32::NAN } else { f32::INFINITY };
        let expected =
            if nan { SampleError::NotANumber { index } } else { SampleError::Infinite { index } };
        let mut sampler = Sampler::new(s, bad.len()).unwrap();
        prop_assert_eq!(sampler.sample(&bad, &[0]), Err(expected));
        prop_assert_eq!(sampler.choices().count(), 0);
        // The sampler is unchanged.
        let mut fresh = Sampler::new(s, bad.len()).unwrap();
        prop_assert_eq!(sampler.sample(&logits, &[]), fresh.sample(&logits, &[]));
    }

    #[test]
    fn bytes_are_bounded_by_the_vocabulary(s in sampling(), vocab in 1usize..1 << 20) {
        let bytes = Sampler::bytes(&s, vocab);
        prop_assert!(bytes <= vocab * (4 + 4 + 8 + 8 + 4));
        prop_assert_eq!(Sampler::bytes(&Sampling::greedy(), vocab), 0);
    }
}

#[test]
fn greedy_penalty_lowers_exactly_the_recent() {
    let s = Sampling { repeat_penalty: 2.0, repeat_last_n: 2, ..Sampling::greedy() };
    let mut sampler = Sampler::new(s, 4).unwrap();
    let logits = [4.0, 3.0, 1.9, 1.0];
    let cases: [(&[u32], u32); 7] = [
        (&[], 0),
        (&[0], 1),          // 2, 3, 1.9, 1
        (&[0, 0, 0], 1),    // once, however often
        (&[0, 1], 0),       // 2, 1.5, 1.9, 1
        (&[0, 1, 3], 0),    // token 0 is no longer recent: 4, 1.5, 1.9, 0.5
        (&[0, 3, 3], 0),    //
        (&[9, 9, 1, 0], 0), // older tokens are ignored: 2, 1.5, 1.9, 1
    ];
    for (history, expected) in cases {
        assert_eq!(sampler.sample(&logits, history), Ok(expected), "{history:?}");
    }
    // Negative logits are multiplied; 0 stays.
    assert_eq!(sampler.sample(&[-2.0, -3.0, -9.0, -9.0], &[0]), Ok(1));
    assert_eq!(sampler.sample(&[0.0, -0.5, -9.0, -9.0], &[0]), Ok(0));
    // Beyond the range of f32 it stays finite.
    assert_eq!(
        sampler.sample(&[f32::MIN, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY], &[0]),
        Ok(0)
    );
    let s = Sampling { repeat_penalty: 1e-30, ..s };
    let mut sampler = Sampler::new(s, 4).unwrap();
    assert_eq!(sampler.sample(&[1e30, 1e31, 1e32, 0.0], &[0, 1]), Ok(0)); // both at f32::MAX
    let mut sampler = Sampler::new(Sampling { temperature: 0.8, ..s }, 4).unwrap();
    assert!(sampler.sample(&[1e30, -1e31, 1e32, 0.0], &[0, 1]).is_ok());
    assert_eq!(
        sampler.sample(&logits, &[7, 1, 4]),
        Err(SampleError::BadToken { position: 2, id: 4, vocab: 4 })
    );
    // Without a penalty the history is ignored.
    let mut sampler = Sampler::new(Sampling::default(), 4).unwrap();
    assert!(sampler.sample(&logits, &[1000]).is_ok());
}

#[test]
fn presence_counts_once_and_frequency_each_time() {
    let of = |presence, frequency, last_n, history: &[u32]| {
        let s =
            Sampling::greedy().with_presence_penalty(presence).with_frequency_penalty(frequency);
        let mut sampler = Sampler::new(s.with_repeat_last_n(last_n), 4).unwrap();
        sampler.sample(&[4.0, 3.0, 2.0, 1.0], history).unwrap()
    };
    const ALL: usize = usize::MAX;
    assert_eq!(of(1.5, 0.0, ALL, &[]), 0);
    assert_eq!(of(1.5, 0.0, ALL, &[0]), 1); // 2.5, 3
    assert_eq!(of(0.9, 0.0, ALL, &[0, 0, 0]), 0); // 3.1: once
    assert_eq!(of(0.0, 0.9, ALL, &[0]), 0); // 3.1
    assert_eq!(of(0.0, 0.9, ALL, &[0, 0]), 1); // 2.2, 3
    assert_eq!(of(0.0, 0.9, ALL, &[0, 1, 0, 1, 0]), 2); // 1.3, 1.2, 2
    assert_eq!(of(0.5, 0.6, ALL, &[0]), 1); // 2.9, 3: their sum
    assert_eq!(of(0.0, 0.9, 2, &[0, 0, 1]), 0); // only the last two: 3.1, 2.1
    assert_eq!(of(9.0, 9.0, 0, &[0, 0]), 0); // off
    assert_eq!(of(0.0, -0.5, ALL, &[3, 2, 2, 2, 2, 2]), 2); // 4.5: negative ones are rewards
    // After the repetition penalty: 4 / 2 - 0.9 = 1.1, not (4 - 0.9) / 2.
    let s = Sampling::greedy().with_repeat_penalty(2.0, 9).with_presence_penalty(0.9);
    let mut sampler = Sampler::new(s, 2).unwrap();
    assert_eq!(sampler.sample(&[4.0, 1.2], &[0]), Ok(1));
    assert_eq!(sampler.sample(&[4.0, 1.0], &[0]), Ok(0));
    // Whatever the numbers, a possible token stays possible, and an impossible one impossible.
    for penalty in [f32::MAX, f32::MIN] {
        for s in [Sampling::default(), Sampling::greedy()] {
            let s = s.with_frequency_penalty(penalty).with_presence_penalty(penalty);
            let mut sampler = Sampler::new(s, 3).unwrap();
            for logit in [f32::MIN, -1.0, 0.0, f32::MAX] {
                let logits = [f32::NEG_INFINITY, logit, f32::NEG_INFINITY];
                assert_eq!(sampler.sample(&logits, &[0, 1, 1, 2]), Ok(1), "{penalty} {logit}");
            }
        }
    }
}

/// Chi-square of `draws` draws against the probabilities, and the degrees of freedom.
fn chi_square(sampler: &mut Sampler, logits: &[f32], expected: &[f64], draws: u32) -> f64 {
    let mut counts = vec![0u32; logits.len()];
    for _ in 0..draws {
        counts[sampler.sample(logits, &[]).unwrap() as usize] += 1;
    }
    let mut chi = 0.0;
    for (&n, &p) in counts.iter().zip(expected) {
        if p == 0.0 {
            assert_eq!(n, 0);
            continue;
        }
        let e = p * f64::from(draws);
        chi += (f64::from(n) - e).powi(2) / e;
    }
    chi
}

#[test]
fn frequencies_follow_the_temperature() {
    let logits = [1.0f32, 0.5, 0.0, -0.5, -1.0, 0.25, 0.75, -0.25, 2.0, -2.0];
    for temperature in [0.5f32, 1.0, 2.0] {
        for seed in 0..3 {
            for (top_k, kept) in [(0, 10), (5, 5)] {
                let s = Sampling { temperature, top_k, ..plain(seed) };
                let mut ranked: Vec<f32> = logits.to_vec();
                ranked.sort_by(|a, b| b.partial_cmp(a).unwrap());
                let least = ranked[kept - 1];
                let weights: Vec<f64> = logits
                    .iter()
                    .map(|&x| {
                        if x < least { 0.0 } else { (f64::from(x) / f64::from(temperature)).exp() }
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                let expected: Vec<f64> = weights.iter().map(|w| w / total).collect();
                let mut sampler = Sampler::new(s, logits.len()).unwrap();
                let chi = chi_square(&mut sampler, &logits, &expected, 20_000);
                // 99.9 % quantiles of chi-square at 9 and 4 degrees of freedom; the seed is fixed.
                let bound = if kept == 10 { 27.88 } else { 18.47 };
                assert!(chi < bound, "temperature {temperature}, seed {seed}: {chi}");
                // And it isn't suspiciously even (0.1 % quantiles).
                assert!(chi > if kept == 10 { 1.15 } else { 0.09 }, "{chi}");
            }
        }
    }
}

#[test]
fn known_tokens_of_known_seeds() {
    // Any change to the generator, the stages or the draw order fails here: people keep seeds with
    // their results. Computed independently, with another language's f64 exp.
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 * 0.11).collect();
    let draw = |s: Sampling| -> Vec<u32> {
        let mut sampler = Sampler::new(s, logits.len()).unwrap();
        (0..8).map(|_| sampler.sample(&logits, &[]).unwrap()).collect()
    };
    let s = Sampling { seed: 42, ..Sampling::default() };
    assert_eq!(draw(s), [999, 60, 726, 494, 898, 969, 333, 90]);
    let nucleus = Sampling { top_k: 0, ..s };
    assert_eq!(draw(nucleus), [562, 797, 518, 371, 835, 109, 939, 412]);
    assert_eq!(draw(plain(42)), [824, 322, 988, 704, 797, 592, 131, 611]);
}

#[test]
fn large_vocabularies_and_any_top_k() {
    // Enough tokens for several rounds of selection, ascending and descending.
    let n = 50_000usize;
    let rising: Vec<f32> = (0..n).map(|i| i as f32 * 1e-3).collect();
    let falling: Vec<f32> = rising.iter().rev().copied().collect();
    let level = vec![1.0f32; n];
    for top_k in [1, 2, 40, 63, 64, 65, 1000, n - 1, n, n + 1, usize::MAX] {
        let s = Sampling { top_k, ..plain(3) };
        let mut sampler = Sampler::new(s, n).unwrap();
        let kept = top_k.min(n);
        for (logits, best) in [(&rising, n - kept..n), (&falling, 0..kept), (&level, 0..kept)] {
            sampler.sample(logits, &[]).unwrap();
            let mut ids: Vec<u32> = sampler.choices().map(|c| c.0).collect();
            ids.sort_unstable();
            assert_eq!(ids, best.map(|i| i as u32).collect::<Vec<_>>());
        }
    }
    // A nucleus larger than the first piece that is sorted.
    for top_p in [0.001, 0.3, 0.9, 0.999] {
        let s = Sampling { top_p, ..plain(3) };
        let mut sampler = Sampler::new(s, n).unwrap();
        sampler.sample(&level, &[]).unwrap();
        assert_eq!(sampler.choices().count(), (f64::from(top_p) * n as f64).ceil() as usize);
        sampler.sample(&rising, &[]).unwrap();
        let got: Vec<(u32, f64)> = sampler.choices().collect();
        let expected = truth(&s, &rising, &[]);
        assert!(got.iter().map(|c| c.0).eq(expected.iter().map(|c| c.0)));
    }
}

#[test]
fn a_vocabulary_of_one() {
    for s in [Sampling::default(), Sampling::greedy(), plain(1)] {
        let s = Sampling { repeat_penalty: 1.3, ..s };
        let mut sampler = Sampler::new(s, 1).unwrap();
        for logit in [-5.0, 0.0, 3.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE] {
            assert_eq!(sampler.sample(&[logit], &[0]), Ok(0));
        }
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY], &[]), Err(SampleError::Nothing));
    }
}

#[test]
fn extreme_temperatures_and_logits() {
    let logits = [f32::MAX, f32::MIN, 0.0, 1.0];
    for temperature in [1e-45, f32::MIN_POSITIVE, 1.0, 1e30, f32::MAX] {
        let mut sampler = Sampler::new(Sampling { temperature, ..plain(0) }, 4).unwrap();
        for _ in 0..10 {
            let id = sampler.sample(&logits, &[]).unwrap();
            assert!(temperature > 1.0 || id == 0);
            assert!(sampler.choices().all(|(_, p)| (0.0..=1.0).contains(&p)));
        }
        // Equal logits stay equally likely.
        sampler.sample(&[2.0; 4], &[]).unwrap();
        assert!(sampler.choices().all(|(_, p)| p == 0.25));
    }
}

#[test]
fn impossible_tokens_are_never_drawn() {
    let mut logits = vec![f32::NEG_INFINITY; 200];
    logits[77] = -1e30;
    for s in [
        Sampling::default(),
        Sampling::greedy(),
        plain(1),
        Sampling { top_k: 0, ..Sampling::default() },
    ] {
        let mut sampler = Sampler::new(s, 200).unwrap();
        assert_eq!(sampler.sample(&logits, &[]), Ok(77));
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY; 200], &[]), Err(SampleError::Nothing));
        assert_eq!(
            sampler.sample(&logits[1..], &[]),
            Err(SampleError::Length { expected: 200, got: 199 })
        );
    }
}

#[test]
fn every_invalid_parameter_is_refused_by_name() {
    let ok = Sampling::default();
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let mut cases: Vec<(&str, f32, Sampling)> = Vec::new();
    for x in odd.into_iter().chain([-1.0, -1e-30]) {
        cases.push(("temperature", x, Sampling { temperature: x, ..ok }));
    }
    for x in odd.into_iter().chain([0.0, -0.1, 1.000_001]) {
        cases.push(("top_p", x, Sampling { top_p: x, ..ok }));
    }
    for x in odd.into_iter().chain([-0.1, 1.000_001]) {
        cases.push(("min_p", x, Sampling { min_p: x, ..ok }));
    }
    for x in odd.into_iter().chain([0.0, -1.0]) {
        cases.push(("repeat_penalty", x, Sampling { repeat_penalty: x, ..ok }));
    }
    for x in odd {
        cases.push(("presence_penalty", x, ok.with_presence_penalty(x)));
        cases.push(("frequency_penalty", x, ok.with_frequency_penalty(x)));
    }
    for (expected, value, s) in cases {
        let error = Sampler::new(s, 10).unwrap_err();
        assert_eq!(s.validate().unwrap_err().to_string(), error.to_string());
        let SamplingError::Parameter { name, got, .. } = error else { panic!("{error:?}") };
        assert_eq!(name, expected);
        assert_eq!(got.to_bits(), value.to_bits());
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(&value.to_string()), "{text}");
    }
    for s in [ok, Sampling::greedy(), Sampling { temperature: -0.0, ..ok }] {
        assert_eq!(s.validate(), Ok(()));
        assert!(Sampler::new(s, 10).is_ok());
        assert_eq!(Sampler::new(s, 0).unwrap_err(), SamplingError::Vocabulary { got: 0 });
    }
    if let Ok(got) = usize::try_from((1u64 << 32) + 1) {
        assert_eq!(Sampler::new(ok, got).unwrap_err(), SamplingError::Vocabulary { got });
    }
}
