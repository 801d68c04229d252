//! `steps`.

use std::collections::{HashMap, HashSet};

use super::fields::Reader;
use crate::diagnostic::{Problem, Rule};
use crate::scopes;
use crate::template::Template;
use crate::workflow::{Action, Setting, Step};
use crate::yaml::{Entry, Node, Yaml};

const KEYS: [&str; 11] = [
    "id",
    "name",
    "if",
    "run",
    "uses",
    "with",
    "shell",
    "env",
    "working-directory",
    "timeout-minutes",
    "continue-on-error",
];

const UNSUPPORTED: [&str; 5] = ["background", "wait", "wait-all", "cancel", "parallel"];

const CHECKOUT_INPUTS: [&str; 4] = ["ref", "path", "fetch-depth", "persist-credentials"];

/// The inputs of `actions/checkout` that muster does not have yet.
const CHECKOUT_UNSUPPORTED: [&str; 19] = [
    "repository",
    "token",
    "ssh-key",
    "ssh-known-hosts",
    "ssh-strict",
    "ssh-user",
    "clean",
    "filter",
    "sparse-checkout",
    "sparse-checkout-cone-mode",
    "fetch-tags",
    "show-progress",
    "lfs",
    "submodules",
    "set-safe-directory",
    "github-server-url",
    "allow-unsafe-pr-checkout",
    "object-format",
    "clean-submodules",
];

/// The raw parts of a step until it is known what it does.
#[derive(Default)]
struct Raw<'n> {
    id: Option<String>,
    run: Option<Template>,
    uses: Option<(String, &'n Node)>,
    with: Option<&'n Entry>,
    shell: Option<(Template, &'n Entry)>,
    working_directory: Option<(Template, &'n Entry)>,
}

impl Reader {
    pub(super) fn steps(&mut self, node: &Node) -> Vec<Step> {
        let Yaml::Sequence(items) = &node.yaml else {
            self.wrong_kind(node, "`steps`", "a list");
            return Vec::new();
        };
        let mut steps: Vec<Step> = Vec::new();
        let mut ids = Ids::default();
        for item in items {
            let Some(step) = self.step(item, &mut ids) else {
                continue;
            };
            if !ids.taken.insert(step.id.to_ascii_lowercase()) {
                let message = format!("step id `{}` is already defined", step.id);
                self.problems.push(Problem::invalid(step.span, message).of(Rule::Id));
            }
            steps.push(step);
        }
        steps
    }

    fn step(&mut self, node: &Node, ids: &mut Ids) -> Option<Step> {
        let entries = self.mapping(node, "a step")?;
        let mut raw = Raw::default();
        let mut step = Step {
            id: String::new(),
            span: entries.first().map_or(node.span, |entry| entry.key_span),
            name: None,
            condition: None,
            env: Vec::new(),
            timeout_minutes: None,
            continue_on_error: Setting::Fixed(false),
            action: Action::Run {
                script: Template::literal(node.span, ""),
                shell: None,
                working_directory: None,
            },
        };
        let refused_before = self.problems.len();
        for entry in entries {
            self.step_key(&mut step, &mut raw, entry);
        }
        let refused = self.problems.len() > refused_before;
        step.action = match (raw.run.take(), raw.uses.take()) {
            (Some(script), None) => self.script(script, &raw),
            (None, Some((uses, at))) => self.uses(uses, at, &raw)?,
            (Some(_), Some((_, at))) => {
                self.invalid(at.span, "a step has either `run` or `uses`, this has both");
                return None;
            }
            // A key that was refused may have been what the step does.
            (None, None) if refused => return None,
            (None, None) => {
                self.invalid(step.span, "a step needs `run` or `uses`");
                return None;
            }
        };
        step.id = raw.id.unwrap_or_else(|| ids.generate(&step.action));
        Some(step)
    }

    fn step_key<'n>(&mut self, step: &mut Step, raw: &mut Raw<'n>, entry: &'n Entry) {
        let node = &entry.value;
        match entry.key.as_str() {
            "id" => {
                raw.id = self.string(node, "`id`");
                if let Some(id) = raw.id.clone() {
                    self.identifier(&id, node.span, "step");
                }
            }
            "name" if matches!(node.yaml, Yaml::Null) => {}
            "name" => step.name = self.template(node, "`name`", scopes::STEP),
            "if" => step.condition = self.condition(node, scopes::STEP_IF),
            // Empty is a text, too: a script that does nothing.
            "run" if matches!(node.yaml, Yaml::Null) => {
                raw.run = Some(Template::literal(node.span, ""));
            }
            "run" => raw.run = self.template(node, "`run`", scopes::STEP),
            "uses" => raw.uses = self.string(node, "`uses`").map(|uses| (uses, node)),
            "with" => raw.with = Some(entry),
            "shell" => {
                raw.shell =
                    self.template(node, "`shell`", scopes::STEP).map(|shell| (shell, entry));
            }
            "working-directory" => {
                raw.working_directory = self
                    .template(node, "`working-directory`", scopes::STEP)
                    .map(|folder| (folder, entry));
            }
            "env" => step.env = self.env(node, scopes::STEP),
            "timeout-minutes" => {
                step.timeout_minutes = Some(self.minutes(node, "`timeout-minutes`", scopes::STEP));
            }
            "continue-on-error" => {
                step.continue_on_error = self.flag(node, "`continue-on-error`", scopes::STEP);
            }
            _ => self.unknown_key(entry, "a step", &KEYS, &UNSUPPORTED),
        }
    }

    fn script(&mut self, script: Template, raw: &Raw<'_>) -> Action {
        if let Some(with) = raw.with {
            self.invalid(with.key_span, "`with` belongs to `uses`, this step has `run`");
        }
        Action::Run {
            script,
            shell: raw.shell.as_ref().map(|(shell, _)| shell.clone()),
            working_directory: raw.working_directory.as_ref().map(|(folder, _)| folder.clone()),
        }
    }

    fn uses(&mut self, uses: String, at: &Node, raw: &Raw<'_>) -> Option<Action> {
        for (_, entry) in raw.shell.iter().chain(&raw.working_directory) {
            let message = format!("`{}` belongs to `run`, this step has `uses`", entry.key);
            self.invalid(entry.key_span, message);
        }
        let name = uses.split('@').next().unwrap_or_default();
        if !uses.starts_with("./")
            && !uses.starts_with("$/")
            && !uses.starts_with("docker://")
            && !uses.contains('@')
        {
            let message = format!("`{uses}` names no version; write `owner/repo@ref`");
            self.invalid(at.span, message);
            return None;
        }
        if !name.eq_ignore_ascii_case("actions/checkout") {
            self.unsupported(at.span, format!("action `{uses}`"));
            return None;
        }
        let [git_ref, path, fetch_depth, persist_credentials] = self.checkout_inputs(raw.with);
        Some(Action::Checkout { uses, git_ref, path, fetch_depth, persist_credentials })
    }

    fn checkout_inputs(&mut self, with: Option<&Entry>) -> [Option<Template>; 4] {
        let mut inputs = [None, None, None, None];
        let entries = match with {
            Some(with) if !matches!(with.value.yaml, Yaml::Null) => {
                self.mapping(&with.value, "`with`").unwrap_or_default()
            }
            _ => &[],
        };
        for entry in entries {
            match CHECKOUT_INPUTS.iter().position(|input| *input == entry.key) {
                Some(place) if !matches!(entry.value.yaml, Yaml::Null) => {
                    let what = format!("input `{}`", entry.key);
                    inputs[place] = self.template(&entry.value, &what, scopes::STEP);
                }
                Some(_) => {}
                None => {
                    let place = "the input list of actions/checkout";
                    self.unknown_key(entry, place, &CHECKOUT_INPUTS, &CHECKOUT_UNSUPPORTED);
                }
            }
        }
        inputs
    }
}

/// The ids of the steps of a job.
#[derive(Default)]
struct Ids {
    /// In lower case.
    taken: HashSet<String>,
    /// How many of each kind were generated.
    generated: HashMap<&'static str, usize>,
}

impl Ids {
    /// Generates an id as GitHub does: `__run`, `__run_2`, `__actions_checkout`.
    fn generate(&mut self, action: &Action) -> String {
        let base = match action {
            Action::Run { .. } => "__run",
            Action::Checkout { .. } => "__actions_checkout",
        };
        let number = self.generated.entry(base).or_default();
        loop {
            *number += 1;
            let id = if *number == 1 { base.to_owned() } else { format!("{base}_{number}") };
            if !self.taken.contains(&id) {
                return id;
            }
        }
    }
}
