//! One server for each database.
//!
//! A SQLite database lies in the data folder, which is locked. In PostgreSQL a lock of a session that
//! lives as long as the server says that it is there; PostgreSQL lets it go when that session ends,
//! however it ends. A server that lost its session takes the lock again, or ends when another has it.

use std::time::Duration;

use sqlx::{AnyConnection, Connection as _, Executor as _};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::StoreError;
use crate::task;

/// The lock's number: "muster" in ASCII.
const LOCK: i64 = 0x6d75_7374_6572;
/// The session of a server that was killed is gone after a moment.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);
/// A database that does not answer for so long is away.
const ANSWER: Duration = Duration::from_secs(10);
/// How often the session is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// The session that holds the lock.
#[derive(Debug, Clone)]
pub(super) struct Alone {
    overtaken: watch::Receiver<bool>,
    keeper: AbortHandle,
}

impl Alone {
    /// Takes the lock of the PostgreSQL database at `url`, and keeps it until [`Self::let_go`] or the end of this
    /// process.
    ///
    /// # Errors
    ///
    /// When another server has it.
    pub(super) async fn take(url: &str) -> Result<Self, StoreError> {
        let mut session = Session::open(url).await?;
        if !session.lock(None).await? {
            return Err(StoreError::Taken);
        }
        let (lost, overtaken) = watch::channel(false);
        let keeper = task::spawn("alone", keep(url.to_owned(), session, lost)).abort_handle();
        Ok(Self { overtaken, keeper })
    }

    /// Ends the session: another server may start.
    pub(super) fn let_go(&self) {
        self.keeper.abort();
    }

    /// Waits until another server has the lock.
    pub(super) async fn overtaken(mut self) {
        if self.overtaken.wait_for(|overtaken| *overtaken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A session of PostgreSQL, and the process that serves it there.
struct Session {
    connection: AnyConnection,
    process: i32,
}

impl Session {
    async fn open(url: &str) -> Result<Self, sqlx::Error> {
        let connecting = AnyConnection::connect(url);
        let mut connection = timeout(ANSWER, connecting).await.map_err(timed_out)??;
        // A client that is gone without a word is found in half a minute, not in two hours.
        let keepalive = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; \
                         SET tcp_keepalives_count = 3";
        connection.execute(keepalive).await?;
        let process =
            sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        Ok(Self { connection, process })
    }

    async fn is_alive(&mut self) -> bool {
        matches!(timeout(ANSWER, self.connection.ping()).await, Ok(Ok(())))
    }

    /// Takes the lock; returns false where somebody else has it. A session `ours` that PostgreSQL takes for
    /// alive and is dead to us is ended.
    async fn lock(&mut self, ours: Option<i32>) -> Result<bool, sqlx::Error> {
        let patient = async {
            loop {
                let query = "SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END";
                let taken: i32 =
                    sqlx::query_scalar(query).bind(LOCK).fetch_one(&mut self.connection).await?;
                if taken == 1 {
                    return Ok(true);
                }
                if let Some(ours) = ours {
                    sqlx::query(
                        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_locks \
                         WHERE locktype = 'advisory' AND granted AND pid = $1 \
                         AND (classid::bigint << 32) + objid::bigint = $2 AND database = \
                         (SELECT oid FROM pg_database WHERE datname = current_database())",
                    )
                    .bind(ours)
                    .bind(LOCK)
                    .execute(&mut self.connection)
                    .await?;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        timeout(PATIENCE, patient).await.unwrap_or(Ok(false))
    }
}

fn timed_out(_: Elapsed) -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// Looks whether the session still lives; makes another where it does not.
async fn keep(url: String, mut session: Session, lost: watch::Sender<bool>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if session.is_alive().await {
            continue;
        }
        tracing::warn!("the database has ended the session that keeps other servers away");
        // While the database is away, nothing can be written by anybody.
        let Ok(mut again) = Session::open(&url).await else { continue };
        match again.lock(Some(session.process)).await {
            Ok(true) => session = again,
            Ok(false) => {
                lost.send_replace(true);
                return;
            }
            Err(error) => tracing::warn!(%error, "the lock of the database cannot be taken"),
        }
    }
}
