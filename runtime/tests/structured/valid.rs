//! Texts that end are valid JSON, and valid against their schemas.

use jsonschema::Draft;
use serde_json::Value;
use teff_runtime::structured::{Grammar, GrammarError};

use crate::schemas::schemas;
use crate::texts::{FILES, Random, Text, Vocabulary, samplings, text};

#[test]
fn texts_that_end_are_valid() {
    let vocabularies = FILES.map(Vocabulary::open);
    let mut random = Random(2026);
    let (mut ended, mut cut, mut impossible) = (0, 0, 0);
    let schemas = schemas();
    assert!(schemas.len() > 250, "{}", schemas.len());
    for (i, schema) in schemas.iter().enumerate() {
        let mut options = jsonschema::options().should_validate_formats(true);
        if schema.get("$schema").is_none() {
            options = options.with_draft(Draft::Draft202012);
        }
        let validator = options.build(schema).unwrap();
        let grammar = Grammar::JsonSchema(schema.to_string());
        let alone = i < 130;
        for (j, vocabulary) in vocabularies.iter().enumerate() {
            // Combinations go over the tokenizers by turns.
            if !alone && i % FILES.len() != j {
                continue;
            }
            let constraint = match vocabulary.grammars.compile(&grammar) {
                Ok(constraint) => constraint,
                // Random parts may contradict each other.
                Err(GrammarError::Unsatisfiable { .. }) if !alone => {
                    impossible += 1;
                    continue;
                }
                Err(e) => panic!("{schema}: {e}"),
            };
            for (k, sampling) in samplings(i as u64).into_iter().enumerate() {
                if alone && (i + j) % 2 != k % 2 {
                    continue;
                }
                let text = match text(vocabulary, constraint.fork(), sampling, &mut random, 80) {
                    Text::Ended(text) => text,
                    Text::Failed(e) => {
                        eprintln!("{} {schema}: {e}", FILES[j]);
                        continue;
                    }
                    Text::Cut(_) => {
                        cut += 1;
                        continue;
                    }
                };
                ended += 1;
                let value: Value = match serde_json::from_str(&text) {
                    Ok(value) => value,
                    Err(e) => panic!("{schema}: {text:?}: {e}"),
                };
                if let Err(e) = validator.validate(&value) {
                    panic!("{schema}: {text}: {e}");
                }
                assert!(
                    !text.contains('\n') && !text.contains("  ") || text.contains('"'),
                    "{text:?}"
                );
            }
        }
    }
    eprintln!("{ended} texts ended, {cut} were cut, {impossible} schemas had no text");
    assert!(ended > 4 * cut && ended > 1500, "{ended} ended, {cut} cut");
    assert!(impossible < 30, "{impossible}");
}
