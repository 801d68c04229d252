//! What a machine does to a server: no room, few descriptors, a wrong clock, an upgrade that is cut off.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::clock;
use muster_sys::process::Program;

use crate::database::{Database, on_both};
use crate::ground::{CI, Ground};
use crate::server::{Server, supervisors};
use crate::upgrade::{block_on, first_schema, runs_of_the_first_schema};

on_both! {
    an_upgrade_that_is_cut_off_again_and_again_is_brought_to_its_end,
    a_clock_that_was_wrong_holds_nothing_up,
    few_descriptors_are_enough,
}

fn run(program: &str, args: &[&str]) -> bool {
    let output = Program::new(program).args(args).output(Duration::from_secs(60), 1 << 20);
    output.is_ok_and(|output| output.status.success())
}

/// A small file system of its own below a server's data folder.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Puts one in the place of a data folder, with what is in that; none where this user cannot mount.
    fn instead_of(data: &Path, mib: u64) -> Option<Self> {
        let before = data.with_extension("before");
        fs::rename(data, &before).unwrap();
        fs::create_dir(data).unwrap();
        let size = format!("size={mib}m,mode=711");
        if !run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &data.to_string_lossy()]) {
            fs::remove_dir(data).unwrap();
            fs::rename(&before, data).unwrap();
            return None;
        }
        let disk = Self { at: data.to_owned() };
        let from = format!("{}/.", before.display());
        assert!(run("cp", &["-a", &from, &data.to_string_lossy()]));
        Some(disk)
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once, and for who still uses it once it is left.
        run("umount", &["--lazy", &self.at.to_string_lossy()]);
    }
}

#[test]
fn a_full_disk_loses_nothing_and_all_goes_on_when_there_is_room() {
    let mut ground = Ground::new(Database::Sqlite);
    ground.server.terminate();
    let Some(disk) = SmallDisk::instead_of(&ground.server.data(), 24) else {
        eprintln!("skipped: this user cannot mount a file system");
        return;
    };
    ground.server.serve_again();
    let gated = CI.replace(
        "      - run",
        "      - run: until test -e GATE; do sleep 0.01; done\n      - run",
    );
    ground.server.workflow(&gated);
    let (id, body) = ground.commit();
    assert_eq!(ground.send(&id, &body), Some(202));
    let data = ground.server.data();
    ground.server.until("it runs", |_| !supervisors(&data).is_empty());
    let (waiting, its_body) = ground.commit();
    assert_eq!(ground.send(&waiting, &its_body), Some(202));
    disk.fill();
    // What the job writes finds no room; what comes is refused, and told when to come again.
    ground.server.open_gate();
    let (refused, its_body) = ground.commit();
    assert_eq!(ground.send(&refused, &its_body), Some(503));
    ground.server.until("the job is over", |_| supervisors(&data).is_empty());
    assert_eq!(ground.server.ready(), (503, "the disk is full\n".to_owned()));
    let page = ground.server.get("/");
    assert!(
        page.contains(
            "the disk of the data folder has less than 2 % free (of a large one, less than 1 GiB)"
        ),
        "{page}"
    );
    assert!(!ground.server.has_ended());
    disk.make_room();
    ground.server.until("it is taken", |_| ground.send(&refused, &its_body) == Some(202));
    ground.all_is_well();
    ground.server.terminate();
    drop(disk);
}

fn few_descriptors_are_enough(database: Database) {
    let mut ground = Ground::new(database);
    ground.server.kill();
    ground.server.serve_again_by_way_of(&["prlimit", "--nofile=64:64"]);
    let address = ground.server.url.strip_prefix("http://").unwrap().to_owned();
    // More of them than there are descriptors, and they say nothing.
    let silent: Vec<_> =
        (0..100).filter_map(|_| std::net::TcpStream::connect(&address).ok()).collect();
    for _ in 0..2 {
        let (id, body) = ground.commit();
        ground.server.until("it is answered", |_| ground.send(&id, &body) == Some(202));
    }
    drop(silent);
    assert!(!ground.server.has_ended());
    ground.all_is_well();
}

/// Returns the library that the program faketime puts before others.
pub(crate) fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    folders
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|file| file.exists())
        .unwrap()
}

fn a_clock_that_was_wrong_holds_nothing_up(database: Database) {
    let mut ground = Ground::new(database);
    // Not so far that what is kept for thirty days goes. The program faketime is no good: the server would be its
    // child.
    let preload = format!("LD_PRELOAD={}", libfaketime().display());
    for days in ["+20d", "-20d"] {
        ground.server.kill();
        let clock = format!("FAKETIME={days}");
        ground.server.serve_again_by_way_of(&["env", &preload, &clock]);
        let (id, body) = ground.commit();
        assert_eq!(ground.send(&id, &body), Some(202));
        // In the middle of it all the clock is right again.
        ground.server.until("it is planned", |server| {
            server.muster(&["runs"]).out.lines().count() == ground.told.len()
        });
        ground.server.kill_and_serve();
    }
    let (id, body) = ground.commit();
    assert_eq!(ground.send(&id, &body), Some(202));
    ground.all_is_well();
}

fn an_upgrade_that_is_cut_off_again_and_again_is_brought_to_its_end(database: Database) {
    let calls = match database {
        Database::Sqlite => "pwrite64",
        Database::Postgres => "sendto",
    };
    let mut kills = 0;
    let server = Server::start_on(database, |url| {
        block_on(first_schema(url));
        let folder = tempfile::tempdir().unwrap();
        let config = match database {
            Database::Sqlite => {
                let file = url.strip_prefix("sqlite://").unwrap();
                let data = Path::new(file.split('?').next().unwrap()).parent().unwrap();
                format!("data = \"{}\"\n", data.display())
            }
            Database::Postgres => format!("database = \"{url}\"\n"),
        };
        fs::write(folder.path().join("muster.toml"), config).unwrap();
        for place in (1..1000).step_by(7) {
            if is_ready_before_it_is_killed(folder.path(), calls, place) {
                break;
            }
            kills += 1;
        }
    });
    assert!(kills >= 3, "it was killed {kills} times");
    assert_snapshot!(runs_of_the_first_schema(&server), @"
    2 success Greet who is there (CI #2) demo refs/heads/evening-1
    1 failure Greet in the evening (CI #1) demo refs/heads/evening-1
    ");
}

/// Starts a server that is killed at one of its calls; returns whether it was ready before.
fn is_ready_before_it_is_killed(folder: &Path, calls: &str, place: u32) -> bool {
    let mut talk = Program::new("strace")
        .args(["-D", "-f", "-qq", "-o", "trace", "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={calls}:signal=SIGKILL:when={place}")])
        .arg(env!("CARGO_BIN_EXE_muster"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .dir(folder)
        .env("HOME", folder)
        .converse()
        .unwrap();
    let mut line = String::new();
    BufReader::new(talk.output).read_line(&mut line).unwrap();
    let ready = line.starts_with("muster at ");
    let start = clock::monotonic();
    while !ready && talk.child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(30), "it is neither ready nor killed");
        std::thread::yield_now();
    }
    drop(talk.child.kill());
    let status = talk.child.wait().unwrap();
    // It was killed, and did not end because of what an earlier kill has left; or its pg_dump was.
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    let of_its_child = calls == "sendto" && status.code() == Some(2);
    assert!(signal == Some(9) || of_its_child, "at {place}: {status}");
    ready
}
