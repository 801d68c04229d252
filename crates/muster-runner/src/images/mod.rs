//! Images that stand for machines: found, and unpacked once.
//!
//! What was unpacked is kept by what it is made of, with a lock beside it: who unpacks holds it alone, and jobs that use it
//! hold it together, so that nothing goes away under a job.

mod layout;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use muster_sys::unpack::{Entries, unpack};
use muster_sys::{clock, files};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::layout::Layout;
use crate::cancel::Cancel;
use crate::engine::{Engine, Until};
use crate::log::Log;
use crate::spec::{EngineAccess, ImageSource, MachineImage};

/// What was unpacked, below a folder of its own.
const ROOT: &str = "root";
/// What is known of it; written when all of it is there.
const KNOWN: &str = "image.json";
/// Locks end so.
const LOCK: &str = ".lock";
/// How often somebody who waits for another to unpack looks again.
const AGAIN: Duration = Duration::from_millis(200);
/// What every root has, one of these.
const OF_A_ROOT: [&str; 2] = ["usr", "bin"];

/// An image that a root can be made of.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Where it is: a folder whose owners are the users of a machine of its own.
    pub(crate) folder: PathBuf,
    /// The variables that it wants its programs to have.
    pub(crate) env: Vec<(String, String)>,
    /// What it is called.
    pub(crate) name: String,
    /// Held for as long as it is used, where it is one that goes away when nobody does.
    pub(crate) used: Option<File>,
}

/// What is known of an image that was unpacked.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    env: Vec<(String, String)>,
    /// Where it came from, for people.
    from: String,
}

/// Finds an image, and unpacks it where nobody has yet.
///
/// # Errors
///
/// A sentence, where there is none or it cannot be unpacked.
pub(crate) fn find(
    image: &MachineImage,
    engine: &EngineAccess,
    log: &mut Log<'_>,
    cancel: &Cancel,
) -> Result<Unpacked, String> {
    let name = image.source.to_string();
    let found = match &image.source {
        ImageSource::Path(path) => of_path(path, &image.kept, log, cancel),
        ImageSource::Pulled(pulled) => of_engine(pulled, &image.kept, engine, log, cancel),
    };
    let (folder, env, used) = found.map_err(|why| format!("the image {name}: {why}"))?;
    if !OF_A_ROOT.iter().any(|part| folder.join(part).symlink_metadata().is_ok()) {
        return Err(format!(
            "the image {name}: it is no root of a system: it has neither `usr` nor `bin`"
        ));
    }
    Ok(Unpacked { folder, env, name, used })
}

type Found = (PathBuf, Vec<(String, String)>, Option<File>);

/// Finds what a path of this machine is.
fn of_path(path: &Path, kept: &Path, log: &mut Log<'_>, cancel: &Cancel) -> Result<Found, String> {
    let of = fs::metadata(path).map_err(|error| error.to_string())?;
    if of.is_dir() && !Layout::is_at(path) {
        return Ok((path.to_owned(), Vec::new(), None));
    }
    if of.is_dir() {
        let layout = Layout::read(path)?;
        return keep(kept, &layout.id(), path.display().to_string(), (log, cancel), |root, log| {
            log.say(0, &format!("Unpacking {}", path.display()));
            layout.unpack(root, |blob| Ok(watched(blob, cancel)))?;
            Ok(layout.env())
        });
    }
    // A file that is changed is another image; to read all of it each time would take seconds.
    let mut hash = Sha256::new();
    for number in
        [of.dev(), of.ino(), of.size(), of.mtime().cast_unsigned(), of.mtime_nsec().cast_unsigned()]
    {
        hash.update(number.to_le_bytes());
    }
    keep(kept, &hex(&hash.finalize()), path.display().to_string(), (log, cancel), |root, log| {
        log.say(0, &format!("Unpacking {}", path.display()));
        let open = || File::open(path).and_then(|file| plain(watched(file, cancel)));
        unpack(open().map_err(text)?, root, Entries::All).map_err(text)?;
        if !Layout::is_at(root) {
            return Ok(Vec::new());
        }
        // An archive of a layout: what is in that takes its place.
        let folder = root.with_file_name("layout");
        fs::rename(root, &folder).and_then(|()| fs::create_dir(root)).map_err(text)?;
        let layout = Layout::read(&folder)?;
        layout.unpack(root, |blob| Ok(watched(blob, cancel)))?;
        files::remove_tree(&folder).map_err(text)?;
        Ok(layout.env())
    })
}

/// Has the engine bring an image, and takes out of it what containers of it would have.
fn of_engine(
    name: &str,
    kept: &Path,
    access: &EngineAccess,
    log: &mut Log<'_>,
    cancel: &Cancel,
) -> Result<Found, String> {
    let engine = Engine::connect(access)?;
    let bounds = Until { cancel, deadline: None };
    log.say(0, &format!("Pulling {name}"));
    let pulled = engine.pull(name, None, None, bounds);
    let image = engine.image(name)?;
    let image = match (image, pulled) {
        (Some(image), Ok(())) => image,
        (Some(image), Err(why)) if why.is_unreached() => {
            log.say(
                0,
                &format!("It is taken as it is here, for its registry is not reached: {}", why.0),
            );
            image
        }
        (_, Err(why)) => return Err(why.0),
        (None, Ok(())) => return Err("the engine does not have it now".to_owned()),
    };
    let id = image.id.rsplit(':').next().unwrap_or_default().to_owned();
    keep(kept, &id, format!("docker://{name}"), (log, cancel), |root, log| {
        log.say(0, &format!("Unpacking {name} ({})", image.id));
        let archive = root.with_file_name("archive");
        let file = File::create_new(&archive).map_err(text)?;
        engine.export(&image, &access.mark, file, bounds)?;
        let file = File::open(&archive).map_err(text)?;
        unpack(BufReader::new(watched(file, cancel)), root, Entries::All).map_err(text)?;
        fs::remove_file(&archive).map_err(text)?;
        Ok(image.env.clone())
    })
}

/// Returns what is kept of an image, made by `make` where nothing is: in a folder that is empty, of which it returns the
/// variables.
fn keep(
    kept: &Path,
    id: &str,
    from: String,
    (log, cancel): (&mut Log<'_>, &Cancel),
    make: impl FnOnce(&Path, &mut Log<'_>) -> Result<Vec<(String, String)>, String>,
) -> Result<Found, String> {
    fs::create_dir_all(kept).map_err(text)?;
    // Others of this machine have no business in there: the owners of its files are some of them.
    fs::set_permissions(kept, fs::Permissions::from_mode(0o700)).map_err(text)?;
    let folder = kept.join(id);
    let known =
        || -> Option<Known> { serde_json::from_slice(&fs::read(folder.join(KNOWN)).ok()?).ok() };
    let lock = lock(kept, id).map_err(text)?;
    hold(&lock, FlockOperation::NonBlockingLockShared, log, cancel)?;
    if known().is_none() {
        hold(&lock, FlockOperation::NonBlockingLockExclusive, log, cancel)?;
        // Another may have been first.
        if known().is_none() {
            let made = make_at(&folder, from, |root| make(root, log));
            if made.is_err() {
                drop(files::remove_tree(&folder));
            }
            made?;
        }
        hold(&lock, FlockOperation::NonBlockingLockShared, log, cancel)?;
    }
    let known = known().ok_or("somebody has just removed it")?;
    // How long it was not used is told by this.
    lock.set_modified(now()).map_err(text)?;
    Ok((folder.join(ROOT), known.env, Some(lock)))
}

fn make_at(
    folder: &Path,
    from: String,
    make: impl FnOnce(&Path) -> Result<Vec<(String, String)>, String>,
) -> Result<(), String> {
    // What somebody has begun who was killed.
    if folder.exists() {
        files::remove_tree(folder).map_err(text)?;
    }
    let root = folder.join(ROOT);
    fs::create_dir_all(&root).map_err(text)?;
    let env = make(&root)?;
    let known = serde_json::to_vec(&Known { env, from }).map_err(|error| error.to_string())?;
    let known_file = folder.join(KNOWN);
    let new = known_file.with_extension("new");
    // What is there after a power cut is there as a whole.
    let settle = || -> io::Result<()> {
        rustix::fs::syncfs(File::open(folder)?)?;
        let mut file = File::create(&new)?;
        file.write_all(&known)?;
        file.sync_all()?;
        fs::rename(&new, &known_file)?;
        File::open(folder)?.sync_all()
    };
    settle().map_err(text)
}

/// Takes a lock, and waits for it until the job is told to stop.
fn hold(
    lock: &File,
    how: FlockOperation,
    log: &mut Log<'_>,
    cancel: &Cancel,
) -> Result<(), String> {
    let mut waits = false;
    loop {
        match flock(lock, how) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if cancel.end().is_some() => {
                return Err("the job was told to stop".to_owned());
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                if !std::mem::replace(&mut waits, true) {
                    log.say(0, "Waiting for another job, which unpacks it");
                }
                cancel.pause(AGAIN);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Opens the lock of an image that is kept.
fn lock(kept: &Path, id: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(kept.join(format!("{id}{LOCK}")))
}

/// Removes the images below a folder that no job uses, or has used for so long; returns how many.
///
/// # Errors
///
/// When the folder cannot be read.
pub fn forget_unused(kept: &Path, longer_than: Duration) -> io::Result<usize> {
    let mut count = 0;
    let entries = match fs::read_dir(kept) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != &LOCK[1..]) {
            continue;
        }
        let lock = File::open(&path)?;
        let used = lock.metadata()?.modified()?;
        let unused = now().duration_since(used).unwrap_or_default();
        if unused > longer_than && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Who opens the lock now waits for us, and finds nothing then: it stays.
            let folder = path.with_extension("");
            if folder.exists() {
                files::remove_tree(&folder)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(clock::now_ms().unsigned_abs())
}

/// Reads what is compressed, by its first bytes, or is not.
fn plain<'r>(packed: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut packed = BufReader::new(packed);
    let first = io::BufRead::fill_buf(&mut packed)?;
    Ok(match first {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(packed)?),
        [0xfd, b'7', b'z', b'X', b'Z', ..] | [b'B', b'Z', b'h', ..] => {
            let text = "it is compressed by xz or bzip2: unpack it, or compress it by gzip or zstd";
            return Err(io::Error::other(text));
        }
        _ => Box::new(packed),
    })
}

/// Reads until the job is told to stop.
struct Watched<'c, R> {
    inner: R,
    cancel: &'c Cancel,
}

fn watched<R: Read>(inner: R, cancel: &Cancel) -> Watched<'_, R> {
    Watched { inner, cancel }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.end().is_some() {
            return Err(io::Error::other("the job was told to stop"));
        }
        self.inner.read(buffer)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
fn text(error: io::Error) -> String {
    error.to_string()
}
