//! Jobs that use up what they can: each ends with its reason, and what it used up is its own.

use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::clock;

use crate::database::Database;
use crate::sandbox::there_can_be_one;
use crate::server::Server;

const LIMITS: &str =
    "jobs = 2\n[sandbox]\nmemory_mib = 256\nprocesses = 200\ndisk_mib = 64\nfiles = 3000\n";

/// A job whose script is Python.
fn job(name: &str, script: &str) -> String {
    let script: String = script.lines().map(|line| format!("          {line}\n")).collect();
    format!(
        "  {name}:\n    runs-on: linux\n    steps:\n      - shell: /usr/bin/python3 {{0}}\n        run: |\n{script}"
    )
}

/// Runs jobs one beside another and returns what `muster why` says.
fn run(server: &Server, jobs: &[String]) -> String {
    server.scene.workflow(&format!("on: push\njobs:\n{}", jobs.concat()));
    let sha = server.push("main", "Use it up");
    server.verdict(&sha)
}

const BOMB: &str = "import os, time
children = 0
for attempt in range(1000):
    try:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
        children += 1
    except BlockingIOError:
        pass
print('children:', 'few' if children < 200 else children)
";
const MEMORY: &str = "held = []\nwhile True: held.append(b'x' * (1 << 20))\n";
const DISK: &str = "import time
with open('big', 'wb') as file:
    for megabyte in range(200):
        file.write(b'x' * (1 << 20))
time.sleep(1000)
";
const FILES: &str = "import os, time
for number in range(8000):
    open(f'{number}', 'w').close()
time.sleep(1000)
";

fn hogs(isolation: &str) {
    let server = Server::start(Database::Sqlite, &format!("isolation = \"{isolation}\"\n{LIMITS}"));
    let bounded = run(&server, &[job("bomb", BOMB), job("memory", MEMORY)]);
    let log = server.muster(&["log", "1", "bomb"]).out;
    assert!(log.contains("children: few"), "{log}");
    let isolated = log.lines().find(|line| line.starts_with("Isolation: ")).unwrap().to_owned();
    if isolated.contains("cgroup v") {
        assert_snapshot!(bounded, @"
    bomb success: Successful
    memory failure: Failed: its processes wanted more memory than they may use together (`memory_mib`)
    muster failure: failed: memory, 1 successful
    .github/workflows/ci.yml ran
    ");
        assert!(isolated.contains("with 200 processes, 256 MiB and "), "{isolated}");
    }
    let full = run(&server, &[job("disk", DISK), job("files", FILES)]);
    let full: String =
        full.split(' ')
            .map(|word| {
                if word.parse::<u64>().is_ok_and(|n| n > 64 && n != 3000) { "[many]" } else { word }
            })
            .collect::<Vec<_>>()
            .join(" ");
    assert_snapshot!(full, @"
    disk failure: Failed: it has [many] MiB on disk, more than 64 (`disk_mib`)
    files failure: Failed: it has [many] files, more than 3000 (`files`)
    muster failure: 2 failed
    .github/workflows/ci.yml ran
    ");
}

#[test]
fn what_a_job_in_a_sandbox_uses_up_is_its_own() {
    if there_can_be_one() {
        insta::allow_duplicates! { hogs("sandbox") };
    }
}

#[test]
fn what_a_job_without_one_uses_up_is_its_own_under_root() {
    if rustix::process::geteuid().is_root() && there_can_be_one() {
        insta::allow_duplicates! { hogs("none") };
    }
}

/// A log without line ends is kept to its last byte, and what runs beside it is not held up.
/// `MUSTER_FLOOD_MIB=1024` makes it a GiB.
#[test]
fn a_flood_of_output_is_kept_and_holds_up_nobody() {
    let server = Server::start(Database::Sqlite, "jobs = 2\n");
    let mib = std::env::var("MUSTER_FLOOD_MIB").map_or(64, |mib| mib.parse().unwrap());
    let flood =
        format!("import sys\nfor megabyte in range({mib}): sys.stdout.write('x' * (1 << 20))\n");
    let quiet = "print('beside')\n";
    let start = clock::monotonic();
    let verdict = run(&server, &[job("flood", &flood), job("quiet", quiet)]);
    assert!(verdict.contains("flood success") && verdict.contains("quiet success"), "{verdict}");
    assert!(start.elapsed() < Duration::from_secs(30 + mib / 16));
    let log = server.muster(&["log", "1", "flood"]).out;
    assert_eq!(log.bytes().filter(|byte| *byte == b'x').count() as u64, mib << 20);
}
