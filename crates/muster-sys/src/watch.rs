//! Notices of touched files: how other processes nudge this one.
//!
//! A nudge is a file touched in one folder, named by its topic. It carries nothing: who is nudged
//! looks at the state. Losing one costs a wait until the next interval, nothing else.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;

/// A folder whose touched files are told.
#[derive(Debug)]
pub struct Nudges {
    inotify: OwnedFd,
    folder: PathBuf,
}

impl Nudges {
    /// Watches `folder`, which is made when it is not there.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or the system has no watch left.
    pub fn watch(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(
            &inotify,
            folder,
            inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO,
        )?;
        Ok(Self { inotify, folder: folder.to_owned() })
    }

    /// Waits until files were touched and returns their names; none when there were too many to tell.
    ///
    /// # Errors
    ///
    /// When the watch is broken.
    pub fn wait(&self) -> io::Result<Vec<String>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut topics = Vec::new();
        loop {
            let event = reader.next()?;
            if let Some(name) = event.file_name() {
                let name = name.to_string_lossy().into_owned();
                if !topics.contains(&name) {
                    topics.push(name);
                }
            }
            if reader.is_buffer_empty() {
                return Ok(topics);
            }
        }
    }

    /// Returns the watched folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Touches the file of `topic` in `folder`.
///
/// # Errors
///
/// When the file cannot be written.
pub fn nudge(folder: &Path, topic: &str) -> io::Result<()> {
    fs::OpenOptions::new().create(true).append(true).open(folder.join(topic)).map(drop)
}
