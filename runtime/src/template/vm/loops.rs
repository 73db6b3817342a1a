//! Loops, and what can be asked of them.

use std::rc::Rc;

use super::super::error::{Fault, Res};
use super::super::ops;
use super::super::program::Looping;
use super::super::value::{LoopHandle, Value};
use super::{Active, End, LoopState, Vm};

impl<'r> Vm<'r> {
    /// Starts a loop over the value on the stack.
    pub(super) fn start_loop(&mut self, looping: Looping) -> Res<()> {
        let iterable = self.pop()?;
        let iter = self.iter(&iterable)?;
        if looping == Looping::Plain {
            self.active.push(Active::Plain { iter, completed: false });
            return Ok(());
        }
        let mut depth0 = 0;
        let mut recurse = None;
        if looping == Looping::Recursive {
            depth0 = std::mem::take(&mut self.recursion);
            let (function, locals) = {
                let call = self.current()?;
                (call.function, call.locals)
            };
            recurse = Some((function, self.locals(locals)?.parent));
        }
        let state = LoopState {
            iterable,
            iter,
            index: 0,
            length: None,
            after: None,
            current: None,
            before: None,
            changed: None,
            recurse,
            depth0,
            _charge: self.meter.charge(std::mem::size_of::<LoopState>())?,
        };
        let id = match self.free_loops.pop() {
            Some(id) => id,
            None => {
                self.loops.push(None);
                self.loops.len() - 1
            }
        };
        if let Some(place) = self.loops.get_mut(id) {
            *place = Some(state);
        }
        self.active.push(Active::Extended { handle: Rc::new(LoopHandle { id }), completed: false });
        Ok(())
    }

    #[inline(never)]
    pub(super) fn op_next(&mut self, end: u32) -> Res<()> {
        let item = match self.active.last() {
            Some(Active::Plain { iter, .. }) => {
                let iter = iter.clone();
                self.next(&iter)?
            }
            Some(Active::Extended { handle, .. }) => {
                let id = handle.id;
                self.next_of_loop(id)?
            }
            None => return Err(Fault::internal("no loop")),
        };
        match item {
            Some(item) => {
                self.push(item);
                Ok(())
            }
            None => self.jump(end),
        }
    }

    pub(in crate::template) fn loop_state(&mut self, id: usize) -> Res<&mut LoopState> {
        let state = self.loops.get_mut(id).and_then(Option::as_mut);
        state.ok_or_else(|| Fault::internal("a loop is gone"))
    }

    pub(super) fn next_of_loop(&mut self, id: usize) -> Res<Option<Value>> {
        let state = self.loop_state(id)?;
        let item = match state.after.take() {
            Some(item) => item,
            None => {
                let iter = state.iter.clone();
                let Some(item) = self.next(&iter)? else { return Ok(None) };
                item
            }
        };
        let state = self.loop_state(id)?;
        state.index += 1;
        state.before = state.current.replace(item.clone());
        Ok(Some(item))
    }

    /// The item after the current one, which is then computed before its time.
    pub(in crate::template) fn peek_of_loop(&mut self, id: usize) -> Res<Option<Value>> {
        let state = self.loop_state(id)?;
        if state.after.is_none() {
            let iter = state.iter.clone();
            let next = self.next(&iter)?;
            self.loop_state(id)?.after = next;
        }
        Ok(self.loop_state(id)?.after.clone())
    }

    /// Number of items of a loop.
    pub(in crate::template) fn length_of_loop(&mut self, id: usize) -> Res<i128> {
        let state = self.loop_state(id)?;
        if let Some(length) = state.length {
            return Ok(length);
        }
        let (iterable, iter) = (state.iterable.clone(), state.iter.clone());
        let length = match ops::length(&iterable, self)? {
            Some(length) => length,
            None => {
                // A generator is read to its end.
                let rest = self.collect(&Value::Iter(iter))?;
                let seq = self.meter.seq(rest)?;
                let count = seq.len() as i128;
                let list = Value::List(seq);
                let iter = self.iter(&list)?;
                let state = self.loop_state(id)?;
                state.iter = iter;
                count + state.index + i128::from(state.after.is_some())
            }
        };
        self.loop_state(id)?.length = Some(length);
        Ok(length)
    }

    #[inline(never)]
    pub(super) fn end_loop(&mut self, end: u32) -> Res<()> {
        let completed = match self.active.pop() {
            Some(Active::Plain { iter, completed }) => {
                // What breaks out of a loop must not leave its filter behind.
                iter.end_filter();
                completed
            }
            Some(Active::Extended { handle, completed }) => {
                let state = self.loop_state(handle.id)?;
                state.iter.end_filter();
                state.recurse = None;
                if Rc::strong_count(&handle) == 1 {
                    if let Some(place) = self.loops.get_mut(handle.id) {
                        *place = None;
                    }
                    self.free_loops.push(handle.id);
                }
                completed
            }
            None => return Err(Fault::internal("no loop to end")),
        };
        match completed {
            true => self.jump(end),
            false => Ok(()),
        }
    }

    /// Runs the filter of a loop for an item.
    pub(in crate::template) fn run_loop_filter(
        &mut self,
        function: u32,
        frame: u32,
        item: Value,
    ) -> Res<Option<Value>> {
        self.nest += 4;
        self.meter.depth(self.nest)?;
        let until = self.calls.len();
        let context = self.current()?.context;
        self.enter(function, frame, context, End::Filter)?;
        self.push(item);
        self.run(until)?;
        self.nest -= 4;
        Ok(self.accepted.take())
    }

    /// Starts a call of a recursive loop's function.
    pub(super) fn call_loop(
        &mut self,
        function: u32,
        parent: u32,
        items: Value,
        depth: i128,
    ) -> Res<()> {
        let context = self.current()?.context;
        self.enter(function, parent, context, End::Text)?;
        self.recursion = depth;
        self.push(items);
        Ok(())
    }

    /// Calls a loop, which runs it again for other items.
    pub(in crate::template) fn call_loop_value(&mut self, id: usize, items: Value) -> Res<()> {
        let state = self.loop_state(id)?;
        let depth = state.depth0 + 1;
        match state.recurse {
            Some((function, parent)) => self.call_loop(function, parent, items, depth),
            None => {
                Err(Fault::op("the loop must have the 'recursive' marker to be called recursively"))
            }
        }
    }
}
