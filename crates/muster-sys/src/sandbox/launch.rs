//! Starting bubblewrap: what it is told, what it is given, and from where.

use std::fs::File;
use std::io::{self, PipeReader, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::FdFlags;

use super::{Bind, Layout, SandboxError, seccomp, stage};
use crate::init::{self, ANSWER};

/// The user that the steps are, inside: as on GitHub's machines.
const INSIDE_USER: &str = "1001";
/// Folders that everybody can reach, of which every system has one. The launching thread, and nobody
/// else, sees its stage there.
const STAGES: [&str; 3] = ["/mnt", "/media", "/srv"];

/// A sandbox that is on its way.
pub(super) struct Launched {
    pub(super) bubblewrap: Child,
    /// The way to the init.
    pub(super) control: UnixStream,
    /// Where bubblewrap tells of its child.
    pub(super) info: PipeReader,
    /// Where it says what is wrong.
    pub(super) complaints: PipeReader,
    /// The thread that started it ends when this is dropped.
    pub(super) parent: Sender<()>,
}

/// What is passed on to bubblewrap, by descriptor.
struct Passed {
    control: OwnedFd,
    info: OwnedFd,
    filter: OwnedFd,
    init: OwnedFd,
}

/// Starts bubblewrap on a thread of its own.
///
/// The kernel kills bubblewrap when the thread that started it ends, so it stays as long as the
/// sandbox; and it has a view of the mounts of its own, which nobody else is to see.
pub(super) fn launch(layout: &Layout) -> Result<Launched, SandboxError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("bwrap").is_file()) {
        return Err(SandboxError::NoBubblewrap);
    }
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_write_timeout(Some(ANSWER))?;
    let (complaints, errors) = io::pipe()?;
    let (info, tell_info) = io::pipe()?;
    let passed = Passed {
        control: theirs.into(),
        info: tell_info.into(),
        filter: memfd("seccomp", &seccomp::filter()?)?,
        init: memfd("init", init::PROGRAM)?,
    };
    let (parent, until) = channel::<()>();
    let (tell, told) = channel();
    let mut layout = layout.clone();
    std::thread::Builder::new().name("sandbox".into()).spawn(move || {
        let staged =
            if layout.user.is_some() { show_within_reach(&mut layout.binds) } else { Ok(()) };
        let started = staged.and_then(|()| {
            let mut command = command(&layout, &passed);
            start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors), &passed)
        });
        // Ours would keep the other ends open.
        drop(passed);
        drop(tell.send(started));
        let _ = until.recv();
    })?;
    let bubblewrap = told.recv().map_err(io::Error::other)??;
    Ok(Launched { bubblewrap, control: ours, info, complaints, parent })
}

/// Shows what belongs inside at places that the sandbox's user can reach, whatever folders it lies in.
fn show_within_reach(binds: &mut [Bind]) -> Result<(), SandboxError> {
    let stage = STAGES.into_iter().map(Path::new).find(|path| path.is_dir()).ok_or_else(|| {
        SandboxError::System(io::Error::other(format!("none of {STAGES:?} is a folder")))
    })?;
    stage::take_leave()?;
    let opened = stage::open(binds)?;
    stage::cover(stage)?;
    for (number, (bind, fd)) in binds.iter_mut().zip(&opened).enumerate() {
        let place = stage.join(number.to_string());
        stage::show(fd, bind, &place)?;
        bind.from = place;
    }
    Ok(())
}

/// Builds bubblewrap's command line.
fn command(layout: &Layout, passed: &Passed) -> Command {
    #[expect(clippy::disallowed_methods, reason = "muster-sys starts programs")]
    let mut command = Command::new("bwrap");
    command.env_clear().current_dir("/").process_group(0);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    if let Some(user) = layout.user {
        command.uid(user).gid(user);
    }
    for namespace in ["user", "ipc", "pid", "uts"] {
        command.arg(format!("--unshare-{namespace}"));
    }
    command.arg("--unshare-cgroup-try");
    if !layout.network {
        command.arg("--unshare-net");
    }
    command.args(["--disable-userns", "--uid", INSIDE_USER, "--gid", INSIDE_USER]);
    command.args(["--hostname", "runner", "--die-with-parent", "--new-session", "--clearenv"]);
    command.args(["--as-pid-1", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]);
    // The descriptions of the keys that our user has.
    for keys in
        ["/proc/keys", "/proc/key-users"].into_iter().filter(|keys| Path::new(keys).exists())
    {
        command.args(["--ro-bind", "/dev/null", keys]);
    }
    let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
    command.args(["--info-fd", &number(&passed.info), "--seccomp", &number(&passed.filter)]);
    for bind in &layout.binds {
        let how = if bind.writable { "--bind" } else { "--ro-bind" };
        command.arg(how).arg(&bind.from).arg(&bind.to);
    }
    for (at, target) in &layout.links {
        command.arg("--symlink").arg(target).arg(at);
    }
    command.args(["--remount-ro", "/", "--chdir", "/", "--"]);
    command.arg(format!("/proc/self/fd/{}", passed.init.as_raw_fd()));
    command.args([number(&passed.control), layout.limits.processes.to_string()]);
    command.arg(layout.doorway.unwrap_or(0).to_string());
    let writable = layout.binds.iter().filter(|bind| bind.writable);
    command.args(writable.map(|bind| &bind.to)).args(["/dev", "/proc"]);
    command
}

/// Starts bubblewrap with the descriptors that it is told of.
fn start(command: &mut Command, passed: &Passed) -> Result<Child, SandboxError> {
    for fd in [&passed.control, &passed.info, &passed.filter, &passed.init] {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).map_err(io::Error::from)?;
    }
    Ok(command.spawn()?)
}

/// Makes a file in memory that nobody can change any more.
fn memfd(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
