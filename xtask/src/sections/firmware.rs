//! `firmware`: the program of examples/bare_metal on three emulated Cortex-M. The hash of its logits is that of every
//! other machine, and its size, memory, stack and instructions stay what they were.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cmd::{Cmd, Outcome, Stop, fail};
use crate::job::Job;
use crate::toolchain::Toolchain::Foreign;

const FOLDER: &str = "examples/bare_metal";
const M4: &str = "thumbv7em-none-eabihf";
const M55: &str = "thumbv8m.main-none-eabihf";

/// The images: their names, targets, and arguments of cargo. The change tier has the first [`ALWAYS`].
const IMAGES: [(&str, &str, &str); 5] = [
    ("dsp-q8_0", M4, ""),
    ("dsp-gemma4", M4, "--features gemma4"),
    ("dsp-q8_0-m55", M55, ""),
    ("scalar-q8_0", M4, "--no-default-features"),
    ("dsp-q4_0", M4, "--features q4_0"),
];
const ALWAYS: usize = 1;

/// An image on a machine. A tick takes `ns / 100` instructions, which take a nanosecond each. The limits are what each
/// was when this was written and a few percent more, of instructions in thousands for each token.
struct Story {
    image: &'static str,
    model: &'static str,
    machine: &'static str,
    ns: u64,
    ram: u64,
    stack: u64,
    prompt: u64,
    story: u64,
    code: u64,
}

const fn story(
    (image, model, machine): (&'static str, &'static str, &'static str),
    ns: u64,
    (ram, stack): (u64, u64),
    (prompt, story, code): (u64, u64, u64),
) -> Story {
    Story { image, model, machine, ns, ram, stack, prompt, story, code }
}

/// (The scalar image has every format's code: it is here for its bits and its instructions.)
const STORIES: [Story; 6] = [
    story(("dsp-q8_0", "q8_0", "mps2-an386"), 4000, (180_000, 10_400), (4150, 5550, 73000)),
    story(("dsp-q8_0", "q8_0", "mps2-an500"), 4000, (180_000, 10_400), (4150, 5550, 73000)),
    story(("scalar-q8_0", "q8_0", "mps2-an386"), 4000, (180_000, 10_400), (4950, 6400, 106000)),
    story(("dsp-q4_0", "q4_0", "mps2-an386"), 4000, (180_000, 10_400), (4200, 5900, 77000)),
    story(("dsp-gemma4", "gemma4", "mps2-an386"), 4000, (78_000, 12_800), (7100, 8900, 104000)),
    story(("dsp-q8_0-m55", "q8_0", "mps3-an547"), 3125, (180_000, 10_400), (3450, 4450, 73500)),
];

/// Bytes of the stack, which a story's RAM includes.
const STACK: u64 = 16_384;

/// Builds the images, tells the stories, and tries what must not work.
pub(crate) fn firmware(job: &Job) -> Outcome {
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    println!(
        "{}",
        Cmd::new("qemu-system-arm").arg("--version").read()?.lines().next().unwrap_or_default()
    );
    job.step("images");
    let images = if job.full { &IMAGES[..] } else { &IMAGES[..ALWAYS] };
    for &(name, target, arguments) in images {
        image(target, arguments).run()?;
        fs::copy(Foreign.dir().join(target).join("release/teff-bare-metal"), elf(job, name))?;
    }
    let there = |s: &&Story| images.iter().any(|(name, ..)| *name == s.image);
    for story in STORIES.iter().filter(there) {
        job.step(&format!("{} on {}", story.image, story.machine));
        told(job, story)?;
    }
    job.step("another file in flash than the plan's");
    let other = job.file("other.elf");
    let mut bytes = fs::read(job.file("dsp-q8_0.elf"))?;
    let name = b"Teff Stories";
    let at = bytes.windows(name.len()).position(|w| w == name);
    let Some(at) = at else { return fail("the image doesn't have the model's name") };
    bytes[at + 1] = b'o';
    fs::write(&other, bytes)?;
    let said = emulate("mps2-an386", &other).refused("it told a story all the same")?;
    let want = "no story: the model in flash isn't the one of the plan";
    if !said.lines().any(|line| line == want) {
        return fail(format!("it didn't say `{want}`, but: {said}"));
    }
    println!("{want}");
    job.step("half of the RAM, a quarter of the flash");
    let parts = ["_ram_size=128K", "_flash_size=256K"];
    for part in if job.full { &parts[..] } else { &parts[..1] } {
        let small = image(M4, "").arg("--").line(&format!("-C link-arg=--defsym={part}"));
        let said = small.refused("an image was built that does not fit")?;
        let why = said
            .lines()
            .find(|l| l.contains("will not fit in region") && l.contains("overflowed by"));
        let Some(why) = why else {
            return fail(format!("{said}\nit doesn't say that it does not fit"));
        };
        println!("{}", why.trim());
    }
    Ok(())
}

/// Builds an image. (.cargo/config.toml is read in the folder.)
fn image(target: &str, arguments: &str) -> Cmd {
    Foreign
        .cargo()
        .dir(FOLDER)
        .env("CARGO_TARGET_THUMBV8M_MAIN_NONE_EABIHF_RUSTFLAGS", "-C target-cpu=cortex-m55")
        .line("rustc -q --locked --release -Zbuild-std=core --target")
        .arg(target)
        .line(arguments)
}

fn elf(job: &Job, name: &str) -> PathBuf {
    job.file(&format!("{name}.elf"))
}

/// Runs it with a clock that counts instructions.
fn emulate(machine: &str, elf: &Path) -> Cmd {
    let options = "-nographic -monitor none -serial none -icount shift=0";
    let qemu =
        Cmd::new("timeout").args(["300", "qemu-system-arm", "-machine", machine]).line(options);
    qemu.line("-semihosting-config enable=on,target=native -kernel").arg(elf)
}

/// Tells one story, and compares the image and what it did with the limits.
fn told(job: &Job, s: &Story) -> Outcome {
    let elf = elf(job, s.image);
    let said =
        emulate(s.machine, &elf).log(&job.file(&format!("{}-{}.txt", s.image, s.machine)))?;
    // A word of the line that begins with another.
    let word = |first: &str, n: usize| -> Outcome<&str> {
        let line = said.lines().find(|line| line.split_whitespace().next() == Some(first));
        let word = line.and_then(|line| line.split_whitespace().nth(n));
        word.ok_or_else(|| Stop::Fail(format!("{said}\nno {first} with {n} words behind it")))
    };
    let number = |first: &str, n: usize| -> Outcome<u64> {
        word(first, n)?.parse().map_err(|_| Stop::Fail(format!("{first}: no number")))
    };
    let hash = word("logits", 1)?;
    let want = format!("model-{}.gguf q8 {hash}", s.model);
    if !fs::read_to_string(format!("{FOLDER}/logits.fnv"))?.lines().any(|line| line == want) {
        return fail(format!("the logits' hash is {hash}, not that of other machines"));
    }
    // The story is the same everywhere; the lines behind it are figures.
    let text = said.split_inclusive('\n').take_while(|line| !line.starts_with("logits"));
    if text.collect::<String>() != fs::read_to_string(format!("{FOLDER}/story-{}.txt", s.model))? {
        return fail(format!("{said}\nit told another story than story-{}.txt", s.model));
    }
    let model = fs::metadata(format!("{FOLDER}/model-{}.gguf", s.model))?.len();
    let code = bytes(&elf, &[".text", ".rodata"])? - model;
    let ram = bytes(&elf, &[".data", ".bss", ".uninit"])? + STACK;
    within("bytes of code and constants without the model", code, s.code)?;
    within(&format!("bytes of RAM, {STACK} of them stack"), ram, s.ram)?;
    within("bytes of stack used", number("memory:", 8)?, s.stack)?;
    let thousands = |what: &str| Ok::<u64, Stop>(number(what, 3)? * s.ns / 100_000);
    within("thousands of instructions for a token of the prompt", thousands("prompt")?, s.prompt)?;
    within("thousands of instructions for a token of the story", thousands("story")?, s.story)
}

fn within(what: &str, found: u64, limit: u64) -> Outcome {
    println!("   {what}: {found} (limit {limit})");
    if found <= limit { Ok(()) } else { fail("beyond its limit") }
}

/// The sizes of these sections together.
fn bytes(elf: &Path, sections: &[&str]) -> Outcome<u64> {
    let text = Cmd::new("readelf").arg("-SW").arg(elf).read()?;
    Ok(section_bytes(&text, sections))
}

fn section_bytes(readelf: &str, sections: &[&str]) -> u64 {
    let sizes = readelf.lines().filter_map(|line| {
        let mut words = line.split_once(']')?.1.split_whitespace();
        sections.contains(&words.next()?).then_some(())?;
        u64::from_str_radix(words.nth(3)?, 16).ok()
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_hexadecimal() {
        let text = "  [ 1] .text   PROGBITS  00000400 010400 00f0a8 00  AX  0   0  4\n  \
                    [10] .bss    NOBITS    20000000 000000 000010 00  WA  0   0  8\n";
        assert_eq!(super::section_bytes(text, &[".text", ".bss"]), 0xf0a8 + 0x10);
        assert_eq!(super::section_bytes(text, &[".data"]), 0);
    }
}
