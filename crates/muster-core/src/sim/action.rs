//! What can happen in the simulated world, one thing at a time.

use super::random::Random;

/// Something that happens. Numbers choose among what there is, whatever there is: so a script from which
/// actions are taken out is a script again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Somebody pushes a commit to a branch.
    Push { branch: u32, workflow: u32 },
    /// Somebody opens a pull request.
    Open { fork: bool, workflow: u32 },
    /// The head of a pull request moves.
    MoveHead { pull: u32, workflow: u32 },
    /// A pull request is closed, or opened again.
    Toggle { pull: u32 },
    /// A pull request is no draft any more: another event of the same head.
    Touch { pull: u32 },
    /// An administrator approves a commit that waits.
    Approve { which: u32 },
    /// An administrator cancels a run.
    Cancel { run: u32 },
    /// An administrator has a run done again.
    Rerun { run: u32, failed_only: bool },
    /// A webhook that is on its way comes.
    Deliver { which: u32 },
    /// A webhook that is on its way is sent twice.
    Double { which: u32 },
    /// A webhook that is on its way never comes.
    Lose { which: u32 },
    /// A webhook that was sent before is sent again, by somebody's click.
    Redeliver { which: u32 },
    /// The server looks at what it was sent.
    Intake,
    /// It decides events.
    Plan,
    /// It moves jobs.
    Drive,
    /// It tells the code host.
    Report,
    /// A supervisor goes on with its job.
    Work { which: u32 },
    /// A supervisor is killed.
    Die { which: u32 },
    /// The next calls to the code host fail.
    Fail { kind: u32 },
    /// The code host cannot be fetched from.
    Unreachable { times: u32 },
    /// The next writes to the database fail.
    Disk { times: u32 },
    /// The server is killed after so many more steps of its own; 0 is at once.
    Crash { after: u32 },
    /// The server is started, if it is down.
    Start,
    /// Time passes, in milliseconds.
    Pass { ms: u32 },
    /// The server's clock is set, by so many seconds back or forth.
    Clock { seconds: i32 },
}

/// Writes a script.
pub(super) fn script(random: &mut Random) -> Vec<Action> {
    let length = 40 + random.below(160);
    // Each story has troubles of its own, and some have none.
    let trouble = [0, 5, 15, 30][random.below(4) as usize];
    (0..length).map(|_| if random.chance(trouble) { bad(random) } else { good(random) }).collect()
}

fn good(random: &mut Random) -> Action {
    let which = random.below(64);
    let workflow = random.below(16);
    match random.below(40) {
        0..=2 => Action::Push { branch: which, workflow },
        3 => Action::Open { fork: random.chance(50), workflow },
        4 => Action::MoveHead { pull: which, workflow },
        5 if random.chance(50) => Action::Touch { pull: which },
        5 => Action::Toggle { pull: which },
        6 => Action::Approve { which },
        7 => Action::Cancel { run: which },
        8 => Action::Rerun { run: which, failed_only: random.chance(50) },
        9..=14 => Action::Deliver { which },
        15..=18 => Action::Intake,
        19..=22 => Action::Plan,
        23..=27 => Action::Drive,
        28..=31 => Action::Report,
        32..=36 => Action::Work { which },
        37 => Action::Start,
        _ => Action::Pass { ms: random.below(3_000) },
    }
}

fn bad(random: &mut Random) -> Action {
    let which = random.below(64);
    match random.below(13) {
        0 => Action::Double { which },
        1 => Action::Lose { which },
        2 => Action::Redeliver { which },
        3 | 4 => Action::Die { which },
        5 | 6 => Action::Fail { kind: which },
        7 => Action::Unreachable { times: 1 + random.below(3) },
        8 => Action::Disk { times: 1 + random.below(2) },
        9..=11 => Action::Crash { after: random.below(12) },
        _ => Action::Clock { seconds: random.below(200_000).cast_signed() - 100_000 },
    }
}
