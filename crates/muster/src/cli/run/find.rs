//! Finding what to run: workflow files, else the conventional script.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use muster_workflow::cibuild;

use super::screen::{News, Screen};
use crate::git::WorkTree;

/// A workflow file and its text.
#[derive(Debug)]
pub(super) struct WorkflowFile {
    /// Its path in the repository.
    pub(super) path: String,
    /// Its text.
    pub(super) text: String,
}

/// The folders that may hold workflows; the first that has any is used.
const FOLDERS: [&str; 2] = [".muster/workflows", ".github/workflows"];

/// Returns the files to run; `None`, having said so, where there is nothing.
pub(super) fn workflows(
    tree: &WorkTree,
    named: Option<&Path>,
    here: &Path,
    screen: &mut Screen,
) -> anyhow::Result<Option<Vec<WorkflowFile>>> {
    if let Some(named) = named {
        let path = here.join(named);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let path = path.strip_prefix(&tree.top).unwrap_or(named).to_string_lossy().into_owned();
        return Ok(Some(vec![WorkflowFile { path, text }]));
    }
    for folder in FOLDERS {
        let files = in_folder(&tree.top, folder)?;
        if !files.is_empty() {
            return Ok(Some(files));
        }
    }
    let script = tree.top.join(cibuild::PATH);
    let executable = fs::metadata(&script)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
    if executable {
        let (path, text) = (cibuild::PATH.to_owned(), cibuild::WORKFLOW.to_owned());
        return Ok(Some(vec![WorkflowFile { path, text }]));
    }
    screen.tell(News::Note(&format!(
        "nothing to run in {}: no .yml or .yaml in {}, and no executable {}",
        tree.top.display(),
        FOLDERS.join(" or "),
        cibuild::PATH
    )));
    Ok(None)
}

fn in_folder(top: &Path, folder: &str) -> anyhow::Result<Vec<WorkflowFile>> {
    let at = || format!("cannot read {folder}");
    let entries = match fs::read_dir(top.join(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(at)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(at)?.path();
        if path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml")
            && path.is_file()
        {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push(WorkflowFile { path: format!("{folder}/{name}"), text });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
