//! Sharing the processors between jobs.
//!
//! The kernel splits the weight of a group between the processors that its processes run on, and weighs groups
//! against each other on each processor by itself. So a group with enough processes for all of them takes from
//! its neighbour on that neighbour's only one, although the machine has room for both. A group that uses more
//! than one processor is made light: it still gets all that nobody else wants.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::cgroup::ROOT;
use crate::clock;

/// The time between two looks at what a group uses.
const REST: Duration = Duration::from_millis(250);
/// A group that uses more processors than this is made light.
const MANY: f64 = 1.25;
/// It stays light until it has used less than this for so many looks: what a light group uses is what its
/// neighbours leave it, which says little of what it wants.
const FEW: f64 = 0.75;
const LOOKS: u32 = 8;

/// Somebody who looks what a group uses of the processors. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Weigher {
    _until: Sender<()>,
}

/// Where a group's weight is set and its use is told.
struct Scales {
    weight: PathBuf,
    /// The kernel's default, and how much a light group weighs.
    weights: [u32; 2],
    usage: PathBuf,
    /// Whether `usage` is one number of nanoseconds, or a table with one of microseconds.
    is_number: bool,
}

impl Weigher {
    /// Watches a group of the first version of the kernel's interface, by its two folders.
    pub(super) fn first(cpu: &Path, cpuacct: &Path) -> Self {
        Self::start(Scales {
            weight: cpu.join("cpu.shares"),
            weights: [SHARES, SHARES / 32],
            usage: cpuacct.join("cpuacct.usage"),
            is_number: true,
        })
    }

    /// Watches a group of the second version.
    pub(super) fn second(folder: &Path) -> Self {
        Self::start(Scales {
            weight: folder.join("cpu.weight"),
            weights: [100, 3],
            usage: folder.join("cpu.stat"),
            is_number: false,
        })
    }

    fn start(scales: Scales) -> Self {
        let (until, ended) = channel::<()>();
        let watch = move || {
            let (mut was, mut light, mut few) = (Duration::ZERO, false, 0);
            let mut at = clock::monotonic();
            while ended.recv_timeout(REST) == Err(RecvTimeoutError::Timeout) {
                let (Some(used), span) = (scales.used(), at.elapsed()) else { return };
                at = clock::monotonic();
                let use_now = used.saturating_sub(was).as_secs_f64() / span.as_secs_f64();
                was = used;
                few = if use_now < FEW { few + 1 } else { 0 };
                let wanted = if light { few < LOOKS } else { use_now > MANY };
                if wanted != light && scales.set(wanted).is_err() {
                    return;
                }
                light = wanted;
            }
        };
        // Where no thread can be had the group keeps its weight: it is only less fair.
        drop(std::thread::Builder::new().name("weigher".into()).spawn(watch));
        Self { _until: until }
    }
}

impl Scales {
    fn used(&self) -> Option<Duration> {
        let text = fs::read_to_string(&self.usage).ok()?;
        if self.is_number {
            return text.trim().parse().ok().map(Duration::from_nanos);
        }
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
        used?.trim().parse().ok().map(Duration::from_micros)
    }

    fn set(&self, light: bool) -> io::Result<()> {
        fs::write(&self.weight, self.weights[usize::from(light)].to_string())
    }
}

/// What a group weighs by the first version of the kernel's interface: its own default.
const SHARES: u32 = 1024;

/// Makes the two groups of the first version that share the processors and count their use.
pub(super) fn share(name: &str) -> io::Result<[PathBuf; 2]> {
    let parent = Path::new(ROOT).join("cpu/muster");
    for controller in ["cpu", "cpuacct"] {
        // Elsewhere than in the kernel's own file system a folder would be only a folder.
        fs::metadata(Path::new(ROOT).join(controller).join("cgroup.procs"))?;
    }
    fs::create_dir_all(&parent)?;
    // All jobs together weigh as much as a busy process on each processor.
    let processors = std::thread::available_parallelism()
        .map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    fs::write(parent.join("cpu.shares"), SHARES.saturating_mul(processors).to_string())?;
    let [cpu, cpuacct] =
        ["cpu/muster", "cpuacct/muster"].map(|parent| Path::new(ROOT).join(parent).join(name));
    fs::create_dir_all(&cpu)?;
    if let Err(error) = fs::create_dir_all(&cpuacct) {
        drop(fs::remove_dir(&cpu));
        return Err(error);
    }
    Ok([cpu, cpuacct])
}
