//! Users for jobs: who the processes of one are outside of its sandbox.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::{Pid, WaitOptions};

use super::SandboxError;

/// How many users an image's root has: as many as 16 bits name, which is what images are made with.
pub const OF_A_ROOT: u32 = 1 << 16;
/// Where ranges of users begin and end that are handed out: above the numbers that [`user_of_its_own`] gives, and in
/// what systemd leaves to containers (<https://systemd.io/UIDS-GIDS/>).
const FIRST: u32 = (1 << 30) + (1 << 23);
const LAST: u32 = 1_879_048_191;
/// Which ranges are taken: a file each, held locked.
const TAKEN: &str = "/run/muster/users";

/// Returns a user that no other live process is, for root to give a sandbox; nobody else needs one.
///
/// # Errors
///
/// When this process is root among so few users that there is none to spare.
pub fn user_of_its_own() -> Result<Option<u32>, SandboxError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    // The numbers of live processes differ, and nobody has users so far up; in a container with few
    // users there is less room, and a stranger to clash with is still only another job.
    let pid = std::process::id();
    let candidates = [(1 << 30) + pid, 30_000 + pid % 30_000];
    let known = candidates.into_iter().map(|user| Ok((user, is_known(user, 1)?)));
    let known = known.collect::<io::Result<Vec<_>>>()?;
    known.into_iter().find(|(_, known)| *known).map(|(user, _)| Some(user)).ok_or_else(|| {
        SandboxError::System(io::Error::other("this root has no user to give to a job"))
    })
}

/// Returns whether so many users from this one on are some in the namespace of this process.
fn is_known(user: u32, count: u32) -> io::Result<bool> {
    let map = fs::read_to_string("/proc/self/uid_map")?;
    Ok(map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().unwrap_or(0));
        let (first, _, known) = (numbers.next(), numbers.next(), numbers.next());
        first.zip(known).is_some_and(|(first, known)| {
            user >= first && known >= count && user - first <= known - count
        })
    }))
}

/// [`OF_A_ROOT`] users that nobody else of this machine is, for as long as this lives.
#[derive(Debug)]
pub struct Range {
    first: u32,
    _held: File,
}

impl Range {
    /// Takes a range that is free.
    ///
    /// # Errors
    ///
    /// When this process is not root of so many users, or all ranges are taken.
    pub fn take() -> Result<Self, SandboxError> {
        if !rustix::process::geteuid().is_root() || !is_known(FIRST, OF_A_ROOT)? {
            return Err(SandboxError::NoUsers);
        }
        fs::create_dir_all(TAKEN)?;
        let count = (LAST - FIRST) / OF_A_ROOT;
        // Who comes at the same time begins elsewhere.
        let begin = std::process::id() % count;
        for number in (begin..count).chain(0..begin) {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(format!("{TAKEN}/{number}"))?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Self { first: FIRST + number * OF_A_ROOT, _held: file });
            }
        }
        Err(SandboxError::NoUsers)
    }

    /// Returns its first user, who is root inside.
    pub fn first(&self) -> u32 {
        self.first
    }
}

/// Makes a namespace in which the users of a range are those from 0 on, and in which there can be no further one. Its
/// owner is the first of them. All together may have so many processes.
pub(super) fn namespace(first: u32, processes: u32) -> io::Result<OwnedFd> {
    let (mut told, tell) = io::pipe()?;
    let (wait, go) = io::pipe()?;
    #[expect(unsafe_code, reason = "a namespace has to be begun by a process in it")]
    // SAFETY: the child makes system calls alone, on values that are there already, and ends by `_exit`.
    let child = unsafe {
        match libc::fork() {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                let pipes = [tell.as_raw_fd(), wait.as_raw_fd(), go.as_raw_fd()];
                if !begin(first, processes, pipes) {
                    let why = (*libc::__errno_location()).to_ne_bytes();
                    libc::write(pipes[0], why.as_ptr().cast(), why.len());
                }
                libc::_exit(0)
            }
            child => child,
        }
    };
    drop((tell, wait));
    let made = (|| {
        hear(&mut told)?;
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{child}/{map}"), format!("0 {first} {OF_A_ROOT}\n"))?;
        }
        let path = format!("/proc/{child}/ns/user");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open(path, flags, Mode::empty())?;
        (&go).write_all(&[1])?;
        hear(&mut told)?;
        Ok(namespace)
    })();
    drop(go);
    // Somebody else may have waited for it.
    let _ = rustix::process::waitpid(Pid::from_raw(child), WaitOptions::empty());
    made
}

/// Hears that something is done, or why it is not.
fn hear(told: &mut PipeReader) -> io::Result<()> {
    let mut said = [0; 4];
    let number = match told.read(&mut said)? {
        1 => return Ok(()),
        4 => i32::from_ne_bytes(said),
        _ => 0,
    };
    let why = io::Error::from_raw_os_error(number);
    let text = "no namespace of users (/proc/sys/user/max_user_namespaces may be 0)";
    Err(io::Error::new(why.kind(), format!("{text}: {why}")))
}

/// In the child: begins the namespace, says so, waits until its users are known, and lets nobody begin one in it.
#[expect(unsafe_code, reason = "between fork and exec there is no library")]
fn begin(first: u32, processes: u32, [tell, wait, go]: [i32; 3]) -> bool {
    const LIMIT: &std::ffi::CStr = c"/proc/sys/user/max_user_namespaces";
    let mut word = 0_u8;
    // bubblewrap is among them, twice for a while.
    let most = libc::rlim_t::from(processes) + 4;
    let most = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: plain system calls on buffers that outlive them, and on descriptors of ours.
    unsafe {
        // Of what is waited for the parent alone has the other end.
        libc::close(go);
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) == 0
            && libc::syscall(libc::SYS_setresgid, first, first, first) == 0
            && libc::syscall(libc::SYS_setresuid, first, first, first) == 0
            && libc::setrlimit(libc::RLIMIT_NPROC, &raw const most) == 0
            && libc::unshare(libc::CLONE_NEWUSER) == 0
            && libc::write(tell, (&raw const word).cast(), 1) == 1
            && libc::read(wait, (&raw mut word).cast(), 1) == 1
            && {
                let limit = libc::open(LIMIT.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                limit >= 0 && libc::write(limit, c"0".as_ptr().cast(), 1) == 1
            }
            && libc::write(tell, (&raw const word).cast(), 1) == 1
    }
}
