//! What the runs have sent and what they have under way, so that none of them takes the disk, the connections or the time
//! of all others. It is kept in memory: a server that starts anew counts from nothing.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::error::Refusal;
use crate::data::has_room_for;

/// How much a run may send, and have under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Allowance {
    /// The run, and which attempt of it.
    pub(super) run: String,
    /// The most bytes of one upload.
    pub(super) largest: u64,
    /// The most bytes of all that the run sends.
    pub(super) in_all: u64,
    /// The most pieces of all that it sends: each is a file.
    pub(super) pieces: u64,
    /// The most uploads that are not complete.
    pub(super) uploads: usize,
    /// The most calls, uploads and downloads at a time.
    pub(super) calls: usize,
}

/// What all runs have under way.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Where the bytes go that room is promised for.
    folder: PathBuf,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    runs: HashMap<String, Account>,
    /// Bytes that somebody is about to write.
    promised: u64,
}

#[derive(Debug)]
struct Account {
    /// Whose turn it is to read or write as much as an upload.
    turn: Arc<Semaphore>,
    bytes: u64,
    pieces: u64,
    uploads: HashSet<String>,
    calls: usize,
    /// When it began or sent something last, in milliseconds since 1970.
    at: i64,
}

impl Default for Account {
    fn default() -> Self {
        let turn = Arc::new(Semaphore::new(1));
        Self { turn, bytes: 0, pieces: 0, uploads: HashSet::new(), calls: 0, at: 0 }
    }
}

/// Room on the disk for bytes that are about to be written, until it is dropped.
#[derive(Debug)]
pub(super) struct Promise {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        books.promised = books.promised.saturating_sub(self.bytes);
    }
}

/// A call of a run that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    ledger: Arc<Ledger>,
    run: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(account) = self.ledger.books().runs.get_mut(&self.run) {
            account.calls = account.calls.saturating_sub(1);
        }
    }
}

impl Ledger {
    pub(super) fn new(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { folder, books: Mutex::default() })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the account of a run, which is opened where there is none.
    fn with<T>(&self, run: &str, write: impl FnOnce(&mut Account) -> T) -> T {
        write(self.books().runs.entry(run.to_owned()).or_default())
    }

    /// Notes a call of a run, until what is returned is dropped.
    pub(super) fn call(self: &Arc<Self>, run: &str, most: usize) -> Result<UnderWay, Refusal> {
        self.with(run, |account| {
            if account.calls >= most {
                return Err(Refusal::unavailable(format!("its run has {most} calls under way")));
            }
            account.calls += 1;
            Ok(())
        })?;
        Ok(UnderWay { ledger: Arc::clone(self), run: run.to_owned() })
    }

    /// Returns the turn of a run, which one at a time has.
    pub(super) fn turn(&self, run: &str) -> Arc<Semaphore> {
        self.with(run, |account| Arc::clone(&account.turn))
    }

    /// Notes an upload that begins.
    pub(super) fn begin(
        &self,
        upload: &str,
        allowance: &Allowance,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let most = allowance.uploads;
        self.with(&allowance.run, |account| {
            account.at = now_ms;
            if account.uploads.len() >= most && !account.uploads.contains(upload) {
                let why = format!("its run has {most} uploads that are not complete");
                return Err(Refusal::too_large(why));
            }
            account.uploads.insert(upload.to_owned());
            Ok(())
        })
    }

    /// Notes that an upload came to its end.
    pub(super) fn end(&self, upload: &str, allowance: &Allowance) {
        if let Some(account) = self.books().runs.get_mut(&allowance.run) {
            account.uploads.remove(upload);
        }
    }

    /// Counts a piece that a run sends.
    pub(super) fn piece(&self, allowance: &Allowance, now_ms: i64) -> Result<(), Refusal> {
        let most = allowance.pieces;
        let pieces = self.with(&allowance.run, |account| {
            account.at = now_ms;
            account.pieces += 1;
            account.pieces
        });
        if pieces > most {
            let why = format!("its run has uploaded more than {most} pieces");
            return Err(Refusal::too_large(why));
        }
        Ok(())
    }

    /// Counts bytes that a run sends.
    pub(super) fn bytes(
        &self,
        more: u64,
        allowance: &Allowance,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let bytes = self.with(&allowance.run, |account| {
            account.at = now_ms;
            account.bytes = account.bytes.saturating_add(more);
            account.bytes
        });
        if bytes > allowance.in_all {
            let most = allowance.in_all >> 20;
            return Err(Refusal::too_large(format!("its run has uploaded more than {most} MiB")));
        }
        Ok(())
    }

    /// Promises room for bytes that are about to be written: the disk has room for them, for what others are about to
    /// write, and for all else then.
    pub(super) fn promise(self: &Arc<Self>, bytes: u64) -> Result<Promise, Refusal> {
        let mut books = self.books();
        let promised = books.promised.saturating_add(bytes);
        if !has_room_for(&self.folder, promised) {
            return Err(Refusal::unavailable("the disk of the server is full"));
        }
        books.promised = promised;
        drop(books);
        Ok(Promise { ledger: Arc::clone(self), bytes })
    }

    /// Forgets runs that have nothing under way and have sent nothing since then.
    pub(super) fn forget(&self, since_ms: i64) {
        self.books().runs.retain(|_, account| account.calls > 0 || account.at > since_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 40;

    fn allowance(run: &str) -> Allowance {
        Allowance { run: run.into(), largest: 10, in_all: 10, pieces: 2, uploads: 1, calls: 2 }
    }

    #[test]
    fn what_is_over_makes_room_and_what_was_sent_does_not() {
        let ledger = Ledger::new(std::env::temp_dir());
        let (ours, theirs) = (allowance("1.1"), allowance("2.1"));
        let (first, second) = (ledger.call("1.1", 2), ledger.call("1.1", 2));
        assert!(first.is_ok() && second.is_ok() && ledger.call("1.1", 2).is_err());
        assert!(ledger.call("2.1", 2).is_ok());
        drop(second);
        assert!(ledger.call("1.1", 2).is_ok());

        assert!(ledger.begin("a", &ours, 5).is_ok() && ledger.begin("a", &ours, 5).is_ok());
        assert!(ledger.begin("b", &ours, 5).is_err() && ledger.begin("b", &theirs, 5).is_ok());
        ledger.end("a", &ours);
        assert!(ledger.begin("b", &ours, 5).is_ok());

        assert!(ledger.piece(&ours, 5).is_ok() && ledger.piece(&ours, 5).is_ok());
        assert!(ledger.piece(&ours, 5).is_err() && ledger.piece(&theirs, 5).is_ok());

        assert!(ledger.bytes(10, &ours, 5).is_ok() && ledger.bytes(1, &ours, 6).is_err());
        ledger.forget(6);
        assert!(ledger.bytes(1, &ours, 7).is_err(), "its call is under way");
        drop(first);
        ledger.forget(7);
        assert!(ledger.bytes(1, &ours, 8).is_ok());
    }

    #[test]
    fn room_is_promised_once() {
        let ledger = Ledger::new(std::env::temp_dir());
        let free = rustix::fs::statvfs(std::env::temp_dir()).unwrap();
        let most = free.f_bavail * free.f_frsize;
        let kept = ledger.promise(most / 3).unwrap();
        let kept_too = ledger.promise(most / 3).unwrap();
        // What others of this machine write meanwhile is less than that.
        assert!(ledger.promise(most / 2).is_err() && ledger.promise(MOST).is_err());
        drop((kept, kept_too));
        assert!(ledger.promise(most / 2).is_ok());
    }
}
