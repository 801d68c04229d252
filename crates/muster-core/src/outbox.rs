//! Telling a code host: when, how often, and what follows from its answer. Times are milliseconds since
//! 1970.

/// GitHub's advice: at least a second between two writes.
pub const BETWEEN_WRITES_MS: i64 = 1_000;
/// The longest wait between two tries.
pub const MAX_WAIT_MS: i64 = 300_000;
/// The longest wait of anything that is told again.
pub const LONGEST_WAIT_MS: i64 = AFTER_REFUSAL_MS;
/// The next try of a report that the code host will never take: it is a dead letter until its state changes.
pub const NEVER: i64 = i64::MAX;

/// What is added to the time that a code host asks for: it bans who calls early.
const MARGIN_MS: i64 = 1_000;
/// The wait after a refusal that an administrator may mend, such as a right that is missing.
const AFTER_REFUSAL_MS: i64 = 600_000;

/// What a code host answered to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It shows the report.
    Taken {
        /// When it takes more, where this was the last that it takes for a while.
        more_at: Option<i64>,
    },
    /// It asks to hear nothing for so long.
    Limited {
        /// How long, in milliseconds from its answer on.
        wait_ms: i64,
    },
    /// It could not be reached, or failed.
    Passing,
    /// It refuses, which an administrator may mend.
    Refused,
    /// It will never take this very report.
    Never,
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequel {
    /// When the report is tried again; none where it is shown.
    pub retry_at: Option<i64>,
    /// Until when the code host wants to hear nothing at all.
    pub quiet_until: Option<i64>,
}

/// A time in which a code host wants to hear nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quiet {
    /// When it asked for that.
    pub since: i64,
    /// When it is over.
    pub until: i64,
}

impl Quiet {
    /// Returns how much of it is left, in milliseconds; all of it where the clock was set back since.
    pub fn left(self, now: i64) -> i64 {
        self.until.saturating_sub(now.max(self.since)).max(0)
    }
}

/// Decides what follows from the answer to a report that has failed so often before; `now` is the time of
/// the answer.
pub fn sequel(answer: Answer, failures: i64, now: i64) -> Sequel {
    match answer {
        Answer::Taken { more_at } => {
            Sequel { retry_at: None, quiet_until: more_at.map(|at| at.saturating_add(MARGIN_MS)) }
        }
        Answer::Limited { wait_ms } => {
            let until = now.saturating_add(wait_ms).saturating_add(MARGIN_MS);
            Sequel { retry_at: Some(until), quiet_until: Some(until) }
        }
        Answer::Passing => Sequel { retry_at: Some(now + backoff(failures)), quiet_until: None },
        Answer::Refused => Sequel { retry_at: Some(now + AFTER_REFUSAL_MS), quiet_until: None },
        Answer::Never => Sequel { retry_at: Some(NEVER), quiet_until: None },
    }
}

/// Returns whether something that is to be tried at a time is due, where nothing waits longer than `longest`:
/// a time that is further away is that of a clock which was set back since.
pub fn is_due(at: i64, now: i64, longest: i64) -> bool {
    at <= now || (at != NEVER && at > now.saturating_add(longest))
}

/// Returns how long to wait before the next try, in milliseconds.
pub fn backoff(failures: i64) -> i64 {
    (BETWEEN_WRITES_MS << failures.clamp(0, 16)).min(MAX_WAIT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_called_early_or_for_ever() {
        let limited = sequel(Answer::Limited { wait_ms: 60_000 }, 0, 5);
        assert_eq!(limited, Sequel { retry_at: Some(61_005), quiet_until: Some(61_005) });
        let last = sequel(Answer::Taken { more_at: Some(9_000) }, 3, 5);
        assert_eq!(last, Sequel { retry_at: None, quiet_until: Some(10_000) });
        let quiet = Quiet { since: 100, until: 160 };
        assert_eq!([50, 130, 170].map(|now| quiet.left(now)), [60, 30, 0]);
        assert_eq!(sequel(Answer::Passing, 3, 5).retry_at, Some(8_005));
        assert_eq!(sequel(Answer::Passing, 70, 5).retry_at, Some(300_005));
        assert_eq!(sequel(Answer::Never, 0, 5).retry_at, Some(NEVER));
        assert!(
            is_due(5, 5, 10) && !is_due(15, 5, 10) && is_due(16, 5, 10) && !is_due(NEVER, 5, 10)
        );
    }
}
