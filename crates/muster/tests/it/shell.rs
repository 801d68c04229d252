//! Looking around in jobs that have failed.

use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::process::Program;

use crate::actions::path_with_node;
use crate::database::{Database, on_both};
use crate::engine::{IMAGE, engine};
use crate::images::{small, there_can_be_roots};
use crate::sandbox::there_can_be_one;
use crate::scene::Scene;
use crate::server::{Server, supervisors, wait_until};

on_both! {
    a_failed_job_is_kept_for_who_has_the_token_and_what_they_do_is_noted,
    of_kept_jobs_the_newest_stay_over_a_restart_and_none_without_its_repository,
}

/// Nothing here takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// What a person does in a job: shows where it is and what it has, and ends as it is told to.
const LOOK: &str = "pwd; echo *; cat left; env | sort | grep -E '^(FROM|JOB|STEP|WORKFLOW|SECRET|OTHER|TERM)='; \
     cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'sleep 1000' && echo what was started goes on; exit 5";

/// Runs a job that fails, keeps it, and looks around in it; returns what was seen.
fn seen(more: &[&str], variables: &[(&str, &str)], job: &str) -> String {
    let scene = Scene::new();
    scene.workflow(&format!(
        r#"
on: push
env: {{WORKFLOW: yes}}
jobs:
  test:
{job}
    env: {{JOB: yes}}
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo "FROM=earlier" >> $GITHUB_ENV; echo left > sub/left
          sleep 1000 &
      - working-directory: sub
        env: {{STEP: yes, SECRET: "${{{{ secrets.ONE }}}}"}}
        run: exit 3
      - if: always()
        env: {{OTHER: "${{{{ secrets.TWO }}}}"}}
        run: echo later >> sub/left
"#
    ));
    scene.file("sub/README", "");
    scene.commit("first");
    let secrets = ["--secret", "ONE=first secret", "--secret", "TWO=second secret"];
    let path = path_with_node();
    let variables = [variables, &[("PATH", &*path), ("TERM", "vt100")]].concat();
    let args = [&["run", "--keep", "30"], &secrets[..], more].concat();
    let done = scene.muster_with(&args, &variables);
    assert_eq!(done.exit, Some(1), "{}{}", done.out, done.err);
    let kept = done.out.lines().find(|line| line.contains(" is kept for 30 min: "));
    let kept = kept.unwrap_or_else(|| panic!("{}{}", done.out, done.err));
    let run = kept.split_whitespace().find(|word| word.starts_with("muster-run-")).unwrap();
    let look = scene.muster_with(&["shell", run, "test", "--", "sh", "-c", LOOK], &variables);
    let nobody = scene.muster_with(&["shell", run, "other"], &variables);
    assert_eq!(nobody.err, format!("error: {run} keeps no job `other`: it keeps `test`\n"));
    assert_eq!(scene.muster(&["shell", run, "test", "--end"]).exit, Some(0));
    // The last that has to do with the run removes its folder.
    let folder = std::env::temp_dir().join(run);
    wait_until("the run's folder is gone", || !folder.exists());
    look.story().replace('\r', "")
}

const OF_THE_JOB: &str = "/home/runner/work/repository/repository/sub";

/// Returns the folder that was seen; all else is the same wherever the job runs.
fn folder_of(seen: &str) -> &str {
    let (folder, rest) = seen.split_once('\n').unwrap();
    insta::allow_duplicates! {
        assert_snapshot!(rest, @"
        README left
        left
        later
        FROM=earlier
        JOB=yes
        SECRET=first secret
        STEP=yes
        TERM=vt100
        WORKFLOW=yes
        what was started goes on
        exit 5
        ");
    }
    folder
}

#[test]
fn a_shell_is_where_the_step_was_that_failed() {
    if !there_can_be_one() {
        return;
    }
    let on = "    runs-on: ubuntu-latest";
    assert_eq!(folder_of(&seen(&["--isolation", "sandbox"], &[], on)), OF_THE_JOB);
    let own = seen(&["--isolation", "none"], &[], on);
    // A folder of this machine.
    assert_eq!(folder_of(&own), "[path]");
}

/// What goes through it are bytes where there is no terminal, however many; and nothing that runs holds it up.
#[test]
fn bytes_go_and_come_as_they_are_and_nothing_holds_it_up() {
    if !there_can_be_one() {
        return;
    }
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - run: (printf 'a line\\nno end'; echo >> go; exec sleep 1000) & until [ -e go ]; do :; done\n\
         \x20     - run: exit 1\n",
    );
    scene.commit("first");
    let done = scene.muster(&["run", "--isolation", "sandbox", "--keep", "30"]);
    // What was written last is there although what wrote it goes on.
    assert!(done.out.contains("│ a line\n") && done.out.contains("│ no end\n"), "{}", done.out);
    let run = done.out.split_whitespace().find(|word| word.starts_with("muster-run-")).unwrap();
    let ask = |words: &[&str], input: &[u8]| {
        let program = Program::new(env!("CARGO_BIN_EXE_muster"));
        let program = program.args(["shell", run, "a", "--"]).args(words).input(input);
        let output = program.dir(scene.path()).output(LIMIT, 64 << 20).unwrap();
        (output.status.code().unwrap(), output.stdout)
    };
    let many: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let (code, back) = ask(&["cat"], &many);
    assert!(code == 0 && back == many, "{code}, {} of {} bytes", back.len(), many.len());
    assert_eq!(ask(&["cat"], b"no end"), (0, b"no end".to_vec()));
    assert_eq!(ask(&["nothing-of-this-name"], b"").0, 127);
    assert_eq!(ask(&["sh", "-c", "kill -9 $$"], b"").0, 137);
    assert_eq!(ask(&["sh", "-c", "exec >&- 2>&-; exit 4"], b"").0, 4);
    // What it leaves running writes for ever.
    let (code, much) = ask(&["sh", "-c", "setsid yes & exit 7"], b"");
    assert!(code == 7 && much.len() < 64 << 20, "{code}, {}", much.len());
    assert_eq!(scene.muster(&["shell", run, "a", "--end"]).exit, Some(0));
    let folder = std::env::temp_dir().join(run);
    wait_until("the run's folder is gone", || !folder.exists());
}

#[test]
fn a_shell_is_in_the_container_or_image_of_the_job() {
    if let Some(engine) = engine() {
        let (name, host) = engine.variable();
        let job = format!("    runs-on: ubuntu-latest\n    container: '{IMAGE}'");
        let inside = seen(&[], &[(name, &host)], &job);
        assert_eq!(folder_of(&inside), "/__w/repository/repository/sub");
        assert!(engine.left_by_runs().is_empty());
    }
    if there_can_be_roots() {
        let image = format!("small={}", small().display());
        let inside = seen(&["--image", &image], &[], "    runs-on: small");
        assert_eq!(folder_of(&inside), OF_THE_JOB);
    }
}

/// Runs a program in a job of the server, and returns how it ended and what was shown.
fn look(server: &Server, run: &str, job: &str, words: &[&str]) -> (i32, String) {
    let done = server.muster(&[&["shell", run, job, "--"], words].concat());
    (done.exit.unwrap(), done.out.replace('\r', "") + &done.err)
}

fn of_kept_jobs_the_newest_stay_over_a_restart_and_none_without_its_repository(database: Database) {
    let mut server = Server::start(
        database,
        "jobs = 2\n[shell]\nkeep_minutes = 30\n[retention]\nlog_days = 0\n",
    );
    server.workflow(
        "on: push\njobs: {bad: {runs-on: linux, steps: [{run: 'touch here-$GITHUB_RUN_ATTEMPT; echo said; exit 1'}]}}\n",
    );
    let fails = |server: &Server, run: &str| {
        server.scene.file("changed", run);
        let sha = server.push("main", run);
        assert!(server.verdict(&sha).contains("muster failure"));
        server.until("it is kept", |_| look(server, run, "bad", &["ls"]).0 == 0);
    };
    fails(&server, "1");
    fails(&server, "2");
    assert_eq!(server.muster(&["rerun", "1"]).exit, Some(0));
    let again = (0, "here-2\n".to_owned());
    server.until("it is kept", |server| look(server, "1", "bad", &["ls"]) == again);
    // Both go on, and their logs, whose time is over, are theirs yet.
    server.kill_and_serve();
    assert_eq!(look(&server, "1", "bad", &["ls"]), again);
    assert_eq!(look(&server, "2", "bad", &["ls"]).0, 0);
    for run in ["1", "2"] {
        assert!(server.muster(&["log", run]).out.contains("said\n"), "{run}");
    }
    // What was run again is newer than what came after it.
    fails(&server, "3");
    server.until("the oldest is gone", |server| look(server, "2", "bad", &["ls"]).0 == 2);
    assert_eq!(look(&server, "1", "bad", &["ls"]).0, 0);
    assert_eq!(server.muster(&["repo", "remove", "team/app"]).exit, Some(0));
    server.until("none is left", |server| supervisors(&server.data()).is_empty());
}

fn a_failed_job_is_kept_for_who_has_the_token_and_what_they_do_is_noted(database: Database) {
    let mut server = Server::start(database, "jobs = 1\n[shell]\nkeep_minutes = 30\n");
    server.workflow(
        "on: push\njobs:\n  good: {runs-on: linux, steps: [{run: exit 0}]}\n  bad:\n    needs: good\n    runs-on: linux\n\
         \x20   steps: [{run: 'touch here; exit 1'}]\n",
    );
    let sha = server.push("main", "first");
    assert!(server.verdict(&sha).contains("muster failure"));
    server.until("there is a way to it", |_| look(&server, "1", "bad", &["ls"]).0 == 0);
    assert_eq!(look(&server, "1", "bad", &["sh", "-c", "ls; exit 7"]), (7, "here\n".to_owned()));
    assert_snapshot!(look(&server, "1", "good", &["ls"]).1, @"error: job `good` of run 1: it is not kept: jobs are that have failed by themselves, for 30 min, the newest as many as run at once");
    assert_snapshot!(look(&server, "1", "none", &["ls"]).1, @"error: run 1 has no job `none`: it has `good`, `bad`");
    assert_snapshot!(server.scene.muster_with(&["shell", "1", "bad"], &[("MUSTER_URL", &server.url)]).err, @"error: the server wants the admin token: set MUSTER_TOKEN");
    // As many are kept as run at once: the newest.
    server.scene.file("changed", "");
    let second = server.push("main", "second");
    assert!(server.verdict(&second).contains("muster failure"));
    server.until("the newer is kept", |_| look(&server, "2", "bad", &["ls"]).0 == 0);
    server.until("the older is not", |_| look(&server, "1", "bad", &["ls"]).0 == 2);
    // A server that is started anew finds it.
    server.kill_and_serve();
    assert_eq!(look(&server, "2", "bad", &["ls"]), (0, "here\n".to_owned()));
    assert_eq!(server.muster(&["shell", "2", "bad", "--end"]).exit, Some(0));
    server.until("it is gone", |_| look(&server, "2", "bad", &["ls"]).0 == 2);
    assert_eq!(server.muster_given("hush", &["secrets", "set", "KEY"]).exit, Some(0));
    let audit = server.muster(&["audit"]).out;
    let deeds: Vec<&str> =
        audit.lines().filter_map(|line| line.split_once(" admin ")).map(|(_, what)| what).collect();
    assert!(deeds.contains(&"shell.open job 2 of run 1 bad"), "{audit}");
    assert!(deeds.contains(&"shell.close job 2 of run 1"), "{audit}");
    assert!(deeds.contains(&"secret.set KEY all repositories, trust member"), "{audit}");
    assert!(!audit.contains("hush"), "{audit}");
}
