//! Files written by llama.cpp's tools. They are outside the repository, in `../shared/oracle`.

use super::read_all;
use std::fs;
use std::path::{Path, PathBuf};
use teff_graph::gguf::{Gguf, GgufError, GgufValue, ggml_type_name};
use teff_kernels::Format;

/// Folder of the files; `None`, with a message, if it is absent.
fn oracle(test: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracle");
    if !dir.is_dir() {
        println!("skipped: {test} ({} is absent)", dir.display());
        return None;
    }
    Some(dir)
}

fn gguf_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            gguf_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "gguf") {
            found.push(path);
        }
    }
}

#[test]
fn files_of_the_oracles_parse() {
    let Some(dir) = oracle("files_of_the_oracles_parse") else { return };
    let mut files = Vec::new();
    gguf_files(&dir, &mut files);
    assert!(!files.is_empty());
    for path in files {
        let bytes = fs::read(&path).expect("a readable file");
        match Gguf::parse(&bytes) {
            Ok(g) => {
                read_all(&g);
                assert!(matches!(g.value("general.architecture"), Some(GgufValue::Str(_))));
            }
            Err(e @ GgufError::UnknownFormat { id, .. }) => {
                assert!(Format::from_gguf(id).is_none());
                let name = ggml_type_name(id).expect("a name");
                assert!(e.to_string().contains(name), "{}: {e}", path.display());
                println!("{}: {e}", path.display());
            }
            Err(e) => panic!("{}: {e}", path.display()),
        }
    }
}

#[test]
fn a_real_vocabulary_is_whole() {
    let Some(dir) = oracle("a_real_vocabulary_is_whole") else { return };
    let bytes = fs::read(dir.join("vocabs/ggml-vocab-gpt-2.gguf")).expect("a readable file");
    let g = Gguf::parse(&bytes).expect("a GGUF file");
    let Some(GgufValue::Array(tokens)) = g.value("tokenizer.ggml.tokens") else {
        panic!("no tokens");
    };
    let tokens: Vec<&[u8]> = tokens.strings().expect("strings").collect();
    assert_eq!((tokens.len(), tokens[0], tokens[50256]), (50257, &b"!"[..], &b"<|endoftext|>"[..]));
    assert_eq!(g.value("tokenizer.ggml.bos_token_id"), Some(GgufValue::U32(50256)));
}
