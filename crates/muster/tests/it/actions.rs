//! Actions that lie in the repository.

use insta::assert_snapshot;

use crate::scene::Scene;

/// Where the test command installs a Node.js that is no part of the system.
const NODES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/npm/node_modules");

/// Returns a `PATH` that leads to it.
pub(crate) fn path_with_node() -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    format!("{NODES}/node-linux-{arch}/bin:{}", std::env::var("PATH").unwrap())
}

/// No action is fetched from anywhere.
const NOWHERE: (&str, &str) = ("MUSTER_ACTIONS_FROM", "/nowhere");

/// Runs what is in the scene in each isolation.
fn told(scene: &Scene) -> String {
    scene.told(&[], &[("PATH", &path_with_node()), NOWHERE])
}

fn workflow(steps: &str) -> String {
    let steps = steps.trim_end().replace('\n', "\n      ");
    format!(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    defaults: {{run: {{shell: sh, working-directory: sub}}}}\n    \
         steps:\n      - uses: actions/checkout@v4\n      {}\n",
        steps.trim_start()
    )
}

#[test]
fn a_composite_action_does_its_steps_with_inputs_and_outputs_of_its_own() {
    let scene = Scene::new();
    scene.workflow(&workflow(
        r#"
- id: make
  uses: ./tools/make
  with: {level: high, other: 1}
  env: {COLOUR: red}
- run: echo "$MADE ${{ steps.make.outputs.made }} ${{ steps.make.outcome }} [${{ steps.inner.outcome }}] $COLOUR"
- run: greet
"#,
    ));
    scene.file("sub/README", "");
    scene.file("tools/greet", "#!/bin/sh\necho hello from the path\n");
    scene.file(
        "tools/make/action.yml",
        r#"
name: Make
description: Makes
inputs:
  level: {default: low}
  target: {default: 'all of ${{ github.ref_name }}'}
  old: {deprecationMessage: gone}
outputs:
  made: {value: '${{ steps.inner.outputs.deep }}, ${{ inputs.level }}'}
runs:
  using: composite
  steps:
    - run: echo "${{ inputs.level }} ${{ inputs.target }} ${{ inputs.other }} $COLOUR ${{ env.COLOUR }} $(basename "$PWD")"
      shell: bash
    - name: Say more
      shell: bash
      run: |
        echo MADE=yes >> "$GITHUB_ENV"
        chmod +x "$GITHUB_ACTION_PATH/../greet"; echo "$GITHUB_ACTION_PATH/.." >> "$GITHUB_PATH"
    - {run: exit 3, shell: sh, continue-on-error: true}
    - {run: echo "still $MADE", shell: sh, working-directory: sub}
    - id: inner
      uses: ./tools/inner
      with: {what: '${{ inputs.level }}er'}
"#,
    );
    scene.file(
        "tools/inner/action.yaml",
        r#"
name: Inner
description: Within
inputs: {what: {required: true}}
outputs: {deep: {value: '${{ steps.say.outputs.word }}'}}
runs:
  using: composite
  steps:
    - {id: say, run: 'echo "word=${{ inputs.what }}" >> "$GITHUB_OUTPUT"; basename "$GITHUB_ACTION_PATH"', shell: sh}
"#,
    );
    scene.commit("first");
    assert_snapshot!(told(&scene), @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ./tools/make
    │ Warning: the action has no input `other`
    │ Run echo "high all of main 1 $COLOUR red $(basename "$PWD")"
    │ high all of main 1 red red repository
    │ Say more
    │ Run exit 3
    │ Error: the step ended with exit code 3
    │ Run echo "still $MADE"
    │ still yes
    │ Run ./tools/inner
    │ Run echo "word=higher" >> "$GITHUB_OUTPUT"; basename "$GITHUB_ACTION_PATH"
    │ inner
    ✓ Run ./tools/make [time]
    ▸ Run echo "$MADE higher, high success [] $COLOUR"
    │ yes higher, high success [] 
    ✓ Run echo "$MADE higher, high success [] $COLOUR" [time]
    ▸ Run greet
    │ hello from the path
    ✓ Run greet [time]
    .github/workflows/ci.yml: success
      test  success  [time]
      warning  test: the action has no input `other`
    exit 0
    "#);
}

#[test]
fn a_composite_action_that_fails_goes_on_as_its_conditions_say() {
    let scene = Scene::new();
    scene.workflow(&workflow(
        r#"
- {id: bad, uses: ./bad, continue-on-error: true}
- {run: 'echo ${{ steps.bad.outcome }} ${{ steps.bad.conclusion }} ${{ steps.bad.outputs.why }}', working-directory: .}
- {run: exit 4, working-directory: .}
- {uses: ./good, if: failure()}
- {uses: ./slow, if: always(), timeout-minutes: 0.005}
"#,
    ));
    scene.file(
        "bad/action.yml",
        r#"
runs:
  using: composite
  steps:
    - {id: fail, run: 'echo "why=because" >> "$GITHUB_OUTPUT"; exit 7', shell: sh}
    - {run: echo not reached, shell: sh}
    - {run: 'echo ${{ steps.fail.outcome }} ${{ job.status }}', shell: sh, if: failure()}
    - {run: echo cleaning up, shell: sh, if: always()}
outputs: {why: {value: '${{ steps.fail.outputs.why }}'}}
"#,
    );
    scene.file(
        "good/action.yml",
        "runs: {using: composite, steps: [{run: echo in order, shell: sh, if: success()}]}\n",
    );
    scene.file(
        "slow/action.yml",
        "runs: {using: composite, steps: [{run: sleep 987, shell: sh}]}\n",
    );
    scene.commit("first");
    assert_snapshot!(told(&scene), @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ./bad
    │ Run echo "why=because" >> "$GITHUB_OUTPUT"; exit 7
    │ Error: the step ended with exit code 7
    │ Run echo failure success
    │ failure success
    │ Run echo cleaning up
    │ cleaning up
    ✓ Run ./bad (failed, may fail) [time]
    ▸ Run echo failure success because
    │ failure success because
    ✓ Run echo failure success because [time]
    ▸ Run exit 4
    │ Error: the step ended with exit code 4
    ✗ Run exit 4 [time]
    ▸ Run ./good
    │ Run echo in order
    │ in order
    ✓ Run ./good [time]
    ▸ Run ./slow
    │ Run sleep 987
    │ Error: the step took longer than its `timeout-minutes` and was stopped
    ✗ Run ./slow [time]
    .github/workflows/ci.yml: failure
      test  failure  [time]
      error  test: the step took longer than its `timeout-minutes` and was stopped
    exit 1
    "#);
}

#[test]
fn an_action_in_javascript_gets_its_inputs_and_cleans_up_at_the_end() {
    let scene = Scene::new();
    scene.workflow(&workflow(
        r#"
- {id: first, uses: ./js, with: {the name: one, list: "a\nb"}, env: {COLOUR: red}}
- {uses: ./around}
- {run: 'echo ${{ steps.first.outputs.greeting }} $SET; exit 1', working-directory: .}
- {uses: ./js, with: {the name: never}}
"#,
    ));
    scene.file(
        "js/action.yml",
        "name: JS\ndescription: d\ninputs: {the name: {}, list: {}, extra: {default: '${{ github.ref_name }}'}}\n\
         outputs: {greeting: {}}\nruns: {using: node20, main: dist/main.js, post: dist/post.js}\n",
    );
    scene.file(
        "js/dist/main.js",
        r#"
const fs = require("fs");
const { INPUT_THE_NAME: name, INPUT_LIST: list, INPUT_EXTRA: extra, COLOUR: colour } = process.env;
console.log(name, JSON.stringify(list), extra, colour, process.cwd() === process.env.GITHUB_WORKSPACE);
fs.appendFileSync(process.env.GITHUB_OUTPUT, `greeting=hello ${name}\n`);
fs.appendFileSync(process.env.GITHUB_ENV, "SET=by node\n");
fs.appendFileSync(process.env.GITHUB_STATE, `kept=${name}\n`);
"#,
    );
    scene.file(
        "js/dist/post.js",
        "console.log('cleaning up after', process.env.STATE_kept, process.env.INPUT_THE_NAME, process.env.COLOUR);\n",
    );
    scene.file(
        "around/action.yml",
        "runs: {using: composite, steps: [{uses: ./js, with: {the name: two}}, {uses: ./when}]}\n",
    );
    scene.file(
        "when/action.yml",
        "runs: {using: node24, main: ../js/dist/main.js, post: ../js/dist/post.js, post-if: success()}\n",
    );
    scene.commit("first");
    assert_snapshot!(told(&scene), @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ./js
    │ one "a\nb" main red true
    ✓ Run ./js [time]
    ▸ Run ./around
    │ Run ./js
    │ two "" main undefined true
    │ Run ./when
    │ undefined undefined undefined undefined true
    ✓ Run ./around [time]
    ▸ Run echo hello one $SET; exit 1
    │ hello one by node
    │ Error: the step ended with exit code 1
    ✗ Run echo hello one $SET; exit 1 [time]
    - Run ./js
    ▸ Post Run ./js
    │ cleaning up after two two undefined
    ✓ Post Run ./js [time]
    ▸ Post Run ./js
    │ cleaning up after one one red
    ✓ Post Run ./js [time]
    .github/workflows/ci.yml: failure
      test  failure  [time]
    exit 1
    "#);
}

#[test]
fn what_is_wrong_with_an_action_is_told_by_the_step() {
    let scene = Scene::new();
    let names = [
        "./absent", "./wrong", "./docker", "./../out", "./link", "./cycle", "./remote", "./pipe",
        "./huge",
    ];
    let steps: String =
        names.iter().map(|name| format!("- {{uses: {name}, if: always()}}\n")).collect();
    scene.workflow(&workflow(&format!(
        "- {{run: 'mkdir pipe; mkfifo pipe/action.yml; ln -s /etc link', working-directory: .}}\n{steps}"
    )));
    scene.file("wrong/action.yml", "inputs: a\nruns: {using: node14, main: a.js}\n");
    scene.file("docker/action.yml", "runs: {using: docker, image: Dockerfile}\n");
    scene.file("cycle/action.yml", "runs: {using: composite, steps: [{uses: ./cycle}]}\n");
    scene
        .file("remote/action.yml", "runs: {using: composite, steps: [{uses: actions/cache@v4}]}\n");
    scene.file("huge/action.yml", &format!("# {}\n", "x".repeat(1 << 20)));
    scene.commit("first");
    assert_snapshot!(told(&scene), @"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run mkdir pipe; mkfifo pipe/action.yml; ln -s /etc link
    ✓ Run mkdir pipe; mkfifo pipe/action.yml; ln -s /etc link [time]
    ▸ Run ./absent
    │ Error: no action in `./absent`: it has neither action.yml nor action.yaml. Is the repository checked out before this step?
    ✗ Run ./absent [time]
    ▸ Run ./wrong
    │ Error: ./wrong/action.yml:1: `inputs` must be a mapping, this is a string
    │ ./wrong/action.yml:2: `node14` is nothing that runs an action
    ✗ Run ./wrong [time]
    ▸ Run ./docker
    │ Building Dockerfile
    │ Error: the container engine at /nowhere/engine.sock does not answer: Socket not found: /nowhere/engine.sock
    ✗ Run ./docker [time]
    ▸ Run ./../out
    │ Error: cannot read ./../out/action.yml: it leads out of the workspace
    ✗ Run ./../out [time]
    ▸ Run ./link
    │ Error: cannot read ./link/action.yml: it leads out of the workspace
    ✗ Run ./link [time]
    ▸ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Run ./cycle
    │ Error: composite actions use each other deeper than 10
    ✗ Run ./cycle [time]
    ▸ Run ./remote
    │ Error: cannot get `actions/cache@v4` from /nowhere: git ls-remote failed: fatal: '/nowhere/actions/cache' does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    ✗ Run ./remote [time]
    ▸ Run ./pipe
    │ Error: cannot read ./pipe/action.yml: it is no regular file
    ✗ Run ./pipe [time]
    ▸ Run ./huge
    │ Error: ./huge/action.yml has more than 1048576 bytes
    ✗ Run ./huge [time]
    .github/workflows/ci.yml: failure
      test  failure  [time]
      error  test: no action in `./absent`: it has neither action.yml nor action.yaml. Is the repository checked out before this step?
      error  test: ./wrong/action.yml:1: `inputs` must be a mapping, this is a string ./wrong/action.yml:2: `node14` is nothing that runs an action
      error  test: the container engine at /nowhere/engine.sock does not answer: Socket not found: /nowhere/engine.sock
      error  test: cannot read ./../out/action.yml: it leads out of the workspace
      error  test: cannot read ./link/action.yml: it leads out of the workspace
      error  test: composite actions use each other deeper than 10
      error  test: cannot get `actions/cache@v4` from /nowhere: git ls-remote failed: fatal: '/nowhere/actions/cache' does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
      error  test: cannot read ./pipe/action.yml: it is no regular file
      error  test: ./huge/action.yml has more than 1048576 bytes
    exit 1
    ");
}

#[test]
fn an_older_node_is_told_before_it_fails_in_its_own_way() {
    let scene = Scene::new();
    scene.workflow(&workflow("- uses: ./js"));
    scene.file("js/action.yml", "runs: {using: node24, main: main.js}\n");
    scene.commit("first");
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("node");
    std::fs::write(&node, "#!/bin/sh\necho v18.20.4\n").unwrap();
    std::fs::set_permissions(&node, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let told = scene.muster_with(&["run", "--isolation", "none"], &[("PATH", &path)]);
    let line =
        format!("Error: the action asks for Node.js 24, and {} is `v18.20.4`", node.display());
    assert!(told.out.contains(&line), "{}", told.out);
}

#[test]
fn what_an_action_uses_again_and_again_ends() {
    let scene = Scene::new();
    scene.workflow(&workflow(
        "- uses: ./wide\n- {run: echo cleaning up, if: always(), working-directory: .}\n",
    ));
    let steps = "    - {uses: ./wide, if: always(), continue-on-error: true}\n".repeat(50);
    scene.file("wide/action.yml", &format!("runs:\n  using: composite\n  steps:\n{steps}"));
    scene.commit("first");
    let told = scene.muster(&["run", "--isolation", "none"]).story();
    assert!(told.lines().count() < 2_100, "{} lines", told.lines().count());
    let end: Vec<&str> = told.lines().rev().take(9).collect();
    assert_snapshot!(end.into_iter().rev().collect::<Vec<_>>().join("\n"), @"
      error  test: composite actions use each other deeper than 10
      error  test: composite actions use each other deeper than 10
      error  test: composite actions use each other deeper than 10
      error  test: composite actions use each other deeper than 10
      error  test: composite actions use each other deeper than 10
      error  test: composite actions use each other deeper than 10
      error  test: composite actions use each other deeper than 10
      error  test: composite actions use each other deeper than 10
    exit 1
    ");
}

#[test]
fn a_composite_action_cleans_up_after_a_job_that_took_too_long() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    timeout-minutes: 0.01\n    steps:\n      - uses: actions/checkout@v4\n      - run: sleep 986\n      - {uses: ./clean, if: always()}\n",
    );
    scene.file(
        "clean/action.yml",
        "runs:\n  using: composite\n  steps:\n    - {run: 'echo cleaning ${{ github.action_status }} ${{ job.status }}', shell: sh}\n    - {run: echo known, shell: sh, if: cancelled()}\n    - {run: exit 1, shell: sh}\n    - {run: 'echo ${{ github.action_status }}', shell: sh, if: failure()}\n",
    );
    scene.commit("first");
    assert_snapshot!(told(&scene), @"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run sleep 986
    │ Error: stopped: the job took longer than its `timeout-minutes`
    ■ Run sleep 986 [time]
    ▸ Run ./clean
    │ Run echo cleaning success cancelled
    │ cleaning success cancelled
    │ Run echo known
    │ known
    │ Run exit 1
    │ Error: the step ended with exit code 1
    │ Run echo failure
    │ failure
    ✗ Run ./clean [time]
    .github/workflows/ci.yml: timed_out
      test  timed_out  [time]  the job took longer than its `timeout-minutes`
      error  test: stopped: the job took longer than its `timeout-minutes`
    exit 1
    ");
}

#[test]
fn the_end_of_an_action_has_what_its_step_had() {
    let scene = Scene::new();
    scene.workflow(&workflow(
        r#"
- {id: outer, uses: ./around, env: {TOKEN: for both}, with: {undeclared: kept}}
- {id: may-fail, uses: ./js, continue-on-error: true, env: {FAIL: 1}}
- {id: last, run: 'true', working-directory: .}
"#,
    ));
    scene.file(
        "around/action.yml",
        "runs: {using: Composite, steps: [{uses: ./js}, {run: 'echo ${{ inputs.undeclared }} $GITHUB_ACTION', shell: sh}]}\n",
    );
    scene.file(
        "js/action.yml",
        "runs: {using: Node20, main: main.js, pre: main.js, post: post.js}\n",
    );
    scene
        .file("js/main.js", "console.log('main', process.env.TOKEN, process.env.GITHUB_ACTION);\n");
    scene.file(
        "js/post.js",
        "console.log('post', process.env.TOKEN, process.env.GITHUB_ACTION); process.exit(process.env.FAIL ? 1 : 0);\n",
    );
    scene.commit("first");
    assert_snapshot!(told(&scene), @"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ./around
    │ Warning: the action has no input `undeclared`
    │ Run ./js
    │ Warning: `pre` of an action in the workspace does not run
    │ main for both outer
    │ Run echo kept $GITHUB_ACTION
    │ kept outer
    ✓ Run ./around [time]
    ▸ Run ./js
    │ Warning: `pre` of an action in the workspace does not run
    │ main undefined may-fail
    ✓ Run ./js [time]
    ▸ Run true
    ✓ Run true [time]
    ▸ Post Run ./js
    │ post undefined may-fail
    │ Error: the step ended with exit code 1
    ✓ Post Run ./js (failed, may fail) [time]
    ▸ Post Run ./js
    │ post for both outer
    ✓ Post Run ./js [time]
    .github/workflows/ci.yml: success
      test  success  [time]
      warning  test: the action has no input `undeclared`
      warning  test: `pre` of an action in the workspace does not run
      warning  test: `pre` of an action in the workspace does not run
    exit 0
    ");
}

/// Who asks `node` for its version is a step, never the runner: a step may have put it there.
#[test]
fn what_a_step_has_put_in_path_is_run_as_the_steps_are() {
    // The action asks for a newer Node.js than a system has: the one that a step has put there is asked, too.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let server =
        crate::server::Server::start(crate::database::Database::Sqlite, "isolation = \"none\"\n");
    server.scene.file("js/action.yml", "runs: {using: node24, main: main.js}\n");
    server.scene.workflow(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: |\n          folder=$(mktemp -d)\n          printf '#!/bin/sh\\nid -un >> who\\necho v99.0.0\\n' > $folder/node\n          chmod -R a+rx $folder; echo $folder >> $GITHUB_PATH\n      - uses: ./js\n      - run: cat who\n",
    );
    let sha = server.push("main", "A node of its own");
    let verdict = server.verdict(&sha);
    let log = server.muster(&["log", "1"]).out;
    assert!(verdict.contains("test success"), "{verdict}{log}");
    if !log.contains("No user of their own") {
        let said: Vec<&str> = log.lines().skip_while(|line| *line != "runner").collect();
        assert_eq!(said, ["runner", "runner"], "{log}");
    }
}
