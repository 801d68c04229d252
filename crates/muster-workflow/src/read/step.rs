//! `steps`.

use std::collections::{HashMap, HashSet};

use super::Reader;
use super::fields::{condition, env, flag, number, template, templates, texts};
use crate::diagnostic::{Problem, Rule, Span};
use crate::keys;
use crate::token::{Kind, Token};
use crate::uses::Uses;
use crate::workflow::{Action, Setting, Step};

impl Reader {
    pub(super) fn steps(&mut self, token: &Token) -> Vec<Step> {
        let mut ids = Ids::default();
        let mut steps: Vec<Step> =
            token.items().iter().filter_map(|item| self.step(item, &mut ids)).collect();
        // Ids that are given are taken before any is made.
        for step in steps.iter_mut().filter(|step| step.id.is_empty()) {
            step.id = ids.make(&base(&step.action));
        }
        steps
    }

    fn step(&mut self, token: &Token, ids: &mut Ids) -> Option<Step> {
        let id = token.get(keys::ID);
        if let Some((id, text)) = id.and_then(|id| Some((id, id.text()?))) {
            let before = self.problems.len();
            self.identifier(text, id.span, "step");
            if !ids.take(text) && self.problems.len() == before {
                let message = format!("step id `{text}` is already defined");
                self.problems.push(Problem::invalid(id.span, message).of(Rule::Id));
            }
        }
        let first = token.pairs().first();
        Some(Step {
            id: id.and_then(Token::text).unwrap_or_default().to_owned(),
            span: first.map_or(token.span, |pair| pair.key.span),
            name: token
                .get(keys::NAME)
                .and_then(template)
                .filter(|name| name.as_literal() != Some("")),
            condition: token.get(keys::IF).and_then(condition),
            env: token.get(keys::ENV).map(env).unwrap_or_default(),
            timeout_minutes: token.get(keys::TIMEOUT_MINUTES).and_then(number),
            continue_on_error: token
                .get(keys::CONTINUE_ON_ERROR)
                .map_or(Setting::Fixed(false), flag),
            background: token
                .get(keys::BACKGROUND)
                .is_some_and(|value| matches!(value.kind, Kind::Bool(true))),
            action: self.action(token, ids)?,
        })
    }

    fn action(&mut self, token: &Token, ids: &Ids) -> Option<Action> {
        let get = |key: &str| token.get(key).and_then(template);
        for pair in token.pairs() {
            return Some(match pair.key.text() {
                Some(keys::RUN) => Action::Run {
                    script: template(&pair.value)?,
                    shell: get(keys::SHELL),
                    working_directory: get(keys::WORKING_DIRECTORY),
                },
                Some(keys::USES) => Action::Uses {
                    uses: self.uses(&pair.value)?,
                    with: token.get(keys::WITH).map(templates).unwrap_or_default(),
                },
                Some(keys::WAIT) => {
                    self.earlier(&pair.value, token, ids);
                    Action::Wait(texts(&pair.value))
                }
                Some(keys::WAIT_ALL) => {
                    if matches!(pair.value.kind, Kind::Bool(false)) {
                        self.invalid(pair.value.span, "`wait-all` must be true or nothing");
                    }
                    Action::WaitAll
                }
                Some(keys::CANCEL) => {
                    self.earlier(&pair.value, token, ids);
                    Action::Cancel(pair.value.text()?.to_owned())
                }
                Some(keys::PARALLEL) => self.parallel(&pair.value),
                _ => continue,
            });
        }
        None
    }

    /// A step can wait for, or cancel, only one that comes before it in the job.
    fn earlier(&mut self, targets: &Token, step: &Token, ids: &Ids) {
        let own = step.get(keys::ID).and_then(Token::text);
        for target in targets.one_or_more() {
            let Some(text) = target.text() else { continue };
            if own == Some(text) || !ids.has(text) {
                let message = format!("no step before this one has the id `{text}`");
                self.problems.push(Problem::invalid(target.span, message).of(Rule::Id));
            }
        }
    }

    /// What runs in parallel are steps that do something, and only one level of them.
    fn parallel(&mut self, token: &Token) -> Action {
        for item in token.items() {
            let is_step = [keys::RUN, keys::USES].iter().any(|key| item.get(key).is_some());
            let is_there = !matches!(item.kind, Kind::Wrong);
            if is_there && (!is_step || item.get(keys::BACKGROUND).is_some()) {
                let message = "in `parallel` a step has `run` or `uses`, and no `background`";
                self.invalid(Span { start: item.span.start, end: item.span.start }, message);
            }
        }
        Action::Parallel(self.steps(token))
    }

    fn uses(&mut self, token: &Token) -> Option<Uses> {
        let text = token.text()?;
        let uses = Uses::read(text);
        if uses.is_none() {
            let message = format!("`{text}` is no action");
            let hint = "write `owner/repository@ref`, `owner/repository/path@ref`, `./path` or `docker://image`";
            self.problems
                .push(Problem::invalid(token.span, message).of(Rule::Action).with_hint(hint));
        }
        uses
    }
}

/// Returns what the id of a step is made from that has none.
fn base(action: &Action) -> String {
    match action {
        Action::Run { .. } => "run".to_owned(),
        Action::Uses { uses, .. } => match uses {
            Uses::Docker(image) if image.is_empty() => "run".to_owned(),
            Uses::Docker(image) => image.clone(),
            Uses::Local(_) => "self".to_owned(),
            Uses::OwnRepository(_) => "selfRepository".to_owned(),
            Uses::Repository { owner, name, .. } => format!("{owner}/{name}"),
        },
        Action::Wait(_) => keys::WAIT.to_owned(),
        Action::WaitAll => keys::WAIT_ALL.to_owned(),
        Action::Cancel(_) => keys::CANCEL.to_owned(),
        Action::Parallel(_) => keys::PARALLEL.to_owned(),
    }
}

/// GitHub's bound on an id that it makes, in characters.
const MAX_MADE: usize = 100;

/// The ids of the steps of a job.
#[derive(Default)]
struct Ids {
    /// In lower case.
    taken: HashSet<String>,
    /// How many were made of each kind.
    made: HashMap<String, usize>,
}

impl Ids {
    fn has(&self, id: &str) -> bool {
        self.taken.contains(&id.to_ascii_lowercase())
    }

    /// Takes an id; false where it is taken.
    fn take(&mut self, id: &str) -> bool {
        self.taken.insert(id.to_ascii_lowercase())
    }

    /// Makes an id as GitHub does: `__run`, `__run_2`, `__actions_checkout`.
    fn make(&mut self, base: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let base: String = base.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        let base = format!("__{base}");
        let number = self.made.entry(base.clone()).or_default();
        loop {
            *number += 1;
            let suffix = if *number == 1 { String::new() } else { format!("_{number}") };
            let id = format!("{}{suffix}", &base[..base.len().min(MAX_MADE - suffix.len())]);
            if self.taken.insert(id.to_ascii_lowercase()) {
                return id;
            }
        }
    }
}
