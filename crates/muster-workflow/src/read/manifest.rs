//! The manifest of an action.

use super::Reader;
use super::fields::{condition, template, templates};
use crate::diagnostic::{Problem, Rule};
use crate::keys;
use crate::manifest::{ActionInput, Hook, Manifest, Node, Runs};
use crate::token::{Kind, Token};
use crate::words::list;

/// The other ways to run beside `node20` and the like.
const COMPOSITE: &str = "composite";
const DOCKER: &str = "docker";

impl Reader {
    /// Reads a manifest; `None` where it does not say what it does.
    pub(super) fn manifest(&mut self, root: &Token) -> Option<Manifest> {
        let pairs = |key: &str| root.get(key).map(Token::pairs).unwrap_or_default().iter();
        let inputs = pairs(keys::INPUTS).filter_map(|pair| {
            let of = &pair.value;
            // A flag in quotes is one, too.
            let required = of.get(keys::REQUIRED).is_some_and(|flag| match &flag.kind {
                Kind::Bool(flag) => *flag,
                Kind::Text(text) => text.eq_ignore_ascii_case("true"),
                _ => false,
            });
            Some(ActionInput {
                name: pair.key.text()?.to_owned(),
                required,
                default: of.get(keys::DEFAULT).and_then(template),
                deprecated: of.get(keys::DEPRECATION_MESSAGE).and_then(text),
            })
        });
        let outputs = pairs(keys::OUTPUTS).filter_map(|pair| {
            Some((pair.key.text()?.to_owned(), pair.value.get(keys::VALUE).and_then(template)))
        });
        Some(Manifest {
            name: root.get(keys::NAME).and_then(text).unwrap_or_default(),
            description: root.get(keys::DESCRIPTION).and_then(text),
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            runs: self.runs(root.get(keys::RUNS)?)?,
        })
    }

    fn runs(&mut self, token: &Token) -> Option<Runs> {
        let using = token.get(keys::USING)?;
        let name = using.text()?.to_ascii_lowercase();
        let name = name.as_str();
        let get = |key: &str| token.get(key).and_then(text);
        let hook = |program: &str, when: &str| {
            let condition = token.get(when).and_then(condition);
            get(program).map(|program| Hook { program, condition })
        };
        let node = name.strip_prefix("node").and_then(|version| version.parse().ok()).map(Node);
        let needs = match (name, node) {
            (COMPOSITE, _) => keys::STEPS,
            (DOCKER, _) => keys::IMAGE,
            (_, Some(node)) if Node::KNOWN.contains(&node) || Node::GONE.contains(&node) => {
                keys::MAIN
            }
            _ => {
                let nodes = Node::KNOWN.map(|Node(version)| format!("node{version}"));
                let known: Vec<&str> = [COMPOSITE, DOCKER]
                    .into_iter()
                    .chain(nodes.iter().map(String::as_str))
                    .collect();
                let message = format!("`{name}` is nothing that runs an action");
                let hint = format!("write {}", list(&known));
                let problem = Problem::invalid(using.span, message).of(Rule::Action);
                self.problems.push(problem.with_hint(hint));
                return None;
            }
        };
        let Some(what) = token.get(needs) else {
            if self.is_well_formed {
                let message = format!("`using: {name}` needs `{needs}`");
                self.problems.push(Problem::invalid(using.span, message).of(Rule::Action));
            }
            return None;
        };
        Some(match (name, node) {
            (COMPOSITE, _) => Runs::Composite(self.steps(what)),
            (_, Some(node)) => Runs::JavaScript {
                node: node.max(Node::KNOWN[0]),
                main: text(what)?,
                pre: hook(keys::PRE, keys::PRE_IF),
                post: hook(keys::POST, keys::POST_IF),
            },
            _ => Runs::Docker {
                image: text(what)?,
                entrypoint: get(keys::ENTRYPOINT),
                args: token
                    .get(keys::ARGS)
                    .map(Token::items)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(template)
                    .collect(),
                env: token.get(keys::ENV).map(templates).unwrap_or_default(),
                pre: hook(keys::PRE_ENTRYPOINT, keys::PRE_IF),
                post: hook(keys::POST_ENTRYPOINT, keys::POST_IF),
            },
        })
    }
}

/// Returns a scalar that is written, as text.
fn text(token: &Token) -> Option<String> {
    template(token)?.as_literal().map(str::to_owned)
}
