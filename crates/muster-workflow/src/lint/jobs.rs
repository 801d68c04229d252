//! Jobs and steps: what is empty, below its bounds, out of date, or not there.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::Lint;
use crate::call::{Caller, MAX_PARTS, check_call, parts};
use crate::diagnostic::Rule;
use crate::keys;
use crate::permissions::{Level, Permissions};
use crate::template::OPEN;
use crate::token::{Kind, Pair, Token};
use crate::workflow::Job;

/// The shells that GitHub's runners know by name.
const SHELLS: [&str; 6] = ["bash", "pwsh", "python", "sh", "cmd", "powershell"];

impl Lint<'_> {
    pub(super) fn jobs(&mut self) {
        if let Some(env) = self.root.get(keys::ENV) {
            self.env(env);
        }
        self.defaults(self.root, None);
        for (pair, job) in self.jobs_with_tokens() {
            self.check_job(pair, job);
        }
    }

    fn check_job(&mut self, pair: &Pair, job: &Job) {
        let token = &pair.value;
        if job.call.is_none()
            && token.get(keys::STEPS).is_none()
            && matches!(token.kind, Kind::Map(_))
        {
            self.say(pair.key.span, Rule::Syntax, format!("job `{}` has no `steps`", job.id));
        }
        for property in token.pairs() {
            self.job_property(property, pair);
        }
        self.defaults(token, token.get(keys::RUNS_ON));
        if job.call.is_some() {
            self.calls(job);
        }
    }

    fn job_property(&mut self, pair: &Pair, job: &Pair) {
        let (value, token) = (&pair.value, &job.value);
        match pair.key.text() {
            Some(keys::NEEDS) => {
                self.not_empty(value, "`needs`");
                self.needs(value);
            }
            Some(keys::RUNS_ON) => {
                let labels = value.get(keys::LABELS);
                self.not_empty(labels.unwrap_or(value), "`runs-on`");
                self.runs_on(value, token);
            }
            Some(keys::STRATEGY) => {
                if let Some(most) = value.get(keys::MAX_PARALLEL) {
                    self.above_zero(most, "`max-parallel`", true);
                }
                if let Some(matrix) = value.get(keys::MATRIX) {
                    for (key, what) in [(keys::INCLUDE, "`include`"), (keys::EXCLUDE, "`exclude`")]
                    {
                        if let Some(items) = matrix.get(key)
                            && matches!(&items.kind, Kind::List(items) if items.is_empty())
                        {
                            self.say(items.span, Rule::Syntax, format!("{what} must not be empty"));
                        }
                    }
                    self.matrix(matrix);
                }
            }
            Some(keys::TIMEOUT_MINUTES) => self.above_zero(value, "`timeout-minutes`", false),
            Some(keys::ENV) => self.env(value),
            Some(keys::CONTAINER) => {
                // The word `null` may be the name of an image.
                if pair.value.text() == Some("") && !self.is_word(value.span) {
                    self.not_blank(value, "`container`");
                }
                self.container(value);
            }
            Some(keys::SERVICES) => {
                value.pairs().iter().for_each(|service| self.container(&service.value));
            }
            Some(keys::STEPS) => {
                self.not_empty(value, "`steps`");
                value.items().iter().for_each(|step| self.check_step(step, token));
            }
            _ => {}
        }
    }

    fn needs(&mut self, needs: &Token) {
        let mut seen = HashSet::new();
        for item in needs.items() {
            let Some(id) = item.text() else { continue };
            if !seen.insert(id.to_ascii_lowercase()) {
                self.say(item.span, Rule::JobNeeds, format!("`{id}` is in `needs` already"));
            }
        }
    }

    fn above_zero(&mut self, token: &Token, what: &str, is_whole: bool) {
        let Kind::Number(number) = token.kind else { return };
        if number <= 0.0 || (is_whole && number.fract() != 0.0) {
            let kind = if is_whole { "a whole number" } else { "a number" };
            self.say(token.span, Rule::Syntax, format!("{what} must be {kind} over 0"));
        }
    }

    fn env(&mut self, env: &Token) {
        for pair in env.pairs() {
            if let Some(name) = pair.key.text()
                && name.contains(['&', '=', ' ', '\t'])
            {
                let message = format!("`{name}` is no name that a shell takes for a variable");
                self.say(pair.key.span, Rule::EnvVar, message);
            }
        }
    }

    fn container(&mut self, container: &Token) {
        if let Some(env) = container.get(keys::ENV) {
            self.env(env);
        }
        let pairs = container.pairs().iter();
        let Some(pair) = pairs.into_iter().find(|pair| pair.key.text() == Some(keys::CREDENTIALS))
        else {
            return;
        };
        if !matches!(pair.value.kind, Kind::Map(_)) {
            return;
        }
        let (Some(_), Some(password)) =
            (pair.value.get(keys::USERNAME), pair.value.get(keys::PASSWORD))
        else {
            let message = "`credentials` need both `username` and `password`";
            return self.say(pair.key.span, Rule::Syntax, message);
        };
        // What is in quotes within an expression is written down as well, but looks after somebody who knows.
        let written = self.source.get(password.span.start..password.span.end).unwrap_or_default();
        if password.text().is_some() && !written.contains(OPEN) {
            let message = "a password is written into the file";
            let hint = "keep it as a secret, and write `${{ secrets.NAME }}`";
            self.say_with_hint(password.span, Rule::Credentials, message, hint);
        }
    }

    /// Checks the shell of `defaults.run`.
    fn defaults(&mut self, of: &Token, runs_on: Option<&Token>) {
        let run = of.get(keys::DEFAULTS).and_then(|defaults| defaults.get(keys::RUN));
        if let Some(shell) = run.and_then(|run| run.get(keys::SHELL)) {
            self.shell(shell, runs_on);
        }
    }

    fn shell(&mut self, shell: &Token, runs_on: Option<&Token>) {
        let Some(text) = shell.text().filter(|text| !text.contains("{0}")) else { return };
        let name = text.to_ascii_lowercase();
        let is_windows = system(runs_on).map(|system| system == "windows");
        let known = SHELLS.iter().filter(|shell| match is_windows {
            Some(true) => **shell != "sh",
            Some(false) => !matches!(**shell, "cmd" | "powershell"),
            None => true,
        });
        let known: Vec<&str> = known.copied().collect();
        if !known.contains(&name.as_str()) {
            let message = format!("`{text}` is no shell there");
            let hint = format!(
                "its shells are: {}; or write a command with `{{0}}` for the script",
                known.join(", ")
            );
            self.say_with_hint(shell.span, Rule::ShellName, message, &hint);
        }
    }

    fn check_step(&mut self, step: &Token, job: &Token) {
        for pair in step.pairs() {
            match pair.key.text() {
                Some(keys::ENV) => self.env(&pair.value),
                Some(keys::SHELL) => self.shell(&pair.value, job.get(keys::RUNS_ON)),
                Some(keys::TIMEOUT_MINUTES) => {
                    self.above_zero(&pair.value, "`timeout-minutes`", false);
                }
                Some(keys::RUN) => self.script(&pair.value),
                Some(keys::USES) => self.action(&pair.value, step),
                Some(keys::PARALLEL) => {
                    pair.value.items().iter().for_each(|step| self.check_step(step, job));
                }
                _ => {}
            }
        }
    }

    fn script(&mut self, script: &Token) {
        static COMMANDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(
                r"::(?:(save-state|set-output|set-env)\s+name=[a-zA-Z][a-zA-Z_-]*|(add-path))::\S+",
            )
            .ok()
        });
        let text = match &script.kind {
            Kind::Text(text) => text.clone(),
            Kind::Expression(template) => template.as_expression(),
            _ => return,
        };
        let found = COMMANDS.iter().flat_map(|regex| regex.captures_iter(&text));
        for captures in found {
            let name = captures.get(1).or_else(|| captures.get(2)).map_or("", |name| name.as_str());
            let file = match name {
                "save-state" => "GITHUB_STATE",
                "set-output" => "GITHUB_OUTPUT",
                "set-env" => "GITHUB_ENV",
                _ => "GITHUB_PATH",
            };
            let message = format!("command `{name}` is not taken any more");
            let hint = format!("append to the file that ${file} names");
            self.say_with_hint(script.span, Rule::DeprecatedCommands, message, &hint);
        }
    }

    /// Holds a call against a workflow of the same repository.
    fn calls(&mut self, job: &Job) {
        let Some(call) = &job.call else { return };
        let Some(called) = self.called(&call.uses) else { return };
        self.parts += parts(&called);
        if self.parts > MAX_PARTS {
            if self.parts - parts(&called) <= MAX_PARTS {
                let message = "the calls up to here have too many inputs and jobs together";
                self.say(call.span, Rule::WorkflowCall, message);
            }
            return;
        }
        // What the token may do at most is settled by the owner, not by the file.
        let default = Permissions::all(Level::Write);
        let permissions = job.permissions.as_ref().or(self.workflow.permissions.as_ref());
        self.problems.extend(check_call(Caller { job, permissions, default: &default }, &called));
    }
}

/// Returns the system that the labels of a job name, where they name one.
fn system(runs_on: Option<&Token>) -> Option<&'static str> {
    let labels = runs_on?.one_or_more().iter();
    let systems = labels.map(|label| {
        let label = label.text()?.to_ascii_lowercase();
        ["windows", "macos", "ubuntu", "linux"]
            .into_iter()
            .find(|system| label == *system || label.starts_with(&format!("{system}-")))
    });
    let systems: Vec<Option<&str>> = systems.collect();
    let known: Vec<&str> = systems.into_iter().flatten().collect();
    let first = *known.first()?;
    known.iter().all(|system| (*system == "windows") == (first == "windows")).then_some(first)
}
