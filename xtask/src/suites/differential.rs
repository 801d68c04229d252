//! Generated expressions, evaluated by muster and by GitHub's own evaluator.
//!
//! Two things are left out, in which the evaluator in npm is not what runs at GitHub: numbers are written there with up to
//! fifteen digits and an exponent below 1e-5 and from 1e15 on (the suite `expressions` has that), and of two keys of a JSON
//! object that differ by case alone the last counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fastrand::Rng;
use muster_sys::process::Program;
use muster_workflow::expr::{Contexts, ParseErrorKind, Scope, Value, parse};
use serde_json::Value as Json;

use super::Measured;

/// So many expressions where nobody asks for all.
const SLICE: usize = 5_000;
/// So many where somebody does.
const ALL: usize = 100_000;

/// GitHub's evaluator has so long for all of them.
const LIMIT: Duration = Duration::from_secs(120);
const MOST_BYTES: usize = 256 << 20;

const EVALUATOR: &str = "target/npm/node_modules/@actions/expressions/dist/index.js";

/// What expressions read: a value of each kind, and some that are within each other.
const CONTEXTS: &str = r#"{"github": {"null": null, "yes": true, "no": false, "zero": 0, "one": 1, "half": 0.5,
"big": 1e14, "small": 1.5e-3, "text": "Abc", "number": "12", "empty": "", "padded": " 7 ", "hex": "0xff",
"list": [1, "two", null, true, {"a": 1}], "none": [], "objects": [{"a": 1, "b": {"c": "x"}}, {"A": 2}, {"b": {"c": 3}}],
"nested": [[1, 2], [3, [4]]], "object": {"a": {"x": 1, "y": {"z": "deep"}}, "b": {"x": 2}, "Key": "v"}, "bare": {}}}"#;

/// An operand of each kind, as it is written.
const OPERANDS: [&str; 34] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "0.5",
    "-1.5e3",
    "1e14",
    "0xFF",
    "0o17",
    "1e-4",
    "+1",
    "NaN",
    "Infinity",
    "''",
    "'a'",
    "'ABC'",
    "'12'",
    "' 12 '",
    "'0x1F'",
    "'it''s'",
    "'true'",
    "'1e2'",
    "github.text",
    "github.number",
    "github.list",
    "github.none",
    "github.object",
    "github.bare",
    "github.big",
    "github.small",
    "github.missing",
    "github.objects.*.a",
];

const OPERATORS: [&str; 8] = ["==", "!=", "<", "<=", ">", ">=", "&&", "||"];

const FUNCTIONS: [&str; 8] =
    ["contains", "startsWith", "endsWith", "format", "join", "toJSON", "fromJSON", "case"];

const PATHS: [&str; 18] = [
    "github.list[0]",
    "github.list[4].a",
    "github.list[1.9]",
    "github.list['0']",
    "github.list[-1]",
    "github.nested.*[0]",
    "github.nested.*.*",
    "github.objects.*.b.c",
    "github.objects.*.b.*",
    "github.objects[*].A",
    "github.object.*.x",
    "github.object.*.*",
    "github.object['key']",
    "github['object'].a.y.z",
    "github.object.a.missing.deep",
    "github.*",
    "github.object[github.text]",
    "github.list.*.a",
];

const FORMATS: [&str; 8] =
    ["'{0}'", "'{0}-{1}'", "'{{{0}}}'", "'{1}{0}'", "'{'", "'{}'", "'{2}'", "'}}{{{0}'"];

const JSONS: [&str; 7] =
    ["'[1, 2]'", "'{\"a\": 1}'", "'null'", "'\"x\"'", "'1.0'", "'{'", "'[{\"A\":1,\"b\":[2]}]'"];

/// What an expression has, for the table of what was covered.
type Feature = String;

struct Generator {
    random: Rng,
}

impl Generator {
    /// Returns the expression of a number: all pairs and parameters first, then what comes.
    fn expression(&mut self, number: usize) -> (String, Vec<Feature>) {
        let pairs = OPERANDS.len() * OPERANDS.len();
        if number < pairs * OPERATORS.len() {
            let (operator, rest) = (OPERATORS[number / pairs], number % pairs);
            let (left, right) = (OPERANDS[rest / OPERANDS.len()], OPERANDS[rest % OPERANDS.len()]);
            return (format!("{left} {operator} {right}"), vec![format!("operator {operator}")]);
        }
        let number = number - pairs * OPERATORS.len();
        if number < FUNCTIONS.len() * 5 * 20 {
            let (function, arity) = (FUNCTIONS[number / 100], number / 20 % 5);
            let arguments: Vec<String> =
                (0..arity).map(|place| self.argument(function, place)).collect();
            let feature = format!("{function} of {arity}");
            return (format!("{function}({})", arguments.join(", ")), vec![feature]);
        }
        let mut features = Vec::new();
        (self.any(3, &mut features), features)
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from[self.random.usize(0..from.len())].to_owned()
    }

    fn argument(&mut self, function: &str, place: usize) -> String {
        match (function, place) {
            ("format", 0) => self.pick(&FORMATS),
            ("fromJSON", 0) => self.pick(&JSONS),
            ("join" | "contains", 0) => self.pick(&[&PATHS[..], &OPERANDS[..]].concat()),
            _ => self.pick(&OPERANDS),
        }
    }

    fn any(&mut self, depth: usize, features: &mut Vec<Feature>) -> String {
        match self.random.usize(0..if depth == 0 { 3 } else { 12 }) {
            0 => self.pick(&OPERANDS),
            1 => {
                features.push("path".into());
                self.pick(&PATHS)
            }
            2 => {
                features.push("number".into());
                self.number()
            }
            3..=5 => {
                let operator = self.pick(&OPERATORS);
                features.push(format!("operator {operator}"));
                let (left, right) = (self.any(depth - 1, features), self.any(depth - 1, features));
                format!("{left} {operator} {right}")
            }
            6 => {
                features.push("!".into());
                format!("!{}", self.any(depth - 1, features))
            }
            7 => format!("({})", self.any(depth - 1, features)),
            8 => {
                features.push("index".into());
                format!("{}[{}]", self.pick(&PATHS), self.any(depth - 1, features))
            }
            9 => {
                features.push("filter".into());
                let deeper = ["*", "*.a", "*.x.y", "*[0]", "a.*"];
                format!("{}.{}", self.pick(&PATHS), self.pick(&deeper))
            }
            _ => {
                let function = self.pick(&FUNCTIONS);
                let arity = 1 + self.random.usize(0..3);
                features.push(format!("{function} of {arity}"));
                let arguments: Vec<String> = (0..arity)
                    .map(|place| match self.random.usize(0..2) {
                        0 => self.argument(&function, place),
                        _ => self.any(depth - 1, features),
                    })
                    .collect();
                format!("{function}({})", arguments.join(", "))
            }
        }
    }

    fn number(&mut self) -> String {
        let digits = |random: &mut Rng, most: usize| -> String {
            (0..=random.usize(0..most))
                .map(|_| char::from(b'0' + u8::try_from(random.usize(0..10)).unwrap_or(0)))
                .collect()
        };
        let mut text = self.pick(&["", "-", "+"]);
        text.push_str(&digits(&mut self.random, 7));
        if self.random.usize(0..2) == 0 {
            let _ = write!(text, ".{}", digits(&mut self.random, 5));
        }
        if self.random.usize(0..3) == 0 {
            let _ = write!(text, "e{}{}", self.pick(&["", "+"]), self.random.usize(0..6));
        }
        text
    }
}

fn ours(expression: &str, contexts: &Contexts) -> Json {
    match parse(expression, Scope { contexts: &["github"], ..Scope::NOTHING }) {
        Err(error) => match error.kind {
            ParseErrorKind::Lexing => "lexing".into(),
            ParseErrorKind::Parsing => "parsing".into(),
        },
        Ok(expr) => match expr.evaluate(contexts) {
            Err(_) => "evaluation".into(),
            Ok(value @ Value::Number(_)) => {
                Json::from(vec![value.kind().to_owned(), value.to_string()])
            }
            Ok(value) => Json::from(vec![value.kind().to_owned(), value.to_json().to_string()]),
        },
    }
}

/// Brings two answers to one form: JSON that is equal but for spaces and the writing of numbers is equal.
fn same(a: &Json, b: &Json) -> bool {
    fn as_floats(json: &Json) -> Json {
        match json {
            Json::Number(number) => number.as_f64().into(),
            Json::Array(items) => items.iter().map(as_floats).collect(),
            Json::Object(map) => map.iter().map(|(k, v)| (k.clone(), as_floats(v))).collect(),
            other => other.clone(),
        }
    }
    let parts = |json: &Json| -> Option<(String, Json)> {
        let kind = json[0].as_str()?.to_owned();
        let text = json[1].as_str()?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        Some((kind, if json[0] == "Number" { text.into() } else { as_floats(&value) }))
    };
    a == b || (parts(a).is_some() && parts(a) == parts(b))
}

/// Evaluates expressions with GitHub's evaluator.
fn theirs(expressions: &[String]) -> anyhow::Result<Vec<Json>> {
    let evaluator = crate::top().join(EVALUATOR);
    if !evaluator.is_file() {
        crate::needs::install_data()?;
    }
    let script = crate::top().join("xtask/src/suites/oracle.mjs");
    let mut input = CONTEXTS.replace('\n', " ");
    for expression in expressions {
        write!(input, "\n{}", Json::from(expression.as_str()))?;
    }
    let output = Program::new("node")
        .args([&script, &evaluator])
        .input(input)
        .output(LIMIT, MOST_BYTES)
        .context("cannot ask GitHub's evaluator")?;
    let answers = String::from_utf8(output.stdout)?;
    let answers: Vec<Json> = answers.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    if answers.len() != expressions.len() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("GitHub's evaluator answered {} of {}: {said}", answers.len(), expressions.len());
    }
    Ok(answers)
}

/// The seed of the slice is always the same.
pub(super) fn slice(_: &Path) -> Measured {
    compare(SLICE).map(|(cases, missed, _)| (cases, missed))
}

/// Evaluates all, and returns what was covered as well, as lines.
pub(super) fn all() -> anyhow::Result<(usize, Vec<String>, String)> {
    compare(ALL)
}

/// Returns how many were compared, those that differ, as short as they still do, and what was covered.
fn compare(count: usize) -> anyhow::Result<(usize, Vec<String>, String)> {
    let mut generator = Generator { random: Rng::with_seed(1) };
    let contexts: Json = serde_json::from_str(CONTEXTS)?;
    let mut known = Contexts::new();
    known.set("github", &contexts["github"]);
    let mut covered: BTreeMap<Feature, usize> = BTreeMap::new();
    let systematic = OPERANDS.len() * OPERANDS.len() * OPERATORS.len() + FUNCTIONS.len() * 100;
    let mut expressions = Vec::with_capacity(count);
    for place in 0..count {
        // A slice is of all parts.
        let number =
            if count < systematic { generator.random.usize(0..2 * systematic) } else { place };
        let (expression, features) = generator.expression(number);
        for feature in features {
            *covered.entry(feature).or_default() += 1;
        }
        expressions.push(expression);
    }
    let answers = theirs(&expressions)?;
    let different: Vec<String> = expressions
        .iter()
        .zip(&answers)
        .filter(|(expression, theirs)| !same(&ours(expression, &known), theirs))
        .map(|(expression, _)| expression.clone())
        .collect();
    let mut shown = shrunk(different, &known)?;
    shown.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let again = theirs(&shown)?;
    let missed = shown.iter().zip(again).map(|(expression, theirs)| {
        format!("{expression}: {} here, {theirs} there", ours(expression, &known))
    });
    let mut table = String::new();
    for (feature, times) in &covered {
        writeln!(table, "{times:7}  {feature}")?;
    }
    Ok((count, missed.collect(), table))
}

/// How many expressions that differ are made shorter; the others are shown as they are.
const MOST_SHRUNK: usize = 100;

/// Makes expressions that differ as short as they can be by taking parts out, and differ still.
fn shrunk(mut expressions: Vec<String>, known: &Contexts) -> anyhow::Result<Vec<String>> {
    loop {
        let mut candidates: Vec<(usize, String)> = Vec::new();
        for (place, expression) in expressions.iter().take(MOST_SHRUNK).enumerate() {
            candidates.extend(shorter(expression).into_iter().map(|text| (place, text)));
        }
        let texts = candidates.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
        let (answers, kinds) = (theirs(&texts)?, kinds(&expressions, known)?);
        let mut changed = false;
        for ((place, text), theirs) in candidates.into_iter().zip(&answers) {
            let ours = ours(&text, known);
            let is_alike = kind(&ours) == kinds[place].0 && kind(theirs) == kinds[place].1;
            if text.len() < expressions[place].len() && is_alike && !same(&ours, theirs) {
                expressions[place] = text;
                changed = true;
            }
        }
        if !changed {
            return Ok(expressions);
        }
    }
}

/// Names the kind of the value here, and there.
type Kinds = (String, String);

fn kinds(expressions: &[String], known: &Contexts) -> anyhow::Result<Vec<Kinds>> {
    let theirs = theirs(expressions)?;
    let pairs = expressions.iter().zip(&theirs);
    Ok(pairs.map(|(text, theirs)| (kind(&ours(text, known)), kind(theirs))).collect())
}

/// Names the kind of a value, or of an error.
fn kind(answer: &Json) -> String {
    answer.as_str().or(answer[0].as_str()).unwrap_or_default().to_owned()
}

/// Returns an expression without each run of its words and signs.
fn shorter(expression: &str) -> Vec<String> {
    let pieces = pieces(expression);
    let mut all = Vec::new();
    for from in 0..pieces.len() {
        for to in from + 1..=pieces.len() {
            if to - from < pieces.len() {
                all.push([&pieces[..from], &pieces[to..]].concat().concat());
            }
        }
    }
    all
}

/// Splits an expression into words, quoted texts and signs.
fn pieces(expression: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut pieces = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '\'' => rest[1..].find('\'').map(|end| end + 2),
            c if is_word(c) => rest.find(|c: char| !is_word(c)),
            c => Some(c.len_utf8()),
        };
        let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_out() {
        assert_eq!(pieces("!a.b == 'c d'"), ["!", "a", ".", "b", " ", "=", "=", " ", "'c d'"]);
        let shorter = shorter("a.b");
        assert_eq!(shorter, [".b", "b", "ab", "a", "a."]);
    }

    #[test]
    fn what_differs_is_made_short() {
        let mut known = Contexts::new();
        known.set("github", &serde_json::json!({}));
        // Here the context is empty, and GitHub's evaluator is asked with one that is not.
        let differs = "contains('a', 'b') || github.list[0] == 1".to_owned();
        assert_eq!(shrunk(vec![differs], &known).unwrap(), ["github.list[0]==1"]);
    }
}
