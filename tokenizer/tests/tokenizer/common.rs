//! Small vocabularies in every file format, and random numbers.

use std::path::{Path, PathBuf};

use teff_tokenizer::*;

/// Number of random texts of a test: 10,000, or 100,000 where `TEFF_FULL` is set, as in the nightly tier.
pub(crate) fn texts() -> usize {
    if std::env::var_os("TEFF_FULL").is_some() { 100_000 } else { 10_000 }
}

/// A folder of the oracles; `None`, with a message, if this checkout has none.
pub(crate) fn oracle(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracle").join(name);
    if !path.exists() {
        eprintln!("skipped: ../shared/oracle/{name} is not there");
        return None;
    }
    Some(path)
}

/// Splitmix64: the same numbers on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// The character that stands for a byte in the byte alphabet.
pub(crate) fn letter(byte: u8) -> char {
    let own = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let b = u32::from(byte);
    let code = if own(b) { b } else { 0x100 + (0..b).filter(|&b| !own(b)).count() as u32 };
    char::from_u32(code).unwrap()
}

/// Bytes in the byte alphabet.
pub(crate) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| letter(b)).collect()
}

/// A vocabulary: all bytes, then the products of merges, then `<|endoftext|>`.
#[derive(Clone, Debug)]
pub(crate) struct Small {
    pub(crate) tokens: Vec<Vec<u8>>,
    pub(crate) merges: Vec<(u32, u32)>,
}

pub(crate) const END: &str = "<|endoftext|>";

impl Small {
    pub(crate) fn new() -> Small {
        Small { tokens: (0..=255).map(|b| vec![b]).collect(), merges: Vec::new() }
    }

    /// Adds a merge, unless its product is already a token.
    pub(crate) fn merge(&mut self, left: u32, right: u32) {
        let product = [&*self.tokens[left as usize], &*self.tokens[right as usize]].concat();
        if !self.tokens.contains(&product) {
            self.tokens.push(product);
            self.merges.push((left, right));
        }
    }

    /// Some merges of common words.
    pub(crate) fn sample() -> Small {
        let mut small = Small::new();
        for word in ["hello", " world", " the", "é", "日", "  ", "'ll", "123", "\n\n"] {
            let mut left = u32::from(word.as_bytes()[0]);
            for &byte in &word.as_bytes()[1..] {
                small.merge(left, u32::from(byte));
                let n = small.tokens.len() as u32;
                left = n - 1;
            }
        }
        small
    }

    pub(crate) fn end(&self) -> u32 {
        self.tokens.len() as u32
    }

    pub(crate) fn spelled(&self) -> Vec<String> {
        self.tokens.iter().map(|t| spell(t)).chain([END.to_string()]).collect()
    }

    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let token = |id: u32| spell(&self.tokens[id as usize]);
        self.merges.iter().map(|&(l, r)| (token(l), token(r))).collect()
    }

    pub(crate) fn vocab_json(&self) -> String {
        let tokens = self.spelled();
        let all = tokens.iter().enumerate();
        let all: Vec<_> = all.map(|(id, t)| format!("{}:{id}", quote(t))).collect();
        format!("{{{}}}", all.join(","))
    }

    pub(crate) fn merges_txt(&self) -> String {
        let lines: String = self.pairs().iter().map(|(l, r)| format!("{l} {r}\n")).collect();
        format!("#version: 0.2\n{lines}")
    }

    pub(crate) fn merges_json(&self, pairs: bool) -> String {
        let all = self.pairs();
        let all = all.iter().map(|(l, r)| match pairs {
            true => format!("[{},{}]", quote(l), quote(r)),
            false => quote(&format!("{l} {r}")),
        });
        format!("[{}]", all.collect::<Vec<_>>().join(","))
    }

    pub(crate) fn tokenizer_json(&self, pairs: bool) -> String {
        let (vocab, merges) = (self.vocab_json(), self.merges_json(pairs));
        let added = format!(
            r#"[{{"id":{},"content":"{END}","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}]"#,
            self.end()
        );
        format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":{added},"normalizer":null,"pre_tokenizer":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}},"post_processor":null,"decoder":{{"type":"ByteLevel"}},"model":{{"type":"BPE","dropout":null,"unk_token":null,"fuse_unk":false,"vocab":{vocab},"merges":{merges}}}}}"#
        )
    }

    pub(crate) fn parts(&self) -> Result<Tokenizer, TokenizerError> {
        let tokens = self.spelled();
        let end = self.end();
        let merges: Vec<_> = self.pairs().iter().map(|(l, r)| format!("{l} {r}")).collect();
        Tokenizer::byte_bpe(BpeParts {
            tokens: tokens.iter().enumerate().map(|(i, t)| {
                let normal = i < end as usize;
                (t.as_bytes(), if normal { TokenKind::Normal } else { TokenKind::Control })
            }),
            merges: merges.iter().map(String::as_bytes),
            splitter: Splitter::Gpt2,
            add_prefix_space: false,
            ignore_merges: false,
            nfc: false,
            ids: SpecialIds { bos: Some(end), eos: Some(end), ..SpecialIds::default() },
        })
    }

    /// The same tokenizer from every supported source.
    pub(crate) fn all(&self) -> Vec<Tokenizer> {
        vec![
            self.parts().unwrap(),
            Tokenizer::from_tokenizer_json(self.tokenizer_json(false).as_bytes(), None).unwrap(),
            Tokenizer::from_tokenizer_json(self.tokenizer_json(true).as_bytes(), None).unwrap(),
            Tokenizer::from_vocab_merges(
                self.vocab_json().as_bytes(),
                self.merges_txt().replace('\n', "\r\n").as_bytes(),
                None,
            )
            .unwrap(),
        ]
    }
}

pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A folder in the system's temporary folder, removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Folder {
        let path = std::env::temp_dir().join(format!("teff-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
