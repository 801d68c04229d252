//! Workflows that somebody asks for.

use insta::assert_snapshot;

use crate::database::{Database, on_both};
use crate::faults::libfaketime;
use crate::restart::ask;
use crate::server::Server;

on_both! {
    a_workflow_runs_when_it_is_asked_for_with_what_was_filled_in,
    what_cannot_be_asked_for_is_refused_with_all_that_is_wrong,
    what_was_asked_for_survives_a_kill,
    what_was_asked_for_holds_up_no_push,
    what_is_due_runs_once_however_long_nobody_looked,
}

const DEPLOY: &str = r#"
name: Ship it
run-name: to ${{ inputs.where }}
on:
  workflow_dispatch:
    inputs:
      where: {type: choice, options: [staging, production], required: true}
      times: {type: number, default: 1}
      dry: {type: boolean}
      note: {default: none}
jobs:
  ship:
    runs-on: linux
    env: {NOTE: '${{ inputs.note }}', KEY: '${{ secrets.KEY }}'}
    steps:
      - run: |
          echo "${{ inputs.where }} ${{ inputs.times > 1 }} ${{ inputs.dry == true }} $NOTE ${KEY:-no key}"
          echo "$GITHUB_EVENT_NAME $GITHUB_REF $GITHUB_ACTOR ${{ github.event.inputs.where }}"
"#;

/// Serves a repository with a workflow that is asked for, and one of pushes.
fn served(database: Database) -> Server {
    let server = Server::start(database, "");
    server.scene.file(".github/workflows/deploy.yml", DEPLOY);
    server.workflow("on: push\njobs: {test: {runs-on: linux, steps: [{run: exit 0}]}}\n");
    server
}

fn dispatch(server: &Server, args: &[&str]) -> (i32, String) {
    let done = server.muster(&[&["dispatch", "team/app"], args].concat());
    (done.exit.unwrap(), done.out + &done.err)
}

fn log_of(server: &Server, run: &str) -> String {
    server.until("the run is over", |server| {
        let runs = server.muster(&["runs"]).out;
        let line = runs.lines().find(|line| line.starts_with(&format!("{run} "))).unwrap_or("");
        ["success", "failure", "error"].iter().any(|end| line.contains(end))
    });
    let log = server.muster(&["log", run]).out;
    let lines = log.lines().filter(|line| !line.contains(": ") && !line.contains("muster"));
    lines.collect::<Vec<_>>().join("\n")
}

fn a_workflow_runs_when_it_is_asked_for_with_what_was_filled_in(database: Database) {
    let server = served(database);
    let sha = server.push("main", "first [skip ci]");
    assert_eq!(
        server.muster_given("open sesame", &["secrets", "set", "KEY", "--trust", "protected"]).exit,
        Some(0)
    );
    let (exit, told) = dispatch(
        &server,
        &[
            "deploy.yml",
            "--input",
            "where=production",
            "--input",
            "times=2",
            "--input",
            "dry=true",
            "--input",
            "note=a; b",
        ],
    );
    assert_eq!(exit, 0, "{told}");
    assert_snapshot!(told.replace(&sha[..8], "[sha]"), @r#"run 1: .github/workflows/deploy.yml of refs/heads/main at [sha]"#);
    assert_snapshot!(log_of(&server, "1"), @r#"
    production true true a; b ***
    workflow_dispatch refs/heads/main admin production
    "#);
    // By its name, on another branch, which is not protected.
    server.scene.git(&["switch", "--quiet", "--create", "other"]);
    server.scene.file("more", "");
    server.push("other", "second [skip ci]");
    let (exit, told) =
        dispatch(&server, &["Ship it", "--ref", "other", "--input", "where=staging"]);
    assert_eq!(exit, 0, "{told}");
    assert_snapshot!(log_of(&server, "2"), @r#"
    staging false false none no key
    workflow_dispatch refs/heads/other admin staging
    "#);
    // A tag, by the path of the file.
    server.scene.git(&["tag", "v1"]);
    server.scene.git(&["push", "--quiet", &server.origin.to_string_lossy(), "v1"]);
    let (exit, told) = dispatch(
        &server,
        &[".github/workflows/deploy.yml", "--ref", "v1", "--input", "where=staging"],
    );
    assert_eq!(exit, 0, "{told}");
    log_of(&server, "3");
    assert_snapshot!(server.muster(&["runs"]).out, @r#"
    3 success to staging (Ship it #3) team/app refs/tags/v1
    2 success to staging (Ship it #2) team/app refs/heads/other
    1 success to production (Ship it #1) team/app refs/heads/main
    "#);
    // The commit's verdict is that of what was pushed.
    assert_snapshot!(server.muster(&["why", &sha]).out, @r#"muster error: the commit message says [skip ci]"#);
    let audit = server.muster(&["audit"]).out;
    assert!(
        audit.contains("workflow.dispatch team/app .github/workflows/deploy.yml refs/heads/main"),
        "{audit}"
    );
}

fn what_cannot_be_asked_for_is_refused_with_all_that_is_wrong(database: Database) {
    let server = served(database);
    server
        .scene
        .file(".github/workflows/wrong.yml", "on: workflow_dispatch\njobs: {a: {steps: []}}\n");
    let sha = server.push("main", "first");
    server.verdict(&sha);
    let told = |args: &[&str]| {
        let (exit, told) = dispatch(&server, args);
        assert_ne!(exit, 0, "{told}");
        told
    };
    assert_snapshot!(told(&["deploy.yml", "--input", "wher=x", "--input", "times=many", "--input", "dry=perhaps"]), @r#"
    error: there is no input `wher`; did you mean `where`?
    input `where` is required
    input `times` must be a number, this is `many`
    input `dry` must be true or false, this is `perhaps`
    "#);
    assert_snapshot!(told(&["deploy.yml", "--input", "where=moon"]), @r#"error: input `where` must be one of staging, production, this is `moon`"#);
    assert_snapshot!(told(&["ci.yml"]), @r#"error: .github/workflows/ci.yml: `on` does not name `workflow_dispatch`"#);
    assert_snapshot!(told(&["none.yml"]), @r#"error: there is no workflow `none.yml` in `main`, which has: .github/workflows/ci.yml, .github/workflows/deploy.yml, .github/workflows/wrong.yml"#);
    assert_snapshot!(told(&["wrong.yml"]), @r#"error: .github/workflows/wrong.yml:2:8: a job needs `runs-on`"#);
    assert_snapshot!(told(&["deploy.yml", "--ref", "gone"]), @r#"error: there is no branch or tag `gone`"#);
    // What git takes for a commit is no ref, least of all a protected one.
    let described = format!("refs/tags/v9-0-g{}", &sha[..12]);
    assert!(told(&["deploy.yml", "--ref", &described]).contains("there is no branch or tag"));
    assert!(told(&["deploy.yml", "--ref", &sha]).contains("there is no branch or tag"));
    let twice = ["deploy.yml", "--input", "where=staging", "--input", "WHERE=production"];
    assert_snapshot!(told(&twice), @r#"error: input `where` is given twice, as `WHERE`, too"#);
    assert_snapshot!(told(&["deploy.yml", "--input", "where=staging", "--input", "times=inf"]), @r#"error: input `times` must be a number, this is `inf`"#);
    assert_snapshot!(told(&["deploy.yml", "--ref=--upload-pack=x"]), @r#"error: there is no branch or tag `--upload-pack=x`"#);
    assert_snapshot!(told(&["deploy.yml", "--input", "where"]), @r#"error: --input where: it is NAME=VALUE"#);
    assert_snapshot!(server.muster(&["dispatch", "team/none", "ci.yml"]).err, @r#"error: there is no repository `team/none`"#);
    let without = server
        .scene
        .muster_with(&["dispatch", "team/app", "deploy.yml"], &[("MUSTER_URL", &server.url)]);
    assert_snapshot!(without.err, @r#"error: the server wants the admin token: set MUSTER_TOKEN"#);
    assert_eq!(server.muster(&["runs"]).out.lines().count(), 1);
}

fn what_was_asked_for_survives_a_kill(database: Database) {
    let mut server = served(database);
    server.push("main", "first [skip ci]");
    let (exit, told) = dispatch(&server, &["deploy.yml", "--input", "where=staging"]);
    assert_eq!(exit, 0, "{told}");
    server.kill_and_serve();
    assert!(log_of(&server, "1").contains("staging false false none"), "{}", log_of(&server, "1"));
    assert_eq!(server.muster(&["rerun", "1"]).exit, Some(0));
    assert!(log_of(&server, "1").contains("staging false false none"));
}

/// One that cannot be decided yet waits beside the pushes of its branch.
fn what_was_asked_for_holds_up_no_push(database: Database) {
    let server = Server::start(database, "[actions]\nfrom = \"/nowhere\"\n");
    server.scene.file(
        ".github/workflows/far.yml",
        "on: workflow_dispatch\njobs: {far: {uses: some/where/.github/workflows/x.yml@v1}}\n",
    );
    server.workflow("on: push\njobs: {test: {runs-on: linux, steps: [{run: exit 0}]}}\n");
    server.push("main", "first [skip ci]");
    let body = r#"{"repository": "team/app", "workflow": "far.yml"}"#;
    assert_eq!(server.post("/api/v1/dispatches", body), 202);
    let nul = r#"{"repository": "team/app", "workflow": "far.yml", "inputs": {"a": "\u0000"}}"#;
    assert_eq!(server.post("/api/v1/dispatches", nul), 422);
    server.scene.file("more", "");
    let sha = server.push("main", "second");
    assert!(server.verdict(&sha).contains("muster success"));
    assert!(
        server
            .muster(&["audit"])
            .out
            .contains("workflow.dispatch team/app .github/workflows/far.yml")
    );
}

/// A clock that is put forward is a server that was away.
fn what_is_due_runs_once_however_long_nobody_looked(database: Database) {
    let mut address = String::new();
    let mut server = Server::start_on(database, |url| address = url.to_owned());
    server.watch_origin();
    server.scene.file(
        ".github/workflows/nightly.yml",
        "name: Nightly\non: {schedule: [{cron: '*/5 * * * *'}]}\njobs:\n  tidy:\n    runs-on: linux\n    steps:\n\
         \x20     - run: echo \"$GITHUB_EVENT_NAME of ${{ github.event.schedule }} on $GITHUB_REF\"\n",
    );
    let sha = server.push("main", "first [skip ci]");
    server.until("it is heard of", |server| server.muster(&["why", &sha]).out.contains("skip ci"));
    // What was due before it was there starts nothing.
    server.kill_and_serve();
    server.until("it is looked at", |_| {
        ask(&address, "SELECT 1 FROM repositories WHERE scheduled_at IS NOT NULL").is_some()
    });
    assert_eq!(server.muster(&["runs"]).out, "");
    server.kill();
    server.serve_again_by_way_of(&[
        "env",
        &format!("LD_PRELOAD={}", libfaketime().display()),
        "FAKETIME=+2h",
    ]);
    assert_snapshot!(log_of(&server, "1"), @r#"schedule of */5 * * * * on refs/heads/main"#);
    assert_snapshot!(server.muster(&["runs"]).out, @r#"1 success Nightly (Nightly #1) team/app refs/heads/main"#);
    server.kill_and_serve();
    assert_eq!(server.muster(&["runs"]).out.lines().count(), 1);
}
