use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use proptest::prelude::*;

use crate::diagnostic::{Problem, ProblemKind, render};
use crate::expr::{Contexts, Object};
use crate::suites::suite;
use crate::{PlannedJob, plan, read};

fn problems(source: &str) -> String {
    match read(source) {
        Ok(_) => "none".into(),
        Err(problems) => {
            problems.iter().map(|problem| problem.one_line("ci.yml", source) + "\n").collect()
        }
    }
}

fn planned(source: &str) -> Vec<PlannedJob> {
    let mut contexts = Contexts::new();
    contexts.set("github", Object::from_iter([("ref_name", "main")]));
    plan(&read(source).unwrap(), &contexts).unwrap()
}

fn names(source: &str) -> String {
    planned(source)
        .iter()
        .map(|job| format!("{} on {}\n", job.name, job.labels.join("+")))
        .collect()
}

#[test]
fn all_problems_of_a_file_are_said_at_once_with_their_places() {
    assert_snapshot!(problems(r#"
on: [push, pushed]
permissions: all
jobs:
  build:
    runs-on: ubuntu-latest
    needs: nothing
    container: node:20
    steps:
      - run: echo ${{ secret.TOKEN }}
      - uses: actions/setup-node@v4
      - uses: actions/checkout@v4
        with: {ref: main, lfs: true}
      - name: nothing to do
      - run: a
        runs: b
  1st:
    steps: []
"#), @r"
    ci.yml:2:12: `pushed` is no event that starts a workflow
    ci.yml:3:14: `permissions` must be read-all, write-all or a mapping of scopes, this is a string
    ci.yml:5:3: job `build` needs job `nothing`, which is not in this file
    ci.yml:8:5: key `container` of job `build` is not supported yet
    ci.yml:10:14: context `secret` is not available here; available: github, needs, strategy, matrix, job, runner, env, vars, secrets, steps, inputs in `secret.TOKEN`
    ci.yml:11:15: action `actions/setup-node@v4` is not supported yet
    ci.yml:13:27: key `lfs` of the input list of actions/checkout is not supported yet
    ci.yml:14:9: a step needs `run` or `uses`
    ci.yml:16:9: a step has no key `runs`
    ci.yml:17:3: `1st` is no job id: it must start with a letter or `_` (not `__`), hold only letters, digits, `-` and `_`, and have at most 100 characters
    ci.yml:17:3: job `1st` needs `runs-on`
    ");
}

#[test]
fn a_problem_is_drawn_with_a_caret_and_a_hint() {
    let source = "on: push\njobs:\n  é: &a\n    runs-on: x\n    step: []\n    steps: []\n";
    let problems = read(source).unwrap_err();
    assert_snapshot!(render(".github/workflows/ci.yml", source, &problems), @r"
    error: `é` is no job id: it must start with a letter or `_` (not `__`), hold only letters, digits, `-` and `_`, and have at most 100 characters
     --> .github/workflows/ci.yml:3:3
      |
    3 |   é: &a
      |   ^
    error: job `é` has no key `step`
     --> .github/workflows/ci.yml:5:5
      |
    5 |     step: []
      |     ^^^^
      |
      = help: its keys are: name, needs, if, runs-on, permissions, concurrency, outputs, env, defaults, strategy, continue-on-error, timeout-minutes, steps
    ");
}

#[test]
fn what_is_no_yaml_is_one_problem() {
    assert_snapshot!(problems("on: push\njobs:\n  a: [\n"), @"ci.yml:3:6: not YAML: unclosed bracket '['");
    assert_snapshot!(problems("a: *b\n"), @"ci.yml:1:4: not YAML: while parsing node, found unknown anchor");
    assert_snapshot!(problems(""), @"ci.yml:1:1: a workflow must be a mapping, this is nothing");
}

#[test]
fn a_cycle_of_needs_is_one_problem() {
    let source = "on: push\njobs:\n  z: {runs-on: x, steps: [{run: a}]}\n  a: {needs: b, runs-on: x, steps: [{run: a}]}\n  b: {needs: [z, a], runs-on: x, steps: [{run: a}]}\n";
    assert_snapshot!(problems(source), @"ci.yml:4:3: job `a` needs itself: a needs b needs a");
}

#[test]
fn aliases_that_multiply_are_bounded() {
    let levels = (1..40).map(|level| {
        let below = level - 1;
        format!("b{level}: &a{level} [*a{below}, *a{below}, *a{below}]\n")
    });
    let source = format!("a: &a0 [x]\n{}", levels.collect::<String>());
    assert!(problems(&source).contains("more than 50000 values"), "{}", problems(&source));
}

#[test]
fn jobs_are_named_as_github_names_their_checks() {
    assert_snapshot!(names(r"
on: push
jobs:
  plain: {runs-on: ubuntu-latest, steps: [{run: a}]}
  test:
    strategy:
      matrix:
        rust: [stable, 1.80]
        os: [ubuntu-latest, ubuntu-22.04]
        exclude: [{rust: 1.80, os: ubuntu-22.04}]
        include:
          - {rust: stable, os: ubuntu-latest, coverage: true}
          - {rust: nightly, os: ubuntu-latest}
    runs-on: ${{ matrix.os }}
    steps: [{run: a}]
  named:
    name: Lint
    strategy: {matrix: {tool: [clippy]}}
    runs-on: [self-hosted, linux]
    steps: [{run: a}]
  computed:
    name: Deploy ${{ github.ref_name }} to ${{ matrix.to }}
    strategy: {matrix: {include: [{to: staging, keys: [1, {a: b}]}]}}
    runs-on: ubuntu-latest
    steps: [{run: a}]
"), @r"
    plain on ubuntu-latest
    test (stable, ubuntu-latest, true) on ubuntu-latest
    test (stable, ubuntu-22.04) on ubuntu-22.04
    test (1.8, ubuntu-latest) on ubuntu-latest
    test (nightly, ubuntu-latest) on ubuntu-latest
    Lint (clippy) on self-hosted+linux
    Deploy main to staging on ubuntu-latest
    ");
}

#[test]
fn a_matrix_is_bounded() {
    let source = format!(
        "on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {{matrix: {{n: [{}], m: [{}]}}}}\n    steps: [{{run: a}}]\n",
        (0..20).map(|n| n.to_string()).collect::<Vec<_>>().join(","),
        (0..20).map(|n| n.to_string()).collect::<Vec<_>>().join(","),
    );
    let refused = plan(&read(&source).unwrap(), &Contexts::new()).unwrap_err();
    assert_snapshot!(refused[0].message, @"job `a`: the matrix has 400 legs, more than 256");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ext| ext == "yml" || ext == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn invalid(problems: &[Problem]) -> Option<&Problem> {
    problems.iter().find(|problem| problem.kind == ProblemKind::Invalid)
}

/// Each of these files ran on GitHub: muster may say "not supported yet", never "invalid".
#[test]
fn no_file_that_runs_at_github_is_called_invalid() {
    let Some(folder) = suite("real") else { return };
    let files = files(&folder);
    let mut wrong = Vec::new();
    for path in &files {
        let source = std::fs::read_to_string(path).unwrap();
        if let Err(problems) = read(&source)
            && let Some(problem) = invalid(&problems)
        {
            wrong.push(problem.one_line(&path.display().to_string(), &source));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    assert!(files.len() > 300, "only {} files found", files.len());
}

#[test]
fn schemastore_files_are_judged_as_the_suite_says() {
    let Some(folder) = suite("schemastore") else {
        return;
    };
    let mut wrong = Vec::new();
    for path in files(&folder.join("ok")) {
        let source = std::fs::read_to_string(&path).unwrap();
        if let Err(problems) = read(&source)
            && let Some(problem) = invalid(&problems)
        {
            wrong.push(problem.one_line(&path.display().to_string(), &source));
        }
    }
    for path in files(&folder.join("bad")) {
        // The inputs of an event that starts nothing here yet are not looked at.
        let unserved = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("workflow_dispatch"));
        if !unserved && read(&std::fs::read_to_string(&path).unwrap()).is_ok() {
            wrong.push(format!("{} was accepted", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

proptest! {
    #[test]
    fn never_panics(source in "[\\PC\n]{0,200}") {
        drop(problems(&source));
    }

    #[test]
    fn never_panics_on_what_looks_like_a_workflow(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "on: push", "on:", "  push:", "    branches: [a, '!b']", "jobs:", "  a:", "  b:",
                "    needs: a", "    runs-on: x", "    strategy:", "      matrix:", "        n: [1, 2]",
                "        include:", "          - n: 1", "    steps:", "      - run: a", "      - uses: b",
                "      - *x", "    env: &x", "      K: ${{ github.ref }}", "    if: ${{", "\u{feff}", "- é",
                "    timeout-minutes: -1", "  <<: *x", "    steps: !!int a",
            ]),
            0..25,
        )
    ) {
        let source = lines.join("\n");
        if let Ok(workflow) = read(&source) {
            drop(plan(&workflow, &Contexts::new()));
        }
        drop(problems(&source));
    }
}
