//! From tokens to a tree, with names and parameter counts checked.

use std::cell::RefCell;

use super::functions::{Function, by_name};
use super::lex::{Operator, Token, TokenKind, lex};
use super::value::{Value, eq_ignore_case};
use crate::words::nearest;

/// The longest expression, in characters of UTF-16, and the deepest tree: GitHub's bounds.
const MAX_LENGTH: usize = 21_000;
const MAX_DEPTH: usize = 50;
/// Bounds the parser's own recursion: a group nests the parser but not the tree.
const MAX_NESTING: usize = 200;

/// What is said of an expression that is longer.
pub(crate) const TOO_LONG: &str =
    "an expression has at most 21,000 characters, with the text around it";

/// Returns true for an expression that is longer than GitHub's bound.
pub(crate) fn is_too_long(text: &str) -> bool {
    text.len() > MAX_LENGTH && text.encode_utf16().count() > MAX_LENGTH
}

/// Which names an expression may use at its place in the file.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The contexts, such as `github`.
    pub contexts: &'a [&'a str],
    /// Whether `success()`, `failure()`, `cancelled()` and `always()` exist here.
    pub status_functions: bool,
    /// Whether `success()` and `failure()` take parameters, as they do in the `if` of a job.
    pub status_takes_names: bool,
    /// Whether `hashFiles()` exists here.
    pub hash_files: bool,
}

impl Scope<'static> {
    /// No context, and only the functions that are everywhere.
    pub const NOTHING: Self = Self {
        contexts: &[],
        status_functions: false,
        status_takes_names: false,
        hash_files: false,
    };

    /// All that GitHub has anywhere.
    pub const GITHUB: Self = Self {
        contexts: &[
            "github", "env", "vars", "job", "jobs", "steps", "runner", "secrets", "strategy",
            "matrix", "needs", "inputs",
        ],
        status_functions: true,
        status_takes_names: false,
        hash_files: true,
    };
}

/// Whether the text was no sequence of tokens, or the tokens no expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// A symbol that the language does not have.
    Lexing,
    /// A symbol in the wrong place, an unknown name, a wrong number of parameters.
    Parsing,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Which stage refused it.
    pub kind: ParseErrorKind,
    /// Byte offset into the expression.
    pub at: usize,
    /// Length in bytes of what was refused; 0 at the end.
    pub len: usize,
    /// What is wrong.
    pub message: String,
}

/// A checked expression, ready to evaluate.
#[derive(Debug, Clone)]
pub struct Expr {
    pub(crate) node: Node,
    text: Box<str>,
}

/// What an expression is made of.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Literal(Value),
    Context(String),
    Index { of: Box<Self>, by: Box<Self> },
    Filter(Box<Self>),
    Call { function: Function, arguments: Vec<Self> },
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Compare { operator: Operator, left: Box<Self>, right: Box<Self> },
}

impl Expr {
    /// Returns the expression as it is written, without the space around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns true when the expression calls a status function.
    ///
    /// A condition that calls none is judged as `success() && (condition)`.
    pub fn calls_status_function(&self) -> bool {
        self.node.any(&|node| matches!(node, Node::Call { function, .. } if function.is_status()))
    }

    /// Returns true when the expression asks how certain jobs went, by a parameter of a status function.
    pub fn names_jobs(&self) -> bool {
        self.node.any(&|node| {
            matches!(node, Node::Call { function, arguments }
                if function.is_status() && !arguments.is_empty())
        })
    }

    /// Returns true when the expression reads the context `name`.
    pub fn reads_context(&self, name: &str) -> bool {
        self.node
            .any(&|node| matches!(node, Node::Context(context) if eq_ignore_case(context, name)))
    }

    /// Returns true when the expression calls `hashFiles`.
    pub fn calls_hash_files(&self) -> bool {
        self.node.any(&|node| matches!(node, Node::Call { function: Function::HashFiles, .. }))
    }
}

impl Expr {
    /// Returns the paths that the expression reads, from the context on; `*` stands for a key that is
    /// known only when it is evaluated.
    pub(crate) fn paths(&self) -> Vec<Vec<String>> {
        self.node.paths()
    }

    /// Returns the paths whose text may become part of the value: what is only searched does not.
    pub(crate) fn paths_in_value(&self) -> Vec<Vec<String>> {
        let searches = |function: Function| {
            matches!(function, Function::Contains | Function::StartsWith | Function::EndsWith)
        };
        let mut paths = Vec::new();
        self.node.collect_paths(&mut paths, &|function| !searches(function));
        paths
    }

    /// Returns the paths of which `toJSON` writes all that they hold.
    pub(crate) fn paths_as_json(&self) -> Vec<Vec<String>> {
        let paths = RefCell::new(Vec::new());
        self.node.any(&|node| {
            if let Node::Call { function: Function::ToJson, arguments } = node {
                paths.borrow_mut().extend(arguments.iter().filter_map(Node::path));
            }
            false
        });
        paths.into_inner()
    }
}

impl Node {
    /// Returns the path that this node alone stands for.
    fn path(&self) -> Option<Vec<String>> {
        match self {
            Self::Context(name) => Some(vec![name.clone()]),
            Self::Index { of, by } => {
                let mut path = of.path()?;
                path.push(match by.as_ref() {
                    Self::Literal(Value::String(key)) => key.to_string(),
                    _ => "*".to_owned(),
                });
                Some(path)
            }
            // What a filter yields is each of the values that it stands on.
            Self::Filter(of) => {
                let mut path = of.path()?;
                path.push("*".to_owned());
                Some(path)
            }
            _ => None,
        }
    }

    /// Returns all paths that are read in it.
    pub(super) fn paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        self.collect_paths(&mut paths, &|_| true);
        paths
    }

    fn collect_paths(&self, paths: &mut Vec<Vec<String>>, enters: &dyn Fn(Function) -> bool) {
        if let Some(path) = self.path() {
            paths.push(path);
            // The keys that are computed read something themselves.
            let mut node = self;
            while let Self::Index { of, .. } | Self::Filter(of) = node {
                if let Self::Index { by, .. } = node {
                    by.collect_paths(paths, enters);
                }
                node = of;
            }
            return;
        }
        match self {
            Self::Literal(_) | Self::Context(_) => {}
            Self::Call { function, .. } if !enters(*function) => {}
            Self::Index { of, by } => {
                of.collect_paths(paths, enters);
                by.collect_paths(paths, enters);
            }
            Self::Filter(of) | Self::Not(of) => of.collect_paths(paths, enters),
            Self::Call { arguments: nodes, .. } | Self::All(nodes) | Self::Any(nodes) => {
                nodes.iter().for_each(|node| node.collect_paths(paths, enters));
            }
            Self::Compare { left, right, .. } => {
                left.collect_paths(paths, enters);
                right.collect_paths(paths, enters);
            }
        }
    }

    fn any(&self, test: &dyn Fn(&Self) -> bool) -> bool {
        test(self)
            || match self {
                Self::Literal(_) | Self::Context(_) => false,
                Self::Index { of, by } => of.any(test) || by.any(test),
                Self::Filter(of) | Self::Not(of) => of.any(test),
                Self::Call { arguments: nodes, .. } | Self::All(nodes) | Self::Any(nodes) => {
                    nodes.iter().any(|node| node.any(test))
                }
                Self::Compare { left, right, .. } => left.any(test) || right.any(test),
            }
    }
}

/// Parses one expression (without the `${{` and `}}` around it); empty text is null.
///
/// # Errors
///
/// Says what stands where it must not: a symbol, a name, a number of parameters.
pub fn parse(text: &str, scope: Scope<'_>) -> Result<Expr, ParseError> {
    if is_too_long(text) {
        return Err(error(0, 0, TOO_LONG.to_owned()));
    }
    let tokens = lex(text)?;
    if tokens.is_empty() {
        return Ok(Expr { node: Node::Literal(Value::Null), text: "".into() });
    }
    let mut parser = Parser { text, tokens, next: 0, nesting: 0, scope };
    let (node, _) = parser.any()?;
    match parser.tokens.get(parser.next) {
        None => Ok(Expr { node, text: text.trim().into() }),
        Some(token) => Err(parser.unexpected(token)),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    nesting: usize,
    scope: Scope<'a>,
}

/// A node and the depth of its tree.
type Parsed = Result<(Node, usize), ParseError>;

impl Parser<'_> {
    fn any(&mut self) -> Parsed {
        self.chain(Operator::Or, Self::all, Node::Any)
    }

    fn all(&mut self) -> Parsed {
        self.chain(Operator::And, Self::equality, Node::All)
    }

    /// Parses `a || b || c` as one node, as the reference does, so that a chain is not deep.
    fn chain(
        &mut self,
        operator: Operator,
        operand: fn(&mut Self) -> Parsed,
        build: fn(Vec<Node>) -> Node,
    ) -> Parsed {
        let (first, mut depth) = operand(self)?;
        if self.peek() != Some(&TokenKind::Operator(operator)) {
            return Ok((first, depth));
        }
        let mut nodes = vec![first];
        while self.take(&TokenKind::Operator(operator)) {
            let (node, below) = operand(self)?;
            nodes.push(node);
            depth = depth.max(below);
        }
        self.deeper(build(nodes), depth)
    }

    fn equality(&mut self) -> Parsed {
        self.comparison(&[Operator::Equal, Operator::NotEqual], Self::relation)
    }

    fn relation(&mut self) -> Parsed {
        const OPERATORS: [Operator; 4] =
            [Operator::Less, Operator::LessOrEqual, Operator::Greater, Operator::GreaterOrEqual];
        self.comparison(&OPERATORS, Self::unary)
    }

    fn comparison(&mut self, operators: &[Operator], operand: fn(&mut Self) -> Parsed) -> Parsed {
        let (mut left, mut depth) = operand(self)?;
        while let Some(&TokenKind::Operator(operator)) = self.peek() {
            if !operators.contains(&operator) {
                break;
            }
            self.next += 1;
            let (right, below) = operand(self)?;
            let node = Node::Compare { operator, left: Box::new(left), right: Box::new(right) };
            (left, depth) = self.deeper(node, depth.max(below))?;
        }
        Ok((left, depth))
    }

    fn unary(&mut self) -> Parsed {
        if !self.take(&TokenKind::Not) {
            return self.postfix();
        }
        let (node, depth) = self.nested(Self::unary)?;
        self.deeper(Node::Not(Box::new(node)), depth)
    }

    fn postfix(&mut self) -> Parsed {
        let (mut node, mut depth) = self.primary()?;
        loop {
            if self.take(&TokenKind::Dot) {
                let token = self.advance()?;
                let by = match &token.kind {
                    TokenKind::Star => None,
                    TokenKind::Name(name) => Some(Node::Literal(name.as_str().into())),
                    _ => return Err(self.unexpected(&token)),
                };
                let next = index(node, by);
                (node, depth) = self.deeper(next, depth)?;
            } else if self.take(&TokenKind::OpenIndex) {
                let (by, below) = if self.take(&TokenKind::Star) {
                    (None, 0)
                } else {
                    let (by, below) = self.nested(Self::any)?;
                    (Some(by), below)
                };
                self.expect(&TokenKind::CloseIndex)?;
                (node, depth) = self.deeper(index(node, by), depth.max(below))?;
            } else {
                return Ok((node, depth));
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let token = self.advance()?;
        let literal = match &token.kind {
            TokenKind::Null => Value::Null,
            TokenKind::Bool(flag) => Value::Bool(*flag),
            TokenKind::Number(number) => Value::Number(*number),
            TokenKind::Text(text) => text.as_str().into(),
            TokenKind::Open => {
                let group = self.nested(Self::any)?;
                self.expect(&TokenKind::Close)?;
                return Ok(group);
            }
            TokenKind::Name(name) if self.take(&TokenKind::Open) => {
                return self.call(&token, name);
            }
            TokenKind::Name(name) => return self.context(&token, name),
            _ => return Err(self.unexpected(&token)),
        };
        Ok((Node::Literal(literal), 1))
    }

    fn context(&self, token: &Token, name: &str) -> Parsed {
        if self.scope.contexts.iter().any(|known| eq_ignore_case(known, name)) {
            return Ok((Node::Context(name.to_owned()), 1));
        }
        let message = if self.scope.contexts.is_empty() {
            format!("no context is available here, so `{name}` is not")
        } else {
            let instead = match nearest(name, self.scope.contexts.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("available: {}", self.scope.contexts.join(", ")),
            };
            format!("context `{name}` is not available here; {instead}")
        };
        Err(error(token.at, token.len, message))
    }

    fn call(&mut self, token: &Token, name: &str) -> Parsed {
        let mut arguments = Vec::new();
        let mut depth = 0;
        if !self.take(&TokenKind::Close) {
            loop {
                let (node, below) = self.nested(Self::any)?;
                arguments.push(node);
                depth = depth.max(below);
                if self.take(&TokenKind::Close) {
                    break;
                }
                self.expect(&TokenKind::Comma)?;
            }
        }
        let function = by_name(name).filter(|function| {
            (!function.is_status() || self.scope.status_functions)
                && (*function != Function::HashFiles || self.scope.hash_files)
        });
        let Some(function) = function else {
            return Err(error(
                token.at,
                token.len,
                format!("function `{name}` is not available here"),
            ));
        };
        let takes_names = self.scope.status_takes_names
            && matches!(function, Function::Success | Function::Failure);
        if let Some(wanted) = function.refuses(arguments.len()).filter(|_| !takes_names) {
            let got = arguments.len();
            let message = format!("`{name}` takes {wanted}, got {got}");
            return Err(error(token.at, token.len, message));
        }
        self.deeper(Node::Call { function, arguments }, depth)
    }

    fn nested(&mut self, parse: fn(&mut Self) -> Parsed) -> Parsed {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(too_deep());
        }
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    #[expect(clippy::unused_self, reason = "reads as a step of the parser")]
    fn deeper(&self, node: Node, below: usize) -> Parsed {
        if below >= MAX_DEPTH { Err(too_deep()) } else { Ok((node, below + 1)) }
    }

    fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek() == Some(kind);
        self.next += usize::from(found);
        found
    }

    fn advance(&mut self) -> Result<Token, ParseError> {
        let token = self.tokens.get(self.next).cloned().ok_or_else(|| self.end())?;
        self.next += 1;
        Ok(token)
    }

    fn expect(&mut self, kind: &TokenKind) -> Result<(), ParseError> {
        let token = self.advance()?;
        if token.kind == *kind { Ok(()) } else { Err(self.unexpected(&token)) }
    }

    fn unexpected(&self, token: &Token) -> ParseError {
        let word = &self.text[token.at..token.at + token.len];
        error(token.at, token.len, format!("unexpected symbol `{word}`"))
    }

    fn end(&self) -> ParseError {
        error(self.text.len(), 0, "unexpected end of expression".into())
    }
}

fn index(of: Node, by: Option<Node>) -> Node {
    match by {
        Some(by) => Node::Index { of: Box::new(of), by: Box::new(by) },
        None => Node::Filter(Box::new(of)),
    }
}

fn too_deep() -> ParseError {
    error(0, 0, format!("expression is nested deeper than {MAX_DEPTH}"))
}

fn error(at: usize, len: usize, message: String) -> ParseError {
    ParseError { kind: ParseErrorKind::Parsing, at, len, message }
}
