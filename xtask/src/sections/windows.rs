//! `windows`: Windows x86-64, built here and run under wine.

use std::fs;
use std::path::PathBuf;

use crate::cmd::{Cmd, Outcome, fail};
use crate::job::{Job, root};
use crate::toolchain::Toolchain::Foreign;
use crate::toolchain::cross;

use super::compare::{models, same_logits, same_tokens, start};

const TARGET: &str = "x86_64-pc-windows-gnu";
const MINGW: &str = "/usr/bin/x86_64-w64-mingw32-gcc";
const WINE: &str = "/usr/lib/wine/wine64";

/// Input of `teff chat`: its second line ends as Windows ends lines.
const LINES: &str = "Once upon a time\nThe cat\r\nA dog\n";

/// A template without roles, since the story model has none.
const TEMPLATE: &str = "{{- bos_token }}{%- for m in messages %}{{ m.content }}{%- endfor %}";

/// The story model.
const STORIES: &str = "examples/gpt2/model.gguf";

/// The example gpt2, logits, tokens, a conversation by a pipe, and Ctrl-C.
pub(crate) fn windows(job: &Job) -> Outcome {
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    println!("{}", Cmd::new(WINE).arg("--version").env("WINEDEBUG", "-all").read()?.trim());
    job.step("the command and the example gpt2");
    // Not optimised: the kernels take minutes to build otherwise, and the models are small.
    cross("build -q --bin teff --example gpt2", TARGET, "std,panic_abort")
        .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", MINGW)
        .run()?;
    let built = Foreign.dir().join(TARGET).join("debug");
    fs::copy(built.join("teff.exe"), job.file("teff.exe"))?;
    fs::copy(built.join("examples/gpt2.exe"), job.file("gpt2.exe"))?;
    // std wants a library that wine lacks; beside a program is where Windows looks first.
    mingw("bcryptprimitives.c")
        .arg("-shared")
        .arg("-o")
        .arg(job.file("bcryptprimitives.dll"))
        .arg("-ladvapi32")
        .run()?;
    mingw("ctrl_c.c").arg("-o").arg(job.file("ctrl_c.exe")).run()?;

    let prefix = format!("WINEPREFIX={}", job.file("wine").display());
    let program = |name: &str| job.file(name).to_string_lossy().into_owned();
    let (teff, gpt2) = (program("teff.exe"), program("gpt2.exe"));
    let on = |program: &'_ str| -> Vec<String> {
        ["env", "WINEDEBUG=-all", &prefix, WINE, program].map(String::from).to_vec()
    };
    let wine = |program: &str, line: &str| {
        let words = on(program);
        start(&words.iter().map(String::as_str).collect::<Vec<_>>()).line(line)
    };
    job.step("a story of the example gpt2");
    let here = job.here()?;
    let story = wine(&gpt2, "-n 60").read()?;
    let want =
        Cmd::new(&here).args(["run", STORIES, "-p", "Once upon a time", "-n", "60"]).read()?;
    if story.trim_end().strip_prefix("Once upon a time") != Some(want.trim_end()) {
        return fail(format!("another story: {story}\nthan on this machine: {want}"));
    }
    println!("{}", story.trim_end());

    job.step("logits and tokens");
    let words = on(&teff);
    let runner: Vec<&str> = words.iter().map(String::as_str).collect();
    same_logits(job, &models(job.full)?, &[&runner])?;
    same_tokens(job, if job.full { 1 } else { 3 }, &runner)?;

    job.step("a conversation by a pipe");
    let (template, lines) = (job.file("template.jinja"), job.file("lines"));
    fs::write(&template, TEMPLATE)?;
    fs::write(&lines, LINES)?;
    let chat = |teff: Cmd| -> Outcome<String> {
        let teff = teff.args(["chat", STORIES, "-n", "20", "--chat-template"]).arg(&template);
        teff.stdin(fs::File::open(&lines)?).read()
    };
    let (said, want) = (chat(wine(&teff, ""))?, chat(Cmd::new(&here))?);
    if said != want || said.is_empty() {
        return fail(format!("other answers: {said}\nthan on this machine: {want}"));
    }
    println!("{} bytes of answers: those of this machine", said.len());

    job.step("Ctrl-C in an answer");
    ctrl_c(job, &prefix, &teff, &template)?;
    // What wine keeps running in the background, of this prefix alone.
    Cmd::new("env").args([&prefix, "/usr/lib/wine/wineserver64", "-k"]).run()
}

/// Ctrl-C while an answer is written. wine sends it to programs of one console and has that console only at a
/// terminal, which `script` gives it. A program without a handler then ends, by wine with code 0 and not, as on Windows, with
/// 0xC000013A; one with a handler stops the answer, and reads on. Both are right; to hang, or to crash, is not.
fn ctrl_c(job: &Job, prefix: &str, teff: &str, template: &std::path::Path) -> Outcome {
    let result: PathBuf = job.file("ctrl_c.txt");
    let _ = fs::remove_file(&result);
    let chat = format!("{teff} chat {STORIES} -n 400 --chat-template {}", template.display());
    let helper = job.file("ctrl_c.exe");
    let line = format!(
        "env WINEDEBUG=-all {prefix} {WINE} {} {} \"{chat}\"",
        helper.display(),
        result.display()
    );
    Cmd::new("timeout")
        .args(["60", "script", "-qec", &line, "/dev/null"])
        .log(&job.file("ctrl_c.log"))?;
    let said = fs::read_to_string(&result)?;
    println!("{}", said.trim());
    match said.trim() {
        "ended 0x0" | "ended 0xC000013A" | "went on, and ended 0x0" => Ok(()),
        _ => fail("it neither ended by Ctrl-C nor went on"),
    }
}

/// The C compiler for Windows, with a file of xtask/windows.
fn mingw(source: &str) -> Cmd {
    Cmd::new(MINGW).line("-O1 -Wall -Wextra -Werror").arg(root().join("xtask/windows").join(source))
}
