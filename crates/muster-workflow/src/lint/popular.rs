//! What the actions take and give that most people use.

use crate::manifest::{Manifest, Runs};
use crate::uses::Uses;

/// Actions, three lines each: `owner/repository[/path]` with the refs that are alike, its inputs (`!` before one that is
/// required, `~` before one that is deprecated), its outputs; `…` where there may be others. From the manifests of the
/// actions.
const POPULAR: &str = include_str!("popular.txt");

/// What an action takes and gives.
#[derive(Debug, Default)]
pub(super) struct Interface {
    pub(super) inputs: Vec<Input>,
    /// Whether it takes inputs that are not known.
    pub(super) takes_others: bool,
    pub(super) outputs: Vec<String>,
    /// Whether it gives outputs that are not known.
    pub(super) gives_others: bool,
    /// What is wrong with its manifest, as sentences.
    pub(super) wrong: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Input {
    pub(super) name: String,
    /// Whether it must be given.
    pub(super) required: bool,
    pub(super) deprecated: bool,
}

impl Input {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl From<&Manifest> for Interface {
    fn from(manifest: &Manifest) -> Self {
        let inputs = manifest.inputs.iter().map(|input| Input {
            name: input.name.clone(),
            required: input.required && input.default.is_none(),
            deprecated: input.deprecated.is_some(),
        });
        Self {
            inputs: inputs.collect(),
            outputs: manifest.outputs.iter().map(|(name, _)| name.clone()).collect(),
            // A program may give what its manifest does not name.
            gives_others: !matches!(manifest.runs, Runs::Composite(_))
                && manifest.outputs.is_empty(),
            ..Self::default()
        }
    }
}

/// The sign that there may be others.
const OTHERS: &str = "…";

/// Returns what an action takes and gives that many use.
pub(super) fn popular(uses: &Uses) -> Option<Interface> {
    let text = uses.to_string();
    let (action, git_ref) = text.split_once('@')?;
    let mut lines = POPULAR.lines();
    while let (Some(names), Some(inputs), Some(outputs)) =
        (lines.next(), lines.next(), lines.next())
    {
        let mut names = names.split(' ');
        if names.next()?.eq_ignore_ascii_case(action) && names.any(|name| name == git_ref) {
            return Some(of_lines(inputs, outputs));
        }
    }
    None
}

fn of_lines(inputs: &str, outputs: &str) -> Interface {
    let named = |line: &str| -> Vec<String> {
        line.split_whitespace().filter(|name| *name != OTHERS).map(str::to_owned).collect()
    };
    let input = |name: String| Input {
        required: name.starts_with('!'),
        deprecated: name.starts_with('~'),
        name: name.trim_start_matches(['!', '~']).to_owned(),
    };
    Interface {
        inputs: named(inputs).into_iter().map(input).collect(),
        takes_others: inputs.contains(OTHERS),
        outputs: named(outputs),
        gives_others: outputs.contains(OTHERS),
        wrong: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read() {
        let lines: Vec<&str> = POPULAR.lines().collect();
        assert_eq!(lines.len() % 3, 0);
        for action in lines.chunks(3) {
            let (name, refs) = action[0].split_once(' ').unwrap();
            for git_ref in refs.split(' ') {
                let uses = Uses::read(&format!("{name}@{git_ref}")).unwrap();
                assert!(popular(&uses).is_some(), "{uses}");
            }
            assert!(action[1..].iter().all(|line| line.is_empty() || line.starts_with("  ")));
        }
    }
}
