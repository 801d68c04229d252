//! `needs`: what is between jobs.

use std::collections::HashMap;

use super::Reader;
use crate::diagnostic::{Problem, Rule, Span};
use crate::token::Places;
use crate::words::nearest;

/// A job and what it needs, each with its place.
pub(super) struct Needing {
    pub(super) id: String,
    pub(super) span: Span,
    pub(super) needs: Vec<(String, Span)>,
}

impl Reader {
    /// Checks `needs`: known jobs, no cycle, a job to begin with.
    pub(super) fn needs(&mut self, jobs: &[Needing], span: Span) {
        let places: HashMap<String, usize> = jobs
            .iter()
            .enumerate()
            .map(|(place, job)| (job.id.to_ascii_lowercase(), place))
            .collect();
        let mut known = Vec::new();
        for job in jobs {
            let mut of = Vec::new();
            for (need, at) in &job.needs {
                match places.get(&need.to_ascii_lowercase()) {
                    Some(place) => of.push((*place, *at)),
                    None => {
                        let message = format!(
                            "job `{}` needs job `{need}`, which is not in this file",
                            job.id
                        );
                        let problem = Problem::invalid(*at, message).of(Rule::JobNeeds);
                        // A hint is looked for only as long as somebody may read it.
                        let is_read = self.problems.len() < super::MAX_PROBLEMS;
                        let ids = jobs.iter().map(|job| job.id.as_str()).filter(|_| is_read);
                        self.problems.push(match nearest(need, ids) {
                            Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
                            None => problem,
                        });
                    }
                }
            }
            known.push(of);
        }
        if self.places == Places::Texts {
            return self.stuck(jobs, &known, span);
        }
        // One cycle is one problem, not one for each job on it.
        for cycle in cycles(&known) {
            let names: Vec<&str> =
                cycle.iter().map(|(place, _)| jobs[*place].id.as_str()).take(MAX_NAMED).collect();
            let dots = if cycle.len() > MAX_NAMED { "… needs " } else { "" };
            let message = format!(
                "job `{}` needs itself: {} needs {dots}{}",
                names[0],
                names.join(" needs "),
                names[0]
            );
            let (job, need) = cycle[0];
            let span = if self.places == Places::Linted { jobs[job].span } else { need };
            self.problems.push(Problem::invalid(span, message).of(Rule::JobNeeds));
        }
    }

    /// Says, as GitHub does, each need of a job that can never begin because of a cycle.
    fn stuck(&mut self, jobs: &[Needing], known: &[Vec<(usize, Span)>], span: Span) {
        if jobs.iter().all(|job| !job.needs.is_empty()) {
            return self.invalid(span, "each job needs another, so that none can begin");
        }
        let mut done: Vec<bool> = jobs.iter().map(|job| job.needs.is_empty()).collect();
        let unknown = |place: usize| known[place].len() < jobs[place].needs.len();
        loop {
            let next = (0..jobs.len()).find(|place| {
                !done[*place]
                    && !unknown(*place)
                    && known[*place].iter().all(|(need, _)| done[*need])
            });
            let Some(next) = next else { break };
            done[next] = true;
        }
        for place in (0..jobs.len()).filter(|place| !done[*place]) {
            for (need, at) in known[place].iter().filter(|(need, _)| !done[*need]) {
                let message = format!(
                    "job `{}` waits for job `{}`, which can never begin",
                    jobs[place].id, jobs[*need].id
                );
                self.problems.push(Problem::invalid(*at, message).of(Rule::JobNeeds));
            }
        }
    }
}

/// So many jobs of a cycle are named.
const MAX_NAMED: usize = 20;

/// Returns the jobs of each cycle, each with the place of the need that leads on from it; of cycles that share a job
/// the first. Not recursive: a chain may be as long as the file.
fn cycles(needs: &[Vec<(usize, Span)>]) -> Vec<Vec<(usize, Span)>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Not,
        /// At this place of the path.
        OnPath(usize),
        Done,
    }
    let mut seen = vec![Seen::Not; needs.len()];
    let mut is_told = vec![false; needs.len()];
    let mut cycles = Vec::new();
    for start in 0..needs.len() {
        if seen[start] != Seen::Not {
            continue;
        }
        seen[start] = Seen::OnPath(0);
        let mut path = vec![(start, 0)];
        while let Some((job, next)) = path.last_mut() {
            let Some((need, _)) = needs[*job].get(*next).copied() else {
                seen[*job] = Seen::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match seen[need] {
                Seen::Done => {}
                Seen::Not => {
                    seen[need] = Seen::OnPath(path.len());
                    path.push((need, 0));
                }
                Seen::OnPath(from) => {
                    let on = &path[from..];
                    if !on.iter().rev().any(|(job, _)| is_told[*job]) {
                        on.iter().for_each(|(job, _)| is_told[*job] = true);
                        let on = on.iter();
                        cycles
                            .push(on.map(|(job, next)| (*job, needs[*job][next - 1].1)).collect());
                    }
                }
            }
        }
    }
    cycles
}
