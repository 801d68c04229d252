//! What programs have used of the machine, as the kernel accounts for it when they are waited for.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// What a program has used, together with those of its descendants that were waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time of processors.
    pub cpu: Duration,
    /// The most memory that one of the processes had at once, in bytes. What starts a program lends it its own at
    /// first: less than that is never told.
    pub memory: u64,
    /// Bytes that were read from disks.
    pub read: u64,
    /// Bytes that were written for disks.
    pub written: u64,
}

impl Usage {
    /// How many bytes it has on its way from an init.
    pub(crate) const LENGTH: usize = 32;

    /// Reads it as an init sends it: microseconds, then bytes three times.
    pub(crate) fn from_init(said: [u8; Self::LENGTH]) -> Self {
        let [cpu, memory, read, written] = std::array::from_fn(|at| {
            u64::from_ne_bytes(std::array::from_fn(|byte| said[at * 8 + byte]))
        });
        Self { cpu: Duration::from_micros(cpu), memory, read, written }
    }

    /// Adds what another program has used, before or after.
    pub fn add(&mut self, other: Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.max(other.memory);
        self.read = self.read.saturating_add(other.read);
        self.written = self.written.saturating_add(other.written);
    }
}

/// What the kernel counts memory in, and blocks of disks, in bytes: see `getrusage(2)`.
const KIB: u64 = 1024;
const BLOCK: u64 = 512;

/// Waits for a child.
pub(crate) fn wait(child: &Child) -> io::Result<(ExitStatus, Usage)> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        #[expect(unsafe_code, reason = "no crate has this call with what it says of usage")]
        // SAFETY: both pointers are to values that outlive the call, of the types that it fills.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        if waited == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    #[expect(unsafe_code, reason = "a structure of numbers alone")]
    // SAFETY: zeros are values of it, and the call has filled it.
    let usage = unsafe { usage.assume_init() };
    let number = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
    let time = |time: libc::timeval| {
        Duration::from_secs(number(time.tv_sec)) + Duration::from_micros(number(time.tv_usec))
    };
    let used = Usage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        memory: number(usage.ru_maxrss).saturating_mul(KIB),
        read: number(usage.ru_inblock).saturating_mul(BLOCK),
        written: number(usage.ru_oublock).saturating_mul(BLOCK),
    };
    Ok((std::os::unix::process::ExitStatusExt::from_raw(status), used))
}
