//! Artifacts and caches, by GitHub's own clients.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::process::Program;
use serde_json::Value;

use crate::actions::path_with_node;
use crate::database::{Database, on_both};
use crate::github::Story;
use crate::scene::Scene;
use crate::server::Server;

on_both! {
    artifacts_pass_from_job_to_job_and_reach_people,
    a_job_that_may_shows_clouds_who_it_is,
    an_approved_strangers_job_reaches_them_without_a_network,
}

const ACTION: &str = "name: Clients\ndescription: d\ninputs: {do: {required: true}}\n\
                      runs: {using: node20, main: main.js}\n";

/// Some of what the clients use asks for files by `require`.
const REQUIRE: &str = "import { createRequire as askFor } from 'node:module'; \
                       globalThis.require = askFor(import.meta.url); \
                       globalThis.__dirname = import.meta.dirname;";

/// Returns the action around the clients as one file; `None` where the clients are not installed.
pub(crate) fn clients() -> Option<&'static str> {
    static BUNDLE: OnceLock<Option<String>> = OnceLock::new();
    let bundle = BUNDLE.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let npm = here.join("../../target/npm/node_modules");
        let there = npm.join("@actions/artifact").is_dir() && npm.join("esbuild").is_dir();
        assert!(there || std::env::var_os("CI").is_none(), "GitHub's clients are not installed");
        if !there {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (entry, out) = (folder.path().join("clients.mjs"), folder.path().join("main.js"));
        fs::copy(here.join("tests/it/data/clients.mjs"), &entry).unwrap();
        let output = Program::new(npm.join(".bin/esbuild"))
            .args(["--bundle", "--platform=node", "--format=esm", "--log-level=error"])
            .arg(format!("--banner:js={REQUIRE}"))
            .arg(format!("--outfile={}", out.display()))
            .arg(&entry)
            .env("NODE_PATH", &npm)
            .env("PATH", path_with_node())
            .output(Duration::from_secs(60), 1 << 20)
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(fs::read_to_string(out).unwrap())
    });
    if bundle.is_none() {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: GitHub's clients are not installed");
        }
    }
    bundle.as_deref()
}

/// Puts the action into a repository.
pub(crate) fn with_clients(scene: &Scene, bundle: &str) {
    scene.file("clients/action.yml", ACTION);
    scene.file("clients/main.js", bundle);
    scene.file("clients/package.json", "{\"type\": \"module\"}\n");
}

/// Leaves what the clients themselves have said.
pub(crate) fn said(story: &str) -> String {
    let lines = story.lines().filter(|line| line.contains("said: ") || line.contains("rror"));
    lines.map(|line| line.trim_start()).collect::<Vec<_>>().join("\n")
}

#[test]
fn githubs_own_clients_work_in_each_isolation() {
    let Some(bundle) = clients() else { return };
    let scene = Scene::new();
    with_clients(&scene, bundle);
    scene.workflow(
        "on: push\njobs:\n  make:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - run: mkdir out; seq 3000000 > out/large; echo tiny > out/small\n\
         \x20     - {uses: ./clients, with: {do: upload first}}\n\
         \x20     - {uses: ./clients, with: {do: save key-1}}\n\
         \x20     - {uses: ./clients, with: {do: tools}}\n\
         \x20     - run: 'echo \"said: $FROM_CORE\"'\n\
         \x20 take:\n    needs: make\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - {uses: ./clients, with: {do: download first}}\n\
         \x20     - {uses: ./clients, with: {do: restore key-none}}\n\
         \x20     - run: 'echo \"said: $(cmp out/large got/large && tail -1 out/large) token=$ACTIONS_RUNTIME_TOKEN\"'\n\
         \x20     - {uses: ./clients, with: {do: remove first}}\n",
    );
    scene.commit("first");
    let path = path_with_node();
    // Without a network, too: the services are all that such a job reaches.
    let hosts = ["sandbox", "--allow-host", "name.invalid"];
    for how in [&["none"][..], &["sandbox"], &["sandbox", "--no-network"], &hosts] {
        let cache = tempfile::tempdir().unwrap();
        let variables = [("XDG_CACHE_HOME", cache.path().to_str().unwrap()), ("PATH", &*path)];
        let args = [&["run", "--isolation"], how].concat();
        let done = scene.muster_with(&args, &variables);
        insta::allow_duplicates! { assert_snapshot!(said(&done.story()), @r#"
    make │ said: first has an id: true, a size: true, a digest: 64
    make │ said: true
    make │ said: true push local ***
    make ▸ Run echo "said: $FROM_CORE"
    make │ said: yes
    make ✓ Run echo "said: $FROM_CORE" [time]
    take │ said: first
    take │ said: digest differs: false, small is tiny
    take │ said: key-1
    take ▸ Run echo "said: $(cmp out/large got/large && tail -1 out/large) token=$ACTIONS_RUNTIME_TOKEN"
    take │ said: 3000000 token=
    take ✓ Run echo "said: $(cmp out/large got/large && tail -1 out/large) token=$ACTIONS_RUNTIME_TOKEN" [time]
    take │ said: 0
    "#); }
    }
}

#[test]
fn artifacts_are_left_in_a_folder_where_they_are_asked_for() {
    let Some(bundle) = clients() else { return };
    let scene = Scene::new();
    with_clients(&scene, bundle);
    scene.workflow(
        "on: push\njobs:\n  make:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - run: mkdir out; echo large > out/large; echo tiny > out/small\n\
         \x20     - {uses: ./clients, with: {do: upload first}}\n",
    );
    scene.commit("first");
    let (to, path) = (tempfile::tempdir().unwrap(), path_with_node());
    let at = to.path().join("left");
    let args = ["run", "--artifacts", at.to_str().unwrap()];
    let done = scene.muster_with(&args, &[("PATH", &path)]);
    assert!(done.out.contains("first.zip") && done.exit == Some(0), "{}{}", done.out, done.err);
    assert_eq!(&fs::read(at.join("first.zip")).unwrap()[..2], b"PK");
}

fn artifacts_pass_from_job_to_job_and_reach_people(database: Database) {
    let Some(bundle) = clients() else { return };
    let mut server = Server::start(database, "");
    with_clients(&server.scene, bundle);
    server.workflow(
        "on: push\njobs:\n  make:\n    runs-on: linux\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - run: mkdir out; seq 1000 > out/large; echo tiny > out/small\n\
         \x20     - run: until test -e GATE; do sleep 0.01; done\n\
         \x20     - {uses: ./clients, with: {do: upload the first}, env: {GITHUB_SERVER_URL: 'http://muster.localhost'}}\n\
         \x20 take:\n    needs: make\n    runs-on: linux\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - {uses: ./clients, with: {do: download the}, env: {GITHUB_SERVER_URL: 'http://muster.localhost'}}\n",
    );
    let sha = server.push("main", "Make it");
    server.until("it waits", |server| {
        let run: Value = serde_json::from_str(&server.get("/api/v1/runs/1")).unwrap_or_default();
        run["jobs"][0]["status"] == "running"
    });
    // What was given to a job is good for the next server, too.
    server.kill_and_serve();
    server.open_gate();
    assert_snapshot!(server.verdict(&sha), @"
    make success: Successful
    muster success: 2 successful
    take success: Successful
    .github/workflows/ci.yml ran
    ");
    let run: Value = serde_json::from_str(&server.get("/api/v1/runs/1")).unwrap();
    let artifact = &run["artifacts"][0];
    assert_eq!((&artifact["name"], run["artifacts"].as_array().unwrap().len()), (&"the".into(), 1));
    let page = server.get("/runs/1");
    assert!(page.contains("/runs/1/artifacts/the\"") && page.contains("sha256:"), "{page}");
    let path = artifact["url"].as_str().unwrap().replace(&server.url, "");
    assert!(server.get(&path).starts_with("PK"));
    let url = format!("{}{path}", server.url);
    let stranger = muster_testkit::http_client().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = async { stranger.get(url).send().await.unwrap().bytes().await.unwrap() };
    assert!(!runtime.block_on(read).starts_with(b"PK"), "anybody reads it");
}

/// The jobs of those who may not push find the programs of the system alone.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn the_system_has_node() -> bool {
    let there =
        ["/usr/bin/node", "/usr/local/bin/node"].iter().any(|path| Path::new(path).exists());
    if !there {
        eprintln!("skipped: there is no Node.js among the programs of the system");
    }
    there
}

fn an_approved_strangers_job_reaches_them_without_a_network(database: Database) {
    let Some(bundle) = clients() else { return };
    if !crate::sandbox::there_can_be_one() || !the_system_has_node() {
        return;
    }
    let story = Story::start_in(database, "isolation = \"auto\"\n");
    with_clients(&story.server.scene, bundle);
    story.server.scene.workflow(
        "on: pull_request\nenv: {GITHUB_SERVER_URL: 'http://muster.localhost'}\njobs:\n  make:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - run: mkdir out; seq 1000 > out/large; echo tiny > out/small\n\
         \x20     - {uses: ./clients, with: {do: upload the}}\n\
         \x20     - {uses: ./clients, with: {do: save key-1}}\n\
         \x20 take:\n    needs: make\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - {uses: ./clients, with: {do: download the}}\n\
         \x20     - {uses: ./clients, with: {do: restore key-none}}\n",
    );
    let head = story.approved_fork();
    assert_snapshot!(story.verdict(&head), @"
    muster success: 2 successful
    muster / make success: Successful
    muster / take success: Successful
    ");
    let log = |job: &str| said(&story.server.muster(&["log", "1", job]).out);
    assert_snapshot!(format!("{}\n{}", log("make"), log("take")), @"
    said: the has an id: true, a size: true, a digest: 64
    said: true
    said: the
    said: digest differs: false, small is tiny
    said: key-1
    ");
}

fn a_job_that_may_shows_clouds_who_it_is(database: Database) {
    let Some(bundle) = clients() else { return };
    let server = Server::start(database, "");
    with_clients(&server.scene, bundle);
    let steps =
        "[{uses: actions/checkout@v4}, {uses: ./clients, with: {do: identify sts.example.org}}]";
    let job = |head: &str| format!("{{runs-on: linux, {head} steps: {steps}}}\n");
    let workflow = format!(
        "on: push\npermissions: {{contents: read}}\njobs:\n  may: {}  ships: {}  called:\n    permissions: {{id-token: write}}\n    \
         uses: ./.github/workflows/called.yml\n  not: {}  shrunk:\n    uses: ./.github/workflows/called.yml\n",
        job("permissions: {id-token: write},"),
        job("permissions: write-all, environment: 'a:b',"),
        job(""),
    );
    server.scene.workflow(&workflow);
    let called = format!("on: workflow_call\njobs:\n  it: {}", job(""));
    server.scene.file(".github/workflows/called.yml", &called);
    let sha = server.push("main", "Say who you are");
    server.verdict(&sha);
    let said = |job: &str| said(&server.muster(&["log", "1", job]).out);
    let all = ["may", "ships", "called / it", "not", "shrunk / it"].map(said);
    assert_snapshot!(all.join("\n"), @"
    said: true sts.example.org repo:team/app:ref:refs/heads/main team/app/.github/workflows/ci.yml@refs/heads/main true ***
    said: true sts.example.org repo:team/app:environment:a%3Ab team/app/.github/workflows/ci.yml@refs/heads/main true ***
    said: true sts.example.org repo:team/app:ref:refs/heads/main team/app/.github/workflows/called.yml@refs/heads/main true ***
    Error: Error message: Unable to get ACTIONS_ID_TOKEN_REQUEST_URL env variable
    Error: the step ended with exit code 1
    Error: Error message: Unable to get ACTIONS_ID_TOKEN_REQUEST_URL env variable
    Error: the step ended with exit code 1
    ");
}
