//! Constraints that fail: their request ends, and no other.

use teff_runtime::Finish;
use teff_runtime::engine::{Constraint, ConstraintError, Engine, Request};

use crate::common::{Text, engine, model, one, options, prompt, read, settled, tokens};

/// Call of a constraint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Mask,
    Accept,
    IsComplete,
}

/// Way of failing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Error,
    Panic,
    Empty,
}

/// Allows all tokens but the one that ends texts, and has the fault at a call after so many tokens.
struct Faulty {
    at: Call,
    fault: Fault,
    left: usize,
    end: u32,
}

impl Faulty {
    fn call(&mut self, call: Call) -> Result<(), ConstraintError> {
        match (call == self.at && self.left == 0, self.fault) {
            (true, Fault::Panic) => panic!("a mistake of the caller's"),
            (true, Fault::Error) => Err(ConstraintError::new("a mistake")),
            _ => Ok(()),
        }
    }
}

impl Constraint for Faulty {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
        let now = self.at == Call::Mask && self.left == 0;
        allowed.fill(match (now, self.fault) {
            (true, Fault::Empty) => 0,
            _ => u32::MAX,
        });
        allowed[self.end as usize / 32] &= !(1 << (self.end % 32));
        self.call(Call::Mask)
    }

    fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
        self.call(Call::Accept)?;
        self.left = self.left.saturating_sub(1);
        Ok(())
    }

    fn is_complete(&mut self) -> bool {
        self.call(Call::IsComplete).is_err()
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Faulty { ..*self })
    }
}

fn ask(engine: &Engine, at: Call, fault: Fault, left: usize, choices: usize) -> Vec<Text> {
    let end = model().tokenizer().expect("a tokenizer").eos().expect("an end");
    let constraint = Box::new(Faulty { at, fault, left, end });
    let request = Request::new(prompt(1, 20), tokens(10)).with_choices(choices);
    read(engine.submit(request.with_constraint(constraint)).expect("a stream"), choices)
}

#[test]
fn what_a_constraint_does_wrong_ends_its_own_request() {
    let engine = engine(options(), 12);
    let want = one(&engine, Request::new(prompt(2, 20), tokens(100))).tokens;
    let company = || engine.submit(Request::new(prompt(2, 20), tokens(100))).expect("a stream");
    for fault in [Fault::Error, Fault::Panic, Fault::Empty] {
        for at in [Call::Mask, Call::Accept, Call::IsComplete] {
            for left in [0, 1, 4] {
                let other = company();
                let choices = 1 + left % 3;
                for text in ask(&engine, at, fault, left, choices) {
                    let fails = match fault {
                        Fault::Empty => at == Call::Mask,
                        // Complete is no error.
                        Fault::Error => at != Call::IsComplete,
                        _ => true,
                    };
                    assert_eq!(text.end.is_err(), fails, "{fault:?} {at:?} {left} {text:?}");
                    if fault == Fault::Error && at == Call::IsComplete {
                        assert_eq!(text.end, Ok(Finish::Complete));
                    }
                }
                assert_eq!(read(other, 1)[0].tokens, want, "{fault:?} {at:?} {left}");
            }
        }
    }
    settled(&engine);
}
