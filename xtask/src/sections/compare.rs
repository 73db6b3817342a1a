//! Whole models by two programs: `teff` of this machine, and one that runs elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cmd::{Cmd, Outcome, fail, same_files};
use crate::job::{Job, TOKENS, data_files, files};

/// How a program is started that was built for another machine: an emulator with its arguments, and the program.
pub(crate) type Runner<'a> = &'a [&'a str];

/// A short name of a runner: no folders, no variables.
fn name(runner: Runner<'_>) -> String {
    let words = runner.iter().filter(|word| **word != "env" && !word.contains('='));
    words.map(|word| word.rsplit('/').next().unwrap_or(word)).collect::<Vec<_>>().join(" ")
}

/// The command of a runner.
pub(crate) fn start(runner: Runner<'_>) -> Cmd {
    Cmd::new(runner[0]).args(&runner[1..])
}

/// Models for [`same_logits`]: all GGUF files of tests/data, a folder, and the firmware's; or a sample that has every
/// group of formats, every kind of layer and both containers.
pub(crate) fn models(full: bool) -> Outcome<Vec<PathBuf>> {
    if full {
        let mut all = data_files()?;
        all.push("tests/data/gpt2".into());
        all.extend(files(&["examples/bare_metal"], ".gguf")?);
        return Ok(all);
    }
    let sample = [
        "tests/data/bitnet/bitnet-I2_S.gguf",
        "tests/data/gemma3/gemma3-Q4_0.gguf",
        "tests/data/gpt2",
        "tests/data/gpt2/gpt2-F16.gguf",
        "tests/data/gpt2/gpt2-Q5_1.gguf",
        "tests/data/lfm2/lfm2-Q4_0.gguf",
        "tests/data/qwen3moe/qwen3moe-Q4_K_M.gguf",
    ];
    match sample.iter().find(|path| !Path::new(path).exists()) {
        Some(path) => fail(format!("there is no {path}")),
        None => Ok(sample.iter().map(PathBuf::from).collect()),
    }
}

/// The logits of these models, whole and token by token: of each runner those of this machine.
pub(crate) fn same_logits(job: &Job, models: &[PathBuf], runners: &[Runner<'_>]) -> Outcome {
    let here = job.here()?;
    let (a, b) = (job.file("here.f32"), job.file("there.f32"));
    let firmware = fs::read_to_string("examples/bare_metal/logits.fnv")?;
    for model in models {
        // Those whose hash tests/library/same_hash.rs compares on this machine.
        let tokens = if model.starts_with("examples") {
            firmware_tokens(&firmware, model).unwrap_or(TOKENS)
        } else {
            TOKENS
        };
        for chunk in ["1", "64"] {
            let logits = |teff: Cmd, out: &Path| {
                let model =
                    teff.arg("logits").arg(model).args(["--tokens", tokens, "--chunk", chunk]);
                model.arg("--out").arg(out).run()
            };
            logits(Cmd::new(&here), &a)?;
            for runner in runners {
                logits(start(runner), &b)?;
                same_files(&a, &b, || {
                    format!("{}, chunk {chunk}: other bits by {}", model.display(), name(runner))
                })?;
            }
        }
    }
    for runner in runners {
        println!("the same logits as this machine's, {} models, by {}", models.len(), name(runner));
    }
    Ok(())
}

/// The tokens of a model of the firmware: the last before its hashes.
fn firmware_tokens<'a>(listed: &'a str, model: &Path) -> Option<&'a str> {
    let name = model.file_name()?.to_str()?;
    let before = listed.lines().take_while(|line| line.split_whitespace().next() != Some(name));
    before.filter_map(|line| line.strip_prefix("tokens ")).last()
}

/// The tokens of a text by every model that has a tokenizer, or by one in `every`, and the text of those: as on this machine.
pub(crate) fn same_tokens(job: &Job, every: usize, runner: Runner<'_>) -> Outcome {
    const TEXT: &str = "Zażółć gęślą jaźń; ÅA̝ ﬁ 漢字かな交じり文 العربية हिन्दी 🧑‍🚀🇪🇺 1234567 DON'T don't\n   \t \r <s> </s>\n";
    let here = job.here()?;
    let text = job.file("text");
    fs::write(&text, fs::read_to_string("docs/embedding.md")? + TEXT)?;
    let mut models = data_files()?;
    models.push("tests/data/gpt2".into());
    models.extend(files(&["examples/gpt2", "examples/bare_metal"], ".gguf")?);
    let mut tried = 0;
    for model in models.iter().step_by(every) {
        let tokenize = |teff: Cmd| teff.arg("tokenize").arg(model).arg("--file").arg(&text);
        // Not all of the test models have a tokenizer.
        let ids = tokenize(Cmd::new(&here)).output()?;
        if !ids.status.success() {
            continue;
        }
        let ids = String::from_utf8_lossy(&ids.stdout).into_owned();
        if tokenize(start(runner)).read()? != ids {
            return fail(format!("{}: other tokens by {}", model.display(), name(runner)));
        }
        let some: Vec<&str> = ids.trim().trim_matches(['[', ']']).split(',').take(800).collect();
        let detokenize =
            |teff: Cmd| teff.arg("detokenize").arg(model).args(["--ids", &some.join(",")]).read();
        if detokenize(start(runner))? != detokenize(Cmd::new(&here))? {
            return fail(format!("{}: another text by {}", model.display(), name(runner)));
        }
        tried += 1;
    }
    println!("the same tokens and texts of {tried} models by {}", name(runner));
    if tried < 5 { fail("fewer than 5 models have a tokenizer") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_short() {
        assert_eq!(
            super::name(&["env", "A=/b", "/usr/bin/qemu", "-cpu", "max", "/x/teff"]),
            "qemu -cpu max teff"
        );
    }
}
