//! One server for each database.
//!
//! A SQLite database lies in the data folder, which is locked. In PostgreSQL a lock of a session that
//! lives as long as the server says that it is there; PostgreSQL lets it go when that session ends,
//! however it ends. A server that lost its session takes the lock again, or ends when another has it.

use std::time::Duration;

use sqlx::{AnyConnection, Connection as _};
use tokio::sync::watch;

use super::StoreError;
use crate::task;

/// The lock's number: "muster" in ASCII.
const LOCK: i64 = 0x6d75_7374_6572;
/// The session of a server that was killed is gone after a moment.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);
/// How often the session is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// The session that holds the lock.
#[derive(Debug, Clone)]
pub(super) struct Alone {
    overtaken: watch::Receiver<bool>,
}

impl Alone {
    /// Takes the lock of the PostgreSQL database at `url`, and keeps it until this process ends.
    ///
    /// # Errors
    ///
    /// When another server has it.
    pub(super) async fn take(url: &str) -> Result<Self, StoreError> {
        let mut session = AnyConnection::connect(url).await?;
        let patient = async {
            while !try_lock(&mut session).await? {
                tokio::time::sleep(AGAIN).await;
            }
            Ok(())
        };
        match tokio::time::timeout(PATIENCE, patient).await {
            Ok(taken) => taken.map_err(StoreError::Database)?,
            Err(_) => return Err(StoreError::Taken),
        }
        let (lost, overtaken) = watch::channel(false);
        drop(task::spawn("alone", keep(url.to_owned(), session, lost)));
        Ok(Self { overtaken })
    }

    /// Waits until another server has the lock.
    pub(super) async fn overtaken(mut self) {
        if self.overtaken.wait_for(|overtaken| *overtaken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn try_lock(session: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let query = "SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END";
    let taken: i32 = sqlx::query_scalar(query).bind(LOCK).fetch_one(session).await?;
    Ok(taken == 1)
}

/// Looks whether the session still lives; makes another where it does not.
async fn keep(url: String, mut session: AnyConnection, lost: watch::Sender<bool>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if session.ping().await.is_ok() {
            continue;
        }
        tracing::warn!("the database has ended the session that keeps other servers away");
        // Nothing can be written while it is away; the stores of both servers find it at the same time.
        let Ok(mut again) = AnyConnection::connect(&url).await else { continue };
        match try_lock(&mut again).await {
            Ok(true) => session = again,
            Ok(false) => {
                lost.send_replace(true);
                return;
            }
            Err(error) => tracing::warn!(%error, "the lock of the database cannot be taken"),
        }
    }
}
