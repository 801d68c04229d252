//! Faults that are planted to see that the laws catch them.

/// A fault in the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A webhook is answered before it is stored.
    AnswersBeforeStoring,
    /// A webhook that was processed is processed again when it is sent again.
    ProcessesTwice,
    /// A late event of a pull request counts.
    RevivesOldHead,
    /// What is late drops the newest head, too.
    DropsNewHead,
    /// An approval is for a pull request, not for one commit.
    ApprovesAllHeads,
    /// A push that comes late ends what is newer.
    LatePushEndsNewer,
    /// A run whose turn it is in its group does not always get it.
    LosesTurn,
    /// A job goes on before its turn has come in its group.
    SkipsQueue,
    /// A job that is tried again has the same attempt number.
    ReusesAttempt,
    /// A supervisor is started before that is stored.
    StartsBeforeStoring,
    /// A job whose supervisor is lost is tried again for ever.
    RetriesForEver,
    /// After a restart jobs that are over start again.
    ForgetsEnd,
    /// How far a log was taken over is not stored.
    ForgetsTaken,
    /// What a move changes is not always put into the outbox.
    DropsReport,
    /// Of jobs of one name the best counts.
    FoldsBest,
    /// Contexts that nothing bears any more stay pending.
    LeavesPending,
    /// What was sent last is taken for what is true now.
    MarksNewest,
    /// After a restart the code host is called although it asked to wait.
    ForgetsQuiet,
    /// What could not be told is not told again.
    GivesUp,
    /// A clock that was set back makes everything wait until it is as late again.
    TrustsClock,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::AnswersBeforeStoring,
        Self::ProcessesTwice,
        Self::RevivesOldHead,
        Self::DropsNewHead,
        Self::ApprovesAllHeads,
        Self::LatePushEndsNewer,
        Self::LosesTurn,
        Self::SkipsQueue,
        Self::ReusesAttempt,
        Self::StartsBeforeStoring,
        Self::RetriesForEver,
        Self::ForgetsEnd,
        Self::ForgetsTaken,
        Self::DropsReport,
        Self::FoldsBest,
        Self::LeavesPending,
        Self::MarksNewest,
        Self::ForgetsQuiet,
        Self::GivesUp,
        Self::TrustsClock,
    ];
}
