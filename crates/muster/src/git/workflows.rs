//! The workflow files of a commit.

use muster_core::id::Sha;
use muster_workflow::cibuild;

use super::{GitError, Mirror};

/// How many workflow files one commit may have.
pub(crate) const MAX_FILES: usize = 500;

/// Workflow files: paths, and texts where they can be read.
pub(crate) type Files = Vec<(String, Option<String>)>;

/// Finds the workflow files of a commit, else the conventional script: paths, and texts where they
/// can be read. `None` for more than [`MAX_FILES`].
pub(crate) fn of(mirror: &Mirror, sha: &Sha) -> Result<Option<Files>, GitError> {
    let listed = mirror.list(sha, &[".muster/workflows/", ".github/workflows/", cibuild::PATH])?;
    let in_folder = |folder: &str| -> Vec<(String, String)> {
        listed
            .iter()
            .filter(|(mode, _, path)| {
                mode.starts_with("100")
                    && path.starts_with(folder)
                    && (path.ends_with(".yml") || path.ends_with(".yaml"))
            })
            .map(|(_, object, path)| (object.clone(), path.clone()))
            .collect()
    };
    let mut files = in_folder(".muster/workflows/");
    if files.is_empty() {
        files = in_folder(".github/workflows/");
    }
    if files.len() > MAX_FILES {
        return Ok(None);
    }
    let (objects, paths): (Vec<String>, Vec<String>) = files.into_iter().unzip();
    let texts = mirror.read(&objects)?;
    let mut files: Files = paths.into_iter().zip(texts).collect();
    let script =
        |(mode, _, path): &(String, String, String)| mode == "100755" && path == cibuild::PATH;
    if files.is_empty() && listed.iter().any(script) {
        files.push((cibuild::PATH.to_owned(), Some(cibuild::WORKFLOW.to_owned())));
    }
    Ok(Some(files))
}
