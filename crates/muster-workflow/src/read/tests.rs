use insta::assert_snapshot;
use proptest::prelude::*;

use crate::diagnostic::{Problem, render};
use crate::expr::{Contexts, Object};
use crate::{PlannedJob, plan, read};

fn problems(source: &str) -> String {
    match read(source) {
        Ok(workflow) => lines(&workflow.unsupported, source),
        Err(problems) => lines(&problems, source),
    }
}

fn lines(problems: &[Problem], source: &str) -> String {
    problems.iter().map(|problem| problem.one_line("ci.yml", source) + "\n").collect()
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
    steps:
      - run: echo ${{ secret.TOKEN }}
      - name: nothing to do
      - run: a
        runs: b
  1st:
    steps: []
"#), @"
    ci.yml:2:12: `pushed` is no event that starts a workflow
    ci.yml:3:14: `permissions` must be `read-all` or `write-all` or a mapping, this is `all`
    ci.yml:7:12: job `build` needs job `nothing`, which is not in this file
    ci.yml:9:23: context `secret` is not available here; did you mean `secrets`?
    ci.yml:10:9: an item of `steps` needs one of `cancel`, `run`, `uses`, `wait` or `wait-all`
    ci.yml:12:9: a step with `run` has no key `runs`
    ci.yml:13:3: `1st` is no job id: it must start with a letter or `_` (not `__`), hold only letters, digits, `-` and `_`, and have fewer than 100 characters
    ci.yml:13:3: a job needs `runs-on`
    ");
}

#[test]
fn what_muster_cannot_run_is_named_with_its_place() {
    assert_snapshot!(problems(r#"
on: push
concurrency: {group: a, queue: max}
jobs:
  first:
    runs-on: {group: large}
    outputs: {list: '[1]'}
    concurrency: one
    environment: production
    services: ${{ fromJSON('{}') }}
    strategy: {max-parallel: 1, matrix: {a: [1]}}
    steps:
      - uses: actions/setup-node@v4
      - uses: actions/checkout@v4
        with: {ref: main}
      - id: server
        run: a
        background: true
      - wait: server
      - wait-all:
      - cancel: server
      - parallel: [{run: a}]
      - run: echo ${{ hashFiles('a') }}
        env: ${{ fromJSON('{}') }}
  second:
    needs: first
    if: success('first')
    name: ${{ needs.first.outputs.list }}
    strategy: {matrix: {n: "${{ fromJSON(needs.first.outputs.list) }}"}}
    runs-on: x
    steps: []
  third:
    uses: ./.github/workflows/other.yml
  fourth:
    runs-on: x
    strategy: ${{ fromJSON('{}') }}
    defaults: {run: "${{ fromJSON('{}') }}"}
    env: {"${{ github.ref_name }}": 1}
    steps: [{uses: actions/checkout@v4, with: "${{ fromJSON('{}') }}"}]
"#), @"
    ci.yml:6:14: `runs-on` with a group is not supported yet
    ci.yml:10:15: a `services` that is one expression is not supported yet
    ci.yml:27:9: a status function with parameters is not supported yet
    ci.yml:37:21: a `defaults.run` that is one expression is not supported yet
    ci.yml:38:11: a key that is computed is not supported yet
    ci.yml:39:47: a `with` that is one expression is not supported yet
    ");
}

#[test]
fn a_problem_is_drawn_with_a_caret_and_a_hint() {
    let source = "on: push\njobs:\n  é: &a\n    runs-on: x\n    step: []\n    steps: []\n";
    let problems = read(source).unwrap_err();
    assert_snapshot!(render(".github/workflows/ci.yml", source, &problems), @"
    error: `é` is no job id: it must start with a letter or `_` (not `__`), hold only letters, digits, `-` and `_`, and have fewer than 100 characters
     --> .github/workflows/ci.yml:3:3
      |
    3 |   é: &a
      |   ^
    error: a job has no key `step`
     --> .github/workflows/ci.yml:5:5
      |
    5 |     step: []
      |     ^^^^
      |
      = help: did you mean `steps`?
    ");
}

#[test]
fn a_tab_that_indents_is_told_where_it_is() {
    let steps = |tab: &str| {
        format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{tab}- run: a\n\n      - run: b\n"
        )
    };
    assert_snapshot!(problems(&steps("      \t")), @"ci.yml:6:7: not YAML: a tab cannot indent; use spaces");
    assert_snapshot!(problems(&steps("\t")), @"ci.yml:6:1: not YAML: a tab cannot indent; use spaces");
}

#[test]
fn a_line_has_one_place_whatever_the_file_says() {
    let source = "on: [a:1:2:3, 'x:10', '12:30:45']\njobs: {a: {runs-on: x, steps: [{run: a}]}}\n";
    assert_snapshot!(problems(source), @"
    ci.yml:1:6: `a:1 :2 :3` is no event that starts a workflow
    ci.yml:1:15: `x:10` is no event that starts a workflow
    ci.yml:1:23: `12:30 :45` is no event that starts a workflow
    ");
}

#[test]
fn what_is_no_yaml_is_one_problem() {
    assert_snapshot!(problems("on: push\njobs:\n  a: [\n"), @"ci.yml:3:6: not YAML: unclosed bracket '['");
    assert_snapshot!(problems("a: *b\n"), @"ci.yml:1:4: not YAML: while parsing node, found unknown anchor");
    assert_snapshot!(problems(""), @"ci.yml:1:1: a workflow must be a mapping, this is nothing");
}

#[test]
fn each_cycle_of_needs_is_one_problem() {
    let source = "on: push\njobs:\n  z: {runs-on: x, steps: [{run: a}]}\n  a: {needs: b, runs-on: x, steps: [{run: a}]}\n  b: {needs: [z, a], runs-on: x, steps: [{run: a}]}\n";
    assert_snapshot!(problems(source), @"ci.yml:4:14: job `a` needs itself: a needs b needs a");
    let jobs = [("a", "[b, c]"), ("b", "a"), ("c", "a"), ("d", "d"), ("e", "[d, f]"), ("f", "e")];
    let jobs = jobs.map(|(id, needs)| {
        format!("  {id}: {{needs: {needs}, runs-on: x, steps: [{{run: a}}]}}\n")
    });
    assert_snapshot!(problems(&format!("on: push\njobs:\n{}", jobs.concat())), @"
    ci.yml:3:15: job `a` needs itself: a needs b needs a
    ci.yml:6:14: job `d` needs itself: d needs d
    ci.yml:7:18: job `e` needs itself: e needs f needs e
    ");
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
"), @"
    plain on ubuntu-latest
    test (stable, ubuntu-latest) on ubuntu-latest
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
    assert_snapshot!(problems(&source), @"ci.yml:5:16: the matrix has more than 256 legs");
    let numbers = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let excludes = (0..9_000).map(|n| format!("{{n: {n}, m: 200}}")).collect::<Vec<_>>().join(",");
    let source = format!(
        "on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {{matrix: {{n: [{0}], m: [{0}], exclude: [{excludes}]}}}}\n    steps: [{{run: a}}]\n",
        numbers(128),
    );
    assert_snapshot!(problems(&source), @"ci.yml:5:16: the matrix has more combinations than can be tried");
    let source = format!(
        "on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {{matrix: {{n: [{}], m: [{}]}}}}\n    steps: [{{run: a}}]\n",
        numbers(256),
        "k".repeat(100_000),
    );
    let refused = plan(&read(&source).unwrap(), &Contexts::new()).unwrap_err();
    assert_snapshot!(refused[0].message, @"job `a`: the legs of the matrix have more than 10485760 bytes");
    let computed = "on: push\njobs: {a: {runs-on: x, strategy: {matrix: {n: '${{ fromJSON(github.list) }}', m: [1, 2]}}, steps: [{run: a}]}}";
    let mut contexts = Contexts::new();
    contexts.set("github", &serde_json::json!({"list": format!("[{}]", numbers(200))}));
    let refused = plan(&read(computed).unwrap(), &contexts).unwrap_err();
    assert_snapshot!(refused[0].message, @"job `a`: the matrix has more than 256 legs");
}

#[test]
fn the_filters_of_a_file_are_bounded_together() {
    let patterns = (0..300).map(|place| format!("{place}{}", "**/a".repeat(200)));
    let patterns = patterns.collect::<Vec<_>>().join(", ");
    let source = format!(
        "on:\n  push: {{branches: [a], paths: [{patterns}]}}\n  pull_request: {{paths: [{patterns}], branches: [b]}}\njobs: {{a: {{runs-on: x, steps: [{{run: a}}]}}}}\n"
    );
    assert_snapshot!(problems(&source), @"ci.yml:2:25: the filters of a file have 200000 bytes at most");
}

#[test]
fn a_file_may_have_more_jobs_than_a_run() {
    let jobs = |count: usize| {
        let job = |place| format!("  j{place}: {{runs-on: x, steps: [{{run: a}}]}}\n");
        format!("on: push\njobs:\n{}", (0..count).map(job).collect::<String>())
    };
    let refused = plan(&read(&jobs(257)).unwrap(), &Contexts::new()).unwrap_err();
    assert_snapshot!(refused[0].message, @"the run has 257 jobs, more than 256");
    assert_eq!(plan(&read(&jobs(256)).unwrap(), &Contexts::new()).unwrap().len(), 256);
    assert_snapshot!(problems(&jobs(2_001)), @"ci.yml:3:3: `jobs` has 2001 jobs, more than 2000");
}

#[test]
fn legs_are_compared_as_githubs_own_parser_compares_them() {
    let legs = planned(
        r"
on: push
jobs:
  loose:
    strategy:
      max-parallel: 2
      matrix:
        os: [Linux, {name: mac, arm: true}, [a, b]]
        n: [1, '']
        exclude:
          - {os: LINUX, n: '1'}
          - {os: {name: MAC}, n: null}
          - {os: [a], n: ''}
        include:
          - {extra: yes, n: 1}
          - {first: 1, n: 7, os: x}
    runs-on: x
    steps: [{run: a}]
  nothing-left: {strategy: {matrix: {n: [1], exclude: [{n: 1}]}}, runs-on: x, steps: [{run: a}]}
  empty: {name: '', strategy: {matrix: {n: [1]}}, runs-on: x, steps: [{run: a}]}
",
    );
    let told = |job: &PlannedJob| {
        format!("{} {} of {} {}\n", job.name, job.matrix.to_json(), job.max_parallel, job.legs)
    };
    assert_snapshot!(legs.iter().map(told).collect::<String>(), @r#"
    loose (Linux) {"os":"Linux","n":""} of 2 4
    loose (mac, true, 1) {"os":{"name":"mac","arm":true},"n":1,"extra":"yes"} of 2 4
    loose (a, b, 1) {"os":["a","b"],"n":1,"extra":"yes"} of 2 4
    loose (7, x, 1) {"n":7,"os":"x","first":1} of 2 4
    nothing-left null of 1 1
    empty (1) {"n":1} of 1 1
    "#);
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

#[test]
fn a_text_with_expressions_is_one_expression_to_github() {
    let long = |length: usize| {
        let text = "é".repeat(length);
        format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: {text} ${{{{ github.sha }}}}\n"
        )
    };
    // `format('… {0}', github.sha)`
    assert_eq!(problems(&long(20_974)), "");
    assert_snapshot!(problems(&long(20_975)), @"ci.yml:6:14: an expression has at most 21,000 characters, with the text around it");
}
