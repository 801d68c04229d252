//! Thirty-six ways out of a sandbox, each of which must fail.
//!
//! A program for a job to run: one static binary for x86-64 Linux that needs nothing of the sandbox
//! but `/proc`. `escapes` goes every way, `escapes N` only the one with that number. Each is a
//! process of its own with a deadline, and says one line on standard output:
//!
//! * `N held: WHAT`: every part of the attempt failed;
//! * `N ESCAPED: WHICH`: some part succeeded, and which;
//! * `N does not apply: WHY`.
//!
//! The exit code is 1 when one escaped, else 0. No attempt harms a machine where it succeeds, for
//! it is also run outside as a control: it opens without writing, calls with arguments that cannot
//! work where the error tells what a right one would have got, and undoes what it did.
//!
//! What to look for outside comes by variables; parts without their variable are left out:
//!
//! * `CANARY_HALF1` and `CANARY_HALF2`: a secret in halves, so that no environment inside holds it;
//! * `CANARY_FILE`: a file with the secret that everybody may read;
//! * `CANARY_PORT`: where something listens on both loopbacks, and on the address `CANARY_LAN`;
//! * `CANARY_NETWORK=yes`: the job has the machine's network by configuration;
//! * `CANARY_SOCKET`, `CANARY_ABSTRACT`: sockets that something listens on, by path and without
//!   one;
//! * `CANARY_SHM`: the key of a System V shared memory segment, in decimal;
//! * `CANARY_PID`: a process;
//! * `CANARY_KEY`: the description of a `user` key in its user's keyrings.
//!
//! Three attempts also leave something that only an observer outside can judge: 29 a daemon by the
//! name `escape-daemon`, 32 a process `escape-swapper` that swaps a folder and a link, with the
//! folder `bait` for who deletes the workspace, and 34 forged commands on standard error.

mod files;
mod kernel;
mod network;
mod parts;
mod processes;
mod shared;

use std::process::exit;

use crate::parts::{Parts, SIGKILL, call, fork, wait};

/// An attempt may take so many seconds.
const DEADLINE: i64 = 20;

type Attempt = (u8, &'static str, fn(&mut Parts));

const ATTEMPTS: [Attempt; 36] = [
    (1, "private files of the machine", files::private),
    (2, "secrets in environments and command lines", files::environments),
    (3, "inherited descriptors", files::descriptors),
    (4, "tracing other processes", processes::tracing),
    (5, "signals and limits for other processes", processes::signals),
    (6, "new and other namespaces", kernel::namespaces),
    (7, "mounts", kernel::mounts),
    (8, "chroot and out of it", kernel::roots),
    (9, "writing to the system", files::system),
    (10, "working folders in /proc", files::folders),
    (11, "programs with more privileges", processes::programs),
    (12, "other users and capabilities", processes::privileges),
    (13, "devices", kernel::devices),
    (14, "settings of the kernel", kernel::settings),
    (15, "secrets of the kernel", kernel::secrets),
    (16, "control groups and limits", kernel::limits),
    (17, "calls that rule the machine", kernel::machine),
    (18, "calls with a history", kernel::history),
    (19, "keys in the kernel", kernel::keys),
    (20, "sockets beyond Unix and the Internet", network::families),
    (21, "the machine's loopback", |parts| network::own(parts, network::loopback)),
    (22, "cloud metadata", |parts| network::own(parts, network::metadata)),
    (23, "neighbours in the network", |parts| network::own(parts, network::neighbours)),
    (24, "names", |parts| network::own(parts, network::names)),
    (25, "Unix sockets of others", network::unix),
    (26, "words in a terminal's mouth", processes::terminal),
    (27, "memory and messages shared by name", shared::by_name),
    (28, "what neighbours have and predecessors left", shared::remains),
    (29, "staying after the end", shared::staying),
    (30, "using everything up", |parts| parts.does_not_apply(ELSEWHERE)),
    (31, "freezing the supervisor", |parts| parts.does_not_apply(ELSEWHERE)),
    (32, "links to what is not ours", shared::links),
    (33, "hostile archives", |parts| parts.does_not_apply("there is no upload of archives yet")),
    (34, "forged commands", processes::forgery),
    (35, "the API for jobs", |parts| parts.does_not_apply("there is no API for jobs yet")),
    (36, "Kubernetes", |parts| parts.does_not_apply("there are no jobs in Kubernetes yet")),
];
const ELSEWHERE: &str = "tested by programs of their own, which are watched from outside";

fn main() {
    let wanted = std::env::args().nth(1);
    let chosen = ATTEMPTS
        .iter()
        .filter(|(number, ..)| wanted.as_ref().is_none_or(|wanted| *wanted == number.to_string()));
    let held: Vec<bool> = chosen.map(holds).collect();
    if held.is_empty() {
        eprintln!("usage: escapes [1..36]");
        exit(64);
    }
    exit(i32::from(held.contains(&false)));
}

/// Makes an attempt in a process of its own; returns whether it failed, as it must.
fn holds((number, what, attempt): &Attempt) -> bool {
    let child = fork();
    if child == 0 {
        // In a group of its own, so that what it started can be ended with it.
        let _ = call("setpgid", 109, &[]);
        let _ = call("alarm", 37, &[DEADLINE]);
        let mut parts = Parts::default();
        attempt(&mut parts);
        let held = parts.hold();
        println!("{number} {}", parts.verdict(what));
        exit(i32::from(!held));
    }
    let ended = wait(child);
    let _ = call("kill", 62, &[-child, SIGKILL]);
    if !matches!(ended, Ok(0 | 1)) {
        // What is not known to hold does not.
        println!(
            "{number} ESCAPED: {what}: the attempt could not tell, for it ended so: {ended:?}"
        );
    }
    ended == Ok(0)
}
