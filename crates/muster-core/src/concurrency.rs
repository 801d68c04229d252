//! Concurrency groups: of the runs and jobs of one group, one goes on and the others wait.
//!
//! Follows GitHub's
//! [concurrency](https://docs.github.com/en/actions/how-tos/write-workflows/choose-when-workflows-run/control-workflow-concurrency):
//! at most one waits, and a newer one takes its place; with `queue: max` up to a hundred wait; with `cancel-in-progress` a
//! newer one also ends the one that goes on. Group names are compared without regard to case, and are of one repository:
//! runs and jobs of all its workflows meet in them.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use muster_workflow::expr::Contexts;
use muster_workflow::workflow::{Concurrency, MAX_GROUP, Queue, Workflow};
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::run::Reason;
use crate::trust::Trust;

/// How many wait in a group at most: [as at GitHub](https://github.blog/changelog/2026-05-07-github-actions-concurrency-groups-now-allow-larger-queues).
pub const MAX_WAITING: usize = 100;

/// Who is in a group: a run, or a job of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claimant {
    /// The run's number.
    pub run: i64,
    /// The job's place in it; none for the run as a whole.
    pub job: Option<usize>,
}

impl Claimant {
    /// Names a run.
    pub fn run(number: i64) -> Self {
        Self { run: number, job: None }
    }

    /// Names a job of a run, by its place.
    pub fn job(run: i64, place: usize) -> Self {
        Self { run, job: Some(place) }
    }
}

/// A run or job in a group that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub who: Claimant,
    /// Of a job, the places of those that call the workflow which it is of.
    pub callers: Vec<usize>,
    /// How far its run is trusted.
    pub trust: Trust,
    /// When it came: a later one has a greater number.
    pub turn: i64,
    /// Whether it waits for its turn.
    pub held: bool,
    /// Whether it is to be cancelled.
    pub cancelled: bool,
    /// Whether it is over only when other jobs are: a run, or a job that calls a workflow.
    pub is_whole: bool,
}

impl Member {
    /// One that is being cancelled holds its place until it is over; one that waited gives it up.
    fn counts(&self) -> bool {
        !(self.held && self.cancelled)
    }

    /// Returns whether it is over only when the job of a run is that these call.
    fn waits_for(&self, job: Claimant, callers: &[usize]) -> bool {
        let is_around = self.who.job.is_none_or(|place| callers.contains(&place));
        self.is_whole && self.who.run == job.run && is_around
    }
}

/// A run or job that comes to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer<'c> {
    /// Who it is.
    pub who: Claimant,
    /// Of a job, the places of those that call the workflow which it is of.
    pub callers: &'c [usize],
    /// How far its run is trusted.
    pub trust: Trust,
    /// Whether its ref had moved on before it was heard of.
    pub late: bool,
}

impl Newcomer<'_> {
    /// What strangers send ends nothing of those who may push.
    fn may_end(&self, member: &Member) -> bool {
        self.trust >= Trust::Member || member.trust <= self.trust
    }
}

/// What follows when a run or job comes to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Whether the new one must wait.
    pub held: bool,
    /// Why the new one never gets its turn, where that is so.
    pub cancelled: Option<Reason>,
    /// Those that it puts an end to, and why.
    pub cancels: Vec<(Claimant, Reason)>,
}

impl Arrival {
    fn refused(reason: Reason) -> Self {
        Self { held: true, cancelled: Some(reason), cancels: Vec::new() }
    }
}

/// A concurrency group, as a run or job names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name, in lower case; a group is one of its repository.
    pub name: String,
    /// Whether its newcomers end the one that goes on.
    pub cancel_in_progress: bool,
    /// How many may wait.
    pub queue: Queue,
}

impl Group {
    /// Finds out which group `concurrency` names; an empty name is none.
    ///
    /// # Errors
    ///
    /// When one of its expressions has no value, or the name is longer than GitHub's bound or no line of text.
    pub fn of(concurrency: &Concurrency, contexts: &Contexts) -> Result<Option<Self>, String> {
        let name = concurrency.group.text(contexts).map_err(|error| error.to_string())?;
        let name = name.trim().to_lowercase();
        if name.chars().count() > MAX_GROUP || name.chars().any(char::is_control) {
            return Err(format!("the name of a group is a line of at most {MAX_GROUP} characters"));
        }
        let cancel_in_progress =
            concurrency.cancel_in_progress.get(contexts).map_err(|error| error.to_string())?;
        let group = Self { name, cancel_in_progress, queue: concurrency.queue };
        Ok(Some(group).filter(|group| !group.name.is_empty()))
    }
}

/// Returns the concurrency group of a run: the workflow's own, an empty name being none; else, for a
/// pull request, one in which a newer head ends what still runs for an older one.
///
/// # Errors
///
/// When the group's expressions have no value.
pub fn group_of(
    change: &Change,
    path: &str,
    workflow: &Workflow,
    contexts: &Contexts,
) -> Result<Option<Group>, String> {
    if let Some(concurrency) = &workflow.concurrency {
        return Group::of(concurrency, contexts);
    }
    Ok(match change {
        // No name that a workflow can write holds a newline, so the two never meet.
        Change::PullRequest(pull) => Some(Group {
            name: format!("pull request {}\n{path}", pull.number),
            cancel_in_progress: true,
            queue: Queue::Single,
        }),
        _ => None,
    })
}

/// Decides what follows when a run or job comes to a group, given all who are in a group of its repository.
pub fn arrive(members: &[(String, Member)], group: &Group, newcomer: Newcomer<'_>) -> Arrival {
    if newcomer.late {
        // It would take the place of what is newer, or come after it.
        let text = "its branch had moved on before it was heard of";
        return Arrival::refused(Reason::new("superseded", text));
    }
    if newcomer.who.job.is_some() && waits_for_itself(members, &group.name, newcomer) {
        let text = "its concurrency group is held by what waits for it to end: a deadlock";
        return Arrival::refused(Reason::new("deadlock", text));
    }
    let of_group = members.iter().filter(|(name, member)| *name == group.name && member.counts());
    let mut members: Vec<&Member> = of_group.map(|(_, member)| member).collect();
    members.sort_unstable_by_key(|member| (member.turn, member.who));
    let is_waiting = |member: &&&Member| member.held && newcomer.may_end(member);
    let waiting = members.iter().filter(is_waiting).count();
    // The newcomer is to have a place among them.
    let too_many = match group.queue {
        Queue::Single => waiting,
        Queue::Max => (waiting + 1).saturating_sub(MAX_WAITING),
    };
    let by = if newcomer.who.job.is_some() { "a job of run" } else { "run" };
    let why = format!("superseded by {by} {} of its concurrency group", newcomer.who.run);
    let replaced = members.iter().filter(is_waiting).take(too_many);
    let is_ended =
        |member: &&&Member| !member.held && group.cancel_in_progress && newcomer.may_end(member);
    let ended = members.iter().filter(is_ended);
    let mut cancels: Vec<Claimant> = replaced.chain(ended).map(|member| member.who).collect();
    cancels.sort_unstable();
    let cancels = cancels.into_iter().map(|who| (who, Reason::new("superseded", why.as_str())));
    Arrival { held: !members.is_empty(), cancelled: None, cancels: cancels.collect() }
}

/// Returns whether a job that waited for a group would wait for what is over only after the job itself: the group is held
/// by its run or by a job that calls it, or by what waits for these.
fn waits_for_itself(members: &[(String, Member)], group: &str, newcomer: Newcomer<'_>) -> bool {
    let mut groups = vec![group];
    let mut seen = BTreeSet::new();
    while let Some(group) = groups.pop() {
        let of_group = members.iter().filter(|(name, _)| name == group).map(|(_, member)| member);
        for holder in of_group.filter(|member| !member.held) {
            if holder.waits_for(newcomer.who, newcomer.callers) {
                return true;
            }
            if seen.insert(holder.who) {
                let is_within = |(_, member): &&(String, Member)| {
                    member.held && member.counts() && holder.waits_for(member.who, &member.callers)
                };
                groups.extend(members.iter().filter(is_within).map(|(group, _)| group.as_str()));
            }
        }
    }
    false
}

/// Returns those whose turn it is, of all groups, given each member with its group.
pub fn turns<'m, G: Eq + Hash>(
    members: impl IntoIterator<Item = (G, &'m Member)>,
) -> Vec<Claimant> {
    let mut groups: HashMap<G, Vec<&Member>> = HashMap::new();
    for (group, member) in members.into_iter().filter(|(_, member)| member.counts()) {
        groups.entry(group).or_default().push(member);
    }
    let mut turns: Vec<Claimant> = groups.values().filter_map(|members| next(members)).collect();
    turns.sort_unstable();
    turns
}

/// Returns whose turn it is in a group, when nobody has it.
fn next(members: &[&Member]) -> Option<Claimant> {
    if members.iter().any(|member| !member.held) {
        return None;
    }
    let first = members.iter().min_by_key(|member| (member.turn, member.who));
    first.map(|member| member.who)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(run: i64, held: bool) -> Member {
        let who = Claimant::run(run);
        let (callers, trust) = (Vec::new(), Trust::Member);
        Member { who, callers, trust, turn: run, held, cancelled: false, is_whole: true }
    }

    fn members(list: &[(i64, bool)]) -> Vec<(String, Member)> {
        list.iter().map(|(run, held)| ("g".to_owned(), member(*run, *held))).collect()
    }

    fn group(name: &str, cancel_in_progress: bool, queue: Queue) -> Group {
        Group { name: name.to_owned(), cancel_in_progress, queue }
    }

    const NEWCOMER: Newcomer<'static> = Newcomer {
        who: Claimant { run: 999, job: None },
        callers: &[],
        trust: Trust::Member,
        late: false,
    };

    fn arrives(list: &[(i64, bool)], cancel_in_progress: bool, queue: Queue) -> (bool, Vec<i64>) {
        let arrival = arrive(&members(list), &group("g", cancel_in_progress, queue), NEWCOMER);
        assert_eq!(arrival.cancelled, None);
        (arrival.held, arrival.cancels.into_iter().map(|(who, _)| who.run).collect())
    }

    #[test]
    fn one_goes_on_and_the_newest_waits() {
        let arrives = |list: &[(i64, bool)], cancel_in_progress| {
            arrives(list, cancel_in_progress, Queue::Single)
        };
        assert_eq!(arrives(&[], false), (false, vec![]));
        assert_eq!(arrives(&[(1, false)], false), (true, vec![]));
        assert_eq!(arrives(&[(1, false), (2, true)], false), (true, vec![2]));
        assert_eq!(arrives(&[(1, false), (2, true)], true), (true, vec![1, 2]));
    }

    #[test]
    fn in_a_long_queue_a_hundred_wait_and_the_oldest_gives_way() {
        let mut list = vec![(1, false)];
        list.extend((2..=100).map(|run| (run, true)));
        assert_eq!(arrives(&list, false, Queue::Max), (true, vec![]));
        list.push((101, true));
        assert_eq!(arrives(&list, false, Queue::Max), (true, vec![2]));
    }

    #[test]
    fn what_comes_late_ends_nothing_that_is_newer() {
        let newcomer = Newcomer { late: true, ..NEWCOMER };
        let group = group("g", true, Queue::Single);
        let arrival = arrive(&members(&[(1, false)]), &group, newcomer);
        assert!(arrival.held && arrival.cancels.is_empty());
        assert_eq!(arrival.cancelled.unwrap().code, "superseded");
    }

    #[test]
    fn the_turn_passes_on_when_nobody_has_it() {
        let turns = |list: &[(i64, bool)]| {
            let members = members(list);
            let turns = turns(members.iter().map(|(group, member)| (group, member)));
            turns.into_iter().map(|who| who.run).collect::<Vec<_>>()
        };
        assert!(turns(&[(1, false), (2, true)]).is_empty());
        assert_eq!(turns(&[(3, true), (2, true)]), [2]);
        assert!(turns(&[]).is_empty());
    }

    #[test]
    fn what_strangers_send_ends_nothing_of_those_who_may_push() {
        let newcomer = Newcomer { trust: Trust::Approved, ..NEWCOMER };
        let mut members = members(&[(1, false), (2, true), (3, true)]);
        members[2].1.trust = Trust::Approved;
        let arrival = arrive(&members, &group("g", true, Queue::Single), newcomer);
        assert!(arrival.held);
        assert_eq!(arrival.cancels.iter().map(|(who, _)| who.run).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn nobody_waits_for_what_waits_for_it() {
        let job = |run, place, callers: &[usize], held, is_whole| {
            let who = Claimant::job(run, place);
            let (turn, callers) = (10, callers.to_vec());
            Member { who, callers, turn, is_whole, ..member(run, held) }
        };
        let comes = |members: &[(&str, Member)], name: &str, run, callers| {
            let owned = |(group, member): &(&str, Member)| ((*group).to_owned(), member.clone());
            let members: Vec<_> = members.iter().map(owned).collect();
            let newcomer = Newcomer { who: Claimant::job(run, 7), callers, ..NEWCOMER };
            arrive(&members, &group(name, false, Queue::Single), newcomer).cancelled
        };
        // Its own run has the group, or a job that calls it; but not another job of it, or another run.
        assert!(comes(&[("a", member(1, false))], "a", 1, &[]).is_some());
        let call = ("a", job(1, 0, &[], false, true));
        assert!(comes(std::slice::from_ref(&call), "a", 1, &[0]).is_some());
        assert_eq!(comes(std::slice::from_ref(&call), "a", 1, &[]), None);
        assert_eq!(comes(&[("a", job(1, 0, &[], false, false))], "a", 1, &[]), None);
        assert_eq!(comes(&[("a", member(2, false))], "a", 1, &[]), None);
        // Run 1 has `a`, and a job of run 2, which has `b`, waits for that.
        let waits = ("a", job(2, 0, &[], true, false));
        let crossed = [("a", member(1, false)), ("b", member(2, false)), waits];
        assert_eq!(comes(&crossed, "b", 1, &[]).unwrap().code, "deadlock");
        assert_eq!(comes(&crossed, "b", 3, &[]), None);
        // The same with jobs that call; what another job of run 2 waits for does not hold up its call.
        let crossed = |callers| {
            [
                call.clone(),
                ("b", job(2, 4, &[], false, true)),
                ("a", job(2, 5, callers, true, false)),
            ]
        };
        assert!(comes(&crossed(&[4]), "b", 1, &[0]).is_some());
        assert_eq!(comes(&crossed(&[]), "b", 1, &[0]), None);
        assert_eq!(comes(&crossed(&[4]), "b", 1, &[]), None);
    }
}
