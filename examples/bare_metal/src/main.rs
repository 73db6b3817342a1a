//! A language model on a microcontroller without a heap: weights are used where they lie in flash,
//! the plan is `static` data that a tool wrote, and all memory is `static` too.
//!
//! It tells a story over semihosting as it is made, and then the hash of its prompt's logits, which
//! is that of every other machine, and what all of this took.
#![no_std]
#![no_main]

mod backend;
mod model;
mod stack;

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use cortex_m::Peripherals;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
use cortex_m_semihosting::hio::{HostStream, hstdout};
use teff_graph::{
    List, LogitsFor, Memory, MemoryRequirements, NeverCancel, Runner, RunnerError, Segment,
    SequenceId, Step, StepError, Tensor, TruncateError, WeightsError, ops::kinds,
};
use teff_kernels::Backend;

use backend::Needed;
use model::{Aligned, plan};

/// Why there is no story.
#[cfg_attr(not(feature = "explain"), allow(dead_code))] // the errors inside
enum Failure {
    File,
    Weights(WeightsError),
    Runner(RunnerError),
    Step(StepError),
    Back(TruncateError),
    Bits,
    Stack,
    Host,
}

impl Failure {
    /// Error in a few words: the errors' own texts, with all that they say, would be a fifth of
    /// the program. The feature `explain` has them.
    fn text(&self) -> &'static str {
        match self {
            Failure::File => "the model in flash isn't the one of the plan",
            Failure::Weights(_) => "the weights aren't those of the plan",
            Failure::Runner(_) => "plan, weights and memory don't fit each other",
            Failure::Step(_) => "a step failed",
            Failure::Back(_) => "the text can't be taken back to its beginning",
            Failure::Bits => "batches of tokens gave other logits than single ones",
            Failure::Stack => "the stack was full to its last byte, and perhaps beyond",
            Failure::Host => "the host doesn't listen",
        }
    }

    #[cfg(feature = "explain")]
    fn explain(&self, host: &mut HostStream) -> fmt::Result {
        match self {
            Failure::Weights(e) => write!(host, ": {e}"),
            Failure::Runner(e) => write!(host, ": {e}"),
            Failure::Step(e) => write!(host, ": {e}"),
            Failure::Back(e) => write!(host, ": {e}"),
            Failure::File | Failure::Bits | Failure::Stack | Failure::Host => Ok(()),
        }
    }

    #[cfg(not(feature = "explain"))]
    fn explain(&self, _: &mut HostStream) -> fmt::Result {
        Ok(())
    }
}

impl From<StepError> for Failure {
    fn from(e: StepError) -> Self {
        Failure::Step(e)
    }
}

impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Self {
        Failure::Host
    }
}

/// Operations of other kinds are not linked.
const KINDS: u64 = kinds(&plan::OPS);

/// A model, and the ticks that its steps took.
struct Teller<'a> {
    runner: Runner<'a, Needed>,
    ticks: u32,
    tokens: u32,
}

impl<'a> Teller<'a> {
    /// One step; the logits of the last token.
    fn step(&mut self, tokens: &[u32]) -> Result<&[f32], StepError> {
        let before = SYST::get_current();
        let segments = [Segment::new(tokens, LogitsFor::Last)];
        self.runner.step_kinds::<KINDS>(&Step { segments: &segments, cancel: &NeverCancel })?;
        // SysTick counts down, in 24 bits.
        self.ticks += before.wrapping_sub(SYST::get_current()) & 0x00ff_ffff;
        self.tokens += tokens.len() as u32;
        Ok(self.runner.logits(1))
    }

    /// Ticks for each token since the last call.
    fn ticks_per_token(&mut self) -> u32 {
        let ticks = self.ticks / self.tokens.max(1);
        (self.ticks, self.tokens) = (0, 0);
        ticks
    }
}

fn tell(host: &mut HostStream, memory: Memory<'_>) -> Result<(), Failure> {
    if !model::is_whole() {
        return Err(Failure::File);
    }
    let mut weights = [Tensor::Vector(&[]); plan::WEIGHTS.len()];
    model::weights(&mut weights).map_err(Failure::Weights)?;
    let weights = List::Borrowed(&weights[..]);
    let plan = plan::PLAN.clone();
    let runner = Runner::with_kinds::<KINDS>(plan, weights, Needed::new(), 1, memory);
    let mut teller = Teller { runner: runner.map_err(Failure::Runner)?, ticks: 0, tokens: 0 };

    // The prompt, token by token: all of its logits.
    let (mut hash, mut last) = (model::FNV, model::FNV);
    for token in plan::PROMPT.chunks(1) {
        let logits = bytemuck::cast_slice(teller.step(token)?);
        (hash, last) = (model::fnv(hash, logits), model::fnv(model::FNV, logits));
    }
    let single = teller.ticks_per_token();

    // Once more, many tokens at a time.
    let batch = plan::PLAN.options.batch;
    teller.runner.truncate(SequenceId(0), 0).map_err(Failure::Back)?;
    for tokens in plan::PROMPT.chunks(batch) {
        teller.step(tokens)?;
    }
    let batched = teller.ticks_per_token();
    if model::fnv(model::FNV, bytemuck::cast_slice(teller.runner.logits(1))) != last {
        return Err(Failure::Bits);
    }

    // The story: always the likeliest token, until the end or as long as there is room.
    let mut position = plan::PROMPT.len();
    for &token in &plan::PROMPT {
        say(host, token)?;
    }
    let story = loop {
        let token = teller.runner.backend().argmax(teller.runner.logits(1)) as u32;
        if Some(token) == plan::END || position == plan::PLAN.options.context {
            break position - plan::PROMPT.len();
        }
        say(host, token)?;
        teller.step(&[token])?;
        position += 1;
    };
    let told = teller.ticks_per_token();

    let (prompt, name) = (plan::PROMPT.len(), teller.runner.backend().name());
    let (size, used) = stack::depth();
    if used == size {
        return Err(Failure::Stack);
    }
    let MemoryRequirements { scratch, state, per_thread, .. } = plan::PLAN.memory_requirements;
    writeln!(host, "\n\nlogits {hash:016x}\nbackend {name}")?;
    writeln!(host, "prompt {prompt} tokens, {single} ticks each, {batched} in batches of {batch}")?;
    writeln!(host, "story {story} tokens, {told} ticks each")?;
    writeln!(
        host,
        "memory: arena {scratch}, state {state}, thread {per_thread}, stack {used} of {size}"
    )?;
    Ok(())
}

fn say(host: &mut HostStream, token: u32) -> Result<(), Failure> {
    model::bytes(token).try_for_each(|b| host.write_all(&[b])).map_err(|()| Failure::Host)
}

#[entry]
fn main() -> ! {
    // `entry` hands these out once, as exclusive borrows for ever.
    static mut ARENA: Aligned<[u8; plan::ARENA]> = Aligned([0; plan::ARENA]);
    static mut STATE: Aligned<[u8; plan::STATE]> = Aligned([0; plan::STATE]);
    static mut THREAD: Aligned<[u8; plan::THREAD]> = Aligned([0; plan::THREAD]);

    if let Some(mut p) = Peripherals::take() {
        p.SYST.set_clock_source(SystClkSource::Core);
        p.SYST.set_reload(0x00ff_ffff);
        p.SYST.clear_current();
        p.SYST.enable_counter();
    }
    let mut code = EXIT_FAILURE;
    if let Ok(mut host) = hstdout() {
        match tell(&mut host, Memory::new(&mut ARENA.0, &mut STATE.0, &mut THREAD.0)) {
            Ok(()) => code = EXIT_SUCCESS,
            Err(e) => {
                _ = write!(host, "no story: {}", e.text());
                _ = e.explain(&mut host);
                _ = host.write_str("\n");
            }
        }
    }
    exit(code);
    loop {
        cortex_m::asm::wfi();
    }
}

/// Handler of panics, which the checks rule out.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Ok(mut host) = hstdout() {
        let (file, line) = info.location().map_or(("?", 0), |l| (l.file(), l.line()));
        _ = writeln!(host, "panic in {file}, line {line}");
    }
    exit(EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}
