//! YAML with places: from bytes to a tree in which every node knows where it stands.
//!
//! Reads what GitHub reads: YAML 1.2 core scalars, anchors and aliases, no merge keys; the bounds
//! are GitHub's too (depth 50, 50,000 nodes, 1 MiB).

use std::collections::HashSet;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

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
/// A text that is no YAML gives one problem; duplicate keys give one each, and the first wins.
pub(crate) fn read(source: &str) -> (Option<Node>, Vec<Problem>) {
    if source.len() > MAX_BYTES {
        let problem =
            Problem::invalid(Span::default(), format!("file is larger than {MAX_BYTES} bytes"));
        return (None, vec![problem]);
    }
    let mut reader = Reader {
        source,
        parser: Parser::new_from_str(source),
        anchors: Vec::new(),
        nodes: 0,
        bytes: 0,
        problems: Vec::new(),
    };
    match reader.document() {
        Ok(node) => (Some(node), reader.problems),
        Err(problem) => {
            reader.problems.push(problem);
            (None, reader.problems)
        }
    }
}

type Input<'a> = granit_parser::StrInput<'a>;

struct Reader<'a> {
    source: &'a str,
    parser: Parser<'a, Input<'a>>,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
    /// Of text that aliases stand for.
    bytes: usize,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, Problem> {
        loop {
            match self.event()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, span) => {
                    return Ok(Node { span, yaml: Yaml::Null });
                }
                (event, span) => return self.node(event, span, 0),
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
                    let at = self.byte(*error.marker());
                    let span = Span { start: at, end: at };
                    return Err(Problem::invalid(span, format!("not YAML: {}", error.info())));
                }
            }
        }
    }

    fn byte(&self, marker: granit_parser::Marker) -> usize {
        marker.byte_offset().unwrap_or_else(|| {
            self.source.char_indices().nth(marker.index()).map_or(self.source.len(), |(at, _)| at)
        })
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::invalid(span, format!("more than {MAX_NODES} values")));
        }
        if depth > MAX_DEPTH {
            return Err(Problem::invalid(span, format!("nested deeper than {MAX_DEPTH}")));
        }
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, Node { span, yaml: self.scalar(&text, style, tag.as_deref(), span) })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(span, depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(span, depth)?),
            Event::Alias(anchor) => (0, self.alias(anchor, span, depth)?),
            _ => return Err(Problem::invalid(span, "not YAML: a value is missing here")),
        };
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, Problem> {
        let target = self.anchors.iter().rev().find(|(id, _)| *id == anchor);
        let Some((_, target)) = target else {
            return Err(Problem::invalid(span, "an alias to a value that contains it"));
        };
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
        let mut seen = HashSet::new();
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
            if !seen.insert(key.to_ascii_lowercase()) {
                self.problems
                    .push(Problem::invalid(key_span, format!("`{key}` is already defined")));
                continue;
            }
            entries.push(Entry { key, key_span, value });
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Yaml {
        match tag.map(Tag::core_suffix) {
            None if style == ScalarStyle::Plain => plain(text),
            None | Some(Some("str")) => Yaml::String(text.to_owned()),
            Some(Some(kind @ ("bool" | "int" | "float" | "null"))) => match (kind, plain(text)) {
                ("bool", yaml @ Yaml::Bool(_))
                | ("int" | "float", yaml @ Yaml::Number(_))
                | ("null", yaml @ Yaml::Null) => yaml,
                _ => self.refuse(span, format!("`{text}` is no !!{kind}")),
            },
            Some(_) => self.refuse(span, "this tag is unknown".into()),
        }
    }

    fn refuse(&mut self, span: Span, message: String) -> Yaml {
        self.problems.push(Problem::invalid(span, message));
        Yaml::Null
    }
}

/// How much a value is.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    height: usize,
}

fn size(node: &Node) -> Size {
    let mut size = Size { nodes: 1, ..Size::default() };
    let mut add = |part: Size| {
        size.nodes += part.nodes;
        size.bytes += part.bytes;
        size.height = size.height.max(part.height + 1);
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
            && let Ok(number) = u32::from_str_radix(digits, radix)
        {
            return Yaml::Number(f64::from(number));
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
