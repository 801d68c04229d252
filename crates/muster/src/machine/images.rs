//! The images that stand for machines, by the labels of `runs-on`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_core::labels::means;
use muster_runner::spec::{ImageSource, MachineImage};
use serde::Deserialize;

/// What stands for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) enum Image {
    /// This one.
    Host,
    /// An image.
    Of(ImageSource),
}

impl From<String> for Image {
    fn from(text: String) -> Self {
        match text.as_str() {
            "host" => Self::Host,
            other => Self::Of(match other.strip_prefix("docker://") {
                Some(name) => ImageSource::Pulled(name.to_owned()),
                None => ImageSource::Path(text.into()),
            }),
        }
    }
}

/// What stands for the machines that labels ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Images(pub(crate) BTreeMap<String, Image>);

impl Images {
    /// Finds what is meant, from a folder on.
    ///
    /// # Errors
    ///
    /// Names what is not there.
    pub(crate) fn resolve(&mut self, from: &Path) -> Result<(), String> {
        for (label, image) in &mut self.0 {
            let Image::Of(ImageSource::Path(path)) = image else { continue };
            *path = from.join(&path);
            if !path.exists() {
                let path = path.display();
                return Err(format!(
                    "{label}: {path} is not there (an image is `host`, a folder, an archive, or `docker://NAME`)"
                ));
            }
        }
        Ok(())
    }

    /// Returns the labels that are served by them.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Returns whether one of them is not this machine.
    pub(crate) fn is_any_foreign(&self) -> bool {
        self.0.values().any(|image| *image != Image::Host)
    }

    /// Returns what stands for the machine that a job asks for with these labels, the first of which decides that has an
    /// image; none is this machine. `kept` is where images are unpacked.
    pub(crate) fn of(&self, labels: &[String], kept: PathBuf) -> Option<MachineImage> {
        let found = labels.iter().find_map(|label| {
            let meant = self.0.iter().filter(|(served, _)| means(served, label));
            // Of a label itself and of beginnings of it the longest is what is meant.
            let (_, image) =
                meant.max_by_key(|(served, _)| (!served.ends_with('*'), served.len()))?;
            Some((label, image))
        });
        match found? {
            (_, Image::Host) => None,
            (label, Image::Of(source)) => {
                Some(MachineImage { label: label.clone(), source: source.clone(), kept })
            }
        }
    }
}
