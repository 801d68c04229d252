//! YAML with places: from bytes to a tree in which every node knows where it stands.
//!
//! Reads what GitHub reads: YAML 1.2 core scalars, anchors and aliases, no merge keys; the bounds
//! are GitHub's too (depth 50, 50,000 nodes, 1 MiB).

use std::borrow::Cow;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Tag};

use crate::diagnostic::{Problem, Span};
use crate::expr::Value;

const MAX_BYTES: usize = 1 << 20;
const MAX_NODES: usize = 50_000;
const MAX_DEPTH: usize = 50;
/// GitHub's bound on what a file becomes; without aliases it becomes no more than it is.
const MAX_ALIASED: usize = 10 << 20;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) yaml: Yaml,
}

/// A YAML value.
#[derive(Debug, Clone)]
pub(crate) enum Yaml {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// Between an anchor and its value lines with comments may stand, of so many bytes.
const LONGEST_COMMENT: usize = 1_000;

impl Entry {
    /// Returns true for what is a merge key elsewhere in YAML: `<<` before a mapping, or a list of them.
    pub(crate) fn merges(&self) -> bool {
        self.key == "<<" && matches!(self.value.yaml, Yaml::Mapping(_) | Yaml::Sequence(_))
    }
}

impl Node {
    /// Names the kind of the value, with its article, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.yaml {
            Yaml::Null => "nothing",
            Yaml::Bool(_) => "a boolean",
            Yaml::Number(_) => "a number",
            Yaml::String(_) => "a string",
            Yaml::Sequence(_) => "a list",
            Yaml::Mapping(_) => "a mapping",
        }
    }

    /// Returns the value without its places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.yaml {
            Yaml::Null => Value::Null,
            Yaml::Bool(flag) => Value::Bool(*flag),
            Yaml::Number(number) => Value::Number(*number),
            Yaml::String(text) => text.as_str().into(),
            Yaml::Sequence(items) => items.iter().map(Self::to_value).collect::<Vec<_>>().into(),
            Yaml::Mapping(entries) => Value::from(
                entries
                    .iter()
                    .map(|entry| (entry.key.as_str(), entry.value.to_value()))
                    .collect::<crate::expr::Object>(),
            ),
        }
    }
}

/// Reads the first document of `source`.
///
/// A text that is no YAML gives one problem. A key may be there twice: who reads on knows whether that is wrong.
pub(crate) fn read(source: &str) -> (Option<Node>, Vec<Problem>) {
    let read = read_with_anchors(source);
    (read.root, read.problems)
}

/// A document, and what was found on the way.
pub(crate) struct Read {
    pub(crate) root: Option<Node>,
    pub(crate) problems: Vec<Problem>,
    /// The anchors that no alias names.
    pub(crate) unused: Vec<Span>,
}

/// Reads the first document of `source`, and says which anchors are for nothing.
pub(crate) fn read_with_anchors(source: &str) -> Read {
    if source.len() > MAX_BYTES {
        let problem =
            Problem::invalid(Span::default(), format!("file is larger than {MAX_BYTES} bytes"));
        return Read { root: None, problems: vec![problem], unused: Vec::new() };
    }
    let mut eased = Eased { text: Cow::Borrowed(source), spaces: Vec::new() };
    loop {
        match Reader::of(&eased).read() {
            Ok(read) => return read,
            Err(at) => eased.insert(at),
        }
    }
}

/// The most places at which a file is eased: each is read anew.
const MAX_EASED: usize = 20;

/// A source with a space where GitHub's parser is content without one, and ours is not: before a `#` that
/// follows a bracket, and before a line of a quoted text that is not indented.
struct Eased<'a> {
    text: Cow<'a, str>,
    /// Where they are in the text, in order.
    spaces: Vec<usize>,
}

impl Eased<'_> {
    fn insert(&mut self, at: usize) {
        self.text.to_mut().insert(at, ' ');
        self.spaces.iter_mut().filter(|space| **space >= at).for_each(|space| *space += 1);
        self.spaces.push(at);
        self.spaces.sort_unstable();
    }

    /// Returns where a byte of the text is in the source.
    fn place(&self, byte: usize) -> usize {
        byte - self.spaces.iter().filter(|space| **space < byte).count()
    }
}

type Input<'a> = granit_parser::StrInput<'a>;

/// A value that aliases may stand for.
struct Anchor {
    id: usize,
    node: Node,
    /// Where it stands, with its name.
    span: Span,
    is_used: bool,
}

struct Reader<'a> {
    source: &'a Eased<'a>,
    parser: Parser<'a, Input<'a>>,
    anchors: Vec<Anchor>,
    /// The anchors whose values are being read.
    open: Vec<usize>,
    nodes: usize,
    /// Of text that aliases stand for.
    bytes: usize,
    problems: Vec<Problem>,
    /// Where a space would be enough.
    ease: Option<usize>,
}

impl<'a> Reader<'a> {
    fn of(source: &'a Eased<'a>) -> Self {
        Self {
            source,
            parser: Parser::new_from_str(&source.text),
            anchors: Vec::new(),
            open: Vec::new(),
            nodes: 0,
            bytes: 0,
            problems: Vec::new(),
            ease: None,
        }
    }

    /// Reads a document; `Err` where a space at this byte may help.
    fn read(mut self) -> Result<Read, usize> {
        match self.document() {
            Ok(node) => {
                let unused = self.anchors.iter().filter(|anchor| !anchor.is_used);
                let unused = unused.map(|anchor| anchor.span).collect();
                Ok(Read { root: Some(node), problems: self.problems, unused })
            }
            Err(problem) => {
                if let Some(at) = self.ease
                    && self.source.spaces.len() < MAX_EASED
                {
                    return Err(at);
                }
                self.problems.push(problem);
                Ok(Read { root: None, problems: self.problems, unused: Vec::new() })
            }
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        loop {
            match self.event()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, span) => {
                    return Ok(Node { span, yaml: Yaml::Null });
                }
                (event, span) => {
                    let root = self.node(event, span, 0)?;
                    return self.only(root);
                }
            }
        }
    }

    /// A file is one document.
    fn only(&mut self, root: Node) -> Result<Node, Problem> {
        loop {
            match self.event()? {
                (Event::DocumentEnd, _) => {}
                (Event::StreamEnd, _) => return Ok(root),
                (_, span) => {
                    return Err(Problem::invalid(
                        span,
                        "a workflow file is one YAML document, here begins another",
                    ));
                }
            }
        }
    }

    fn event(&mut self) -> Result<(Event<'a>, Span), Problem> {
        loop {
            match self.parser.next_event() {
                None => return Ok((Event::StreamEnd, Span::default())),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => {
                    let span = Span { start: self.byte(span.start), end: self.byte(span.end) };
                    return Ok((event, span));
                }
                Some(Err(error)) => {
                    let at = self.offset(*error.marker());
                    self.ease = match error.kind() {
                        ErrorKind::CommentNotSeparated => Some(at),
                        ErrorKind::InvalidQuotedScalarIndent => {
                            let line = self.source.text[..at].rfind('\n');
                            line.map(|line| line + 1)
                        }
                        _ => None,
                    };
                    let (at, what) = match self.tab(&error.info(), at) {
                        Some(tab) => (tab, "a tab cannot indent; use spaces".to_owned()),
                        None => (at, error.info()),
                    };
                    let at = self.source.place(at);
                    let span = Span { start: at, end: at };
                    return Err(Problem::invalid(span, format!("not YAML: {what}")));
                }
            }
        }
    }

    /// Returns the tab that indents a line, where an error comes of one: it stands at the text before it, or after it
    /// where it ended a block.
    fn tab(&self, error: &str, at: usize) -> Option<usize> {
        let text = &self.source.text;
        let line_of = |at: usize| text[..at].rfind('\n').map_or(0, |end| end + 1);
        let indents = |line: usize| {
            let indent = text[line..].len() - text[line..].trim_start_matches(' ').len();
            text[line + indent..].starts_with('\t').then_some(line + indent)
        };
        if error.contains("did not find expected") {
            return indents(line_of(text[..line_of(at)].trim_end().len()));
        }
        if !error.contains("tab") {
            return None;
        }
        let after = text[at..].match_indices('\n').map(|(end, _)| at + end + 1);
        std::iter::once(line_of(at)).chain(after).find_map(indents)
    }

    /// Returns the place of a mark in the source.
    fn byte(&self, marker: granit_parser::Marker) -> usize {
        self.source.place(self.offset(marker))
    }

    /// Returns the place of a mark in the text that is read.
    fn offset(&self, marker: granit_parser::Marker) -> usize {
        let text = &self.source.text;
        marker.byte_offset().unwrap_or_else(|| {
            text.char_indices().nth(marker.index()).map_or(text.len(), |(at, _)| at)
        })
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::invalid(span, format!("more than {MAX_NODES} values")));
        }
        let is_container = matches!(event, Event::SequenceStart(..) | Event::MappingStart(..));
        if is_container && depth >= MAX_DEPTH {
            return Err(Problem::invalid(span, format!("nested deeper than {MAX_DEPTH}")));
        }
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let span = self.whole(&text, style, span);
                (anchor, Node { span, yaml: self.scalar(&text, style, tag.as_deref(), span) })
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(anchor);
                let node = self.sequence(span, depth)?;
                self.open.pop();
                (anchor, node)
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(anchor);
                let node = self.mapping(span, depth)?;
                self.open.pop();
                (anchor, node)
            }
            Event::Alias(anchor) => (0, self.alias(anchor, span, depth)?),
            _ => return Err(Problem::invalid(span, "not YAML: a value is missing here")),
        };
        if anchor != 0 {
            let span = self.anchor(node.span);
            self.anchors.push(Anchor { id: anchor, node: node.clone(), span, is_used: false });
        }
        Ok(node)
    }

    /// Returns where the name of an anchor stands, before its value.
    fn anchor(&self, value: Span) -> Span {
        let mut before = self.source.text.get(..value.start).unwrap_or_default().trim_end();
        // A tag may stand between, and lines with comments.
        while let Some(word) = before.split_whitespace().next_back() {
            // What is longer is no line of comment.
            let from = before.floor_char_boundary(before.len().saturating_sub(LONGEST_COMMENT));
            let line = before[from..].rfind('\n').map_or(from, |line| from + line + 1);
            let is_line = line > from || from == 0;
            if is_line && before[line..].trim_start().starts_with('#') {
                before = before[..line].trim_end();
                continue;
            }
            let start = before.len() - word.len();
            if word.starts_with('&') {
                return Span { start, end: before.len() };
            }
            if !word.starts_with('!') {
                break;
            }
            before = before[..start].trim_end();
        }
        value
    }

    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, Problem> {
        if self.open.contains(&anchor) {
            let yaml = self.refuse(span, "this alias stands for a value that it is part of".into());
            return Ok(Node { span, yaml });
        }
        let target = self.anchors.iter_mut().rev().find(|known| known.id == anchor);
        let Some(Anchor { node: target, is_used, .. }) = target else {
            return Err(Problem::invalid(span, "this alias stands for nothing"));
        };
        *is_used = true;
        let target = target.clone();
        let target = &target;
        // Aliases of aliases multiply: what they stand for counts as if it were written out.
        let size = size(target);
        self.nodes += size.nodes;
        self.bytes += size.bytes;
        if self.nodes > MAX_NODES {
            return Err(Problem::invalid(span, format!("more than {MAX_NODES} values")));
        }
        if self.bytes > MAX_ALIASED {
            let message = format!("aliases stand for more than {MAX_ALIASED} bytes");
            return Err(Problem::invalid(span, message));
        }
        if depth + size.height > MAX_DEPTH {
            return Err(Problem::invalid(span, format!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(target.clone())
    }

    fn sequence(&mut self, start: Span, depth: usize) -> Result<Node, Problem> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                (Event::SequenceEnd, end) => {
                    let span = Span { start: start.start, end: end.end };
                    return Ok(Node { span, yaml: Yaml::Sequence(items) });
                }
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, start: Span, depth: usize) -> Result<Node, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, key_span) = self.event()?;
            if matches!(event, Event::MappingEnd) {
                let span = Span { start: start.start, end: key_span.end };
                return Ok(Node { span, yaml: Yaml::Mapping(entries) });
            }
            let key = self.node(event, key_span, depth + 1)?;
            let (event, span) = self.event()?;
            let value = self.node(event, span, depth + 1)?;
            if matches!(key.yaml, Yaml::Sequence(_) | Yaml::Mapping(_)) {
                let message = format!("a key must be a string, this is {}", key.kind());
                self.problems.push(Problem::invalid(key_span, message));
                continue;
            }
            let key = key.to_value().to_string();
            entries.push(Entry { key, key_span, value });
        }
    }

    /// Returns where all of a scalar stands. One that is not there stands after the `:` or `-` that it belongs
    /// to; a block begins with its `|` or `>`.
    fn whole(&self, text: &str, style: ScalarStyle, span: Span) -> Span {
        let source = &self.source.text;
        let at = source.as_bytes().get(span.start);
        if matches!(text, "" | "~") && matches!(at, Some(b':' | b'-')) {
            return Span { start: span.start + 1, end: span.start + 1 };
        }
        if !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
            || matches!(at, Some(b'|' | b'>'))
        {
            return span;
        }
        let before = source.get(..span.start).unwrap_or_default().trim_end();
        let line = before.rfind('\n').map_or(0, |line| line + 1);
        let header = before[line..].char_indices().find(|(at, c)| {
            if !matches!(c, '|' | '>') {
                return false;
            }
            let rest = before[line + at + 1..]
                .trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+'));
            rest.is_empty() || rest.trim_start().starts_with('#')
        });
        header.map_or(span, |(at, _)| Span { start: line + at, ..span })
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Yaml {
        let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        // A block at the end of a file that has no last line break has none either.
        let ends = span.end >= self.source.place(self.source.text.len());
        let text = match text.strip_suffix('\n') {
            Some(cut) if is_block && ends && !self.source.text.ends_with('\n') => cut,
            _ => text,
        };
        match tag.map(Tag::core_suffix) {
            None if style == ScalarStyle::Plain => plain(text),
            None | Some(Some("str")) => Yaml::String(text.to_owned()),
            Some(Some(kind)) if style != ScalarStyle::Plain => {
                self.refuse(span, format!("only a plain text can be a !!{kind}"))
            }
            Some(Some(kind @ ("bool" | "int" | "float" | "null"))) => match (kind, plain(text)) {
                ("bool", yaml @ Yaml::Bool(_))
                | ("int" | "float", yaml @ Yaml::Number(_))
                | ("null", yaml @ Yaml::Null) => yaml,
                _ => self.refuse(span, format!("`{text}` is no !!{kind}")),
            },
            Some(_) => {
                let (tag, span) = self.written_tag(span);
                let message =
                    format!("tag `{tag}` is unknown; a text that begins with `!` stands in quotes");
                self.refuse(span, message)
            }
        }
    }

    /// Returns the tag of a scalar as it is written before it, and where.
    fn written_tag(&self, scalar: Span) -> (&str, Span) {
        let before = self.source.text.get(..scalar.start).unwrap_or_default();
        let start = before.rfind('!').unwrap_or(scalar.start);
        let tag = self.source.text[start..].split_whitespace().next().unwrap_or_default();
        (tag, Span { start, end: start + tag.len() })
    }

    fn refuse(&mut self, span: Span, message: String) -> Yaml {
        self.problems.push(Problem::invalid(span, message));
        Yaml::Null
    }
}

/// How much a value is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    pub(crate) bytes: usize,
    /// How many lists and mappings are within each other.
    pub(crate) height: usize,
}

pub(crate) fn size(node: &Node) -> Size {
    let mut size = Size { nodes: 1, ..Size::default() };
    let mut below = 0;
    let mut add = |part: Size| {
        size.nodes += part.nodes;
        size.bytes += part.bytes;
        below = below.max(part.height);
    };
    match &node.yaml {
        Yaml::Sequence(items) => items.iter().for_each(|item| add(self::size(item))),
        Yaml::Mapping(entries) => {
            for entry in entries {
                add(Size { nodes: 1, bytes: entry.key.len(), height: 0 });
                add(self::size(&entry.value));
            }
        }
        Yaml::String(text) => size.bytes = text.len(),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => {}
    }
    if matches!(node.yaml, Yaml::Sequence(_) | Yaml::Mapping(_)) {
        size.height = below + 1;
    }
    size
}

/// Resolves a plain scalar by the YAML 1.2 core schema: `yes`, `no` and `on` are strings.
fn plain(text: &str) -> Yaml {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Yaml::Null,
        "true" | "True" | "TRUE" => return Yaml::Bool(true),
        "false" | "False" | "FALSE" => return Yaml::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Yaml::Number(f64::NAN),
        _ => {}
    }
    let (sign, digits) = match text.as_bytes()[0] {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Yaml::Number(sign * f64::INFINITY);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && digits.bytes().all(|b| char::from(b).is_digit(radix))
            && let Ok(number) = u32::from_str_radix(digits, radix)
        {
            // As GitHub reads it: 32 bits, the first of them the sign.
            return Yaml::Number(f64::from(number.cast_signed()));
        }
    }
    let is_float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match digits.parse::<f64>() {
        Ok(number) if is_float => Yaml::Number(sign * number),
        _ => Yaml::String(text.to_owned()),
    }
}
