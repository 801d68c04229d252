//! Copies of all that a server has, and their use.

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};

use insta::assert_snapshot;
use muster_sys::process::Program;

use crate::database::{Database, on_both};
use crate::server::Server;

on_both! {
    a_backup_is_taken_while_the_server_runs,
    a_backup_takes_the_place_of_what_is_there,
}

const SAY: &str = "on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{run: echo NUMBER}]\n";

fn run(server: &Server, number: &str) -> String {
    server.scene.workflow(&SAY.replace("NUMBER", number));
    let sha = server.push("main", number);
    assert!(server.verdict(&sha).contains("test success"));
    sha
}

fn a_backup_takes_the_place_of_what_is_there(database: Database) {
    let mut server = Server::start(database, "");
    run(&server, "before");
    assert_eq!(server.muster(&["backup", "copy"]).exit, Some(0));
    let after = run(&server, "after");
    let busy = server.muster(&["restore", "copy"]);
    assert_eq!(busy.exit, Some(2));
    assert!(busy.err.contains("another muster server runs on the data folder"), "{}", busy.err);
    server.terminate();
    let absent = server.muster(&["restore", "nowhere"]);
    assert_snapshot!(absent.err, @"error: cannot find nowhere: No such file or directory (os error 2)");
    let restored = server.muster(&["restore", "copy"]);
    assert_eq!(restored.exit, Some(0), "{}", restored.err);
    let said = restored.out.replace(&*server.data().to_string_lossy(), "DATA");
    let said =
        said.split("replaced-").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
    assert_snapshot!(said.collect::<Vec<_>>().join("replaced-TIME"), @"
    logs: 1
    deploy keys: 0
    restored from copy
    what was there is in DATA/backups/replaced-TIME
    Webhooks that came after the backup are not known any more: send them again from the code host's list. Pushes to repositories that are watched are found by themselves.
    ");
    server.serve_again();
    assert!(server.muster(&["log", "1"]).out.ends_with("before\n"));
    // What was pushed after the backup is found in the repository, and runs.
    assert!(server.verdict(&after).contains("test success"));
    assert!(server.muster(&["log", "2"]).out.ends_with("after\n"));
    run(&server, "later");
    assert_eq!(server.muster(&["runs"]).out.lines().count(), 3);
    // It can be undone, also where the server was killed and had its last words in a log of the database.
    server.kill();
    let restored = server.muster(&["restore", "copy"]);
    assert_eq!(restored.exit, Some(0), "{}", restored.err);
    let aside = restored.out.lines().find_map(|line| line.strip_prefix("what was there is in "));
    let undone = server.muster(&["restore", aside.unwrap()]);
    assert_eq!(undone.exit, Some(0), "{}", undone.err);
    server.serve_again();
    assert_eq!(server.muster(&["runs"]).out.lines().count(), 3);
    assert!(server.muster(&["log", "3"]).out.ends_with("later\n"));
}

#[test]
fn a_restore_that_was_cut_off_keeps_servers_away_until_it_is_done_again() {
    let mut server = Server::start(Database::Sqlite, "");
    run(&server, "before");
    // A name that a URL would take for something else.
    let copy = "copy?of#10:00%20";
    assert_eq!(server.muster(&["backup", copy]).exit, Some(0));
    server.terminate();
    let mut kills = 0;
    for place in 1.. {
        let cut = Program::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename,fsync,unlink,sendfile,copy_file_range"])
            .args(["-e", &format!("inject=rename,fsync,unlink,sendfile,copy_file_range:signal=SIGKILL:when={place}")])
            .args([env!("CARGO_BIN_EXE_muster"), "restore", copy])
            .dir(server.data().parent().unwrap());
        let output = cut.output(std::time::Duration::from_secs(60), 1 << 20).unwrap();
        if output.status.success() {
            break;
        }
        kills += 1;
        assert!(kills < 200, "{}", String::from_utf8_lossy(&output.stderr));
        let restoring = server.data().join("restoring").exists();
        assert!(
            restoring || server.data().join("muster.db").exists(),
            "killed at {place}: there is no database, and nothing says so"
        );
        if restoring {
            assert!(server.ends().err.contains("`muster restore` has to be done again first"));
        }
    }
    assert!(kills > 5, "it was killed {kills} times");
    server.serve_again();
    assert!(server.muster(&["log", "1"]).out.ends_with("before\n"));
    run(&server, "later");
}

#[test]
fn a_damaged_database_is_said_and_not_used() {
    let mut server = Server::start(Database::Sqlite, "");
    run(&server, "before");
    assert_eq!(server.muster(&["backup", "copy"]).exit, Some(0));
    server.terminate();
    let mut file = OpenOptions::new().write(true).open(server.data().join("muster.db")).unwrap();
    // Every page of it but the first ones, which say what the others are.
    let size = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(8 * 4096)).unwrap();
    file.write_all(&vec![0x5a; usize::try_from(size).unwrap() - 8 * 4096]).unwrap();
    drop(file);
    let said = server.ends();
    assert_eq!(said.exit, Some(2));
    assert!(said.err.contains("error: the database is damaged ("), "{}", said.err);
    assert!(
        said.err.contains("`muster restore FOLDER` puts a backup in its place"),
        "{}",
        said.err
    );
    // Nor is it taken for a backup.
    let folder = server.data().join("../damaged");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(server.data().join("muster.db"), folder.join("muster.db")).unwrap();
    let useless = server.muster(&["restore", "damaged"]);
    assert_eq!(useless.exit, Some(2));
    assert!(useless.err.contains("/damaged/muster.db: "), "{}", useless.err);
    let restored = server.muster(&["restore", "copy"]);
    assert_eq!(restored.exit, Some(0), "{}", restored.err);
    server.serve_again();
    assert!(server.muster(&["log", "1"]).out.ends_with("before\n"));
    run(&server, "later");
}

fn a_backup_is_taken_while_the_server_runs(database: Database) {
    let server = Server::start(database, "");
    server
        .scene
        .workflow("on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{run: echo kept}]\n");
    let sha = server.push("main", "Kept");
    server.verdict(&sha);
    let done = server.muster(&["backup", "copy"]);
    assert_eq!(done.exit, Some(0), "{}", done.err);
    let folder = server.data().parent().unwrap().join("copy");
    let said = done.out.replace(".dump", ".db");
    assert_snapshot!(said, @"
    database: copy/muster.db
    logs: 1 in copy/logs
    deploy keys: 0 in copy/keys
    Mirrors are fetched again; what muster.toml names is not in it.
    ");
    let log = std::fs::read_dir(folder.join("logs")).unwrap().flatten().next().unwrap();
    assert!(std::fs::read_to_string(log.path()).unwrap().contains(" kept\n"));
    // Never over an older one.
    assert_eq!(server.muster(&["backup", "copy"]).exit, Some(2));
    if matches!(database, Database::Sqlite) {
        // The copy is a data folder that a server can be started on.
        let listed = Program::new(env!("CARGO_BIN_EXE_muster"))
            .args(["backup", "--config", "copied.toml", "again"])
            .dir(server.data().parent().unwrap());
        std::fs::write(folder.parent().unwrap().join("copied.toml"), "data = \"copy\"\n").unwrap();
        let output = listed.output(std::time::Duration::from_secs(30), 1 << 20).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
