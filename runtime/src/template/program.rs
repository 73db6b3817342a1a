//! Compiled templates: functions of instructions for a machine with a stack.

use super::ast::{Binary, Compare, Lit};

/// A compiled template.
#[derive(Debug)]
pub(super) struct Program {
    /// The first is the template itself.
    pub(super) functions: Vec<Function>,
    pub(super) consts: Vec<Lit>,
    /// Names of keyword arguments, as constants.
    pub(super) keywords: Vec<Box<[u32]>>,
    /// Names of blocks, as constants, and their functions.
    pub(super) blocks: Vec<(u32, u32)>,
    pub(super) block_calls: Vec<BlockCall>,
}

/// A place where a block is written.
#[derive(Debug)]
pub(super) struct BlockCall {
    pub(super) block: u32,
    /// Names, as constants, and variables that a scoped block sees.
    pub(super) locals: Vec<(u32, Var)>,
    pub(super) required: bool,
}

/// A function: the template, a macro, a caller, a block, a recursive loop or the filter of a loop.
#[derive(Debug, Default)]
pub(super) struct Function {
    pub(super) code: Vec<Op>,
    /// Line of each instruction.
    pub(super) lines: Vec<u32>,
    pub(super) slots: usize,
    /// The function around it.
    pub(super) parent: Option<u32>,
    pub(super) signature: Option<MacroSignature>,
}

/// How arguments of a macro's call become its variables.
#[derive(Debug)]
pub(super) struct MacroSignature {
    /// `None` for a caller.
    pub(super) name: Option<String>,
    pub(super) args: Vec<(String, u16)>,
    /// Slots of what only macros have that mention it.
    pub(super) caller: Option<u16>,
    pub(super) kwargs: Option<u16>,
    pub(super) varargs: Option<u16>,
}

/// A variable: functions outwards, and the slot there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Var {
    pub(super) hops: u16,
    pub(super) slot: u16,
}

/// Shape of arguments on the stack: positional ones, then named ones, then `*` and `**`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) args: u32,
    /// Index into [`Program::keywords`].
    pub(super) keywords: u32,
    pub(super) dyn_args: bool,
    pub(super) dyn_kwargs: bool,
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// Pushes a constant.
    Const(u32),
    /// Pushes a variable; an undefined value with that name if it is unassigned.
    Load(Var, u32),
    /// Pops into a slot.
    Store(u16),
    /// Makes a slot unassigned.
    Unset(u16),
    /// Copies a variable, assigned or not, to a slot.
    Copy(Var, u16),
    /// Looks a name up in the render's variables.
    Resolve(u32, u16),
    /// Makes a slot known to blocks by a name.
    Export(u32, u16),
    Pop,
    Tuple(u32),
    List(u32),
    Dict(u32),
    Binary(Binary),
    Compare(Compare),
    /// Compares the two topmost; if that is false pushes it and jumps, else leaves the second.
    CompareChain(Compare, u32),
    Not,
    Neg,
    Pos,
    Jump(u32),
    JumpIfFalse(u32),
    JumpIfFalseOrPop(u32),
    JumpIfTrueOrPop(u32),
    /// Joins values as text; with true, escaping them.
    Concat(u32, bool),
    Attr(u32),
    Item,
    /// Value, start, stop and step.
    Slice,
    Call(Shape),
    Filter(u16, Shape),
    Test(u16, Shape),
    /// Fails: there is no filter or test of that name.
    NoFilter(u32),
    NoTest(u32),
    /// Moves the function of a call block, which lies below a call of this many parts, up to here.
    Caller(u32),
    /// Pushes the undefined value of an `if` without `else`.
    NoElse,
    /// Pushes the function behind the tag `generation`.
    Generation,
    /// Writes a constant.
    Data(u32),
    /// Writes a value as text; with true, escaping it.
    Print(bool),
    /// Writes what must be a string.
    PrintText,
    /// Starts collecting text.
    StartBuffer,
    /// Pushes what was collected; with true, as safe text.
    EndBuffer(bool),
    DropBuffers(u16),
    MarkSafe,
    /// Wraps the iterable on the stack with a loop's filter.
    LoopFilter(u32),
    /// Starts a loop over the iterable on the stack.
    StartLoop(Looping),
    /// Pushes the loop's next item, or jumps.
    Next(u32),
    /// Stores the loop itself.
    LoopVar(u16),
    /// Notes that a whole iteration was done.
    Completed,
    /// Ends a loop; jumps if an iteration was done.
    EndLoop(u32),
    /// Calls the function of a recursive loop with the iterable on the stack.
    LoopCall(u32),
    /// Pops an iterable and pushes its items, the first on top.
    Unpack(u32),
    Macro(u32),
    /// Jumps if a parameter was given.
    JumpIfGiven(u16, u32),
    /// Pushes the undefined value of a parameter.
    NotGiven(u32),
    /// Fails unless a variable is a namespace.
    CheckNamespace(Var),
    /// Pops a value into an attribute of a namespace.
    StoreAttr(Var, u32),
    Block(u32),
    /// Sets the reference to the template's own blocks.
    SelfRef(u16),
    /// Sets the undefined value that `super` is.
    SuperRef(u16),
    Autoescape(bool),
    /// Fails: other templates can't be loaded.
    NoLoader(&'static str),
    /// Ends a function whose result is its text.
    Return,
    /// Ends the filter of a loop: with an item, or without.
    Accept,
    Reject,
}

/// How a loop is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Looping {
    /// Nothing asks for the loop itself.
    Plain,
    /// The variable `loop` is used.
    Extended,
    /// The same, and calling it runs the function of the loop again.
    Recursive,
}
