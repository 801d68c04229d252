//! Complete things, each described by one object and held by another.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Place;
use object_store::prefix::PrefixStore;
use object_store::{
    Error, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, WriteMultipart,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;

use super::blobs;

/// How much is read at once, in bytes, and how many such pieces may be on their way.
const PIECE: usize = 1 << 20;
const ON_THEIR_WAY: usize = 4;
/// How many descriptions are read at once.
const AT_A_TIME: usize = 16;
/// What seems to be described by nothing may only just have come.
const FRESH_MS: i64 = 3_600_000;

/// An object store.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    store: Arc<dyn ObjectStore>,
    /// Where it is, where that is a folder of this machine.
    folder: Option<PathBuf>,
}

/// The descriptions below a place.
#[derive(Debug)]
pub(super) struct All<T> {
    pub(super) described: Vec<(Place, T)>,
    /// Whether all that are there could be read.
    pub(super) is_whole: bool,
}

/// Removes what a crash has left, before `until`, of objects that were being written: the store lists no such file. What is
/// younger somebody may be writing, another `muster run` for one.
fn remove_staged(folder: &Path, until: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What goes while we look is gone.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            remove_staged(&entry.path(), until)?;
        } else if entry.file_name().to_string_lossy().contains('#') && about.modified()? < until {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Pours what a file has, so many bytes at most, into what is put together elsewhere; returns how many.
async fn pour(file: File, size: u64, writer: &mut WriteMultipart) -> anyhow::Result<u64> {
    let mut file = tokio::fs::File::from_std(file).take(size);
    let (mut brought, mut piece) = (0, vec![0; PIECE]);
    loop {
        let count = file.read(&mut piece).await?;
        if count == 0 {
            return Ok(brought);
        }
        brought += count as u64;
        writer.wait_for_capacity(ON_THEIR_WAY).await?;
        writer.write(&piece[..count]);
    }
}

impl Keep {
    /// Opens the one in a folder, which is made.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(io::Error::other)?;
        // What was answered is there after a power cut.
        let store = Arc::new(store.with_fsync(true).with_automatic_cleanup(true));
        Ok(Self { store, folder: Some(folder.to_owned()) })
    }

    /// Opens the one at a place of another store.
    pub(crate) fn at(store: &Arc<dyn ObjectStore>, place: &str) -> Self {
        let store = PrefixStore::new(Arc::clone(store), Place::from(place));
        Self { store: Arc::new(store), folder: None }
    }

    /// Brings a file of so many bytes into the store: no more than was counted, whatever somebody still writes to it.
    pub(super) async fn bring(&self, place: &Place, file: File, size: u64) -> anyhow::Result<()> {
        let mut writer = WriteMultipart::new(self.store.put_multipart(place).await?);
        match pour(file, size, &mut writer).await {
            Ok(brought) if brought == size => {
                writer.finish().await?;
                Ok(())
            }
            poured => {
                // Parts of what is not there stay in a bucket, and cost.
                let aborted = writer.abort().await;
                let brought = poured?;
                aborted?;
                anyhow::bail!("{brought} of {size} bytes of an upload were there");
            }
        }
    }

    /// Puts a description where there is none; `false` where there is one.
    pub(super) async fn describe<T: Serialize>(
        &self,
        place: &Place,
        what: &T,
    ) -> anyhow::Result<bool> {
        match self.put(place, what, PutMode::Create).await {
            Ok(()) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a description in the place of the one that is there.
    pub(super) async fn describe_anew<T: Serialize>(
        &self,
        place: &Place,
        what: &T,
    ) -> anyhow::Result<()> {
        Ok(self.put(place, what, PutMode::Overwrite).await?)
    }

    async fn put<T: Serialize>(&self, place: &Place, what: &T, mode: PutMode) -> Result<(), Error> {
        let json = serde_json::to_vec(what).unwrap_or_default();
        let options = PutOptions { mode, ..PutOptions::default() };
        self.store.put_opts(place, PutPayload::from(json), options).await?;
        Ok(())
    }

    /// Reads a description; `None` where there is none.
    pub(super) async fn described<T: DeserializeOwned>(
        &self,
        place: &Place,
    ) -> anyhow::Result<Option<T>> {
        let json = match self.store.get(place).await {
            Ok(found) => found.bytes().await?,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let what = serde_json::from_slice(&json);
        Ok(Some(what.with_context(|| format!("{place} is no description"))?))
    }

    /// Reads all descriptions below a place. One that cannot be read holds up no other; that there is one is told, for what
    /// it describes is not to be taken for nobody's.
    pub(super) async fn all<T: DeserializeOwned>(&self, below: &Place) -> anyhow::Result<All<T>> {
        let listed: Vec<_> = self.store.list(Some(below)).try_collect().await?;
        let mut all = All { described: Vec::new(), is_whole: true };
        let places = listed.into_iter().map(|object| object.location);
        let places = places.filter(|place| place.extension() == Some("json"));
        // Several at a time: each is a call where the store is another machine.
        let read = places.map(async |place| (self.described(&place).await, place));
        let mut read = futures_util::stream::iter(read).buffered(AT_A_TIME);
        while let Some((found, place)) = read.next().await {
            match found {
                Ok(Some(what)) => all.described.push((place, what)),
                // It was removed meanwhile.
                Ok(None) => {}
                Err(error) => {
                    all.is_whole = false;
                    tracing::error!(error = format!("{error:#}"), "a description");
                }
            }
        }
        Ok(all)
    }

    /// Counts the descriptions below a place.
    pub(super) async fn count(&self, below: &Place) -> anyhow::Result<usize> {
        let listed: Vec<_> = self.store.list(Some(below)).try_collect().await?;
        let is_description = |object: &&ObjectMeta| object.location.extension() == Some("json");
        Ok(listed.iter().filter(is_description).count())
    }

    /// Removes blobs that nothing describes, and that nothing has for an hour: a crash, or a client that was gone, has left
    /// them. What has another shape is not ours: others may use the bucket, too.
    pub(super) async fn remove_orphans(
        &self,
        described: &HashSet<Place>,
        now_ms: i64,
    ) -> anyhow::Result<()> {
        let until = now_ms - FRESH_MS;
        let moment = UNIX_EPOCH + Duration::from_millis(u64::try_from(until).unwrap_or(0));
        if let Some(folder) = self.folder.clone() {
            tokio::task::spawn_blocking(move || remove_staged(&folder, moment)).await??;
        }
        let listed: Vec<_> = self.store.list(None).try_collect().await?;
        for object in listed {
            let is_old = object.last_modified.timestamp_millis() < until;
            if blobs::is_blob(&object.location) && is_old && !described.contains(&object.location) {
                self.remove(&object.location).await?;
            }
        }
        Ok(())
    }

    /// Returns an object to be read; `None` where there is none.
    pub(super) async fn read(&self, place: &Place) -> anyhow::Result<Option<GetResult>> {
        match self.store.get(place).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an object; one that is not there is as well.
    pub(super) async fn remove(&self, place: &Place) -> anyhow::Result<()> {
        match self.store.delete(place).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
