//! The one way into the database for writes.
//!
//! On SQLite one task takes what waits whenever it is free and commits it together: each operation
//! in a savepoint of its own, all in one immediate transaction, so that many small writes cost one
//! sync. There is no timer: alone, an operation waits for nobody. On PostgreSQL each operation is a
//! transaction of its own. An operation gets SQL in hand and nothing else.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor as _};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::StoreError;

/// A future that borrows the connection.
pub(crate) type BoxFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// Tells the writer's caller, once it is known, whether what it wrote is durable.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// An operation. It gets a transaction, or why there is none. Where it fails it has told its caller itself, and
/// returns what its error says to be broken.
type Operation = Box<
    dyn for<'c> FnOnce(
            Result<&'c mut AnyConnection, StoreError>,
        ) -> BoxFuture<'c, Result<Reply, Option<Broken>>>
        + Send,
>;

/// How many operations may wait, and how many go into one transaction.
const WAITING: usize = 1024;
const TOGETHER: usize = 64;

/// What is broken, and what was said of it.
#[derive(Debug, Clone)]
pub(super) enum Broken {
    Disk(String),
    File(String),
}

impl Broken {
    /// Returns what an error of the store says to be broken.
    fn of_store(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::Damaged(said) => Some(Self::File(said.clone())),
            StoreError::Database(error) => Self::of(error),
            _ => None,
        }
    }

    /// Returns what an error of SQLite says to be broken: the disk, unless it is only full, or the file.
    pub(super) fn of(error: &sqlx::Error) -> Option<Self> {
        // https://www.sqlite.org/rescode.html
        const IOERR: u32 = 10;
        const CORRUPT: u32 = 11;
        const NOTADB: u32 = 26;
        // Where the file of shared memory finds no room. It is none of the data.
        const SHMOPEN: u32 = IOERR | 18 << 8;
        const SHMSIZE: u32 = IOERR | 19 << 8;
        const SHMMAP: u32 = IOERR | 21 << 8;
        let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
        match (code, code & 0xff) {
            (SHMOPEN | SHMSIZE | SHMMAP, _) => None,
            (_, IOERR) => Some(Self::Disk(error.to_string())),
            (_, CORRUPT | NOTADB) => Some(Self::File(error.to_string())),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Door {
    Sqlite {
        queue: mpsc::Sender<Operation>,
        writer: Arc<Mutex<Option<tokio::task::JoinHandle<()>>>>,
        /// Why nothing may be written any more.
        broken: watch::Receiver<Option<Broken>>,
    },
    Postgres(AnyPool),
}

impl Door {
    pub(super) fn open(writes: AnyPool, sqlite: bool) -> Self {
        if !sqlite {
            return Self::Postgres(writes);
        }
        let (queue, waiting) = mpsc::channel(WAITING);
        let (tell, broken) = watch::channel(None);
        let writer = crate::task::spawn("writer", write_together(writes, waiting, tell));
        Self::Sqlite { queue, writer: Arc::new(Mutex::new(Some(writer))), broken }
    }

    /// Waits until the disk has failed, or the file is found to be damaged. What a failed write or sync has left
    /// in the kernel's memory cannot be known; it is read anew by who starts again.
    pub(super) async fn broken(&self) -> StoreError {
        if let Self::Sqlite { broken, .. } = self {
            let mut broken = broken.clone();
            if let Ok(broken) = broken.wait_for(Option::is_some).await {
                match &*broken {
                    Some(Broken::Disk(said)) => return StoreError::Disk(said.clone()),
                    Some(Broken::File(said)) => return StoreError::Damaged(said.clone()),
                    None => {}
                }
            }
        }
        std::future::pending().await
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        match self {
            Self::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                let value = work(&mut transaction).await?;
                transaction.commit().await?;
                Ok(value)
            }
            Self::Sqlite { queue, .. } => {
                let (answer, answered) = oneshot::channel();
                let operation: Operation = Box::new(move |db| {
                    Box::pin(async move {
                        let done = match db {
                            Ok(db) => work(db).await,
                            Err(why) => Err(why),
                        };
                        match done {
                            Ok(value) => Ok(Box::new(move |durable: Result<(), StoreError>| {
                                // A caller that is gone needs no answer.
                                drop(answer.send(durable.map(|()| value)));
                            }) as Reply),
                            Err(error) => {
                                let broken = Broken::of_store(&error);
                                drop(answer.send(Err(error)));
                                Err(broken)
                            }
                        }
                    })
                });
                queue.send(operation).await.map_err(|_| StoreError::Closed)?;
                answered.await.map_err(|_| StoreError::Closed)?
            }
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite { writer, .. } => {
                // The writer ends when the last sender is gone; here it is told to.
                if let Some(writer) = writer.lock().await.take() {
                    writer.abort();
                }
            }
        }
    }
}

async fn write_together(
    pool: AnyPool,
    mut waiting: mpsc::Receiver<Operation>,
    broken: watch::Sender<Option<Broken>>,
) {
    while let Some(first) = waiting.recv().await {
        let mut operations = VecDeque::from([first]);
        while operations.len() < TOGETHER {
            match waiting.try_recv() {
                Ok(operation) => operations.push_back(operation),
                Err(_) => break,
            }
        }
        let mut replies = Vec::new();
        // What panics is rolled back, and its caller hears that the store did not do it.
        let work =
            AssertUnwindSafe(transaction(&pool, &mut operations, &mut replies)).catch_unwind();
        let failed = match work.await {
            Ok(Ok(None)) => None,
            Ok(Ok(Some(what))) => {
                let (Broken::Disk(said) | Broken::File(said)) = what.clone();
                broken.send_replace(Some(what));
                Some(said)
            }
            Ok(Err(error)) => {
                if let Some(what) = Broken::of(&error) {
                    broken.send_replace(Some(what));
                }
                Some(error.to_string())
            }
            Err(_) => Some("an operation panicked".to_owned()),
        };
        let failed = failed.map(|why| format!("it could not be written: {why}"));
        for reply in replies {
            reply(match &failed {
                None => Ok(()),
                Some(why) => Err(StoreError::Refused(why.clone())),
            });
        }
        // Whose turn has not come hears why, too.
        for operation in operations {
            let why = failed.clone().unwrap_or_default();
            drop(operation(Err(StoreError::Refused(why))).await);
        }
        // After that nothing that the disk takes is believed.
        if broken.borrow().is_some() {
            return;
        }
    }
}

/// Does all operations in one transaction, or none of them where one found something broken, which is returned;
/// those that are left over were not begun.
async fn transaction(
    pool: &AnyPool,
    operations: &mut VecDeque<Operation>,
    replies: &mut Vec<Reply>,
) -> Result<Option<Broken>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let done = transaction_on(&mut connection, operations, replies).await;
    if done.is_err() {
        // Whether a transaction is still open on it depends on what has failed, such as a full disk at a commit.
        // Nobody needs to hear how the closing went.
        drop(connection.close().await);
    }
    done
}

async fn transaction_on(
    connection: &mut AnyConnection,
    operations: &mut VecDeque<Operation>,
    replies: &mut Vec<Reply>,
) -> Result<Option<Broken>, sqlx::Error> {
    // A deferred transaction that reads first can never be made a writing one under load.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // Each statement is a way to the connection's thread and back: alone, an operation needs no
    // savepoint, and one savepoint ends where the next begins.
    let alone = operations.len() == 1;
    if !alone {
        transaction.execute("SAVEPOINT operation").await?;
    }
    while let Some(operation) = operations.pop_front() {
        match operation(Ok(&mut transaction)).await {
            Ok(reply) => {
                replies.push(reply);
                if !alone {
                    transaction.execute("RELEASE operation; SAVEPOINT operation").await?;
                }
            }
            Err(Some(what)) => {
                transaction.rollback().await?;
                return Ok(Some(what));
            }
            Err(None) if alone => {
                transaction.rollback().await?;
                return Ok(None);
            }
            Err(None) => {
                transaction.execute("ROLLBACK TO operation").await?;
            }
        }
    }
    transaction.commit().await?;
    Ok(None)
}
