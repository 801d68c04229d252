//! The states of a job, and the moves between them.

use muster_workflow::text::one_line;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Attempt;

/// Where a job stands. It moves only down this list; the last is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum JobState {
    /// For the jobs that it needs.
    Waiting,
    /// For its turn in its concurrency group.
    Pending {
        /// Which group that is, for people.
        reason: Reason,
    },
    /// For a runner.
    Queued {
        /// The try that is next.
        attempt: Attempt,
    },
    /// A runner has it.
    Running {
        /// The try that is running.
        attempt: Attempt,
        /// Why it was told to stop, once it was.
        stopping: Option<Reason>,
    },
    /// It has called a workflow, whose jobs stand for it.
    Calling {
        /// Why these were told to stop, once they were.
        stopping: Option<Reason>,
    },
    /// It is over.
    Finished {
        /// How it ended.
        conclusion: Conclusion,
        /// Why, where the conclusion alone does not say it.
        reason: Option<Reason>,
    },
}

/// How a job, step or run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Its condition, or that of what it needs, said no.
    Skipped,
    /// Green.
    Success,
    /// Stopped before its end.
    Cancelled,
    /// Red: a step failed.
    Failure,
    /// Red: it took too long.
    TimedOut,
    /// It could not be run: no runner, lost, an invalid file.
    Error,
}

impl Conclusion {
    /// Returns true for what leaves a commit green.
    pub fn is_green(self) -> bool {
        matches!(self, Self::Success | Self::Skipped)
    }

    /// Returns the worse of two conclusions, as a run rolls up its jobs: red before not run to the
    /// end, that before green; and green where all was skipped.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let rank = |conclusion: Self| match conclusion {
            Self::Skipped => 0,
            Self::Success => 1,
            Self::Cancelled => 2,
            Self::Error => 3,
            Self::TimedOut => 4,
            Self::Failure => 5,
        };
        if rank(self) >= rank(other) { self } else { other }
    }

    /// Returns what a failure counts as under `continue-on-error`.
    #[must_use]
    pub fn forgiven(self) -> Self {
        match self {
            Self::Failure | Self::TimedOut => Self::Success,
            other => other,
        }
    }

    /// Returns the word, as pages, API and command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Success => "success",
            Self::Cancelled => "cancelled",
            Self::Failure => "failure",
            Self::TimedOut => "timed_out",
            Self::Error => "error",
        }
    }

    /// Returns the word of GitHub's `needs` context, which knows only four.
    pub fn as_result(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Success => "success",
            Self::Cancelled => "cancelled",
            Self::Failure | Self::TimedOut | Self::Error => "failure",
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something waits, was skipped, refused, cancelled or retried: a code and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A short word that programs can test for.
    pub code: String,
    /// A sentence for people, without a full stop.
    pub text: String,
}

impl Reason {
    /// Makes a reason. Its sentence may quote what strangers write, and stands on one line all the same.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self { code: code.to_owned(), text: one_line(&text.replace('\n', " ")) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A move that a job cannot make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not queued for this attempt.
    #[error("attempt {0} is not queued")]
    NotQueued(Attempt),
    /// Another attempt has it, or none: the report is late.
    #[error("attempt {0} is not running")]
    NotRunning(Attempt),
}

impl JobState {
    /// Returns the state of a job that is over.
    pub fn finished(conclusion: Conclusion, reason: Option<Reason>) -> Self {
        Self::Finished { conclusion, reason }
    }

    /// Returns how the job ended, once it has.
    pub fn conclusion(&self) -> Option<Conclusion> {
        match self {
            Self::Finished { conclusion, .. } => Some(*conclusion),
            Self::Waiting
            | Self::Pending { .. }
            | Self::Queued { .. }
            | Self::Running { .. }
            | Self::Calling { .. } => None,
        }
    }

    /// Returns the reason that goes with the state, where there is one.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Finished { reason, .. } => reason.as_ref(),
            Self::Running { stopping, .. } | Self::Calling { stopping } => stopping.as_ref(),
            Self::Pending { reason } => Some(reason),
            Self::Waiting | Self::Queued { .. } => None,
        }
    }

    /// Returns the word, as pages, API and command line write it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending { .. } => "pending",
            Self::Queued { .. } => "queued",
            Self::Running { .. } | Self::Calling { .. } => "running",
            Self::Finished { conclusion, .. } => conclusion.as_str(),
        }
    }

    pub(super) fn start(&mut self, attempt: Attempt) -> Result<(), Refused> {
        if *self != (Self::Queued { attempt }) {
            return Err(Refused::NotQueued(attempt));
        }
        *self = Self::Running { attempt, stopping: None };
        Ok(())
    }

    pub(super) fn finish(
        &mut self,
        attempt: Attempt,
        conclusion: Conclusion,
        reason: Option<Reason>,
    ) -> Result<(), Refused> {
        match self {
            Self::Running { attempt: running, stopping } if *running == attempt => {
                // Why it was told to stop is no reason for how it ended by itself.
                let stopped = matches!(conclusion, Conclusion::Cancelled | Conclusion::Error);
                let reason = reason.or_else(|| stopping.take().filter(|_| stopped));
                *self = Self::finished(conclusion, reason);
                Ok(())
            }
            _ => Err(Refused::NotRunning(attempt)),
        }
    }

    /// Puts a job whose runner was lost back into the queue, as the next attempt.
    ///
    /// # Errors
    ///
    /// Unless this very attempt is running.
    pub fn retry(&mut self, lost: Attempt) -> Result<Attempt, Refused> {
        match self {
            Self::Running { attempt, .. } if *attempt == lost => {
                let attempt = lost.next();
                *self = Self::Queued { attempt };
                Ok(attempt)
            }
            _ => Err(Refused::NotRunning(lost)),
        }
    }
}
