//! What survives: kill -9 of the server, kill -9 of a supervisor.

use std::time::Duration;

use insta::assert_snapshot;

use sqlx::Connection as _;

use crate::database::{Database, on_both};
use crate::server::{Server, kill, marked, processes, supervisors};

on_both! {
    what_is_old_goes_and_says_so,
    jobs_go_on_when_the_server_is_killed_and_nothing_is_doubled,
    a_job_that_ends_while_no_server_runs_is_taken_over_later,
    a_killed_supervisor_is_a_new_attempt_and_leaves_nothing,
    a_job_whose_supervisor_keeps_dying_ends_with_that_reason,
    each_database_has_one_server,
    a_program_that_was_replaced_goes_on_until_it_is_started_again,
    a_log_that_is_complete_is_sealed_and_reads_the_same,
}

const SLOW: &str = "on: push\njobs:\n  slow:\n    runs-on: linux\n    steps:\n      - run: |\n          echo \"attempt of $RUNNER_TRACKING_ID\"\n          until test -e GATE; do sleep 0.01; done\n          echo went on\n";

fn push_slow(server: &Server) -> String {
    server.workflow(SLOW);
    let sha = server.push("main", "Slow");
    server.until("the job runs", |server| server.muster(&["log", "1"]).out.contains("attempt of"));
    sha
}

fn jobs_go_on_when_the_server_is_killed_and_nothing_is_doubled(database: Database) {
    let mut server = Server::start(database, "");
    let sha = push_slow(&server);
    server.kill_and_serve();
    server.open_gate();
    assert!(server.verdict(&sha).contains("slow success: Successful"));
    let log = server.muster(&["log", "1"]).out;
    assert_eq!(log.matches("attempt of").count(), 1, "{log}");
    assert_eq!(log.matches("went on").count(), 1, "{log}");
    assert_eq!(server.muster(&["runs"]).out.lines().count(), 1);
}

fn a_job_that_ends_while_no_server_runs_is_taken_over_later(database: Database) {
    let mut server = Server::start(database, "");
    let sha = push_slow(&server);
    server.kill();
    server.open_gate();
    server.until("the supervisor has ended", |server| {
        let data = server.data().to_string_lossy().into_owned();
        !processes().iter().any(|(_, line)| line.contains("supervise") && line.contains(&data))
    });
    server.serve_again();
    assert!(server.verdict(&sha).contains("slow success: Successful"));
}

fn a_killed_supervisor_is_a_new_attempt_and_leaves_nothing(database: Database) {
    let server = Server::start(database, "");
    let sha = push_slow(&server);
    let data = server.data().to_string_lossy().into_owned();
    let supervisor = |processes: Vec<(String, String)>| {
        processes.into_iter().find(|(_, line)| line.contains("supervise") && line.contains(&data))
    };
    let log = server.muster(&["log", "1"]).out;
    let (_, mark) = log.split_once("attempt of ").unwrap();
    let mark = mark.lines().next().unwrap().to_owned();
    assert!(!marked(&mark).is_empty(), "{log}");
    let (pid, _) = supervisor(processes()).unwrap();
    kill(&pid);
    server.until("the second attempt runs", |_| {
        supervisor(processes()).is_some_and(|(_, line)| line.contains(".2/job.json"))
    });
    server.until("the first attempt's steps are gone", |_| marked(&mark).is_empty());
    server.open_gate();
    assert!(server.verdict(&sha).contains("slow success: Successful"));
    assert!(server.muster(&["log", "1"]).out.contains(".2\n"));
}

fn a_job_whose_supervisor_keeps_dying_ends_with_that_reason(database: Database) {
    let server = Server::start(database, "");
    server
        .scene
        .workflow("on: push\njobs:\n  doomed:\n    runs-on: linux\n    steps: [{run: sleep 60}]\n");
    let sha = server.push("main", "Doomed");
    let data = server.data();
    server.until("it is given up", |server| {
        supervisors(&data).iter().for_each(|(pid, _)| kill(pid));
        server.muster(&["runs"]).out.contains("error")
    });
    insta::assert_snapshot!(server.verdict(&sha), @"
    doomed error: Not run: its supervisor was lost, 3 times
    muster error: not run to the end: doomed
    .github/workflows/ci.yml ran
    ");
}

fn what_is_old_goes_and_says_so(database: Database) {
    let mut server = Server::start(database, "");
    server.scene.workflow(
        "on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{run: 'seq 1000; echo kept'}]\n",
    );
    let sha = server.push("main", "Old");
    server.verdict(&sha);
    assert!(server.muster(&["log", "1"]).out.contains("kept"));
    // What a crash, or a repository that was removed, has left.
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let leave = |path: &std::path::Path| {
        let file = std::fs::File::open(path).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(long_ago)).unwrap();
    };
    let (log, mirror) =
        (server.data().join("logs/gone.1.log"), server.data().join("mirrors/gone.git"));
    let job = server.data().join("jobs/gone.1");
    std::fs::write(&log, "o 0 1 text\n").unwrap();
    for folder in [&mirror, &job] {
        std::fs::create_dir(folder).unwrap();
    }
    for path in [&log, &mirror, &job] {
        leave(path);
    }
    server.configure("[retention]\nlog_days = 0\n");
    server.kill_and_serve();
    server.until("it is gone", |_| !log.exists() && !mirror.exists() && !job.exists());
    server.until("the log is gone", |server| !server.muster(&["log", "1"]).out.contains("kept"));
    assert_snapshot!(server.muster(&["log", "1"]).out, @"This log was removed: it was older than 0 days ([retention] log_days).");
    assert!(server.muster(&["log", "-f", "1"]).out.contains("removed"));
    assert!(server.muster(&["why", &sha]).out.contains("muster success"));
}

fn each_database_has_one_server(database: Database) {
    let mut address = String::new();
    let server = Server::start_on(database, |url| address = url.to_owned());
    let second = || match database {
        Database::Sqlite => server.muster(&["serve", "--listen", "127.0.0.1:0"]),
        // Its data folder is its own; the database is not.
        Database::Postgres => {
            server.muster(&["serve", "--listen", "127.0.0.1:0", "--data", "other"])
        }
    };
    let why = match database {
        Database::Sqlite => "another muster server runs on the data folder",
        Database::Postgres => "another muster server uses this database: each needs its own",
    };
    let refused = second();
    assert!(refused.err.contains(why), "{}", refused.err);
    assert_eq!(refused.exit, Some(2), "{}", refused.err);
    if matches!(database, Database::Postgres) {
        // A database that ends the session which says that somebody is here does not let others in.
        let ended = "SELECT CASE WHEN pg_terminate_backend(pid) THEN pid ELSE 0 END FROM pg_locks \
                     WHERE locktype = 'advisory' AND database = \
                     (SELECT oid FROM pg_database WHERE datname = current_database())";
        let holder =
            ended.replace("CASE WHEN pg_terminate_backend(pid) THEN pid ELSE 0 END", "pid");
        let before = ask(&address, ended).unwrap();
        server.until("the session is back", |_| {
            ask(&address, &holder).is_some_and(|holder| holder != before)
        });
        assert!(second().err.contains(why));
    }
    assert_eq!(server.muster(&["repo", "list"]).exit, Some(0));
}

fn a_log_that_is_complete_is_sealed_and_reads_the_same(database: Database) {
    let mut server = Server::start(database, "");
    server.scene.workflow(
        "on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{run: 'seq 100000; echo short >&2; echo café'}]\n",
    );
    let sha = server.push("main", "Long");
    server.verdict(&sha);
    let before = server.muster(&["log", "1"]).out;
    assert!(before.lines().count() > 100_000, "{}", before.lines().count());
    let logs = logs_of(&server);
    let [(name, raw)] = &*logs else { panic!("{logs:?}") };
    assert_eq!(name, "1.log");
    // Sealing makes a log no younger.
    let log = || std::fs::read_dir(server.data().join("logs")).unwrap().flatten().next().unwrap();
    let now = Duration::from_millis(muster_sys::clock::now_ms().unsigned_abs());
    let days_ago = std::time::UNIX_EPOCH + now - Duration::from_secs(10 * 24 * 3600);
    let file = std::fs::File::options().append(true).open(log().path()).unwrap();
    file.set_modified(days_ago).unwrap();
    drop(file);
    server.kill_and_serve();
    server.until("the log is sealed", |server| {
        logs_of(server).iter().all(|(name, _)| name == "1.log.zst")
    });
    let logs = logs_of(&server);
    let [(_, sealed)] = &*logs else { panic!("{logs:?}") };
    let file = std::fs::read_dir(server.data().join("logs")).unwrap().flatten().next().unwrap();
    assert_eq!(file.metadata().unwrap().modified().unwrap(), days_ago);
    assert!(*sealed < raw / 4, "{sealed} of {raw} bytes");
    assert_eq!(server.muster(&["log", "1"]).out, before);
    assert_eq!(server.muster(&["log", "-f", "1"]).out, before);
    // What is damaged is said, and ends nothing else.
    let mut bytes = std::fs::read(file.path()).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    std::fs::write(file.path(), bytes).unwrap();
    let damaged = server.muster(&["log", "1"]);
    let said = damaged.out.lines().last().unwrap();
    assert!(
        said.starts_with("muster: the rest of this log cannot be read: a sealed log is damaged"),
        "{said}"
    );
    assert_eq!(damaged.exit, Some(0));
    assert!(server.muster(&["rerun", "1"]).out.contains("attempt 2"));
}

/// An upgrade puts another program in the place of the one that runs.
fn a_program_that_was_replaced_goes_on_until_it_is_started_again(database: Database) {
    let isolation = if crate::sandbox::there_can_be_one() { "auto" } else { "none" };
    let mut server = Server::start(database, &format!("isolation = \"{isolation}\"\n"));
    server.terminate();
    crate::scene::install_muster(&server.installed());
    server.serve("127.0.0.1:0");
    std::fs::remove_file(server.installed()).unwrap();
    std::fs::write(server.installed(), "another\n").unwrap();
    server.scene.workflow("on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{uses: actions/checkout@v4}, {run: ls}]\n");
    let sha = server.push("main", "Replaced");
    assert_snapshot!(server.verdict(&sha), @"
    muster success: 1 successful
    test success: Successful
    .github/workflows/ci.yml ran
    ");
}

/// Returns the logs' files: their names, without the job, and sizes.
fn logs_of(server: &Server) -> Vec<(String, u64)> {
    let listed = std::fs::read_dir(server.data().join("logs")).unwrap().flatten();
    let of = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name.split_once('.').unwrap().1.to_owned(), entry.metadata().unwrap().len())
    };
    listed.map(of).collect()
}

/// Asks a database for a number, where there is one.
pub(crate) fn ask(address: &str, query: &str) -> Option<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(address).await.unwrap();
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()));
        query.fetch_optional(&mut connection).await.unwrap()
    })
}
