//! Secrets and variables of the server, and who gets them.

use std::path::Path;

use insta::assert_snapshot;
use muster_testkit::PullRequest;

use crate::database::{Database, on_both};
use crate::github::Story;
use crate::scene::Done;
use crate::server::Server;

on_both! {
    jobs_get_what_is_for_their_repository_trust_and_environment,
    a_secret_is_kept_sealed_and_its_key_is_nowhere_else,
    strangers_get_nothing_that_is_not_meant_for_them,
    in_the_shadow_there_are_no_secrets,
    what_is_no_secret_is_refused_with_the_reason,
    what_a_step_has_left_running_sees_no_secret_of_a_protected_ref,
}

/// Says the length of each secret, for the log shows none.
const WORKFLOW: &str = r#"
on: push
jobs:
  test:
    runs-on: ${{ vars.RUNNER }}
    strategy: {matrix: {word: '${{ fromJSON(vars.WORDS) }}'}}
    steps:
      - run: echo "key ${#KEY} [$KEY], npm ${#NPM}, region $REGION, ${{ matrix.word }}, from ${{ github.secret_source }}, protected ${{ github.ref_protected }}"
        env: {KEY: '${{ secrets.key }}', NPM: '${{ secrets.NPM_TOKEN }}', REGION: '${{ vars.REGION }}'}
  ship:
    runs-on: ubuntu-latest
    environment: {name: "${{ github.ref_name == 'main' && 'Production' || 'staging' }}"}
    steps:
      - run: echo "key ${#KEY}, npm ${#NPM}, region $REGION"
        env: {KEY: '${{ secrets.KEY }}', NPM: '${{ secrets.NPM_TOKEN }}', REGION: '${{ vars.REGION }}'}
"#;

fn done(done: &Done) -> String {
    assert_eq!(done.exit, Some(0), "{}", done.err);
    done.out.clone()
}

/// Returns what the steps of a run have said, and what its logs say of secrets.
fn said(server: &Server, run: &str) -> String {
    let log = done(&server.muster(&["log", run]));
    let tells = |line: &&str| line.starts_with("Secrets") || line.starts_with("key ");
    log.lines().filter(tells).map(|line| format!("{line}\n")).collect()
}

fn jobs_get_what_is_for_their_repository_trust_and_environment(database: Database) {
    let server = Server::start(database, "");
    let set = |input: &str, args: &[&str]| {
        done(&server.muster_given(input, &[&["secrets", "set"], args].concat()))
    };
    let ours = ["--repo", "team/app"];
    assert_snapshot!(set("for-all\n", &["key"]), @"set KEY for all repositories, trust member");
    assert_snapshot!(set("for-protected", &[&["KEY", "--trust", "protected"], &ours[..]].concat()), @"set KEY for team/app, trust protected");
    assert_snapshot!(set("for-production", &[&["KEY", "--env", "production", "--trust", "protected"], &ours[..]].concat()), @"set KEY for team/app, environment production, trust protected");
    let file = server.scene.file("tokens.env", "NPM_TOKEN=\"two\\nlines\"\nUNUSED=x\n");
    assert_snapshot!(set("", &[&["--env-file", &file.to_string_lossy()], &ours[..]].concat()), @"
    set NPM_TOKEN for team/app, trust member
    set UNUSED for team/app, trust member
    ");
    assert_snapshot!(set("another's", &["OTHER", "--env", "nowhere"]), @"set OTHER for all repositories, environment nowhere, trust member");
    let vars = |args: &[&str]| done(&server.muster(&[&["vars"], args].concat()));
    vars(&["set", "RUNNER", "ubuntu-latest"]);
    vars(&["set", "words", "[\"one\"]", "--repo", "team/app"]);
    vars(&["set", "REGION", "here"]);
    vars(&["set", "REGION", "there", "--env", "production", "--repo", "team/app"]);
    assert_snapshot!(vars(&["list", "--repo", "team/app"]), @r#"
    REGION=here  for all repositories, trust member
    RUNNER=ubuntu-latest  for all repositories, trust member
    WORDS=["one"]  for team/app, trust member
    REGION=there  for team/app, environment production, trust member
    "#);
    assert_snapshot!(done(&server.muster(&["secrets", "list"])), @"
    KEY  for all repositories, trust member
    OTHER  for all repositories, environment nowhere, trust member
    KEY  for team/app, trust protected
    NPM_TOKEN  for team/app, trust member
    UNUSED  for team/app, trust member
    KEY  for team/app, environment production, trust protected
    ");
    server.scene.workflow(WORKFLOW);
    let main = server.push("main", "Use them");
    server.verdict(&main);
    assert_snapshot!(said(&server, "1"), @"
    Secrets: KEY, NPM_TOKEN, UNUSED
    key 13 [***], npm 9, region here, one, from Actions, protected true
    Secrets: NPM_TOKEN, UNUSED, KEY
    key 14, npm 9, region there
    ");
    // A branch that nobody protects.
    server.scene.file("more", "more");
    let topic = server.push("topic", "Use them again");
    server.verdict(&topic);
    assert_snapshot!(said(&server, "2"), @"
    Secrets: KEY, NPM_TOKEN, UNUSED
    key 7 [***], npm 9, region here, one, from Actions, protected false
    Secrets: KEY, NPM_TOKEN, UNUSED
    key 7, npm 9, region here
    ");
    // What is done again sees the variables that it saw, and secrets as they are now.
    vars(&["set", "WORDS", "[\"other\"]", "--repo", "team/app"]);
    set("longer-than-before", &["KEY"]);
    assert_snapshot!(done(&server.muster(&["secrets", "rm", "npm_token", "--repo", "team/app"])), @"removed NPM_TOKEN");
    let rm = |name: &str| server.muster(&["secrets", "rm", name, "--repo", "team/app"]).err;
    assert_snapshot!(rm("NPM_TOKEN"), @"error: there is no secret NPM_TOKEN there");
    done(&server.muster(&["rerun", "2"]));
    server.verdict(&topic);
    assert_snapshot!(said(&server, "2"), @"
    Secrets: KEY, UNUSED
    key 18 [***], npm 0, region here, one, from Actions, protected false
    Secrets: KEY, UNUSED
    key 18, npm 0, region here
    ");
    // What is not protected any more is not, also for what is run again.
    done(&server.muster(&["repo", "protect", "team/app", "release/*"]));
    done(&server.muster(&["rerun", "1"]));
    server.verdict(&main);
    assert_snapshot!(said(&server, "1"), @"
    Secrets: KEY, UNUSED
    key 18 [***], npm 0, region here, one, from Actions, protected false
    Secrets: KEY, UNUSED
    key 18, npm 0, region there
    ");
    // Who protects more than the default branch says so.
    assert_snapshot!(done(&server.muster(&["repo", "protect", "team/app", "top*"])), @"protected in team/app: top*");
    server.scene.file("more", "yet more");
    let topic = server.push("topic", "Use them protected");
    server.verdict(&topic);
    assert_snapshot!(said(&server, "3"), @"
    Secrets: KEY, UNUSED
    key 13 [***], npm 0, region here, other, from Actions, protected true
    Secrets: KEY, UNUSED
    key 13, npm 0, region here
    ");
}

/// Returns whether any file below a folder holds a text.
fn is_anywhere(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_anywhere(&path, text);
        }
        // A pipe would wait for somebody to write to it.
        if !path.is_file() {
            return false;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

fn a_secret_is_kept_sealed_and_its_key_is_nowhere_else(database: Database) {
    let mut server = Server::start(database, "secrets_key_file = \"keys/of-secrets\"\n");
    let keys = server.data().parent().unwrap().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let canary = "canary-that-nobody-sees";
    let file = server.scene.file("value", canary);
    let file = file.to_string_lossy().into_owned();
    let set = |server: &Server| server.muster(&["secrets", "set", "KEY", "--file", &file]);
    done(&set(&server));
    std::fs::remove_file(&file).unwrap();
    server.workflow("on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - {run: 'echo \"[$KEY] ${#KEY}\"; while [ ! -e GATE ]; do sleep 0.02; done', env: {KEY: '${{ secrets.KEY }}'}}\n");
    let sha = server.push("main", "Use it");
    server.until("it is said", |server| server.muster(&["log", "1"]).out.contains("[***]"));
    // While the job runs, too.
    assert!(!is_anywhere(&server.data(), canary));
    server.kill_and_serve();
    server.open_gate();
    server.verdict(&sha);
    assert!(server.muster(&["log", "1"]).out.contains("[***] 23"));
    assert!(!is_anywhere(&server.data(), canary));
    let list = server.get("/api/v1/secrets");
    assert!(list.contains("\"KEY\"") && !list.contains("value"), "{list}");
    // The key is not where the secrets are, nor in a backup of them.
    let backup = server.scene.path().join("backup");
    let said = done(&server.muster(&["backup", &backup.to_string_lossy()]));
    assert!(said.contains("of-secrets, is not in it"), "{said}");
    let key = std::fs::read_to_string(keys.join("of-secrets")).unwrap();
    assert!(!is_anywhere(&server.data(), key.trim()) && !is_anywhere(&backup, key.trim()));
    let doctor = || {
        let said = server.muster(&["doctor"]).out;
        said.lines().filter(|line| line.contains(" secrets: ")).collect::<Vec<_>>().join("\n")
    };
    let found = doctor();
    assert!(found.starts_with("ok    secrets: 1, sealed with "), "{found}");
    // Without it nothing that is sealed is lost silently.
    std::fs::rename(keys.join("of-secrets"), keys.join("away")).unwrap();
    assert!(doctor().starts_with("WRONG secrets: the key of 1, "), "{}", doctor());
    done(&server.muster(&["rerun", "1"]));
    server.until("it is refused", |server| server.muster(&["why", "1"]).out.contains("the key of"));
    std::fs::write(&file, canary).unwrap();
    let refused = set(&server);
    assert!(refused.err.contains("is gone: put it back, or remove all"), "{}", refused.err);
    // Nor is anything sealed with another one, or waited for.
    std::fs::write(keys.join("of-secrets"), "A".repeat(43)).unwrap();
    let other = server.muster_given("v", &["secrets", "set", "OTHER"]);
    assert!(other.err.contains("put the one back that it was sealed with"), "{}", other.err);
    std::fs::remove_file(keys.join("of-secrets")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        keys.join("of-secrets"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let other = server.muster_given("v", &["secrets", "set", "OTHER"]);
    assert!(other.err.contains("it is no file"), "{}", other.err);
    std::fs::rename(keys.join("away"), keys.join("of-secrets")).unwrap();
    done(&server.muster(&["rerun", "1"]));
    server.until("it is green", |server| server.muster(&["why", "1"]).out.contains("success"));
}

fn strangers_get_nothing_that_is_not_meant_for_them(database: Database) {
    let story = Story::start_in(database, "approved_without_sandbox = true\npublic_read = true\n");
    let server = &story.server;
    done(&server.muster(&["adopt", "team/app"]));
    for (name, trust) in
        [("MEMBERS", "member"), ("EVERYBODY", "approved"), ("RELEASE", "protected")]
    {
        let value = format!("for-{trust}");
        done(&server.muster_given(&value, &["secrets", "set", name, "--trust", trust]));
        let name = format!("VAR_{name}");
        done(&server.muster_given(&name, &["vars", "set", &name, "--trust", trust]));
    }
    server.scene.workflow("on: pull_request\npermissions: write-all\njobs:\n  test:\n    runs-on: ubuntu-latest\n    environment: production\n    steps:\n      - run: 'echo \"identity [$ACTIONS_ID_TOKEN_REQUEST_URL]\"'\n      - run: echo \"$(echo \"$S\" | tr a-z A-Z | tr ' ' -)\"\n        env: {S: '${{ toJSON(secrets) }}'}\n      - run: echo \"$V\"\n        env: {V: 'vars ${{ toJSON(vars) }}, source ${{ github.secret_source }}'}\n      - run: env | grep -c 'RELEASE\\|MEMBERS' || true\n");
    done(&server.muster_given("p", &["secrets", "set", "MEMBERS", "--env", "production"]));
    let head = story.commit("refs/pull/3/head", "From a fork");
    let pull = PullRequest { number: 3, head: head.clone(), from_fork: true };
    story.deliver("pull_request", &story.github.pull_request("opened", &pull));
    server.until("it waits", |_| story.github.shown(&head).contains("Waiting for somebody"));
    done(&server.muster(&["approve", &head]));
    story.verdict(&head);
    let log = done(&server.muster(&["log", "1"]));
    let said: Vec<_> = log.lines().skip_while(|line| !line.starts_with("Secrets")).collect();
    assert_snapshot!(said.join("\n"), @r#"
    Secrets: EVERYBODY
    No identity tokens: the run is not trusted so far, is in the shadow, or its repository has another name now
    identity []
    {
    --"EVERYBODY":-"FOR-APPROVED"
    }
    vars {
      "VAR_EVERYBODY": "VAR_EVERYBODY"
    }, source Actions
    0
    "#);
    // The list of them is for nobody else, even where everybody may read runs.
    let client = muster_testkit::http_client().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = |path: &str| {
        let answer = client.get(format!("{}{path}", server.url)).send();
        runtime.block_on(answer).unwrap().status().as_u16()
    };
    assert_eq!(
        ["/api/v1/runs", "/api/v1/secrets", "/api/v1/variables"].map(status),
        [200, 401, 401]
    );
}

fn in_the_shadow_there_are_no_secrets(database: Database) {
    let story = Story::start_in(database, "");
    let server = &story.server;
    done(&server.muster_given("word", &["secrets", "set", "KEY", "--repo", "team/app"]));
    server.scene.workflow("on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps: [{run: 'echo \"key ${#KEY}\"', env: {KEY: '${{ secrets.KEY }}'}}]\n");
    let push = |message: &str| {
        let sha = story.commit("refs/heads/main", message);
        story.deliver("push", &story.github.push("main", None, &sha, message));
        story.verdict(&sha);
    };
    push("In the shadow");
    assert_snapshot!(said(server, "1"), @"
    Secrets: none while the repository is in shadow, which `muster adopt` ends
    key 0
    ");
    done(&server.muster(&["adopt", "team/app"]));
    server.scene.file("more", "more");
    push("Out of it");
    assert_snapshot!(said(server, "2"), @"
    Secrets: KEY
    key 4
    ");
}

fn what_is_no_secret_is_refused_with_the_reason(database: Database) {
    let server = Server::start(database, "");
    let set = |input: &str, args: &[&str]| {
        let done = server.muster_given(input, &[&["secrets", "set"], args].concat());
        assert_eq!(done.exit, Some(2), "{args:?} {}", done.out);
        done.err
    };
    let file = server.scene.file("wrong.env", "OK=1\n2=1\nnothing\nEMPTY=\nGITHUB_X=1\n");
    let file = file.to_string_lossy().into_owned();
    let large = "x".repeat((48 << 10) + 1);
    let said = [
        set("v", &["1ST"]),
        set("v", &["GITHUB_TOKEN"]),
        set("", &["KEY"]),
        set("a\0b", &["KEY"]),
        set(&large, &["KEY"]),
        set("v", &["KEY", "--repo", "team/other"]),
        set("v", &["KEY", "--trust", "stranger"]),
        set("v", &["KEY", "--env", " "]),
        set("", &["--env-file", &file]).replace(&file, "wrong.env"),
        set("v", &["KEY", "--env", "a\tb"]),
        server.muster(&["repo", "protect", "team/app", "main", "+"]).err,
        server.muster(&["repo", "protect", "team/app", "!main"]).err,
        server.muster(&["repo", "protect", "team/app", " main"]).err,
        server.muster(&["repo", "protect", "team/other", "main"]).err,
    ];
    assert_snapshot!(said.concat(), @"
    error: secret 1ST is not set: `1ST` is no name of a secret or variable: write letters, digits and `_`, no digit first
    error: secret GITHUB_TOKEN is not set: GITHUB_TOKEN cannot be set: names with GITHUB_ are the server's own
    error: secret KEY is not set: the secret is empty: one that is not there is as good
    error: secret KEY is not set: a value has no NUL: programs could not be given it
    error: the value of KEY has more than 49152 bytes
    error: secret KEY is not set: there is no repository `team/other`
    error: secret KEY is not set: `trust` is `approved`, `member` or `protected`
    error: secret KEY is not set: an environment's name is a line of 1 to 255 bytes
    error: wrong.env:2: `2` is no name of a secret or variable: write letters, digits and `_`, no digit first
    wrong.env:3: write NAME=VALUE
    wrong.env:4: EMPTY is empty
    wrong.env:5: GITHUB_X cannot be set: names with GITHUB_ are the server's own
    error: secret KEY is not set: an environment's name is a line of 1 to 255 bytes
    error: `+` is no filter pattern: `+` repeats the character before it, and there is none
    error: patterns that begin with `!` take away from others: name one
    error: a pattern is a line without blanks around it
    error: there is no repository `team/other`
    ");
    assert_eq!(server.muster(&["secrets", "list"]).out, "");
    // Of two that differ in trust none is removed unless it is said which.
    for trust in ["member", "protected"] {
        done(&server.muster_given("v", &["secrets", "set", "TWO", "--trust", trust]));
    }
    let rm = |more: &[&str]| server.muster(&[&["secrets", "rm", "TWO"], more].concat());
    assert_snapshot!(rm(&[]).err, @"error: TWO is there for member, protected: say which is meant by its trust");
    assert_eq!(rm(&["--trust", "protected"]).exit, Some(0));
    assert_eq!(rm(&[]).exit, Some(0));
    // As much as can be in each place, in a form that is as long as can be: one set has to fit into a pipe.
    let control = "\u{1}".repeat(21 << 10);
    for (name, more) in [("A", "team/app"), ("B", "")] {
        let place: &[&str] = if more.is_empty() { &[] } else { &["--repo", more] };
        done(&server.muster_given(&control, &[&["secrets", "set", name], place].concat()));
    }
    assert!(set(&control, &["C"]).contains("take at most 131072 bytes together"));
    server.scene.workflow("on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps: [{run: 'echo \"${#A}\"', env: {A: '${{ secrets.A }}'}}]\n");
    let sha = server.push("main", "Use it");
    server.verdict(&sha);
    assert!(
        server.muster(&["log", "1"]).out.contains("21504"),
        "{}",
        server.muster(&["log", "1"]).out
    );
}

/// A step with a protected ref's secrets is not to be spied on by what an earlier one has started, such as the tests of a
/// dependency.
fn what_a_step_has_left_running_sees_no_secret_of_a_protected_ref(database: Database) {
    if !crate::sandbox::there_can_be_one() {
        return;
    }
    let server = Server::start(database, "isolation = \"sandbox\"\n");
    for trust in ["member", "protected"] {
        done(&server.muster_given(trust, &["secrets", "set", "KEY", "--trust", trust]));
    }
    server.scene.workflow(
        r#"
on: push
jobs:
  test:
    runs-on: linux
    steps:
      - run: |
          spy() {
            while :; do
              cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep ^KEY= >> spied || true
              echo >> rounds
            done
          }
          touch spied rounds; spy &
      - env: {KEY: '${{ secrets.KEY }}'}
        run: |
          before=$(wc -l < rounds)
          until [ $(wc -l < rounds) -gt $((before + 2)) ]; do :; done
      - run: test -s spied && echo it was seen || echo nothing was seen
"#,
    );
    for (branch, seen) in [("main", "nothing was seen"), ("topic", "it was seen")] {
        server.scene.file("branch", branch);
        let sha = server.push(branch, branch);
        server.verdict(&sha);
        let number = server.muster(&["runs", "--limit", "1"]).out;
        let number = number.split(' ').next().unwrap();
        let log = server.muster(&["log", number]).out;
        assert!(log.ends_with(&format!("{seen}\n")), "{branch}: {log}");
        assert_eq!(log.contains(", walls between steps, "), branch == "main", "{log}");
    }
}
