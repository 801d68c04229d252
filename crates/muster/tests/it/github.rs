//! Beside GitHub, with a personal access token.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use insta::assert_snapshot;
use muster_testkit::{FakeGitHub, Inbox, PullRequest, SECRET};
use serde_json::json;

use crate::database::{Database, on_both};
use crate::scene::git_in;
use crate::server::Server;

on_both! {
    a_push_turns_pending_and_then_red_or_green,
    a_pull_request_is_tested_as_merged_into_its_base,
    a_newer_head_ends_what_runs_for_the_older_one,
    of_one_second_the_repository_says_which_head_is_the_last,
    of_two_heads_of_a_fork_in_one_second_the_last_waits,
    a_push_that_comes_late_neither_speaks_for_its_branch_nor_ends_what_is_newer,
    a_name_that_comes_late_is_not_taken_over,
    a_run_of_a_name_that_was_has_no_identity,
    what_a_stranger_wrote_does_not_become_part_of_a_script,
    a_fork_does_not_wait_for_ever,
    a_fork_runs_nothing_where_there_is_no_sandbox,
    an_approved_fork_runs_in_a_sandbox_without_network,
    a_fork_waits_for_the_approval_of_each_commit,
    the_front_door_takes_only_what_is_signed,
    what_came_is_shown_and_judged_once_more,
    what_there_is_no_room_for_is_asked_to_come_again,
    limits_are_obeyed_across_a_restart,
    the_doctor_says_what_is_wrong,
    what_cannot_be_told_is_shown,
    a_merge_is_made_again_for_a_run_that_is_done_again,
}

const CI: &str = "on: [push, pull_request]\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps: [{uses: actions/checkout@v4}, {run: ./test}]\n";

/// A server beside a fake GitHub that has `team/app`, with a green commit on `main`.
pub(crate) struct Story {
    pub(crate) github: FakeGitHub,
    pub(crate) server: Server,
    pub(crate) main: String,
}

impl Story {
    fn start(database: Database) -> Self {
        Self::start_in(database, "")
    }

    /// Starts with more configuration.
    pub(crate) fn start_in(database: Database, config: &str) -> Self {
        let github = FakeGitHub::start();
        let repository = github.repository();
        std::fs::create_dir_all(&repository).unwrap();
        git_in(&repository, &["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        let config = format!("{config}{}", github.config());
        let server = Server::start_without_repository(database, &config);
        let added = server.muster(&["repo", "add", "team/app"]);
        assert_eq!(added.exit, Some(0), "{}", added.err);
        server.scene.workflow(CI);
        server.scene.script("test", "#!/bin/sh\necho fine\n");
        let mut story = Self { github, server, main: String::new() };
        story.main = story.commit("refs/heads/main", "Start");
        story
    }

    /// Commits what is in the work tree and pushes it to `name` at GitHub, without a webhook.
    pub(crate) fn commit(&self, name: &str, message: &str) -> String {
        let sha = self.server.scene.commit(message);
        let to = self.github.repository();
        let refspec = format!("HEAD:{name}");
        self.server.scene.git(&["push", "--quiet", "--force", &to.to_string_lossy(), &refspec]);
        sha
    }

    /// Commits what is in the work tree to a fork, opens pull request 9 from it, and approves it; returns the commit.
    pub(crate) fn approved_fork(&self) -> String {
        let head = self.commit("refs/pull/9/head", "From a fork");
        let pull = PullRequest { number: 9, head: head.clone(), from_fork: true };
        self.deliver("pull_request", &self.github.pull_request("opened", &pull));
        self.server
            .until("it waits", |_| self.github.shown(&head).contains("Waiting for somebody"));
        assert_eq!(self.server.muster(&["approve", &head]).exit, Some(0));
        head
    }

    pub(crate) fn deliver(&self, event: &str, payload: &serde_json::Value) {
        assert_eq!(self.github.deliver(&self.server.url, event, payload), 202);
    }

    /// Waits until GitHub shows the last word on a commit; returns all that it shows.
    pub(crate) fn verdict(&self, sha: &str) -> String {
        self.server.until("GitHub shows the verdict", |server| {
            // What GitHub shows is all that muster says, and nothing is open.
            let why = server.muster(&["why", sha]).out;
            let said = why.lines().filter(|line| !line.starts_with(".github/"));
            let (shown, said) = (self.github.shown(sha), said.collect::<Vec<_>>());
            !said.is_empty() && !shown.contains(" pending: ") && shown.lines().eq(said)
        });
        assert_eq!(self.github.faults(), Vec::<String>::new());
        self.github.shown(sha)
    }
}

fn a_push_turns_pending_and_then_red_or_green(database: Database) {
    let story = Story::start(database);
    story.deliver("push", &story.github.push("main", None, &story.main, "Start"));
    assert_snapshot!(story.verdict(&story.main), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    let first = &story.github.history(&story.main)[0];
    assert_eq!((first.context.as_str(), first.state.as_str()), ("muster", "pending"));
    let adopted = story.server.muster(&["adopt", "team/app"]);
    assert_snapshot!(adopted.out, @"
    team/app is out of the shadow: its jobs report under their own names from the next push on.
    Switch the other side off, or required checks see two of each name:
      at GitHub: team/app > Settings > Actions > General > Disable actions
    ");
    story.server.scene.script("test", "#!/bin/sh\nexit 1\n");
    let red = story.commit("refs/heads/main", "Break it");
    story.deliver("push", &story.github.push("main", Some(&story.main), &red, "Break it"));
    assert_snapshot!(story.verdict(&red), @"
    muster failure: failed: test
    test failure: Failed
    ");
    assert!(story.server.muster(&["runs"]).out.contains("failure Break it"));
}

fn a_pull_request_is_tested_as_merged_into_its_base(database: Database) {
    let story = Story::start(database);
    let scene = &story.server.scene;
    // The test needs a file that only main has, and one that only the pull request has.
    scene.git(&["switch", "--quiet", "--create", "topic"]);
    scene.script(
        "test",
        "#!/bin/sh\ncat from-main from-topic && git log -1 --format=%an:%s | cut -c1-12\n",
    );
    scene.file("from-topic", "topic\n");
    let head = story.commit("refs/pull/5/head", "Topic");
    scene.git(&["switch", "--quiet", "main"]);
    scene.file("from-main", "main\n");
    story.commit("refs/heads/main", "Main goes on");
    let pull = PullRequest { number: 5, head: head.clone(), from_fork: false };
    story.deliver("pull_request", &story.github.pull_request("opened", &pull));
    assert_snapshot!(story.verdict(&head), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    let log = story.server.muster(&["log", "1", "test"]).out;
    assert!(log.contains("main\ntopic\nmuster:Merge"), "{log}");
    // What is edited but for the base starts nothing; a new head that conflicts says so.
    story.deliver("pull_request", &story.github.pull_request("edited", &pull));
    scene.git(&["switch", "--quiet", "topic"]);
    scene.file("from-main", "not what main has\n");
    let conflicting = story.commit("refs/pull/5/head", "Conflict");
    let late = story.github.pull_request("synchronize", &pull);
    let moved = PullRequest { head: conflicting.clone(), ..pull.clone() };
    story.deliver("pull_request", &story.github.pull_request("synchronize", &moved));
    assert_snapshot!(story.verdict(&conflicting), @"muster error: It conflicts with `main` in from-main");
    // An event that was made before, and comes after, revives nothing.
    story.deliver("pull_request", &late);
    story.deliver("pull_request", &story.github.pull_request("closed", &moved));
    assert_eq!(story.server.muster(&["runs"]).out.lines().count(), 1);
}

fn a_newer_head_ends_what_runs_for_the_older_one(database: Database) {
    let story = Story::start(database);
    let scene = &story.server.scene;
    scene.script("test", "#!/bin/sh\necho started; sleep 60\n");
    let old = story.commit("refs/pull/8/head", "Slow");
    let pull = PullRequest { number: 8, head: old.clone(), from_fork: false };
    story.deliver("pull_request", &story.github.pull_request("opened", &pull));
    story.server.until("it runs", |server| server.muster(&["log", "1"]).out.contains("started"));
    scene.script("test", "#!/bin/sh\necho quick\n");
    let new = story.commit("refs/pull/8/head", "Quick");
    let moved = PullRequest { head: new.clone(), ..pull };
    story.deliver("pull_request", &story.github.pull_request("synchronize", &moved));
    assert_snapshot!(story.verdict(&new), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    assert_snapshot!(story.verdict(&old), @"
    muster error: not run to the end: muster / test
    muster / test error: Cancelled: superseded by run 2 of its concurrency group
    ");
    // Opened again at the same commit, it is tested again, and the newer verdict counts.
    story.deliver("pull_request", &story.github.pull_request("closed", &moved));
    story.deliver("pull_request", &story.github.pull_request("reopened", &moved));
    story
        .server
        .until("it ran again", |server| server.muster(&["why", "3"]).out.contains("test success"));
    assert_snapshot!(story.verdict(&new), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
}

/// GitHub's times have seconds, and webhooks come in any order.
fn of_one_second_the_repository_says_which_head_is_the_last(database: Database) {
    let story = Story::start(database);
    story.server.scene.file("topic", "one\n");
    let old = story.commit("refs/pull/5/head", "One");
    story.server.scene.file("topic", "two\n");
    let new = story.commit("refs/pull/5/head", "Two");
    let event = |action: &str, head: &str| {
        let pull = PullRequest { number: 5, head: head.to_owned(), from_fork: false };
        let mut payload = story.github.pull_request(action, &pull);
        payload["pull_request"]["updated_at"] = "2026-01-02T03:04:05Z".into();
        payload
    };
    story.deliver("pull_request", &event("opened", &old));
    story.deliver("pull_request", &event("synchronize", &new));
    story.deliver("pull_request", &event("synchronize", &old));
    assert_snapshot!(story.verdict(&new), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    story.server.until("the old head is done with", |_| {
        let shown = story.github.shown(&old);
        !shown.is_empty() && !shown.contains("pending")
    });
    assert_snapshot!(story.github.shown(&old).replace(&new[..7], "[new]"), @"muster error: pull request 5 has moved on, or is closed");
    assert_eq!(story.server.muster(&["runs"]).out.lines().count(), 1);
}

fn of_two_heads_of_a_fork_in_one_second_the_last_waits(database: Database) {
    let story = Story::start(database);
    let heads = ["One", "Two"].map(|message| {
        story.server.scene.file("topic", message);
        story.commit("refs/pull/5/head", message)
    });
    let tell = |action: &str, head: &str| {
        let pull = PullRequest { number: 5, head: head.to_owned(), from_fork: true };
        let mut payload = story.github.pull_request(action, &pull);
        payload["pull_request"]["updated_at"] = "2026-01-02T03:04:05Z".into();
        story.deliver("pull_request", &payload);
    };
    tell("opened", &heads[0]);
    tell("synchronize", &heads[1]);
    let waits = "Waiting for somebody to approve";
    story.server.until("it waits", |_| story.github.shown(&heads[1]).contains(waits));
    // A repeat that comes last, or the two in the wrong order: the repository knows.
    tell("synchronize", &heads[0]);
    story.server.until("the old head is done with", |_| {
        let shown = story.github.shown(&heads[0]);
        shown.contains("error") && !shown.contains("pending")
    });
    assert!(story.github.shown(&heads[1]).contains(waits), "{}", story.github.shown(&heads[1]));
    assert_eq!(story.server.muster(&["approve", &heads[0]]).exit, Some(2));
    assert_eq!(story.server.muster(&["approve", &heads[1]]).exit, Some(0));
}

fn a_push_that_comes_late_neither_speaks_for_its_branch_nor_ends_what_is_newer(database: Database) {
    let inbox = Inbox::start(0);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "shared\n").unwrap();
    let config = format!(
        "[notices]\nwebhook = \"{}\"\nwebhook_secret_file = \"{}\"\n",
        inbox.url(),
        secret.path().display()
    );
    let story = Story::start_in(database, &config);
    let server = &story.server;
    let group = "concurrency: {group: deploy, cancel-in-progress: true}\n";
    server.workflow(&format!(
        "{group}{}",
        CI.replace(
            "{run: ./test}",
            "{run: ./test}, {run: 'until test -e GATE; do sleep 0.01; done'}"
        )
    ));
    server.scene.script("test", "#!/bin/sh\nexit 1\n");
    let older = story.commit("refs/heads/main", "Red");
    server.scene.script("test", "#!/bin/sh\nexit 0\n");
    let newer = story.commit("refs/heads/main", "Green");
    // The newer one is heard of first, and runs when the older one comes.
    story.deliver("push", &story.github.push("main", Some(&older), &newer, "Green"));
    server.until("it runs", |server| server.muster(&["runs"]).out.contains("running"));
    story.deliver("push", &story.github.push("main", Some(&story.main), &older, "Red"));
    server.until("the older one has its verdict", |_| {
        story.github.shown(&older).contains("muster error")
    });
    server.open_gate();
    assert_snapshot!(story.verdict(&newer), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    assert_snapshot!(story.verdict(&older), @"
    muster error: not run to the end: muster / test
    muster / test error: Cancelled: its branch had moved on before it was heard of
    ");
    // Red by itself, and no news of the branch.
    server.workflow(CI);
    server.scene.script("test", "#!/bin/sh\nexit 1\n");
    let red = story.commit("refs/heads/main", "Red again");
    server.scene.script("test", "#!/bin/sh\nexit 0\n");
    let green = story.commit("refs/heads/main", "Green again");
    story.deliver("push", &story.github.push("main", Some(&red), &green, "Green again"));
    assert_snapshot!(story.verdict(&green), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    story.deliver("push", &story.github.push("main", Some(&newer), &red, "Red again"));
    assert_snapshot!(story.verdict(&red), @"
    muster failure: failed: muster / test
    muster / test failure: Failed
    ");
    assert!(server.muster(&["outbox"]).out.is_empty());
    assert_eq!(inbox.hooks().len(), 0);
}

fn a_name_that_comes_late_is_not_taken_over(database: Database) {
    let story = Story::start(database);
    let server = &story.server;
    let tell = |name: &str, at: &str, number: u32| {
        let mut payload = story.github.push("gone", None, &format!("{number:040}"), name);
        payload["repository"]["full_name"] = name.into();
        payload["repository"]["updated_at"] = at.into();
        story.deliver("push", &payload);
    };
    let is_called = |name: &str| {
        server.until("it has its name", |server| {
            server.muster(&["repo", "list"]).out.starts_with(&format!("{name} "))
        });
    };
    tell("team/new", "2026-02-01T00:00:00Z", 1);
    is_called("team/new");
    tell("team/app", "2026-01-31T23:59:59Z", 2);
    server.until("it is judged", |server| server.deliveries().matches("accepted").count() == 2);
    is_called("team/new");
    tell("team/app", "2026-02-01T00:00:01Z", 3);
    is_called("team/app");
    // A plain repository keeps its name, whatever one at GitHub is called.
    let origin = server.origin.to_string_lossy().into_owned();
    assert_eq!(server.muster(&["repo", "add", "team/plain", &origin]).exit, Some(0));
    tell("team/plain", "2026-02-01T00:00:01Z", 5);
    server.until("it is judged", |server| server.deliveries().matches("accepted").count() == 4);
    let listed = server.muster(&["repo", "list"]).out;
    assert!(listed.starts_with("team/app ") && listed.contains(&format!("team/plain  {origin}")));
    // The branch that is protected without a word goes with the default branch.
    let mut payload = story.github.push("gone", None, &format!("{:040}", 4), "team/app");
    payload["repository"]["default_branch"] = "trunk".into();
    payload["repository"]["updated_at"] = "2026-02-01T00:00:02Z".into();
    story.deliver("push", &payload);
    server.until("it is known", |server| {
        let listed = server.get("/api/v1/repositories");
        listed.contains(r#""default_branch":"trunk","protected":["trunk"]"#)
    });
}

fn a_run_of_a_name_that_was_has_no_identity(database: Database) {
    let story = Story::start(database);
    let server = &story.server;
    assert_eq!(server.muster(&["adopt", "team/app"]).exit, Some(0));
    server.scene.workflow("on: push\npermissions: {id-token: write}\njobs:\n  test: {runs-on: linux, steps: [{run: 'echo \"${ACTIONS_ID_TOKEN_REQUEST_URL:+may}\"'}]}\n");
    let sha = story.commit("refs/heads/main", "Say who you are");
    let mut push = story.github.push("main", None, &sha, "Say who you are");
    story.deliver("push", &push);
    story.verdict(&sha);
    let log = || server.muster(&["log", "1"]).out;
    assert!(log().ends_with("may\n") && !log().contains("No identity"), "{}", log());
    push["repository"]["full_name"] = "team/other".into();
    push["after"] = "0".repeat(40).into();
    story.deliver("push", &push);
    server.until("it has its name", |server| {
        server.muster(&["repo", "list"]).out.starts_with("team/other ")
    });
    assert_eq!(server.muster(&["rerun", "1"]).exit, Some(0));
    server.until("it was done again", |_| log().contains("No identity tokens: "));
}

fn what_a_stranger_wrote_does_not_become_part_of_a_script(database: Database) {
    let story = Story::start_in(database, "approved_without_sandbox = true\n");
    story.server.scene.workflow("on: [push, pull_request]\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo \"$TITLE\"\n        env: {TITLE: \"${{ github.event.pull_request.title }}\"}\n      - uses: actions/checkout@v4\n      - uses: ./say\n        with: {text: \"${{ github.event.pull_request.title }}\"}\n        continue-on-error: true\n      - run: echo ${{ github.event.pull_request.title }}\n");
    // Through an action it is the same.
    let say = "runs:\n  using: composite\n  steps:\n    - {run: echo \"$TEXT\", shell: sh, env: {TEXT: '${{ inputs.text }}'}}\n    - {run: 'echo ${{ inputs.level }}', shell: sh}\n    - {run: 'echo ${{ inputs.text }}', shell: sh, continue-on-error: true}\n    - {run: 'echo ${{ inputs.own }}', shell: sh}\ninputs: {text: {}, level: {default: high}, own: {default: '${{ github.event.pull_request.title }}'}}\n";
    story.server.scene.file("say/action.yml", say);
    let head = story.commit("refs/pull/11/head", "From a fork");
    let pull = PullRequest { number: 11, head: head.clone(), from_fork: true };
    let mut payload = story.github.pull_request("opened", &pull);
    payload["pull_request"]["title"] = "Fix $(echo pwned | rev)".into();
    story.deliver("pull_request", &payload);
    story.server.until("it waits", |_| story.github.shown(&head).contains("Waiting for somebody"));
    assert_eq!(story.server.muster(&["approve", &head]).exit, Some(0));
    assert_snapshot!(story.verdict(&head), @"
    muster failure: failed: muster / test
    muster / test failure: Failed
    ");
    let log = story.server.muster(&["log", "1"]).out;
    let said: Vec<_> = log.lines().skip_while(|line| !line.starts_with("Fix")).collect();
    assert_snapshot!(said.join("\n"), @r#"
    Fix $(echo pwned | rev)
    Checked out 5fad8be3b4e38252a57802edfdc30029907678df at refs/pull/11/merge
    Run echo "$TEXT"
    Fix $(echo pwned | rev)
    Run echo high
    high
    Run echo Fix $(echo pwned | rev)
    Error: an input of the action holds text of a stranger that a shell could take for commands. The action has to hand it over as a variable: `env: {TEXT: ${{ inputs.NAME }}}`, and "$TEXT" in the script
    Run echo Fix $(echo pwned | rev)
    Error: an input of the action holds text of a stranger that a shell could take for commands. The action has to hand it over as a variable: `env: {TEXT: ${{ inputs.NAME }}}`, and "$TEXT" in the script
    Error: `${{ github.event.pull_request.title }}` holds text of a stranger that a shell could take for commands. Hand it over as a variable: `env: {TEXT: ${{ github.event.pull_request.title }}}`, and "$TEXT" in the script
    "#);
}

fn a_fork_does_not_wait_for_ever(database: Database) {
    let mut story = Story::start(database);
    story.server.scene.file("from-fork", "ten\n");
    let head = story.commit("refs/pull/10/head", "From a fork");
    let pull = PullRequest { number: 10, head: head.clone(), from_fork: true };
    story.deliver("pull_request", &story.github.pull_request("opened", &pull));
    story.server.until("it waits", |_| story.github.shown(&head).contains("Waiting for somebody"));
    story.server.configure("[retention]\nwaiting_days = 0\n");
    story.server.kill_and_serve();
    assert_snapshot!(story.verdict(&head), @"muster error: nobody approved it within 0 days");
}

fn a_fork_runs_nothing_where_there_is_no_sandbox(database: Database) {
    let story = Story::start(database);
    story.server.scene.file("from-fork", "nine\n");
    let head = story.approved_fork();
    story.server.until("it says why", |_| story.github.shown(&head).contains("no sandbox"));
    assert_snapshot!(story.github.shown(&head), @"muster pending: Approved, but this server has no sandbox for it: `isolation` is `none`");
    assert_eq!(story.server.muster(&["runs"]).out, "");
}

/// What a stranger wrote runs in a sandbox, with the system's programs and no network.
fn an_approved_fork_runs_in_a_sandbox_without_network(database: Database) {
    if !crate::sandbox::there_can_be_one() {
        return;
    }
    let story = Story::start_in(database, "isolation = \"auto\"\n");
    story.server.scene.script(
        "test",
        "#!/bin/sh\nset -e\nid -un\necho $PATH\ntest ! -e /opt/muster/tools\ncat /proc/net/dev | grep -c :\n",
    );
    let head = story.approved_fork();
    assert_snapshot!(story.verdict(&head), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    let log = story.server.muster(&["log", "1"]).out;
    assert!(log.contains("Isolation: sandbox: namespaces, seccomp, "), "{log}");
    assert!(log.contains("; no network."), "{log}");
    let said: Vec<_> = log.lines().skip_while(|line| !line.contains("runner")).collect();
    assert_snapshot!(said.join("\n"), @"
    Workspace: /home/runner/work/app/app
    Checked out 4ec8844bb751994476323b838dc9ca686c75ab48 at refs/pull/9/merge
    runner
    /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    1
    ");
    // Nothing of the job is left, whoever owned it.
    story.server.until("it is cleared away", |server| {
        std::fs::read_dir(server.data().join("jobs")).unwrap().next().is_none()
    });
}

fn a_fork_waits_for_the_approval_of_each_commit(database: Database) {
    let story = Story::start_in(database, "approved_without_sandbox = true\n");
    story.server.scene.file("from-fork", "one\n");
    let head = story.commit("refs/pull/6/head", "From a fork");
    let pull = PullRequest { number: 6, head: head.clone(), from_fork: true };
    story.deliver("pull_request", &story.github.pull_request("opened", &pull));
    story.server.until("it waits", |_| story.github.shown(&head).contains("Waiting for somebody"));
    let masked = |text: String| text.replace(&head[..7], "[sha]");
    assert_snapshot!(masked(story.github.shown(&head)), @"muster pending: Waiting for somebody to approve [sha], of bo");
    assert_eq!(story.server.muster(&["runs"]).out, "");
    assert_eq!(story.server.muster(&["approve", &story.main]).exit, Some(2));
    assert_eq!(story.server.muster(&["approve", &head]).exit, Some(0));
    assert_snapshot!(story.verdict(&head), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    // The approval was for that commit alone.
    story.server.scene.file("from-fork", "two\n");
    let next = story.commit("refs/pull/6/head", "More from the fork");
    let moved = PullRequest { head: next.clone(), ..pull };
    story.deliver("pull_request", &story.github.pull_request("synchronize", &moved));
    story
        .server
        .until("it waits again", |_| story.github.shown(&next).contains("Waiting for somebody"));
    story.deliver("pull_request", &story.github.pull_request("closed", &moved));
    assert_snapshot!(story.verdict(&next), @"muster error: pull request 6 was closed");
}

fn the_front_door_takes_only_what_is_signed(database: Database) {
    let story = Story::start(database);
    let (github, url) = (&story.github, story.server.url.as_str());
    let push = github.push("main", None, &story.main, "Start");
    let body = || push.to_string().into_bytes();
    let json = "application/json";
    assert_eq!(github.send(url, "push", "a", json, body(), None), 401);
    assert_eq!(github.send(url, "push", "a", json, body(), Some("guessed")), 401);
    assert_eq!(github.send(url, "push", "", json, body(), Some(SECRET)), 400);
    assert_eq!(
        github.send(url, "push", "big", json, vec![b' '; (25 << 20) + 1], Some(SECRET)),
        413
    );
    assert_eq!(story.server.deliveries(), "");
    for (event, id, payload) in [
        ("ping", "b", json!({"zen": "Keep it logically awesome."})),
        ("watch", "c", json!({"action": "started"})),
        ("push", "d", json!({"ref": "refs/heads/main"})),
        ("push", "e", {
            let mut unknown = push.clone();
            unknown["repository"] = json!({"id": 1, "full_name": "somebody/else"});
            unknown
        }),
    ] {
        assert_eq!(
            github.send(url, event, id, json, payload.to_string().into_bytes(), Some(SECRET)),
            202
        );
    }
    assert_eq!(github.send(url, "push", "f", json, b"{".to_vec(), Some("an older secret")), 202);
    let form: String = push.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let form = format!("payload={form}").into_bytes();
    let form_type = "application/x-www-form-urlencoded";
    assert_eq!(github.send(url, "push", "g", form_type, form.clone(), Some(SECRET)), 202);
    // The same again, under its own id and under another.
    assert_eq!(github.send(url, "push", "g", form_type, form.clone(), Some(SECRET)), 202);
    assert_eq!(github.send(url, "push", "h", form_type, form, Some(SECRET)), 202);
    // What ended dead is looked at once more when it is sent once more.
    assert_eq!(github.send(url, "push", "d", json, body(), Some(SECRET)), 202);
    story.verdict(&story.main);
    story.server.until("all are settled", |server| !server.deliveries().contains("pending"));
    assert_snapshot!(story.server.deliveries(), @"
    1 ping ignored: a ping says only that the hook works
    2 watch ignored: event `watch` starts nothing yet
    3 push dead (2 times): the payload does not fit event `push`: missing field `before` at line 1 column 25
    4 push ignored: not added: `muster repo add somebody/else` adds it
    5 push dead: the payload is no JSON: EOF while parsing an object at line 1 column 1
    6 push accepted (2 times)
    8 push ignored: a repeat of delivery 6, under another id
    ");
    assert_eq!(story.server.muster(&["runs"]).out.lines().count(), 1);
}

/// What led to nothing, for want of a repository or by a fault, is kept as it came, and can be judged once more.
fn what_came_is_shown_and_judged_once_more(database: Database) {
    let mut story = Story::start(database);
    let (github, server) = (&story.github, &story.server);
    assert_eq!(server.muster(&["repo", "remove", "team/app"]).exit, Some(0));
    let push = github.push("main", None, &story.main, "Start").to_string().into_bytes();
    let json = "application/json";
    assert_eq!(github.send(&server.url, "push", "a", json, push, Some(SECRET)), 202);
    assert_eq!(github.send(&server.url, "push", "b", json, b"{".to_vec(), Some(SECRET)), 202);
    let ping = json!({"zen": "Design for failure."}).to_string().into_bytes();
    assert_eq!(github.send(&server.url, "ping", "c", json, ping, Some(SECRET)), 202);
    server.until("all are settled", |server| !server.deliveries().contains("pending"));
    let said = |args: &[&str]| {
        let done = server.muster(&[&["deliveries"], args].concat());
        done.out + &done.err
    };
    assert_snapshot!(said(&["--failed"]), @"2 push dead: the payload is no JSON: EOF while parsing an object at line 1 column 1");
    assert_snapshot!(said(&["--event", "push", "--outcome", "ignored"]), @"1 push ignored: not added: `muster repo add team/app` adds it");
    let shown: serde_json::Value = serde_json::from_str(&said(&["show", "2"])).unwrap();
    assert_eq!((&shown["body"], &shown["payload"]), (&json!("{"), &json!(null)));
    let shown: serde_json::Value = serde_json::from_str(&said(&["show", "1"])).unwrap();
    assert_eq!(
        (&shown["guid"], &shown["payload"]["ref"]),
        (&json!("a"), &json!("refs/heads/main"))
    );
    // Its repository is there now.
    assert_eq!(server.muster(&["repo", "add", "team/app"]).exit, Some(0));
    assert_snapshot!(said(&["replay", "1"]), @"delivery 1 is judged once more");
    assert_snapshot!(story.verdict(&story.main), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
    let shown: serde_json::Value = serde_json::from_str(&said(&["show", "1"])).unwrap();
    assert_eq!((&shown["outcome"], &shown["sha"]), (&json!("accepted"), &json!(story.main)));
    assert_snapshot!(said(&["replay", "1"]), @"error: delivery 1 was accepted: `muster rerun` runs again what it has started");
    assert_snapshot!(said(&["replay", "9"]), @"error: there is no delivery 9");
    // What nothing can be made of is dead again.
    said(&["replay", "2"]);
    server.until("it is settled", |server| server.deliveries().contains("2 push dead: "));
    assert_eq!(server.muster(&["runs"]).out.lines().count(), 1);
    let audit = server.muster(&["audit"]).out;
    assert_eq!(audit.matches("delivery.replay").count(), 2, "{audit}");
    // Nobody else sees what came.
    let none =
        server.scene.muster_with(&["deliveries", "show", "1"], &[("MUSTER_URL", &server.url)]);
    assert_snapshot!(none.err, @"error: the server wants the admin token: set MUSTER_TOKEN");
    // It is forgotten in time, also where something else cannot be looked after.
    std::fs::write(server.data().join("images"), "no folder").unwrap();
    server.configure("[retention]\ndelivery_days = 0\n");
    story.server.kill_and_serve();
    story.server.until("it is forgotten", |server| server.deliveries().is_empty());
}

fn limits_are_obeyed_across_a_restart(database: Database) {
    let mut story = Story::start(database);
    story.github.answer_next(403, Some(2));
    story.deliver("push", &story.github.push("main", None, &story.main, "Start"));
    story.server.until("the limit was met, and written down", |server| {
        server
            .muster(&["why", &story.main])
            .out
            .contains("not shown there yet: GitHub asks to wait 2 s")
    });
    story.server.kill_and_serve();
    story.github.answer_next(502, None);
    story.verdict(&story.main);
}

fn the_doctor_says_what_is_wrong(database: Database) {
    let story = Story::start(database);
    let lines = |done: &crate::scene::Done| -> String {
        // Versions and folders differ from machine to machine.
        let lines = done.out.lines().map(|line| match line.split_once(": ") {
            Some((what @ ("ok    git" | "ok    data folder"), _)) => format!("{what}: …\n"),
            _ => format!("{line}\n"),
        });
        lines.collect()
    };
    let asked = |story: &Story| story.server.muster(&["doctor", "team/app"]);
    let well = asked(&story);
    assert_snapshot!(lines(&well), @"
    ok    git: …
    ok    data folder: …
    ok    sandbox: `isolation` is `none`: nothing stands between steps and this machine
    note  GitHub: `listen` is a loopback address, which GitHub cannot reach by itself
    ok    GitHub, team/app: found, default branch `main`
    note  GitHub, team/app, webhook: the token may not see it (`admin:repo_hook`): look at its Recent Deliveries
    note  GitHub, team/app, required status: `main` requires no status: what is red for muster can be merged; require `muster`
    ok    server: 1 repositories, 0 webhooks received
    ok    outbox: nothing is given up
    ");
    assert_eq!(well.exit, Some(0));
    // Each of the three things that are clicked at GitHub, wrong and right.
    let about_github = |story: &Story| -> String {
        let done = asked(story);
        let lines = done.out.lines().filter(|line| line.contains("team/app, "));
        lines.map(|line| format!("{line}\n")).collect::<String>() + &format!("{:?}", done.exit)
    };
    let all = ["push", "pull_request"];
    story.github.require(&["lint"], &[]);
    story.github.add_hook("https://chat.example.org/github", true, &all, Some(200));
    assert_snapshot!(about_github(&story), @"
    WRONG GitHub, team/app, webhook: there is none that leads here: add one to <public_url>/webhooks/github
    note  GitHub, team/app, required status: `main` requires only lint: what is red for muster can be merged; require `muster`
    Some(1)
    ");
    let hook = "https://ci.example.org/webhooks/github";
    story.github.require(&["lint"], &["muster"]);
    story.github.add_hook(hook, false, &all, None);
    assert_snapshot!(about_github(&story), @"
    WRONG GitHub, team/app, webhook: https://ci.example.org/webhooks/github is switched off
    ok    GitHub, team/app, required status: `main` requires lint, muster
    Some(1)
    ");
    story.github.add_hook(hook, true, &["push"], None);
    assert_snapshot!(about_github(&story), @"
    WRONG GitHub, team/app, webhook: https://ci.example.org/webhooks/github is not sent for `pull_request`
    ok    GitHub, team/app, required status: `main` requires lint, muster
    Some(1)
    ");
    story.github.add_hook(hook, true, &all, Some(502));
    assert_snapshot!(about_github(&story), @"
    WRONG GitHub, team/app, webhook: https://ci.example.org/webhooks/github was answered 502: Answered
    ok    GitHub, team/app, required status: `main` requires lint, muster
    Some(1)
    ");
    story.github.add_hook(hook, true, &["*"], Some(202));
    assert_snapshot!(about_github(&story), @"
    ok    GitHub, team/app, webhook: https://ci.example.org/webhooks/github, the last one was taken
    ok    GitHub, team/app, required status: `main` requires lint, muster
    Some(0)
    ");
    assert_eq!(story.github.faults(), Vec::<String>::new());
    let ill = story.server.muster(&["doctor", "team/gone"]);
    assert_snapshot!(lines(&ill), @"
    ok    git: …
    ok    data folder: …
    ok    sandbox: `isolation` is `none`: nothing stands between steps and this machine
    note  GitHub: `listen` is a loopback address, which GitHub cannot reach by itself
    WRONG GitHub, team/gone: the token must read its contents and write its commit statuses: GitHub refuses (404): Not Found
    ok    server: 1 repositories, 0 webhooks received
    ok    outbox: nothing is given up
    ");
    assert_eq!(ill.exit, Some(1));
}

fn what_cannot_be_told_is_shown(database: Database) {
    let story = Story::start(database);
    let server = &story.server;
    server.workflow(
        "on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{run: 'until test -e GATE; do sleep 0.01; done'}]\n",
    );
    let sha = story.commit("refs/heads/main", "Gated");
    story.deliver("push", &story.github.push("main", Some(&story.main), &sha, "Gated"));
    server.until("both are pending", |_| story.github.shown(&sha).lines().count() == 2);
    assert_eq!(server.muster(&["outbox"]).out, "");
    // GitHub will never take the verdicts.
    story.github.answer_next(422, None);
    story.github.answer_next(422, None);
    server.open_gate();
    let mut outbox = String::new();
    server.until("they are given up", |server| {
        outbox = server.muster(&["outbox"]).out;
        outbox.matches("given up").count() == 2
    });
    assert_snapshot!(outbox.replace(&sha, "[sha]"), @"
    given up: muster success of team/app at [sha]: GitHub refuses (422): as the test asked
    given up: muster / test success of team/app at [sha]: GitHub refuses (422): as the test asked
    ");
    let doctor = server.muster(&["doctor"]);
    assert!(
        doctor.out.contains("WRONG outbox: 2 verdicts or notices are given up"),
        "{}",
        doctor.out
    );
    assert_eq!(doctor.exit, Some(1));
    let page = server.get("/outbox");
    assert_eq!(page.matches("given up").count(), 2, "{page}");
    assert!(page.contains("<td>GitHub refuses (422): as the test asked</td>"), "{page}");
    // What changes is told anew.
    assert_eq!(server.muster(&["rerun", "1"]).exit, Some(0));
    server.until("all is told", |server| server.muster(&["outbox"]).out.is_empty());
}

fn what_there_is_no_room_for_is_asked_to_come_again(database: Database) {
    let story = Story::start(database);
    let address = story.server.url.strip_prefix("http://").unwrap();
    // Bodies of the largest size, of which nothing comes; there is room for 256 MiB. Each stays open, for
    // which of them was too many is not known before.
    let mut slow = Vec::new();
    let mut refused = String::new();
    story.server.until("one is refused", |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        let length = 25 << 20;
        write!(stream, "POST /webhooks/github HTTP/1.1\r\nhost: ci\r\nx-github-event: push\r\ncontent-length: {length}\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        slow.push(stream);
        for stream in &mut slow {
            let mut answer = vec![0; 4096];
            if let Ok(read) = stream.read(&mut answer) {
                refused = String::from_utf8_lossy(&answer[..read]).into_owned();
            }
        }
        !refused.is_empty()
    });
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 30"), "{refused}");
    assert!(slow.len() > 10, "{} were too many", slow.len());
    // For a small one there is room all the same.
    story.deliver("push", &story.github.push("main", None, &story.main, "Start"));
    drop(slow);
    story.verdict(&story.main);
}

fn a_merge_is_made_again_for_a_run_that_is_done_again(database: Database) {
    let mut story = Story::start(database);
    story.server.scene.git(&["switch", "--quiet", "--create", "topic"]);
    story.server.scene.file("more", "");
    let head = story.commit("refs/pull/5/head", "Topic");
    let pull = PullRequest { number: 5, head: head.clone(), from_fork: false };
    story.deliver("pull_request", &story.github.pull_request("opened", &pull));
    story.verdict(&head);
    story.server.configure("[retention]\nmirror_days = 0\n");
    story.server.kill_and_serve();
    let mirrors =
        |server: &Server| std::fs::read_dir(server.data().join("mirrors")).unwrap().count();
    story.server.until("the mirror is gone", |server| mirrors(server) == 0);
    // Its base has moved on since; the run is about the merge that it was.
    story.server.scene.git(&["switch", "--quiet", "main"]);
    story.server.scene.file("later", "");
    story.commit("refs/heads/main", "Later");
    let again = story.server.muster(&["rerun", "1"]);
    assert_eq!(again.exit, Some(0), "{}", again.err);
    assert_snapshot!(story.verdict(&head), @"
    muster success: 1 successful
    muster / test success: Successful
    ");
}
