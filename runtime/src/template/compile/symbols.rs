//! Names to places, by jinja2's rules: which variable a name means is decided before a template
//! runs, scope by scope, and not by what happens to be assigned.
//!
//! A scope ([`Symbols`]) maps names to slots of the function that it belongs to. A name that is read
//! and that no outer scope knows is looked up in the render's variables when the scope begins; one
//! that is assigned begins as a copy of the outer scope's, if that has it, and unassigned otherwise.

use std::collections::HashMap;

use super::super::ast::{Arguments, Expr, ExprKind, For, Out, Signature, Stmt, StmtKind};
use super::super::error::{Fault, Res};
use super::super::limits::Meter;

/// A function and one of its slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) function: u32,
    pub(super) slot: u16,
}

/// The value of a slot when its scope begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Load {
    /// Set by what the scope belongs to.
    Parameter,
    /// Looked up in the render's variables.
    Resolve(String),
    /// A copy of an outer scope's.
    Alias(Place),
    /// Unassigned.
    Unassigned,
}

/// A map in the order of insertion.
#[derive(Clone, Debug)]
pub(super) struct Ordered<K, V> {
    pub(super) list: Vec<(K, V)>,
    index: HashMap<K, usize>,
}

impl<K: Clone + Eq + std::hash::Hash, V> Ordered<K, V> {
    fn new() -> Self {
        Ordered { list: Vec::new(), index: HashMap::new() }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.index.get(key).and_then(|&at| self.list.get(at)).map(|(_, v)| v)
    }

    fn set(&mut self, key: K, value: V) {
        match self.index.get(&key).and_then(|&at| self.list.get_mut(at)) {
            Some(pair) => pair.1 = value,
            None => {
                self.index.insert(key.clone(), self.list.len());
                self.list.push((key, value));
            }
        }
    }
}

/// The names of a scope.
#[derive(Clone, Debug)]
struct Scope {
    parent: Option<usize>,
    level: u32,
    function: u32,
    refs: Ordered<String, Place>,
    loads: Ordered<Place, Load>,
    stores: Ordered<String, ()>,
}

/// All scopes of a template.
pub(super) struct Symbols<'m> {
    scopes: Vec<Scope>,
    /// Slots by function, level and name: scopes of the same level take turns in them.
    slots: HashMap<(u32, u32, String), u16>,
    /// Number of slots of each function.
    counts: Vec<usize>,
    pub(super) meter: &'m Meter<'m>,
}

impl<'m> Symbols<'m> {
    pub(super) fn new(meter: &'m Meter<'m>) -> Self {
        Symbols { scopes: Vec::new(), slots: HashMap::new(), counts: Vec::new(), meter }
    }

    /// A new function.
    pub(super) fn function(&mut self) -> u32 {
        self.counts.push(0);
        (self.counts.len() - 1) as u32
    }

    /// Number of slots of a function.
    pub(super) fn slots(&self, function: u32) -> usize {
        self.counts.get(function as usize).copied().unwrap_or(0)
    }

    /// A new scope inside of `parent`.
    pub(super) fn scope(&mut self, parent: Option<usize>, function: u32) -> usize {
        let level = parent.and_then(|p| self.scopes.get(p)).map_or(0, |p| p.level + 1);
        self.scopes.push(Scope {
            parent,
            level,
            function,
            refs: Ordered::new(),
            loads: Ordered::new(),
            stores: Ordered::new(),
        });
        self.scopes.len() - 1
    }

    fn get(&mut self, scope: usize) -> Res<&mut Scope> {
        self.scopes.get_mut(scope).ok_or_else(|| Fault::internal("a scope is missing"))
    }

    fn define(&mut self, scope: usize, name: &str, load: Load) -> Res<Place> {
        self.meter.tick(1)?;
        let (function, level) = {
            let s = self.get(scope)?;
            (s.function, s.level)
        };
        let key = (function, level, name.to_owned());
        let slot = match self.slots.get(&key) {
            Some(&slot) => slot,
            None => {
                let count = self.counts.get_mut(function as usize);
                let count = count.ok_or_else(|| Fault::internal("a function is missing"))?;
                let slot = u16::try_from(*count)
                    .map_err(|_| Fault::unsupported("more than 65536 variables"))?;
                *count += 1;
                self.slots.insert(key, slot);
                slot
            }
        };
        let place = Place { function, slot };
        let s = self.get(scope)?;
        s.refs.set(name.to_owned(), place);
        s.loads.set(place, load);
        Ok(place)
    }

    /// The place of a name, in this scope or around it.
    pub(super) fn find(&self, scope: usize, name: &str) -> Option<Place> {
        let mut at = Some(scope);
        let name = name.to_owned();
        while let Some(scope) = at.and_then(|at| self.scopes.get(at)) {
            if let Some(place) = scope.refs.get(&name) {
                return Some(*place);
            }
            at = scope.parent;
        }
        None
    }

    fn find_around(&self, scope: usize, name: &str) -> Option<Place> {
        let parent = self.scopes.get(scope).and_then(|s| s.parent)?;
        self.find(parent, name)
    }

    /// How the slots of a scope begin.
    pub(super) fn loads(&self, scope: usize) -> &[(Place, Load)] {
        self.scopes.get(scope).map_or(&[], |s| &s.loads.list)
    }

    /// Names that are assigned in this scope or around it, with their places.
    pub(super) fn assigned(&self, scope: usize) -> Res<Vec<(String, Place)>> {
        let mut all: Vec<(String, Place)> = Vec::new();
        let mut at = Some(scope);
        while let Some(scope) = at.and_then(|at| self.scopes.get(at).map(|s| (at, s))) {
            let (index, scope) = scope;
            for (name, ()) in &scope.stores.list {
                self.meter.tick(1 + all.len() / 4)?;
                if !all.iter().any(|(n, _)| n == name)
                    && let Some(place) = self.find(index, name)
                {
                    all.push((name.clone(), place));
                }
            }
            at = scope.parent;
        }
        Ok(all)
    }

    fn store(&mut self, scope: usize, name: &str) -> Res<()> {
        let owned = name.to_owned();
        let s = self.get(scope)?;
        s.stores.set(owned.clone(), ());
        if s.refs.get(&owned).is_none() {
            let load = match self.find_around(scope, name) {
                Some(outer) => Load::Alias(outer),
                None => Load::Unassigned,
            };
            self.define(scope, name, load)?;
        }
        Ok(())
    }

    /// A name whose value comes from what the scope belongs to.
    pub(super) fn parameter(&mut self, scope: usize, name: &str) -> Res<Place> {
        self.get(scope)?.stores.set(name.to_owned(), ());
        self.define(scope, name, Load::Parameter)
    }

    fn load(&mut self, scope: usize, name: &str) -> Res<()> {
        if self.find(scope, name).is_none() {
            self.define(scope, name, Load::Resolve(name.to_owned()))?;
        }
        Ok(())
    }

    /// Joins what the branches of an `if` did to copies of a scope.
    fn join(&mut self, scope: usize, branches: Vec<Scope>) -> Res<()> {
        let mut stores: Vec<String> = Vec::new();
        for branch in &branches {
            for (name, ()) in &branch.stores.list {
                self.meter.tick(1)?;
                if self.get(scope)?.stores.get(name).is_none() && !stores.contains(name) {
                    self.meter.tick(stores.len() / 8)?;
                    stores.push(name.clone());
                }
            }
        }
        let s = self.get(scope)?;
        for branch in branches {
            branch.refs.list.into_iter().for_each(|(k, v)| s.refs.set(k, v));
            branch.loads.list.into_iter().for_each(|(k, v)| s.loads.set(k, v));
            branch.stores.list.into_iter().for_each(|(k, v)| s.stores.set(k, v));
        }
        for name in stores {
            let place = self.find(scope, &name);
            let place = place.ok_or_else(|| Fault::internal("a name is missing"))?;
            let load = match self.find_around(scope, &name) {
                Some(outer) => Load::Alias(outer),
                None => Load::Resolve(name),
            };
            self.get(scope)?.loads.set(place, load);
        }
        Ok(())
    }

    /// Notes the names of statements in a scope. Inner scopes are left out.
    pub(super) fn statements(&mut self, scope: usize, body: &[Stmt]) -> Res<()> {
        for statement in body {
            self.statement(scope, statement).map_err(|e| e.at(statement.line))?;
        }
        Ok(())
    }

    fn statement(&mut self, scope: usize, statement: &Stmt) -> Res<()> {
        self.meter.tick(1)?;
        match &statement.kind {
            StmtKind::Output(parts) => {
                for part in parts {
                    if let Out::Expr(expr) = part {
                        self.expr(scope, expr)?;
                    }
                }
                Ok(())
            }
            StmtKind::If { test, body, elifs, otherwise } => {
                self.expr(scope, test)?;
                let branches: [&[Stmt]; 3] = [body, elifs, otherwise];
                let mut joined = Vec::new();
                for branch in branches {
                    joined.push(self.branch(scope, branch)?);
                }
                self.join(scope, joined)
            }
            StmtKind::For(f) => self.expr(scope, &f.iter),
            StmtKind::Set(target, value) => {
                self.expr(scope, value)?;
                self.target(scope, target, false)
            }
            StmtKind::SetBlock { target, .. } => self.target(scope, target, false),
            StmtKind::Macro(m) => self.store(scope, &m.name),
            StmtKind::CallBlock(c) => self.expr(scope, &c.call),
            StmtKind::FilterBlock { filter, .. } => self.expr(scope, filter),
            StmtKind::With { values, .. } => self.exprs(scope, values),
            StmtKind::Autoescape { .. } | StmtKind::Block(_) => Ok(()),
            StmtKind::Break | StmtKind::Continue => Ok(()),
            StmtKind::Extends(template) | StmtKind::Include(template) => self.expr(scope, template),
            StmtKind::Import { template, target } => {
                self.expr(scope, template)?;
                self.store(scope, target)
            }
            StmtKind::FromImport { template, targets } => {
                self.expr(scope, template)?;
                targets.iter().try_for_each(|name| self.store(scope, name))
            }
        }
    }

    /// The scope after a branch, as a copy.
    fn branch(&mut self, scope: usize, body: &[Stmt]) -> Res<Scope> {
        let copy = self.get(scope)?.clone();
        self.meter.tick(2 * copy.refs.list.len() + copy.stores.list.len())?;
        self.scopes.push(copy);
        let index = self.scopes.len() - 1;
        self.statements(index, body)?;
        // Copies of copies are gone by now.
        self.scopes.pop().ok_or_else(|| Fault::internal("a scope is missing"))
    }

    /// Notes the names of what is assigned to.
    pub(super) fn target(&mut self, scope: usize, target: &Expr, parameter: bool) -> Res<()> {
        match &target.kind {
            ExprKind::Name(name) if parameter => self.parameter(scope, name).map(drop),
            ExprKind::Name(name) => self.store(scope, name),
            ExprKind::NsRef(name, _) => self.load(scope, name),
            ExprKind::Tuple(parts) => {
                parts.iter().try_for_each(|part| self.target(scope, part, parameter))
            }
            _ => Ok(()),
        }
    }

    fn exprs(&mut self, scope: usize, all: &[Expr]) -> Res<()> {
        all.iter().try_for_each(|e| self.expr(scope, e))
    }

    /// Notes the names of an expression.
    pub(super) fn expr(&mut self, scope: usize, expr: &Expr) -> Res<()> {
        self.meter.tick(1)?;
        if let ExprKind::Name(name) = &expr.kind {
            return self.load(scope, name);
        }
        children(expr, &mut |child| self.expr(scope, child))
    }

    /// Fails if an expression has a name that no scope knows yet: jinja2 doesn't look for names in the
    /// filter of a block assignment, and fails on those.
    pub(super) fn known(&mut self, scope: usize, expr: &Expr) -> Res<()> {
        self.meter.tick(1)?;
        if let ExprKind::Name(name) = &expr.kind {
            return match self.find(scope, name) {
                Some(_) => Ok(()),
                None => Err(Fault::unsupported(format!(
                    "`{name}` in the filter of a block assignment, which nothing else mentions"
                ))),
            };
        }
        children(expr, &mut |child| self.known(scope, child))
    }

    /// Notes the names of a macro's or a call block's function in its scope.
    pub(super) fn signature(&mut self, scope: usize, signature: &Signature) -> Res<()> {
        for name in &signature.args {
            self.parameter(scope, name)?;
        }
        self.exprs(scope, &signature.defaults)?;
        self.statements(scope, &signature.body)
    }
}

/// Calls `f` for each part of an expression, in the order of jinja2's nodes.
fn children(expr: &Expr, f: &mut dyn FnMut(&Expr) -> Res<()>) -> Res<()> {
    match &expr.kind {
        ExprKind::Const(_) | ExprKind::Name(_) | ExprKind::NsRef(..) | ExprKind::Generation => {}
        ExprKind::Tuple(all) | ExprKind::List(all) | ExprKind::Concat(all) => {
            all.iter().try_for_each(f)?;
        }
        ExprKind::Dict(pairs) => {
            for (key, value) in pairs {
                f(key)?;
                f(value)?;
            }
        }
        ExprKind::Cond { test, yes, no } => {
            f(test)?;
            f(yes)?;
            if let Some(no) = no {
                f(no)?;
            }
        }
        ExprKind::And(a, b) | ExprKind::Or(a, b) | ExprKind::Binary(_, a, b) => {
            f(a)?;
            f(b)?;
        }
        ExprKind::Item(a, b) => {
            f(a)?;
            f(b)?;
        }
        ExprKind::Not(a) | ExprKind::Neg(a) | ExprKind::Pos(a) | ExprKind::Attr(a, _) => f(a)?,
        ExprKind::Compare(first, rest) => {
            f(first)?;
            rest.iter().try_for_each(|(_, e)| f(e))?;
        }
        ExprKind::Slice(value, parts) => {
            f(value)?;
            parts.iter().flatten().try_for_each(|e| f(e))?;
        }
        ExprKind::Call(function, args) => {
            f(function)?;
            arguments(args, f)?;
        }
        ExprKind::Filter { value, args, .. } => {
            if let Some(value) = value {
                f(value)?;
            }
            arguments(args, f)?;
        }
        ExprKind::Test { value, args, .. } => {
            f(value)?;
            arguments(args, f)?;
        }
    }
    Ok(())
}

fn arguments(args: &Arguments, f: &mut dyn FnMut(&Expr) -> Res<()>) -> Res<()> {
    args.args.iter().try_for_each(&mut *f)?;
    args.kwargs.iter().try_for_each(|(_, e)| f(e))?;
    args.dyn_args.iter().try_for_each(&mut *f)?;
    args.dyn_kwargs.iter().try_for_each(f)
}

/// Finds which of some special names statements read before they assign them, wherever that is:
/// unlike scopes it looks into all functions but blocks.
pub(super) struct Undeclared<'n, 'm> {
    names: Vec<&'n str>,
    pub(super) found: Vec<&'n str>,
    meter: &'m Meter<'m>,
}

impl<'n, 'm> Undeclared<'n, 'm> {
    pub(super) fn find(body: &[Stmt], names: &[&'n str], meter: &'m Meter<'m>) -> Res<Self> {
        let mut this = Undeclared { names: names.to_vec(), found: Vec::new(), meter };
        this.statements(body)?;
        Ok(this)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.found.contains(&name)
    }

    fn forget(&mut self, name: &str) {
        self.names.retain(|n| *n != name);
    }

    fn statements(&mut self, body: &[Stmt]) -> Res<()> {
        body.iter().try_for_each(|s| self.statement(s))
    }

    fn exprs(&mut self, all: &[Expr]) -> Res<()> {
        all.iter().try_for_each(|e| self.expr(e))
    }

    fn expr(&mut self, expr: &Expr) -> Res<()> {
        self.meter.tick(1)?;
        if let ExprKind::Name(name) = &expr.kind {
            let known = self.names.iter().find(|n| *n == name);
            if let Some(name) = known.filter(|n| !self.found.contains(n)) {
                self.found.push(name);
            }
            return Ok(());
        }
        children(expr, &mut |child| self.expr(child))
    }

    fn target(&mut self, target: &Expr) {
        match &target.kind {
            ExprKind::Name(name) => self.forget(name),
            ExprKind::Tuple(parts) => parts.iter().for_each(|part| self.target(part)),
            _ => {}
        }
    }

    fn signature(&mut self, signature: &Signature) -> Res<()> {
        signature.args.iter().for_each(|name| self.forget(name));
        self.exprs(&signature.defaults)?;
        self.statements(&signature.body)
    }

    fn statement(&mut self, statement: &Stmt) -> Res<()> {
        self.meter.tick(1)?;
        match &statement.kind {
            StmtKind::Output(parts) => parts.iter().try_for_each(|part| match part {
                Out::Data(_) => Ok(()),
                Out::Expr(expr) => self.expr(expr),
            }),
            StmtKind::If { test, body, elifs, otherwise } => {
                self.expr(test)?;
                self.statements(body)?;
                self.statements(elifs)?;
                self.statements(otherwise)
            }
            StmtKind::For(f) => {
                self.target(&f.target);
                self.expr(&f.iter)?;
                self.statements(&f.body)?;
                self.statements(&f.otherwise)?;
                f.test.iter().try_for_each(|test| self.expr(test))
            }
            StmtKind::Set(target, value) => {
                self.target(target);
                self.expr(value)
            }
            StmtKind::SetBlock { target, filter, body } => {
                self.target(target);
                filter.iter().try_for_each(|filter| self.expr(filter))?;
                self.statements(body)
            }
            StmtKind::Macro(m) => self.signature(&m.signature),
            StmtKind::CallBlock(c) => {
                self.expr(&c.call)?;
                self.signature(&c.signature)
            }
            StmtKind::FilterBlock { filter, body } => {
                self.statements(body)?;
                self.expr(filter)
            }
            StmtKind::With { targets, values, body } => {
                targets.iter().for_each(|target| self.target(target));
                self.exprs(values)?;
                self.statements(body)
            }
            StmtKind::Autoescape { on, body } => {
                self.expr(on)?;
                self.statements(body)
            }
            StmtKind::Extends(e) | StmtKind::Include(e) => self.expr(e),
            StmtKind::Import { template, .. } | StmtKind::FromImport { template, .. } => {
                self.expr(template)
            }
            StmtKind::Block(_) | StmtKind::Break | StmtKind::Continue => Ok(()),
        }
    }
}

/// True if anything in a loop, however deep, assigns the name `loop`, or is a scoped block.
pub(super) struct LoopFacts {
    pub(super) assigns_loop: bool,
    pub(super) scoped_block: bool,
}

impl LoopFacts {
    pub(super) fn of(f: &For, meter: &Meter<'_>) -> Res<LoopFacts> {
        let mut facts = LoopFacts { assigns_loop: false, scoped_block: false };
        facts.target(&f.target);
        facts.statements(&f.body, meter)?;
        facts.statements(&f.otherwise, meter)?;
        Ok(facts)
    }

    fn target(&mut self, target: &Expr) {
        match &target.kind {
            ExprKind::Name(name) => self.assigns_loop |= name == "loop",
            ExprKind::Tuple(parts) => parts.iter().for_each(|part| self.target(part)),
            _ => {}
        }
    }

    fn statements(&mut self, body: &[Stmt], meter: &Meter<'_>) -> Res<()> {
        for statement in body {
            meter.tick(1)?;
            match &statement.kind {
                StmtKind::If { body, elifs, otherwise, .. } => {
                    self.statements(body, meter)?;
                    self.statements(elifs, meter)?;
                    self.statements(otherwise, meter)?;
                }
                StmtKind::For(f) => {
                    self.target(&f.target);
                    self.statements(&f.body, meter)?;
                    self.statements(&f.otherwise, meter)?;
                }
                StmtKind::Set(target, _) => self.target(target),
                StmtKind::SetBlock { target, body, .. } => {
                    self.target(target);
                    self.statements(body, meter)?;
                }
                StmtKind::Macro(m) => self.statements(&m.signature.body, meter)?,
                StmtKind::CallBlock(c) => self.statements(&c.signature.body, meter)?,
                StmtKind::FilterBlock { body, .. } | StmtKind::Autoescape { body, .. } => {
                    self.statements(body, meter)?;
                }
                StmtKind::With { body, .. } => self.statements(body, meter)?,
                StmtKind::Block(block) => {
                    self.scoped_block |= block.scoped;
                    self.statements(&block.body, meter)?;
                }
                StmtKind::Output(_)
                | StmtKind::Break
                | StmtKind::Continue
                | StmtKind::Extends(_)
                | StmtKind::Include(_)
                | StmtKind::Import { .. }
                | StmtKind::FromImport { .. } => {}
            }
        }
        Ok(())
    }
}
