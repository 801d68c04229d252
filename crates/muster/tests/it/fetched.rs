//! Actions from elsewhere: fetched by git, kept by commit.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

use crate::actions::path_with_node;
use crate::database::{Database, on_both};
use crate::scene::{Scene, git_in, masked};
use crate::server::Server;

on_both! {
    a_run_that_is_done_again_uses_the_commits_that_it_used,
    a_run_has_the_actions_of_its_own_commit,
}

/// A code host that is a folder, and what was kept of it.
pub(crate) struct Hub {
    folder: TempDir,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn at(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    /// Commits files to a repository of the host.
    pub(crate) fn push(&self, name: &str, files: &[(&str, &str)]) -> String {
        let tree = self.at().join(name);
        let is_new = !tree.exists();
        fs::create_dir_all(&tree).unwrap();
        if is_new {
            git_in(&tree, &["init", "--quiet", "--initial-branch=main", "."]);
        }
        for (path, text) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        git_in(&tree, &["add", "--all"]);
        git_in(&tree, &["commit", "--quiet", "--message", "more"]);
        git_in(&tree, &["rev-parse", "HEAD"])
    }

    pub(crate) fn tag(&self, name: &str, args: &[&str]) {
        git_in(&self.at().join(name), &[&["tag"], args].concat());
    }

    /// Runs what is in a scene in each isolation; the first run fetches, the second finds all here.
    pub(crate) fn told(&self, scene: &Scene, more: &[&str]) -> String {
        self.told_with(scene, more, &path_with_node())
    }

    fn told_with(&self, scene: &Scene, more: &[&str], path: &str) -> String {
        self.told_as(scene, more, path, str::to_owned)
    }

    /// As [`Self::told`], with this PATH, of what `plain` makes of each line.
    pub(crate) fn told_as(
        &self,
        scene: &Scene,
        more: &[&str],
        path: &str,
        plain: fn(&str) -> String,
    ) -> String {
        let (at, cache) = (self.at(), self.folder.path().join("cache"));
        let variables = [
            ("MUSTER_ACTIONS_FROM", at.to_str().unwrap()),
            ("XDG_CACHE_HOME", cache.to_str().unwrap()),
            ("PATH", path),
        ];
        scene.told_as(more, &variables, plain)
    }
}

/// Makes a workflow of steps the scene's.
pub(crate) fn workflow(scene: &Scene, steps: &str) {
    let steps = steps.trim().replace('\n', "\n      ");
    scene.workflow(&format!(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      {steps}\n"
    ));
    scene.commit("first");
}

const COMPOSITE: &str = r#"
name: Say
description: Says it
inputs: {what: {default: nothing}}
outputs: {said: {value: '${{ steps.say.outputs.said }}'}}
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      run: |
        echo "${{ inputs.what }} by $GITHUB_ACTION_REPOSITORY at $GITHUB_ACTION_REF, ${{ github.action_ref }}"
        cat "$GITHUB_ACTION_PATH/words.txt"; echo "${GITHUB_ACTION_PATH#$RUNNER_WORKSPACE/../}" | grep -o "_actions.*"
        echo "said=${{ inputs.what }}" >> "$GITHUB_OUTPUT"; touch "$GITHUB_ACTION_PATH/left"
    - uses: octo/tools/deep/js@v1
      with: {who: '${{ inputs.what }}'}
    - {run: 'echo "again $GITHUB_ACTION_REPOSITORY"', shell: bash}
"#;

const JS: &str = "name: JS\ndescription: d\ninputs: {who: {default: nobody}}\n\
                  runs: {using: node20, pre: pre.js, main: main.js, post: post.js, post-if: \"runner.os == 'Linux'\"}\n";

fn tools(hub: &Hub) {
    let script = |word: &str| {
        format!(
            "const {{INPUT_WHO, STATE_kept, GITHUB_ACTION_REPOSITORY, COLOUR}} = process.env;\n\
             console.log('{word}', INPUT_WHO, STATE_kept, GITHUB_ACTION_REPOSITORY, COLOUR);\n\
             require('fs').appendFileSync(process.env.GITHUB_STATE, 'kept={word} ' + STATE_kept + '\\n');\n"
        )
    };
    hub.push(
        "octo/tools",
        &[
            ("deep/js/action.yml", JS),
            ("deep/js/pre.js", &script("pre")),
            ("deep/js/main.js", &script("main")),
            ("deep/js/post.js", &script("post")),
        ],
    );
    hub.tag("octo/tools", &["v1"]);
}

#[test]
fn actions_are_fetched_with_those_that_they_use() {
    let (hub, scene) = (Hub::new(), Scene::new());
    tools(&hub);
    let first = hub.push("Octo/say", &[("action.yml", COMPOSITE), ("words.txt", "first\n")]);
    hub.tag("Octo/say", &["--annotate", "--message=one", "release/1"]);
    hub.push("Octo/say", &[("words.txt", "second\n")]);
    workflow(
        &scene,
        &format!(
            r#"
- {{id: one, uses: Octo/say@release/1, with: {{what: one}}}}
- {{uses: Octo/say@main, with: {{what: two}}}}
- {{uses: Octo/say@{first}}}
- {{uses: octo/tools/deep/js@v1, with: {{who: '${{{{ steps.one.outputs.said }}}}'}}, env: {{COLOUR: red}}}}
- {{uses: OCTO/Tools/deep/js@v1}}
- run: echo "${{{{ steps.one.outputs.said }}}} [${{{{ github.action_repository }}}}] [$GITHUB_ACTION_REF]"
"#
        ),
    );
    assert_snapshot!(hub.told(&scene, &[]).replace(&first, "[first]"), @r#"
    .github/workflows/ci.yml
    ▸ Pre Run octo/tools/deep/js@v1
    │ pre  undefined octo/tools red
    ✓ Pre Run octo/tools/deep/js@v1 [time]
    ▸ Pre Run OCTO/Tools/deep/js@v1
    │ pre nobody undefined OCTO/Tools undefined
    ✓ Pre Run OCTO/Tools/deep/js@v1 [time]
    ▸ Run Octo/say@release/1
    │ Run echo "one by $GITHUB_ACTION_REPOSITORY at $GITHUB_ACTION_REF, release/1"
    │ one by Octo/say at release/1, release/1
    │ first
    │ _actions/Octo/say/release/1/
    │ Run octo/tools/deep/js@v1
    │ main one undefined octo/tools undefined
    │ Run echo "again $GITHUB_ACTION_REPOSITORY"
    │ again Octo/say
    ✓ Run Octo/say@release/1 [time]
    ▸ Run Octo/say@main
    │ Run echo "two by $GITHUB_ACTION_REPOSITORY at $GITHUB_ACTION_REF, main"
    │ two by Octo/say at main, main
    │ second
    │ _actions/Octo/say/main/
    │ Run octo/tools/deep/js@v1
    │ main two undefined octo/tools undefined
    │ Run echo "again $GITHUB_ACTION_REPOSITORY"
    │ again Octo/say
    ✓ Run Octo/say@main [time]
    ▸ Run Octo/say@[first]
    │ Run echo "nothing by $GITHUB_ACTION_REPOSITORY at $GITHUB_ACTION_REF, [first]"
    │ nothing by Octo/say at [first], [sha]
    │ first
    │ _actions/Octo/say/[first]/
    │ Run octo/tools/deep/js@v1
    │ main nothing undefined octo/tools undefined
    │ Run echo "again $GITHUB_ACTION_REPOSITORY"
    │ again Octo/say
    ✓ Run Octo/say@[first] [time]
    ▸ Run octo/tools/deep/js@v1
    │ main one pre undefined octo/tools red
    ✓ Run octo/tools/deep/js@v1 [time]
    ▸ Run OCTO/Tools/deep/js@v1
    │ main nobody pre undefined OCTO/Tools undefined
    ✓ Run OCTO/Tools/deep/js@v1 [time]
    ▸ Run echo "one [] [$GITHUB_ACTION_REF]"
    │ one [] []
    ✓ Run echo "one [] [$GITHUB_ACTION_REF]" [time]
    ▸ Post Run octo/tools/deep/js@v1
    │ post nothing main undefined octo/tools undefined
    ✓ Post Run octo/tools/deep/js@v1 [time]
    ▸ Post Run octo/tools/deep/js@v1
    │ post two main undefined octo/tools undefined
    ✓ Post Run octo/tools/deep/js@v1 [time]
    ▸ Post Run octo/tools/deep/js@v1
    │ post one main undefined octo/tools undefined
    ✓ Post Run octo/tools/deep/js@v1 [time]
    ▸ Post Run OCTO/Tools/deep/js@v1
    │ post nobody main pre undefined OCTO/Tools undefined
    ✓ Post Run OCTO/Tools/deep/js@v1 [time]
    ▸ Post Run octo/tools/deep/js@v1
    │ post one main pre undefined octo/tools red
    ✓ Post Run octo/tools/deep/js@v1 [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    "#);
}

#[test]
fn an_action_of_the_workspace_uses_those_from_elsewhere() {
    let (hub, scene) = (Hub::new(), Scene::new());
    tools(&hub);
    scene.file(
        "mine/action.yml",
        "runs: {using: composite, steps: [{uses: octo/tools/deep/js@v1, with: {who: us}}, {uses: octo/none@v1}]}\n",
    );
    workflow(
        &scene,
        r#"
- uses: actions/checkout@v4
- run: mkdir -p ../../_actions/octo; ln -s /tmp ../../_actions/octo/tools
- {uses: ./mine, continue-on-error: true}
- run: rm ../../_actions/octo/tools
- {uses: ./mine}
"#,
    );
    assert_snapshot!(hub.told(&scene, &[]), @"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run mkdir -p ../../_actions/octo; ln -s /tmp ../../_actions/octo/tools
    ✓ Run mkdir -p ../../_actions/octo; ln -s /tmp ../../_actions/octo/tools [time]
    ▸ Run ./mine
    │ Error: cannot show `octo/tools@v1`: Not a directory (os error 20)
    ✓ Run ./mine (failed, may fail) [time]
    ▸ Run rm ../../_actions/octo/tools
    ✓ Run rm ../../_actions/octo/tools [time]
    ▸ Run ./mine
    │ Error: cannot get `octo/none@v1` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    ✗ Run ./mine [time]
    .github/workflows/ci.yml: failure
      test  failure  [time]
      error  test: cannot show `octo/tools@v1`: Not a directory (os error 20)
      error  test: cannot get `octo/none@v1` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    exit 1
    ");
}

/// Says which action it is, and asks one of its own repository to say so, too.
fn saying(what: &str, next: &str) -> String {
    format!(
        "name: N\ndescription: d\nruns:\n  using: composite\n  steps:\n\
         \x20   - {{shell: bash, run: 'echo \"{what} of $GITHUB_ACTION_REPOSITORY\"; ls'}}\n{next}"
    )
}

#[test]
fn actions_of_the_own_repository_need_no_checkout() {
    let hub = Hub::new();
    let next = "    - uses: $/inner\n";
    hub.push(
        "octo/kit",
        &[("action.yml", &saying("kit", next)), ("inner/action.yml", &saying("inner", ""))],
    );
    let called = "on: workflow_call\njobs:\n  there:\n    runs-on: ubuntu-latest\n    steps: [{uses: $/act}]\n";
    hub.push(
        "octo/flows",
        &[(".github/workflows/x.yml", called), ("act/action.yml", &saying("act", ""))],
    );
    let scene = Scene::new();
    scene.file(".github/actions/hi/action.yml", &saying("hi", "    - uses: $/./js\n"));
    scene.file("js/action.yml", JS);
    for part in ["pre", "main", "post"] {
        scene.file(
            &format!("js/{part}.js"),
            &format!("console.log('{part}', process.env.INPUT_WHO);\n"),
        );
    }
    scene.workflow(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - uses: $/js\n      - uses: $/.github/actions/hi\n      - uses: octo/kit@main\n\
         \x20     - {uses: $/js, with: {who: me}}\n\
         \x20 call: {needs: test, uses: 'octo/flows/.github/workflows/x.yml@main'}\n\
         \x20 wrong:\n    runs-on: ubuntu-latest\n    needs: call\n    steps: [{uses: $/nowhere}]\n\
         \x20 outside:\n    runs-on: ubuntu-latest\n    needs: wrong\n    if: always()\n    steps: [{uses: $/../../etc}]\n",
    );
    scene.commit("first");
    // What is not committed is there, too.
    scene.file("js/main.js", "console.log('main, changed', process.env.INPUT_WHO, require('fs').readdirSync('.').length);\n");
    assert_snapshot!(hub.told(&scene, &[]), @r#"
    .github/workflows/ci.yml
    test ▸ Pre Run $/js
    test │ pre nobody
    test ✓ Pre Run $/js [time]
    test ▸ Pre Run $/js
    test │ pre me
    test ✓ Pre Run $/js [time]
    test ▸ Run $/js
    test │ main, changed nobody 0
    test ✓ Run $/js [time]
    test ▸ Run $/.github/actions/hi
    test │ Run echo "hi of $GITHUB_ACTION_REPOSITORY"; ls
    test │ hi of local/repository
    test │ Run $/js
    test │ main, changed nobody 0
    test ✓ Run $/.github/actions/hi [time]
    test ▸ Run octo/kit@main
    test │ Run echo "kit of $GITHUB_ACTION_REPOSITORY"; ls
    test │ kit of octo/kit
    test │ Run $/inner
    test │ Run echo "inner of $GITHUB_ACTION_REPOSITORY"; ls
    test │ inner of octo/kit
    test ✓ Run octo/kit@main [time]
    test ▸ Run $/js
    test │ main, changed me 0
    test ✓ Run $/js [time]
    test ▸ Post Run $/js
    test │ post nobody
    test ✓ Post Run $/js [time]
    test ▸ Post Run $/js
    test │ post me
    test ✓ Post Run $/js [time]
    test ▸ Post Run $/js
    test │ post nobody
    test ✓ Post Run $/js [time]
    call / there ▸ Run $/act
    call / there │ Run echo "act of $GITHUB_ACTION_REPOSITORY"; ls
    call / there │ act of octo/flows
    call / there ✓ Run $/act [time]
    wrong ▸ Run $/nowhere
    wrong │ Error: no action in `$/nowhere`: it has neither action.yml nor action.yaml
    wrong ✗ Run $/nowhere [time]
    outside │ Error: `$/../../etc` names nothing of a repository
    outside - Run $/../../etc
    .github/workflows/ci.yml: failure
      test          success  [time]
      call / there  success  [time]
      wrong         failure  [time]
      outside       failure  [time]  `$/../../etc` names nothing of a repository
      error  wrong: no action in `$/nowhere`: it has neither action.yml nor action.yaml
    exit 1
    "#);
}

fn a_run_has_the_actions_of_its_own_commit(database: Database) {
    let server = Server::start(database, "");
    server.scene.file("act/action.yml", &saying("act", ""));
    server.workflow("on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{uses: $/act}]\n");
    let sha = server.push("main", "Act");
    let verdict = server.verdict(&sha);
    assert!(verdict.contains("muster success: 1 successful"), "{verdict}");
    let log = server.muster(&["log", "1"]).out;
    assert!(log.contains("\nact of team/app\n"), "{log}");
}

#[test]
fn what_is_kept_needs_nobody() {
    let (hub, scene) = (Hub::new(), Scene::new());
    tools(&hub);
    let sha = hub.push("octo/say", &[("action.yml", COMPOSITE), ("words.txt", "first\n")]);
    hub.tag("octo/say", &["v1"]);
    workflow(&scene, &format!("- uses: octo/say@v1\n- uses: octo/say@{sha}"));
    assert!(hub.told(&scene, &[]).ends_with("exit 0"));
    fs::rename(hub.at(), hub.folder.path().join("gone")).unwrap();
    let told = hub.told(&scene, &[]);
    let problems: Vec<&str> = told.lines().filter(|line| line.contains("Warning")).collect();
    assert_snapshot!(masked(&problems.join("\n")).replace(&sha, "[sha]"), @"
    │ Warning: octo/say@v1 is taken to be [sha], as it was before: git ls-remote failed: fatal: [path] does not appear to be a git repository
    │ Warning: octo/tools@v1 is taken to be b1ceaeeab4112ca4b318bcb1f56d8c7850214de3, as it was before: git ls-remote failed: fatal: [path] does not appear to be a git repository
    ");
    assert!(told.ends_with("exit 0"), "{told}");
}

#[test]
fn folders_can_stand_for_actions() {
    let (hub, scene) = (Hub::new(), Scene::new());
    let given = tempfile::tempdir().unwrap();
    fs::write(
        given.path().join("action.yml"),
        "runs: {using: composite, steps: [{run: 'echo given $GITHUB_ACTION_REF', shell: bash}]}\n",
    )
    .unwrap();
    workflow(&scene, "- uses: octo/say@v1\n- uses: octo/other@v2");
    let of = |name: &str| format!("{name}={}", given.path().display());
    let (say, other) = (of("octo/say@v1"), of("OCTO/other"));
    assert_snapshot!(hub.told(&scene, &["--action-dir", &say, "--action-dir", &other]), @"
    .github/workflows/ci.yml
    ▸ Run octo/say@v1
    │ Run echo given $GITHUB_ACTION_REF
    │ given v1
    ✓ Run octo/say@v1 [time]
    ▸ Run octo/other@v2
    │ Run echo given $GITHUB_ACTION_REF
    │ given v2
    ✓ Run octo/other@v2 [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    ");
    let wrong = scene.muster(&["run", "--action-dir", "octo=/tmp"]).story();
    assert!(wrong.contains("`octo` names no repository: write OWNER/NAME[@REF]"), "{wrong}");
}

#[test]
fn what_cannot_be_fetched_fails_the_job_before_its_steps() {
    let hub = Hub::new();
    hub.push("octo/empty", &[("README", "nothing\n")]);
    hub.push("octo/wrong", &[("action.yml", "runs: {using: node20}\n")]);
    hub.push("octo/docker", &[("Dockerfile", "FROM scratch\n")]);
    let mut told = String::new();
    for uses in [
        "octo/absent@v1",
        "octo/empty@v9",
        "octo/empty@main",
        "octo/wrong@main",
        "octo/docker@main",
        "octo/../../tmp/x@main",
        "octo/empty@../../x",
    ] {
        let scene = Scene::new();
        workflow(
            &scene,
            &format!("- run: echo before\n- uses: {uses}\n- {{run: echo after, if: always()}}"),
        );
        told.push_str(&hub.told(&scene, &[]));
        told.push_str("\n\n");
    }
    let scene = Scene::new();
    workflow(&scene, &format!("- uses: octo/empty@{}", "1".repeat(40)));
    let absent = hub.told(&scene, &[]);
    assert!(absent.contains("it has no commit [sha]") && absent.ends_with("exit 1"), "{absent}");
    assert_snapshot!(told, @"
    .github/workflows/ci.yml
    │ Error: cannot get `octo/absent@v1` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    - Run echo before
    - Run octo/absent@v1
    - Run echo after
    .github/workflows/ci.yml: failure
      test  failure  [time]  cannot get `octo/absent@v1` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    exit 1

    .github/workflows/ci.yml
    │ Error: cannot get `octo/empty@v9` from [path] it has no branch or tag `v9`
    - Run echo before
    - Run octo/empty@v9
    - Run echo after
    .github/workflows/ci.yml: failure
      test  failure  [time]  cannot get `octo/empty@v9` from [path] it has no branch or tag `v9`
    exit 1

    .github/workflows/ci.yml
    ▸ Run echo before
    │ before
    ✓ Run echo before [time]
    ▸ Run octo/empty@main
    │ Error: no action in `octo/empty@main`: it has neither action.yml nor action.yaml
    ✗ Run octo/empty@main [time]
    ▸ Run echo after
    │ after
    ✓ Run echo after [time]
    .github/workflows/ci.yml: failure
      test  failure  [time]
      error  test: no action in `octo/empty@main`: it has neither action.yml nor action.yaml
    exit 1

    .github/workflows/ci.yml
    ▸ Run echo before
    │ before
    ✓ Run echo before [time]
    ▸ Run octo/wrong@main
    │ Error: octo/wrong@main/action.yml:1: `using: node20` needs `main`
    ✗ Run octo/wrong@main [time]
    ▸ Run echo after
    │ after
    ✓ Run echo after [time]
    .github/workflows/ci.yml: failure
      test  failure  [time]
      error  test: octo/wrong@main/action.yml:1: `using: node20` needs `main`
    exit 1

    .github/workflows/ci.yml
    ▸ Run echo before
    │ before
    ✓ Run echo before [time]
    ▸ Run octo/docker@main
    │ Building Dockerfile
    │ Error: the container engine at /nowhere/engine.sock does not answer: Socket not found: /nowhere/engine.sock
    ✗ Run octo/docker@main [time]
    ▸ Run echo after
    │ after
    ✓ Run echo after [time]
    .github/workflows/ci.yml: failure
      test  failure  [time]
      error  test: the container engine at /nowhere/engine.sock does not answer: Socket not found: /nowhere/engine.sock
    exit 1

    .github/workflows/ci.yml
    │ Error: [path] names nothing of a repository
    - Run echo before
    - Run [path]
    - Run echo after
    .github/workflows/ci.yml: failure
      test  failure  [time]  [path] names nothing of a repository
    exit 1

    .github/workflows/ci.yml
    │ Error: `octo/empty@../../x` names nothing of a repository
    - Run echo before
    - Run octo/empty@../../x
    - Run echo after
    .github/workflows/ci.yml: failure
      test  failure  [time]  `octo/empty@../../x` names nothing of a repository
    exit 1
    ");
}

/// Puts programs into a folder that `PATH` names.
fn programs(folder: &Path, programs: &[(&str, &str)]) -> String {
    for (name, text) in programs {
        fs::write(folder.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{}", folder.display(), path_with_node())
}

#[test]
fn what_muster_brings_with_it_needs_no_code_host() {
    let (hub, scene) = (Hub::new(), Scene::new());
    let tools = tempfile::tempdir().unwrap();
    let path = programs(
        tools.path(),
        &[
            (
                "rustup",
                r#"case "$1 $2" in
"run 1.60"*) exit 0 ;;
"run"*) exit 1 ;;
"component list") echo "clippy-x86_64-unknown-linux-gnu (installed)"; echo "rustfmt-x86_64-unknown-linux-gnu" ;;
*) echo "rustup $*" ;;
esac"#,
            ),
            (
                "rustc",
                "echo rustc of $1; case $3 in --verbose) echo 'commit-hash: abcdef0123456789'; echo 'commit-date: 2022-06-27' ;; esac",
            ),
            ("cargo", "for word in \"$@\"; do echo \"[$word]\"; done"),
        ],
    );
    workflow(
        &scene,
        r#"
- {id: rust, uses: dtolnay/rust-toolchain@stable, with: {components: 'clippy, rustfmt', target: wasm32-unknown-unknown}}
- run: echo "${{ steps.rust.outputs.cachekey }} ${{ steps.rust.outputs.name }} $CARGO_INCREMENTAL"
- {uses: dtolnay/rust-toolchain@master, with: {toolchain: 1.60.0, components: clippy}}
- {uses: dtolnay/rust-toolchain@master, continue-on-error: true}
- {uses: hecrj/setup-rust-action@v1, with: {rust-version: nightly}}
- {uses: actions-rs/toolchain@v1, with: {toolchain: beta, override: true}}
- {uses: actions-rs/cargo@v1, with: {command: test, args: --all -- 'two words'}}
- {uses: taiki-e/install-action@cargo-hack}
"#,
    );
    let told = hub.told_with(&scene, &[], &path);
    let told: Vec<&str> = told.lines().filter(|line| !line.contains("│ Run ")).collect();
    assert_snapshot!(told.join("\n"), @r#"
    .github/workflows/ci.yml
    ▸ Run dtolnay/rust-toolchain@stable
    │ rustup toolchain install stable --profile minimal --no-self-update --component clippy --component rustfmt --target wasm32-unknown-unknown
    │ rustup default stable
    │ rustc of +stable
    ✓ Run dtolnay/rust-toolchain@stable [time]
    ▸ Run echo "20220627abcd stable $CARGO_INCREMENTAL"
    │ 20220627abcd stable 0
    ✓ Run echo "20220627abcd stable $CARGO_INCREMENTAL" [time]
    ▸ Run dtolnay/rust-toolchain@master
    │ 1.60.0 is on this machine
    │ rustup default 1.60.0
    │ rustc of +1.60.0
    ✓ Run dtolnay/rust-toolchain@master [time]
    ▸ Run dtolnay/rust-toolchain@master
    │ Error: 'toolchain' is a required input
    │ Error: the step ended with exit code 1
    ✓ Run dtolnay/rust-toolchain@master (failed, may fail) [time]
    ▸ Run hecrj/setup-rust-action@v1
    │ rustup toolchain install nightly --profile minimal --no-self-update
    │ rustup default nightly
    │ rustc of +nightly
    ✓ Run hecrj/setup-rust-action@v1 [time]
    ▸ Run actions-rs/toolchain@v1
    │ rustup toolchain install beta --profile default --no-self-update
    │ rustc of +beta
    │ rustup override set beta
    ✓ Run actions-rs/toolchain@v1 [time]
    ▸ Run actions-rs/cargo@v1
    │ + cargo test --all -- 'two words'
    │ [test]
    │ [--all]
    │ [--]
    │ [two words]
    ✓ Run actions-rs/cargo@v1 [time]
    ▸ Run taiki-e/install-action@cargo-hack
    │ [install]
    │ [--locked]
    │ [cargo-hack]
    ✓ Run taiki-e/install-action@cargo-hack [time]
    .github/workflows/ci.yml: success
      test  success  [time]
      error  test: 'toolchain' is a required input
    exit 0
    "#);
    // Who names a commit wants that code, and so does who wants none of muster's.
    workflow(&scene, &format!("- uses: dtolnay/rust-toolchain@{}", "1".repeat(40)));
    assert!(hub.told_with(&scene, &[], &path).contains("cannot get `dtolnay/rust-toolchain@"));
    assert!(
        hub.told_with(&scene, &["--native", "always"], &path)
            .contains("'toolchain' is a required input")
    );
    workflow(&scene, "- uses: dtolnay/rust-toolchain@stable");
    let never = hub.told_with(&scene, &["--native", "never"], &path);
    assert!(never.contains("cannot get `dtolnay/rust-toolchain@stable`"), "{never}");
}

#[test]
fn a_checkout_of_more_than_the_own_repository_is_the_action_itself() {
    let (scene, hub) = (Scene::new(), Hub::new());
    let script = "const {INPUT_REPOSITORY, INPUT_SUBMODULES, INPUT_TOKEN} = process.env;\n\
                  console.log('real', INPUT_REPOSITORY.replace(/local.*/, 'ours'), INPUT_SUBMODULES, INPUT_TOKEN);\n";
    let inputs = "inputs: {repository: {default: '${{ github.repository }}'}, submodules: {default: false}, token: {default: '${{ github.token }}'}, path: {}}\n";
    let manifest =
        format!("name: C\ndescription: d\n{inputs}runs: {{using: node20, main: main.js}}\n");
    hub.push("actions/checkout", &[("action.yml", &manifest), ("main.js", script)]);
    hub.tag("actions/checkout", &["v4"]);
    workflow(
        &scene,
        "- uses: actions/checkout@v4\n- {uses: actions/checkout@v4, with: {repository: octo/tools, path: tools}}\n- {uses: actions/checkout@v4, with: {submodules: recursive}}",
    );
    assert_snapshot!(hub.told(&scene, &["--secret", "GITHUB_TOKEN=hidden"]), @"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run actions/checkout@v4
    │ real octo/tools false ***
    ✓ Run actions/checkout@v4 [time]
    ▸ Run actions/checkout@v4
    │ real ours recursive ***
    ✓ Run actions/checkout@v4 [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    ");
}

fn a_run_that_is_done_again_uses_the_commits_that_it_used(database: Database) {
    let hub = Hub::new();
    let say = |word: &str| {
        format!("runs: {{using: composite, steps: [{{run: echo {word}, shell: sh}}]}}\n")
    };
    let first = hub.push("octo/say", &[("action.yml", &say("first"))]);
    let actions = format!("[actions]\nfrom = \"{}\"\n", hub.at().display());
    let server = Server::start(database, &actions);
    workflow(&server.scene, "- uses: octo/say@main\n- run: test -e /nonexistent");
    server.scene.file("once", "");
    let sha = server.push("main", "Say it");
    server.verdict(&sha);
    hub.push("octo/say", &[("action.yml", &say("second"))]);
    let done = server.muster(&["rerun", "1"]);
    assert_eq!(done.exit, Some(0), "{}", done.err);
    server.until("it has run again", |server| {
        let run: Value = serde_json::from_str(&server.get("/api/v1/runs/1")).unwrap();
        run["attempt"] == 2 && run["conclusion"] == "failure"
    });
    let log = server.muster(&["log", "1"]).out;
    assert!(log.contains(&format!("Action octo/say@main is {first}\n")), "{log}");
    assert!(log.contains("\nfirst\n") && !log.contains("second"), "{log}");
    // Another run takes what is there now.
    server.scene.file("twice", "");
    let sha = server.push("main", "Say it again");
    server.verdict(&sha);
    assert!(server.muster(&["log", "2"]).out.contains("\nsecond\n"));
    assert!(Path::new(&server.data()).join("actions/octo/say").is_dir());
}
