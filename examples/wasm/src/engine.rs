//! A model and a text in the making, one bounded step at a time.

use core::fmt::Display;

use teff_graph::{
    Executor, List, LogitsFor, Memory, NeverCancel, Options, Outputs, Plan, Runner, Segment,
    SequenceId, Step, StepError, Tensor, check_tokens,
};
use teff_kernels::KvFormat;
use teff_runtime::sample::{Sampler, Sampling};
use teff_runtime::tokenizer::{Specials, Tokenizer, Utf8Stream};
use teff_runtime::{LoadOptions, Model};

use crate::compact::Compact;

/// Most tokens of a prompt that one step takes through the model: so many stay responsive.
pub const BATCH: usize = 8;

/// The only text.
const SEQUENCE: SequenceId = SequenceId(0);

/// Result of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Part of the prompt, or a token: there may be text, and there is more to come.
    More = 1,
    /// The model ended the text.
    End = 2,
    /// As many tokens as were asked for.
    Length = 3,
    /// The context is full.
    Full = 4,
}

/// A text, the memory of its computation, and how it goes on.
struct Text {
    runner: Runner<'static, Compact>,
    context: usize,
    tokens: Vec<u32>,
    how: Option<How>,
}

/// How a text goes on.
struct How {
    sampler: Sampler,
    utf8: Utf8Stream,
    left: usize,
    finish: Option<Progress>,
}

/// A model, and a text when it has begun.
pub struct Engine {
    /// It stays for good, as its file does.
    model: &'static Model,
    tensors: &'static [Tensor<'static>],
    text: Option<Text>,
}

fn text(e: impl Display) -> String {
    e.to_string()
}

impl Engine {
    /// The model in a file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(file: &'static [u8]) -> Result<Engine, String> {
        let model = Model::from_bytes(file, &LoadOptions::default()).map_err(text)?;
        let model: &Model = Box::leak(Box::new(model));
        let tensors = model.tensors().collect::<Vec<_>>().leak();
        Ok(Engine { model, tensors, text: None })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        self.model
    }

    fn plan(&self, context: usize) -> Result<Plan<'static>, String> {
        let batch = BATCH.min(context);
        let (kv, outputs) = (KvFormat::F32, Outputs::Logits);
        let options = Options { batch, logits: 1, context, kv, outputs, pages: 0 };
        let format = |id| self.model.format(id);
        Plan::build(self.model.spec(), &format, &options, &Compact).map_err(text)
    }

    /// Bytes that a text of `context` positions takes, from the model's header alone.
    ///
    /// # Errors
    /// [`Engine::begin`]'s, for a context that is out of range.
    pub fn needs(&self, context: usize) -> Result<usize, String> {
        Ok(bytes(&self.plan(context)?))
    }

    /// Takes the memory for a text of `context` positions, unless it is more than `budget` bytes.
    ///
    /// # Errors
    /// The bytes that are needed, and why they can't be had. There is no text then.
    pub fn begin(&mut self, context: usize, budget: usize) -> Result<(), String> {
        self.text = None; // its memory may be what the next one takes
        let plan = self.plan(context)?;
        let needed = bytes(&plan);
        if needed > budget {
            return Err(format!("a text needs {needed} bytes, but only {budget} are allowed"));
        }
        let memory = Memory::allocate(&plan.memory_requirements, 1, 1).map_err(text)?;
        let mut tokens = Vec::new();
        tokens.try_reserve_exact(context).map_err(text)?;
        let tensors = List::Borrowed(self.tensors);
        let runner = Runner::new(plan, tensors, Compact, 1, memory).map_err(text)?;
        self.text = Some(Text { runner, context, tokens, how: None });
        Ok(())
    }

    fn begun(&mut self) -> Result<(&'static Model, &mut Text), String> {
        let text = self.text.as_mut().ok_or("there is no memory for a text: begin one first")?;
        Ok((self.model, text))
    }

    fn tokenizer(model: &Model) -> Result<&Tokenizer, String> {
        model.tokenizer().map_err(|e| format!("the model has no tokenizer: {e}"))
    }

    /// Starts a text with this prompt, which [`Engine::step`] goes on with, for at most `most`
    /// tokens. Gives the prompt's tokens.
    ///
    /// # Errors
    /// A prompt that is too long or can't be tokenised, parameters out of range. There is nothing to
    /// go on with then.
    pub fn prompt(&mut self, prompt: &str, most: usize, how: Sampling) -> Result<usize, String> {
        let (model, to) = self.begun()?;
        to.how = None;
        to.tokens.clear();
        to.runner.truncate(SEQUENCE, 0).map_err(text)?;
        let tokenizer = Engine::tokenizer(model)?;
        let mut tokens = tokenizer.encode(prompt, Specials::Ignore).map_err(text)?;
        let first = tokenizer.bos().filter(|_| tokenizer.add_bos() || tokens.is_empty());
        if let Some(bos) = first {
            tokens.insert(0, bos);
        }
        if tokens.is_empty() {
            return Err("there is nothing to continue: write a beginning".into());
        }
        to.push(&tokens)?;
        let sampler = Sampler::new(how, model.spec().vocab as usize).map_err(text)?;
        to.how = Some(How { sampler, utf8: Utf8Stream::new(), left: most, finish: None });
        Ok(tokens.len())
    }

    /// Computes the next few tokens of the prompt, or one more of the text, whose characters are
    /// added to `piece` as far as they are whole.
    ///
    /// # Errors
    /// No prompt, or logits that nothing can be drawn from.
    pub fn step(&mut self, piece: &mut String) -> Result<Progress, String> {
        let (model, to) = self.begun()?;
        let tokenizer = Engine::tokenizer(model)?;
        let Text { runner, context, tokens, how } = to;
        let how = how.as_mut().ok_or("there is no prompt to continue")?;
        if how.finish.is_none() && how.left == 0 {
            how.finish = Some(Progress::Length);
        }
        if let Some(finish) = how.finish {
            piece.push_str(how.utf8.finish());
            return Ok(finish);
        }
        let last = compute(runner, tokens)?;
        let Some(logits) = last else { return Ok(Progress::More) };
        let token = how.sampler.sample(logits, tokens).map_err(text)?;
        if tokenizer.is_end(token) {
            how.finish = Some(Progress::End);
            return Ok(Progress::More);
        }
        how.left -= 1;
        if let Some(bytes) = tokenizer.token_bytes(token) {
            how.utf8.push(bytes).for_each(|part| piece.push_str(part));
        }
        match tokens.len() < *context {
            true => tokens.push(token),
            false => how.finish = Some(Progress::Full),
        }
        Ok(Progress::More)
    }

    /// Adds tokens to the text, computes them, and gives the last one's logits.
    ///
    /// # Errors
    /// No tokens, more than fit, or one that the vocabulary doesn't have.
    pub fn eval(&mut self, tokens: &[u32]) -> Result<&[f32], String> {
        let (_, to) = self.begun()?;
        to.how = None;
        to.push(tokens)?;
        if tokens.is_empty() {
            return Err(text(StepError::Empty));
        }
        while compute(&mut to.runner, &to.tokens)?.is_none() {}
        Ok(to.runner.logits(1))
    }
}

impl Text {
    fn push(&mut self, tokens: &[u32]) -> Result<(), String> {
        let vocab = self.runner.plan().spec.vocab;
        check_tokens(tokens, self.tokens.len(), self.context, vocab).map_err(text)?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }
}

/// Computes what is pending, [`BATCH`] tokens at most; the logits where that was all.
fn compute<'r>(
    runner: &'r mut Runner<'static, Compact>,
    tokens: &[u32],
) -> Result<Option<&'r [f32]>, String> {
    let done = runner.position(SEQUENCE);
    let end = tokens.len().min(done + BATCH);
    let all = end == tokens.len();
    let logits = if all { LogitsFor::Last } else { LogitsFor::None };
    let segments = [Segment { sequence: SEQUENCE, tokens: &tokens[done..end], logits }];
    let step = Step { segments: &segments, cancel: &NeverCancel };
    let logits = runner.step(&step).map_err(text)?;
    Ok(all.then_some(logits))
}

/// All that a text takes: the plan's regions, the plan itself, and its tokens.
fn bytes(plan: &Plan<'_>) -> usize {
    let tables = size_of_val(&*plan.ops) + size_of_val(&*plan.buffers) + size_of_val(&*plan.states);
    let tokens = plan.options.context.saturating_mul(size_of::<u32>());
    let regions = plan.memory_requirements.total(1).unwrap_or(usize::MAX);
    regions.saturating_add(tables).saturating_add(tokens)
}
