//! `jobs`.

use super::Reader;
use super::fields::{self, argument, condition, env, flag, number, template, templates, texts};
use super::needs::Needing;
use crate::container::DOCKER;
use crate::diagnostic::{Problem, Rule, Span};
use crate::keys;
use crate::preview::MAX_JOBS;
use crate::token::{Kind, Pair, Places, Token};
use crate::workflow::{Call, CallSecrets, Environment, Job, Setting};

/// GitHub's bound where a job names none, in minutes.
const DEFAULT_TIMEOUT: f64 = 360.0;

impl Reader {
    pub(super) fn jobs(&mut self, token: &Token) -> Vec<Job> {
        let pairs = token.pairs();
        if pairs.is_empty() && matches!(token.kind, Kind::Map(_)) {
            // Where one was refused, that has been said.
            if self.is_well_formed {
                self.invalid(token.span, "`jobs` is empty");
            }
            return Vec::new();
        }
        // A plan tells no more, so what is beyond need not be read.
        if pairs.len() > MAX_JOBS {
            let message = format!("`jobs` has {} jobs, more than {MAX_JOBS}", pairs.len());
            self.invalid(token.span, message);
            return Vec::new();
        }
        let jobs: Vec<Job> = pairs.iter().filter_map(|pair| self.job(pair)).collect();
        let needing: Vec<Needing> = pairs
            .iter()
            .filter_map(|pair| {
                let needs = pair.value.get(keys::NEEDS).map(Token::one_or_more).unwrap_or_default();
                let needs =
                    needs.iter().filter_map(|need| Some((need.text()?.to_owned(), need.span)));
                let id = pair.key.text()?.to_owned();
                Some(Needing { id, span: pair.key.span, needs: needs.collect() })
            })
            .collect();
        self.needs(&needing, token.span);
        jobs
    }

    fn job(&mut self, pair: &Pair) -> Option<Job> {
        let id = pair.key.text()?.to_owned();
        if !id.is_empty() {
            self.identifier(&id, pair.key.span, "job");
        }
        let mut job = Job {
            id,
            span: pair.key.span,
            name: None,
            needs: Vec::new(),
            condition: None,
            runs_on: Vec::new(),
            group: None,
            env: Default::default(),
            defaults: Default::default(),
            permissions: None,
            concurrency: None,
            environment: None,
            strategy: None,
            call: None,
            outputs: Vec::new(),
            timeout_minutes: Setting::Fixed(DEFAULT_TIMEOUT),
            continue_on_error: Setting::Fixed(false),
            container: None,
            services: Vec::new(),
            steps: Vec::new(),
        };
        for property in pair.value.pairs() {
            self.job_key(&mut job, property);
        }
        job.call = self.call(&pair.value);
        Some(job)
    }

    fn job_key(&mut self, job: &mut Job, pair: &Pair) {
        let value = &pair.value;
        match pair.key.text() {
            Some(keys::NAME) => job.name = template(value),
            Some(keys::NEEDS) => job.needs = texts(value),
            Some(keys::IF) => job.condition = condition(value),
            Some(keys::RUNS_ON) => {
                job.runs_on = self.runs_on(value);
                job.group = value.get(keys::GROUP).and_then(template);
            }
            Some(keys::PERMISSIONS) => job.permissions = fields::permissions(value),
            Some(keys::CONCURRENCY) => job.concurrency = self.concurrency(value),
            Some(keys::ENVIRONMENT) => {
                let name = value.get(keys::NAME).unwrap_or(value);
                let url = value.get(keys::URL).and_then(template);
                job.environment = template(name).map(|name| Environment { name, url });
            }
            Some(keys::OUTPUTS) => job.outputs = templates(value),
            Some(keys::ENV) => job.env = env(value),
            Some(keys::DEFAULTS) => job.defaults = fields::defaults(value),
            Some(keys::STRATEGY) => job.strategy = Some(self.strategy(value)),
            Some(keys::CONTINUE_ON_ERROR) => job.continue_on_error = flag(value),
            Some(keys::TIMEOUT_MINUTES) => {
                job.timeout_minutes = number(value).unwrap_or(Setting::Fixed(DEFAULT_TIMEOUT));
            }
            Some(keys::STEPS) => job.steps = self.steps(value),
            Some(keys::CONTAINER) => {
                self.container(pair, false);
                job.container = fields::container(value);
            }
            Some(keys::SERVICES) => {
                for service in value.pairs() {
                    self.container(service, true);
                    let name = service.key.text().map(str::to_owned);
                    job.services.extend(name.zip(fields::container(&service.value)));
                }
            }
            Some(keys::SNAPSHOT) => self.snapshot(value),
            _ => {}
        }
    }

    /// Reads the labels; what a group asks for is not run, but checked.
    fn runs_on(&mut self, token: &Token) -> Vec<crate::Template> {
        let labels = match &token.kind {
            Kind::Map(_) => {
                if let Some(group) = token.get(keys::GROUP) {
                    self.group(group);
                }
                token.get(keys::LABELS).map(Token::one_or_more).unwrap_or_default()
            }
            _ => token.one_or_more(),
        };
        labels.iter().filter_map(template).collect()
    }

    /// A group of runners is named alone, or with whose it is.
    fn group(&mut self, token: &Token) {
        let Some(text) = token.text() else { return };
        let fits = match text.split_once('/') {
            None => true,
            Some((owner, name)) => {
                let owners = ["org", "organization", "ent", "enterprise"];
                owners.contains(&owner) && !name.is_empty() && !name.contains('/')
            }
        };
        if !fits {
            let message = format!(
                "`{text}` is no group: write its name, `organization/name` or `enterprise/name`"
            );
            self.invalid(token.span, message);
        }
    }

    /// A container needs an image; that of a job may be empty, which is none.
    fn container(&mut self, pair: &Pair, is_service: bool) {
        let token = &pair.value;
        if token.is_computed() || matches!(token.kind, Kind::Wrong) {
            return;
        }
        let image = match &token.kind {
            Kind::Map(_) => match token.get(keys::IMAGE) {
                Some(image) if matches!(image.kind, Kind::Wrong) => return,
                Some(image) => image.text().unwrap_or_default(),
                None => return self.without_image(pair),
            },
            _ => token.text().unwrap_or_default(),
        };
        if image == DOCKER || (image.is_empty() && is_service) {
            self.without_image(pair);
        }
    }

    fn without_image(&mut self, container: &Pair) {
        let at = container.value.span.start;
        let span = match self.places {
            Places::Words | Places::Linted => container.key.span,
            Places::Texts => Span { start: at, end: at },
        };
        self.invalid(span, "a container needs an `image`");
    }

    /// The version of an image is `1.*`: what comes after the first number is counted by GitHub.
    fn snapshot(&mut self, token: &Token) {
        let Some(value) = token.get(keys::VERSION) else { return };
        let Some(version) = value.text() else { return };
        let is_right = version.strip_suffix(".*").is_some_and(|major| {
            major.bytes().all(|digit| digit.is_ascii_digit()) && major.parse::<i32>().is_ok()
        });
        if !is_right {
            let message = format!("version `{version}` of a snapshot must be like `1.*`");
            let span = match self.places {
                Places::Words | Places::Linted => value.span,
                Places::Texts => Span { start: token.span.start, end: token.span.start },
            };
            self.problems.push(Problem::invalid(span, message).of(Rule::Glob));
        }
    }

    /// Reads the workflow that a job calls.
    fn call(&mut self, job: &Token) -> Option<Call> {
        let uses = job.get(keys::USES)?;
        let text = uses.text()?;
        // One that is written as an expression is longer in the file than it is; that it is a text shows later.
        let is_plain = uses.span.end - uses.span.start <= text.len() + "''".len();
        if is_plain && !names_workflow(text) {
            let message = format!("`{text}` is no workflow that can be called");
            let hint = "write `owner/repository/.github/workflows/file.yml@ref` or `./.github/workflows/file.yml`";
            self.problems
                .push(Problem::invalid(uses.span, message).of(Rule::WorkflowCall).with_hint(hint));
        }
        let secrets = match job.get(keys::SECRETS) {
            Some(Token { kind: Kind::Text(_), .. }) => CallSecrets::Inherit,
            Some(token) => CallSecrets::Given(templates(token)),
            None => CallSecrets::Given(Vec::new()),
        };
        Some(Call {
            uses: text.to_owned(),
            span: uses.span,
            with: job
                .get(keys::WITH)
                .map(Token::pairs)
                .unwrap_or_default()
                .iter()
                .filter_map(|pair| Some((pair.key.text()?.to_owned(), argument(&pair.value)?)))
                .collect(),
            secrets,
        })
    }
}

/// Returns true for `./folder/file.yml`, `$/folder/file.yml` and `owner/repository/folder/file.yml@ref`.
fn names_workflow(text: &str) -> bool {
    let is_file = |path: &str| {
        let ending = path.rsplit_once('.').map(|(_, ending)| ending);
        matches!(ending, Some("yml" | "yaml"))
    };
    // They lie at the top of this folder.
    let is_at_top = |path: &str| {
        path.strip_prefix(".github/workflows/")
            .is_some_and(|name| !name.contains('/') && is_file(name))
    };
    if let Some(path) = text.strip_prefix("./").or_else(|| text.strip_prefix("$/")) {
        return is_at_top(path);
    }
    let Some((path, git_ref)) = text.split_once('@') else { return false };
    let parts: Vec<&str> = path.splitn(3, '/').collect();
    let [owner, name, file] = parts.as_slice() else { return false };
    !owner.is_empty() && !name.is_empty() && !git_ref.is_empty() && is_file(file)
}
