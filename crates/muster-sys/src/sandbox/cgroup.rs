//! Bounds on what a sandbox may use together, set from outside of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Limits;
use crate::clock;

const ROOT: &str = "/sys/fs/cgroup";
/// The kernel needs a moment to let go of a group whose processes have just died.
const REMOVAL: Duration = Duration::from_secs(1);

/// A control group of one sandbox, as far as this machine lets us make one.
#[derive(Debug)]
pub(super) struct Cgroup {
    version: u8,
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes a group: by the second version of the interface, else by the first, else none.
    pub(super) fn create(name: &str, limits: &Limits) -> Option<Self> {
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let made = if unified { Self::second(name, limits) } else { Self::first(name, limits) };
        made.ok().filter(|group| !group.folders.is_empty())
    }

    /// Removes groups of that name that nobody holds any more.
    pub(super) fn forget(name: &str) {
        let folders = ["muster", "pids/muster", "memory/muster"];
        let folders = folders.map(|folder| Path::new(ROOT).join(folder).join(name));
        drop(Self { version: 0, folders: folders.into() });
    }

    fn second(name: &str, limits: &Limits) -> io::Result<Self> {
        let parent = Path::new(ROOT).join("muster");
        fs::create_dir_all(&parent)?;
        for folder in [Path::new(ROOT), &parent] {
            fs::write(folder.join("cgroup.subtree_control"), "+memory +pids")?;
        }
        let folder = parent.join(name);
        fs::create_dir(&folder)?;
        let group = Self { version: 2, folders: vec![folder.clone()] };
        fs::write(folder.join("pids.max"), limits.processes.to_string())?;
        fs::write(folder.join("memory.max"), limits.memory_bytes.to_string())?;
        fs::write(folder.join("memory.oom.group"), "1")?;
        // Without swap accounting there is no such file.
        drop(fs::write(folder.join("memory.swap.max"), "0"));
        Ok(group)
    }

    fn first(name: &str, limits: &Limits) -> io::Result<Self> {
        let mut group = Self { version: 1, folders: Vec::new() };
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
            .try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    pub(super) fn version(&self) -> u8 {
        self.version
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let start = clock::monotonic();
        for folder in &self.folders {
            while fs::remove_dir(folder).is_err() && folder.exists() && start.elapsed() < REMOVAL {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
