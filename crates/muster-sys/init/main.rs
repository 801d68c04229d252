//! The first process of a sandbox or container: starts the steps, takes in orphans, ends with its job.
//!
//! Compiled on its own by `build.rs`, linked statically, so that it runs whatever the sandbox has for
//! libraries. It is PID 1 of a PID namespace: when it ends, the kernel kills all that is left.
//!
//! `init CONTROL PROCESSES PORT WALLS WRITABLE…`: orders come over the socket with the number CONTROL, at most
//! PROCESSES processes may live, and files may be changed below the WRITABLE paths alone. The frames
//! of an order are described where they are sent, in `src/init.rs`. Where PORT is not 0, a socket that listens
//! there, in the sandbox's own network, is handed out with the first byte: who made the sandbox answers on it. Where
//! WALLS is not 0, no step looks into the processes of another.
//!
//! `init --join SOCKET PORT PATH…`, in a container, whose engine bounds it: it goes to SOCKET for its orders, and
//! says with its first word what is at each PATH, as the numbers of its device and of itself. Its own variables are
//! those of the container, which the steps have, too.

use std::collections::HashMap;
use std::ffi::{CString, OsString, c_char, c_int, c_long, c_ulong, c_void};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

const START: u8 = 1;
const SIGNAL: u8 = 2;
const START_ON_TERMINAL: u8 = 3;

/// What goes first through a step's status pipe.
const STARTED: i32 = 0;
const NO_PROGRAM: i32 = 1;
const NO_FOLDER: i32 = 2;

fn main() {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == "--join").is_some() {
        return match join(arguments) {
            Ok((control, doorway, seen)) => serve(&control, 0, doorway, &seen, false),
            Err(_) => std::process::exit(1),
        };
    }
    let mut number = || arguments.next()?.to_str()?.parse::<u32>().ok();
    let (Some(control), Some(processes), Some(port), Some(walls)) =
        (number(), number(), number(), number())
    else {
        std::process::exit(64)
    };
    let control = prepare(control as c_int, processes.into());
    // SAFETY: no other thread runs yet. bubblewrap has cleared all but `PWD`.
    std::env::vars_os().for_each(|(name, _)| unsafe { std::env::remove_var(name) });
    let landlock = restrict(arguments.map(|path| path.into_vec()));
    let port = u16::try_from(port).ok().filter(|port| *port != 0);
    serve(&control, landlock, port.and_then(listen), &[], walls != 0 && landlock > 0);
}

/// Listens on the loopback that the steps have.
fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

/// In a container: finds the way to its orders.
fn join(
    mut arguments: impl Iterator<Item = OsString>,
) -> io::Result<(UnixStream, Option<TcpListener>, Vec<u8>)> {
    let (Some(socket), Some(port)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("it is not said where to go"));
    };
    let port = port.to_str().and_then(|port| port.parse::<u16>().ok());
    let mut seen = Vec::new();
    for path in arguments {
        let (device, number) = std::fs::metadata(path).map_or((0, 0), |of| (of.dev(), of.ino()));
        seen.extend([device.to_ne_bytes(), number.to_ne_bytes()].concat());
    }
    let control = UnixStream::connect(socket)?;
    close_to_steps();
    Ok((control, port.filter(|port| *port != 0).and_then(listen), seen))
}

/// Follows orders until there are no more.
fn serve(
    control: &UnixStream,
    landlock: u8,
    doorway: Option<TcpListener>,
    seen: &[u8],
    walls: bool,
) {
    if greet(control, landlock, doorway).and_then(|()| (&*control).write_all(seen)).is_err() {
        std::process::exit(1);
    }
    let steps = Arc::new(Steps { walls, ..Steps::default() });
    let reaper = Arc::clone(&steps);
    std::thread::spawn(move || reap(&reaper));
    // The end of the orders is the end of the job.
    while let Ok(()) = obey(control, &steps) {}
    std::process::exit(0);
}

/// Makes this process invisible to its children, and deaf to their signals.
fn close_to_steps() {
    // SAFETY: plain system calls.
    unsafe {
        // Rust's own handlers would let a step's signals through to the first process of a namespace,
        // which else hears of none that it does not ask for.
        signal(SIGBUS, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        prctl(PR_SET_DUMPABLE, 0_u64, 0_u64, 0_u64, 0_u64);
    }
}

/// Closes what bubblewrap passed on, and makes this process invisible to its children.
fn prepare(control: c_int, processes: u64) -> UnixStream {
    let limit = [processes, processes];
    let no_core = [0_u64; 2];
    close_to_steps();
    // SAFETY: plain system calls; the structures outlive them, and nothing in this process uses a
    // descriptor above standard error but `control`, which is owned from here on.
    unsafe {
        syscall(SYS_CLOSE_RANGE, 3_u64, (control - 1) as u64, 0_u64);
        syscall(SYS_CLOSE_RANGE, (control + 1) as u64, c_ulong::from(u32::MAX), 0_u64);
        fcntl(control, F_SETFD, FD_CLOEXEC);
        prctl(PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64);
        setrlimit(RLIMIT_NPROC, limit.as_ptr().cast());
        setrlimit(RLIMIT_CORE, no_core.as_ptr().cast());
        UnixStream::from_raw_fd(control)
    }
}

/// Applies Landlock as far as this kernel has it; returns the version that is in force, 0 for none.
fn restrict(writable: impl Iterator<Item = Vec<u8>>) -> u8 {
    // https://docs.kernel.org/userspace-api/landlock.html
    const READ: u64 = 1 << 0 | 1 << 2 | 1 << 3;
    const MAKE_DEVICES: u64 = 1 << 6 | 1 << 11;
    const REFER: u64 = 1 << 13;
    // SAFETY: asks for the version, with no structure.
    let version = unsafe { syscall(SYS_LANDLOCK_CREATE, 0_u64, 0_u64, 1_u64) };
    let handled: u64 = match version {
        ..=0 => return 0,
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        _ => (1 << 15) - 1,
    };
    // Sockets without a path, and signals, do not leave the sandbox.
    let scoped: u64 = if version >= 6 { 0b11 } else { 0 };
    let attributes = [handled, 0, scoped];
    let size: u64 = match version {
        ..=3 => 8,
        4..=5 => 16,
        _ => 24,
    };
    // SAFETY: `attributes` has at least `size` bytes.
    let ruleset = unsafe { syscall(SYS_LANDLOCK_CREATE, attributes.as_ptr() as u64, size, 0_u64) };
    if ruleset < 0 {
        return 0;
    }
    let allow = |path: &[u8], access: u64| {
        let Ok(folder) = File::open(Path::new(std::ffi::OsStr::from_bytes(path))) else { return };
        let mut rule = [0_u8; 12];
        rule[..8].copy_from_slice(&(access & handled).to_ne_bytes());
        rule[8..].copy_from_slice(&folder.as_raw_fd().to_ne_bytes());
        // SAFETY: `rule` is laid out as the packed `landlock_path_beneath_attr`.
        unsafe { syscall(SYS_LANDLOCK_ADD, ruleset as u64, 1_u64, rule.as_ptr() as u64, 0_u64) };
    };
    allow(b"/", READ | REFER);
    for path in writable {
        allow(&path, handled & !MAKE_DEVICES);
    }
    // SAFETY: `ruleset` is a descriptor that is open and not used again.
    let restricted = unsafe { syscall(SYS_LANDLOCK_RESTRICT, ruleset as u64, 0_u64) };
    // SAFETY: as above.
    drop(unsafe { OwnedFd::from_raw_fd(ruleset as c_int) });
    if restricted == 0 { u8::try_from(version).unwrap_or(u8::MAX) } else { 0 }
}

/// Makes a domain for this process and those that it starts: Landlock lets nobody look into processes of another domain
/// that is not within its own (<https://docs.kernel.org/userspace-api/landlock.html#ptrace-restrictions>).
fn wall() -> io::Result<()> {
    // There can be no domain that restricts nothing: nobody here may make devices anyway.
    const MAKE_DEVICE: u64 = 1 << 11;
    let attributes = [MAKE_DEVICE];
    // SAFETY: `attributes` outlives the call, with its true size; the ruleset is a descriptor of ours.
    let is_done = unsafe {
        let ruleset = syscall(SYS_LANDLOCK_CREATE, attributes.as_ptr() as u64, 8_u64, 0_u64);
        ruleset >= 0
            && syscall(SYS_LANDLOCK_RESTRICT, ruleset as u64, 0_u64) == 0
            && close(ruleset as c_int) == 0
    };
    if is_done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Says hello, and hands the socket out that leads out of the sandbox.
fn greet(control: &UnixStream, landlock: u8, doorway: Option<TcpListener>) -> io::Result<()> {
    let Some(doorway) = doorway else { return (&*control).write_all(&[landlock]) };
    let mut hello = [landlock];
    // One control message: its length, level and type, then the descriptor.
    let kind = SOL_SOCKET as u64 | (SCM_RIGHTS as u64) << 32;
    let mut space = [20_u64, kind, doorway.as_raw_fd() as u64];
    let mut vector = [hello.as_mut_ptr() as u64, hello.len() as u64];
    let message = MessageHeader::of(&mut vector, &mut space);
    // SAFETY: the header points to buffers that outlive the call, with their true lengths.
    match unsafe { sendmsg(control.as_raw_fd(), &message, 0) } {
        1 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The steps that run.
#[derive(Default)]
struct Steps {
    running: Mutex<Running>,
    spawned: Condvar,
    /// Whether each is in a domain of its own.
    walls: bool,
}

#[derive(Default)]
struct Running {
    /// By process id: the number of the step and where its end is told.
    steps: HashMap<c_int, (u32, File)>,
    /// Whether a process was started since the reaper found none.
    news: bool,
}

impl Steps {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows one order.
fn obey(control: &UnixStream, steps: &Steps) -> io::Result<()> {
    let (head, mut fds) = receive(control)?;
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (step, number) = (word(1), word(5));
    match head[0] {
        how @ (START | START_ON_TERMINAL) => {
            let mut order = vec![0; number as usize];
            (&*control).read_exact(&mut order)?;
            let status = fds.pop();
            let mut fds = fds.into_iter();
            let (Some(status), Some(output)) = (status, fds.next()) else {
                return Err(io::Error::other("an order without its pipes"));
            };
            let to = match how {
                START => Outlet::Pipe(output, fds.next()),
                _ => Outlet::Terminal(output),
            };
            start(step, &order, to, File::from(status), steps)
        }
        SIGNAL => {
            let running = steps.lock();
            for (pid, _) in running.steps.iter().filter(|(_, (known, _))| *known == step) {
                // The step itself too: it may have left its group.
                // SAFETY: signals to a child that was not waited for yet, and to its group.
                unsafe {
                    kill(-pid, number as c_int);
                    kill(*pid, number as c_int);
                }
            }
            Ok(())
        }
        _ => Err(io::Error::other("an unknown order")),
    }
}

/// Receives the head of an order and the descriptors that come with it.
fn receive(control: &UnixStream) -> io::Result<([u8; 9], Vec<OwnedFd>)> {
    let mut head = [0_u8; 9];
    let mut space = [0_u64; 8];
    let mut vector = [head.as_mut_ptr() as u64, head.len() as u64];
    let mut message = MessageHeader::of(&mut vector, &mut space);
    let count = loop {
        // SAFETY: the header points to buffers that outlive the call, with their true lengths.
        let count = unsafe { recvmsg(control.as_raw_fd(), &mut message, MSG_CMSG_CLOEXEC) };
        if count >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break count;
        }
    };
    if count <= 0 {
        return Err(io::Error::other("no more orders"));
    }
    // One control message: its length, level and type, then the descriptors.
    let length = if message.control_length >= 16 { space[0] as usize } else { 16 };
    let mut fds = Vec::new();
    for at in 0..length.saturating_sub(16) / 4 {
        let fd = (space[2 + at / 2] >> (32 * (at % 2))) as c_int;
        // SAFETY: the kernel has just made it for us.
        fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    (&*control).read_exact(&mut head[count as usize..])?;
    Ok((head, fds))
}

/// Where a step writes to.
enum Outlet {
    /// It may read from another.
    Pipe(OwnedFd, Option<OwnedFd>),
    /// It reads from it, too, and leads a session whose terminal it is.
    Terminal(OwnedFd),
}

/// Starts a step: NUL-ended texts, first how many of them are the program and its arguments, then
/// the folder, then those, then the variables.
fn start(
    step: u32,
    order: &[u8],
    to: Outlet,
    mut status: File,
    steps: &Steps,
) -> io::Result<()> {
    let mut texts = order.split(|byte| *byte == 0).map(|text| OsString::from_vec(text.to_vec()));
    let malformed = || io::Error::other("a malformed order");
    let count: usize =
        texts.next().and_then(|text| text.to_str()?.parse().ok()).ok_or_else(malformed)?;
    let folder = texts.next().ok_or_else(malformed)?;
    let program = texts.next().ok_or_else(malformed)?;
    let mut command = Command::new(program);
    command.args(texts.by_ref().take(count - 1));
    for variable in texts {
        let bytes = variable.as_bytes();
        if let Some(at) = bytes.iter().position(|byte| *byte == b'=') {
            let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            command.env(text(&bytes[..at]), text(&bytes[at + 1..]));
        }
    }
    match to {
        Outlet::Pipe(output, input) => {
            command.process_group(0).stdin(input.map_or_else(Stdio::null, Stdio::from));
            command.stderr(output.try_clone()?).stdout(output);
        }
        Outlet::Terminal(terminal) => {
            command.stdin(terminal.try_clone()?).stderr(terminal.try_clone()?).stdout(terminal);
            // SAFETY: system calls alone, between fork and exec.
            unsafe {
                command.pre_exec(|| match setsid() >= 0 && ioctl(0, TIOCSCTTY, 0) == 0 {
                    true => Ok(()),
                    false => Err(io::Error::last_os_error()),
                });
            }
        }
    }
    // Who waits for the step hears of its end through the pipe, also when it never began.
    let mut tell = |kind: i32, number: i32| {
        let _ = status.write_all(&[kind.to_ne_bytes(), number.to_ne_bytes()].concat());
    };
    if steps.walls {
        // SAFETY: system calls alone, between fork and exec.
        unsafe {
            command.pre_exec(wall);
        }
    }
    let reachable = CString::new(folder.as_bytes()).is_ok_and(|path| {
        // SAFETY: a NUL-ended path that outlives the call.
        unsafe { access(path.as_ptr(), X_OK) == 0 && Path::new(&folder).is_dir() }
    });
    if !reachable {
        tell(NO_FOLDER, 0);
        return Ok(());
    }
    command.current_dir(folder);
    let mut running = steps.lock();
    match command.spawn() {
        Ok(child) => {
            tell(STARTED, 0);
            running.steps.insert(child.id() as c_int, (step, status));
            running.news = true;
            steps.spawned.notify_one();
        }
        Err(error) => tell(NO_PROGRAM, error.raw_os_error().unwrap_or(0)),
    }
    Ok(())
}

/// Waits for every process that ends, and tells of those that are steps.
fn reap(steps: &Steps) {
    loop {
        let mut info = [0_u64; 16];
        // Only looks: what is reaped is decided under the lock, for a start that fails waits for its
        // child by itself.
        // SAFETY: `info` is as large as a `siginfo_t`.
        if unsafe { waitid(0, 0, info.as_mut_ptr().cast(), WEXITED | WNOWAIT) } != 0 {
            if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
                continue;
            }
            let mut running = steps.lock();
            while !running.news {
                running = steps.spawned.wait(running).unwrap_or_else(PoisonError::into_inner);
            }
            running.news = false;
            continue;
        }
        let mut running = steps.lock();
        loop {
            let (mut status, mut usage): (c_int, [u64; 18]) = (0, [0; 18]);
            // SAFETY: `usage` is as large as a `struct rusage` of 64 bits, and both outlive the call.
            let pid = unsafe { wait4(-1, &mut status, WNOHANG, usage.as_mut_ptr().cast()) };
            if pid <= 0 {
                break;
            }
            if let Some((_, mut pipe)) = running.steps.remove(&pid) {
                // At once, so that it is there as a whole.
                let _ = pipe.write_all(&[&status.to_ne_bytes()[..], &used(&usage)].concat());
            }
        }
    }
}

/// Returns what a `struct rusage` says, as it is sent: microseconds of processors, bytes of memory, read and written.
fn used(usage: &[u64; 18]) -> Vec<u8> {
    // The times of the program and of the kernel, in seconds and microseconds each.
    let cpu = (usage[0] + usage[2]) * 1_000_000 + usage[1] + usage[3];
    let (memory, read, written) = (usage[4] * 1024, usage[11] * 512, usage[12] * 512);
    [cpu, memory, read, written].iter().flat_map(|number| number.to_ne_bytes()).collect()
}

#[repr(C)]
struct MessageHeader {
    name: *mut c_void,
    name_length: u32,
    vector: *mut c_void,
    vectors: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

impl MessageHeader {
    /// Describes one piece of a message, by its address and length, and the room for what goes with it. Both have to
    /// outlive the header.
    fn of(vector: &mut [u64; 2], control: &mut [u64]) -> Self {
        Self {
            name: std::ptr::null_mut(),
            name_length: 0,
            vector: vector.as_mut_ptr().cast(),
            vectors: 1,
            control: control.as_mut_ptr().cast(),
            control_length: size_of_val(control),
            flags: 0,
        }
    }
}

const SYS_CLOSE_RANGE: c_long = 436;
const SYS_LANDLOCK_CREATE: c_long = 444;
const SYS_LANDLOCK_ADD: c_long = 445;
const SYS_LANDLOCK_RESTRICT: c_long = 446;
const F_SETFD: c_int = 2;
const FD_CLOEXEC: c_int = 1;
const PR_SET_DUMPABLE: c_int = 4;
const PR_SET_NO_NEW_PRIVS: c_int = 38;
const RLIMIT_CORE: c_int = 4;
const RLIMIT_NPROC: c_int = 6;
const SOL_SOCKET: c_int = 1;
const SCM_RIGHTS: c_int = 1;
const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
const SIGBUS: c_int = 7;
const SIGSEGV: c_int = 11;
const SIG_DFL: usize = 0;
const TIOCSCTTY: c_ulong = 0x540e;
const WNOHANG: c_int = 1;
const WEXITED: c_int = 4;
const WNOWAIT: c_int = 0x0100_0000;
const X_OK: c_int = 1;

// This file is compiled without a crate of bindings: these are the C library's own.
unsafe extern "C" {
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn recvmsg(socket: c_int, message: *mut MessageHeader, flags: c_int) -> isize;
    fn signal(number: c_int, handler: usize) -> usize;
    fn sendmsg(socket: c_int, message: *const MessageHeader, flags: c_int) -> isize;
    fn setsid() -> c_int;
    fn setrlimit(resource: c_int, limit: *const c_void) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn waitid(kind: c_int, id: u32, info: *mut c_void, options: c_int) -> c_int;
    fn wait4(pid: c_int, status: *mut c_int, options: c_int, usage: *mut c_void) -> c_int;
}
