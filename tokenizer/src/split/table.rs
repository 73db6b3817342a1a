//! The pieces of some texts by every rule that names of GGUF files stand for.
//!
//! They were made with Python's `regex` module (2026.11.19) from the patterns in llama.cpp's source,
//! one after the other on the pieces of the one before; for tekken, gpt-4o, youtu, tiny_aya and
//! kimi-k2, which llama.cpp approximates or has code for, from the patterns of the models' own
//! files. AFMoE's groups of digits were cut by a few lines of Python.

use super::super::{CutScratch, GgufName, PreTokenizer, Splitter, gguf_name, gguf_names};
use super::{Budget, check_with};
use crate::test_prelude::*;

/// Texts whose pieces differ.
const TEXTS: [&str; 4] = [
    "Hello wORLD'S I'LL I'dx the  cat\n\n  e\u{301}a (x_y)--z!\n/a",
    "a1234567  12b ½Ⅷ २३४५ $5 `c` <|… ",
    "漢字かな。한국 ไทย Ωω ЖД ǅu \u{1f7d}，\r\n\tx      y\u{3000}\n z  ",
    "IMGIMGABZ <sentinel:12> b'c 「d」 f\u{327}g \u{f900}ｶ  ",
];

/// Names with the same rule, and the pieces of each text between `¦`.
const TABLE: &[(&[&str], [&str; 4])] = &[
    (
        &[
            "a.x-4.0",
            "exaone4",
            "gigachat",
            "gpt-2",
            "granite-docling",
            "jais",
            "jina-de",
            "jina-es",
            "jina-v2-de",
            "jina-v2-es",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "phi-2",
            "trillion",
        ],
        [
            "Hello¦ wORLD¦'¦S¦ I¦'¦LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n ¦ e¦\u{301}¦a¦ (¦x¦_¦y¦)--¦z¦!¦\n¦/¦a",
            "a¦1234567¦ ¦ 12¦b¦ ½Ⅷ¦ २३४५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，¦\r\n¦\t¦x¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'¦c¦ 「¦d¦」¦ f¦\u{327}¦g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &[
            "codeshell",
            "command-r",
            "exaone",
            "mellum2",
            "minerva-7b",
            "refact",
            "smollm",
            "starcoder",
        ],
        [
            "Hello¦ wORLD¦'¦S¦ I¦'¦LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n ¦ e¦\u{301}¦a¦ (¦x¦_¦y¦)--¦z¦!¦\n¦/¦a",
            "a¦1¦2¦3¦4¦5¦6¦7¦  ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，¦\r\n¦\t¦x¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'¦c¦ 「¦d¦」¦ f¦\u{327}¦g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &[
            "chatglm-bpe",
            "dbrx",
            "falcon-h1",
            "falcon3",
            "glm4",
            "jina-v5-nano",
            "lfm2",
            "llama-bpe",
            "llama-v3",
            "llama3",
            "midm-2.0",
            "pixtral",
            "smaug-bpe",
        ],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e¦\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦123¦456¦7¦ ¦ ¦12¦b¦ ¦½Ⅷ¦ ¦२३४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'c¦ 「¦d¦」¦ f¦\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &[
            "bailingmoe",
            "bailingmoe2",
            "deepseek-r1-qwen",
            "f2llmv2",
            "grok-2",
            "hunyuan",
            "kormo",
            "llada-moe",
            "megrez",
            "qwen2",
            "solar-open",
            "stablelm2",
        ],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e¦\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ 「¦d¦」¦ f¦\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["default"],
        [
            "Hello¦ wORLD¦'¦S¦ I¦'¦LL¦ I¦'¦dx¦ the¦ ¦ cat¦\n\n ¦ e¦\u{301}¦a¦ ¦(¦x¦_¦y¦)--¦z¦!¦\n¦/¦a",
            "a¦123¦456¦7¦ ¦ ¦12¦b¦ ¦½Ⅷ¦ ¦२३४५¦ ¦$¦5¦ `¦c¦`¦ ¦<|…¦ ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，¦\r\n¦\t¦x¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ ¦<¦sentinel¦:¦12¦>¦ b¦'¦c¦ ¦「¦d¦」¦ f¦\u{327}¦g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["falcon"],
        [
            "Hello¦ wORLD¦'¦S¦ I¦'¦LL¦ I¦'¦dx¦ the¦ ¦ cat¦\n\n ¦ e¦\u{301}¦a¦ ¦(¦x¦_¦y¦)--¦z¦!¦\n¦/¦a",
            "a¦123¦456¦7¦ ¦ 12¦b¦ ½Ⅷ¦ २३४५¦ ¦$¦5¦ ¦`¦c¦`¦ ¦<|…¦ ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，¦\r\n¦\t¦x¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ ¦<¦sentinel¦:¦12¦>¦ b¦'¦c¦ ¦「¦d¦」¦ f¦\u{327}¦g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["deepseek-llm"],
        [
            "Hello¦ wORLD¦'¦S¦ I¦'¦LL¦ I¦'¦dx¦ the¦ ¦ cat¦\n¦\n¦ ¦ e¦\u{301}¦a¦ (¦x¦_¦y¦)--¦z¦!¦\n¦/¦a",
            "a¦1234567¦  ¦12¦b¦ ¦½¦Ⅷ¦ ¦२३४५¦ $¦5¦ `¦c¦`¦ <|¦…¦ ",
            "漢字かな¦。¦한국¦ ¦ไทย¦ Ωω¦ ЖД¦ ǅ¦u¦ ¦\u{1f7d}¦，¦\r¦\n¦\tx¦     ¦ y¦\u{3000}¦\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'¦c¦ ¦「¦d¦」¦ f¦\u{327}¦g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["deepseek-coder"],
        [
            "Hello¦ wORLD¦'¦S¦ I¦'¦LL¦ I¦'¦dx¦ the¦ ¦ cat¦\n¦\n¦ ¦ e¦\u{301}¦a¦ (¦x¦_¦y¦)--¦z¦!¦\n¦/¦a",
            "a¦1¦2¦3¦4¦5¦6¦7¦  ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦` <|¦…¦ ",
            "漢字かな¦。¦한국¦ ¦ไทย¦ Ωω¦ ЖД¦ ǅu¦ ¦\u{1f7d}¦，¦\r¦\n¦\tx¦     ¦ y¦\u{3000}¦\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'¦c¦ ¦「¦d¦」¦ f¦\u{327}¦g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'dx¦ the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦123¦456¦7¦  ¦12¦b¦ ¦½Ⅷ¦ ¦२३४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["qwen35"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["tekken"],
        [
            "Hello¦ w¦ORLD¦'S¦ I¦'LL¦ I¦'dx¦ the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n/¦a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["gpt-4o", "granite-embed-multi-97m", "kanana2", "llama4", "minimax-m2", "talkie"],
        [
            "Hello¦ w¦ORLD'S¦ I'LL¦ I'd¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n/¦a",
            "a¦123¦456¦7¦ ¦ ¦12¦b¦ ¦½Ⅷ¦ ¦२३४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["superbpe"],
        [
            "Hello wORLD'S I'LL I'dx the  cat\n\n  e\u{301}a (x_y)--z!\n/a",
            "a¦1¦234¦567¦  ¦12¦b ¦½Ⅷ¦ ¦२¦३४५¦ $¦5¦ `c` <|… ",
            "漢字かな。한국 ไทย Ωω ЖД ǅu \u{1f7d}，\r\n\tx      y\u{3000}\n z  ",
            "IMGIMGABZ <sentinel:¦12¦> b'c 「d」 f\u{327}g \u{f900}ｶ  ",
        ],
    ),
    (
        &["seed-coder"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e¦\u{301}a¦ (¦x¦_y¦)--¦z¦!¦\n¦/a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，¦\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ 「¦d¦」¦ f¦\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["bloom", "gpt3-finnish", "poro-chat"],
        [
            "Hello¦ wORLD'S¦ I'LL¦ I'dx¦ the¦ ¦ cat¦\n\n ¦ e\u{301}a¦ (¦x_y¦)¦--z¦!\n¦/a",
            "a1234567¦ ¦ 12b¦ ½Ⅷ¦ २३४५¦ $5¦ `c`¦ <¦|… ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n\t¦x¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <sentinel:12>¦ b'c¦ 「d」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["viking"],
        [
            "Hello¦ wORLD'S¦ I'LL¦ I'dx¦ the¦ ¦ cat¦\n\n ¦ e\u{301}a¦ (¦x_y¦)¦--z¦!\n¦/a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `c`¦ <¦|… ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n\t¦x¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <sentinel:¦1¦2¦>¦ b'c¦ 「d」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["minicpm5"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e¦\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦123¦456¦7¦  ¦12¦b¦ ¦½Ⅷ¦ ¦२३४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'c¦ 「¦d¦」¦ f¦\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["jais-2"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e¦\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦123¦456¦7¦ ¦ ¦12¦b¦ ¦½Ⅷ¦ ¦२३४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦    ¦ ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'c¦ 「¦d¦」¦ f¦\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["youtu"],
        [
            "Hello¦ w¦ORLD'S¦ I'LL¦ I'd¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n/¦a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|¦…¦ ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，¦\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ ¦「¦d¦」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["cohere2moe", "tiny_aya"],
        [
            "Hello¦ w¦ORLD'S¦ I'LL¦ I'd¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n/¦a",
            "a¦1¦234¦567¦ ¦ ¦12¦b¦ ¦½Ⅷ¦ ¦२¦३४५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["kimi-k2"],
        [
            "Hello¦ w¦ORLD'S¦ I'LL¦ I'd¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦123¦456¦7¦ ¦ ¦12¦b¦ ¦½Ⅷ¦ ¦२३४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字¦かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g¦ ¦\u{f900}¦ｶ¦  ",
        ],
    ),
    (
        &["ufakzeka"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'dx¦ the¦ ¦ cat¦\n\n¦ ¦ e¦\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ 「¦d¦」¦ f¦\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["afmoe"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'dx¦ the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦1¦234¦567¦  ¦12¦b¦ ¦½Ⅷ¦ ¦२¦३४५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。¦한국¦ ¦ไ¦ทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦12¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g¦ ¦\u{f900}ｶ¦  ",
        ],
    ),
    (
        &["laguna"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'d¦x¦ the¦ ¦ cat¦\n\n¦ ¦ e¦\u{301}a¦ (¦x¦_y¦)--¦z¦!¦\n¦/a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，\r¦\n¦\tx¦     ¦ y¦\u{3000}¦\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ 「¦d¦」¦ f¦\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["exaone-moe"],
        [
            "Hello wORLD¦'S¦ I¦'LL¦ I¦'d¦x the¦ ¦ cat¦\n\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!\n¦/a",
            "a¦1¦2¦3¦4¦5¦6¦7¦ ¦ ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。한국 ไทย Ωω ЖД ǅu \u{1f7d}¦，\r¦\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["chameleon"],
        [
            "Hello¦ wORLD¦'¦S¦ I¦'¦LL¦ I¦'¦dx¦ the¦  ¦cat¦\n¦\n¦  ¦e¦\u{301}¦a¦ ¦(¦x¦_¦y¦)¦-¦-¦z¦!¦\n¦/¦a",
            "a¦1¦2¦3¦4¦5¦6¦7¦  ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ ¦$¦5¦ ¦`¦c¦`¦ ¦<¦|¦…¦ ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，¦\r¦\n¦\t¦x¦    ¦  ¦y¦\u{3000}¦\n¦ z¦  ",
            "IMGIMGABZ¦ ¦<¦sentinel¦:¦1¦2¦>¦ b¦'¦c¦ ¦「¦d¦」¦ f¦\u{327}¦g¦ \u{f900}ｶ¦  ",
        ],
    ),
    (
        &["spark2_5"],
        [
            "Hello¦ wORLD¦'S¦ I¦'LL¦ I¦'dx¦ the¦ ¦ cat¦\n¦\n¦ ¦ e\u{301}a¦ (¦x¦_y¦)--¦z¦!¦\n¦/a",
            "a¦1¦2¦3¦4¦5¦6¦7¦  ¦1¦2¦b¦ ¦½¦Ⅷ¦ ¦२¦३¦४¦५¦ $¦5¦ `¦c¦`¦ <|…¦ ",
            "漢字かな¦。¦한국¦ ไทย¦ Ωω¦ ЖД¦ ǅu¦ \u{1f7d}¦，¦\r¦\n¦\tx¦     ¦ y¦\u{3000}\n¦ z¦  ",
            "IMGIMGABZ¦ <¦sentinel¦:¦1¦2¦>¦ b¦'c¦ 「¦d¦」¦ f\u{327}g¦ \u{f900}ｶ¦  ",
        ],
    ),
];

#[test]
fn every_name_cuts_texts_as_its_patterns_do() {
    let mut names = 0;
    let mut rules: Vec<Splitter> = Vec::new();
    for (same, pieces) in TABLE {
        for name in *same {
            let Some(GgufName::Bytes { splitter, .. }) = gguf_name(name) else { panic!("{name}") };
            let pre = PreTokenizer::new(&splitter.steps()).unwrap();
            for (text, pieces) in TEXTS.iter().zip(pieces) {
                let want: Vec<&str> = pieces.split('¦').collect();
                assert_eq!(want.concat(), *text, "the table");
                check_with(&pre, text, &want);
            }
            rules.push(splitter);
            names += 1;
        }
    }
    let bytes = |name: &&str| matches!(gguf_name(name), Some(GgufName::Bytes { .. }));
    assert_eq!(gguf_names().filter(bytes).count(), names);
    assert!(Splitter::ALL.iter().all(|rule| rules.contains(rule)));
}

#[test]
fn no_rule_reads_a_text_again_and_again() {
    // A search that went back to the start for each character would take 2^31 steps, and the budget of
    // these texts is 2^24.
    let parts =
        ["a", "A", " ", "\n", " \n", "1", "!", "'", "'s", "a b ", "e\u{301}", "日", "½", "/\r"];
    for rule in Splitter::ALL {
        let pre = PreTokenizer::new(&rule.steps()).unwrap();
        for part in parts {
            for end in ["", "x", " ", "日"] {
                let text = part.repeat((1 << 16) / part.len()) + end;
                let mut scratch = CutScratch::default();
                scratch.budget = Budget::new(text.len());
                let pieces = pre.cut(&text, &mut scratch);
                let len = pieces.map(|p| p.iter().map(|&(start, end)| end - start).sum());
                assert_eq!(len, Ok(text.len()), "{rule:?}: {part:?} {end:?}");
            }
        }
    }
}
