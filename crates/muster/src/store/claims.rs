//! Concurrency groups: which runs and jobs are in them, and whose turn it is.
//!
//! Who comes to a group finds out in one transaction who is there. Only the loop that moves runs gives turns, and looks once
//! more in the transaction that does.

use muster_core::concurrency::{Arrival, Claimant, Group, Member, Newcomer, arrive, turns};
use muster_core::id::RepoId;
use muster_core::run::{self, Job, Reason, Work};
use sqlx::{AnyConnection, FromRow};

use super::{Store, StoreError, read_trust, repositories};

/// A run or job in a group that is not over.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// Its repository and the group's name.
    pub(crate) group: (String, String),
    pub(crate) member: Member,
    /// The id of the run, or of the run that the job is of.
    pub(crate) run_id: String,
    /// Why it is to end for another, where that is so.
    pub(crate) cancel: Option<Reason>,
}

#[derive(FromRow)]
struct Row {
    repository_id: String,
    name: String,
    run_id: String,
    run: i64,
    /// -1 for the run as a whole.
    place: i64,
    trust: String,
    turn: i64,
    held: i64,
    /// The engine's job; none for a run.
    job: Option<String>,
    cancel_code: Option<String>,
    cancel_text: Option<String>,
}

impl Row {
    fn read(self) -> Result<Claim, StoreError> {
        let row = self;
        let job: Option<Job> = row
            .job
            .as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(StoreError::unreadable("job"))?;
        let claim = job.as_ref().and_then(|job| job.claim.as_ref());
        let member = Member {
            who: Claimant { run: row.run, job: usize::try_from(row.place).ok() },
            callers: claim.map(|claim| claim.callers.clone()).unwrap_or_default(),
            trust: read_trust(&row.trust)?,
            turn: row.turn,
            held: row.held != 0,
            cancelled: row.cancel_code.is_some(),
            is_whole: job.is_none_or(|job| job.work != Work::Steps),
        };
        let cancel = row.cancel_code.zip(row.cancel_text);
        let cancel = cancel.map(|(code, text)| Reason::new(&code, text));
        Ok(Claim { group: (row.repository_id, row.name), member, run_id: row.run_id, cancel })
    }
}

/// Writes the query for the members of groups, of one repository, `$1`, or of all.
fn members(of_one: bool) -> String {
    let only = if of_one { " AND r.repository_id = $1" } else { "" };
    format!(
        "SELECT r.repository_id, r.concurrency_group AS name, r.id AS run_id, r.number AS run, \
         CAST(-1 AS BIGINT) AS place, r.trust, r.turn, r.held, CAST(NULL AS TEXT) AS job, r.cancel_code, \
         r.cancel_text \
         FROM runs r WHERE r.conclusion IS NULL AND r.concurrency_group IS NOT NULL{only} \
         UNION ALL \
         SELECT r.repository_id, j.concurrency_group, r.id, r.number, j.place, r.trust, j.turn, j.held, j.job, \
         j.cancel_code, j.cancel_text \
         FROM runs r JOIN jobs j ON j.run_id = r.id AND j.run_attempt = r.attempt \
         WHERE r.conclusion IS NULL AND j.concurrency_group IS NOT NULL AND j.status <> 'finished'{only}"
    )
}

async fn members_of(
    db: &mut AnyConnection,
    repository: &RepoId,
) -> Result<Vec<(String, Member)>, StoreError> {
    let query = sqlx::query_as(sqlx::AssertSqlSafe(members(true)));
    let rows: Vec<Row> = query.bind(repository.as_str()).fetch_all(db).await?;
    let claims = rows.into_iter().map(Row::read);
    claims.map(|claim| claim.map(|claim| (claim.group.1, claim.member))).collect()
}

/// Brings a run or job to a group of its repository: ends those whose place it takes. Returns what follows for it, and its
/// turn.
pub(super) async fn join(
    db: &mut AnyConnection,
    repository: &RepoId,
    group: &Group,
    newcomer: Newcomer<'_>,
) -> Result<(Arrival, i64), StoreError> {
    repositories::hold(db, &[repository.as_str()]).await?;
    let mut members = members_of(db, repository).await?;
    members.retain(|(_, member)| member.who != newcomer.who);
    let arrival = arrive(&members, group, newcomer);
    // It is the last that has come: who comes next waits until this is stored.
    let turn = members.iter().map(|(_, member)| member.turn).max().unwrap_or(0) + 1;
    for (other, reason) in &arrival.cancels {
        let query = match other.job {
            None => sqlx::query(
                "UPDATE runs SET cancel_code = $2, cancel_text = $3 \
                 WHERE number = $1 AND cancel_code IS NULL",
            ),
            Some(_) => sqlx::query(
                "UPDATE jobs SET cancel_code = $2, cancel_text = $3 WHERE place = $4 AND cancel_code IS NULL \
                 AND id IN (SELECT j.id FROM jobs j JOIN runs r ON r.id = j.run_id \
                 AND r.attempt = j.run_attempt WHERE r.number = $1)",
            ),
        };
        let query = query.bind(other.run).bind(reason.code.as_str()).bind(reason.text.as_str());
        let query = match other.job {
            None => query,
            Some(place) => query.bind(i64::try_from(place).unwrap_or(i64::MAX)),
        };
        query.execute(&mut *db).await?;
    }
    Ok((arrival, turn))
}

/// Brings a job to its group, unless it has come there already.
pub(super) async fn seat(
    db: &mut AnyConnection,
    repository: &RepoId,
    job_id: &str,
    claim: &run::Claim,
) -> Result<(), StoreError> {
    let row: Option<(i64, i64, String)> = sqlx::query_as(
        "SELECT r.number, j.place, r.trust FROM jobs j JOIN runs r ON r.id = j.run_id \
         WHERE j.id = $1 AND j.concurrency_group IS NULL",
    )
    .bind(job_id)
    .fetch_optional(&mut *db)
    .await?;
    let Some((run, place, trust)) = row else { return Ok(()) };
    let group = &claim.group;
    let newcomer = Newcomer {
        who: Claimant { run, job: usize::try_from(place).ok() },
        callers: &claim.callers,
        trust: read_trust(&trust)?,
        late: false,
    };
    let (arrival, turn) = join(db, repository, group, newcomer).await?;
    let (code, text) = arrival.cancelled.map(|reason| (reason.code, reason.text)).unzip();
    sqlx::query(
        "UPDATE jobs SET concurrency_group = $2, turn = $3, held = $4, cancel_code = $5, cancel_text = $6 \
         WHERE id = $1",
    )
    .bind(job_id)
    .bind(group.name.as_str())
    .bind(turn)
    .bind(i64::from(arrival.held))
    .bind(code)
    .bind(text)
    .execute(db)
    .await?;
    Ok(())
}

impl Store {
    /// Returns all who are in a group.
    pub(crate) async fn claims(&self) -> Result<Vec<Claim>, StoreError> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(members(false)));
        let rows: Vec<Row> = query.fetch_all(self.reads()).await?;
        rows.into_iter().map(Row::read).collect()
    }

    /// Gives a run or job its turn in its group, if it still is that.
    pub(crate) async fn give_turn(
        &self,
        repository: RepoId,
        who: Claimant,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                repositories::hold(db, &[repository.as_str()]).await?;
                let members = members_of(db, &repository).await?;
                if !turns(members.iter().map(|(group, member)| (group, member))).contains(&who) {
                    return Ok(());
                }
                let query = match who.job {
                    None => sqlx::query("UPDATE runs SET held = 0 WHERE number = $1"),
                    Some(_) => sqlx::query(
                        "UPDATE jobs SET held = 0 WHERE place = $2 AND id IN (SELECT j.id FROM jobs j \
                         JOIN runs r ON r.id = j.run_id AND r.attempt = j.run_attempt WHERE r.number = $1)",
                    ),
                };
                let query = query.bind(who.run);
                let query = match who.job {
                    None => query,
                    Some(place) => query.bind(i64::try_from(place).unwrap_or(i64::MAX)),
                };
                query.execute(db).await?;
                Ok(())
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;

    /// The runs of a repository are as many as it has ever had, and who comes to a group holds all other writers.
    #[tokio::test]
    async fn who_comes_to_a_group_walks_no_run_that_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(None, &folder.path().join("muster.db"), folder.path()).await;
        let plan = format!("EXPLAIN QUERY PLAN {}", members(true));
        let plan = sqlx::query(sqlx::AssertSqlSafe(plan)).bind("repository");
        let plan = plan.fetch_all(store.unwrap().reads()).await.unwrap();
        let of_runs = plan.iter().map(|line| line.get::<String, _>("detail"));
        let of_runs: Vec<_> = of_runs.filter(|detail| detail.contains(" r ")).collect();
        assert_eq!(of_runs, ["SEARCH r USING INDEX runs_going (repository_id=?)"; 2]);
    }
}
