//! `muster run`.

use insta::assert_snapshot;

use crate::scene::Scene;

#[test]
fn a_green_workflow_runs_on_a_snapshot_of_the_work_tree() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - name: Look\n        run: cat tracked new; ls -A; git status --short\n",
    );
    scene.file("tracked", "one\n");
    scene.file(".gitignore", "ignored\n");
    scene.commit("first");
    let objects = scene.git(&["count-objects"]);
    scene.file("tracked", "two\n");
    scene.file("new", "three\n");
    scene.file("ignored", "four\n");
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Look
    │ two
    │ three
    │ .git
    │ .github
    │ .gitignore
    │ new
    │ tracked
    ✓ Look [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    ");
    // The repository itself is as it was.
    assert_snapshot!(scene.git(&["status", "--short"]), @"
     M tracked
    ?? new
    ");
    assert_eq!(scene.git(&["count-objects"]), objects);
}

#[test]
fn a_change_that_shows_in_no_age_and_no_size_is_seen_as_git_sees_it() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: cat tracked\n",
    );
    scene.file("tracked", "one\n");
    scene.commit("first");
    scene.git(&["config", "core.trustctime", "false"]);
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(480_000);
    let age = |path: &str| {
        let file = std::fs::File::options().write(true).open(scene.path().join(path));
        file.and_then(|file| file.set_modified(then)).unwrap();
    };
    age("tracked");
    scene.git(&["add", "tracked"]);
    scene.file("tracked", "two\n");
    age("tracked");
    age(".git/index");
    let told = scene.muster(&["run", "--isolation", "none"]).story();
    assert!(told.contains("│ two\n"), "{told}");
}

#[test]
fn a_red_step_ends_its_job_and_skips_what_needs_it() {
    let scene = Scene::new();
    scene.workflow(
        "name: CI\non: [push]\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          echo failing\n          exit 7\n      - run: echo not reached\n      - {run: echo cleaning up, if: always()}\n  deploy:\n    needs: test\n    runs-on: ubuntu-latest\n    steps: [{run: echo deploy}]\n",
    );
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @"
    CI (.github/workflows/ci.yml)
    isolation: none; the steps run as this user, with this machine's files and network.
    test ▸ Run echo failing
    test │ failing
    test │ Error: the step ended with exit code 7
    test ✗ Run echo failing [time]
    test - Run echo not reached
    test ▸ Run echo cleaning up
    test │ cleaning up
    test ✓ Run echo cleaning up [time]
    .github/workflows/ci.yml: failure
      test    failure  [time]
      deploy  skipped  it needs `test`, which ended as failure
    exit 1
    ");
}

#[test]
fn variables_outputs_and_paths_go_from_step_to_step() {
    let scene = Scene::new();
    scene.workflow(
        r#"
on: push
env: {LEVEL: workflow, SEEN: workflow}
defaults: {run: {shell: bash}}
jobs:
  first:
    runs-on: ubuntu-latest
    env: {LEVEL: job}
    outputs: {word: "${{ steps.say.outputs.word }}"}
    steps:
      - id: say
        env: {LEVEL: step}
        run: |
          echo "$LEVEL $SEEN ${{ env.LEVEL }}"
          echo "word=hello" >> "$GITHUB_OUTPUT"
          { echo 'LINES<<END'; echo one; echo two; echo END; } >> "$GITHUB_ENV"
          mkdir -p "$RUNNER_TEMP/bin"; printf '#!/bin/sh\necho from the path\n' > "$RUNNER_TEMP/bin/found"
          chmod +x "$RUNNER_TEMP/bin/found"; echo "$RUNNER_TEMP/bin" >> "$GITHUB_PATH"
          false | true && echo not reached
        continue-on-error: true
      - run: echo "$LEVEL ${LINES}"; found; echo "${{ steps.say.outcome }} ${{ steps.say.conclusion }}"
      - run: echo "$CI $GITHUB_ACTIONS $GITHUB_EVENT_NAME $GITHUB_REF_NAME ${{ github.event.ref }} [$CALLERS_SECRET]"
  second:
    needs: first
    runs-on: [self-hosted, linux]
    steps:
      - run: import os; print(os.environ["WORD"], "${{ needs.first.result }}")
        shell: python
        env: {WORD: "${{ needs.first.outputs.word }}"}
"#,
    );
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @r#"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    first ▸ Run echo "$LEVEL $SEEN job"
    first │ step workflow step
    first │ Error: the step ended with exit code 1
    first ✓ Run echo "$LEVEL $SEEN job" (failed, may fail) [time]
    first ▸ Run echo "$LEVEL ${LINES}"; found; echo "failure success"
    first │ job one
    first │ two
    first │ from the path
    first │ failure success
    first ✓ Run echo "$LEVEL ${LINES}"; found; echo "failure success" [time]
    first ▸ Run echo "$CI $GITHUB_ACTIONS $GITHUB_EVENT_NAME $GITHUB_REF_NAME refs/heads/main [$CALLERS_SECRET]"
    first │ true true push main refs/heads/main []
    first ✓ Run echo "$CI $GITHUB_ACTIONS $GITHUB_EVENT_NAME $GITHUB_REF_NAME refs/heads/main [$CALLERS_SECRET]" [time]
    second ▸ Run import os; print(os.environ["WORD"], "success")
    second │ hello success
    second ✓ Run import os; print(os.environ["WORD"], "success") [time]
    .github/workflows/ci.yml: success
      first   success  [time]
      second  success  [time]
    exit 0
    "#);
}

#[test]
fn what_cannot_run_is_said_with_its_place_and_the_rest_runs() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: echo fine}]\n",
    );
    scene.file(
        ".github/workflows/b.yml",
        "on: push\njobs:\n  b:\n    runs-on: ubuntu-latest\n    snapshot: image\n    steps:\n      - uses: actions/setup-node@v4\n",
    );
    scene.file(
        ".github/workflows/c.yml",
        "on:\n  push: {tags: ['v*']}\n  schedule: [{cron: '1 1 * * *'}]\njobs:\n  c: {runs-on: x, steps: []}\n",
    );
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @"
    error: key `snapshot` of a job is not supported yet
     --> .github/workflows/b.yml:5:5
      |
    5 |     snapshot: image
      |     ^^^^^^^^
    .github/workflows/c.yml: not run: it filters only the other kind of ref, this is a branch
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run echo fine
    │ fine
    ✓ Run echo fine [time]
    .github/workflows/ci.yml: success
      a  success  [time]
    exit 2
    ");
}

#[test]
fn a_label_that_nobody_serves_ends_the_job_with_that_reason() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  a:\n    runs-on: windows-latest\n    steps: [{run: echo fine}]\n",
    );
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @"
    .github/workflows/ci.yml
    a: no runner serves the label `windows-latest`
    .github/workflows/ci.yml: error
      a  error  no runner serves the label `windows-latest`
    exit 2
    ");
}

#[test]
fn without_a_workflow_the_script_runs_and_without_that_it_says_what_it_looked_for() {
    let scene = Scene::new();
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @"
    nothing to run in [path] no .yml or .yaml in .muster/workflows or .github/workflows, and no executable script/cibuild
    exit 2
    ");
    scene.script("script/cibuild", "#!/bin/sh\necho building in \"$(basename \"$PWD\")\"\n");
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @"
    script/cibuild
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run script/cibuild
    │ building in repository
    ✓ Run script/cibuild [time]
    script/cibuild: success
      cibuild  success  [time]
    exit 0
    ");
}

#[test]
fn one_job_runs_with_what_it_needs_and_in_place_it_changes_the_work_tree() {
    let scene = Scene::new();
    scene.workflow(
        "on: pull_request\njobs:\n  a: {runs-on: x64, steps: [{run: echo a > made}]}\n  b: {runs-on: linux, needs: a, steps: [{uses: actions/checkout@v4}, {run: cat made}]}\n  c: {runs-on: linux, steps: [{run: exit 1}]}\n",
    );
    let done = scene.muster(&[
        "run",
        "--isolation",
        "none",
        "-W",
        ".github/workflows/ci.yml",
        "--job",
        "b",
        "--in-place",
    ]);
    assert_snapshot!(done.story(), @"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    a ▸ Run echo a > made
    a ✓ Run echo a > made [time]
    b ▸ Run actions/checkout@v4
    b │ Running in place: the work tree is used as it is.
    b ✓ Run actions/checkout@v4 [time]
    b ▸ Run cat made
    b │ a
    b ✓ Run cat made [time]
    .github/workflows/ci.yml: success
      a  success  [time]
      b  success  [time]
    exit 0
    ");
    assert!(scene.path().join("made").is_file());
    assert_snapshot!(scene.muster(&["run", "--isolation", "none", "-W", ".github/workflows/ci.yml", "--job", "z"]).story(), @"
    error: no workflow that runs has a job `z`
    exit 2
    ");
}

#[test]
fn outside_a_work_tree_it_cannot_run() {
    let folder = tempfile::tempdir().unwrap();
    let done = crate::scene::muster_in(folder.path(), &["run"]);
    assert_snapshot!(done.story(), @"
    error: muster run needs a git work tree: git rev-parse failed: fatal: not a git repository (or any of the parent directories): .git
    exit 2
    ");
}

#[test]
fn a_checkout_leaves_what_opens_the_code_host() {
    let scene = Scene::new();
    scene.workflow(
        r#"
on: push
jobs:
  look:
    runs-on: ubuntu-latest
    env: {OPEN: 'git config --get http.https://github.com/.extraheader'}
    steps:
      - {uses: actions/checkout@v4, with: {path: job}}
      - {uses: actions/checkout@v4, with: {path: own, token: '${{ secrets.OWN }}'}}
      - {uses: actions/checkout@v4, with: {path: none, persist-credentials: false, token: '${{ secrets.OWN }}'}}
      - run: for d in job own none; do echo "$d $(cd $d; $OPEN)"; done
      - run: for d in job own none; do echo "$d $(cd $d; $OPEN | cut -d' ' -f3 | base64 -d | tr a-z A-Z)"; done
"#,
    );
    scene.commit("one");
    let secrets = ["--secret", "GITHUB_TOKEN=of-the-job", "--secret", "OWN=of-its-own"];
    let told = scene.told(&secrets, &[]);
    let lines = told.lines().filter(|line| line.starts_with("│ ") && !line.contains("Checked out"));
    assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @"
    │ job AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46***
    │ own AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46***
    │ none 
    │ job X-ACCESS-TOKEN:OF-THE-JOB
    │ own X-ACCESS-TOKEN:OF-ITS-OWN
    │ none
    ");
}

#[test]
fn checkout_takes_refs_depths_and_folders() {
    let scene = Scene::new();
    scene.workflow(
        r"
on: push
jobs:
  look:
    runs-on: ubuntu-latest
    steps:
      - {uses: actions/checkout@v4, with: {fetch-depth: 0, path: all}}
      - {uses: actions/checkout@v4, with: {fetch-depth: 2, path: two}}
      - {uses: actions/checkout@v4, with: {ref: v1, path: tag}}
      - {uses: actions/checkout@v4, with: {ref: side, path: tag}}
      - run: for d in all two tag; do (cd $d; echo $d; git log --format=%s; git branch --all; git tag); done
      - {uses: actions/checkout@v4, with: {path: ../out}, continue-on-error: true}
      - {uses: actions/checkout@v4, with: {ref: --output=x}, continue-on-error: true}
",
    );
    scene.commit("one");
    scene.git(&["tag", "v1"]);
    scene.git(&["branch", "side"]);
    for message in ["two", "three"] {
        scene.file("file", message);
        scene.commit(message);
    }
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/tags/v1
    ✓ Run actions/checkout@v4 [time]
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/side
    ✓ Run actions/checkout@v4 [time]
    ▸ Run for d in all two tag; do (cd $d; echo $d; git log --format=%s; git branch --all; git tag); done
    │ all
    │ three
    │ two
    │ one
    │ * main
    │   remotes/origin/main
    │   remotes/origin/side
    │ v1
    │ two
    │ three
    │ two
    │ * main
    │   remotes/origin/main
    │ tag
    │ one
    │ * side
    │   remotes/origin/side
    ✓ Run for d in all two tag; do (cd $d; echo $d; git log --format=%s; git branch --all; git tag); done [time]
    ▸ Run actions/checkout@v4
    │ Error: `path: ../out` leads out of the workspace
    │ Error: the step ended with exit code 1
    ✓ Run actions/checkout@v4 (failed, may fail) [time]
    ▸ Run actions/checkout@v4
    │ Error: `ref: --output=x` is no branch, tag or commit of this repository
    │ Error: the step ended with exit code 1
    ✓ Run actions/checkout@v4 (failed, may fail) [time]
    .github/workflows/ci.yml: success
      look  success  [time]
      error  look: `path: ../out` leads out of the workspace
      error  look: `ref: --output=x` is no branch, tag or commit of this repository
    exit 0
    ");
}

#[test]
fn steps_are_bounded_in_time_and_nothing_of_them_stays() {
    let scene = Scene::new();
    scene.workflow(
        r#"
on: push
jobs:
  slow:
    runs-on: ubuntu-latest
    steps:
      - run: (setsid sleep 4242 & ); sleep 4243 & echo "left behind"
      - {run: sleep 60, timeout-minutes: 0.005, continue-on-error: true}
      - {run: "exit 0", shell: "nonesuch {0}", continue-on-error: true}
      - {run: "exit 0", shell: cmd, continue-on-error: true}
      - {run: "exit 0", working-directory: nowhere, continue-on-error: true}
      - {run: "echo NODE_OPTIONS=x >> $GITHUB_ENV", continue-on-error: true}
      - {run: "echo nothing >> $GITHUB_OUTPUT", continue-on-error: true}
"#,
    );
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @r#"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run (setsid sleep 4242 & ); sleep 4243 & echo "left behind"
    │ left behind
    ✓ Run (setsid sleep 4242 & ); sleep 4243 & echo "left behind" [time]
    ▸ Run sleep 60
    │ Error: the step took longer than its `timeout-minutes` and was stopped
    ✓ Run sleep 60 (failed, may fail) [time]
    ▸ Run exit 0
    │ Error: shell `nonesuch` is not installed on this machine (looked in PATH)
    ✓ Run exit 0 (failed, may fail) [time]
    ▸ Run exit 0
    │ Error: shell `cmd` exists only on Windows
    ✓ Run exit 0 (failed, may fail) [time]
    ▸ Run exit 0
    │ Error: `working-directory`: [path] does not exist
    ✓ Run exit 0 (failed, may fail) [time]
    ▸ Run echo NODE_OPTIONS=x >> $GITHUB_ENV
    │ Error: GITHUB_ENV: `NODE_OPTIONS` cannot be set from a step
    ✓ Run echo NODE_OPTIONS=x >> $GITHUB_ENV [time]
    ▸ Run echo nothing >> $GITHUB_OUTPUT
    │ Error: GITHUB_OUTPUT: invalid line `nothing`: write `name=value` or `name<<DELIMITER`
    ✓ Run echo nothing >> $GITHUB_OUTPUT (failed, may fail) [time]
    .github/workflows/ci.yml: success
      slow  success  [time]
      error  slow: the step took longer than its `timeout-minutes` and was stopped
      error  slow: shell `nonesuch` is not installed on this machine (looked in PATH)
      error  slow: shell `cmd` exists only on Windows
      error  slow: `working-directory`: [path] does not exist
      error  slow: GITHUB_ENV: `NODE_OPTIONS` cannot be set from a step
      error  slow: GITHUB_OUTPUT: invalid line `nothing`: write `name=value` or `name<<DELIMITER`
    exit 0
    "#);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!line.contains("sleep\u{0}424"), "{line} is still there");
    }
}

#[test]
fn what_a_step_left_running_may_write_while_later_steps_wait_for_it() {
    let scene = Scene::new();
    scene.workflow(
        r#"
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      # More than a pipe holds, written after its step has ended.
      - run: |
          (until test -e "$RUNNER_TEMP/next"; do sleep 0.01; done
          yes background | head -c 300000; touch "$RUNNER_TEMP/done") &
      - run: touch "$RUNNER_TEMP/next"; until test -e "$RUNNER_TEMP/done"; do sleep 0.01; done; echo went on
        timeout-minutes: 0.3
"#,
    );
    let done = scene.muster(&["run", "--isolation", "none"]);
    assert_eq!(done.exit, Some(0), "{}", done.err);
    assert!(done.out.contains("│ went on\n"));
    assert_eq!(done.out.matches("background").count(), 300_000 / "background\n".len());
}

#[test]
fn a_pull_request_to_the_default_branch_is_pretended() {
    let scene = Scene::new();
    scene.workflow(
        "on:\n  pull_request:\n    branches: [main]\njobs:\n  test:\n    runs-on: linux\n    steps:\n      \
         - uses: actions/checkout@v4\n      \
         - run: echo \"$GITHUB_EVENT_NAME $GITHUB_BASE_REF $GITHUB_HEAD_REF $GITHUB_REF ${{ github.event.pull_request.title }}\"\n",
    );
    scene.commit("Start");
    scene.git(&["switch", "--quiet", "--create", "topic"]);
    scene.file("more", "");
    scene.commit("Add more");
    let story =
        |args: &[&str]| scene.muster(&[&["run", "--isolation", "none"], args].concat()).story();
    assert_snapshot!(story(&[]), @"
    .github/workflows/ci.yml: not run: `on` does not name `push` (it is for `--event pull_request`)
    nothing to run
    exit 2
    ");
    assert_snapshot!(story(&["--event", "pull_request"]), @r#"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/pull/1/merge
    ✓ Run actions/checkout@v4 [time]
    ▸ Run echo "$GITHUB_EVENT_NAME $GITHUB_BASE_REF $GITHUB_HEAD_REF $GITHUB_REF Add more"
    │ pull_request main topic refs/pull/1/merge Add more
    ✓ Run echo "$GITHUB_EVENT_NAME $GITHUB_BASE_REF $GITHUB_HEAD_REF $GITHUB_REF Add more" [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    "#);
    let unknown = scene.muster(&["run", "--event", "released"]);
    assert_snapshot!(unknown.err, @"error: `released` is no event that starts a workflow");
    assert_eq!(unknown.exit, Some(2));
}

#[test]
fn any_event_is_pretended_with_what_people_and_webhooks_say() {
    let scene = Scene::new();
    scene.file(
        ".github/workflows/deploy.yml",
        r#"
on:
  workflow_dispatch:
    inputs:
      to: {type: choice, options: [staging, production]}
      force: {type: boolean}
      times: {type: number, default: 2}
  release: {types: [published]}
jobs:
  go:
    if: inputs.force || github.event_name == 'release'
    strategy: {matrix: {os: [linux, mac], node: [18, 20]}}
    runs-on: ubuntu-latest
    steps:
      - run: echo "${{ inputs.to }} ${{ inputs.times }} ${{ vars.PLACE }} ${{ matrix.os }} ${{ github.event.release.tag_name }}"
"#,
    );
    scene.file("payload.json", r#"{"action": "published", "release": {"tag_name": "v1"}}"#);
    scene.commit("a deployment");
    let story = |arguments: &[&str]| {
        let base = ["run", "--isolation", "none", "--matrix", "os=mac", "--matrix", "node=20"];
        scene.muster(&[&base[..], arguments].concat()).story()
    };
    let dispatch = ["--event", "workflow_dispatch"];
    let filled = ["--input", "to=production", "--input", "force=true", "--var", "PLACE=here"];
    assert_snapshot!(story(&[&dispatch[..], &filled].concat()), @r#"
    .github/workflows/deploy.yml: under the server these events start nothing yet: release
    .github/workflows/deploy.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run echo "production 2 here mac "
    │ production 2 here mac 
    ✓ Run echo "production 2 here mac " [time]
    .github/workflows/deploy.yml: success
      go (mac, 20)  success  [time]
    exit 0
    "#);
    assert_snapshot!(story(&["--event", "release", "--payload", "payload.json"]), @r#"
    .github/workflows/deploy.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run echo "   mac v1"
    │    mac v1
    ✓ Run echo "   mac v1" [time]
    .github/workflows/deploy.yml: success
      go (mac, 20)  success  [time]
    exit 0
    "#);
    scene.file("filled.json", r#"{"inputs": {"to": "production", "force": "true", "times": "3"}}"#);
    let payload = [&dispatch[..], &["--payload", "filled.json"]].concat();
    assert_snapshot!(story(&payload), @r#"
    .github/workflows/deploy.yml: under the server these events start nothing yet: release
    .github/workflows/deploy.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run echo "production 3  mac "
    │ production 3  mac 
    ✓ Run echo "production 3  mac " [time]
    .github/workflows/deploy.yml: success
      go (mac, 20)  success  [time]
    exit 0
    "#);
    assert_snapshot!(story(&[&payload[..], &["--input", "times=4"]].concat()), @r#"
    .github/workflows/deploy.yml: under the server these events start nothing yet: release
    .github/workflows/deploy.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run echo "production 4  mac "
    │ production 4  mac 
    ✓ Run echo "production 4  mac " [time]
    .github/workflows/deploy.yml: success
      go (mac, 20)  success  [time]
    exit 0
    "#);
    assert_snapshot!(story(&["--event", "release", "--input", "to=staging"]), @"
    error: .github/workflows/deploy.yml: inputs are filled in for event `workflow_dispatch` alone
    exit 2
    ");
    let wrong = ["--input", "to=moon", "--input", "froce=true", "--input", "times=often"];
    assert_snapshot!(story(&[&dispatch[..], &wrong].concat()), @"
    .github/workflows/deploy.yml: under the server these events start nothing yet: release
    error: .github/workflows/deploy.yml: there is no input `froce`; did you mean `force`?; input `to` must be one of staging, production, this is `moon`; input `times` must be a number, this is `often`
    exit 2
    ");
    assert_snapshot!(story(&dispatch), @"
    .github/workflows/deploy.yml: under the server these events start nothing yet: release
    .github/workflows/deploy.yml
    .github/workflows/deploy.yml: success
      go (mac, 20)  skipped  its `if` is false
    exit 0
    ");
    assert_snapshot!(story(&[]), @"
    .github/workflows/deploy.yml: not run: `on` does not name `push` (it is for `--event workflow_dispatch`)
    nothing to run
    exit 2
    ");
}

#[test]
fn files_are_hashed_as_github_hashes_them() {
    let scene = Scene::new();
    // The sums are of `@actions/glob`'s order: folder by folder, by the bytes of names.
    for (path, text) in [
        ("a.lock", "1"),
        ("a/b.lock", "2"),
        ("a/.hidden/c.lock", "3"),
        ("a.d/d.lock", "4"),
        ("{x}/e[1].txt", "5"),
        ("B.lock", "6"),
    ] {
        scene.file(path, text);
    }
    scene.workflow(
        r#"
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - run: "echo before: [${{ hashFiles('**') }}]"
      - uses: actions/checkout@v4
      - run: ln -s /etc outside; ln -s a link; ln -s . a/round; ln -s nowhere dangling; rm -r .git .github
      - run: |
          echo "${{ hashFiles('**/*.lock') }}"
          echo "${{ hashFiles('a') }}"
          echo "${{ hashFiles('**/*.lock', '!a/**') }}"
          echo "${{ hashFiles('{x}/e[[]1].txt') }} ${{ hashFiles('*.txt', 'outside/passwd') }}"
          echo "${{ hashFiles('--follow-symbolic-links', 'link/*.lock') }} ${{ hashFiles('link/*.lock') }}"
          echo "${{ hashFiles(env.WHAT) }}"
        env: {WHAT: '?.lock', NAMED: "${{ hashFiles('B.lock') }}"}
      - run: "echo changed > B.lock; echo ${{ hashFiles('B.lock') }}"
        if: hashFiles('B.lock') != ''
      - run: "echo ${{ hashFiles('B.lock') }}"
      - run: "echo ${{ hashFiles('[') }}"
"#,
    );
    scene.commit("first");
    let story = scene.told(&[], &[]);
    let told = story.lines().filter(|line| line.contains('│') || line.contains("exit"));
    let told = told.collect::<Vec<_>>().join("\n");
    assert_snapshot!(told, @"
    │ before: []
    │ Checked out [sha] at refs/heads/main
    │ 29c101f6d591e1ef2ccd5a39d590258f2e3f0490e0302805c0a675c559f91ae3
    │ 853bfaa87a97f477fdc04977a99395284730c2fd4011d64210089d3da3904272
    │ 3c975e58393c5fc9d79b1e3eb24d8d1bb80b0e4836d26ff9481f9bb0516159aa
    │ b2928391f8a477a27749a556b7386f4da4391e98df1c76459ba7f4ac2ee1a8f7 
    │ 0c08173828583fc6ecd6ecdbcca7b6939c49c242ad5107e39deb7b0a5996b903 
    │ 5af5ba5f70287d813e0bfaf87a8b48d02baff89db6f5ec69ee77b24861b173b8
    │ 93f620df2bb7d859378709f71b820725ef54d985e86662c51027ccfd18d66208
    │ 7bd69f5493cd02cc5ff318e7581e72e25d69a64bf2af45969023b71e9aea7e14
    │ Error: `run`: hashFiles: `[` is no pattern: unclosed character class; missing ']'
    exit 1
    ");
}

#[test]
fn variables_may_come_from_one_expression_at_each_level() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\nenv: \"${{ fromJSON('{\\\"A\\\": 1, \\\"B\\\": true, \\\"C\\\": null}') }}\"\njobs:\n  say:\n    runs-on: ubuntu-latest\n    outputs: {vars: '${{ steps.make.outputs.vars }}'}\n    env: \"${{ fromJSON(format('{{\\\"D\\\": \\\"{0}\\\"}}', github.ref_name)) }}\"\n    steps:\n      - {id: make, run: \"echo 'vars={\\\"E\\\": \\\"of a job\\\"}' >> $GITHUB_OUTPUT; echo \\\"$A $B [$C] $D ${{ env.A }}\\\"\"}\n  take:\n    needs: say\n    runs-on: ubuntu-latest\n    env: \"${{ fromJSON(needs.say.outputs.vars) }}\"\n    steps:\n      - run: echo \"$E, $F\"\n        env: \"${{ fromJSON('{\\\"F\\\": \\\"of a step\\\"}') }}\"\n      - {run: echo never, env: \"${{ fromJSON('[1]') }}\"}\n      - {run: echo never, if: always(), env: \"${{ fromJSON('{\\\"G\\\": {}}') }}\"}\n",
    );
    scene.commit("first");
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @r#"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    say ▸ Run echo 'vars={"E": "of a job"}' >> $GITHUB_OUTPUT; echo "$A $B [$C] $D 1"
    say │ 1 true [] main 1
    say ✓ Run echo 'vars={"E": "of a job"}' >> $GITHUB_OUTPUT; echo "$A $B [$C] $D 1" [time]
    take ▸ Run echo "$E, $F"
    take │ of a job, of a step
    take ✓ Run echo "$E, $F" [time]
    take ▸ Run echo never
    take │ Error: `env`: the expression must give an object of names and texts
    take ✗ Run echo never [time]
    take ▸ Run echo never
    take │ Error: `env`: `G` must be a text
    take ✗ Run echo never [time]
    .github/workflows/ci.yml: failure
      say   success  [time]
      take  failure  [time]
      error  take: `env`: the expression must give an object of names and texts
      error  take: `env`: `G` must be a text
    exit 1
    "#);
}
