//! A program that was started: what it writes, how it ends, the signals that it is sent.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal};

use super::{kill_group, pid, wait_readable};
use crate::init::Confined;
use crate::usage::{self, Usage};

/// A program that was started.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    output: Option<PipeReader>,
    reads_after_exit: usize,
}

/// How the program is held.
#[derive(Debug)]
pub(super) enum Handle {
    /// A child of ours, and what becomes readable when it has ended.
    Child(Child, OwnedFd),
    /// It runs in a sandbox.
    Confined(Confined),
}

/// How often the pipe is read once the program has ended: all that it left in the pipe, but not
/// for ever what a child of it goes on writing.
const MAX_READS_AFTER_EXIT: usize = 32;

/// What happened while a program was followed.
#[derive(Debug)]
pub enum Happening {
    /// It wrote this.
    Output(Vec<u8>),
    /// It ended, and had used so much, where that is known; children of it may still hold the pipe.
    Exited(ExitStatus, Option<Usage>),
    /// The wake-up fd became readable.
    Woken,
    /// Nothing, until the time was over.
    Nothing,
}

impl Handle {
    pub(super) fn of(child: Child) -> io::Result<Self> {
        let exited = rustix::process::pidfd_open(pid(&child)?, PidfdFlags::empty())?;
        Ok(Self::Child(child, exited))
    }

    /// Returns how the program, which has ended, did so, and what it has used.
    fn end(&mut self) -> io::Result<(ExitStatus, Option<Usage>)> {
        match self {
            Self::Child(child, _) => {
                let (status, usage) = usage::wait(child)?;
                Ok((status, Some(usage)))
            }
            Self::Confined(confined) => Ok(confined.end()),
        }
    }
}

impl Running {
    /// One whose output is read from this pipe.
    pub(super) fn new(handle: Handle, output: PipeReader) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok(Self { handle, output: Some(output), reads_after_exit: 0 })
    }

    /// One whose output is read elsewhere, if at all.
    pub(super) fn apart(handle: Handle) -> Self {
        Self { handle, output: None, reads_after_exit: 0 }
    }

    /// Waits for the next thing that happens; output comes before the exit it was written before.
    ///
    /// # Errors
    ///
    /// When the pipe cannot be read or the program not be waited for.
    pub fn next(&mut self, wake: &OwnedFd, timeout: Option<Duration>) -> io::Result<Happening> {
        let mut fds = vec![self.ended(), wake.as_fd()];
        fds.extend(self.output.as_ref().map(AsFd::as_fd));
        let ready = wait_readable(&fds, timeout)?;
        drop(fds);
        // Before the output: a program that writes without end must not keep us from hearing. One that has ended comes to
        // its own end.
        if ready[1] && !ready[0] {
            return Ok(Happening::Woken);
        }
        let may_read = !ready[0] || self.reads_after_exit < MAX_READS_AFTER_EXIT;
        if ready.get(2) == Some(&true) && may_read {
            self.reads_after_exit += usize::from(ready[0]);
            if let Some(output) = self.read()? {
                return Ok(Happening::Output(output));
            }
        }
        if ready[0] {
            let (status, usage) = self.handle.end()?;
            return Ok(Happening::Exited(status, usage));
        }
        Ok(Happening::Nothing)
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(pipe) = &mut self.output else { return Ok(None) };
        let mut buffer = vec![0; 64 * 1024];
        let count = match pipe.read(&mut buffer) {
            // Somebody else has read it: a step can open its own output.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            read => read?,
        };
        if count == 0 {
            self.output = None;
            return Ok(None);
        }
        buffer.truncate(count);
        Ok(Some(buffer))
    }

    /// Becomes readable when the program has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        match &self.handle {
            Handle::Child(_, exited) => exited.as_fd(),
            Handle::Confined(confined) => confined.ended(),
        }
    }

    /// Waits for a program that was started on a terminal, and returns how it ended.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        wait_readable(&[self.ended()], None)?;
        self.handle.end().map(|(status, _)| status)
    }

    /// Returns the pipe of a program that ended, which its children may still write to.
    pub fn into_output(self) -> Option<PipeReader> {
        // Whoever reads on has time to wait; where that cannot be said, there is nothing to read.
        self.output.filter(|output| rustix::io::ioctl_fionbio(output, false).is_ok())
    }

    /// Sends SIGINT to the program and all in its group.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGTERM to the program and all in its group.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL to the program and all in its group.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        match &self.handle {
            Handle::Child(child, exited) => {
                kill_group(child, signal);
                // It may have left its group. By its descriptor: its number may be another's by now.
                let _ = rustix::process::pidfd_send_signal(exited, signal);
            }
            Handle::Confined(confined) => confined.signal(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::super::Program;
    use super::*;

    /// A program that writes without end always has output ready; that must not hide the wake-up.
    #[test]
    fn a_wake_up_is_told_before_output_that_is_ready() {
        let talks = "echo loud; exec sleep 1000";
        let mut running = Program::new("sh").args(["-c", talks]).spawn().unwrap();
        let wake = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let output = running.output.as_ref().unwrap().as_fd();
        assert_eq!(wait_readable(&[output], Some(Duration::from_secs(10))).unwrap(), [true]);
        assert!(matches!(running.next(&wake, None).unwrap(), Happening::Woken));
        rustix::io::read(&wake, &mut [0; 8]).unwrap();
        let next = running.next(&wake, None).unwrap();
        assert!(matches!(next, Happening::Output(bytes) if bytes == b"loud\n"));
        running.kill();
        // Who is woken once it has ended hears of that first.
        let Handle::Child(_, exited) = &running.handle else { unreachable!() };
        assert_eq!(
            wait_readable(&[exited.as_fd()], Some(Duration::from_secs(10))).unwrap(),
            [true]
        );
        rustix::io::write(&wake, &1_u64.to_ne_bytes()).unwrap();
        let mut last = running.next(&wake, None).unwrap();
        while !matches!(last, Happening::Exited(..)) {
            last = running.next(&wake, None).unwrap();
        }
    }
}
