//! Answers to the cases of others, in their form: what GitHub's own parser makes of a workflow file.
//!
//! A case of the suite `reader` is a text of documents with lines `---` between them: options, a workflow, names and
//! texts of the workflows that it calls, and what is expected. The answer is the template that the parser of
//! GitHub's server prints, or the errors that it refuses the file with.

mod print;

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use self::print::{Printer, events, granted, input_types};
use crate::call::{Caller, MAX_FILES, MAX_NESTED, check_call};
use crate::diagnostic::{Problem, Span};
use crate::keys;
use crate::permissions::{Level, Permissions};
use crate::read;
use crate::token::{self, Places, Token};
use crate::workflow::{Job, Workflow};
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
        options: Options::read(&options)?,
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
        let errors =
            run.errors.iter().take(MAX_ERRORS).map(|message| json!({ "Message": message }));
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

/// The parser of the server stops at so many errors.
const MAX_ERRORS: usize = 10;

struct Options {
    with_source: bool,
    /// As the parser of GitHub's editors reads `on`: by the letter, and it prints what it found.
    strict_events: bool,
    default: Permissions,
    /// Whether workflows that are called are left alone.
    skip_called: bool,
    /// Whether the table of files is made of those that an earlier run has read, which are sorted.
    is_partial_rerun: bool,
    max_files: usize,
    /// In characters of UTF-16, one file.
    max_file_size: usize,
    max_height: usize,
    max_bytes: usize,
    max_jobs: usize,
    max_nested: usize,
}

impl Options {
    fn read(options: &Node) -> Result<Self, String> {
        let options = options.to_value().to_json();
        let number = |key: &str, default: usize| {
            options[key]
                .as_u64()
                .map_or(default, |number| usize::try_from(number).unwrap_or(default))
        };
        let skips = |parser: &str| {
            options["skip"].as_array().is_some_and(|skip| skip.iter().any(|name| name == parser))
        };
        let policy = options["permissions-policy"].as_str();
        Ok(Self {
            with_source: options["include-source"] == true,
            strict_events: skips("C#") && skips("Go"),
            default: match policy {
                Some("LimitedRead") => {
                    let mut read = Permissions::default();
                    read.grant("contents", Level::Read);
                    read.grant("packages", Level::Read);
                    read
                }
                None | Some("Write") => {
                    let mut write = Permissions::all(Level::Write);
                    write.grant("id-token", Level::None);
                    write
                }
                Some(policy) => {
                    return Err(format!("there is no `permissions-policy: {policy}`"));
                }
            },
            skip_called: options["skip-reusable-workflows"] == true,
            is_partial_rerun: options["is-partial-rerun"] == true,
            max_files: number("max-files", MAX_FILES),
            max_file_size: number("max-file-size", 1 << 20),
            max_height: number("max-depth", 50),
            max_bytes: number("max-result-size", 10 << 20),
            max_jobs: number("max-job-limit", usize::MAX),
            max_nested: number("max-nested-reusable-workflows-depth", MAX_NESTED),
        })
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
            if self.options.is_partial_rerun {
                self.table.sort();
            }
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
        let known = self.table.iter().position(|known| known == name);
        if known.is_none() && self.table.len() >= self.options.max_files {
            let max = self.options.max_files;
            self.errors.push(format!("more than {max} files are read"));
            return None;
        }
        if source.encode_utf16().count() > self.options.max_file_size {
            let max = self.options.max_file_size;
            self.errors.push(format!("{name}: larger than {max} characters"));
            return None;
        }
        let number = match known {
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
        if self.options.skip_called {
            return Some(Map::from_iter([(keys::JOBS.to_owned(), Json::Array(Vec::new()))]));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: &str = "\
on: push
jobs:
  a:
    uses: o/r/.github/workflows/b.yml@v1
  c:
    runs-on: x
    steps: [{run: echo}]
    timeout-minutes: 1e999";

    const CALLED: &str = "o/r/.github/workflows/b.yml@v1";

    fn answer(options: &str) -> Result<Json, String> {
        let called = "on: workflow_call\njobs: {d: {runs-on: x, steps: [{run: echo}]}}";
        reader(
            "z.yml",
            &format!("{options}\n---\n{CALLS}\n---\n{CALLED}\n---\n{called}\n---\n{{}}"),
        )
    }

    #[test]
    fn options_bound_and_change_what_is_read() {
        let files = |options: &str| answer(options).unwrap()["file-table"].clone();
        assert_eq!(files("include-source: true"), json!([".github/workflows/z.yml", CALLED]));
        let only = "include-source: true\nskip-reusable-workflows: true";
        assert_eq!(files(only), json!([".github/workflows/z.yml"]));
        let error = |options: &str| {
            let answer = answer(options).unwrap();
            answer["errors"][0]["Message"].as_str().unwrap_or_default().to_owned()
        };
        let larger = ".github/workflows/z.yml: larger than 20 characters";
        assert_eq!(error("max-file-size: 20"), larger);
        assert_eq!(error("max-files: 1"), "more than 1 files are read");
        let unknown = answer("permissions-policy: Wrong").unwrap_err();
        assert_eq!(unknown, "there is no `permissions-policy: Wrong`");
    }

    #[test]
    fn what_json_has_no_number_for_is_a_text() {
        assert_eq!(answer("").unwrap()["jobs"][1]["timeout-minutes"], json!("Infinity"));
    }
}
