//! Commands and names of models that people bring along from other programs, and what to type here.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::args::nearest;
use super::habits::DOWNLOAD;
use super::{COMMANDS, Command, Failure, names};

const GENERATE: &str =
    "`teff run MODEL -p TEXT` continues a text, `teff chat MODEL` holds a conversation";

/// Commands of other programs, without a leading `llama-`, and what to use instead.
const COMMANDS_ELSEWHERE: &[(&[&str], &str)] = &[
    (&["generate", "cli", "main", "completion", "complete", "simple", "infer", "prompt"], GENERATE),
    (
        &["repl", "interactive", "conversation", "conversations", "talk", "simple-chat"],
        "`teff chat MODEL` holds a conversation",
    ),
    (&["server", "api", "start"], "`teff serve MODEL` answers requests over HTTP"),
    (&["pull", "push", "download", "fetch", "get", "search", "login", "signin"], DOWNLOAD),
    (
        &["list", "ls", "models", "registry"],
        "Teff keeps no list: MODEL is the path of a .gguf file or a folder, and `teff inspect MODEL` \
         describes it",
    ),
    (
        &["ps", "stop", "status", "load", "unload"],
        "no model stays loaded: each command loads its own, and Ctrl-C ends it",
    ),
    (
        &["rm", "cp", "mv", "delete", "remove", "copy"],
        "models are files and folders: the system's commands copy and remove them",
    ),
    (
        &["show", "info", "describe", "metadata", "dump", "gguf-dump", "gguf", "view"],
        "`teff inspect MODEL` describes a model",
    ),
    (
        &["create", "convert", "convert-hf-to-gguf", "export", "quantise", "quant", "save"],
        "`teff quantize IN OUT.gguf TYPE` converts a GGUF file or a Hugging Face folder",
    ),
    (
        &["gguf-split", "join", "concat"],
        "`teff split IN.gguf NAME` splits a GGUF file, `teff merge PART.gguf OUT.gguf` merges its \
         parts",
    ),
    (&["benchmark", "batched-bench", "perf", "speed"], "`teff bench MODEL` measures the speed"),
    (&["encode", "tokens"], "`teff tokenize MODEL --text TEXT` converts text to token ids"),
    (&["decode"], "`teff detokenize MODEL --ids 1,2` converts token ids to text"),
    (
        &["perplexity", "ppl"],
        "perplexity isn't here yet: `teff logits MODEL --file F --out LOGITS` writes the logits that \
         it is computed from",
    ),
    (&["embed", "embedding", "embeddings"], "embeddings aren't here yet, under any name"),
    (&["train", "finetune", "fine-tune", "lora", "export-lora"], "Teff doesn't train models"),
    (
        &["apply-template", "render", "jinja"],
        "`teff template MODEL --messages FILE.json` prints what a chat template makes of messages",
    ),
    (
        &["speculative", "speculative-simple", "lookup", "lookahead", "parallel", "batched"],
        "`teff run MODEL -p TEXT --speculate DRAFT` has a draft model guess (`ngram`: the text itself), \
         and `teff run MODEL -f PROMPTS.jsonl --out FILE` writes many texts at once",
    ),
    (
        &["mtmd", "mtmd-cli", "llava-cli", "gemma3-cli", "qwen2vl-cli", "minicpmv-cli", "tts"],
        "Teff reads text only, no images and no sound: `teff chat MODEL` holds a conversation",
    ),
    (&["rpc-server"], "Teff computes on one machine"),
    (&["cvector-generator"], "Teff has no control vectors"),
    (&["gguf-hash", "hash"], "the system's `sha256sum` does"),
    (
        &["eval-callback", "debug"],
        "`teff logits MODEL --text TEXT --out FILE` writes what the model computes",
    ),
    (&["signout", "logout", "whoami", "launch"], "Teff has no accounts: models are files"),
    (&["update", "upgrade"], "`cargo install teff` installs the newest version"),
];

/// The failure for a command that Teff doesn't have.
pub(crate) fn unknown(name: &OsStr) -> Failure {
    let text = name.to_string_lossy();
    let plain = text.strip_prefix("llama-").unwrap_or(&text).replace('_', "-");
    let plain = plain.strip_suffix(".py").unwrap_or(&plain).to_lowercase();
    if let Some(command) = Command::find(&plain) {
        return Failure::Usage(format!(
            "unknown command `{text}`: here it is `teff {}`",
            command.name
        ));
    }
    let elsewhere = COMMANDS_ELSEWHERE.iter().find(|(all, _)| all.contains(&&*plain));
    if let Some((_, advice)) = elsewhere {
        return Failure::Usage(format!("unknown command `{text}`: {advice}"));
    }
    if is_model(name) {
        let what = format!("`{text}` is a model and not a command: `teff run {text} -p TEXT`");
        return Failure::Usage(what);
    }
    let near = nearest(&text, COMMANDS.iter().map(|c| c.name).chain(["help", "version"]));
    let near = match near {
        Some(near) => format!(": did you mean `{near}`? There are"),
        None => "; there are".into(),
    };
    Failure::Usage(format!("unknown command `{text}`{near}: {}", names()))
}

/// True if `name` looks like a model, or is there.
fn is_model(name: &OsStr) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|e| e == "gguf" || e == "safetensors") || path.exists()
}

/// Refuses what stands in a model's place and is none: names of models that other programs would
/// download, if there is no such file, and files that Git LFS has not fetched.
pub(crate) fn check_model(path: &Path) -> Result<(), Failure> {
    if let Some(pointer) = pointer(path) {
        return Err(Failure::Run(format!(
            "{}: this is a pointer of Git LFS in the place of the file: `git lfs pull` in its folder \
             fetches the file",
            pointer.display()
        )));
    }
    let Some(text) = path.to_str().filter(|_| !path.exists()) else { return Ok(()) };
    match advice(text) {
        Some(advice) => Err(Failure::Run(format!("`{text}`: {advice}"))),
        None => Ok(()),
    }
}

/// The file, or that of a folder's weights, in whose place a clone without Git LFS has a pointer.
fn pointer(path: &Path) -> Option<PathBuf> {
    const START: &[u8] = b"version https://git-lfs";
    let is_pointer = |path: &Path| {
        // Not of a pipe, which could be read only once.
        let Some(mut file) = path.is_file().then(|| File::open(path).ok()).flatten() else {
            return false;
        };
        let mut start = [0; START.len()];
        file.read_exact(&mut start).is_ok() && start == *START
    };
    if !path.is_dir() {
        return is_pointer(path).then(|| path.into());
    }
    let files = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
    let weights = files.filter(|file| {
        let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.starts_with("model") && name.ends_with(".safetensors")
    });
    // The first by name, since folders have no order.
    weights.filter(|file| is_pointer(file)).min()
}

/// Advice for a model that isn't a file, by the form of its name.
fn advice(text: &str) -> Option<String> {
    const NONE: &str = "Teff does not download";
    let lower = text.to_ascii_lowercase();
    let strip = |prefixes: &[&str]| {
        let prefix = prefixes.iter().find(|p| lower.starts_with(**p))?;
        Some(text[prefix.len()..].trim_start_matches('/'))
    };
    let hub = strip(&[
        "hf:",
        "hf.co/",
        "huggingface:",
        "huggingface.co/",
        "https://hf.co/",
        "http://hf.co/",
        "https://huggingface.co/",
        "http://huggingface.co/",
        "https://www.huggingface.co/",
        "www.huggingface.co/",
    ]);
    if let Some(rest) = hub {
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        return Some(match hub_file(rest) {
            (repo, Some(file)) => {
                let fetch = format!("`hf download {repo} {file} --local-dir .`");
                format!("{NONE}: {fetch} does, then give {file} as the model")
            }
            (repo, None) => fetch(repo),
        });
    }
    if lower.contains("://") {
        let web = lower.starts_with("http");
        let name = text.split(['?', '#']).next().unwrap_or_default();
        // A page about a model is none.
        let name = name.rsplit('/').next().filter(|n| web && is_file_of_model(n));
        return Some(match name {
            Some(name) => {
                format!("{NONE}: `curl -L -o {name} {text}` does, then give {name} as the model")
            }
            None => format!("{NONE}: fetch the model with another program and give its path"),
        });
    }
    if let Some(name) = strip(&["ollama:"]) {
        return Some(ollama(name));
    }
    if text.contains(char::is_whitespace)
        && !text.contains(['/', '\\'])
        && !lower.ends_with(".gguf")
    {
        let what = "there is no such model; a text goes behind -p, or behind the model";
        return Some(what.into());
    }
    let (name, tag) = text.split_once(':').unwrap_or((text, ""));
    let word = |w: &str| {
        !w.is_empty()
            && !w.starts_with('.')
            && w.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match name.split_once('/') {
        // A folder that is there makes it a path that was mistyped.
        Some((owner, repo))
            if word(owner)
                && word(repo)
                && !Path::new(owner).exists()
                && !lower.ends_with(".gguf")
                && !lower.ends_with(".safetensors") =>
        {
            Some(format!("there is no such file or folder, and {}", fetch(text)))
        }
        None if word(name) && word(tag) => Some(ollama(text)),
        None if word(text) && !lower.ends_with(".gguf") && !lower.ends_with(".safetensors") => {
            let what = "there is no such file or folder, and Teff does not download: MODEL is the \
                        path of a .gguf file or of a Hugging Face folder";
            Some(what.into())
        }
        _ => None,
    }
}

/// True if a name ends like that of a model's file.
fn is_file_of_model(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".gguf", ".safetensors"].iter().any(|end| name.len() > end.len() && name.ends_with(end))
}

/// Repository of Hugging Face, and file in it, that an address without the site's name gives:
/// `OWNER/REPO`, `OWNER/REPO/FILE`, `OWNER/REPO/resolve/REVISION/FILE`, `OWNER/REPO/tree/REVISION`.
fn hub_file(rest: &str) -> (&str, Option<&str>) {
    let Some((at, _)) = rest.match_indices('/').nth(1) else { return (rest, None) };
    let (repo, path) = (&rest[..at], &rest[at + 1..]);
    let inside = ["resolve/", "blob/", "raw/", "tree/"].iter().find_map(|p| path.strip_prefix(p));
    let file = match inside {
        Some(revised) => revised.split_once('/').map_or("", |(_, file)| file),
        None => path,
    };
    (repo, Some(file).filter(|file| is_file_of_model(file)))
}

/// Advice for a repository of Hugging Face, `OWNER/REPO` or `OWNER/REPO:TYPE`.
fn fetch(name: &str) -> String {
    let (repo, tag) = name.split_once(':').unwrap_or((name, ""));
    let repo = repo.trim_end_matches('/');
    let folder = repo.rsplit('/').next().filter(|f| !f.is_empty()).unwrap_or("DIR");
    let (only, model) = match tag {
        "" => (String::new(), "the folder {} or a .gguf file in it"),
        tag => (format!("--include '*{tag}*.gguf' "), "the .gguf file in the folder {}"),
    };
    let model = model.replace("{}", folder);
    format!(
        "Teff does not download: `hf download {repo} {only}--local-dir {folder}` does, then give \
         {model} as the model"
    )
}

/// Advice for a name of ollama's.
fn ollama(name: &str) -> String {
    format!(
        "there is no such file, and Teff does not download: for a model that ollama has, `ollama \
         show {name} --modelfile` prints its file (FROM ...), which is a GGUF file to give as the \
         model"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_paths() {
        for (name, says) in [
            (
                "hf:Owner/Repo-GGUF:Q4_K_M",
                "`hf download Owner/Repo-GGUF --include '*Q4_K_M*.gguf' --local-dir Repo-GGUF`",
            ),
            ("Owner/Repo:Q8_0", "give the .gguf file in the folder Repo as the model"),
            ("HF://Owner/Repo", "`hf download Owner/Repo --local-dir Repo`"),
            ("hf:", "--local-dir DIR"),
            ("hf:Owner/Repo/sub/x.gguf", "`hf download Owner/Repo sub/x.gguf --local-dir .`"),
            ("https://huggingface.co/A/B/tree/main", "`hf download A/B --local-dir B`"),
            ("https://huggingface.co/A/B/", "`hf download A/B --local-dir B`"),
            ("http://hf.co/A/B/blob/main/c.gguf#L1", "`hf download A/B c.gguf --local-dir .`"),
            ("https://example.org/models/about", "another program"),
            (
                "https://huggingface.co/A/B/resolve/main/sub/c.gguf?download=true",
                "`hf download A/B sub/c.gguf --local-dir .`",
            ),
            (
                "https://example.org/x/model.gguf",
                "`curl -L -o model.gguf https://example.org/x/model.gguf`",
            ),
            ("https://example.org/", "another program"),
            ("s3://bucket/model.gguf", "another program"),
            ("Owner/Repo", "`hf download Owner/Repo --local-dir Repo`"),
            ("llama3.2:1b", "`ollama show llama3.2:1b --modelfile`"),
            ("ollama:llama3", "`ollama show llama3 --modelfile`"),
            ("Once upon a time", "-p"),
            ("llama3", "Hugging Face folder"),
        ] {
            let advice = advice(name).unwrap_or_default();
            assert!(advice.contains(says), "{name}: {advice}");
        }
        // Paths, which the system's own error explains best.
        for name in
            ["model.gguf", "./a/b", "a/b/c", "models/x.gguf", "/a/b", "src/nothing", "C:\\x"]
        {
            assert_eq!(advice(name), None, "{name}");
        }
    }

    /// No command that is here is explained away.
    #[test]
    fn commands_elsewhere_are_not_here() {
        for (names, _) in COMMANDS_ELSEWHERE {
            for name in *names {
                assert!(Command::find(name).is_none(), "{name}");
            }
        }
    }
}
