//! All that descends from this process, daemons included.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use crate::clock;

/// Makes this process the parent of every descendant whose own parent ends, so that none escapes.
///
/// # Errors
///
/// When the system refuses.
pub fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Kills every descendant of this process that `spare` does not name, and waits until they are
/// gone; returns how many are left after `patience`.
pub fn kill_descendants(spare: &[u32], patience: Duration) -> usize {
    let start = clock::monotonic();
    loop {
        let left = descendants(spare);
        if left.is_empty() || start.elapsed() > patience {
            return left.len();
        }
        for pid in left {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // It may have ended by itself, and one that is not our child cannot be waited for.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills every process whose environment has `name` set to `value`, and waits until they are gone;
/// returns how many are left after `patience`. Only those of our own user can be seen.
pub fn kill_marked(name: &str, value: &str, patience: Duration) -> usize {
    let mark = format!("{name}={value}");
    let marked = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|vars| vars.split(|byte| *byte == 0).any(|var| var == mark.as_bytes()))
    };
    let start = clock::monotonic();
    loop {
        let left: Vec<u32> = processes().filter(marked).collect();
        if left.is_empty() || start.elapsed() > patience {
            return left.len();
        }
        for pid in left.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Lists the descendants of this process but those in `spare` and theirs.
fn descendants(spare: &[u32]) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        processes().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = Vec::new();
    let mut next = vec![std::process::id()];
    while let Some(of) = next.pop() {
        for (pid, _) in parents.iter().filter(|(pid, parent)| *parent == of && !spare.contains(pid))
        {
            found.push(*pid);
            next.push(*pid);
        }
    }
    found
}

/// Reads the parent's id from `/proc/PID/stat`, after the name, which may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}
