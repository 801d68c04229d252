//! Following a step's process to its end: its output, its bounds, a request to stop.

use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use muster_sys::clock;
use muster_sys::process::{Happening, Running};
use muster_sys::usage::Usage;

use crate::cancel::{Cancel, End};

/// GitHub's patience: SIGINT, then SIGTERM, then SIGKILL.
const AFTER_INTERRUPT: Duration = Duration::from_millis(7_500);
const AFTER_TERMINATE: Duration = Duration::from_millis(2_500);
/// What was killed has so long to be gone.
const AFTER_KILL: Duration = Duration::from_secs(5);
const SIGKILL: i32 = 9;
/// After so long without output, what is held back goes out.
const QUIET: Duration = Duration::from_millis(50);

/// Why a step was stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The job was cancelled.
    Cancelled,
    /// The step took longer than its own bound.
    StepTimeout,
    /// The job took longer than its bound.
    JobTimeout,
    /// Nothing was written for too long.
    Idle,
    /// The job uses more than it may.
    Exceeded,
}

/// The bounds of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) step: Option<Instant>,
    pub(crate) job: Option<Instant>,
    pub(crate) idle: Option<Duration>,
    /// How often `told` wants to be called at least.
    pub(crate) tick: Option<Duration>,
}

/// How a step's process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stopped: Option<Stop>,
    /// What it has used, where that is known.
    pub(crate) usage: Option<Usage>,
}

/// How far the process has been pushed towards its end.
enum Push {
    None,
    Interrupted(Instant),
    Terminated(Instant),
    Killed(Instant),
}

/// Follows `running` until it ends; `told` hears its output, and of quiet with nothing.
pub(crate) fn follow(
    running: &mut Running,
    cancel: &Cancel,
    bounds: Bounds,
    mut told: impl FnMut(Option<&[u8]>),
) -> io::Result<Ended> {
    let mut push = Push::None;
    let mut stopped = None;
    let mut last_output = clock::monotonic();
    let mut quiet = true;
    loop {
        let now = clock::monotonic();
        if stopped.is_none() {
            stopped = overstepped(bounds, last_output, now);
            if stopped.is_some() {
                running.interrupt();
                push = Push::Interrupted(now);
            }
        }
        push = match push {
            Push::Interrupted(since) if now.duration_since(since) >= AFTER_INTERRUPT => {
                running.terminate();
                Push::Terminated(now)
            }
            Push::Terminated(since) if now.duration_since(since) >= AFTER_TERMINATE => {
                running.kill();
                Push::Killed(now)
            }
            // What cannot be killed is left to the end of the sandbox, or of the job.
            Push::Killed(since) if now.duration_since(since) >= AFTER_KILL => {
                let status = std::os::unix::process::ExitStatusExt::from_raw(SIGKILL);
                return Ok(Ended { status, stopped, usage: None });
            }
            same => same,
        };
        let wait = patience(&push, stopped, bounds, last_output, now, quiet);
        match running.next(cancel.wake(), wait)? {
            Happening::Output(bytes) => {
                last_output = clock::monotonic();
                quiet = false;
                told(Some(&bytes));
            }
            Happening::Exited(status, usage) => return Ok(Ended { status, stopped, usage }),
            Happening::Woken => {
                cancel.acknowledge();
                if matches!(cancel.end(), Some(End::Exceeded(_))) {
                    // What it goes on writing would be more still.
                    stopped = Some(Stop::Exceeded);
                    running.kill();
                    push = Push::Killed(clock::monotonic());
                } else if stopped.is_none() {
                    stopped = Some(Stop::Cancelled);
                    running.interrupt();
                    push = Push::Interrupted(clock::monotonic());
                }
            }
            Happening::Nothing if !quiet || bounds.tick.is_some() => {
                quiet = true;
                told(None);
            }
            Happening::Nothing => {}
        }
    }
}

fn overstepped(bounds: Bounds, last_output: Instant, now: Instant) -> Option<Stop> {
    if bounds.job.is_some_and(|deadline| now >= deadline) {
        Some(Stop::JobTimeout)
    } else if bounds.step.is_some_and(|deadline| now >= deadline) {
        Some(Stop::StepTimeout)
    } else if bounds.idle.is_some_and(|limit| now.duration_since(last_output) >= limit) {
        Some(Stop::Idle)
    } else {
        None
    }
}

/// Returns how long nothing needs to be done.
fn patience(
    push: &Push,
    stopped: Option<Stop>,
    bounds: Bounds,
    last_output: Instant,
    now: Instant,
    quiet: bool,
) -> Option<Duration> {
    let until = |at: Instant| at.saturating_duration_since(now);
    let mut waits = Vec::new();
    if stopped.is_none() {
        waits.extend(bounds.step.map(until));
        waits.extend(bounds.job.map(until));
        waits.extend(bounds.idle.map(|limit| until(last_output + limit)));
    }
    match push {
        Push::Interrupted(since) => waits.push(until(*since + AFTER_INTERRUPT)),
        Push::Terminated(since) => waits.push(until(*since + AFTER_TERMINATE)),
        Push::Killed(since) => waits.push(until(*since + AFTER_KILL)),
        Push::None => {}
    }
    waits.extend(bounds.tick);
    if !quiet {
        waits.push(QUIET);
    }
    waits.into_iter().min()
}
