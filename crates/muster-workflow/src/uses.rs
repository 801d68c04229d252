//! What a step uses: an action, by the text of its `uses`.

use std::fmt;

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uses {
    /// `owner/name[/path]@ref`.
    Repository {
        /// Whose it is.
        owner: String,
        /// The repository.
        name: String,
        /// The folder in it; empty for its top.
        path: String,
        /// The branch, tag or commit.
        git_ref: String,
    },
    /// `./path`: in the workspace.
    Local(String),
    /// `$/path`: in the repository and commit that the workflow is from.
    OwnRepository(String),
    /// `docker://image`.
    Docker(String),
}

impl Uses {
    /// Reads the text of a `uses`; `None` where it is of none of the forms.
    pub fn read(text: &str) -> Option<Self> {
        if let Some(image) = text.strip_prefix("docker://") {
            return Some(Self::Docker(image.to_owned()));
        }
        if text.starts_with("./") || text.starts_with(".\\") {
            return Some(Self::Local(text.to_owned()));
        }
        if let Some(path) = text.strip_prefix("$/") {
            let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
            return Some(Self::OwnRepository(parts.collect::<Vec<_>>().join("/")));
        }
        let (action, git_ref) = text.split_once('@')?;
        let mut parts = action.split(['/', '\\']).filter(|part| !part.is_empty());
        let (owner, name) = (parts.next()?, parts.next()?);
        if git_ref.is_empty() || git_ref.contains('@') {
            return None;
        }
        Some(Self::Repository {
            owner: owner.to_owned(),
            name: name.to_owned(),
            path: parts.collect::<Vec<_>>().join("/"),
            git_ref: git_ref.to_owned(),
        })
    }

    /// Returns what it names in a file of `home`, a repository at a ref: what is of the file's own repository is of that.
    #[must_use]
    pub fn within(&self, home: &Self) -> Self {
        match (self, home) {
            (Self::OwnRepository(path), Self::Repository { owner, name, git_ref, .. }) => {
                let (owner, name, git_ref) = (owner.clone(), name.clone(), git_ref.clone());
                Self::Repository { owner, name, path: path.clone(), git_ref }
            }
            _ => self.clone(),
        }
    }

    /// Returns true for the action at the top of the repository `owner/name`, at any ref.
    pub fn is(&self, action: &str) -> bool {
        match self {
            Self::Repository { owner, name, path, .. } => {
                path.is_empty() && action.eq_ignore_ascii_case(&format!("{owner}/{name}"))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { owner, name, path, git_ref } if path.is_empty() => {
                write!(f, "{owner}/{name}@{git_ref}")
            }
            Self::Repository { owner, name, path, git_ref } => {
                write!(f, "{owner}/{name}/{path}@{git_ref}")
            }
            Self::Local(path) => f.write_str(path),
            Self::OwnRepository(path) => write!(f, "$/{path}"),
            Self::Docker(image) => write!(f, "docker://{image}"),
        }
    }
}
