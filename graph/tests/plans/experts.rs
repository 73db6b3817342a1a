//! Mixtures of experts: which are chosen, in which order they are added, and what has no numbers.

#![cfg(feature = "alloc")]

use teff_graph::layers::{
    Attention, Experts, FeedForward, Layer, Mixer, Norm, NormKind, Norms, Scales,
};
use teff_graph::{
    Embed, Head, LayerRole as L, List, LogitsFor, NeverCancel, Options, Outputs, Role, Segment,
    Slot, Spec,
};
use teff_kernels::{
    Activations, Backend, Cpu, DenseActivations, Format, KvFormat, Matrix, Scalar, Tile,
};

use crate::common::{Model, Room, bits, floats, layers, run_on, tokens};

const WIDTH: usize = 24;
const INNER: usize = 20;
const VOCAB: usize = 40;

/// One layer, of experts; its attention adds nothing but zeros.
fn spec(experts: u32, used: u32, normalised: bool) -> Spec<'static> {
    let norm = Norm { kind: NormKind::Rms, eps: 1e-5 };
    let attention = Attention { head_dim: 4, scale: 0.5, ..Attention::EMPTY };
    let layer = Layer {
        mixer: Mixer::Attention(attention),
        ffn: FeedForward::Experts(Experts {
            normalised,
            ..Experts::new(experts, used, INNER as u32)
        }),
        norms: Norms { before: norm, pre: true, post: false },
        input: None,
        streams: None,
        scales: Scales { residual: 1.0, output: false },
    };
    Spec {
        arch: "experts",
        vocab: VOCAB as u32,
        context: 200,
        width: WIDTH as u32,
        embed: Embed { scale: 1.0, positions: false },
        layers: layers(&[layer]),
        ropes: List::Borrowed(&[]),
        norm,
        head: Head::Tied,
        logit_divisor: 1.0,
        logit_cap: None,
        per_layer: None,
        streams: None,
        token_scales: false,
    }
}

/// A model of F32 whose router is given.
fn model(spec: &Spec<'static>, router: impl Fn(usize, usize) -> f32) -> Model {
    Model::with_weights(
        spec.clone(),
        |_| Format::F32,
        |i, slot: &Slot| match slot.role {
            Role::Layer(_, L::AttnOut) => vec![0.0; slot.rows * slot.cols],
            Role::Layer(_, L::ExpertRouter) => {
                let cols = slot.cols;
                (0..slot.rows * cols).map(|at| router(at / cols, at % cols)).collect()
            }
            // Experts of very different size, so that the order of a sum can be seen.
            Role::Layer(_, L::ExpertDown) => {
                let all = floats(i as u32 + 1, slot.all_rows() * slot.cols);
                let each = slot.rows * slot.cols;
                let sized = |(at, x): (usize, f32)| x * 3f32.powi((at / each * 5 % 7) as i32 - 2);
                all.into_iter().enumerate().map(sized).collect()
            }
            _ => floats(i as u32 + 1, slot.all_rows() * slot.cols),
        },
    )
}

fn matmul(w: &[f32], cols: usize, x: &[f32]) -> Vec<f32> {
    let rows = w.len() / cols;
    let bytes: Vec<u8> = w.iter().flat_map(|x| x.to_le_bytes()).collect();
    let w = Matrix::new(Format::F32, rows, cols, &bytes).unwrap();
    let mut out = vec![0.0; rows];
    let x = Activations::Dense(DenseActivations::new(x, 1, cols, cols));
    Scalar.matmul(&w, &x, 0..rows, &mut Tile::new(&mut out, 1, rows, rows), &mut []);
    out
}

/// The experts of a token: all scores, sorted by score and number.
fn choose(scores: &[f32], used: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap().then(a.cmp(&b)));
    let mut chosen = order[..used].to_vec();
    chosen.sort_unstable();
    chosen
}

/// The logits of one token, by the backend's functions and sums written out; and its experts.
fn by_hand(model: &Model, token: u32) -> (Vec<f32>, Vec<usize>) {
    let values = |role| model.values(Role::Layer(0, role));
    let embd = model.values(Role::TokenEmbd);
    let layer = *model.spec.layers.get(0);
    let experts = layer.experts().unwrap();
    let mut x = embd[token as usize * WIDTH..][..WIDTH].to_vec();
    let mut h = vec![0.0; WIDTH];
    Scalar.rms_norm(&x, &values(L::FfnNorm), layer.norms.before.eps, &mut h);
    let mut p = matmul(&values(L::ExpertRouter), WIDTH, &h);
    Scalar.softmax(&mut p);
    let chosen = choose(&p, experts.used as usize);
    let mut all = p[chosen[0]];
    chosen[1..].iter().for_each(|&e| all += p[e]);
    let part = |role, e: usize, cols: usize, x: &[f32]| {
        let w = values(role);
        let each = w.len() / experts.experts as usize;
        matmul(&w[e * each..][..each], cols, x)
    };
    let mut sum = [0f32; WIDTH];
    for &e in &chosen {
        let (mut inner, up) = (part(L::ExpertGate, e, WIDTH, &h), part(L::ExpertUp, e, WIDTH, &h));
        Scalar.silu_mul(&mut inner, &up);
        let out = part(L::ExpertDown, e, INNER, &inner);
        let share = if experts.normalised { p[e] / all } else { p[e] };
        for (sum, out) in sum.iter_mut().zip(out) {
            let product = out * share;
            *sum += product;
        }
    }
    for (x, sum) in x.iter_mut().zip(sum) {
        *x += sum;
    }
    Scalar.rms_norm(&x.clone(), &model.values(Role::OutputNorm), model.spec.norm.eps, &mut x);
    (matmul(&embd, WIDTH, &x), chosen)
}

/// The logits of all tokens in one step.
fn logits(model: &Model, tokens: &[u32], threads: usize) -> Vec<f32> {
    let n = tokens.len();
    let options = Options {
        batch: n,
        logits: n,
        context: 200,
        kv: KvFormat::F32,
        outputs: Outputs::Logits,
        pages: 0,
    };
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, &options, Cpu::best(), (threads, 1));
    let segments = [Segment::new(tokens, LogitsFor::All)];
    run_on(&mut runner, &segments, &NeverCancel, threads).unwrap()
}

/// Checks the bits of all tokens against the way by hand; their experts.
fn check(model: &Model, tokens: &[u32]) -> Vec<Vec<usize>> {
    let (mut want, mut chosen) = (vec![], vec![]);
    for &token in tokens {
        let (logits, experts) = by_hand(model, token);
        want.extend(logits);
        chosen.push(experts);
    }
    for threads in [1, 2, 3] {
        assert_eq!(bits(&logits(model, tokens, threads)), bits(&want), "{threads} threads");
    }
    chosen
}

/// A router that looks at random.
fn random(seed: u32) -> impl Fn(usize, usize) -> f32 {
    move |e, d| floats(seed + (e * WIDTH + d) as u32 * 7, 2)[1]
}

#[test]
fn experts_are_added_in_ascending_order() {
    for (experts, used, normalised) in [(8, 3, true), (8, 8, false), (5, 2, false), (2, 1, true)] {
        let model = model(&spec(experts, used, normalised), random(3));
        let all: Vec<u32> = (0..VOCAB as u32).collect();
        let chosen = check(&model, &all);
        assert!(used == experts || chosen.iter().any(|c| *c != chosen[0]), "{chosen:?}");
    }
}

#[test]
fn ties_go_to_the_lower_expert() {
    // All alike; then the odd ones are.
    let zeros = model(&spec(8, 3, true), |_, _| 0.0);
    assert!(check(&zeros, &[1, 2, 3]).iter().all(|c| *c == [0, 1, 2]));
    let random = random(5);
    let odd = model(&spec(8, 3, false), |e, d| random(e % 2 * 4, d));
    for chosen in check(&odd, &tokens(1, 50, VOCAB as u32)) {
        assert!(chosen == [0, 2, 4] || chosen == [1, 3, 5], "{chosen:?}");
    }
}

#[test]
fn experts_may_have_no_tokens_or_all() {
    let mixed = model(&spec(6, 1, true), random(9));
    let token = 7;
    let chosen = check(&mixed, &[token; 130]);
    assert!(chosen.iter().all(|c| *c == chosen[0] && c.len() == 1));
    // More tokens of one expert than a product takes at a time, and others beside.
    let mut some = vec![token; 100];
    some.extend(0..VOCAB as u32);
    let chosen = check(&mixed, &some);
    let of = |e| chosen.iter().filter(|c| c[0] == e).count();
    assert!((0..6).any(|e| of(e) >= 100) && (0..6).any(|e| of(e) < 40));
    assert_eq!((0..6).map(of).sum::<usize>(), 140);
}

#[test]
fn scores_that_are_no_numbers_give_logits_that_are_none() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        for (experts, used) in [(8, 3), (2, 2)] {
            let model = model(&spec(experts, used, true), |e, d| match (e, d) {
                (1, 0 | 1) => bad,
                _ => 0.1,
            });
            let all: Vec<u32> = (0..VOCAB as u32).collect();
            let got = logits(&model, &all, 2);
            assert_eq!(got.len(), VOCAB * VOCAB);
            if bad.is_nan() {
                assert!(got.iter().all(|x| x.is_nan()));
            }
            // The same tokens one at a time: as good or as bad.
            for t in [0, 17] {
                let alone = logits(&model, &all[t..=t], 1);
                let row = &got[t * VOCAB..][..VOCAB];
                assert!(alone.iter().zip(row).all(|(a, b)| a.is_nan() == b.is_nan()));
            }
        }
    }
}
