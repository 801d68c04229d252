//! `on`.

use super::Reader;
use super::fields::{argument, template, texts};
use crate::cron::Cron;
use crate::diagnostic::{Problem, Rule, Span};
use crate::events;
use crate::keys;
use crate::pattern::{Filter, Patterns};
use crate::token::{Kind, Pair, Places, Token};
use crate::workflow::{Details, Input, InputKind, Interface, Schedule, Trigger};

/// How many bytes the patterns of all filters may have: each becomes a hundred when it is compiled.
const MAX_PATTERN_BYTES: usize = 200_000;

/// GitHub's bound on the inputs that people fill in.
const MAX_INPUTS: usize = 25;

/// Filters that exclude each other.
pub(crate) const PAIRS: [(&str, &str); 3] = [
    (keys::BRANCHES, keys::BRANCHES_IGNORE),
    (keys::TAGS, keys::TAGS_IGNORE),
    (keys::PATHS, keys::PATHS_IGNORE),
];

/// GitHub keeps this name for itself.
const RESERVED_SECRET: &str = "GITHUB_TOKEN";

impl Reader {
    pub(super) fn triggers(&mut self, token: &Token) -> Vec<Trigger> {
        let is_empty = match &token.kind {
            Kind::Map(pairs) => pairs.is_empty(),
            Kind::List(items) => items.is_empty(),
            _ => false,
        };
        if is_empty && self.is_well_formed {
            self.problems.push(Problem::invalid(token.span, "`on` names no event"));
        }
        if let Kind::Map(pairs) = &token.kind {
            return pairs.iter().filter_map(|pair| self.trigger(&pair.key, &pair.value)).collect();
        }
        let nothing = Token { span: token.span, kind: Kind::Null };
        token.one_or_more().iter().filter_map(|name| self.trigger(name, &nothing)).collect()
    }

    fn trigger(&mut self, name: &Token, value: &Token) -> Option<Trigger> {
        let mut trigger = Trigger {
            event: name.text()?.to_owned(),
            span: name.span,
            types: value.get(keys::TYPES).map(texts),
            branches: Vec::new(),
            tags: Vec::new(),
            paths: Vec::new(),
            details: self.details(name, value),
        };
        for pair in value.pairs() {
            let filters = match pair.key.text() {
                Some(keys::BRANCHES | keys::BRANCHES_IGNORE) => &mut trigger.branches,
                Some(keys::TAGS | keys::TAGS_IGNORE) => &mut trigger.tags,
                Some(keys::PATHS | keys::PATHS_IGNORE) => &mut trigger.paths,
                _ => continue,
            };
            filters.push(self.filter(pair));
        }
        self.one_way(&trigger.event, value);
        Some(trigger)
    }

    /// What selects and what ignores exclude each other.
    fn one_way(&mut self, event: &str, value: &Token) {
        if self.places == Places::Texts {
            // The parser leaves it to who decides what an event starts.
            return;
        }
        for (include, ignore) in PAIRS {
            let place =
                |key: &str| value.pairs().iter().position(|pair| pair.key.text() == Some(key));
            if let (Some(one), Some(other)) = (place(include), place(ignore)) {
                let later = &value.pairs()[one.max(other)].key;
                let message = format!("event `{event}` has both `{include}` and `{ignore}`");
                let hint = format!("use `{include}` with patterns that begin with `!`");
                let problem = Problem::invalid(later.span, message).of(Rule::Events);
                self.problems.push(problem.with_hint(hint));
            }
        }
    }

    fn filter(&mut self, pair: &Pair) -> Filter {
        let tokens = pair.value.one_or_more().iter();
        let given = tokens.filter_map(|token| Some((token.text()?, token.span)));
        let given: Vec<(&str, Span)> = given.collect();
        let was_too_many = self.pattern_bytes > MAX_PATTERN_BYTES;
        self.pattern_bytes += given.iter().map(|(text, _)| text.len()).sum::<usize>();
        let is_too_many = self.pattern_bytes > MAX_PATTERN_BYTES;
        if is_too_many && !was_too_many {
            let message = format!("the filters of a file have {MAX_PATTERN_BYTES} bytes at most");
            self.problems.push(Problem::invalid(pair.key.span, message).of(Rule::Glob));
        }
        let given = if is_too_many { Vec::new() } else { given };
        let patterns = Patterns::read(given, &mut self.problems);
        match pair.key.text() {
            Some(keys::BRANCHES_IGNORE | keys::TAGS_IGNORE | keys::PATHS_IGNORE) => {
                Filter::Ignore(patterns)
            }
            _ => Filter::Include(patterns),
        }
    }

    /// Reads what only some events carry.
    fn details(&mut self, event: &Token, value: &Token) -> Details {
        match event.text().unwrap_or_default() {
            events::SCHEDULE => {
                self.schedules(value);
                let text =
                    |item: &Token, key| item.get(key).and_then(Token::text).map(str::to_owned);
                let items = value.items().iter().filter_map(|item| {
                    Some(Schedule {
                        cron: text(item, keys::CRON)?,
                        timezone: text(item, keys::TIMEZONE),
                        span: item.get(keys::CRON)?.span,
                    })
                });
                Details::Schedule(items.collect())
            }
            events::WORKFLOW_DISPATCH => Details::Dispatch(self.dispatch_inputs(event.span, value)),
            events::WORKFLOW_CALL => {
                self.secrets(value);
                Details::Call(Interface {
                    inputs: self.call_inputs(value),
                    secrets: named(value, keys::SECRETS)
                        .map(|(name, token)| (name, is_required(token)))
                        .collect(),
                    outputs: named(value, keys::OUTPUTS)
                        .filter_map(|(name, token)| {
                            Some((name, template(token.get(keys::VALUE)?)?))
                        })
                        .collect(),
                })
            }
            events::WORKFLOW_RUN => {
                Details::Follows(value.get(keys::WORKFLOWS).map(texts).unwrap_or_default())
            }
            _ => Details::None,
        }
    }

    fn secrets(&mut self, call: &Token) {
        let secrets = call.get(keys::SECRETS).map(Token::pairs).unwrap_or_default();
        for pair in secrets {
            if pair.key.text().is_some_and(|name| name.eq_ignore_ascii_case(RESERVED_SECRET)) {
                let message =
                    format!("secret `{RESERVED_SECRET}` is always there, and is GitHub's own");
                self.problems.push(Problem::invalid(pair.key.span, message).of(Rule::Events));
            }
        }
    }

    /// A schedule must be one.
    fn schedules(&mut self, value: &Token) {
        for cron in value.items().iter().filter_map(|item| item.get(keys::CRON)) {
            if let Some(Err(why)) = cron.text().map(Cron::read) {
                self.problems.push(Problem::invalid(cron.span, why).of(Rule::Events));
            }
        }
    }

    /// A default must be of the type of its input.
    fn call_inputs(&mut self, value: &Token) -> Vec<Input> {
        let inputs = inputs(value);
        for input in &inputs {
            if let Some(default) = input.default.as_ref().filter(|value| !input.kind.takes(value)) {
                let message = format!(
                    "the default of input `{}` must be a {}",
                    input.name,
                    input.kind.name()
                );
                self.problems.push(Problem::invalid(default.span(), message).of(Rule::Events));
            }
        }
        inputs
    }

    /// A choice needs options, and nothing else has some; a boolean begins as one.
    fn dispatch_inputs(&mut self, event: Span, value: &Token) -> Vec<Input> {
        let inputs = inputs(value);
        let pairs = value.get(keys::INPUTS).map(Token::pairs).unwrap_or_default().iter();
        let written = pairs.filter(|pair| pair.key.text().is_some());
        if inputs.len() > MAX_INPUTS {
            let message =
                format!("`workflow_dispatch` has {} inputs, more than {MAX_INPUTS}", inputs.len());
            self.problems.push(Problem::invalid(event, message).of(Rule::Events));
        }
        for (input, written) in inputs.iter().zip(written) {
            let default = input.default.as_ref().filter(|_| input.kind == InputKind::Boolean);
            if let Some(default) = default.filter(|value| !input.kind.takes(value)) {
                let message =
                    format!("the default of input `{}` must be true or false", input.name);
                self.problems.push(Problem::invalid(default.span(), message).of(Rule::Events));
            }
            let options = written.value.get(keys::OPTIONS);
            let name = &input.name;
            let message = match (&input.kind, options) {
                (InputKind::Choice(options), _) if options.is_empty() => {
                    format!("input `{name}` is a choice, and needs `options`")
                }
                (InputKind::Choice(_), _) | (_, None) => continue,
                (kind, Some(_)) => {
                    format!("input `{name}` has `options`, but is a {}, not a choice", kind.name())
                }
            };
            self.problems.push(Problem::invalid(input.span, message).of(Rule::Events));
        }
        inputs
    }
}

fn named<'t>(value: &'t Token, key: &str) -> impl Iterator<Item = (String, &'t Token)> {
    let pairs = value.get(key).map(Token::pairs).unwrap_or_default().iter();
    pairs.filter_map(|pair| Some((pair.key.text()?.to_owned(), &pair.value)))
}

fn is_required(token: &Token) -> bool {
    matches!(token.get(keys::REQUIRED), Some(Token { kind: Kind::Bool(true), .. }))
}

fn kind(input: &Token) -> InputKind {
    match input.get(keys::TYPE).and_then(Token::text) {
        Some("boolean") => InputKind::Boolean,
        Some("number") => InputKind::Number,
        Some("choice") => {
            InputKind::Choice(input.get(keys::OPTIONS).map(texts).unwrap_or_default())
        }
        Some("environment") => InputKind::Environment,
        _ => InputKind::Text,
    }
}

fn inputs(value: &Token) -> Vec<Input> {
    let pairs = value.get(keys::INPUTS).map(Token::pairs).unwrap_or_default().iter();
    let inputs = pairs.filter_map(|pair| {
        Some(Input {
            name: pair.key.text()?.to_owned(),
            kind: kind(&pair.value),
            required: is_required(&pair.value),
            default: pair.value.get(keys::DEFAULT).and_then(argument),
            span: pair.key.span,
        })
    });
    inputs.collect()
}
