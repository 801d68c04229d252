//! What the world is told of a commit: one status for each context, folded from all that bears on it.
//!
//! A context is a job's display name, as GitHub names the check of that job, so that required checks
//! keep working. One more, [`ROLL_UP`], is there from the receipt on, rolls all up, and carries what
//! has no job.

use muster_workflow::text::one_line;

use crate::outcome::{NO_VERDICT, Outcome, UNWANTED};
use crate::run::{Conclusion, Job, JobState, Work};

/// The context that rolls up all others.
pub const ROLL_UP: &str = "muster";

/// What stands before the names of jobs of a repository in shadow.
pub const SHADOW_PREFIX: &str = "muster / ";

/// GitHub's bound on a description, in characters.
const MAX_DESCRIPTION: usize = 140;

/// What a context shows. The order is that of the fold: a later one hides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Green.
    Success,
    /// It could not be run, or not to its end.
    Error,
    /// Red.
    Failure,
    /// Not over yet.
    Pending,
}

impl State {
    /// Reads GitHub's word.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Success, Self::Error, Self::Failure, Self::Pending];
        all.into_iter().find(|state| state.as_str() == word)
    }

    /// Returns GitHub's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Failure => "failure",
            Self::Pending => "pending",
        }
    }
}

/// What one context of a commit shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The context.
    pub context: String,
    /// The state.
    pub state: State,
    /// A sentence of at most 140 characters.
    pub description: String,
    /// The number of the run that decides it, where one does.
    pub run: Option<i64>,
}

impl Status {
    /// Returns what a context shows that nothing bears any more.
    pub fn superseded(context: String) -> Self {
        let why = if context == ROLL_UP {
            "Nothing of this commit is to be tested any more"
        } else {
            "Superseded by a newer run of this commit"
        };
        let description = why.to_owned();
        Self { context, state: State::Error, description, run: None }
    }
}

/// A job that bears on a commit: of the current attempt of its run.
#[derive(Debug, Clone)]
pub struct JobFact {
    /// Its display name.
    pub name: String,
    /// The number of its run.
    pub run: i64,
    /// Where it stands.
    pub state: JobState,
    /// Whether it may fail.
    pub continue_on_error: bool,
    /// Whether its run waits for its turn in a concurrency group.
    pub held: bool,
    /// Whether its repository is in shadow: another CI publishes the same names.
    pub shadow: bool,
}

/// A run for a commit, with the jobs of its current attempt.
#[derive(Debug, Clone)]
pub struct RunFact {
    /// Its number.
    pub number: i64,
    /// The ref that it is for.
    pub git_ref: String,
    /// Its workflow file.
    pub path: String,
    /// Whether it waits for its turn in a concurrency group.
    pub held: bool,
    /// Whether its repository was in shadow.
    pub shadow: bool,
    /// The jobs, in the order of the plan.
    pub jobs: Vec<Job>,
}

/// An event that brought a commit, and what became of it.
#[derive(Debug, Clone)]
pub struct EventFact {
    /// Its number: later events have greater ones.
    pub number: i64,
    /// The ref that it is about.
    pub git_ref: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The workflow files of it that were refused, with the first problem of each.
    pub refused: Vec<(String, String)>,
}

/// All that bears on a commit.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The jobs that bear on it and have their names.
    pub jobs: Vec<JobFact>,
    /// The jobs for which others stand, or will.
    pub hidden: Vec<JobFact>,
    /// How many of them others are still to stand for: what these will be called is not known yet.
    pub unnamed: usize,
    /// Workflow files that were refused, with the first problem of each.
    pub refused: Vec<(String, String)>,
    /// What became of the events that brought it.
    pub events: Vec<Outcome>,
}

impl Facts {
    /// Takes what bears on a commit from all that there is of it: of each ref that it was at, the last event
    /// that says anything of it, and the last run of each file. So a pull request that is opened again can
    /// turn green.
    pub fn of(mut events: Vec<EventFact>, mut runs: Vec<RunFact>) -> Self {
        events.retain(|event| event.outcome.reason().is_none_or(|r| r.code != NO_VERDICT));
        events.sort_by_key(|event| event.number);
        runs.sort_by_key(|run| run.number);
        let is_last = |event: &EventFact| {
            events.iter().all(|o| o.git_ref != event.git_ref || o.number <= event.number)
        };
        let last: Vec<&EventFact> = events.iter().filter(|event| is_last(event)).collect();
        let mut refused: Vec<_> = last.iter().flat_map(|event| event.refused.clone()).collect();
        refused.sort();
        refused.dedup();
        let same = |one: &RunFact, other: &RunFact| {
            (&one.git_ref, &one.path) == (&other.git_ref, &other.path)
        };
        let last_runs =
            runs.iter().filter(|run| runs.iter().all(|o| !same(o, run) || o.number <= run.number));
        let waits = |job: &&Job| {
            !job.is_shown() && job.work != Work::Called && job.state.conclusion().is_none()
        };
        let unnamed = last_runs.clone().flat_map(|run| run.jobs.iter().filter(waits)).count();
        let facts = last_runs.flat_map(|run| {
            run.jobs.iter().map(|job| {
                let fact = JobFact {
                    name: job.name.clone(),
                    run: run.number,
                    state: job.state.clone(),
                    continue_on_error: job.continue_on_error,
                    held: run.held,
                    shadow: run.shadow,
                };
                (job.is_shown(), fact)
            })
        });
        let (jobs, hidden): (Vec<_>, Vec<_>) = facts.partition(|(is_shown, _)| *is_shown);
        let of = |facts: Vec<(bool, JobFact)>| facts.into_iter().map(|(_, fact)| fact).collect();
        let events = last.iter().map(|event| event.outcome.clone()).collect();
        Self { jobs: of(jobs), hidden: of(hidden), unnamed, refused, events }
    }
}

/// Returns what has changed of a commit's statuses: those that differ from what is stored, and those that
/// nothing bears any more. Stored together with what changed them.
pub fn changes(stored: &[Status], facts: &Facts) -> Vec<Status> {
    let now = statuses(facts);
    let is_in = |statuses: &[Status], context: &str| statuses.iter().any(|s| s.context == context);
    // An earlier attempt said something of a job for which others stand in this one: it says how it goes.
    let mut hidden: Vec<Status> = Vec::new();
    for status in facts.hidden.iter().map(of_job) {
        let is_told = is_in(stored, &status.context) && !is_in(&now, &status.context);
        if is_told && !is_in(&hidden, &status.context) {
            hidden.push(status);
        }
    }
    // A newer run of the commit has other names.
    let gone = stored
        .iter()
        .filter(|old| old.state == State::Pending)
        .filter(|old| !is_in(&now, &old.context) && !is_in(&hidden, &old.context))
        .map(|old| Status::superseded(old.context.clone()));
    let changed = now.iter().chain(&hidden).filter(|new| !stored.contains(new)).cloned();
    changed.chain(gone).collect()
}

/// Folds all that bears on a commit into its statuses; the roll-up is the last. Of a commit that nothing bears on
/// nothing is said, least of all that it is green.
pub fn statuses(facts: &Facts) -> Vec<Status> {
    let has_jobs = !facts.jobs.is_empty() || facts.unnamed > 0;
    if !has_jobs && facts.refused.is_empty() && facts.events.is_empty() {
        return Vec::new();
    }
    let mut statuses: Vec<Status> = Vec::new();
    for job in &facts.jobs {
        let status = of_job(job);
        match statuses.iter_mut().find(|known| known.context == status.context) {
            Some(known) if known.state >= status.state => {}
            Some(known) => *known = status,
            None => statuses.push(status),
        }
    }
    statuses.push(roll_up(facts, &statuses));
    statuses
}

fn of_job(job: &JobFact) -> Status {
    let (state, text) = match &job.state {
        JobState::Waiting if job.held => {
            (State::Pending, "Waiting for another run of its concurrency group".to_owned())
        }
        JobState::Waiting => (State::Pending, "Waiting for other jobs".to_owned()),
        JobState::Pending { .. } => {
            (State::Pending, "Waiting for its turn in its concurrency group".to_owned())
        }
        JobState::Queued { .. } => (State::Pending, "Waiting for a runner".to_owned()),
        JobState::Running { stopping: Some(reason), .. }
        | JobState::Calling { stopping: Some(reason) } => {
            (State::Pending, format!("Stopping: {reason}"))
        }
        JobState::Running { .. } | JobState::Calling { .. } => {
            (State::Pending, "Running".to_owned())
        }
        JobState::Finished { conclusion, reason } => {
            let (state, word) = match conclusion {
                Conclusion::Success => (State::Success, "Successful"),
                Conclusion::Skipped => (State::Success, "Skipped"),
                Conclusion::Failure if job.continue_on_error => {
                    (State::Success, "Failed, and may fail")
                }
                Conclusion::TimedOut if job.continue_on_error => {
                    (State::Success, "Timed out, and may fail")
                }
                Conclusion::Failure => (State::Failure, "Failed"),
                Conclusion::TimedOut => (State::Failure, "Timed out"),
                Conclusion::Cancelled => (State::Error, "Cancelled"),
                Conclusion::Error => (State::Error, "Not run"),
            };
            let text = match reason {
                Some(reason) => format!("{word}: {reason}"),
                None => word.to_owned(),
            };
            (state, text)
        }
    };
    // The same name from two sides would block what requires it.
    let prefix = if job.shadow { SHADOW_PREFIX } else { "" };
    Status {
        context: format!("{prefix}{}", job.name),
        state,
        description: cut(&text),
        run: Some(job.run),
    }
}

fn roll_up(facts: &Facts, jobs: &[Status]) -> Status {
    let mut state = State::Success;
    let mut said = Vec::new();
    let mut say = |new: State, text: String| {
        state = state.max(new);
        said.push(text);
    };
    let count = |state: State| jobs.iter().filter(|job| job.state == state).count();
    let open = facts.events.iter().any(|event| matches!(event, Outcome::Pending));
    if open {
        say(State::Pending, "Received".to_owned());
    }
    for (state, word) in [
        (State::Pending, "open"),
        (State::Failure, "failed"),
        (State::Error, "not run to the end"),
        (State::Success, "successful"),
    ] {
        let names: Vec<&str> =
            jobs.iter().filter(|job| job.state == state).map(|job| job.context.as_str()).collect();
        let unnamed = if state == State::Pending { facts.unnamed } else { 0 };
        match (count(state) + unnamed, state) {
            (0, _) => {}
            (1, State::Failure | State::Error) => say(state, format!("{word}: {}", names[0])),
            (many, _) => say(state, format!("{many} {word}")),
        }
    }
    for (path, problem) in &facts.refused {
        say(State::Error, format!("{path}: {problem}"));
    }
    for event in &facts.events {
        match event {
            Outcome::Pending | Outcome::Accepted => {}
            Outcome::Waiting(reason) => say(State::Pending, reason.text.clone()),
            Outcome::Dead(reason) => say(State::Error, reason.text.clone()),
            Outcome::Ignored(reason) => {
                // That no workflow wants a change is fine; that none could have wanted it is not.
                let state = if reason.code == UNWANTED { State::Success } else { State::Error };
                if jobs.is_empty() && facts.unnamed == 0 {
                    say(state, reason.text.clone());
                }
            }
        }
    }
    said.dedup();
    let description = cut(&said.join(", "));
    let run = jobs.iter().find(|job| job.state == state).or(jobs.first()).and_then(|job| job.run);
    Status { context: ROLL_UP.to_owned(), state, description, run }
}

/// Cuts a description to GitHub's bound, at a character.
fn cut(text: &str) -> String {
    let text = &one_line(text);
    if text.chars().count() <= MAX_DESCRIPTION {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(MAX_DESCRIPTION - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::id::Attempt;
    use crate::run::Reason;

    fn job(name: &str, state: JobState) -> JobFact {
        JobFact {
            name: name.to_owned(),
            run: 7,
            state,
            continue_on_error: false,
            held: false,
            shadow: false,
        }
    }

    fn finished(conclusion: Conclusion, reason: Option<&str>) -> JobState {
        JobState::finished(conclusion, reason.map(|text| Reason::new("x", text)))
    }

    fn told(facts: &Facts) -> String {
        let lines = statuses(facts).into_iter();
        lines
            .map(|s| format!("{}: {} ({})\n", s.context, s.state.as_str(), s.description))
            .collect()
    }

    #[test]
    fn a_commit_is_pending_from_its_receipt_on() {
        let facts = Facts { events: vec![Outcome::Pending], ..Facts::default() };
        assert_snapshot!(told(&facts), @"muster: pending (Received)");
    }

    #[test]
    fn a_job_that_was_cancelled_before_it_called_turns_green_with_what_it_calls() {
        use muster_workflow::expr::Contexts;
        use muster_workflow::{Workflows, plan, read};
        let text = "on: push\njobs:\n  call: {uses: ./.github/workflows/a.yml}\n";
        let workflows = Workflows::alone(read(text).unwrap());
        let planned = plan(workflows.root(), &Contexts::new()).unwrap();
        let of = |work: Work, state: JobState| {
            let job = Job { work, state, ..Job::new(&planned[0]) };
            let (git_ref, path) = ("refs/heads/main".to_owned(), "ci.yml".to_owned());
            let run =
                RunFact { number: 1, git_ref, path, held: false, shadow: false, jobs: vec![job] };
            Facts::of(Vec::new(), vec![run])
        };
        let mut stored: Vec<Status> = Vec::new();
        let mut told = |facts: &Facts| {
            let changes = changes(&stored, facts);
            for change in changes {
                stored.retain(|known| known.context != change.context);
                stored.push(change);
            }
            let call = stored.iter().find(|status| status.context == "call");
            call.map(|status| (status.state, status.description.clone()))
        };
        assert_eq!(told(&of(Work::Call, JobState::Waiting)), None);
        let cancelled = JobState::finished(Conclusion::Cancelled, None);
        assert_eq!(told(&of(Work::Call, cancelled)).unwrap().0, State::Error);
        let calling = JobState::Calling { stopping: None };
        assert_eq!(told(&of(Work::Called, calling)).unwrap().0, State::Pending);
        let green = JobState::finished(Conclusion::Success, None);
        assert_eq!(told(&of(Work::Called, green)).unwrap().0, State::Success);
    }

    /// A pull request that was closed before anything else was heard of it.
    #[test]
    fn what_nothing_was_said_of_is_not_green() {
        let closed = Outcome::Ignored(Reason::new(NO_VERDICT, "closing starts nothing"));
        let event = |outcome| EventFact {
            number: 1,
            git_ref: "refs/pull/1/merge".to_owned(),
            outcome,
            refused: Vec::new(),
        };
        let received = statuses(&Facts::of(vec![event(Outcome::Pending)], Vec::new()));
        let told = changes(&received, &Facts::of(vec![event(closed)], Vec::new()));
        assert_eq!((told.len(), told[0].state), (1, State::Error));
    }

    #[test]
    fn each_job_is_a_context_and_the_worst_of_one_name_counts() {
        let jobs = vec![
            job("test", finished(Conclusion::Success, None)),
            job("test", finished(Conclusion::Failure, None)),
            job("lint", finished(Conclusion::Skipped, Some("its `if` is false"))),
            job("docs", JobState::Running { attempt: Attempt::FIRST, stopping: None }),
            job("slow", finished(Conclusion::TimedOut, None)),
            job("gone", finished(Conclusion::Cancelled, Some("superseded"))),
        ];
        let facts = Facts { jobs, events: vec![Outcome::Accepted], ..Facts::default() };
        assert_snapshot!(told(&facts), @"
        test: failure (Failed)
        lint: success (Skipped: its `if` is false)
        docs: pending (Running)
        slow: failure (Timed out)
        gone: error (Cancelled: superseded)
        muster: pending (1 open, 2 failed, not run to the end: gone, 1 successful)
        ");
    }

    #[test]
    fn what_has_no_job_is_carried_by_the_roll_up() {
        let refused =
            vec![(".github/workflows/a.yml".to_owned(), "line 3: ".to_owned() + &"é".repeat(200))];
        let facts = Facts { refused, events: vec![Outcome::Accepted], ..Facts::default() };
        let told = statuses(&facts);
        assert_eq!((told[0].state, told[0].description.chars().count()), (State::Error, 140));
        for (code, state) in [("unwanted", "success"), ("skip-mark", "error"), ("nothing", "error")]
        {
            let events = vec![Outcome::Ignored(Reason::new(code, "why"))];
            let facts = Facts { events, ..Facts::default() };
            assert_eq!(super::statuses(&facts)[0].state.as_str(), state);
        }
    }
}
