//! Exports of the module: numbers in and out. Bytes and texts go through one buffer, which the
//! caller asks for and fills, so that no pointer comes from outside; texts and logits come back as
//! places in memory that are good until the next call.
//!
//! A function that can fail returns 0 (or a negative number) and leaves the reason as the text.

use std::cell::RefCell;

use teff_runtime::sample::Sampling;

use crate::compact::Compact;
use crate::engine::Engine;

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    text: String,
    engine: Option<Engine>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl State {
    /// Runs `f`; where it fails, the reason is the text.
    fn run<T>(failed: T, f: impl FnOnce(&mut State) -> Result<T, String>) -> T {
        STATE.with_borrow_mut(|state| {
            state.text.clear();
            f(state).unwrap_or_else(|why| {
                state.text = why;
                failed
            })
        })
    }

    fn engine(&mut self) -> Result<&mut Engine, String> {
        self.engine.as_mut().ok_or_else(|| "no model is open".into())
    }
}

/// A buffer of `len` bytes for what the next call takes: a file, a prompt, tokens; 0 where memory
/// is refused.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn buffer(len: usize) -> *mut u8 {
    State::run(core::ptr::null_mut(), |state| {
        state.buffer = Vec::new();
        let mut buffer = Vec::new();
        let refused = |_| format!("the browser refused {len} bytes of memory");
        buffer.try_reserve_exact(len.max(1)).map_err(refused)?;
        buffer.resize(len, 0);
        state.buffer = buffer;
        Ok(state.buffer.as_mut_ptr())
    })
}

/// Opens the GGUF file in the buffer and keeps it; 1, and the text describes the model: lines of
/// `key=value`.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn open() -> u32 {
    State::run(0, |state| {
        if state.engine.is_some() {
            return Err("a model is open already: another one needs another instance".into());
        }
        let engine = Engine::open(core::mem::take(&mut state.buffer).leak())?;
        let model = engine.model();
        let (memory, why) = match model.tokenizer() {
            Ok(t) => (t.memory() as u64, String::new()),
            Err(why) => (0, why.to_string()),
        };
        let name = model.name().unwrap_or_default();
        let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
        state.text = format!(
            "name={name}\nfamily={}\nparameters={}\ncontext={}\nmemory={}\nbackend={}\nerror={why}",
            model.spec().arch,
            model.spec().parameters(),
            model.spec().context,
            memory + model.owned_bytes(),
            teff_kernels::Backend::name(&Compact),
        );
        state.engine = Some(engine);
        Ok(1)
    })
}

/// Bytes that a text of `context` positions takes; negative where it can't be.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn needs(context: usize) -> f64 {
    State::run(-1.0, |state| Ok(state.engine()?.needs(context)? as f64))
}

/// Takes that memory, if it is no more than `budget` bytes; 1.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn begin(context: usize, budget: f64) -> u32 {
    State::run(0, |state| state.engine()?.begin(context, budget as usize).map(|()| 1))
}

/// Starts a text with the prompt in the buffer; gives its tokens.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn prompt(
    most: usize,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    seed: f64,
) -> usize {
    State::run(0, |state| {
        let prompt = core::mem::take(&mut state.buffer);
        let prompt = str::from_utf8(&prompt).map_err(|_| "the prompt is no text".to_owned())?;
        let seed = seed as u64;
        let how = Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            seed,
            ..Sampling::default()
        };
        state.engine()?.prompt(prompt, most, how)
    })
}

/// One step of the text: 1 where it goes on, 2 where the model ended it, 3 after as many tokens as
/// were asked for, 4 where the context is full. Its characters are the text.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn step() -> u32 {
    State::run(0, |state| {
        let State { text, engine, .. } = state;
        let engine = engine.as_mut().ok_or("no model is open")?;
        engine.step(text).map(|progress| progress as u32)
    })
}

/// Adds the tokens in the buffer (four bytes each) to the text and computes them; the place of the
/// last one's logits.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn eval() -> *const f32 {
    State::run(core::ptr::null(), |state| {
        let bytes = core::mem::take(&mut state.buffer);
        let words = bytes.as_chunks::<4>().0;
        let tokens: Vec<u32> = words.iter().map(|w| u32::from_le_bytes(*w)).collect();
        Ok(state.engine()?.eval(&tokens)?.as_ptr())
    })
}

/// Logits of a token: the vocabulary's size.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn vocabulary() -> u32 {
    State::run(0, |state| Ok(state.engine()?.model().spec().vocab))
}

/// Address of the text.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn text() -> *const u8 {
    STATE.with_borrow(|state| state.text.as_ptr())
}

/// Bytes of the text.
// SAFETY: no other symbol of this module has this name.
#[unsafe(no_mangle)]
extern "C" fn text_len() -> usize {
    STATE.with_borrow(|state| state.text.len())
}
