//! The commands of the language: `lint`, `plan`, `eval`, `filter`, `conformance`.

use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::process::Program;

use crate::scene::Done;

fn muster(folder: &Path, args: &[&str], input: &str) -> Done {
    let output = Program::new(env!("CARGO_BIN_EXE_muster"))
        .args(args)
        .dir(folder)
        .input(input)
        .output(Duration::from_secs(30), 16 << 20)
        .unwrap();
    Done::of(&output)
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const WRONG: &str = "name: CI
on:
  pull_requets: {types: [opened]}
  push: {branchs: [main]}
permissions: {contents: wirte}
jobs:
  test:
    runs-on: ubuntu-latest
    env: {TOKEN: \"${{ github.token }}\", WHERE: '${{ runner.os }}'}
    steps:
      - run: make
        uses: actions/checkout@v4
      - name: nothing to do
      - if: github.ref = 'main'
        run: echo ${{ secrets.TOKEN
      - run: echo ${{ matrix.os == }}
  lint:
    needs: [tests]
    run-on: linux
    steps: {run: make lint}
";

#[test]
fn every_problem_of_every_file_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let workflows = folder.path().join(".github/workflows");
    std::fs::create_dir_all(&workflows).unwrap();
    std::fs::write(workflows.join("wrong.yml"), WRONG).unwrap();
    std::fs::write(
        workflows.join("right.yaml"),
        "on: push\njobs:\n  a: {runs-on: linux, steps: [{run: y}]}\n",
    )
    .unwrap();
    let done = muster(folder.path(), &["lint"], "");
    assert_snapshot!(done.out, @"
    .github/workflows/wrong.yml:3:3: `pull_requets` is no event that starts a workflow; did you mean `pull_request`? [events]
    .github/workflows/wrong.yml:4:10: event `push` has no key `branchs`; did you mean `branches`? [syntax-check]
    .github/workflows/wrong.yml:5:25: `contents` must be `read`, `write` or `none`, this is `wirte`; did you mean `write`? [permissions]
    .github/workflows/wrong.yml:9:53: context `runner` is not available here; available: github, inputs, vars, needs, strategy, matrix, secrets [expression]
    .github/workflows/wrong.yml:12:9: a step with `run` has no key `uses`; its keys are: background, continue-on-error, env, id, if, name, run, shell, timeout-minutes, working-directory [syntax-check]
    .github/workflows/wrong.yml:13:9: an item of `steps` needs one of `cancel`, `run`, `uses`, `wait` or `wait-all` [syntax-check]
    .github/workflows/wrong.yml:14:24: unexpected symbol `=` [expression]
    .github/workflows/wrong.yml:15:14: `${{` is never closed with `}}` [expression]
    .github/workflows/wrong.yml:16:35: unexpected end of expression [expression]
    .github/workflows/wrong.yml:18:13: job `lint` needs job `tests`, which is not in this file; did you mean `test`? [job-needs]
    .github/workflows/wrong.yml:19:5: a job has no key `run-on`; did you mean `runs-on`? [syntax-check]
    .github/workflows/wrong.yml:20:12: `steps` must be a list, this is a mapping [syntax-check]
    ");
    assert_eq!((done.exit, done.err.as_str()), (Some(1), ""));
    // The same, from a folder below, and as a check of one file.
    let check = muster(folder.path(), &["plan", "--check", ".github/workflows/wrong.yml"], "");
    assert_eq!((check.exit, check.out), (Some(1), done.out));
    let below = folder.path().join("src");
    std::fs::create_dir(&below).unwrap();
    assert_eq!(muster(&below, &["lint"], "").exit, Some(1));
    let right = muster(folder.path(), &["lint", ".github/workflows/right.yaml"], "");
    assert_eq!((right.exit, right.out.as_str()), (Some(0), ""));
    let commands = muster(folder.path(), &["lint", "--format", "github"], "").out;
    assert_snapshot!(commands.lines().next().unwrap(), @"::error file=.github/workflows/wrong.yml,line=3,col=3,title=events::`pull_requets` is no event that starts a workflow; did you mean `pull_request`?");
    let json = muster(folder.path(), &["lint", "--format", "json"], "").out;
    assert_snapshot!(json.lines().next().unwrap(), @r#"{"path":".github/workflows/wrong.yml","line":3,"column":3,"rule":"events","message":"`pull_requets` is no event that starts a workflow","hint":"did you mean `pull_request`?"}"#);
}

#[test]
fn what_is_no_workflow_is_said_and_what_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ci.yml");
    let mut said = String::new();
    for bytes in [b"on: [push\n".as_slice(), b"", b"- a\n", b"on: \xff\n", b"on: push\0\n"] {
        std::fs::write(&file, bytes).unwrap();
        let done = muster(folder.path(), &["plan", "--check", "ci.yml"], "");
        assert_eq!((done.exit, done.err.as_str()), (Some(1), ""), "{bytes:?}");
        said.push_str(&done.out);
        said.push('\n');
    }
    assert_snapshot!(said, @r"
    ci.yml:1:5: not YAML: unclosed bracket '[' [syntax-check]

    ci.yml:1:1: a workflow must be a mapping, this is nothing [syntax-check]

    ci.yml:1:1: a workflow must be a mapping, this is a list [syntax-check]

    ci.yml:1:5: not YAML: not UTF-8 from here on [syntax-check]

    ci.yml:1:9: not YAML: unexpected character: `\u{0}' [syntax-check]
    ");
    let absent = muster(folder.path(), &["plan", "--check", "absent.yml"], "");
    assert_eq!((absent.exit, absent.out.as_str()), (Some(2), ""));
    assert_snapshot!(absent.err, @"error: cannot read absent.yml: No such file or directory (os error 2)");
    assert_eq!(muster(folder.path(), &["lint"], "").exit, Some(2));
}

/// Returns what is said of a file, and the exit code.
fn check(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ci.yml"), text).unwrap();
    let done = muster(folder.path(), &["plan", "--check", "ci.yml"], "");
    assert_eq!(done.err, "");
    (done.exit, done.out)
}

/// What took minutes or gigabytes once: the time is bounded by that of a command here.
#[test]
fn large_files_are_judged_at_once() {
    let job = |steps: &str| format!("on: push\njobs:\n  a: {{runs-on: x, steps: [{steps}]}}\n");
    // A text of more expressions than GitHub takes, and more wrong texts than anybody reads.
    let wrong = check(&job(&format!("{{run: '{}'}}", "${{ bad.x }}".repeat(60_000))));
    assert_eq!((wrong.0, wrong.1.lines().count()), (Some(1), 255));
    let wrong = check(&job(&"{run: '${{ bad.x }}'}, ".repeat(10_000)));
    assert_eq!((wrong.0, wrong.1.lines().count()), (Some(1), 1_001));
    assert_snapshot!(wrong.1.lines().last().unwrap(), @"ci.yml:3:23038: from here on there are more problems [syntax-check]");
    assert_eq!(check(&job(&"{run: x}, ".repeat(10_000))), (Some(0), String::new()));
    let keys: Vec<String> = (10_000..30_000).map(|number| format!("K{number}: v")).collect();
    let step = format!("{{run: x, env: {{{}}}}}", keys.join(", "));
    assert_eq!(check(&job(&step)), (Some(0), String::new()));
    let aliases = format!("x: &x '{}'\ny: [{}]\n", "x".repeat(500_000), "*x, ".repeat(4000));
    assert_snapshot!(check(&aliases).1, @"ci.yml:2:85: aliases stand for more than 10485760 bytes [syntax-check]");
    let depth: String = (1..40).fold("x0: &x0 [1]\n".to_owned(), |text, number| {
        let inner = format!("{}*x{}{}", "[".repeat(9), number - 1, "]".repeat(9));
        format!("{text}x{number}: &x{number} {inner}\n")
    });
    assert_snapshot!(check(&depth).1, @"ci.yml:7:18: nested deeper than 50 [syntax-check]");
    let patterns: Vec<String> = (0..2000).map(|number| format!("b{number}")).collect();
    let filter = format!(
        "on: {{push: {{branches: [{}]}}}}\njobs: {{a: {{runs-on: x, steps: []}}}}\n",
        patterns.join(", ")
    );
    assert_snapshot!(check(&filter).1.replace("b1000", "[b]"), @"ci.yml:1:5914: more than 1000 patterns [glob]");
    let folder = tempfile::tempdir().unwrap();
    let text = "x".repeat(1 << 20);
    let contexts = serde_json::json!({"x": text, "y": vec!["a"; 3000]});
    let format = format!("format('{}', x)", "{0}".repeat(3000));
    let lines = [format.as_str(), "join(y, x)"]
        .map(|expr| serde_json::json!({"expr": expr, "contexts": contexts}).to_string());
    assert_snapshot!(muster(folder.path(), &["eval", "--batch"], &lines.join("\n")).out, @r#"
    {"error":{"kind":"evaluation","message":"the expression builds more than 10485760 bytes"}}
    {"error":{"kind":"evaluation","message":"the expression builds more than 10485760 bytes"}}
    "#);
}

/// Each was called wrong, or said twice, by a stricter reader than GitHub's.
#[test]
fn what_github_takes_is_taken_and_one_fault_is_one_problem() {
    let taken = "name:
run-name:
on: push
permissions: {drives: read}
jobs:
  a:
    name:
    if: ''
    runs-on: x
    steps:
      - name:
        if:
        run:
      - uses: $/act
";
    assert_eq!(check(taken), (Some(0), String::new()));
    let wrong = "on: push
jobs:
  a: 3
  b: {needs: a, runs-on: x, steps: &steps [{run: x, bad: 1}]}
  c: {runs-on: x, steps: *steps}
";
    assert_snapshot!(check(wrong).1, @"
    ci.yml:3:6: `a` must be a mapping, this is a number [syntax-check]
    ci.yml:4:53: a step with `run` has no key `bad`; its keys are: background, continue-on-error, env, id, if, name, run, shell, timeout-minutes, working-directory [syntax-check]
    ");
    let folder = tempfile::tempdir().unwrap();
    let minus = muster(folder.path(), &["eval", "-1"], "");
    assert_eq!((minus.exit, minus.out.trim()), (Some(0), r#"{"kind":"Number","value":-1}"#));
    let lines = muster(
        folder.path(),
        &["filter", "--batch"],
        "{\"patterns\": [\"**\"], \"inputs\": [\"a\\nb\"], \"kind\": \"include\"}",
    );
    assert_eq!(lines.out.trim(), r#"{"run":true}"#);
    // A folder without workflows is no success, and a file that is not there keeps nothing from being told.
    assert_eq!(muster(folder.path(), &["lint", "."], "").exit, Some(2));
    std::fs::write(folder.path().join("bad.yml"), "on: pusch\n").unwrap();
    let both = muster(folder.path(), &["lint", "absent.yml", "bad.yml"], "");
    assert_eq!((both.exit, both.out.lines().count()), (Some(2), 2));
}

#[test]
fn expressions_are_evaluated_and_filters_judged() {
    let folder = tempfile::tempdir().unwrap();
    let eval =
        |args: &[&str], input: &str| muster(folder.path(), &[&["eval"], args].concat(), input);
    let one = eval(&["format('{0}-{1}', 'a', 1.50)"], "");
    assert_eq!((one.exit, one.out.trim()), (Some(0), r#"{"kind":"String","value":"a-1.5"}"#));
    std::fs::write(folder.path().join("contexts"), r#"{"github": {"z": [1], "a": 2}}"#).unwrap();
    let given = eval(&["github", "--contexts", "contexts"], "");
    assert_snapshot!(given.out.trim(), @r#"{"kind":"Object","value":{"z":[1],"a":2}}"#);
    let wrong = eval(&["env.HOME", "--contexts", "contexts"], "");
    assert_snapshot!(wrong.out.trim(), @r#"{"error":{"kind":"parsing","message":"context `env` is not available here; available: github, at character 1"}}"#);
    assert_eq!(wrong.exit, Some(1));
    let lines = [
        r#"{"expr": "fromJSON('[0, -0.0, 1e30]')"}"#,
        r#"{"expr": "inputs.n * 2"}"#,
        r#"{"expr": "1 &&"}"#,
        r#"{"expr": "fromJSON('{')"}"#,
        r#"{"expr": "x.y", "contexts": {"x": {"y": null}}}"#,
        r#"{"expr": "fromJSON('NaN') == 1"}"#,
        r#"{"expr": "NaN"}"#,
        r#"{"expr": "-Infinity"}"#,
        "nonsense",
        r#"{"expr": "success() && !failure()"}"#,
    ];
    let batch = eval(&["--batch"], &lines.join("\n"));
    assert_snapshot!(batch.out, @r#"
    {"kind":"Array","value":[0,0,1e+30]}
    {"error":{"kind":"parsing","message":"unexpected symbol `*`, at character 10"}}
    {"error":{"kind":"parsing","message":"unexpected end of expression, at character 5"}}
    {"error":{"kind":"evaluation","message":"fromJSON: EOF while parsing an object at line 1 column 1"}}
    {"kind":"Null","value":null}
    {"kind":"Boolean","value":false}
    {"kind":"Number","value":"NaN"}
    {"kind":"Number","value":"-Infinity"}
    {"error":{"kind":"input","message":"line 9 of the input: expected ident at line 1 column 2"}}
    {"kind":"Boolean","value":true}
    "#);
    assert_eq!(batch.exit, Some(2));
    let lines = [
        r#"{"patterns": ["releases/**", "!**-alpha"], "inputs": ["releases/1-alpha"], "kind": "include"}"#,
        r#"{"patterns": ["docs/**"], "inputs": ["docs/a", "src/b"], "kind": "ignore"}"#,
        r#"{"patterns": ["docs/**"], "inputs": ["docs/a"], "kind": "ignore"}"#,
        r#"{"patterns": ["[a"], "inputs": ["a"], "kind": "include"}"#,
    ];
    let filter = muster(folder.path(), &["filter", "--batch"], &lines.join("\n"));
    assert_snapshot!(filter.out, @r#"
    {"run":false}
    {"run":true}
    {"run":false}
    {"error":{"kind":"input","message":"line 4 of the input: `[a` is no filter pattern: `[` is never closed"}}
    "#);
}

#[test]
fn what_a_workflow_names_in_its_repository_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write(folder.path(), path, text);
    write(
        "tools/action.yml",
        "name: a\ndescription: b\ninputs: {level: {required: true}}\nruns: {using: composite, steps: []}\n",
    );
    write(
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n    - uses: ./tools\n    - uses: ./../tools\n    - uses: ./nowhere\n",
    );
    let done = muster(folder.path(), &["lint"], "");
    assert_snapshot!(done.out, @".github/workflows/ci.yml:6:13: `./tools` needs input `level` [action]");
}

/// A case of the suite `reader`, as others write them.
const CASE: &str = r"include-source: false
---
on: push
jobs:
  a:
    uses: o/r/.github/workflows/b.yml@v1
    with: {n: 1}
---
o/r/.github/workflows/b.yml@v1
---
on: {workflow_call: {inputs: {n: {type: number}}}}
jobs:
  b: {runs-on: x, steps: [{run: 'echo ${{ inputs.n }}'}]}
---
{}
";

#[test]
fn a_case_of_others_is_answered_in_their_form() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("case.yml"), CASE).unwrap();
    std::fs::write(folder.path().join("wrong.yml"), CASE.replace("type: number", "type: boolean"))
        .unwrap();
    let done = muster(folder.path(), &["conformance", "reader", "case.yml"], "");
    assert_eq!(done.exit, Some(0));
    let answer: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_snapshot!(answer, @r#"{"jobs":[{"type":"reusableWorkflowJob","id":"a","name":"a","needs":[],"if":{"type":3,"expr":"success()"},"ref":"o/r/.github/workflows/b.yml@v1","input-values":{"type":2,"map":[{"Key":"n","Value":1}]},"input-definitions":{"type":2,"map":[{"Key":"n","Value":{"type":2,"map":[{"Key":"type","Value":"number"}]}}]},"jobs":[{"type":"job","id":"b","name":"b","if":{"type":3,"expr":"success()"},"runs-on":"x","steps":[{"id":"__run","if":{"type":3,"expr":"success()"},"run":{"type":3,"expr":"format('echo {0}', inputs.n)"}}]}]}]}"#);
    let done = muster(folder.path(), &["conformance", "reader", "wrong.yml"], "");
    assert_snapshot!(done.out, @r#"
    {
      "errors": [
        {
          "Message": ".github/workflows/wrong.yml (Line: 5, Col: 15): input `n` must be a boolean"
        }
      ]
    }
    "#);
    let done = muster(folder.path(), &["conformance", "reader", "absent.yml"], "");
    assert_eq!(done.exit, Some(2));
}

#[test]
fn what_would_run_for_an_event_is_told_and_why_the_rest_would_not() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write(folder.path(), path, text);
    write(
        ".github/workflows/ci.yml",
        r"
name: CI
on:
  push: {branches: [main]}
  pull_request: {paths: [src/**], types: [opened]}
jobs:
  list:
    runs-on: ubuntu-latest
    outputs: {all: '[1]'}
    steps: [{run: a}]
  test:
    needs: list
    strategy: {matrix: {os: [linux, mac], node: [20], include: [{os: linux, fast: true}]}}
    runs-on: ${{ matrix.os }}
    steps: [{run: a}]
  each:
    needs: [list]
    strategy: {matrix: {n: '${{ fromJSON(needs.list.outputs.all) }}'}}
    runs-on: ubuntu-latest
    steps: [{run: a}]
  shared:
    strategy: {matrix: {to: [staging]}}
    uses: ./.github/workflows/deploy.yml
    with: {to: '${{ matrix.to }}'}
  elsewhere: {uses: o/r/.github/workflows/a.yml@v1}
  publish:
    needs: test
    if: github.ref == 'refs/heads/release'
    runs-on: ubuntu-latest
    steps: [{run: a}]
  announce: {needs: publish, runs-on: ubuntu-latest, steps: [{run: a}]}
  clean: {needs: publish, if: always(), runs-on: ubuntu-latest, steps: [{run: a}]}
  changed: {needs: list, if: needs.list.outputs.all, runs-on: ubuntu-latest, steps: [{run: a}]}
",
    );
    write(
        ".github/workflows/deploy.yml",
        r"
on: {workflow_call: {inputs: {to: {type: string}, force: {type: boolean}}}}
jobs:
  go: {name: 'To ${{ inputs.to }}', runs-on: ubuntu-latest, steps: [{run: a}]}
  check: {needs: go, if: inputs.force, runs-on: ubuntu-latest, steps: [{run: a}]}
",
    );
    write("changed.txt", "docs/a.md\n");
    write("payload.json", r#"{"action": "opened", "pull_request": {"base": {"ref": "main"}}}"#);
    let muster = |arguments: &[&str]| muster(folder.path(), arguments, "");
    let done = muster(&["plan", "--event", "push", "--ref", "main"]);
    assert_snapshot!(done.out, @"
    .github/workflows/ci.yml (CI) runs:
      list                           runs
      test (linux, 20)               runs
      test (mac, 20)                 runs
      each                           runs: its matrix is known when the jobs have ended that it needs
      shared (staging) / To staging  runs
      shared (staging) / check       does not run: its condition `inputs.force` does not hold
      elsewhere                      runs: it calls `o/r/.github/workflows/a.yml@v1`, which is not here
      publish                        does not run: its condition `github.ref == 'refs/heads/release'` does not hold
      announce                       does not run: it needs `publish`, which does not run
      clean                          runs
      changed                        runs: when `needs.list.outputs.all` holds, which the jobs it needs decide
    .github/workflows/deploy.yml does not run: `on` does not name `push`
    ");
    let pull_request = ["plan", "--event", "pull_request", "--payload", "payload.json"];
    let done = muster(&[&pull_request[..], &["--changed-files", "changed.txt"]].concat());
    assert_snapshot!(done.out, @"
    .github/workflows/ci.yml (CI) does not run: path `docs/a.md` is not selected by src/**
    .github/workflows/deploy.yml does not run: `on` does not name `pull_request`
    ");
    let file = ".github/workflows/deploy.yml";
    let done = muster(&["plan", file, "--event", "workflow_call", "--format", "json"]);
    assert_snapshot!(done.out, @r#"
    {
      "workflows": [
        {
          "file": ".github/workflows/deploy.yml",
          "name": ".github/workflows/deploy.yml",
          "run": true,
          "reason": null,
          "jobs": [
            {
              "id": "go",
              "name": "To ",
              "needs": [],
              "matrix": null,
              "run": true,
              "reason": null
            },
            {
              "id": "check",
              "name": "check",
              "needs": [
                "go"
              ],
              "matrix": null,
              "run": false,
              "reason": "its condition `inputs.force` does not hold"
            }
          ]
        }
      ]
    }
    "#);
    let done = muster(&["plan", "--event", "pushed"]);
    assert_snapshot!((done.exit.unwrap(), done.err).1, @"error: `pushed` is no event that starts a workflow");
    write(
        ".github/workflows/circle.yml",
        "on: {workflow_call: }\njobs:\n  a: {uses: ./.github/workflows/circle.yml}\n  b: {uses: ./.github/workflows/circle.yml}\n",
    );
    let circle = ".github/workflows/circle.yml";
    let done = muster(&["plan", circle, "--event", "workflow_call"]);
    assert_snapshot!(done.out, @"
    .github/workflows/circle.yml:3:13: `./.github/workflows/circle.yml` is wrong: `./.github/workflows/circle.yml` calls itself [workflow-call]
    .github/workflows/circle.yml:4:13: `./.github/workflows/circle.yml` is wrong: `./.github/workflows/circle.yml` calls itself [workflow-call]
    ");
    std::fs::remove_file(folder.path().join(circle)).unwrap();
    write(".github/workflows/wrong.yml", "on: push\n");
    let done = muster(&["plan", "--event", "push", "--ref", "refs/tags/v1"]);
    assert_eq!(done.exit, Some(1));
    assert_snapshot!(done.out, @"
    .github/workflows/wrong.yml:1:1: a workflow needs `jobs` [syntax-check]
    .github/workflows/ci.yml (CI) does not run: it filters only the other kind of ref, this is a tag
    .github/workflows/deploy.yml does not run: `on` does not name `push`
    ");
}

#[test]
fn a_plan_holds_calls_against_what_they_call_and_names_what_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write(folder.path(), path, text);
    write(
        ".github/workflows/ci.yml",
        r"
on: [push, workflow_dispatch]
jobs:
  ship: {needs: [build, gone], runs-on: x, steps: [{run: a}]}
  last: {needs: build, runs-on: x, steps: [{run: a}]}
  after: {needs: despite, runs-on: x, steps: [{run: a}]}
  despite: {needs: gone, if: always(), runs-on: x, steps: [{run: a}]}
  gone:
    if: false
    strategy: {matrix: {n: '${{ fromJSON(github.event.list) }}'}}
    name: Gone ${{ fromJSON(matrix.n) }}
    runs-on: x
    steps: [{run: a}]
  build: {uses: ./.github/workflows/called.yml, with: {to: here}}
  absent: {uses: ./.github/workflows/absent.yml}
",
    );
    write(
        ".github/workflows/calls.yml",
        r"
on: push
jobs:
  right: {uses: ./.github/workflows/called.yml, with: {to: here}}
  unknown: {uses: ./.github/workflows/called.yml, with: {to: here, form: 1}}
  wrong: {uses: ./.github/workflows/wrong.yml}
  closed: {uses: ./.github/workflows/closed.yml}
  within: {if: false, uses: ./.github/workflows/calls-closed.yml}
",
    );
    write(
        ".github/workflows/calls-closed.yml",
        "on: workflow_call\njobs: {a: {uses: ./.github/workflows/closed.yml}}\n",
    );
    write(
        ".github/workflows/called.yml",
        "on: {workflow_call: {inputs: {to: {type: string, required: true}}}}\njobs:\n  first: {runs-on: x, steps: [{run: a}]}\n  second: {needs: first, runs-on: x, steps: [{run: a}]}\n",
    );
    write(".github/workflows/closed.yml", "on: push\njobs: {a: {runs-on: x, steps: [{run: a}]}}\n");
    write(".github/workflows/wrong.yml", "on: workflow_call\n");
    write("changed.txt", "\na\n\n");
    let muster = |arguments: &[&str]| muster(folder.path(), arguments, "");
    let ci = ".github/workflows/ci.yml";
    let done = muster(&["plan", ci, "--event", "push", "--changed-files", "changed.txt"]);
    assert_snapshot!(done.out, @"
    .github/workflows/ci.yml runs:
      ship            does not run: it needs `gone`, which does not run
      last            runs
      after           does not run: what it needs comes after `gone`, which does not run
      despite         runs
      gone            does not run: its condition `false` does not hold
      build / first   runs
      build / second  runs
      absent          runs: it calls `./.github/workflows/absent.yml`, which is not here
    ");
    // Of a workflow that calls what cannot be called nothing runs.
    let done = muster(&["plan", ".github/workflows/calls.yml", "--event", "push"]);
    assert_eq!(done.exit, Some(1));
    assert_snapshot!(done.out, @"
    .github/workflows/calls.yml:5:74: `./.github/workflows/called.yml` has no input `form` [workflow-call]
    .github/workflows/calls.yml:6:17: `./.github/workflows/wrong.yml` is wrong: line 1: a workflow needs `jobs` [workflow-call]
    .github/workflows/calls.yml:7:18: `./.github/workflows/closed.yml` cannot be called: its `on` has no `workflow_call` [workflow-call]
    .github/workflows/calls.yml:8:29: `./.github/workflows/calls-closed.yml` is wrong: `./.github/workflows/closed.yml` cannot be called: its `on` has no `workflow_call` [workflow-call]
    ");
    let done = muster(&["plan", ci, "--event", "push", "--format", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let jobs = plan["workflows"][0]["jobs"].as_array().unwrap().iter();
    let needs: Vec<String> = jobs.map(|job| format!("{} {}", job["id"], job["needs"])).collect();
    assert_snapshot!(needs.join("\n"), @r#"
    "ship" ["build/first","build/second","gone"]
    "last" ["build/first","build/second"]
    "after" ["despite"]
    "despite" ["gone"]
    "gone" []
    "build/first" []
    "build/second" ["build/first"]
    "absent" []
    "#);
    let done =
        muster(&["plan", ".github/workflows/wrong.yml", "--event", "push", "--format", "json"]);
    assert_eq!((done.exit, done.err.as_str()), (Some(1), ""));
    assert_snapshot!(done.out, @r#"
    {
      "workflows": [
        {
          "file": ".github/workflows/wrong.yml",
          "name": ".github/workflows/wrong.yml",
          "run": false,
          "reason": ".github/workflows/wrong.yml:1:1: a workflow needs `jobs`",
          "jobs": []
        }
      ]
    }
    "#);
}

#[test]
fn the_ref_and_commit_of_an_event_are_those_that_github_names() {
    let folder = tempfile::tempdir().unwrap();
    let events = [
        ("workflow_dispatch", r#"{"ref": "refs/heads/topic"}"#),
        ("create", r#"{"ref": "v1", "ref_type": "tag"}"#),
        ("deployment", r#"{"deployment": {"ref": "topic", "sha": "d1"}}"#),
        (
            "pull_request",
            r#"{"pull_request": {"number": 7, "head": {"ref": "topic", "sha": "h1"}, "base": {"ref": "main", "sha": "b1"}}}"#,
        ),
        (
            "pull_request",
            r#"{"pull_request": {"number": 7, "merged": true, "merge_commit_sha": "m1", "head": {"ref": "topic", "sha": "h1"}, "base": {"ref": "main", "sha": "b1"}}}"#,
        ),
        (
            "pull_request_review",
            r#"{"pull_request": {"number": 7, "head": {"ref": "topic", "sha": "h1"}, "base": {"ref": "main", "sha": "b1"}}}"#,
        ),
        (
            "pull_request_target",
            r#"{"pull_request": {"number": 7, "head": {"ref": "topic", "sha": "h1"}, "base": {"ref": "main", "sha": "b1"}}}"#,
        ),
        ("issues", r#"{"repository": {"default_branch": "trunk"}}"#),
    ];
    let told = events.map(|(event, payload)| {
        let name = "${{ github.event_name }} ${{ github.ref }} ${{ github.ref_name }} ${{ github.sha }} ${{ github.head_ref }} ${{ github.base_ref }}";
        let workflow = format!("on: {event}\njobs: {{a: {{name: '{name}', runs-on: x, steps: [{{run: a}}]}}}}\n");
        std::fs::write(folder.path().join("ci.yml"), workflow).unwrap();
        std::fs::write(folder.path().join("payload.json"), payload).unwrap();
        let done = muster(folder.path(), &["plan", "ci.yml", "--event", event, "--payload", "payload.json"], "");
        done.out.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>()
    });
    assert_snapshot!(told.concat(), @"
    workflow_dispatch refs/heads/topic topic     runs
    create refs/tags/v1 v1     runs
    deployment refs/heads/topic topic d1    runs
    pull_request refs/pull/7/merge 7/merge h1 topic main  runs
    pull_request refs/heads/main main m1 topic main  runs
    pull_request_review refs/pull/7/merge 7/merge h1 topic main  runs
    pull_request_target refs/heads/main main b1 topic main  runs
    issues refs/heads/trunk trunk     runs
    ");
}

#[test]
fn a_condition_is_decided_as_far_as_it_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write(folder.path(), path, text);
    write(
        ".github/workflows/ci.yml",
        r"
on:
  push:
  check_suite:
  workflow_call: {inputs: {flag: {type: boolean, default: true}}}
jobs:
  a: {runs-on: x, steps: [{run: a}]}
  gone: {if: false, runs-on: x, steps: [{run: a}]}
  never: {needs: a, if: github.event_name == 'pull_request' && needs.a.outputs.x, runs-on: x, steps: [{run: a}]}
  open: {needs: a, if: needs.a.outputs.x == 'true', runs-on: x, steps: [{run: a}]}
  always: {needs: a, if: needs.a.outputs.x == 'true' || true, runs-on: x, steps: [{run: a}]}
  red: {needs: a, if: always() && needs.a.result == 'failure', runs-on: x, steps: [{run: a}]}
  after: {needs: [gone], if: always() && needs.gone.result != 'skipped', runs-on: x, steps: [{run: a}]}
  silent: {needs: [gone], if: '!cancelled() && needs.gone.outputs.x', runs-on: x, steps: [{run: a}]}
  any: {needs: [a, open], if: 'contains(needs.*.result, ''failure'')', runs-on: x, steps: [{run: a}]}
  flag: {if: inputs.flag, runs-on: x, steps: [{run: a}]}
",
    );
    let muster = |arguments: &[&str]| muster(folder.path(), arguments, "");
    assert_snapshot!(muster(&["plan", "--event", "push"]).out, @"
    .github/workflows/ci.yml runs:
      a       runs
      gone    does not run: its condition `false` does not hold
      never   does not run: its condition `github.event_name == 'pull_request' && needs.a.outputs.x` does not hold
      open    runs: when `needs.a.outputs.x == 'true'` holds, which the jobs it needs decide
      always  runs
      red     does not run: its condition `always() && needs.a.result == 'failure'` does not hold
      after   does not run: its condition `always() && needs.gone.result != 'skipped'` does not hold
      silent  does not run: its condition `!cancelled() && needs.gone.outputs.x` does not hold
      any     runs: when `contains(needs.*.result, 'failure')` holds, which the jobs it needs decide
      flag    does not run: its condition `inputs.flag` does not hold
    ");
    write("call.json", r#"{"inputs": {"flag": false}}"#);
    let flag = |arguments: &[&str]| {
        let out = muster(arguments).out;
        out.lines().last().unwrap_or_default().to_owned()
    };
    assert_snapshot!(flag(&["plan", "--event", "workflow_call"]), @"  flag    runs");
    assert_snapshot!(flag(&["plan", "--event", "workflow_call", "--payload", "call.json"]), @"  flag    does not run: its condition `inputs.flag` does not hold");
    write("suite.json", r#"{"action": "requested"}"#);
    assert_snapshot!(muster(&["plan", "--event", "check_suite", "--payload", "suite.json"]).out, @".github/workflows/ci.yml does not run: activity `requested` is not among its types (completed)");
    write("push.json", r#"{"head_commit": {"message": "Docs [skip ci]"}}"#);
    assert_snapshot!(muster(&["plan", "--event", "push", "--payload", "push.json"]).out, @".github/workflows/ci.yml does not run: the message of its commit has `[skip ci]`");
}

#[test]
fn what_a_command_is_given_is_bounded_and_what_it_says_is_plain() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write(folder.path(), path, text);
    write("w.yml", "on: push\njobs: {a: {runs-on: x, steps: [{run: a}]}}\n");
    write("many.json", &format!("{{\"x\": [{}1]}}", "[],".repeat(500_000)));
    write(
        "forged.yml",
        "on: push\njobs:\n  \"a:1:1: x\": {runs-on: x, \"w.yml:9:9: k\\u009b\": 1}\n",
    );
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let said = |arguments: &[&str]| {
        let done = muster(folder.path(), arguments, "");
        assert_eq!(done.exit, Some(2), "{arguments:?}");
        format!("{}{}", done.out, done.err)
    };
    let plan = ["plan", "w.yml", "--event", "push"];
    assert_snapshot!([
        said(&[&plan[..], &["--payload", "many.json"]].concat()),
        said(&[&plan[..], &["--payload", "pipe"]].concat()),
        said(&[&plan[..], &["--changed-files", "pipe"]].concat()),
        said(&["eval", "x", "--contexts", "many.json"]),
        said(&["conformance", "reader", "pipe"]),
        said(&["lint", "no\u{1b}[31m"]),
    ].concat(), @"
    error: many.json cannot be used: the payload has more than 500000 values
    error: pipe is no file
    error: pipe is no file
    error: many.json cannot be used: the payload has more than 500000 values
    error: pipe is no file
    error: cannot read no�[31m: No such file or directory (os error 2)
    ");
    assert_snapshot!(muster(folder.path(), &["lint", "forged.yml"], "").out, @"
    forged.yml:3:3: `a:1 :1: x` is no job id: it must start with a letter or `_` (not `__`), hold only letters, digits, `-` and `_`, and have fewer than 100 characters [id]
    forged.yml:3:3: job `a:1 :1: x` has no `steps` [syntax-check]
    forged.yml:3:25: no runner of GitHub bears the label `x`; beside a label of your own write `self-hosted` [runner-label]
    forged.yml:3:28: a job has no key `w.yml:9 :9: k�`; its keys are: cancel-timeout-minutes, concurrency, container, continue-on-error, defaults, env, environment, if, name, needs, outputs, permissions, runs-on, services, snapshot, steps, strategy, timeout-minutes [syntax-check]
    ");
    let json = muster(folder.path(), &["lint", "--format", "json", "forged.yml"], "").out;
    assert!(json.contains("k\\u009b") && !json.contains('\u{9b}'), "{json}");
    let full = Program::new("sh")
        .args(["-c", &format!("{} eval 1 > /dev/full", env!("CARGO_BIN_EXE_muster"))])
        .output(Duration::from_secs(60), 1 << 16)
        .unwrap();
    assert_eq!(full.status.code(), Some(2));
    assert_snapshot!(String::from_utf8_lossy(&full.stderr), @"error: cannot write to standard output: No space left on device (os error 28)");
}

#[test]
fn what_multiplies_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write(folder.path(), path, text);
    let many =
        |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let action = "name: x\ndescription: y\nruns: {using: composite, steps: []}\ninputs:\n";
    write(
        "wide/action.yml",
        &format!("{action}{}", many(2_000, &|n| format!("  input_{n}: {{required: true}}\n"))),
    );
    let head = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n";
    let given = many(2_000, &|n| format!("          other_{n}: 1\n"));
    write(
        ".github/workflows/with.yml",
        &format!("{head}      - uses: ./wide\n        with:\n{given}"),
    );
    let steps = "      - uses: ./wide\n".repeat(2_000);
    write(".github/workflows/steps.yml", &format!("{head}{steps}"));
    let callee = format!(
        "on:\n  workflow_call:\n    inputs:\n{}jobs: {{b: {{runs-on: x, steps: [{{run: a}}]}}}}\n",
        many(1_000, &|n| format!("      i{n}: {{type: string}}\n"))
    );
    write("callee.yml", &callee);
    write(".github/workflows/callee.yml", &callee);
    let calls = many(1_000, &|n| format!("  a{n}: {{uses: ./.github/workflows/callee.yml}}\n"));
    write(".github/workflows/calls.yml", &format!("on: push\njobs:\n{calls}"));
    let jobs = many(20, &|n| {
        format!(
            "  a{n}: {{runs-on: x, strategy: {{matrix: {{n: [{}]}}}}, steps: [{{run: a}}]}}\n",
            (0..250).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
        )
    });
    write(".github/workflows/legs.yml", &format!("on: push\njobs:\n{jobs}"));
    let last = |arguments: &[&str]| {
        let done = muster(folder.path(), arguments, "");
        assert_eq!(done.exit, Some(1), "{arguments:?}");
        assert!(done.out.len() < 1 << 20, "{} bytes", done.out.len());
        done.out.lines().last().unwrap_or_default().to_owned()
    };
    let at = |name: &str| format!(".github/workflows/{name}.yml");
    assert_snapshot!([
        last(&["lint", &at("with")]),
        last(&["lint", &at("steps")]),
        last(&["lint", &at("calls")]),
        last(&["plan", &at("calls"), "--event", "push"]),
        last(&["plan", &at("legs"), "--event", "push"]),
    ].join("\n"), @"
    .github/workflows/with.yml:1008:11: from here on there are more problems [syntax-check]
    .github/workflows/steps.yml:6:15: from here on there are more problems [syntax-check]
    .github/workflows/calls.yml:202:16: the calls up to here have too many inputs and jobs together [workflow-call]
    .github/workflows/calls.yml:202:16: the calls of the run have too many inputs and jobs together [workflow-call]
    .github/workflows/legs.yml:11:3: the run has more than 2000 jobs [syntax-check]
    ");
}
