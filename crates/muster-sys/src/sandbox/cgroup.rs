//! Bounds on what a sandbox may use together, set from outside of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::Limits;
use super::weigh::{self, Weigher};
use crate::clock;

pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// Where groups of ours can be: by the second version of the interface, and by the first.
const PARENTS: [&str; 5] =
    ["muster", "cpu/muster", "cpuacct/muster", "pids/muster", "memory/muster"];
/// The file with the processes of a group.
const PROCESSES: &str = "cgroup.procs";
/// What is in a group has so long to die, and the kernel to let go of it.
const REMOVAL: Duration = Duration::from_secs(5);

/// A control group of one sandbox, as far as this machine lets us make one.
#[derive(Debug)]
pub(super) struct Cgroup {
    in_force: InForce,
    folders: Vec<PathBuf>,
    _weigher: Option<Weigher>,
}

/// What a control group holds its processes to; memory and their number always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// Of the kernel's interface, 1 or 2.
    pub version: u8,
    /// Whether the processors are shared between groups, however many processes each has.
    pub processors: bool,
}

impl Cgroup {
    /// Makes a group: by the second version of the interface, else by the first, else none.
    pub(super) fn create(name: &str, limits: &Limits) -> Option<Self> {
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let made = if unified { Self::second(name, limits) } else { Self::first(name, limits) };
        made.ok().filter(|group| !group.folders.is_empty())
    }

    /// Kills what is left in groups of that name, and removes them.
    pub(super) fn forget(name: &str) {
        let folders = PARENTS.map(|folder| Path::new(ROOT).join(folder).join(name));
        drop(Self {
            in_force: InForce { version: 0, processors: false },
            folders: folders.into(),
            _weigher: None,
        });
    }

    /// Removes the groups of which `is_left` says by their names that nobody holds them any more.
    pub(super) fn sweep(is_left: impl Fn(&str) -> bool) {
        for parent in PARENTS {
            let groups = fs::read_dir(Path::new(ROOT).join(parent)).into_iter().flatten().flatten();
            for group in groups.filter(|group| group.file_name().to_str().is_some_and(&is_left)) {
                // One with processes in it stays.
                drop(fs::remove_dir(group.path()));
            }
        }
    }

    fn second(name: &str, limits: &Limits) -> io::Result<Self> {
        let parent = Path::new(ROOT).join("muster");
        fs::create_dir_all(&parent)?;
        for folder in [Path::new(ROOT), &parent] {
            fs::write(folder.join("cgroup.subtree_control"), "+memory +pids")?;
        }
        // Not to be had where a process has the processors for itself in real time.
        let shared = |folder: &Path| fs::write(folder.join("cgroup.subtree_control"), "+cpu");
        let processors = shared(Path::new(ROOT)).is_ok() && shared(&parent).is_ok();
        let folder = parent.join(name);
        fs::create_dir(&folder)?;
        let in_force = InForce { version: 2, processors };
        let weigher = processors.then(|| Weigher::second(&folder));
        let group = Self { in_force, folders: vec![folder.clone()], _weigher: weigher };
        fs::write(folder.join("pids.max"), limits.processes.to_string())?;
        fs::write(folder.join("memory.max"), limits.memory_bytes.to_string())?;
        fs::write(folder.join("memory.oom.group"), "1")?;
        // Without swap accounting there is no such file.
        drop(fs::write(folder.join("memory.swap.max"), "0"));
        Ok(group)
    }

    fn first(name: &str, limits: &Limits) -> io::Result<Self> {
        let in_force = InForce { version: 1, processors: false };
        let mut group = Self { in_force, folders: Vec::new(), _weigher: None };
        if let Ok([cpu, cpuacct]) = weigh::share(name) {
            group.in_force.processors = true;
            group._weigher = Some(Weigher::first(&cpu, &cpuacct));
            group.folders.extend([cpu, cpuacct]);
        }
        for (controller, file, value) in [
            ("pids", "pids.max", u64::from(limits.processes)),
            ("memory", "memory.limit_in_bytes", limits.memory_bytes),
        ] {
            let folder = Path::new(ROOT).join(controller).join("muster").join(name);
            fs::create_dir_all(&folder)?;
            group.folders.push(folder.clone());
            fs::write(folder.join(file), value.to_string())?;
        }
        Ok(group)
    }

    /// Moves a process into the group.
    pub(super) fn add(&self, pid: u32) -> io::Result<()> {
        self.folders
            .iter()
            .try_for_each(|folder| fs::write(folder.join(PROCESSES), pid.to_string()))
    }

    /// Opens what a process writes `0` to, to move into the group by itself.
    pub(super) fn doors(&self) -> io::Result<Vec<File>> {
        let open = |folder: &PathBuf| OpenOptions::new().write(true).open(folder.join(PROCESSES));
        self.folders.iter().map(open).collect()
    }

    /// Returns how often the kernel killed something in it because it had no memory left.
    pub(super) fn memory_kills(&self) -> u64 {
        // Asked at each step, so one file alone is read.
        let file = if self.in_force.version == 2 { "memory.events" } else { "memory.oom_control" };
        let folder = self.folders.last();
        let text = folder.and_then(|folder| fs::read_to_string(folder.join(file)).ok());
        let text = text.unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
    }

    /// Kills all that is in it.
    fn kill(&self) {
        for folder in &self.folders {
            // The second version can do it at once; in the first nothing new can start meanwhile.
            drop(fs::write(folder.join("cgroup.kill"), "1"));
            drop(fs::write(folder.join("pids.max"), "0"));
            let processes = fs::read_to_string(folder.join(PROCESSES)).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    pub(super) fn in_force(&self) -> InForce {
        self.in_force
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let start = clock::monotonic();
        for folder in &self.folders {
            while fs::remove_dir(folder).is_err() && folder.exists() && start.elapsed() < REMOVAL {
                self.kill();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
