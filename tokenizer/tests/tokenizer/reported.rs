//! Files that people reported to other engines. The ids and texts are those of the `tokenizers`
//! library, 0.23.3, for the same files.

use teff_tokenizer::*;

use crate::common::quote;

const PREPEND: &str = r#"{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}"#;
const REPLACE: &str = r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#;
const METASPACE: &str =
    r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#;
const SPLIT: &str =
    r#"{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false}"#;

fn added(id: usize, content: &str, special: bool, normalized: bool) -> String {
    format!(
        r#"{{"id":{id},"content":{},"single_word":false,"lstrip":false,"rstrip":false,"normalized":{normalized},"special":{special}}}"#,
        quote(content)
    )
}

/// A tokenizer.json of SentencePiece's kind: `<unk>`, `<s>`, `</s>`, all bytes, and more tokens. The first
/// three are special, and `more` are added, too.
fn json(tokens: &[&str], merges: &str, more: &[String], norm: &str, pre: &str) -> String {
    let first = ["<unk>", "<s>", "</s>"];
    let mut all: Vec<String> = first.map(String::from).to_vec();
    all.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    all.extend(tokens.iter().map(|t| t.to_string()));
    let vocab: Vec<String> =
        all.iter().enumerate().map(|(id, t)| format!("{}:{id}", quote(t))).collect();
    let mut list: Vec<String> = (0..3).map(|id| added(id, first[id], true, false)).collect();
    list.extend(more.iter().cloned());
    format!(
        r#"{{"version":"1.0","added_tokens":[{}],"normalizer":{norm},"pre_tokenizer":{pre},"post_processor":null,"decoder":{{"type":"Sequence","decoders":[{{"type":"Replace","pattern":{{"String":"▁"}},"content":" "}},{{"type":"ByteFallback"}},{{"type":"Fuse"}},{{"type":"Strip","content":" ","start":1,"stop":0}}]}},"model":{{"type":"BPE","dropout":null,"unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{{{}}},"merges":{merges}}}}}"#,
        list.join(","),
        vocab.join(",")
    )
}

fn check(json: &str, texts: &[(&str, &[u32], &str)]) {
    let tokenizer = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
    for (text, ids, decoded) in texts {
        assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), *ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids).unwrap(), *decoded, "{text:?}");
    }
}

#[test]
fn byte_tokens_may_be_special() {
    // As a trainer makes them that is given the bytes as its special tokens.
    let bytes: Vec<String> =
        (0..256).map(|b| added(3 + b, &format!("<0x{b:02X}>"), true, false)).collect();
    let json = json(&["▁", "q", "~", "▁q"], r#"[["▁","q"]]"#, &bytes, "null", METASPACE);
    check(
        &json,
        &[
            ("Jq~", &[259, 77, 260, 261], "Jq~"),
            ("q <0x4A>é", &[262, 259, 77, 259, 198, 172], "q J é"),
        ],
    );
}

#[test]
fn tokens_that_were_added_without_options_are_matched_in_normalised_text() {
    // `add_tokens(["<extra>"])` writes `normalized`: after Prepend, the token takes the space before it.
    let extra = [added(261, "<extra>", false, true)];
    let json = json(&["▁", "q"], "[]", &extra, PREPEND, "null");
    check(
        &json,
        &[
            (
                "q <extra>q<extra>",
                &[259, 260, 261, 260, 63, 104, 123, 119, 117, 100, 65],
                "q <extra>q<extra>",
            ),
            ("<extra>", &[261], "<extra>"),
        ],
    );
}

#[test]
fn u_2581_in_a_text_is_matched_before_spaces_become_it() {
    // Gemma's runs of U+2581 are added tokens.
    let runs = [added(261, "▁▁", false, false), added(262, "▁▁▁", false, false)];
    let tokens = ["▁", "q", "▁▁", "▁▁▁", "▁q"];
    let merges = r#"[["▁","q"],["▁","▁"],["▁▁","▁"]]"#;
    let json = json(&tokens, merges, &runs, REPLACE, SPLIT);
    let decoded = "   q";
    check(
        &json,
        &[
            ("▁▁▁▁q", &[262, 263], decoded),
            ("    q", &[262, 263], decoded),
            ("a▁▁q", &[100, 261, 260], "a  q"),
        ],
    );
}

#[test]
fn special_tokens_may_strip_on_both_sides() {
    // Fine-tunes of Mistral whose `<unk>`, `<s>` and `</s>` have lstrip and rstrip.
    let plain = json(&["▁", "q", "▁q"], r#"[["▁","q"]]"#, &[], PREPEND, "null");
    let json = plain.replace(r#""lstrip":false,"rstrip":false"#, r#""lstrip":true,"rstrip":true"#);
    check(
        &json,
        &[
            ("<s> q </s> \n q", &[1, 261, 2, 261], "<s> q</s> q"),
            ("q\t<unk>  q", &[261, 0, 261], "q<unk> q"),
            (" </s> </s>q", &[2, 2, 261], "</s></s> q"),
        ],
    );
    // Text that is nothing but tokens and white space is read once.
    let tokenizer = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
    let text = format!("</s>{}", " ".repeat(7)).repeat(1 << 14) + &" ".repeat(1 << 20);
    assert_eq!(tokenizer.encode(&text, Specials::Parse).unwrap(), [2].repeat(1 << 14));
    for strip in ["lstrip", "rstrip"] {
        let line = added(1, "\\n", true, false).replace(r"\\n", r"\n");
        let line = line.replacen(&format!("{strip}\":false"), &format!("{strip}\":true"), 1);
        let json = plain.replacen(&added(1, "<s>", true, false), &line, 1);
        let tokenizer = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
        let ids = tokenizer.encode(&"\n".repeat(1 << 20), Specials::Parse).unwrap();
        assert!(ids.len() == 1 << 20 && ids[0] == 262, "{strip}: {}", ids.len());
    }
}
