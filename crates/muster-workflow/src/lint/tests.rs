use std::collections::HashMap;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::{Files, lint};

struct Tree(HashMap<&'static str, &'static str>);

impl Files for Tree {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path).map(|text| (*text).to_owned())
    }
}

fn told(source: &str, files: &dyn Files) -> String {
    let problems = lint(source, files);
    let lines = problems.iter().map(|problem| {
        let hint = problem.hint.as_deref().map_or(String::new(), |hint| format!("; {hint}"));
        format!("{}{hint} [{}]\n", problem.one_line("ci.yml", source), problem.rule.name())
    });
    lines.collect()
}

#[test]
fn expressions_are_held_against_what_is_there() {
    assert_snapshot!(told(r"
on:
  push:
  workflow_dispatch:
    inputs:
      level: {type: choice, options: [info, debug]}
jobs:
  first:
    runs-on: ubuntu-latest
    outputs: {list: '${{ steps.make.outputs.list }}'}
    steps:
      - id: make
        run: echo ${{ inputs.levle }} ${{ github.evnt_name }}
  second:
    needs: first
    runs-on: ubuntu-latest
    strategy: {matrix: {os: [linux, mac], node: [20]}}
    timeout-minutes: ${{ github.ref }}
    steps:
      - run: echo ${{ needs.first.outputs.lst }} ${{ matrix.node.major }}
      - run: echo ${{ needs.third.result }}
      - run: echo ${{ steps.later.outputs.x }}
      - id: later
        run: echo ${{ github.event }}
      - run: echo ${{ format('{0} {2}', 1, 2) }} ${{ startsWith(github.event, 'a') }}
      - run: echo ${{ github.event.pull_request.title }}
      - run: echo ${{ contains(github.event.pull_request.title, 'skip') }} ${{ fromJSON('{') }}
      - if: github.event == 'push'
        run: 'true'
", &()), @"
ci.yml:13:19: `inputs` has no `levle`; did you mean `level`? [expression]
ci.yml:18:22: this must be a number, and is a string [expression]
ci.yml:20:19: `needs.first.outputs` has no `lst`; did you mean `list`? [expression]
ci.yml:21:19: `needs` has no `third`; it has: first [expression]
ci.yml:22:19: `steps` has no `later`; it has nothing [expression]
ci.yml:24:19: an object cannot be part of a text; `toJSON()` makes one of it [expression]
ci.yml:25:19: `format` does not use its argument `{1}` [expression]
ci.yml:25:19: `format` has no argument for `{2}` [expression]
ci.yml:26:19: `github.event.pull_request.title` is written by strangers, and becomes part of the script; give it to the script as an environment variable [expression]
ci.yml:27:76: `fromJSON` is given what is no JSON: EOF while parsing an object at line 1 column 1 [expression]
ci.yml:28:13: an object cannot be compared with a string [expression]
");
}

#[test]
fn conditions_that_never_change_are_told() {
    assert_snapshot!(told(r"
on: push
jobs:
  a:
    if: true
    runs-on: ubuntu-latest
    steps:
      - if: ${{ github.ref == 'a' }} && true
        run: a
      - if: |
          ${{ github.ref == 'a' }}
        run: a
      - if: 1 == 2 && always()
        run: a
      - if: success() || startsWith('ab', 'a')
        run: a
", &()), @"
ci.yml:5:9: `true` is always true [if-cond]
ci.yml:8:13: this is always true: there is text around `${{ }}`; write the whole condition as one expression [if-cond]
ci.yml:10:13: this is always true: there is text around `${{ }}`; write the whole condition as one expression [if-cond]
");
}

#[test]
fn what_a_workflow_names_is_looked_at() {
    let files = Tree(HashMap::from([
        (
            "tools/action.yml",
            "name: a\ndescription: b\ninputs: {level: {required: true}, old: {deprecationMessage: gone}}\noutputs: {made: {value: a}}\nruns: {using: composite, steps: []}\n",
        ),
        ("wrong/action.yaml", "name: a\nruns: {using: node14, main: a.js, env: {A: b}}\n"),
        ("bare/action.yml", "runs: {using: node24, main: a.js}\n"),
        (
            ".github/workflows/called.yml",
            "on:\n  workflow_call:\n    inputs: {number: {type: number, required: true}}\n    secrets: {token: {required: true}}\n    outputs: {url: {value: a}}\njobs:\n  a: {runs-on: ubuntu-latest, permissions: {packages: write}, steps: [{run: a}]}\n",
        ),
    ]));
    assert_snapshot!(told(r"
on: push
permissions: {contents: read}
jobs:
  call:
    uses: ./.github/workflows/called.yml
    with: {nubmer: 1}
    secrets: {other: a}
  again:
    uses: ./.github/workflows/called.yml
    permissions: {packages: write}
    with: {number: '1'}
    secrets: inherit
  after:
    needs: call
    runs-on: ubuntu-latest
    steps:
      - id: tool
        uses: ./tools
        with: {levl: 1, old: 2}
      - run: echo ${{ steps.tool.outputs.mad }} ${{ needs.call.outputs.uri }}
      - uses: actions/cache@v4
        with: {path: a}
      - uses: actions/checkout@v2
      - uses: ./absent
        with: {anything: goes}
      - uses: ./wrong
      - uses: ./bare
        with: {given: a}
      - {uses: pypa/gh-action-pypi-publish@release/v1, with: {packages_dir: a, new-one: b}}
", &files), @"
    ci.yml:5:3: `./.github/workflows/called.yml` asks for more than it may have: its job `a` for packages write (it may none) [workflow-call]
    ci.yml:6:11: `./.github/workflows/called.yml` needs input `number` [workflow-call]
    ci.yml:6:11: `./.github/workflows/called.yml` needs secret `token` [workflow-call]
    ci.yml:7:20: `./.github/workflows/called.yml` has no input `nubmer` [workflow-call]
    ci.yml:8:22: `./.github/workflows/called.yml` has no secret `other` [workflow-call]
    ci.yml:12:20: input `number` must be a number [workflow-call]
    ci.yml:19:15: `./tools` needs input `level` [action]
    ci.yml:20:16: `./tools` has no input `levl`; did you mean `level`? [action]
    ci.yml:20:25: input `old` of `./tools` is deprecated [action]
    ci.yml:21:19: `steps.tool.outputs` has no `mad`; did you mean `made`? [expression]
    ci.yml:22:15: `actions/cache@v4` needs input `key` [action]
    ci.yml:24:15: `actions/checkout@v2` is too old for GitHub's runners, which have no Node.js 16 any more; use a newer version [action]
    ci.yml:27:15: `./wrong` is wrong: line 2 of action.yaml: `node14` is nothing that runs an action [action]
    ci.yml:27:15: `./wrong` is wrong: line 2 of action.yaml: a JavaScript action has no key `env` [action]
    ci.yml:28:15: `./bare` is wrong: action.yml has no `description` [action]
    ci.yml:28:15: `./bare` is wrong: action.yml has no `name` [action]
    ci.yml:29:16: `./bare` has no input `given`; it has none [action]
    ci.yml:30:63: input `packages_dir` of `pypa/gh-action-pypi-publish@release/v1` is deprecated [action]
    ");
}

#[test]
fn what_github_takes_and_nobody_means_is_told() {
    assert_snapshot!(told(r"
on:
  push: {branches: ['^main', 'a b'], paths: [./src], tags: []}
  schedule:
    - cron: '*/2 * * * *'
    - {cron: '0 5 * * 1', timezone: Europe/Belin}
  workflow_dispatch:
    inputs:
      a: {type: choice, options: [x, x], default: y}
      b: {type: number, default: many}
env: {A B: 1}
jobs:
  a: &unused
    runs-on: [ubuntu-latest, windows-latest]
    needs: [b, B]
    timeout-minutes: 0
    strategy:
      max-parallel: 1.5
      matrix: {os: [a, b, a], exclude: [{os: c}]}
    container: {image: a, credentials: {username: a, password: secret}}
    defaults: {run: {shell: powershel}}
    steps:
      - run: 'echo ::set-output name=a::b'
      - {run: a, shell: cmd}
  b:
    runs-on: ubunut-latest
    steps: []
  c:
    runs-on: [self-hosted, mine]
", &()), @"
ci.yml:3:21: `^main` selects nothing: branches and tags have no ` `, `~`, `^` or `:` [glob]
ci.yml:3:30: `a b` selects nothing: branches and tags have no ` `, `~`, `^` or `:` [glob]
ci.yml:3:46: `./src` selects nothing: changed paths are written from the top of the repository, without `./` [glob]
ci.yml:3:60: `tags` must not be empty [syntax-check]
ci.yml:5:13: this runs every 2 minutes; GitHub runs no schedule more often than every 5 [events]
ci.yml:6:37: `Europe/Belin` is no time zone of the IANA database, such as `Europe/Berlin` [events]
ci.yml:9:38: this option of input `a` is there already [events]
ci.yml:9:51: the default of input `a` must be one of its options [events]
ci.yml:10:34: the default of input `b` must be a number [events]
ci.yml:11:7: `A B` is no name that a shell takes for a variable [env-var]
ci.yml:13:6: no alias names this anchor [syntax-check]
ci.yml:14:30: no runner bears both `ubuntu-latest` and `windows-latest` [runner-label]
ci.yml:15:16: `B` is in `needs` already [job-needs]
ci.yml:16:22: `timeout-minutes` must be a number over 0 [syntax-check]
ci.yml:18:21: `max-parallel` must be a whole number over 0 [syntax-check]
ci.yml:19:27: this value is already in matrix vector `os` [matrix]
ci.yml:19:46: no value of `os` in the matrix is matched by this [matrix]
ci.yml:20:64: a password is written into the file; keep it as a secret, and write `${{ secrets.NAME }}` [credentials]
ci.yml:21:29: `powershel` is no shell there; its shells are: bash, pwsh, python, sh, cmd, powershell; or write a command with `{0}` for the script [shell-name]
ci.yml:23:14: command `set-output` is not taken any more; append to the file that $GITHUB_OUTPUT names [deprecated-commands]
ci.yml:26:14: no runner of GitHub bears the label `ubunut-latest`; did you mean `ubuntu-latest`? [runner-label]
ci.yml:27:12: `steps` must not be empty [syntax-check]
ci.yml:28:3: job `c` has no `steps` [syntax-check]
");
}

proptest! {
    #[test]
    fn never_panics(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "on: push", "on: {schedule: [{cron: '* * * * *'}]}", "jobs:", "  a:", "    needs: [a, b]",
                "    runs-on: ${{ matrix.os }}", "    strategy: {matrix: {os: [a, [b]], include: [{os: c}]}}",
                "    strategy: {matrix: '${{ fromJSON(1) }}'}", "    uses: ./a", "    with: {a: 1}", "    steps:",
                "      - run: ${{ github.event.*.body[0] }}", "      - uses: ./", "        with: {script: a}",
                "      - if: ${{ a }} b", "      - *x", "      - &x", "    env: ${{ steps.*.outputs.* }}",
                "    container: &x", "    if: '1' && fromJSON('[]')[0].a", "  b: {}", "      - id: é",
            ]),
            0..25,
        )
    ) {
        drop(lint(&lines.join("\n"), &()));
    }
}

#[test]
fn what_only_looks_wrong_is_not_told_and_what_is_wrong_once() {
    assert_snapshot!(told(r#"
on:
  workflow_dispatch:
    inputs:
      level: {type: choice, options: [1, 2], default: 1}
jobs:
  a:
    runs-on: ubuntu-latest
    services:
      redis: {image: redis, ports: [6379], credentials: {username: a, password: "secret"}}
    steps:
      - run: echo '${{ toJSON(github.event) }}' '${{ toJSON(github.sha) }}' ${{ github.event.issue && 1 }}
      - run: echo ${{ job.services.redis.ports[6379] }} ${{ runner.workspace }} ${{ job.workflow_ref }}
  b:
    runs-on: ubuntu-latest
    strategy: {matrix: {include: 3}}
    steps: [{run: a}]
"#, &()), @"
ci.yml:10:81: a password is written into the file; keep it as a secret, and write `${{ secrets.NAME }}` [credentials]
ci.yml:12:20: `github.event` is written by strangers, and becomes part of the script; give it to the script as an environment variable [expression]
ci.yml:16:34: `include` must be a list, this is a number [syntax-check]
");
}

#[test]
fn one_fault_is_one_problem() {
    assert_snapshot!(told(r"
on:
  workflow_dispatch:
    inputs: &inputs
      a: {type: string}
  workflow_call:
    inputs:
      <<: *inputs
  image_version: {versions: ['!', '[v]1', 'v\d+']}
jobs:
  a:
    needs: c
    runs-on: ${{ matrix.x }}
    strategy: {matrix: {x: [{foo: 1}], y: ['${{ always() }}', '${{ success() }}']}}
    snapshot: {image-name: a, version: '+1.*'}
    steps:
      - &step {run: a}
      - <<: *step
        shell: sh
      - run: a
        env: {<<: *inputs}
  b:
    needs: a
    runs-on: {labels: '${{ fromJSON(github.event.inputs.a) }}'}
    steps: [{run: a}]
  c:
    needs: b
    runs-on: '${{ fromJSON(github.event.inputs.a) }}'
    steps: [{run: a}]
", &()), @r"
    ci.yml:8:7: GitHub knows no merge keys; write the keys down, or alias the whole value [syntax-check]
    ci.yml:9:30: `!` is no filter pattern: it is empty [glob]
    ci.yml:9:35: `[v]` is `v` alone, a set of one [glob]
    ci.yml:9:43: `v\d+` selects nothing: branches and tags have no `\`; a pattern is no regular expression [glob]
    ci.yml:11:3: job `a` needs itself: a needs c needs b needs a [job-needs]
    ci.yml:13:14: this is an object without one of the keys `group` or `labels` [expression]
    ci.yml:14:49: function `always` is not available here [expression]
    ci.yml:14:68: function `success` is not available here [expression]
    ci.yml:15:40: version `+1.*` of a snapshot must be like `1.*` [glob]
    ci.yml:18:9: GitHub knows no merge keys; write the keys down, or alias the whole value [syntax-check]
    ci.yml:21:15: GitHub knows no merge keys; write the keys down, or alias the whole value [syntax-check]
    ");
}

#[test]
fn the_default_of_an_input_sees_those_before_it() {
    assert_snapshot!(told(r"
on:
  workflow_call:
    inputs:
      first: {type: string, default: '${{ inputs.second }}'}
      second: {type: boolean, default: '${{ inputs.first }}'}
      third: {type: number, default: '${{ inputs.second && 1 || 2 }}'}
      fourth: {type: string, default: '${{ inputs.third }} ${{ inputs.none }}'}
jobs:
  a:
    runs-on: ubuntu-latest
    steps: [{run: 'echo ${{ inputs.fourth }}'}]
", &()), @"
    ci.yml:5:39: `inputs` has no `second`; it has nothing [expression]
    ci.yml:6:40: the default of input `second` must be a boolean, and is a string [expression]
    ci.yml:8:60: `inputs` has no `none`; it has: first, fourth, second, third [expression]
    ");
}
