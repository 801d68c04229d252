//! What must hold in the simulated world after each thing that happens, and once it has come to rest.
//!
//! Written down anew from the design, not from the code that is judged. Two of the design's laws have no
//! subject yet: no run is given a secret (I9), and nothing that a run wrote is read by another (I10).

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::db::{Db, JobRow, RunRow};
use super::machine::Record;
use super::server::JOBS;
use crate::change::{Change, PullRequest};
use crate::id::Sha;
use crate::outbox::NEVER;
use crate::outcome::Outcome;
use crate::report::{ROLL_UP, State};
use crate::run::{Conclusion, Job, JobState, MAX_ATTEMPTS};
use crate::trust::Trust;

/// What the laws remember of the moment before.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// How far each job was: its attempt, and how far that was.
    jobs: BTreeMap<u32, (u32, u8, Option<Conclusion>)>,
    /// Runs that were over, by number and attempt.
    over: BTreeMap<(i64, i64), Conclusion>,
    /// The runs that there were.
    runs: i64,
    /// The newest version of each report that the code host has shown.
    shown: BTreeMap<(Sha, String), i64>,
    taken: BTreeMap<(u32, u32), usize>,
}

/// Checks all laws; returns the first that is broken.
pub(super) fn check(world: &mut World) -> Result<(), String> {
    deliveries(world)?;
    jobs_go_forward(world)?;
    groups(world)?;
    runs(world)?;
    attempts(world)?;
    outbox(world)?;
    what_is_shown(world)?;
    new_runs(world)
}

fn is(holds: bool, law: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(law()) }
}

/// I1: a webhook that was answered 2xx is stored. I2: one that says the same is one event. I3: each that was
/// accepted has its event.
fn deliveries(world: &World) -> Result<(), String> {
    let db = &world.db;
    let stored: BTreeSet<u32> = db.deliveries.iter().map(|one| one.guid).collect();
    if let Some(lost) = world.answered.iter().find(|guid| !stored.contains(guid)) {
        return Err(format!("I1: webhook {lost} was answered 2xx and is not stored"));
    }
    let mut bodies = BTreeSet::new();
    for event in &db.events {
        let delivery = db.deliveries.iter().find(|one| one.number == event.delivery);
        let body = delivery.map(|one| one.body);
        is(body.is_some_and(|body| bodies.insert(body)), || {
            format!("I2: event {} is the second of one webhook, or of none", event.number)
        })?;
    }
    for delivery in db.deliveries.iter().filter(|one| one.outcome == Outcome::Accepted) {
        let event = db.events.iter().any(|event| event.delivery == delivery.number);
        is(event, || format!("I3: webhook {} was accepted and has no event", delivery.guid))?;
    }
    Ok(())
}

/// I4: states move only forward, and what is over stays over.
fn jobs_go_forward(world: &mut World) -> Result<(), String> {
    let mut now = BTreeMap::new();
    for row in &world.db.jobs {
        let (attempt, rank) = match &row.job.state {
            JobState::Waiting => (0, 0),
            JobState::Pending { .. } => (0, 1),
            JobState::Queued { attempt } => (attempt.0, 2),
            JobState::Running { attempt, stopping: None } => (attempt.0, 3),
            JobState::Running { attempt, stopping: Some(_) } => (attempt.0, 4),
            JobState::Calling { stopping: None } => (0, 3),
            JobState::Calling { stopping: Some(_) } => (0, 4),
            JobState::Finished { .. } => (u32::MAX, 5),
        };
        now.insert(row.id, (attempt, rank, row.job.state.conclusion()));
    }
    for (id, before) in &world.memory.jobs {
        let after = now.get(id).ok_or_else(|| format!("I4: job {id} is gone"))?;
        is((after.0, after.1) >= (before.0, before.1), || {
            format!("I4: job {id} went back from {before:?} to {after:?}")
        })?;
        is(before.2.is_none() || before.2 == after.2, || {
            format!("I4: job {id} was over as {:?} and is {:?}", before.2, after.2)
        })?;
    }
    world.memory.jobs = now;
    Ok(())
}

/// Of a concurrency group one run or job goes on.
fn groups(world: &World) -> Result<(), String> {
    let mut going: BTreeMap<&str, String> = BTreeMap::new();
    let mut goes_on = |group, who: String| match going.insert(group, who.clone()) {
        Some(other) => Err(format!("of group `{group}` both {other} and {who} go on")),
        None => Ok(()),
    };
    for run in world.db.runs.iter().filter(|run| run.conclusion.is_none()) {
        if let Some(group) = run.group.as_ref().filter(|_| !run.held) {
            goes_on(&group.name, format!("run {}", run.number))?;
        }
        for row in world.db.jobs_of(run.number) {
            let is_on = matches!(
                row.job.state,
                JobState::Queued { .. } | JobState::Running { .. } | JobState::Calling { .. }
            );
            if let Some(claim) = row.job.claim.as_ref().filter(|_| is_on) {
                goes_on(&claim.group.name, format!("job {} of run {}", row.id, run.number))?;
            }
        }
    }
    Ok(())
}

fn runs(world: &mut World) -> Result<(), String> {
    for run in &world.db.runs {
        let Some(conclusion) = run.conclusion else { continue };
        let key = (run.number, run.attempt);
        let before = *world.memory.over.entry(key).or_insert(conclusion);
        is(before == conclusion, || format!("I4: run {} ended twice", run.number))?;
        let open = world
            .db
            .jobs_of(run.number)
            .into_iter()
            .find(|row| row.job.state.conclusion().is_none());
        is(open.is_none(), || format!("I4: run {} is over and has an open job", run.number))?;
        is(Some(conclusion) == rolled_up(&world.db, run), || {
            format!("run {} ended as {conclusion}, which is not what its jobs say", run.number)
        })?;
    }
    Ok(())
}

/// The worst of its jobs, but for failures that may be.
fn rolled_up(db: &Db, run: &RunRow) -> Option<Conclusion> {
    let order =
        [Conclusion::Failure, Conclusion::TimedOut, Conclusion::Error, Conclusion::Cancelled];
    let ends: Vec<Conclusion> = db
        .jobs_of(run.number)
        .into_iter()
        .filter(|row| {
            !(row.job.continue_on_error && row.job.state.conclusion().is_some_and(is_red))
        })
        .filter_map(|row| row.job.state.conclusion())
        .collect();
    let worst = order.into_iter().find(|conclusion| ends.contains(conclusion));
    worst.or(Some(Conclusion::Success))
}

fn is_red(conclusion: Conclusion) -> bool {
    matches!(conclusion, Conclusion::Failure | Conclusion::TimedOut)
}

/// I5: one attempt of a job runs. I8: of its log all is taken over, once and in order. I11: nothing is tried for
/// ever, and no more runs at once than may.
fn attempts(world: &mut World) -> Result<(), String> {
    let (db, machine) = (&world.db, &world.machine);
    is(machine.doubled == 0, || "I5: an attempt was started twice".to_owned())?;
    let mut open: BTreeMap<u32, u32> = BTreeMap::new();
    for ((job, attempt), row) in &db.attempts {
        is(*attempt <= MAX_ATTEMPTS.0, || format!("I11: job {job} has attempt {attempt}"))?;
        if !row.ended {
            let other = open.insert(*job, *attempt);
            is(other.is_none(), || format!("I5: two attempts of job {job} run"))?;
        }
        let taken = world.memory.taken.insert((*job, *attempt), row.taken).unwrap_or_default();
        is(row.taken >= taken, || format!("I8: less of the log of job {job} is taken over"))?;
        let spool = machine.supervisors.get(&(*job, *attempt));
        let spool = spool.map(|supervisor| supervisor.spool.as_slice()).unwrap_or_default();
        let written =
            spool[..row.taken.min(spool.len())].iter().filter_map(|record| match record {
                Record::Step(step) => Some(*step),
                Record::Result(_) => None,
            });
        is(written.eq(row.steps.iter().copied()), || {
            format!("I8: of job {job}, attempt {attempt}, {:?} was taken over", row.steps)
        })?;
        if row.ended {
            says_what_it_wrote(db, *job, *attempt, spool)?;
        }
    }
    for (key, supervisor) in &machine.supervisors {
        is(db.attempts.contains_key(key) || !supervisor.alive, || {
            format!("I5: a supervisor of job {} runs that is not stored", key.0)
        })?;
    }
    is(open.len() <= JOBS, || format!("I11: {} jobs run at once", open.len()))
}

/// A job that is over by the word of its supervisor ended as that says.
fn says_what_it_wrote(db: &Db, job: u32, attempt: u32, spool: &[Record]) -> Result<(), String> {
    let Some(Record::Result(said)) = spool.last().copied() else { return Ok(()) };
    let of_it = |row: &&JobRow| row.id == job && row.job.state.conclusion().is_some();
    let Some(row) = db.jobs.iter().find(of_it) else { return Ok(()) };
    let is_last = db.attempts.keys().all(|(of, other)| *of != job || *other <= attempt);
    is(!is_last || row.job.state.conclusion() == Some(said), || {
        format!("I5: job {job} is {} and its supervisor said {said}", row.job.state.as_str())
    })
}

/// I6: what the code host must see is in the outbox as soon as it is true.
fn outbox(world: &World) -> Result<(), String> {
    let db = &world.db;
    let shas: BTreeSet<&Sha> = db.events.iter().filter_map(|event| event.change.sha()).collect();
    for sha in shas {
        let expected = expected(db, sha);
        for (context, state) in &expected {
            let stored = db.reports.get(&(sha.clone(), context.clone()));
            let stored = stored.map(|report| report.status.state);
            is(stored == Some(*state), || {
                format!("I6: `{context}` of {sha} is {state:?}, and the outbox has {stored:?}")
            })?;
        }
        let stored = db.reports.iter().filter(|((of, _), _)| of == sha);
        for ((_, context), report) in stored {
            if expected.contains_key(context) {
                continue;
            }
            let state = report.status.state;
            let standing = hidden(db, sha, context);
            is(standing.is_empty() || standing.contains(&state), || {
                format!("I7: `{context}` of {sha} is {state:?}, and its jobs are {standing:?}")
            })?;
            is(state != State::Pending || !standing.is_empty(), || {
                format!("I7: `{context}` of {sha} is pending, and nothing bears it any more")
            })?;
        }
    }
    Ok(())
}

/// Returns what the jobs called `context` show for which others stand, of all current attempts.
fn hidden(db: &Db, sha: &Sha, context: &str) -> Vec<State> {
    let runs = db.runs.iter().filter(|run| run.sha == *sha);
    let rows = runs.flat_map(|run| db.jobs_of(run.number));
    let hidden = rows.filter(|row| !row.job.is_shown() && row.job.name == context);
    hidden.map(|row| state_of(&row.job)).collect()
}

fn state_of(job: &Job) -> State {
    match job.state.conclusion() {
        None => State::Pending,
        Some(Conclusion::Success | Conclusion::Skipped) => State::Success,
        Some(conclusion) if is_red(conclusion) && job.continue_on_error => State::Success,
        Some(conclusion) if is_red(conclusion) => State::Failure,
        Some(_) => State::Error,
    }
}

/// What the contexts of a commit must show, by the words of the design.
fn expected(db: &Db, sha: &Sha) -> BTreeMap<String, State> {
    let worse = |one: State, other: State| {
        let rank = |state| match state {
            State::Success => 0,
            State::Error => 1,
            State::Failure => 2,
            State::Pending => 3,
        };
        if rank(one) >= rank(other) { one } else { other }
    };
    let mut contexts: BTreeMap<String, State> = BTreeMap::new();
    let mut unnamed = false;
    for run in db.runs.iter().filter(|run| run.sha == *sha) {
        let newer = db.runs.iter().any(|other| {
            other.sha == *sha
                && (&other.git_ref, other.workflow) == (&run.git_ref, run.workflow)
                && other.number > run.number
        });
        if newer {
            continue;
        }
        for row in db.jobs_of(run.number) {
            if !row.job.is_shown() {
                // The jobs that stand for it count, once they are there.
                unnamed |= row.job.state.conclusion().is_none();
                continue;
            }
            let state = state_of(&row.job);
            let known = contexts.entry(row.job.name.clone()).or_insert(state);
            *known = worse(*known, state);
        }
    }
    let no_jobs = contexts.is_empty() && !unnamed;
    let mut said = !no_jobs;
    let first = if unnamed { State::Pending } else { State::Success };
    let mut all = contexts.values().copied().fold(first, worse);
    for event in db.events.iter().filter(|event| event.change.sha() == Some(sha)) {
        let speaks = |outcome: &Outcome| {
            outcome.reason().is_none_or(|reason| reason.code != crate::outcome::NO_VERDICT)
        };
        let newer = db.events.iter().any(|other| {
            other.change.sha() == Some(sha)
                && other.change.full_ref() == event.change.full_ref()
                && other.number > event.number
                && speaks(&other.outcome)
        });
        if newer || !speaks(&event.outcome) {
            continue;
        }
        let state = match &event.outcome {
            Outcome::Pending | Outcome::Waiting(_) => State::Pending,
            Outcome::Accepted if !event.refused.is_empty() => State::Error,
            Outcome::Accepted => State::Success,
            Outcome::Dead(_) => State::Error,
            Outcome::Ignored(reason) if reason.code == "unwanted" || !no_jobs => State::Success,
            Outcome::Ignored(_) => State::Error,
        };
        all = worse(all, state);
        said = true;
    }
    if said {
        contexts.insert(ROLL_UP.to_owned(), all);
    }
    contexts
}

/// I7: an old state never takes the place of a newer one.
fn what_is_shown(world: &mut World) -> Result<(), String> {
    for (key, shown) in &world.forge.shown {
        let before = world.memory.shown.insert(key.clone(), shown.version).unwrap_or_default();
        is(shown.version >= before, || format!("I7: `{}` of {} went back", key.1, key.0))?;
    }
    Ok(())
}

/// What runs is what should: nothing of strangers without approval of that very commit, no old head of a pull
/// request, nothing that a late push takes the place of.
fn new_runs(world: &mut World) -> Result<(), String> {
    let newest = world.db.runs.iter().map(|run| run.number).max().unwrap_or_default();
    let before = std::mem::replace(&mut world.memory.runs, newest);
    for run in world.db.runs.iter().filter(|run| run.number > before) {
        if run.trust == Trust::Approved {
            is(world.db.approvals.contains(&run.sha), || {
                format!("run {} is of a commit that nobody approved", run.number)
            })?;
        }
        if let Some(number) = run.pull {
            is_of_the_newest_head(world, run, number)?;
        }
    }
    for run in &world.db.runs {
        let Some(cancel) = run.cancel.as_ref().filter(|reason| reason.code == "superseded") else {
            continue;
        };
        let by = world.db.runs.iter().find(|other| {
            cancel.text == format!("superseded by run {} of its concurrency group", other.number)
        });
        // Who has an older run done again means it to come last.
        let older = |by: &RunRow| {
            by.attempt == 1
                && by.pull.is_none()
                && by.git_ref == run.git_ref
                && world.forge.is_ancestor(&by.sha, &run.sha)
        };
        is(!by.is_some_and(older), || {
            format!("run {} was ended by one of an older push of its branch", run.number)
        })?;
    }
    Ok(())
}

fn is_of_the_newest_head(world: &World, run: &RunRow, number: i64) -> Result<(), String> {
    let heard = |delivery: &super::db::Delivery| match &delivery.change {
        Change::PullRequest(pull) if pull.number == number => Some(pull.clone()),
        _ => None,
    };
    let settled = world.db.deliveries.iter().filter(|one| one.outcome != Outcome::Pending);
    let all: Vec<PullRequest> = settled.filter_map(heard).collect();
    let event = world.db.events.iter().find(|event| event.number == run.event);
    let of_run = match event.map(|event| &event.change) {
        Some(Change::PullRequest(pull)) => pull.updated_at.clone(),
        _ => return Ok(()),
    };
    let later = all.iter().any(|pull| pull.updated_at > of_run && pull.head != run.sha);
    let true_head = world.forge.pulls.iter().any(|one| one.number == number && one.head == run.sha);
    is(!later || true_head, || {
        format!("run {} is of an old head of pull request {number}", run.number)
    })
}

/// What must be so once faults have stopped and nothing moves any more.
pub(super) fn at_rest(world: &World) -> Result<(), String> {
    let db = &world.db;
    for event in &db.events {
        is(event.outcome != Outcome::Pending, || format!("I3: event {} waits", event.number))?;
    }
    for run in &db.runs {
        is(run.conclusion.is_some(), || format!("P4: run {} never ends", run.number))?;
    }
    let waiting = |sha: &Sha| {
        db.events.iter().any(|event| {
            matches!(event.outcome, Outcome::Waiting(_)) && event.change.sha() == Some(sha)
        })
    };
    for (key, report) in &db.reports {
        if report.next_try_at == NEVER && report.sent < report.version {
            is(world.forge.refused.contains(key), || {
                format!("I7: `{}` of {} is given up, and nobody has refused it", key.1, key.0)
            })?;
            continue;
        }
        let shown = world.forge.shown.get(key);
        let is_true = shown.is_some_and(|shown| {
            shown.state == report.status.state && shown.description == report.status.description
        });
        is(is_true, || {
            format!(
                "I7: `{}` of {} is {:?}, and GitHub shows {:?}",
                key.1,
                key.0,
                report.status.state,
                shown.map(|shown| shown.state)
            )
        })?;
        is(report.status.state != State::Pending || waiting(&key.0), || {
            format!("I7: `{}` of {} is pending for ever", key.1, key.0)
        })?;
    }
    newest_heads_are_tested(world)
}

/// P3: of each open pull request whose last webhook came, the head was judged, and not as late.
fn newest_heads_are_tested(world: &World) -> Result<(), String> {
    for pull in world.forge.pulls.iter().filter(|pull| pull.open) {
        let came = world
            .db
            .deliveries
            .iter()
            .any(|one| one.body == pull.last && world.answered.contains(&one.guid));
        let judged = world.db.events.iter().any(|event| {
            matches!(&event.change, Change::PullRequest(of)
                if of.number == pull.number && of.head == pull.head)
                && !matches!(&event.outcome, Outcome::Ignored(why) if why.code == "late")
        });
        is(!came || judged, || {
            format!("P3: the head of pull request {} was heard of and is not tested", pull.number)
        })?;
    }
    Ok(())
}
