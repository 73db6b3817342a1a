//! Arbitrary bytes as a JSON document, event by event, and as a config.json.

use std::hint::black_box;

use teff_graph::meta::Metadata;
use teff_runtime::config::Config;
use teff_runtime::json::{Event, MAX_DEPTH, Reader};

/// Checks one input.
pub fn run(document: &[u8]) {
    let mut r = Reader::new(document);
    let mut depth = 0;
    let whole = loop {
        match r.next() {
            Ok(Some(event)) => match event {
                Event::ObjectStart | Event::ArrayStart => depth += 1,
                Event::ObjectEnd | Event::ArrayEnd => depth -= 1,
                Event::Key(text) | Event::String(text) => {
                    let owned = text.to_cow();
                    assert!(text.is(&owned) && text.chars().eq(owned.chars()));
                    if let Some(same) = text.as_str() {
                        assert_eq!(same, owned);
                    }
                }
                Event::Number(n) => assert!(n.parse::<f64>().is_ok()),
                Event::Bool(_) | Event::Null => {}
            },
            Ok(None) => break true,
            Err(e) => {
                assert!(e.offset <= document.len() && !e.to_string().is_empty());
                assert_eq!(r.next(), Err(e));
                break false;
            }
        }
        assert!(r.depth() == depth && depth <= MAX_DEPTH && r.offset() <= document.len());
    };
    // Skipping and reading see the same.
    let mut skipping = Reader::new(document);
    let skipped = skipping.skip_value().is_ok() && matches!(skipping.next(), Ok(None));
    assert_eq!(skipped, whole);
    if let Ok(config) = Config::parse(document) {
        assert!(whole);
        black_box((config.class(), config.family().is_ok()));
        for key in ["n_embd", "model_type", "layer_norm_epsilon", "tie_word_embeddings"] {
            black_box(config.get(key));
        }
    }
}
