//! The manifest of an action (`action.yml`): what it takes, what it gives and what it does.
//!
//! Follows GitHub's
//! [metadata syntax](https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax), as its runner
//! reads it.

use crate::diagnostic::Problem;
use crate::template::{Condition, Template};
use crate::token::{self, Places};
use crate::workflow::Step;
use crate::{grammar, read, yaml};

/// An action.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// `name`; empty where nobody has given one.
    pub name: String,
    /// `description`.
    pub description: Option<String>,
    /// `inputs`, in the order of the file.
    pub inputs: Vec<ActionInput>,
    /// `outputs`: of a composite action each with its value.
    pub outputs: Vec<(String, Option<Template>)>,
    /// `runs`.
    pub runs: Runs,
}

/// An input of an action. Its value is always a text.
#[derive(Debug, Clone)]
pub struct ActionInput {
    /// Its name.
    pub name: String,
    /// `required`: whoever uses the action should give it; GitHub does not insist.
    pub required: bool,
    /// `default`.
    pub default: Option<Template>,
    /// `deprecationMessage`.
    pub deprecated: Option<String>,
}

/// What an action does.
#[derive(Debug, Clone)]
pub enum Runs {
    /// `using: composite`: steps.
    Composite(Vec<Step>),
    /// `using: node20` and the like: a program of JavaScript.
    JavaScript {
        /// Which Node.js it asks for.
        node: Node,
        /// `main`.
        main: String,
        /// `pre`, and when it runs.
        pre: Option<Hook>,
        /// `post`, and when it runs.
        post: Option<Hook>,
    },
    /// `using: docker`: a container.
    Docker {
        /// `image`: a Dockerfile by its path, or `docker://image`.
        image: String,
        /// `entrypoint`.
        entrypoint: Option<String>,
        /// `args`.
        args: Vec<Template>,
        /// `env`.
        env: Vec<(String, Template)>,
        /// `pre-entrypoint`, and when it runs.
        pre: Option<Hook>,
        /// `post-entrypoint`, and when it runs.
        post: Option<Hook>,
    },
}

/// The major version of Node.js that an action asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(pub u32);

impl Node {
    /// Those that GitHub's runner has.
    pub const KNOWN: [Self; 2] = [Self(20), Self(24)];
    /// Those that it had; what asks for one of them runs with the oldest that is left.
    pub const GONE: [Self; 2] = [Self(12), Self(16)];
}

/// What an action does before or after all steps of a job.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The program.
    pub program: String,
    /// When it runs; without one always.
    pub condition: Option<Condition>,
}

impl Manifest {
    /// Returns the manifest of an action that has none, but a Dockerfile.
    pub fn of_dockerfile() -> Self {
        Self {
            name: String::new(),
            description: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            runs: Runs::Docker {
                image: "Dockerfile".to_owned(),
                entrypoint: None,
                args: Vec::new(),
                env: Vec::new(),
                pre: None,
                post: None,
            },
        }
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, in the order of the places.
    pub fn read(source: &str) -> Result<Self, Vec<Problem>> {
        let (root, mut problems) = yaml::read(source);
        let manifest = root.and_then(|root| {
            let (root, more) =
                token::read_as(source, root, Places::Words, &grammar::ACTION, "an action");
            let is_right = problems.is_empty() && more.is_empty();
            problems.extend(more);
            let (manifest, more) = read::manifest(&root, is_right);
            problems.extend(more);
            manifest
        });
        match manifest {
            Some(manifest) if problems.is_empty() => Ok(manifest),
            _ => Err(read::in_order(problems)),
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn problems(source: &str) -> String {
        let problems = Manifest::read(source).err().unwrap_or_default();
        let lines: Vec<String> =
            problems.iter().map(|problem| problem.one_line("action.yml", source)).collect();
        lines.join("\n")
    }

    #[test]
    fn the_three_kinds_are_read() {
        let composite = Manifest::read(
            "name: Make\ndescription: Makes\ninputs:\n  level: {required: true, default: '${{ github.ref }}'}\n\
             outputs:\n  made: {description: what, value: '${{ steps.make.outputs.made }}'}\n\
             runs:\n  using: composite\n  steps:\n    - id: make\n      run: make\n      shell: bash\n    - uses: ./other\n",
        )
        .unwrap();
        assert!(composite.inputs[0].required && composite.inputs[0].default.is_some());
        assert_eq!(composite.outputs[0].0, "made");
        assert!(matches!(&composite.runs, Runs::Composite(steps) if steps[0].id == "make"));
        let node = "runs: {using: node20, main: a.js, post: b.js, post-if: success()}";
        let Runs::JavaScript { node, main, pre, post } = Manifest::read(node).unwrap().runs else {
            panic!("it is no program of JavaScript")
        };
        assert_eq!((node, main.as_str(), pre.is_some()), (Node(20), "a.js", false));
        assert_eq!(post.unwrap().program, "b.js");
        let docker =
            "runs: {using: docker, image: Dockerfile, args: ['${{ inputs.a }}', b], env: {C: d}}";
        let Runs::Docker { image, args, env, .. } = Manifest::read(docker).unwrap().runs else {
            panic!("it is no container")
        };
        assert_eq!((image.as_str(), args.len(), env.len()), ("Dockerfile", 2, 1));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        assert_snapshot!(problems(
            "name: Wrong\ninputs: [a]\noutputs: {made: {vaule: a}}\nruns:\n  using: composite\n  steps:\n\
             \x20   - run: echo ${{ secrets.A }}\n    - uses: nowhere\n    - {uses: ./a, timeout-minutes: 1}\n",
        ), @"
    action.yml:2:9: `inputs` must be a mapping, this is a list
    action.yml:3:18: an output has no key `vaule`
    action.yml:7:7: a step with `run` needs `shell`
    action.yml:7:21: context `secrets` is not available here; available: github, inputs, strategy, matrix, steps, job, runner, env
    action.yml:8:13: `nowhere` is no action
    action.yml:9:19: a step with `uses` has no key `timeout-minutes`
    ");
        assert_snapshot!(problems("runs: {using: node14, main: a.js, env: {A: b}}"), @"
    action.yml:1:15: `node14` is nothing that runs an action
    action.yml:1:35: a JavaScript action has no key `env`
    ");
        assert_snapshot!(problems("runs: {using: composite, main: a.js}"), @"action.yml:1:15: `using: composite` needs `steps`");
        assert_snapshot!(problems("runs: {using: nodes}"), @"action.yml:1:15: `nodes` is nothing that runs an action");
        assert_snapshot!(problems("name: a"), @"action.yml:1:1: an action needs `runs`");
        assert_snapshot!(problems("runs:\n  a: [\n"), @"action.yml:2:6: not YAML: unclosed bracket '['");
    }
}
