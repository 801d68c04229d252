//! Watching how much disk a job uses: no file system has to know of the bound.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::Program;

use crate::cancel::{Cancel, End};
use crate::spec::DiskLimits;

/// How long a job is left alone at least between two looks, and how much longer than a look took.
const REST: Duration = Duration::from_secs(1);
const RESTS_A_LOOK: u32 = 10;
/// A look that takes longer is given up; there is another.
const LIMIT: Duration = Duration::from_secs(120);

/// Somebody who looks how much a job has on disk. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    _until: Sender<()>,
}

impl DiskWatch {
    /// Looks at a folder now and then, and ends the job when it has more than it may, or when nobody can look.
    pub(crate) fn start(folder: PathBuf, limits: DiskLimits, cancel: Cancel) -> Self {
        let (until, ended) = channel::<()>();
        let unwatched = cancel.clone();
        let watch = std::thread::Builder::new().name("disk".into()).spawn(move || {
            let mut rest = REST;
            while ended.recv_timeout(rest) == Err(RecvTimeoutError::Timeout) {
                let start = clock::monotonic();
                if let Some(what) = exceeds(&folder, limits) {
                    cancel.end_for(End::Exceeded(what));
                    return;
                }
                rest = REST.max(start.elapsed() * RESTS_A_LOOK);
            }
        });
        if let Err(error) = watch {
            // A bound that nobody watches is none.
            let why = format!("nobody can watch what it has on disk: {error}");
            unwatched.end_for(End::Exceeded(why));
        }
        Self { _until: until }
    }
}

/// Returns what a folder has more of than it may.
fn exceeds(folder: &Path, limits: DiskLimits) -> Option<String> {
    let mib = measured(folder, "-k")? >> 10;
    if mib > limits.mib {
        return Some(format!("it has {mib} MiB on disk, more than {} (`disk_mib`)", limits.mib));
    }
    let files = measured(folder, "--inodes")?;
    let bound = limits.files;
    (files > bound).then(|| format!("it has {files} files, more than {bound} (`files`)"))
}

/// Asks `du`, which no nesting is too deep for and which follows no links; none where it does not say.
fn measured(folder: &Path, unit: &str) -> Option<u64> {
    let asked = Program::new("du").args(["-s", "-x", unit, "--"]).arg(folder);
    // What comes and goes meanwhile is an error to it, and no reason not to believe the rest.
    let told = asked.output(LIMIT, 1 << 20).ok()?.stdout;
    String::from_utf8_lossy(&told).split_whitespace().next()?.parse().ok()
}
