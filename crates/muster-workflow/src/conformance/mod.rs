//! Answers to the cases of others, in their form: what GitHub's own parser makes of a workflow file.
//!
//! A case of the suite `reader` is a text of documents with lines `---` between them: options, a workflow, names and
//! texts of the workflows that it calls, and what is expected. The answer is the template that the parser of
//! GitHub's server prints, or the errors that it refuses the file with.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use crate::call::{Caller, MAX_NESTED, check_call};
use crate::diagnostic::{Problem, Span};
use crate::keys;
use crate::permissions::{Level, Permissions};
use crate::read;
use crate::template::ALONE;
use crate::token::{self, Kind, Places, Token};
use crate::workflow::{Job, Step, Workflow};
use crate::yaml::{self, Node};

/// Answers one case; `file` is the name of its file.
///
/// # Errors
///
/// A sentence, where the text is no case.
pub fn reader(file: &str, case: &str) -> Result<Json, String> {
    let documents = documents(case);
    let [options, workflow, rest @ ..] = documents.as_slice() else {
        return Err("a case needs options and a workflow, with a line `---` between them".into());
    };
    let (options, problems) = yaml::read(options);
    let options = options.filter(|_| problems.is_empty()).ok_or("the options are not YAML")?;
    // The last document is what is expected.
    let called = rest.len().saturating_sub(1) / 2;
    let pairs = rest.chunks_exact(2).take(called);
    let mut run = Run {
        options: Options::read(&options),
        files: pairs.map(|pair| (pair[0].trim().to_owned(), pair[1].clone())).collect(),
        table: Vec::new(),
        errors: Vec::new(),
        bytes: 0,
        jobs: 0,
    };
    let template = run.entry(&format!(".github/workflows/{file}"), workflow);
    Ok(if run.errors.is_empty() {
        template.unwrap_or_default()
    } else {
        let errors = run.errors.iter().map(|message| json!({ "Message": message }));
        json!({ "errors": errors.collect::<Vec<_>>() })
    })
}

fn documents(case: &str) -> Vec<String> {
    let mut documents = vec![Vec::new()];
    for line in case.lines() {
        match documents.last_mut() {
            Some(document) if line != "---" => document.push(line),
            _ => documents.push(Vec::new()),
        }
    }
    documents.into_iter().map(|lines| lines.join("\n")).collect()
}

/// How many jobs a case may come to, whatever it asks for: workflows that call each other multiply.
const MAX_JOBS: usize = 10_000;

struct Options {
    with_source: bool,
    /// As the parser of GitHub's editors reads `on`: by the letter, and it prints what it found.
    strict_events: bool,
    default: Permissions,
    max_height: usize,
    max_bytes: usize,
    max_jobs: usize,
    max_nested: usize,
}

impl Options {
    fn read(options: &Node) -> Self {
        let options = options.to_value().to_json();
        let number = |key: &str, default: usize| {
            options[key]
                .as_u64()
                .map_or(default, |number| usize::try_from(number).unwrap_or(default))
        };
        let skips = |parser: &str| {
            options["skip"].as_array().is_some_and(|skip| skip.iter().any(|name| name == parser))
        };
        Self {
            with_source: options["include-source"] == true,
            strict_events: skips("C#") && skips("Go"),
            default: match options["permissions-policy"].as_str() {
                Some("LimitedRead") => {
                    let mut read = Permissions::default();
                    read.grant("contents", Level::Read);
                    read.grant("packages", Level::Read);
                    read
                }
                _ => {
                    let mut write = Permissions::all(Level::Write);
                    write.grant("id-token", Level::None);
                    write
                }
            },
            max_height: number("max-depth", 50),
            max_bytes: number("max-result-size", 10 << 20),
            max_jobs: number("max-job-limit", usize::MAX),
            max_nested: number("max-nested-reusable-workflows-depth", MAX_NESTED),
        }
    }
}

/// One file with its number in the table of files.
struct File<'s> {
    number: usize,
    name: String,
    source: &'s str,
    root: Token,
    workflow: Workflow,
}

struct Run {
    options: Options,
    files: HashMap<String, String>,
    table: Vec<String>,
    errors: Vec<String>,
    bytes: usize,
    jobs: usize,
}

/// Where a workflow was called.
struct Calling<'c> {
    file: &'c str,
    source: &'c str,
    span: Span,
}

impl Calling<'_> {
    fn prefix(&self) -> String {
        let (line, column) = self.span.line_and_column(self.source);
        format!("In {} (Line: {line}, Col: {column}): Error from called workflow ", self.file)
    }
}

impl Run {
    fn entry(&mut self, name: &str, source: &str) -> Option<Json> {
        let file = self.read(name, source, None)?;
        let mut template = Map::new();
        let printer = Printer { file: &file, with_source: self.options.with_source };
        let root = |key: &str| file.root.get(key).map(|token| printer.token(token));
        if self.options.strict_events {
            template.insert("events".into(), events(file.root.get(keys::ON)));
        }
        let inputs = file.root.get(keys::ON).map(input_types).unwrap_or_default();
        if !inputs.is_empty() && !self.options.strict_events {
            template.insert("input-types".into(), Json::Object(inputs));
        }
        for key in [keys::ENV, keys::DEFAULTS, keys::CONCURRENCY] {
            template.extend(root(key).map(|token| (key.to_owned(), token)));
        }
        let permissions = file.workflow.permissions.clone();
        template.extend(
            permissions
                .as_ref()
                .map(|permissions| (keys::PERMISSIONS.to_owned(), granted(permissions))),
        );
        let jobs = self.print_jobs(&file, permissions.as_ref(), 1);
        if !self.errors.is_empty() {
            return None;
        }
        if !jobs.is_empty() {
            template.insert(keys::JOBS.into(), Json::Array(jobs));
        }
        if self.options.with_source {
            template.insert("file-table".into(), json!(self.table));
        }
        Some(Json::Object(template))
    }

    /// Reads a file; where it is wrong, adds the errors of the first stage that found some.
    fn read<'s>(
        &mut self,
        name: &str,
        source: &'s str,
        by: Option<&Calling<'_>>,
    ) -> Option<File<'s>> {
        let number = match self.table.iter().position(|known| known == name) {
            Some(place) => place + 1,
            None => {
                self.table.push(name.to_owned());
                self.bytes += 26 + 2 * name.encode_utf16().count();
                self.table.len()
            }
        };
        let prefix = by.map(Calling::prefix).unwrap_or_default();
        let say = |problem: &Problem| {
            let (line, column) = problem.span.line_and_column(source);
            format!("{prefix}{name} (Line: {line}, Col: {column}): {}", problem.message)
        };
        let (root, problems) = yaml::read(source);
        let Some(root) = root else {
            self.errors.extend(problems.iter().map(say));
            return None;
        };
        if yaml::size(&root).height > self.options.max_height {
            let max = self.options.max_height;
            self.errors.push(format!("{prefix}{name}: nested deeper than {max}"));
            return None;
        }
        let (root, more) = token::read(source, root, Places::Texts);
        let on = root.get(keys::ON);
        let is_loose =
            |problem: &Problem| !self.options.strict_events && is_only_the_editors(on, problem);
        let problems: Vec<Problem> =
            problems.into_iter().chain(more).filter(|problem| !is_loose(problem)).collect();
        self.bytes += root.bytes();
        if !problems.is_empty() {
            self.errors.extend(problems.iter().map(say));
            return None;
        }
        if self.bytes > self.options.max_bytes {
            let max = self.options.max_bytes;
            self.errors.push(format!("{prefix}{name}: what is read has more than {max} bytes"));
            return None;
        }
        let (workflow, problems) = read::convert(&root, Places::Texts, true);
        if !problems.is_empty() {
            self.errors.extend(problems.iter().map(say));
            return None;
        }
        self.jobs += workflow.jobs.len();
        if self.jobs > self.options.max_jobs {
            let max = self.options.max_jobs;
            self.errors.push(format!("{prefix}the run has more than {max} jobs"));
            return None;
        }
        Some(File { number, name: name.to_owned(), source, root, workflow })
    }

    fn print_jobs(
        &mut self,
        file: &File<'_>,
        most: Option<&Permissions>,
        depth: usize,
    ) -> Vec<Json> {
        let printer = Printer { file, with_source: self.options.with_source };
        let tokens = file.root.get(keys::JOBS).map(Token::pairs).unwrap_or_default();
        let mut jobs = Vec::new();
        for (pair, job) in tokens.iter().zip(&file.workflow.jobs) {
            let permissions = job.permissions.as_ref().or(most);
            let mut printed = printer.job(&pair.key, &pair.value, job);
            if job.call.is_some() {
                match self.called(file, job, permissions, depth) {
                    Some(called) => printed.extend(called),
                    None => return jobs,
                }
            } else if let Some(permissions) = permissions {
                printed.insert(keys::PERMISSIONS.into(), granted(permissions));
            }
            jobs.push(Json::Object(printed));
        }
        jobs
    }

    /// Loads the workflow that a job calls, and returns what it adds to the job.
    fn called(
        &mut self,
        file: &File<'_>,
        job: &Job,
        permissions: Option<&Permissions>,
        depth: usize,
    ) -> Option<Map<String, Json>> {
        let call = job.call.as_ref()?;
        if depth > self.options.max_nested {
            let max = self.options.max_nested;
            self.errors.push(format!("workflows call each other deeper than {max}"));
            return None;
        }
        if self.jobs > MAX_JOBS {
            self.errors.push(format!("the run has more than {MAX_JOBS} jobs"));
            return None;
        }
        let by = Calling { file: &file.name, source: file.source, span: call.span };
        let Some(source) = self.files.get(&call.uses).cloned() else {
            self.errors.push(format!("{}`{}` is not there", by.prefix(), call.uses));
            return None;
        };
        let called = self.read(&call.uses, &source, Some(&by))?;
        let caller = Caller { job, permissions, default: &self.options.default };
        let problems = check_call(caller, &called.workflow);
        for problem in &problems {
            let (line, column) = problem.span.line_and_column(file.source);
            let message = &problem.message;
            self.errors.push(format!("{} (Line: {line}, Col: {column}): {message}", file.name));
        }
        if !problems.is_empty() {
            return None;
        }
        let printer = Printer { file: &called, with_source: self.options.with_source };
        let mut printed = Map::new();
        let permissions = called.workflow.permissions.as_ref().or(permissions);
        printed.extend(
            permissions.map(|permissions| (keys::PERMISSIONS.to_owned(), granted(permissions))),
        );
        let interface = called.root.get(keys::ON).and_then(|on| on.get("workflow_call"));
        for (key, name) in [
            (keys::INPUTS, "input-definitions"),
            (keys::SECRETS, "secret-definitions"),
            (keys::OUTPUTS, "outputs"),
        ] {
            let token = interface.and_then(|interface| interface.get(key));
            printed.extend(token.map(|token| (name.to_owned(), printer.token(token))));
        }
        for (key, name) in [
            (keys::DEFAULTS, "defaults"),
            (keys::ENV, "env"),
            (keys::CONCURRENCY, "embedded-concurrency"),
        ] {
            printed
                .extend(called.root.get(key).map(|token| (name.to_owned(), printer.token(token))));
        }
        let jobs = self.print_jobs(&called, permissions, depth + 1);
        printed.insert(keys::JOBS.into(), Json::Array(jobs));
        self.errors.is_empty().then_some(printed)
    }
}

/// Returns true for a problem in `on` that the parser of the server leaves to another program.
fn is_only_the_editors(on: Option<&Token>, problem: &Problem) -> bool {
    let within = |token: &Token| {
        token.span.start <= problem.span.start && problem.span.start < token.span.end
    };
    let Some(on) = on.filter(|on| within(on)) else { return false };
    let is_expression = problem.rule == crate::diagnostic::Rule::Expression;
    !is_expression && !on.get("workflow_call").is_some_and(within)
}

/// Prints the parts of a file.
struct Printer<'f, 's> {
    file: &'f File<'s>,
    with_source: bool,
}

impl Printer<'_, '_> {
    /// Adds where something stands.
    fn at(&self, kind: u8, span: Span) -> Map<String, Json> {
        let mut object = Map::new();
        object.insert("type".into(), kind.into());
        if self.with_source {
            let (line, column) = span.line_and_column(self.file.source);
            object.insert("file".into(), self.file.number.into());
            object.insert("line".into(), line.into());
            object.insert("col".into(), column.into());
        }
        object
    }

    fn scalar(&self, kind: u8, span: Span, name: &str, value: Json) -> Json {
        if !self.with_source {
            return value;
        }
        let mut object = self.at(kind, span);
        if kind != 7 {
            object.insert(name.into(), value);
        }
        Json::Object(object)
    }

    fn expression(&self, span: Span, text: String) -> Json {
        let mut object = self.at(3, span);
        object.insert("expr".into(), text.into());
        Json::Object(object)
    }

    fn text(&self, token: &Token, text: &str) -> Json {
        self.scalar(0, token.span, "lit", text.into())
    }

    fn token(&self, token: &Token) -> Json {
        let span = token.span;
        match &token.kind {
            Kind::Wrong | Kind::Null => self.scalar(7, span, "", Json::Null),
            Kind::Bool(flag) => self.scalar(5, span, "bool", (*flag).into()),
            Kind::Number(number) => {
                self.scalar(6, span, "num", crate::expr::Value::Number(*number).to_json())
            }
            Kind::Text(text) => self.text(token, text),
            Kind::Expression(template) => self.expression(span, template.as_expression()),
            // A condition that stands in something else is printed as it is written.
            Kind::Condition(condition) if condition.is_bare => {
                self.text(token, &condition.as_expression())
            }
            Kind::Condition(condition) => self.expression(span, condition.as_expression()),
            Kind::Insert => {
                let mut object = self.at(4, span);
                object.insert("directive".into(), "insert".into());
                Json::Object(object)
            }
            Kind::List(items) => {
                let mut object = self.at(1, span);
                if !items.is_empty() {
                    let items = items.iter().map(|item| self.token(item)).collect();
                    object.insert("seq".into(), Json::Array(items));
                }
                Json::Object(object)
            }
            Kind::Map(pairs) => {
                let mut object = self.at(2, span);
                let pairs: Vec<Json> = pairs
                    .iter()
                    .map(|pair| json!({ "Key": self.token(&pair.key), "Value": self.token(&pair.value) }))
                    .collect();
                if !pairs.is_empty() {
                    object.insert("map".into(), Json::Array(pairs));
                }
                Json::Object(object)
            }
        }
    }

    fn condition(&self, of: &Token) -> Json {
        match of.get(keys::IF) {
            None => json!({ "type": 3, "expr": ALONE }),
            Some(token) => match &token.kind {
                Kind::Condition(condition) => self.expression(token.span, condition.written()),
                _ => self.expression(token.span, ALONE.to_owned()),
            },
        }
    }

    fn job(&self, id: &Token, token: &Token, job: &Job) -> Map<String, Json> {
        let is_call = job.call.is_some();
        let mut printed = Map::new();
        let kind = if is_call { "reusableWorkflowJob" } else { "job" };
        printed.insert("type".into(), kind.into());
        printed.insert("id".into(), self.token(id));
        let name = token.get(keys::NAME).filter(|name| name.text() != Some(""));
        printed.insert("name".into(), self.token(name.unwrap_or(id)));
        let needs = token.get(keys::NEEDS).map(Token::one_or_more).unwrap_or_default();
        if is_call || !needs.is_empty() {
            let needs = needs.iter().map(|need| self.token(need)).collect();
            printed.insert("needs".into(), Json::Array(needs));
        }
        printed.insert("if".into(), self.condition(token));
        let mut copy = |key: &str, name: &str| {
            printed.extend(token.get(key).map(|value| (name.to_owned(), self.token(value))));
        };
        copy(keys::STRATEGY, "strategy");
        copy(keys::CONCURRENCY, "concurrency");
        if is_call {
            copy(keys::USES, "ref");
            copy(keys::WITH, "input-values");
            if let Some(Token { kind: Kind::Map(_), .. }) = token.get(keys::SECRETS) {
                copy(keys::SECRETS, "secret-values");
            } else if token.get(keys::SECRETS).is_some() {
                printed.insert("inherit-secrets".into(), true.into());
            }
            return printed;
        }
        for key in [
            keys::CONTINUE_ON_ERROR,
            keys::TIMEOUT_MINUTES,
            keys::CANCEL_TIMEOUT_MINUTES,
            keys::ENV,
            keys::ENVIRONMENT,
            keys::DEFAULTS,
            keys::RUNS_ON,
            keys::CONTAINER,
            keys::SERVICES,
            keys::OUTPUTS,
            keys::SNAPSHOT,
        ] {
            copy(key, key);
        }
        let steps = self.steps(token.get(keys::STEPS), &job.steps);
        if !steps.is_empty() {
            printed.insert("steps".into(), Json::Array(steps));
        }
        printed
    }

    fn steps(&self, tokens: Option<&Token>, steps: &[Step]) -> Vec<Json> {
        let tokens = tokens.map(Token::items).unwrap_or_default();
        tokens.iter().zip(steps).map(|(token, step)| self.step(token, step)).collect()
    }

    fn step(&self, token: &Token, step: &Step) -> Json {
        use crate::workflow::Action;
        let mut printed = Map::new();
        printed.insert("id".into(), step.id.as_str().into());
        let default = match &step.action {
            Action::Run { .. } | Action::Uses { .. } => {
                printed.insert("if".into(), self.condition(token));
                None
            }
            Action::Wait(_) => Some("Wait"),
            Action::WaitAll => Some("Wait for all"),
            Action::Cancel(_) => Some("Cancel"),
            Action::Parallel(_) => Some("Parallel group"),
        };
        printed.extend(default.map(|name| ("name".to_owned(), name.into())));
        for key in [
            keys::NAME,
            keys::CONTINUE_ON_ERROR,
            keys::TIMEOUT_MINUTES,
            keys::ENV,
            keys::WORKING_DIRECTORY,
            keys::SHELL,
            keys::RUN,
            keys::USES,
            keys::WITH,
            keys::CANCEL,
        ] {
            printed.extend(token.get(key).map(|value| (key.to_owned(), self.token(value))));
        }
        if let Some(Token { kind: Kind::Bool(true), .. }) = token.get(keys::BACKGROUND) {
            printed.insert(keys::BACKGROUND.into(), true.into());
        }
        if let Some(targets) = token.get(keys::WAIT) {
            let targets = targets.one_or_more().iter().map(|target| self.token(target)).collect();
            printed.insert(keys::WAIT.into(), Json::Array(targets));
        }
        if token.get(keys::WAIT_ALL).is_some() {
            printed.insert(keys::WAIT_ALL.into(), true.into());
        }
        if let Action::Parallel(steps) = &step.action {
            let steps = self.steps(token.get(keys::PARALLEL), steps);
            printed.insert(keys::PARALLEL.into(), Json::Array(steps));
        }
        Json::Object(printed)
    }
}

fn granted(permissions: &Permissions) -> Json {
    let granted = permissions.iter().filter(|(_, level)| *level > Level::None);
    // The parser of the server knows these; what came later it does not print.
    Json::Object(granted.map(|(scope, level)| (scope.to_owned(), level.as_str().into())).collect())
}

fn input_types(on: &Token) -> Map<String, Json> {
    let inputs = on.get("workflow_dispatch").and_then(|dispatch| dispatch.get(keys::INPUTS));
    let pairs = inputs.map(Token::pairs).unwrap_or_default().iter();
    pairs
        .filter_map(|pair| {
            let kind = pair.value.get(keys::TYPE).and_then(Token::text).unwrap_or("string");
            Some((pair.key.text()?.to_owned(), kind.into()))
        })
        .collect()
}

/// Prints `on` as the parser of GitHub's editors does.
fn events(on: Option<&Token>) -> Json {
    let Some(on) = on else { return json!({}) };
    let mut events = Map::new();
    if !matches!(on.kind, Kind::Map(_)) {
        let names = on.one_or_more().iter().filter_map(Token::text);
        events.extend(names.map(|name| (name.to_owned(), json!({}))));
        return Json::Object(events);
    }
    for pair in on.pairs() {
        let mut printed = Map::new();
        for entry in pair.value.pairs() {
            let Some(key) = entry.key.text() else { continue };
            let value = match key {
                keys::INPUTS | keys::SECRETS | keys::OUTPUTS => plain(&entry.value),
                _ => Json::Array(entry.value.one_or_more().iter().map(plain).collect()),
            };
            printed.insert(key.to_owned(), value);
        }
        let value = match &pair.value.kind {
            Kind::List(_) => plain(&pair.value),
            _ => Json::Object(printed),
        };
        events.insert(pair.key.text().unwrap_or_default().to_owned(), value);
    }
    Json::Object(events)
}

fn plain(token: &Token) -> Json {
    match &token.kind {
        Kind::Map(pairs) => {
            let pairs = pairs
                .iter()
                .filter_map(|pair| Some((pair.key.text()?.to_owned(), plain(&pair.value))));
            Json::Object(pairs.collect())
        }
        Kind::List(items) => Json::Array(items.iter().map(plain).collect()),
        Kind::Bool(flag) => (*flag).into(),
        Kind::Number(number) => crate::expr::Value::Number(*number).to_json(),
        Kind::Text(text) => text.as_str().into(),
        _ => Json::Null,
    }
}
