//! `muster lint`: what is wrong with workflow files.

use std::io::IsTerminal as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_workflow::diagnostic::{self, Places, Problem, Span, without_places};
use muster_workflow::text::one_line;
use muster_workflow::{Files, lint};
use serde_json::{Value, json};

use super::{CANNOT_RUN, GREEN, RED, complain, print, print_json, read_start};

/// Where workflows lie in a repository.
const FOLDERS: [&str; 2] = [".muster/workflows", ".github/workflows"];

/// More than a workflow may have: what is larger is refused for its size.
const MOST_BYTES: u64 = 2 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files, and folders of them; without any, those of the repository that this folder is in.
    paths: Vec<PathBuf>,
    /// How problems are written. On a terminal without it: with their lines.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// `path:line:column: message [rule]`, one a line.
    Text,
    /// A JSON object a line.
    Json,
    /// Workflow commands, which make annotations.
    Github,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let paths = match arguments.paths.as_slice() {
        [] => ours()?,
        paths => paths.to_vec(),
    };
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = workflows_below(&path)?;
            if found.is_empty() {
                bail!("no workflow in {}", path.display());
            }
            files.extend(found);
        } else {
            files.push(path);
        }
    }
    let mut exit = GREEN;
    for file in files {
        let path = file.to_string_lossy();
        let (source, problems) =
            match problems(&file, |source| lint(source, &Repository::of(&file))) {
                Ok(read) => read,
                Err(error) => {
                    // The others are told all the same.
                    complain(&error);
                    exit = CANNOT_RUN;
                    continue;
                }
            };
        match arguments.format {
            None if std::io::stdout().is_terminal() && !problems.is_empty() => {
                print(diagnostic::render(&path, &source, &problems).trim_end());
            }
            None => text(&path, &source, &problems),
            Some(Format::Text) => text(&path, &source, &problems),
            Some(Format::Json) => as_json(&path, &source, &problems),
            Some(Format::Github) => as_commands(&path, &source, &problems),
        }
        if !problems.is_empty() {
            exit = exit.max(RED);
        }
    }
    Ok(exit)
}

/// The repository that a workflow file is in: the nearest folder above it that has workflows, or is a work tree.
pub(super) struct Repository {
    top: Option<PathBuf>,
}

impl Repository {
    pub(super) fn of(file: &Path) -> Self {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let is_top = |folder: &&Path| {
            [".git", ".github", ".muster"].iter().any(|name| folder.join(name).exists())
        };
        Self { top: file.ancestors().skip(1).find(is_top).map(Path::to_owned) }
    }

    pub(super) fn at(top: &Path) -> Self {
        Self { top: Some(top.to_owned()) }
    }
}

impl Files for Repository {
    fn read(&self, path: &str) -> Option<String> {
        // A name that leads out of the repository is none of it.
        let is_within =
            Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        let file = self.top.as_ref()?.join(path);
        let is_file =
            std::fs::metadata(&file).is_ok_and(|file| file.is_file() && file.len() <= MOST_BYTES);
        (is_within && is_file).then(|| std::fs::read_to_string(file).ok()).flatten()
    }
}

/// Returns the folders of the repository that the current folder is in.
pub(super) fn ours() -> anyhow::Result<Vec<PathBuf>> {
    let here = std::env::current_dir().context("cannot find the current folder")?;
    let folders = here.ancestors().map(|top| FOLDERS.map(|folder| top.join(folder)));
    for folders in folders {
        let there: Vec<PathBuf> = folders.into_iter().filter(|folder| folder.is_dir()).collect();
        if !there.is_empty() {
            let short =
                |folder: PathBuf| folder.strip_prefix(&here).map_or(folder.clone(), Path::to_owned);
            return Ok(there.into_iter().map(short).collect());
        }
    }
    bail!("no {} here or above; name files", FOLDERS.join(" and no "))
}

/// Returns the workflows of a folder; of a repository, those in its folders for them.
fn workflows_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let own = FOLDERS.map(|below| folder.join(below));
    let mut files = Vec::new();
    for folder in own.iter().filter(|folder| folder.is_dir()) {
        files.extend(workflows_in(folder)?);
    }
    if files.is_empty() { workflows_in(folder) } else { Ok(files) }
}

pub(super) fn workflows_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file and returns what is wrong with it. A text that is no UTF-8 is wrong, not unreadable.
pub(super) fn problems(
    file: &Path,
    find: impl FnOnce(&str) -> Vec<Problem>,
) -> anyhow::Result<(String, Vec<Problem>)> {
    match String::from_utf8(read_start(file, MOST_BYTES)?) {
        Ok(source) => {
            let problems = find(&source);
            Ok((source, problems))
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let span = Span { start: at, end: at };
            let source = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Ok((source, vec![Problem::invalid(span, "not YAML: not UTF-8 from here on")]))
        }
    }
}

/// Writes a problem's message and hint on one line.
fn message(problem: &Problem) -> String {
    match &problem.hint {
        Some(hint) => one_line(&format!("{}; {hint}", problem.message)),
        None => one_line(&problem.message),
    }
}

pub(super) fn text(path: &str, source: &str, problems: &[Problem]) {
    let path = one_line(path);
    let mut places = Places::of(source);
    for problem in problems {
        let (line, column) = places.find(problem.span.start);
        let (message, rule) = (message(problem), problem.rule.name());
        let message = without_places(&message);
        print(format!("{path}:{line}:{column}: {message} [{rule}]"));
    }
}

fn as_json(path: &str, source: &str, problems: &[Problem]) {
    problem_json(path, source, problems).iter().for_each(|problem| print_json(problem));
}

/// Returns problems of a text as objects.
pub(super) fn problem_json(path: &str, source: &str, problems: &[Problem]) -> Vec<Value> {
    let mut places = Places::of(source);
    let object = |problem: &Problem| {
        let (line, column) = places.find(problem.span.start);
        json!({
            "path": path,
            "line": line,
            "column": column,
            "rule": problem.rule.name(),
            "message": problem.message,
            "hint": problem.hint,
        })
    };
    problems.iter().map(object).collect()
}

fn as_commands(path: &str, source: &str, problems: &[Problem]) {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut places = Places::of(source);
    for problem in problems {
        let (line, column) = places.find(problem.span.start);
        let (file, rule) = (property(&one_line(path)), problem.rule.name());
        let message = data(&message(problem));
        print(format!("::error file={file},line={line},col={column},title={rule}::{message}"));
    }
}
