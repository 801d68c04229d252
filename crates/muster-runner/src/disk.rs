//! Watching how much disk a job uses: no file system has to know of the bound.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::{ProcessError, Program};

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
        let ended_for = cancel.clone();
        let watch = std::thread::Builder::new().name("disk".into()).spawn(move || {
            let mut rest = REST;
            while ended.recv_timeout(rest) == Err(RecvTimeoutError::Timeout) {
                let start = clock::monotonic();
                let what = match exceeds("du", &folder, limits) {
                    Ok(what) => what,
                    Err(error) => Some(unwatched(&error)),
                };
                if let Some(what) = what {
                    cancel.end_for(End::Exceeded(what));
                    return;
                }
                rest = REST.max(start.elapsed() * RESTS_A_LOOK);
            }
        });
        if let Err(error) = watch {
            ended_for.end_for(End::Exceeded(unwatched(&error)));
        }
        Self { _until: until }
    }
}

/// A bound that nobody watches is none: says why a job ends for that.
fn unwatched(error: &dyn Display) -> String {
    format!("nobody can watch what it has on disk: {error}")
}

/// Returns what a folder has more of than it may; `Err` where the program cannot tell.
fn exceeds(du: &str, folder: &Path, limits: DiskLimits) -> Result<Option<String>, String> {
    let mib = measured(du, folder, "-k")?.unwrap_or_default() >> 10;
    if mib > limits.mib {
        let bound = limits.mib;
        return Ok(Some(format!("it has {mib} MiB on disk, more than {bound} (`disk_mib`)")));
    }
    let files = measured(du, folder, "--inodes")?.unwrap_or_default();
    let bound = limits.files;
    Ok((files > bound).then(|| format!("it has {files} files, more than {bound} (`files`)")))
}

/// Asks `du`, which no nesting is too deep for and which follows no links; none where it takes too long.
fn measured(du: &str, folder: &Path, unit: &str) -> Result<Option<u64>, String> {
    let asked = Program::new(du).args(["-s", "-x", unit, "--"]).arg(folder);
    let told = match asked.output(LIMIT, 1 << 20) {
        Ok(told) => told,
        Err(ProcessError::TooLong { .. } | ProcessError::TooMuch { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // What comes and goes meanwhile is an error to it, and no reason not to believe the rest.
    let number = String::from_utf8_lossy(&told.stdout);
    match number.split_whitespace().next().and_then(|number| number.parse().ok()) {
        Some(number) => Ok(Some(number)),
        // The job is over, and its folder with it.
        None if !folder.exists() => Ok(None),
        None => Err(format!("`{du}` does not know `{unit}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_nobody_can_watch_is_said() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), vec![b'x'; 3 << 20]).unwrap();
        let limits = |mib, files| DiskLimits { mib, files };
        let look = |du, limits| exceeds(du, folder.path(), limits);
        assert_eq!(look("du", limits(10, 10)), Ok(None));
        assert!(look("du", limits(2, 10)).unwrap().unwrap().contains("3 MiB"));
        assert!(look("du", limits(10, 1)).unwrap().unwrap().contains("2 files"));
        assert!(look("no-such-du", limits(10, 10)).unwrap_err().contains("no-such-du"));
        assert_eq!(look("false", limits(10, 10)), Err("`false` does not know `-k`".into()));
    }
}
