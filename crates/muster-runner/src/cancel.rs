//! Telling a running job to stop.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// A request to stop, shared between who asks and who runs.
#[derive(Debug, Clone)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    asked: Mutex<Asked>,
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct Asked {
    end: Option<End>,
    /// Who is to be told, too.
    below: Vec<Weak<Shared>>,
}

/// Why a job is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody asked for it, for this reason.
    Asked(String),
    /// It is a step in the background, and another step wants it no longer.
    Unwanted,
    /// It uses more than it may, or nobody can say that it does not.
    Exceeded(String),
}

impl Cancel {
    /// Makes a request that nobody has made yet.
    ///
    /// # Errors
    ///
    /// When the system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { asked: Mutex::default(), wake }) })
    }

    /// Makes one for a part of what this one is for: what is asked of this one from now on is asked of that, too.
    ///
    /// # Errors
    ///
    /// When the system has no file descriptor left.
    pub(crate) fn part(&self) -> io::Result<Self> {
        let part = Self::new()?;
        let mut asked = self.asked();
        asked.below.retain(|part| part.strong_count() > 0);
        asked.below.push(Arc::downgrade(&part.shared));
        Ok(part)
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the end; the first reason stays.
    pub fn request(&self, reason: &str) {
        self.end_for(End::Asked(reason.to_owned()));
    }

    /// Ends the job; the first reason stays.
    pub(crate) fn end_for(&self, end: End) {
        let mut asked = self.asked();
        // What a job that is to end anyway goes on writing has its bound, too.
        let is_worse = matches!(end, End::Exceeded(_));
        if asked.end.is_none()
            || (is_worse && matches!(asked.end, Some(End::Asked(_) | End::Unwanted)))
        {
            // Steps that run although the job was cancelled are not cancelled by who asks once more.
            for part in asked.below.iter().filter_map(Weak::upgrade) {
                Self { shared: part }.end_for(end.clone());
            }
            asked.end = Some(end);
            // The counter cannot overflow: it is written twice at most.
            let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Returns why the job is to end, once it is.
    pub(crate) fn end(&self) -> Option<End> {
        self.asked().end.clone()
    }

    /// Returns what becomes readable when the end is asked for, until [`Self::acknowledge`].
    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.shared.wake
    }

    /// Waits so long, or until the end is asked for.
    pub(crate) fn pause(&self, rest: Duration) {
        let rest = Timespec::try_from(rest).ok();
        // Interrupted it was a shorter pause.
        let _ = poll(&mut [PollFd::new(self.wake(), PollFlags::IN)], rest.as_ref());
    }

    /// Makes [`Self::wake`] quiet again, for the steps that run although the job was cancelled.
    pub(crate) fn acknowledge(&self) {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
    }
}
