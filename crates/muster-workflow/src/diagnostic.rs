//! Problems in a workflow file, each with its place.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A range of bytes in the source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// Returns the 1-based line and column (in characters) of the start.
    pub fn line_and_column(self, source: &str) -> (usize, usize) {
        Places::of(source).find(self.start)
    }
}

/// Whether the file is wrong for everybody, or only more than muster can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// GitHub would refuse it too.
    Invalid,
    /// A valid key or value that muster does not support yet, and so refuses.
    Unsupported,
    /// GitHub takes it, and it does not do what it seems to.
    Advice,
}

/// Finds lines and columns of places that come in order, in one walk over the source: a file may have as many
/// problems as it has words.
#[derive(Debug)]
pub struct Places<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    column: usize,
}

impl<'a> Places<'a> {
    /// Begins at the start of `source`.
    pub fn of(source: &'a str) -> Self {
        Self { source, at: 0, line: 1, column: 1 }
    }

    /// Returns the 1-based line and column (in characters) of a byte; one further back begins anew.
    pub fn find(&mut self, byte: usize) -> (usize, usize) {
        let byte = floor_char_boundary(self.source, byte);
        if byte < self.at {
            *self = Self::of(self.source);
        }
        for c in self.source[self.at..byte].chars() {
            if c == '\n' {
                (self.line, self.column) = (self.line + 1, 1);
            } else {
                self.column += 1;
            }
        }
        self.at = byte;
        (self.line, self.column)
    }
}

/// Which rule a problem breaks; the names are those that people know from actionlint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The form of the file: YAML, keys, kinds of values.
    Syntax,
    /// Expressions.
    Expression,
    /// Events and their activities.
    Events,
    /// Filter patterns.
    Glob,
    /// `needs`.
    JobNeeds,
    /// Identifiers.
    Id,
    /// `permissions`.
    Permissions,
    /// `strategy.matrix`.
    Matrix,
    /// `uses` of a step.
    Action,
    /// Jobs that call workflows.
    WorkflowCall,
    /// `if`.
    IfCond,
    /// `runs-on`.
    RunnerLabel,
    /// Passwords that are written down.
    Credentials,
    /// Workflow commands that runners do not take any more.
    DeprecatedCommands,
    /// `shell`.
    ShellName,
    /// Names of environment variables.
    EnvVar,
}

impl Rule {
    /// Returns the name of the rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax-check",
            Self::Expression => "expression",
            Self::Events => "events",
            Self::Glob => "glob",
            Self::JobNeeds => "job-needs",
            Self::Id => "id",
            Self::Permissions => "permissions",
            Self::Matrix => "matrix",
            Self::Action => "action",
            Self::WorkflowCall => "workflow-call",
            Self::IfCond => "if-cond",
            Self::RunnerLabel => "runner-label",
            Self::Credentials => "credentials",
            Self::DeprecatedCommands => "deprecated-commands",
            Self::ShellName => "shell-name",
            Self::EnvVar => "env-var",
        }
    }
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Wrong for everybody, or not supported.
    pub kind: ProblemKind,
    /// Which rule it breaks.
    pub rule: Rule,
    /// Where.
    pub span: Span,
    /// What, as a fragment that names the thing.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Makes a problem that GitHub would have too.
    pub fn invalid(span: Span, message: impl Into<String>) -> Self {
        Self {
            kind: ProblemKind::Invalid,
            rule: Rule::Syntax,
            span,
            message: cut(message.into()),
            hint: None,
        }
    }

    /// Makes a problem that GitHub does not have.
    pub fn advice(span: Span, rule: Rule, message: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Advice, ..Self::invalid(span, message).of(rule) }
    }

    /// Makes a problem of something that muster does not support.
    pub fn unsupported(span: Span, what: impl Into<String>) -> Self {
        let message = format!("{} is not supported yet", what.into());
        Self { kind: ProblemKind::Unsupported, rule: Rule::Syntax, span, message, hint: None }
    }

    /// Says which rule it breaks.
    #[must_use]
    pub fn of(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the 1-based line on which it begins.
    pub fn line(&self, source: &str) -> usize {
        self.span.line_and_column(source).0
    }

    /// Writes the problem on one line: `path:line:column: message`. No place but its own is in it: what the message
    /// repeats of the file, such as `a:1:2`, becomes `a:1 :2`.
    pub fn one_line(&self, path: &str, source: &str) -> String {
        let (line, column) = self.span.line_and_column(source);
        format!("{path}:{line}:{column}: {}", without_places(&self.message))
    }
}

/// Puts a space before each colon of a message that would go on with a place: `a:1:2` becomes `a:1 :2`.
pub fn without_places(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    // Whether what was read last is a colon and numbers, where they began.
    let (mut after_colon, mut after_number) = (false, false);
    let mut chars = message.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ':' && after_number && chars.peek().is_some_and(char::is_ascii_digit) {
            out.push(' ');
        }
        after_number = c.is_ascii_digit() && (after_colon || after_number);
        after_colon = c == ':';
        out.push(c);
    }
    out
}

/// Draws the problems with the lines they stand on and a caret below each.
pub fn render(path: &str, source: &str, problems: &[Problem]) -> String {
    let renderer = Renderer::plain();
    let mut out = String::new();
    for problem in problems {
        let start = floor_char_boundary(source, problem.span.start);
        let end = floor_char_boundary(source, problem.span.end.max(start));
        // A caret never runs over more than the first line.
        let end = source[start..end].find('\n').map_or(end, |length| start + length);
        let snippet = Snippet::source(source)
            .path(path)
            .fold(true)
            .annotation(AnnotationKind::Primary.span(start..end));
        let title = Level::ERROR.primary_title(problem.message.as_str());
        let hint = problem.hint.as_deref().map(|hint| Level::HELP.message(hint));
        let report = title.element(snippet).elements(hint);
        out.push_str(&renderer.render(&[report]));
        out.push('\n');
    }
    out
}

/// What a message repeats of a file may be as long as the file.
const MAX_MESSAGE: usize = 1_000;

fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(floor_char_boundary(&message, MAX_MESSAGE));
        message.push('…');
    }
    message
}

fn floor_char_boundary(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}
