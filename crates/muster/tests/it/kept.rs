//! Servers of others that tests start: they end with the test program, however that ends, and leave nothing.

use std::io::PipeWriter;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use muster_sys::process::Program;

/// Runs the server that its arguments name until its input ends, and then removes the folder that comes first. The
/// second is the signal that ends the server.
const KEEPER: &str = r#"
folder=$1; signal=$2; shift 2
"$@" </dev/null & server=$!
cat
kill -"$signal" "$server"
wait "$server"
# What it has mounted there and left.
cut -d' ' -f5 /proc/self/mountinfo | grep "^$folder/" | sort -r | while read -r mount; do umount -l "$mount"; done
rm -rf -- "$folder"
"#;

/// A server of this test program alone, in a folder of its own.
pub(crate) struct Kept {
    pub(crate) folder: PathBuf,
    /// Closed when this program ends, however it does: its keeper waits for that.
    _life: PipeWriter,
}

impl Kept {
    /// Makes a folder that [`Self::start`] has removed; what is static is not dropped.
    pub(crate) fn folder() -> PathBuf {
        tempfile::tempdir().unwrap().keep()
    }

    /// Starts a server, which writes to `log` in its folder and ends by a signal.
    pub(crate) fn start(folder: PathBuf, signal: &str, command: &[String]) -> Self {
        let (end, life) = std::io::pipe().unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let keeper = Program::new("sh").args(["-c", KEEPER, "keeper"]).arg(&folder).arg(signal);
        let keeper = keeper.args(command).dir(Path::new("/"));
        let mut keeper = keeper.detach(OwnedFd::from(end).into(), log).unwrap();
        let name = command[0].clone();
        std::thread::spawn(move || panic!("{name} has lost its keeper: {:?}", keeper.wait()));
        Self { folder, _life: life }
    }
}
