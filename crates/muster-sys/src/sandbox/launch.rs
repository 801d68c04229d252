//! Starting bubblewrap: what it is told, what it is given, and from where.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::FdFlags;

use super::{Bind, Layout, SandboxError, seccomp, stage, users};
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

/// What root of an image's root may do there: own files and be any user. It has no rights over mounts, networks,
/// devices or the kernel, and none over what its users do not own.
const RIGHTS_OF_ROOT: [&str; 6] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETUID"];

/// What is passed on to bubblewrap, by descriptor.
struct Passed {
    control: OwnedFd,
    info: OwnedFd,
    filters: [OwnedFd; 2],
    init: OwnedFd,
    /// The namespace of an image's users.
    users: Option<OwnedFd>,
}

impl Passed {
    fn all(&self) -> impl Iterator<Item = &OwnedFd> {
        let others = [&self.control, &self.info, &self.init];
        others.into_iter().chain(&self.filters).chain(&self.users)
    }
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
    let [allowed, answers] = seccomp::filters()?;
    let users = match (&layout.root, layout.user) {
        (None, _) => None,
        (Some(_), None) => return Err(SandboxError::NoUsers),
        (Some(_), Some(first)) => Some(users::namespace(first, layout.limits.processes)?),
    };
    let passed = Passed {
        users,
        control: theirs.into(),
        info: tell_info.into(),
        filters: [memfd("seccomp", &allowed)?, memfd("seccomp", &answers)?],
        init: memfd("init", init::PROGRAM)?,
    };
    let (parent, until) = channel::<()>();
    let (tell, told) = channel();
    let mut layout = layout.clone();
    std::thread::Builder::new().name("sandbox".into()).spawn(move || {
        let users = passed.users.as_ref();
        let staged =
            if layout.user.is_some() { show_within_reach(&mut layout, users) } else { Ok(()) };
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
fn show_within_reach(layout: &mut Layout, users: Option<&OwnedFd>) -> Result<(), SandboxError> {
    let stage = STAGES.into_iter().map(Path::new).find(|path| path.is_dir()).ok_or_else(|| {
        SandboxError::System(io::Error::other(format!("none of {STAGES:?} is a folder")))
    })?;
    stage::take_leave()?;
    let opened = stage::open(&layout.binds)?;
    let root = layout.root.as_ref().map(stage::Opened::new).transpose()?;
    stage::cover(stage)?;
    for (number, (bind, fd)) in layout.binds.iter_mut().zip(&opened).enumerate() {
        let place = stage.join(number.to_string());
        stage::show(fd, bind, &place)?;
        bind.from = place;
    }
    if let Some((root, users)) = root.zip(users) {
        let from = root.mount(users.as_fd(), stage)?;
        // All else is shown in it.
        layout.binds.insert(0, Bind { from, to: "/".into(), writable: true });
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
    for namespace in ["ipc", "pid", "uts"] {
        command.arg(format!("--unshare-{namespace}"));
    }
    command.arg("--unshare-cgroup-try");
    if !layout.network {
        command.arg("--unshare-net");
    }
    command.args(["--hostname", "runner", "--die-with-parent", "--new-session", "--clearenv"]);
    command.args(["--as-pid-1", "--cap-drop", "ALL"]);
    let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
    let mut binds = layout.binds.iter();
    if let Some(users) = &passed.users {
        command.args(["--userns", &number(users), "--uid", "0", "--gid", "0"]);
        command.args(RIGHTS_OF_ROOT.iter().flat_map(|right| ["--cap-add", right]));
        // The root comes first: all else is in it.
        command.args(binds.next().into_iter().flat_map(bound));
    } else {
        command.args(["--unshare-user", "--disable-userns"]);
        command.args(["--uid", INSIDE_USER, "--gid", INSIDE_USER]);
    }
    command.args(["--proc", "/proc", "--dev", "/dev"]);
    // The descriptions of the keys that our user has.
    for keys in
        ["/proc/keys", "/proc/key-users"].into_iter().filter(|keys| Path::new(keys).exists())
    {
        command.args(["--ro-bind", "/dev/null", keys]);
    }
    command.args(["--info-fd", &number(&passed.info)]);
    command.args(
        passed.filters.iter().flat_map(|filter| ["--add-seccomp-fd".to_owned(), number(filter)]),
    );
    command.args(binds.flat_map(bound));
    for (at, target) in &layout.links {
        command.arg("--symlink").arg(target).arg(at);
    }
    if passed.users.is_none() {
        command.args(["--remount-ro", "/"]);
    }
    command.args(["--chdir", "/", "--"]);
    command.arg(format!("/proc/self/fd/{}", passed.init.as_raw_fd()));
    command.args([number(&passed.control), layout.limits.processes.to_string()]);
    command.arg(layout.doorway.unwrap_or(0).to_string());
    command.arg(u32::from(layout.walls).to_string());
    let writable = layout.binds.iter().filter(|bind| bind.writable);
    command.args(writable.map(|bind| &bind.to)).args(["/dev", "/proc"]);
    command
}

/// Returns the words that show something inside.
fn bound(bind: &Bind) -> [&OsStr; 3] {
    let how = if bind.writable { "--bind" } else { "--ro-bind" };
    [how.as_ref(), bind.from.as_os_str(), bind.to.as_os_str()]
}

/// Starts bubblewrap with the descriptors that it is told of.
fn start(command: &mut Command, passed: &Passed) -> Result<Child, SandboxError> {
    for fd in passed.all() {
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
