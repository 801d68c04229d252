//! Building the image of an action from its Dockerfile.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use bollard::body_try_stream;
use bollard::query_parameters::BuildImageOptions;
use futures_util::{StreamExt as _, stream};

use super::{Engine, Until, label, said};

/// A line of a build is cut at so many bytes, and so many bytes may be said in all.
const LONGEST_LINE: usize = 64 << 10;
const MOST_SAID: usize = 64 << 20;
/// How much of what is sent is read at once.
const PIECE: usize = 64 << 10;

/// An image that is to be built.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    /// What it is built from, as a tape archive.
    pub(crate) context: File,
    /// The path of the Dockerfile in it.
    pub(crate) dockerfile: &'a str,
    /// How it is to be named.
    pub(crate) tag: &'a str,
    /// What it bears, to be found by.
    pub(crate) mark: &'a str,
    /// How much memory it may take, in bytes.
    pub(crate) memory: Option<u64>,
}

impl Engine {
    /// Builds an image; `say` hears what it says.
    ///
    /// # Errors
    ///
    /// A sentence, where it cannot be built.
    pub(crate) fn build(
        &self,
        build: Build<'_>,
        bounds: Until<'_>,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        let options = BuildImageOptions {
            dockerfile: build.dockerfile.to_owned(),
            t: Some(build.tag.to_owned()),
            rm: true,
            forcerm: true,
            labels: Some(label(build.mark)),
            // Whether a job may have an image, its registry says: another may have left it here.
            pull: Some("true".to_owned()),
            // The engine's API has no room for more.
            memory: build.memory.map(|bytes| i32::try_from(bytes).unwrap_or(i32::MAX)),
            memswap: build.memory.map(|bytes| i32::try_from(bytes).unwrap_or(i32::MAX)),
            ..BuildImageOptions::default()
        };
        let mut context = build.context;
        context.rewind().map_err(|error| format!("cannot read what it is built from: {error}"))?;
        let body = body_try_stream(stream::iter(std::iter::from_fn(move || {
            let mut piece = vec![0; PIECE];
            match context.read(&mut piece) {
                Ok(0) => None,
                Ok(count) => {
                    piece.truncate(count);
                    Some(Ok::<_, io::Error>(piece.into()))
                }
                Err(error) => Some(Err(error)),
            }
        })));
        let (mut told, mut said_so_far) = (String::new(), 0);
        let work = async {
            let mut news = self.docker.build_image(options, None, Some(body));
            while let Some(news) = news.next().await {
                let news = news.map_err(|error| said(&error))?;
                if let Some(error) = news.error_detail.and_then(|detail| detail.message) {
                    return Err(error);
                }
                for piece in news.stream.unwrap_or_default().split_inclusive('\n') {
                    told.push_str(piece);
                    if piece.ends_with('\n') || told.len() > LONGEST_LINE {
                        said_so_far += told.len();
                        if said_so_far > MOST_SAID {
                            return Err(format!("it said more than {MOST_SAID} bytes"));
                        }
                        say(told.trim_end());
                        told.clear();
                    }
                }
            }
            Ok(())
        };
        self.until(bounds, work)
    }

    /// Removes an image that was built for a job.
    ///
    /// # Errors
    ///
    /// A sentence, where it stays.
    pub(crate) fn remove_image(&self, name: &str) -> Result<(), String> {
        use bollard::query_parameters::RemoveImageOptions;
        let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
        let removed = self.docker.remove_image(name, Some(options), None);
        super::gone(self.runtime.block_on(removed).map(drop))
    }
}
