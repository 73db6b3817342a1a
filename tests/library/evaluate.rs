//! Evaluation: hidden states and perplexity.

use crate::common::{data, nmse};
use teff::graph::{Role, Tensor};
use teff::{Cpu, LogitsFor, Model, Outputs, SessionError, SessionOptions, Specials};

fn options() -> SessionOptions {
    SessionOptions::default().with_threads(1).with_batch(16).with_logits(16)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// A model of each kind of layer and head, and tokens for it.
fn models() -> impl Iterator<Item = (Model, Vec<u32>)> {
    ["gpt2/gpt2-f32", "gpt2/gpt2-Q8_0", "gemma3/gemma3-Q4_0", "lfm2/lfm2-Q4_0"].into_iter().map(
        |name| {
            let model = Model::open(data(&format!("../{name}.gguf"))).unwrap();
            let vocab = model.spec().vocab;
            let tokens = (0..40).map(|i| (i * 7919 + 13) % vocab).collect();
            (model, tokens)
        },
    )
}

/// Logits and hidden states of all tokens.
fn outputs(model: &Model, tokens: &[u32], options: &SessionOptions) -> (Vec<f32>, Vec<f32>) {
    let mut session = model.session(options).unwrap();
    let (mut logits, mut hidden) = (vec![], vec![]);
    for part in tokens.chunks(options.batch) {
        logits.extend_from_slice(session.eval(part, LogitsFor::All).unwrap());
        hidden.extend_from_slice(session.hidden().unwrap_or(&[]));
    }
    (logits, hidden)
}

#[test]
fn hidden_states_are_what_the_head_reads() {
    for (model, tokens) in models() {
        let width = model.spec().width as usize;
        let (want, none) = outputs(&model, &tokens, &options());
        let both = options().with_outputs(Outputs::Both);
        let (logits, hidden) = outputs(&model, &tokens, &both);
        assert!(none.is_empty());
        assert_eq!(bits(&logits), bits(&want), "logits change with what else is asked for");
        assert_eq!(hidden.len(), tokens.len() * width);
        // The same bits alone, by every backend, and one token at a time on two threads.
        let only = options().with_outputs(Outputs::Hidden);
        for name in Cpu::NAMES {
            let Ok(cpu) = Cpu::by_name(name) else { continue };
            let (nothing, same) = outputs(&model, &tokens, &only.with_backend(cpu));
            assert!(nothing.is_empty());
            assert_eq!(bits(&same), bits(&hidden), "{name}");
        }
        let (_, same) = outputs(&model, &tokens[..6], &only.with_batch(1).with_threads(2));
        assert_eq!(bits(&same), bits(&hidden[..6 * width]));
        // The head's product in f64.
        let Tensor::Matrix(head) = model.tensor(model.spec().id(Role::Output)) else { panic!() };
        let mut row = vec![0.0; width];
        let mut product = vec![0.0f32; logits.len()];
        let vocab = head.rows();
        for r in 0..vocab {
            let mut bytes = vec![0; head.row_bytes()];
            head.copy_row(r, &mut bytes);
            teff::kernels::dequantize_row(head.format(), &bytes, &mut row);
            for (t, h) in hidden.chunks(width).enumerate() {
                let sum: f64 = row.iter().zip(h).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                product[t * vocab + r] = sum as f32;
            }
        }
        // Quantised heads read hidden states in 8 bits.
        let most = if head.format() == teff::Format::F32 { 1e-12 } else { 1e-4 };
        let error = nmse(&logits, &product);
        assert!(error < most, "{:?}: {error}", model.name());
    }
}

#[test]
fn hidden_states_take_no_memory_of_a_head() {
    let (model, tokens) = models().next().unwrap();
    let bytes = |o: SessionOptions| model.memory_requirements(&o).unwrap().total();
    let width = model.spec().width as usize;
    let (logits, both) = (bytes(options()), bytes(options().with_outputs(Outputs::Both)));
    let hidden = bytes(options().with_outputs(Outputs::Hidden));
    assert!(hidden < logits && both - logits <= 16 * width * 4 + 256, "{hidden} {logits} {both}");

    // They are of the last step's tokens, and gone with them.
    let mut session = model.session(&options().with_outputs(Outputs::Both)).unwrap();
    assert_eq!(session.hidden(), Some(&[][..]));
    session.eval(&tokens[..5], LogitsFor::Last).unwrap();
    assert_eq!(session.hidden().unwrap().len(), width);
    session.truncate(2);
    assert_eq!(session.hidden(), Some(&[][..]));
    let mut session = model.session(&options().with_outputs(Outputs::Hidden)).unwrap();
    let e = session.generate("a", &teff::Generate::default()).unwrap_err();
    assert!(matches!(e, SessionError::NoLogits), "{e}");
    assert!(e.to_string().contains("SessionOptions::outputs") && session.tokens().is_empty());
    assert!(matches!(session.perplexity_ids(&[1; 40], 8, |_| {}), Err(SessionError::NoLogits)));
    let mut plain = model.session(&options()).unwrap();
    plain.eval(&tokens[..5], LogitsFor::Last).unwrap();
    assert_eq!(plain.hidden(), None);
}

const TEXT: &str = "the cat sat on the mat, and the dog lay on the log. one day the sun was out, and \
                    both of them went to the river to see what the fish were doing there.";

/// Perplexity, its error and the number of scored tokens, from logits by the definition.
fn by_definition(model: &Model, tokens: &[u32], window: usize) -> (f64, f64, usize) {
    let tokenizer = model.tokenizer().unwrap();
    let vocab = model.spec().vocab as usize;
    let mut nll = vec![];
    let options = SessionOptions::default().with_logits(window).with_threads(1);
    let mut session = model.session(&options).unwrap();
    for part in tokens.chunks_exact(window) {
        let mut part = part.to_vec();
        if tokenizer.add_bos() {
            part[0] = tokenizer.bos().unwrap();
        }
        session.truncate(0);
        let logits = session.eval(&part, LogitsFor::All).unwrap();
        for j in window / 2..window - 1 {
            let row = logits[j * vocab..][..vocab].iter().map(|x| f64::from(*x));
            let most = row.clone().fold(f64::MIN, f64::max);
            let sum: f64 = row.clone().map(|x| (x - most).exp()).sum();
            let logit = row.clone().nth(part[j + 1] as usize).unwrap();
            nll.push(-(logit - most - sum.ln()));
        }
    }
    let n = nll.len() as f64;
    let mean = nll.iter().sum::<f64>() / n;
    let variance = nll.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (mean.exp(), (variance / (n - 1.0)).sqrt() * mean.exp(), nll.len())
}

#[test]
fn perplexity_is_as_llama_perplexity_defines_it() {
    for (model, _) in models() {
        let tokenizer = model.tokenizer().unwrap();
        let mut tokens = vec![];
        if tokenizer.add_bos() {
            tokens.push(tokenizer.bos().unwrap());
        }
        tokens.extend(tokenizer.encode(TEXT, Specials::Ignore).unwrap());
        for window in [3, 17] {
            let (want, error, scored) = by_definition(&model, &tokens, window);
            let mut bits = vec![];
            for (batch, logits) in [(16, 16), (7, 3)] {
                let o = options().with_batch(batch).with_logits(logits).with_context(window);
                let mut session = model.session(&o).unwrap();
                let got = session.perplexity(TEXT, window).unwrap();
                assert!((got.perplexity / want - 1.0).abs() < 1e-5, "{got:?}, not {want}");
                assert!((got.error / error - 1.0).abs() < 1e-3, "{got:?}, not {error}");
                assert_eq!((got.scored, got.windows), (scored, tokens.len() / window));
                assert_eq!(scored, got.windows * (window - window / 2 - 1));
                assert!(session.tokens().is_empty());
                bits.push((got.perplexity.to_bits(), got.error.to_bits()));
            }
            assert!(bits.windows(2).all(|w| w[0] == w[1]), "steps of another size, other bits");
        }
    }
}

#[test]
fn perplexity_reports_each_window_and_refuses_what_it_cannot_score() {
    let (model, tokens) = models().next().unwrap();
    let mut session = model.session(&options().with_context(32)).unwrap();
    let mut seen = vec![];
    let last = session.perplexity_ids(&tokens, 8, |so_far| seen.push(*so_far)).unwrap();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen.iter().map(|p| p.windows).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(seen[4], last);
    let mut first = model.session(&options()).unwrap();
    assert_eq!(first.perplexity_ids(&tokens[..16], 8, |_| {}).unwrap(), seen[1]);

    let mut refused = |n: usize, window| {
        session.perplexity_ids(&tokens[..n], window, |_| {}).unwrap_err().to_string()
    };
    assert!(refused(40, 2).contains("at least 3"));
    let e = refused(40, 33);
    assert!(e.contains("context of 32") && e.contains("SessionOptions::context"), "{e}");
    let e = refused(15, 8);
    assert!(e.contains("15 tokens") && e.contains("16 tokens"), "{e}");
    let bad = model.spec().vocab;
    let mut session = model.session(&options()).unwrap();
    assert!(matches!(session.perplexity_ids(&[bad; 20], 8, |_| {}), Err(SessionError::Step(_))));
}
