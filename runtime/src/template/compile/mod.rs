//! Syntax trees to instructions.

mod expr;
mod stmt;
mod symbols;

use std::collections::HashMap;

use super::ast::{Lit, Stmt};
use super::error::{Fault, Res};
use super::limits::Meter;
use super::program::{BlockCall, Function, Op, Program, Var};
use symbols::{Load, Place, Symbols, Undeclared};

/// Compiles a template.
pub(super) fn compile(body: &[Stmt], meter: &Meter<'_>) -> Res<Program> {
    let mut compiler = Compiler {
        symbols: Symbols::new(meter),
        meter,
        functions: Vec::new(),
        parents: Vec::new(),
        current: Vec::new(),
        consts: Vec::new(),
        texts: HashMap::new(),
        keywords: Vec::new(),
        keyword_lists: HashMap::new(),
        blocks: Vec::new(),
        block_calls: Vec::new(),
        has_blocks: false,
        line: 1,
    };
    let line = compiler.template(body);
    line.map_err(|e| e.at(compiler.line))?;
    Ok(Program {
        functions: compiler.functions,
        consts: compiler.consts,
        keywords: compiler.keywords,
        blocks: compiler.blocks,
        block_calls: compiler.block_calls,
    })
}

/// A function while its code is written.
struct Writing {
    id: u32,
    /// Loops around the current place.
    loops: Vec<Loop>,
    /// Buffers that are open at the current place.
    buffers: u16,
}

/// A loop while its body is written.
struct Loop {
    start: u32,
    breaks: Vec<u32>,
    buffers: u16,
}

/// Facts about the current place.
#[derive(Clone, Copy)]
struct Frame {
    scope: usize,
    /// Neither in a loop, nor in anything else with names of its own.
    toplevel: bool,
    /// Inside of an `if`: filters that don't exist are errors only when they are reached.
    soft: bool,
    /// Text is escaped.
    escape: bool,
}

struct Compiler<'m> {
    symbols: Symbols<'m>,
    meter: &'m Meter<'m>,
    functions: Vec<Function>,
    /// The function around each function.
    parents: Vec<Option<u32>>,
    /// Functions that are being written, innermost last.
    current: Vec<Writing>,
    consts: Vec<Lit>,
    texts: HashMap<String, u32>,
    keywords: Vec<Box<[u32]>>,
    keyword_lists: HashMap<Box<[u32]>, u32>,
    blocks: Vec<(u32, u32)>,
    block_calls: Vec<BlockCall>,
    has_blocks: bool,
    line: u32,
}

impl Compiler<'_> {
    fn template(&mut self, body: &[Stmt]) -> Res<()> {
        let mut found = Vec::new();
        stmt::find_blocks(body, &mut found, self.meter)?;
        self.has_blocks = !found.is_empty();
        let root = self.open(None);
        let scope = self.symbols.scope(None, root);
        let frame = Frame { scope, toplevel: true, soft: false, escape: false };
        if Undeclared::find(body, &["self"], self.meter)?.has("self") {
            let place = self.symbols.parameter(scope, "self")?;
            self.emit(Op::SelfRef(place.slot))?;
        }
        self.symbols.statements(scope, body)?;
        self.enter(scope)?;
        self.statements(body, frame)?;
        self.emit(Op::Return)?;
        self.close();
        for block in found {
            let name = self.text(&block.name)?;
            if self.blocks.iter().any(|(n, _)| *n == name) {
                let why = format!("block `{}` is defined twice", block.name);
                return Err(Fault::syntax(why, self.line));
            }
            self.meter.tick(self.blocks.len())?;
            let function = self.open(None);
            self.blocks.push((name, function));
            let scope = self.symbols.scope(None, function);
            let frame = Frame { scope, toplevel: false, soft: false, escape: false };
            let special = Undeclared::find(&block.body, &["self", "super"], self.meter)?;
            if special.has("self") {
                let place = self.symbols.parameter(scope, "self")?;
                self.emit(Op::SelfRef(place.slot))?;
            }
            if special.has("super") {
                let place = self.symbols.parameter(scope, "super")?;
                self.emit(Op::SuperRef(place.slot))?;
            }
            self.symbols.statements(scope, &block.body)?;
            self.enter(scope)?;
            self.statements(&block.body, frame)?;
            self.emit(Op::Return)?;
            self.close();
        }
        Ok(())
    }

    /// Starts a function inside of `parent`.
    fn open(&mut self, parent: Option<u32>) -> u32 {
        let id = self.symbols.function();
        self.functions.push(Function { parent, ..Function::default() });
        self.parents.push(parent);
        self.current.push(Writing { id, loops: Vec::new(), buffers: 0 });
        id
    }

    /// Ends the function that is being written.
    fn close(&mut self) {
        if let Some(writing) = self.current.pop() {
            let slots = self.symbols.slots(writing.id);
            if let Some(function) = self.functions.get_mut(writing.id as usize) {
                function.slots = slots;
            }
        }
    }

    fn writing(&mut self) -> Res<&mut Writing> {
        self.current.last_mut().ok_or_else(|| Fault::internal("no function is open"))
    }

    fn id(&mut self) -> Res<u32> {
        self.writing().map(|w| w.id)
    }

    fn code(&mut self) -> Res<&mut Function> {
        let id = self.id()?;
        let function = self.functions.get_mut(id as usize);
        function.ok_or_else(|| Fault::internal("a function is missing"))
    }

    /// Appends an instruction and returns its index.
    fn emit(&mut self, op: Op) -> Res<u32> {
        self.meter.tick(1)?;
        let line = self.line;
        let function = self.code()?;
        function.code.push(op);
        function.lines.push(line);
        u32::try_from(function.code.len() - 1).map_err(|_| Fault::internal("too much code"))
    }

    /// Index of the next instruction.
    fn here(&mut self) -> Res<u32> {
        Ok(self.code()?.code.len() as u32)
    }

    /// Makes the jump at `at` lead to the next instruction.
    fn land(&mut self, at: u32) -> Res<()> {
        let here = self.here()?;
        match self.code()?.code.get_mut(at as usize) {
            Some(
                Op::Jump(to)
                | Op::JumpIfFalse(to)
                | Op::JumpIfFalseOrPop(to)
                | Op::JumpIfTrueOrPop(to)
                | Op::CompareChain(_, to)
                | Op::Next(to)
                | Op::EndLoop(to)
                | Op::JumpIfGiven(_, to),
            ) => {
                *to = here;
                Ok(())
            }
            _ => Err(Fault::internal("a jump is missing")),
        }
    }

    fn constant(&mut self, lit: Lit) -> u32 {
        self.consts.push(lit);
        (self.consts.len() - 1) as u32
    }

    /// A text as constant.
    fn text(&mut self, text: &str) -> Res<u32> {
        self.meter.tick_bytes(text.len())?;
        if let Some(&at) = self.texts.get(text) {
            return Ok(at);
        }
        let at = self.constant(Lit::Str(text.to_owned()));
        self.texts.insert(text.to_owned(), at);
        Ok(at)
    }

    fn keyword_list(&mut self, names: Box<[u32]>) -> u32 {
        if let Some(&at) = self.keyword_lists.get(&names) {
            return at;
        }
        let at = self.keywords.len() as u32;
        self.keyword_lists.insert(names.clone(), at);
        self.keywords.push(names);
        at
    }

    /// A place seen from the function that is being written.
    fn var(&mut self, place: Place) -> Res<Var> {
        let mut at = Some(self.id()?);
        let mut hops: u16 = 0;
        while let Some(function) = at {
            if function == place.function {
                return Ok(Var { hops, slot: place.slot });
            }
            hops = hops.saturating_add(1);
            at = self.parents.get(function as usize).copied().flatten();
        }
        Err(Fault::internal("a variable is out of reach"))
    }

    /// The place of a name.
    fn place(&mut self, frame: Frame, name: &str) -> Res<Place> {
        let place = self.symbols.find(frame.scope, name);
        place.ok_or_else(|| Fault::internal("a name is unknown"))
    }

    /// The slot of a name that is assigned here.
    fn slot(&mut self, frame: Frame, name: &str) -> Res<u16> {
        let place = self.place(frame, name)?;
        let var = self.var(place)?;
        match var.hops {
            0 => Ok(var.slot),
            _ => Err(Fault::internal("an assignment to another function")),
        }
    }

    /// Begins a scope: fills its slots.
    fn enter(&mut self, scope: usize) -> Res<()> {
        for (place, load) in self.symbols.loads(scope).to_vec() {
            let op = match load {
                Load::Parameter => continue,
                Load::Resolve(name) => Op::Resolve(self.text(&name)?, place.slot),
                Load::Alias(outer) => Op::Copy(self.var(outer)?, place.slot),
                Load::Unassigned => Op::Unset(place.slot),
            };
            self.emit(op)?;
        }
        Ok(())
    }

    /// Ends a scope.
    fn leave(&mut self, scope: usize) -> Res<()> {
        for (place, _) in self.symbols.loads(scope).to_vec() {
            self.emit(Op::Unset(place.slot))?;
        }
        Ok(())
    }
}
