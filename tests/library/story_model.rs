//! The example's embedded model compared to PyTorch, and its stories.

use crate::common;
use std::path::Path;

use teff::{Generate, LogitsFor, Model, Sampling, SessionOptions};
use teff_runtime::safetensors::SafeTensors;

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gpt2").join(name)
}

/// Logits of three prompts, compared to PyTorch in f32 over the dequantised weights of the file.
/// The difference is the error of Teff's quantised activations; a mistake in a term would be far
/// larger.
#[test]
fn logits_agree_with_pytorch() {
    let bytes = std::fs::read(example("golden/golden.safetensors")).unwrap();
    let golden = SafeTensors::parse(&bytes).unwrap();
    let words = |name: &str| golden.get(name).unwrap().data.as_chunks::<4>().0;
    let model = Model::open(example("model.gguf")).unwrap();
    let options = SessionOptions { batch: 64, logits: 64, ..SessionOptions::default() };
    for i in 0..3 {
        let tokens: Vec<u32> =
            words(&format!("tokens.{i}")).iter().map(|w| u32::from_le_bytes(*w)).collect();
        let want: Vec<f32> =
            words(&format!("logits.{i}")).iter().map(|w| f32::from_le_bytes(*w)).collect();
        let mut session = model.session(&options).unwrap();
        let got = session.eval(&tokens, LogitsFor::All).unwrap();
        let e = common::nmse(got, &want);
        println!("prompt {i}: NMSE {e:.2e}");
        assert!(e <= 2e-4, "prompt {i}: {e:e}");
        let vocab = model.spec().vocab as usize;
        let best = |l: &[f32]| (0..vocab).max_by(|&a, &b| l[a].total_cmp(&l[b])).unwrap();
        let last = (tokens.len() - 1) * vocab..tokens.len() * vocab;
        assert_eq!(best(&got[last.clone()]), best(&want[last]), "prompt {i}: another next token");
    }
}

/// The file is as described in the README, small enough to embed, and its stories end by
/// themselves.
#[test]
fn stories_end() {
    let path = example("model.gguf");
    assert!(std::fs::metadata(&path).unwrap().len() <= 4_000_000);
    let model = Model::open(&path).unwrap();
    assert_eq!(model.spec().parameters(), 3_136_512);
    let mut ended = 0;
    for seed in 0..10 {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let sampling = Sampling { temperature: 0.7, top_k: 40, seed, ..Sampling::default() };
        let how = Generate { sampling, max_tokens: Some(330), ..Generate::default() };
        let mut story = session.generate("Once upon a time", &how).unwrap();
        let text: String = story.by_ref().map(Result::unwrap).collect();
        assert!(text.is_ascii() && text.split_whitespace().count() > 30, "{text}");
        ended += usize::from(matches!(story.finish(), Some(teff::Finish::Stop(_))));
    }
    assert!(ended >= 9, "only {ended} of 10 stories came to an end");
}
