//! Syntax trees.

/// An expression and its line.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) kind: ExprKind,
    pub(super) line: u32,
    /// Levels of expressions below and including this one.
    pub(super) depth: u32,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    Const(Lit),
    Name(String),
    /// `name.attribute` as the target of an assignment.
    NsRef(String, String),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Cond {
        test: Box<Expr>,
        yes: Box<Expr>,
        no: Option<Box<Expr>>,
    },
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(Compare, Expr)>),
    Concat(Vec<Expr>),
    Attr(Box<Expr>, String),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Box<Arguments>),
    Filter {
        /// `None` for the text of a filter block.
        value: Option<Box<Expr>>,
        name: String,
        args: Box<Arguments>,
    },
    Test {
        value: Box<Expr>,
        name: String,
        args: Box<Arguments>,
    },
    /// The function behind transformers' tag `generation`, which returns what its caller gives.
    Generation,
}

/// Literals.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Lit {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
}

/// Arithmetic operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

/// Comparisons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// Arguments of a call, a filter or a test.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) args: Vec<Expr>,
    pub(super) kwargs: Vec<(String, Expr)>,
    pub(super) dyn_args: Option<Expr>,
    pub(super) dyn_kwargs: Option<Expr>,
}

/// A statement and its line.
#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) kind: StmtKind,
    pub(super) line: u32,
}

/// Part of what a template writes.
#[derive(Debug)]
pub(super) enum Out {
    Data(String),
    Expr(Expr),
}

#[derive(Debug)]
pub(super) enum StmtKind {
    Output(Vec<Out>),
    If {
        test: Expr,
        body: Vec<Stmt>,
        /// Each is an `If` without branches of its own.
        elifs: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
    For(Box<For>),
    Set(Expr, Expr),
    SetBlock {
        target: Expr,
        filter: Option<Expr>,
        body: Vec<Stmt>,
    },
    Macro(Box<Macro>),
    CallBlock(Box<CallBlock>),
    FilterBlock {
        filter: Expr,
        body: Vec<Stmt>,
    },
    With {
        targets: Vec<Expr>,
        values: Vec<Expr>,
        body: Vec<Stmt>,
    },
    Autoescape {
        on: Expr,
        body: Vec<Stmt>,
    },
    Block(Box<Block>),
    Break,
    Continue,
    Extends(Expr),
    Include(Expr),
    Import {
        template: Expr,
        target: String,
    },
    FromImport {
        template: Expr,
        targets: Vec<String>,
    },
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Expr,
    pub(super) iter: Expr,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
    pub(super) test: Option<Expr>,
    pub(super) recursive: bool,
}

/// Parameters and body of a macro or of a call block.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) args: Vec<String>,
    /// Defaults of the last parameters.
    pub(super) defaults: Vec<Expr>,
    pub(super) body: Vec<Stmt>,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: String,
    pub(super) signature: Signature,
}

#[derive(Debug)]
pub(super) struct CallBlock {
    pub(super) call: Expr,
    pub(super) signature: Signature,
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) name: String,
    pub(super) body: Vec<Stmt>,
    pub(super) scoped: bool,
    pub(super) required: bool,
}
