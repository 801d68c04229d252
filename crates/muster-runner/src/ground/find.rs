//! Looking a job's programs up, without asking any of them.

use std::path::{Component, Path, PathBuf};

use muster_sys::sandbox;

use super::{Footing, Ground, SHELLS, imaged};

impl Ground {
    /// Looks a program up as a step would, in `search_path`.
    ///
    /// Where steps are not as we are, only among what no step can change; one that is nowhere there is left
    /// to the start of the step to find, but for the shells of which there is another.
    pub(crate) fn find(&self, name: &str, search_path: &str) -> Option<PathBuf> {
        let is_ours = self.is_ours();
        let there = |path: PathBuf| self.has_file(&path).then_some(path);
        if name.contains('/') {
            return if is_ours { there(name.into()) } else { Some(name.into()) };
        }
        let found = std::env::split_paths(search_path).map(|folder| folder.join(name));
        let found = found.into_iter().find_map(there);
        // One that a step has installed: whether it is there shows when it is started.
        let is_elsewhere = self.inmate().is_some();
        let elsewhere = is_elsewhere || (!is_ours && !SHELLS.contains(&name));
        found.or_else(|| elsewhere.then(|| name.into()))
    }

    /// Returns whether a file is among what no step changes, or what an image has.
    fn has_file(&self, path: &Path) -> bool {
        match &self.footing {
            Footing::Image { root, .. } => imaged::has_file(root, path),
            _ => self.outside(path).is_some_and(|outside| outside.is_file()),
        }
    }

    /// Returns where a path of the steps is for us, if it is in what no step changes.
    fn outside(&self, path: &Path) -> Option<PathBuf> {
        let (fixed, hidden) = match &self.footing {
            Footing::Own | Footing::Gone => return Some(path.to_owned()),
            Footing::Guest { fixed, hidden, .. } => (fixed, Some(hidden)),
            Footing::Sandbox { fixed, .. } => (fixed, None),
            Footing::Container { .. } | Footing::Image { .. } => return None,
        };
        // A step must not learn what there is elsewhere.
        if path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let shown = fixed.iter().find_map(|bind| {
            let below = path.strip_prefix(&bind.to).ok()?;
            let is_it = below.as_os_str().is_empty();
            Some(if is_it { bind.from.clone() } else { bind.from.join(below) })
        });
        // All else is as it is, but for what a guest has in the place of something.
        let covered = |folder: &Path| path.starts_with(folder);
        let is_plain = hidden.is_some_and(|hidden| {
            !covered(Path::new(sandbox::PLACE)) && !hidden.as_deref().is_some_and(covered)
        });
        shown.or_else(|| is_plain.then(|| path.to_owned()))
    }
}
