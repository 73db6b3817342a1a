//! A tokenizer on a device without an operating system: from the bytes of a GGUF file to tokens and
//! back, with a heap and nothing else.
//!
//! ```text
//! cargo run -p teff-tokenizer --example no_std
//! ```
//!
//! The module [`device`] is such a program. Its package asks for
//! `teff-tokenizer = { version = "0.1", default-features = false }`, without the feature `std`. If the
//! file has the weights too, `teff-graph` needs the features of their formats (`legacy-quants` here).
#![no_std]

extern crate std; // for the host below: the device has none of it

mod device {
    extern crate alloc;

    use alloc::string::String;
    use alloc::vec::Vec;
    use core::fmt;

    use teff_graph::gguf::{Gguf, GgufError};
    use teff_tokenizer::{EncodeScratch, Specials, Tokenizer, TokenizerError, Utf8Stream};

    /// Reason why there are no tokens.
    #[derive(Debug)]
    pub(super) enum Failure {
        /// The bytes are no GGUF file.
        File(GgufError),
        /// The file's tokenizer is not supported, or a text has no tokens.
        Tokenizer(TokenizerError),
    }

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Failure::File(e) => e.fmt(f),
                Failure::Tokenizer(e) => e.fmt(f),
            }
        }
    }

    impl From<GgufError> for Failure {
        fn from(e: GgufError) -> Self {
            Failure::File(e)
        }
    }

    impl From<TokenizerError> for Failure {
        fn from(e: TokenizerError) -> Self {
            Failure::Tokenizer(e)
        }
    }

    /// A tokenizer and its buffers, which texts use again.
    pub(super) struct Reader {
        tokenizer: Tokenizer,
        scratch: EncodeScratch,
        tokens: Vec<u32>,
    }

    impl Reader {
        /// `file` may be read-only memory, and have the model's weights or not. Nothing is borrowed
        /// from it.
        pub(super) fn new(file: &[u8]) -> Result<Self, Failure> {
            let gguf = Gguf::parse(file)?;
            let tokenizer = Tokenizer::from_gguf(&gguf)?;
            Ok(Reader { tokenizer, scratch: EncodeScratch::default(), tokens: Vec::new() })
        }

        /// The tokens of a text that somebody typed.
        pub(super) fn tokens(&mut self, text: &str) -> Result<&[u32], Failure> {
            self.tokens.clear();
            let Reader { tokenizer, scratch, tokens } = self;
            tokenizer.encode_into(text, Specials::Ignore, scratch, tokens)?;
            Ok(tokens)
        }

        /// The text of tokens as they come from a model, one after the other.
        pub(super) fn text(&self, tokens: &[u32]) -> String {
            let (mut text, mut stream) = (String::new(), Utf8Stream::new());
            for &token in tokens.iter().take_while(|&&token| !self.tokenizer.is_end(token)) {
                text.extend(stream.push(self.tokenizer.token_bytes(token).unwrap_or_default()));
            }
            text.push_str(stream.finish());
            text
        }

        /// Bytes of the heap that the tokenizer takes.
        pub(super) fn memory(&self) -> usize {
            self.tokenizer.memory()
        }
    }
}

/// The host that stands in for a device.
mod host {
    use std::boxed::Box;
    use std::error::Error;
    use std::vec::Vec;
    use std::{format, fs};

    use super::device::Reader;

    pub(super) const TEXT: &str = "Once upon a time, Ann saw a café.";

    /// A small model's file.
    pub(super) fn file() -> std::io::Result<Vec<u8>> {
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf"))
    }

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        let failed = |e| format!("the device failed: {e}");
        let mut reader = Reader::new(&file()?).map_err(failed)?;
        let tokens = reader.tokens(TEXT).map_err(failed)?.to_vec();
        std::println!("{} bytes of heap; {tokens:?}; {}", reader.memory(), reader.text(&tokens));
        Ok(())
    }
}

fn main() -> Result<(), std::boxed::Box<dyn std::error::Error>> {
    host::main()
}

#[cfg(test)]
mod tests {
    use teff_tokenizer::TokenizerError;

    use super::device::{Failure, Reader};
    use super::host::{TEXT, file};

    /// The tokens that `teff tokenize` prints.
    const TOKENS: [u32; 14] = [728, 805, 259, 471, 12, 1186, 78, 727, 259, 340, 70, 128, 103, 14];

    #[test]
    fn the_device_reads_and_writes_tokens() {
        let mut reader = Reader::new(&file().unwrap()).unwrap();
        assert_eq!(reader.tokens(TEXT).unwrap(), TOKENS);
        assert_eq!(reader.text(&TOKENS), TEXT);
        // The two bytes of the accented letter are tokens of their own.
        assert_eq!(reader.text(&TOKENS[..12]), "Once upon a time, Ann saw a caf\u{fffd}");
        assert!((1 << 14..1 << 18).contains(&reader.memory()), "{}", reader.memory());
    }

    #[test]
    fn what_is_no_model_or_has_no_tokenizer_is_an_error() {
        assert!(matches!(Reader::new(&file().unwrap()[1..]), Err(Failure::File(_))));
        // Version 3, without tensors and keys.
        let mut empty = [0; 32];
        empty[..5].copy_from_slice(b"GGUF\x03");
        let missing = Reader::new(&empty).map(|_| ()).unwrap_err();
        assert!(matches!(
            missing,
            Failure::Tokenizer(TokenizerError::Gguf { key: "tokenizer.ggml.model", .. })
        ));
    }
}
