//! `runs-on`: labels that GitHub's runners bear, and those that no runner bears together.

use super::Lint;
use crate::diagnostic::{Rule, Span};
use crate::expr::{Node, Value};
use crate::keys;
use crate::template::Part;
use crate::token::{Kind, Token};
use crate::words::nearest;

/// The labels of GitHub's own runners and of all that people run themselves, with the machine that a label names;
/// from the page
/// [Choosing the runner for a job](https://docs.github.com/en/actions/how-tos/write-workflows/choose-where-workflows-run/choose-the-runner-for-a-job).
const LABELS: [(&str, &[&str]); 39] = [
    ("ubuntu-latest", &["ubuntu-24.04"]),
    ("ubuntu-latest-4-cores", &["ubuntu-24.04"]),
    ("ubuntu-latest-8-cores", &["ubuntu-24.04"]),
    ("ubuntu-latest-16-cores", &["ubuntu-24.04"]),
    ("ubuntu-slim", &["ubuntu-24.04"]),
    ("ubuntu-26.04", &["ubuntu-26.04"]),
    ("ubuntu-26.04-arm", &["ubuntu-26.04"]),
    ("ubuntu-24.04", &["ubuntu-24.04"]),
    ("ubuntu-24.04-arm", &["ubuntu-24.04"]),
    ("ubuntu-22.04", &["ubuntu-22.04"]),
    ("ubuntu-22.04-arm", &["ubuntu-22.04"]),
    ("macos-latest", &["macos-15"]),
    ("macos-latest-large", &["macos-15-large"]),
    ("macos-latest-xlarge", &["macos-15-xlarge"]),
    ("macos-26", &["macos-26"]),
    ("macos-26-intel", &["macos-26-intel"]),
    ("macos-26-large", &["macos-26-large"]),
    ("macos-26-xlarge", &["macos-26-xlarge"]),
    ("macos-15", &["macos-15"]),
    ("macos-15-intel", &["macos-15-intel"]),
    ("macos-15-large", &["macos-15-large"]),
    ("macos-15-xlarge", &["macos-15-xlarge"]),
    ("macos-14", &["macos-14"]),
    ("macos-14-large", &["macos-14-large"]),
    ("macos-14-xlarge", &["macos-14-xlarge"]),
    ("windows-latest", &["windows-2022"]),
    ("windows-latest-8-cores", &["windows-2022"]),
    ("windows-2022", &["windows-2022"]),
    ("windows-2025", &["windows-2025"]),
    ("windows-2025-vs2026", &["windows-2025-vs2026"]),
    ("windows-11-arm", &["windows-11-arm"]),
    ("windows-11-vs2026-arm", &["windows-11-vs2026-arm"]),
    ("linux", &["ubuntu-26.04", "ubuntu-24.04", "ubuntu-22.04"]),
    (
        "macos",
        &[
            "macos-26",
            "macos-26-intel",
            "macos-26-large",
            "macos-26-xlarge",
            "macos-15",
            "macos-15-intel",
            "macos-15-large",
            "macos-15-xlarge",
            "macos-14",
            "macos-14-large",
            "macos-14-xlarge",
        ],
    ),
    (
        "windows",
        &[
            "windows-2022",
            "windows-2025",
            "windows-2025-vs2026",
            "windows-11-arm",
            "windows-11-vs2026-arm",
        ],
    ),
    ("self-hosted", &[]),
    ("x64", &[]),
    ("arm", &[]),
    ("arm64", &[]),
];

impl Lint<'_> {
    /// Checks the labels of a job; `job` is the whole of it, for its matrix.
    pub(super) fn runs_on(&mut self, runs_on: &Token, job: &Token) {
        let labels = match &runs_on.kind {
            // What the runners of a group bear its owner knows.
            Kind::Map(_) if runs_on.get(keys::GROUP).is_some() => None,
            Kind::Map(_) => runs_on.get(keys::LABELS),
            _ => Some(runs_on),
        };
        let labels = labels.map(Token::one_or_more).unwrap_or_default();
        let is_own = labels.iter().any(|label| is_own(label.text()));
        let mut machines: Option<(&'static [&'static str], String)> = None;
        for label in labels {
            let found = match &label.kind {
                Kind::Text(text) => vec![(text.clone(), label.span)],
                Kind::Expression(template) => from_matrix(template, job),
                _ => continue,
            };
            let mut of_label = None;
            for (text, span) in found {
                if !is_own {
                    self.label(&text, span);
                }
                let Some(of) = machines_of(&text).filter(|of| !of.is_empty()) else { continue };
                if let Some((before, named)) = &machines
                    && !of.iter().any(|machine| before.contains(machine))
                {
                    let message = format!("no runner bears both `{named}` and `{text}`");
                    self.say(span, Rule::RunnerLabel, message);
                }
                of_label = Some((of, text));
            }
            machines = machines.or(of_label);
        }
    }

    fn label(&mut self, text: &str, span: Span) {
        if machines_of(text).is_some() {
            return;
        }
        let message = match text {
            "" => "a label must not be empty".to_owned(),
            text => format!("no runner of GitHub bears the label `{text}`"),
        };
        match nearest(text, LABELS.iter().map(|(label, _)| *label)) {
            Some(near) => {
                self.say_with_hint(
                    span,
                    Rule::RunnerLabel,
                    message,
                    &format!("did you mean `{near}`?"),
                );
            }
            None => self.say_with_hint(
                span,
                Rule::RunnerLabel,
                message,
                "beside a label of your own write `self-hosted`",
            ),
        }
    }
}

fn is_own(label: Option<&str>) -> bool {
    label.is_some_and(|label| label.eq_ignore_ascii_case("self-hosted"))
}

fn machines_of(label: &str) -> Option<&'static [&'static str]> {
    let known = LABELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(label));
    known.map(|(_, machines)| *machines)
}

/// Returns the labels that `${{ matrix.name }}` stands for, as far as they are written down.
fn from_matrix(template: &crate::Template, job: &Token) -> Vec<(String, Span)> {
    let [Part::Expression(expr, _)] = template.parts() else { return Vec::new() };
    let Node::Index { of, by } = &expr.node else { return Vec::new() };
    let (Node::Context(context), Node::Literal(Value::String(name))) = (of.as_ref(), by.as_ref())
    else {
        return Vec::new();
    };
    if !context.eq_ignore_ascii_case("matrix") {
        return Vec::new();
    }
    let matrix = job.get(keys::STRATEGY).and_then(|strategy| strategy.get(keys::MATRIX));
    let row = matrix.and_then(|matrix| matrix.get(name)).map(Token::items).unwrap_or_default();
    let include = matrix.and_then(|matrix| matrix.get(keys::INCLUDE)).map(Token::items);
    let included = include.unwrap_or_default().iter().filter_map(|item| item.get(name));
    let values = row.iter().chain(included);
    values.filter_map(|value| Some((value.text()?.to_owned(), value.span))).collect()
}
