//! The real program, killed at a system call, or told that the disk fails there: by strace.
//!
//! A slice of the places is tried each time; `MUSTER_CRASH=all` tries every one. Each trial sees that its fault
//! has come to pass. What was answered is there afterwards, once; every run has its verdict and its log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use crate::database::Database;
use crate::ground::{CI, Ground};
use crate::server::{Server, supervisors};
use muster_sys::clock;
use muster_sys::process::Program;

/// What an ingest writes and says, by the calls that it is made of.
const CALLS: [&str; 4] = ["pwrite64", "fdatasync", "recvfrom", "sendto,writev"];
/// No thread makes more of these calls while it takes in a webhook.
const MOST_CALLS: u32 = 12;

/// Returns whether a place is tried: all, or one of three.
fn is_tried(place: u32) -> bool {
    std::env::var("MUSTER_CRASH").is_ok_and(|which| which == "all") || place % 3 == 1
}

/// strace, attached to a process and all of its threads.
struct Trace {
    strace: Child,
    log: PathBuf,
}

impl Trace {
    /// Injects a fault into a process that runs, in all of its threads and children or in its first thread
    /// alone.
    fn attach(server: &Server, pid: u32, fault: &str, all: bool) -> Self {
        let calls = fault.split(':').next().unwrap();
        let log = server.data().join("../trace");
        drop(fs::remove_file(&log));
        let strace = Program::new("strace")
            .args(if all { ["-f"].as_slice() } else { &[] })
            .args(["-qq", "-s", "64", "-e", &format!("trace={calls}"), "-o"])
            .arg(&log)
            .args(["-e", &format!("inject={fault}"), "-p", &pid.to_string()])
            .inherit()
            .unwrap();
        server.until("it is traced", |_| is_traced(pid, all));
        Self { strace, log }
    }

    /// Returns what the process has called.
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lets go of the process; returns what it called.
    fn end(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.strace);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let start = clock::monotonic();
        while self.strace.try_wait().unwrap().is_none() {
            // It waits for ever for a process that has died and that nobody has waited for.
            if start.elapsed() > LULL {
                self.strace.kill().unwrap();
                self.strace.wait().unwrap();
                break;
            }
            std::thread::yield_now();
        }
        self.said()
    }
}

/// Returns whether all threads of a process are traced, or its first one is.
fn is_traced(pid: u32, all: bool) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let threads =
        threads.filter(|thread| all || thread.file_name().to_string_lossy() == pid.to_string());
    let tracer = |thread: &Path| {
        let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
        // Where the fault has come to pass already, there is nothing left to trace.
        let is_dead = status.lines().any(|line| line.starts_with("State:\tZ"));
        is_dead
            || status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    threads.map(|thread| thread.path()).all(|thread| tracer(&thread))
}

#[test]
fn what_was_answered_is_there_wherever_an_ingest_is_killed() {
    let mut ground = Ground::new(Database::Sqlite);
    let mut fired = 0;
    for calls in CALLS {
        for place in (1..=MOST_CALLS).filter(|place| is_tried(*place)) {
            let (id, body) = ground.commit();
            let fault = format!("{calls}:signal=SIGKILL:when={place}");
            let trace = Trace::attach(&ground.server, ground.server.pid(), &fault, true);
            let answered = ground.send(&id, &body) == Some(202);
            let start = clock::monotonic();
            while answered && !ground.server.has_ended() && start.elapsed() < LULL {
                std::thread::yield_now();
            }
            fired += usize::from(ground.server.has_ended());
            trace.end();
            ground.recover(&id, &body, answered);
        }
    }
    assert!(fired >= CALLS.len(), "only {fired} kills");
    ground.all_is_well();
}

/// What comes after an answer has so long to reach the place of its fault.
const LULL: Duration = Duration::from_millis(300);

#[test]
fn nothing_is_answered_that_a_failing_disk_did_not_take() {
    let mut ground = Ground::new(Database::Sqlite);
    let faults = [
        "fdatasync:error=EIO:when=1",
        "fdatasync:error=EIO:when=2",
        "pwrite64:error=ENOSPC:when=1",
        "pwrite64:error=ENOSPC:when=3",
        "pwrite64:error=EIO:when=2",
    ];
    for fault in faults {
        let (id, body) = ground.commit();
        let trace = Trace::attach(&ground.server, ground.server.pid(), fault, true);
        let answered = ground.send(&id, &body) == Some(202);
        ground.server.until("the fault comes to pass", |_| trace.said().contains("(INJECTED)"));
        trace.end();
        // As after a power cut: what counts is what the disk has.
        ground.server.kill();
        let database = ground.server.data().join("muster.db");
        ground.server.kill_and_serve();
        let there = ground.server.deliveries().lines().count() == ground.told.len();
        assert!(there || !answered, "{fault}: {} lacks what was answered", database.display());
        ground.recover(&id, &body, answered);
    }
    ground.all_is_well();
}

#[test]
fn an_answer_comes_after_the_disk_has_it() {
    let mut ground = Ground::new(Database::Sqlite);
    let (id, body) = ground.commit();
    // Nothing is injected: nobody calls so often.
    let calls = "recvfrom,fdatasync,fsync,sendto,writev,write:error=EIO:when=65535";
    let trace = Trace::attach(&ground.server, ground.server.pid(), calls, true);
    assert_eq!(ground.send(&id, &body), Some(202));
    let said = trace.end();
    let place = |what: &dyn Fn(&str) -> bool| said.lines().position(what).unwrap();
    let asked = place(&|line| line.contains("POST /webhooks/github"));
    let told = place(&|line| line.contains("HTTP/1.1 202"));
    let synced = said.lines().skip(asked).take(told - asked).any(|line| {
        (line.contains("fdatasync") || line.contains("fsync")) && line.ends_with("= 0")
    });
    assert!(synced, "{said}");
    ground.all_is_well();
}

#[test]
fn a_run_has_its_verdict_and_its_log_wherever_the_server_is_killed() {
    let mut ground = Ground::new(Database::Sqlite);
    let mut fired = 0;
    // From the first write of its plan to the last of its verdict.
    for place in (4..=64).filter(|place| is_tried(*place) && place % 5 < 3) {
        let (id, body) = ground.commit();
        let fault = format!("pwrite64:signal=SIGKILL:when={place}");
        let trace = Trace::attach(&ground.server, ground.server.pid(), &fault, true);
        let answered = ground.send(&id, &body) == Some(202);
        let told = ground.told.len();
        ground.server.until("it is over", |server| {
            server.has_ended() || server.muster(&["runs"]).out.matches(" success ").count() == told
        });
        fired += usize::from(ground.server.has_ended());
        trace.end();
        ground.recover(&id, &body, answered);
    }
    assert!(fired > 0);
    ground.all_is_well();
}

#[test]
fn a_job_is_done_again_wherever_its_supervisor_is_killed() {
    let mut ground = Ground::new(Database::Sqlite);
    ground.server.workflow(&CI.replace(
        "      - run",
        "      - run: until test -e GATE; do sleep 0.01; done\n      - run",
    ));
    let mut fired = 0;
    for place in (1..=12).filter(|place| is_tried(*place)) {
        let (id, body) = ground.commit();
        assert_eq!(ground.send(&id, &body), Some(202));
        let data = ground.server.data();
        ground.server.until("it runs", |_| !supervisors(&data).is_empty());
        let pid = supervisors(&data)[0].0.parse().unwrap();
        let fault = format!("write:signal=SIGKILL:when={place}");
        let trace = Trace::attach(&ground.server, pid, &fault, false);
        ground.server.open_gate();
        let told = ground.told.len();
        ground.server.until("it is over", |server| {
            server.muster(&["runs"]).out.matches(" success ").count() == told
        });
        fired += usize::from(trace.end().contains("killed by SIGKILL"));
        ground.server.close_gate();
    }
    assert!(fired > 0);
    ground.all_is_well();
}
