//! Uploads that are not complete: a folder each, with the pieces that have come.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use futures_util::StreamExt as _;
use muster_sys::clock;
use muster_sys::files::remove_tree;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::error::Refusal;
use super::ledger::{Allowance, Ledger, Promise};

/// What nobody has written to for so long is given up.
const GIVEN_UP: Duration = Duration::from_secs(24 * 3600);
/// How many pieces an upload has at most, as at Azure, and how long the name of one is.
const MAX_BLOCKS: usize = 50_000;
const MAX_BLOCK_NAME: usize = 100;
/// How far behind what is there a part may begin, in bytes: clients send a few at a time, of 32 MiB each.
const MAX_GAP: u64 = 1 << 30;
/// How long a client may be silent within an upload.
const PATIENCE: Duration = Duration::from_secs(60);
/// For so many bytes at a time it is looked whether the disk has room.
const ROOM_EVERY: u64 = 16 << 20;

/// The folder of all uploads.
#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    ledger: Arc<Ledger>,
}

/// An upload that was begun.
pub(super) struct Known {
    folder: PathBuf,
    pub(super) allowance: Allowance,
}

/// An upload that has all its bytes.
#[derive(Debug)]
pub(super) struct Complete {
    /// Open, so that it is what was looked at, whatever is uploaded meanwhile.
    pub(super) file: File,
    pub(super) size: u64,
    /// `sha256:` and sixty-four digits.
    pub(super) digest: String,
    /// For it once more, in the object store.
    pub(super) room: Promise,
}

impl Uploads {
    pub(super) fn open(folder: PathBuf, ledger: Arc<Ledger>) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, ledger })
    }

    /// Begins an upload; what it had before, if it is begun again, is gone.
    pub(super) fn begin<T: Serialize>(
        &self,
        id: &str,
        allowance: &Allowance,
        about: &T,
    ) -> Result<(), Refusal> {
        let _room = self.ledger.promise(0)?;
        let folder = self.folder(id)?;
        self.ledger.begin(id, allowance, clock::now_ms())?;
        if folder.exists() {
            remove_tree(&folder)?;
        }
        fs::create_dir_all(folder.join("blocks"))?;
        let json = serde_json::to_vec(allowance).unwrap_or_default();
        fs::write(folder.join("allowance.json"), json)?;
        let json = serde_json::to_vec(about).unwrap_or_default();
        Ok(fs::write(folder.join("about.json"), json)?)
    }

    /// Returns what an upload is of; `None` where there is none.
    pub(super) fn about<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>, Refusal> {
        match fs::read(self.folder(id)?.join("about.json")) {
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one piece of an upload; written again, it is the later.
    pub(super) async fn block(&self, id: &str, block: &str, body: Body) -> Result<(), Refusal> {
        if block.is_empty() || block.len() > MAX_BLOCK_NAME {
            return Err(Refusal::invalid("`blockid` has no name of a block"));
        }
        let Known { folder, allowance } = self.known(id)?;
        let path = folder.join("blocks").join(hex(block.as_bytes()));
        self.receive(&path, &allowance, body).await
    }

    /// Writes all of an upload.
    pub(super) async fn whole(&self, id: &str, body: Body) -> Result<(), Refusal> {
        let Known { folder, allowance } = self.known(id)?;
        self.receive(&folder.join("blob"), &allowance, body).await
    }

    /// Puts an upload together from its pieces, in this order.
    pub(super) fn commit(&self, id: &str, blocks: &[String]) -> Result<(), Refusal> {
        let Known { folder, allowance } = self.known(id)?;
        let _alone = lock(&folder)?;
        // A client that got no answer asks once more.
        let list = folder.join("committed");
        let is_done = fs::read(&list).is_ok_and(|done| done == blocks.join("\n").into_bytes());
        if is_done && (folder.join("blob").exists() || folder.join("taken").exists()) {
            return Ok(());
        }
        if blocks.len() > MAX_BLOCKS {
            return Err(Refusal::too_large(format!("more than {MAX_BLOCKS} blocks")));
        }
        let (mut pieces, mut size, mut again) = (Vec::new(), 0, 0);
        let mut named = HashSet::new();
        for block in blocks {
            let path = folder.join("blocks").join(hex(block.as_bytes()));
            // One block may be named again and again.
            let bytes = match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Refusal::invalid(format!("block `{block}` was not uploaded")));
                }
                about => about?.len(),
            };
            size += bytes;
            again += if named.insert(block) { 0 } else { bytes };
            check_size(size, &allowance)?;
            pieces.push(path);
        }
        self.count(again, &allowance)?;
        let _room = self.ledger.promise(size)?;
        let part = folder.join("part");
        if let Err(error) = append(&pieces, &part) {
            drop(fs::remove_file(&part));
            return Err(error.into());
        }
        fs::rename(part, folder.join("blob"))?;
        fs::write(list, blocks.join("\n"))?;
        remove_tree(&folder.join("blocks"))?;
        Ok(fs::create_dir(folder.join("blocks"))?)
    }

    /// Writes a part of an upload at a place of it.
    pub(super) async fn part(&self, id: &str, from: u64, body: Body) -> Result<(), Refusal> {
        let Known { folder, allowance } = self.known(id)?;
        let path = folder.join("blob");
        let there = fs::metadata(&path).map_or(0, |about| about.len());
        if from > there + MAX_GAP {
            return Err(Refusal::invalid("it begins too far behind what was uploaded"));
        }
        check_size(from, &allowance)?;
        self.ledger.piece(&allowance, clock::now_ms())?;
        self.count(from.saturating_sub(there), &allowance)?;
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.create(true).truncate(false).write(true).open(path).await?;
        tokio::io::AsyncSeekExt::seek(&mut file, SeekFrom::Start(from)).await?;
        self.pour(&mut file, from, &allowance, body).await
    }

    /// Returns an upload that was put together, and that there is room for once more.
    pub(super) fn complete(&self, id: &str) -> Result<Complete, Refusal> {
        let Known { folder, .. } = self.known(id)?;
        let _alone = lock(&folder)?;
        // Out of the way of what may still come; who asks once more finds it there.
        let taken = folder.join("taken");
        match fs::rename(folder.join("blob"), &taken) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && taken.exists() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Refusal::invalid("nothing was uploaded"));
            }
            moved => moved?,
        }
        let mut file = File::open(taken)?;
        let (mut hash, mut piece, mut size) = (Sha256::new(), vec![0; 1 << 16], 0);
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            hash.update(&piece[..count]);
            size += count as u64;
        }
        let room = self.ledger.promise(size)?;
        file.rewind()?;
        let digest = format!("sha256:{}", hex(&hash.finalize()));
        Ok(Complete { file, size, digest, room })
    }

    /// Forgets an upload that has come to its end.
    pub(super) fn end(&self, id: &str) -> Result<(), Refusal> {
        let Known { folder, allowance } = self.known(id)?;
        self.ledger.end(id, &allowance);
        // What stays is given up later.
        drop(remove_tree(&folder));
        Ok(())
    }

    /// Removes uploads that nobody goes on with.
    pub(super) fn tidy(&self, now_ms: i64) -> io::Result<()> {
        let long_ago =
            now_ms.saturating_sub(i64::try_from(GIVEN_UP.as_millis()).unwrap_or(i64::MAX));
        self.ledger.forget(long_ago);
        let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let folder = entry.path();
            let latest = [folder.clone(), folder.join("blocks"), folder.join("blob")]
                .iter()
                .filter_map(|path| fs::metadata(path).and_then(|about| about.modified()).ok())
                .max();
            let age = latest.and_then(|latest| now.duration_since(latest).ok());
            if age.is_some_and(|age| age > GIVEN_UP) {
                let id = entry.file_name().to_string_lossy().into_owned();
                if let Ok(Known { allowance, .. }) = self.known(&id) {
                    self.ledger.end(&id, &allowance);
                }
                remove_tree(&folder)?;
            }
        }
        Ok(())
    }

    fn folder(&self, id: &str) -> Result<PathBuf, Refusal> {
        let is_plain = !id.is_empty() && id.len() <= 64;
        if is_plain && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(self.folder.join(id))
        } else {
            Err(Refusal::not_found("there is no such upload"))
        }
    }

    /// Returns an upload that was begun.
    pub(super) fn known(&self, id: &str) -> Result<Known, Refusal> {
        let folder = self.folder(id)?;
        let there = folder.join("about.json").is_file();
        let allowance = fs::read(folder.join("allowance.json")).ok().filter(|_| there);
        let allowance = allowance.and_then(|json| serde_json::from_slice(&json).ok());
        match allowance {
            Some(allowance) => Ok(Known { folder, allowance }),
            None => Err(Refusal::not_found("there is no such upload")),
        }
    }

    fn count(&self, more: u64, allowance: &Allowance) -> Result<(), Refusal> {
        self.ledger.bytes(more, allowance, clock::now_ms())
    }

    async fn receive(&self, path: &Path, allowance: &Allowance, body: Body) -> Result<(), Refusal> {
        self.ledger.piece(allowance, clock::now_ms())?;
        // A connection that breaks leaves nothing that looks whole.
        let part = path.with_extension(format!("part-{}", uuid::Uuid::new_v4().simple()));
        let part = Part(part);
        let mut file = tokio::fs::File::create(&part.0).await?;
        self.pour(&mut file, 0, allowance, body).await?;
        Ok(tokio::fs::rename(&part.0, path).await?)
    }

    /// Writes what comes at a place of an upload, as long as it may have it.
    async fn pour(
        &self,
        file: &mut tokio::fs::File,
        from: u64,
        allowance: &Allowance,
        body: Body,
    ) -> Result<(), Refusal> {
        let (mut stream, mut end) = (body.into_data_stream(), from);
        let (mut room, mut since) = (self.ledger.promise(ROOM_EVERY)?, from);
        loop {
            // Who sends nothing keeps no place from others.
            let piece = tokio::time::timeout(PATIENCE, stream.next()).await;
            let Some(piece) = piece.map_err(|_| Refusal::invalid("it took too long"))? else {
                break;
            };
            let piece = piece.map_err(|_| Refusal::invalid("it was cut off"))?;
            let more = piece.len() as u64;
            end += more;
            check_size(end, allowance)?;
            self.count(more, allowance)?;
            if end - since > ROOM_EVERY {
                // What was written has its room now.
                drop(room);
                (room, since) = (self.ledger.promise(ROOM_EVERY + more)?, end);
            }
            file.write_all(&piece).await?;
        }
        file.flush().await?;
        drop(room);
        Ok(())
    }
}

/// A file that is not whole, and goes with whoever writes it: also where a client has gone away. Once it is whole it has
/// another name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn check_size(size: u64, allowance: &Allowance) -> Result<(), Refusal> {
    if size > allowance.largest {
        let most = allowance.largest >> 20;
        return Err(Refusal::too_large(format!("it is larger than {most} MiB")));
    }
    Ok(())
}

/// Waits until nobody else puts an upload together or takes it.
fn lock(folder: &Path) -> io::Result<File> {
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Puts files together, one after the other.
fn append(pieces: &[PathBuf], to: &Path) -> io::Result<()> {
    let mut whole = File::create(to)?;
    for piece in pieces {
        io::copy(&mut File::open(piece)?, &mut whole)?;
    }
    Ok(())
}

/// Writes bytes as digits, for names of files.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the name of what texts name together.
pub(super) fn name_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..16])
}
