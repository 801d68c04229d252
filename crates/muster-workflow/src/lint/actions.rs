//! `uses`: actions that are named wrong, are too old to run, or get inputs that they do not have.

use std::rc::Rc;

use super::Lint;
use super::popular::{Interface, popular};
use super::types::Type;
use crate::diagnostic::Rule;
use crate::keys;
use crate::manifest::Manifest;
use crate::token::{Kind, Token};
use crate::uses::Uses;
use crate::words::nearest;

/// Versions of actions whose runtime (Node.js 12 or 16) GitHub's runners do not have any more: the name, and the
/// versions of it.
const OUTDATED: &[(&str, &[&str])] = &[
    ("8398a7/action-slack", &["v1", "v2"]),
    ("Azure/container-scan", &["v0"]),
    ("JamesIves/github-pages-deploy-action", &["releases/v3"]),
    ("ReactiveCircus/android-emulator-runner", &["v1"]),
    ("Swatinem/rust-cache", &["v1"]),
    ("actions-cool/issues-helper", &["v1", "v2"]),
    ("actions-rs/audit-check", &["v1"]),
    ("actions-rs/cargo", &["v1"]),
    ("actions-rs/clippy-check", &["v1"]),
    ("actions-rs/toolchain", &["v1"]),
    ("actions/cache", &["v1", "v2", "v3"]),
    ("actions/checkout", &["v1", "v2", "v3"]),
    ("actions/configure-pages", &["v1", "v2", "v3"]),
    ("actions/delete-package-versions", &["v1", "v2", "v3", "v4"]),
    ("actions/dependency-review-action", &["v3"]),
    ("actions/deploy-pages", &["v1", "v2"]),
    ("actions/download-artifact", &["v1", "v2", "v3"]),
    ("actions/github-script", &["v1", "v2", "v3", "v4", "v5", "v6"]),
    ("actions/labeler", &["v2", "v3", "v4"]),
    ("actions/setup-dotnet", &["v1", "v2", "v3"]),
    ("actions/setup-go", &["v1", "v2", "v3", "v4"]),
    ("actions/setup-java", &["v1", "v2", "v3"]),
    ("actions/setup-node", &["v1", "v2", "v3"]),
    ("actions/setup-python", &["v1", "v2", "v3", "v4"]),
    ("actions/stale", &["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"]),
    ("actions/upload-artifact", &["v1", "v2", "v3"]),
    ("aws-actions/configure-aws-credentials", &["v1", "v2", "v3"]),
    ("azure/aks-set-context", &["v1", "v2", "v3"]),
    ("azure/login", &["v1"]),
    ("codecov/codecov-action", &["v1", "v2", "v3"]),
    ("dawidd6/action-download-artifact", &["v2"]),
    ("dawidd6/action-send-mail", &["v2"]),
    ("dessant/lock-threads", &["v2", "v3", "v4"]),
    ("docker/build-push-action", &["v2", "v3", "v4"]),
    ("docker/login-action", &["v1", "v2"]),
    ("docker/metadata-action", &["v1", "v2", "v3", "v4"]),
    ("docker/setup-buildx-action", &["v1", "v2"]),
    ("docker/setup-qemu-action", &["v1", "v2"]),
    ("dorny/paths-filter", &["v1", "v2"]),
    ("enriikke/gatsby-gh-pages-action", &["v2"]),
    ("game-ci/unity-builder", &["v2", "v3"]),
    ("github/codeql-action/analyze", &["v1", "v2"]),
    ("github/codeql-action/autobuild", &["v1", "v2"]),
    ("github/codeql-action/init", &["v1", "v2"]),
    ("githubocto/flat", &["v1", "v2", "v3"]),
    ("golangci/golangci-lint-action", &["v1", "v2", "v3"]),
    ("google-github-actions/auth", &["v1"]),
    ("google-github-actions/get-secretmanager-secrets", &["v1"]),
    ("google-github-actions/setup-gcloud", &["v1"]),
    ("google-github-actions/upload-cloud-storage", &["v1"]),
    ("goreleaser/goreleaser-action", &["v1", "v2", "v3", "v4"]),
    ("gradle/wrapper-validation-action", &["v1"]),
    ("haskell/actions/setup", &["v1", "v2"]),
    ("marvinpinto/action-automatic-releases", &["latest"]),
    ("mikepenz/release-changelog-builder-action", &["v1", "v2", "v3"]),
    ("msys2/setup-msys2", &["v1"]),
    ("nwtgck/actions-netlify", &["v1", "v2"]),
    ("octokit/request-action", &["v1.x"]),
    ("peaceiris/actions-gh-pages", &["v3"]),
    ("peter-evans/create-or-update-comment", &["v3"]),
    ("peter-evans/create-pull-request", &["v1", "v2", "v3", "v4", "v5"]),
    ("preactjs/compressed-size-action", &["v1"]),
    ("pulumi/actions", &["v2", "v3", "v4"]),
    ("release-drafter/release-drafter", &["v5"]),
    ("ridedott/merge-me-action", &["v1"]),
    ("shivammathur/setup-php", &["v1"]),
    ("softprops/action-gh-release", &["v1"]),
    ("treosh/lighthouse-ci-action", &["v1", "v2", "v3", "v7", "v8", "v9", "v10"]),
    ("wearerequired/lint-action", &["v1", "v2"]),
];

/// The manifests of so many actions of the repository are looked at.
const MAX_ACTIONS: usize = 50;

/// So many inputs are named.
const MAX_NAMED: usize = 50;

impl Lint<'_> {
    pub(super) fn action(&mut self, token: &Token, step: &Token) {
        let Some(text) = token.text() else { return };
        let Some(uses) = Uses::read(text) else { return };
        if let Uses::Docker(image) = &uses {
            let tag = image.rsplit_once(':').map(|(_, tag)| tag);
            if tag == Some("") || image.is_empty() {
                self.say(token.span, Rule::Action, format!("`{text}` names no image"));
            }
            return;
        }
        let (name, git_ref) = text.split_once('@').unwrap_or((text, ""));
        if OUTDATED.iter().any(|(known, of)| *known == name && of.contains(&git_ref)) {
            let message = format!(
                "`{text}` is too old for GitHub's runners, which have no Node.js 16 any more"
            );
            self.say_with_hint(token.span, Rule::Action, message, "use a newer version");
        }
        let action = self.interface(&uses);
        for wrong in action.iter().flat_map(|action| &action.wrong) {
            self.say(token.span, Rule::Action, format!("`{text}` is wrong: {wrong}"));
        }
        if let Some(action) = action {
            self.inputs(&action, text, token, step);
        }
    }

    fn inputs(&mut self, action: &Interface, uses: &str, token: &Token, step: &Token) {
        let given = step.get(keys::WITH).filter(|with| !matches!(with.kind, Kind::Wrong));
        let given = given.map(Token::pairs).unwrap_or_default();
        for pair in given {
            if self.is_full() {
                return;
            }
            let Some(name) = pair.key.text() else { continue };
            match action.inputs.iter().find(|input| input.is(name)) {
                Some(input) if input.deprecated && !input.required => {
                    let message = format!("input `{name}` of `{uses}` is deprecated");
                    self.say(pair.key.span, Rule::Action, message);
                }
                Some(_) => {}
                None if action.takes_others => {}
                None => {
                    let message = format!("`{uses}` has no input `{name}`");
                    let names = || action.inputs.iter().map(|input| input.name.as_str());
                    let hint = match nearest(name, names()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None if action.inputs.is_empty() => "it has none".to_owned(),
                        None => {
                            let first: Vec<&str> = names().take(MAX_NAMED).collect();
                            let more = if action.inputs.len() > MAX_NAMED { ", …" } else { "" };
                            format!("its inputs are: {}{more}", first.join(", "))
                        }
                    };
                    self.say_with_hint(pair.key.span, Rule::Action, message, &hint);
                }
            }
        }
        for input in action.inputs.iter().filter(|input| input.required) {
            if self.is_full() {
                return;
            }
            let is_given =
                given.iter().any(|pair| pair.key.text().is_some_and(|name| input.is(name)));
            if !is_given {
                self.say(
                    token.span,
                    Rule::Action,
                    format!("`{uses}` needs input `{}`", input.name),
                );
            }
        }
    }

    /// Returns what an action takes and gives, where that is known.
    fn interface(&self, uses: &Uses) -> Option<Rc<Interface>> {
        let folder = match uses {
            Uses::Local(path) => path.trim_start_matches("./"),
            Uses::OwnRepository(path) => path,
            _ => return popular(uses).map(Rc::new),
        };
        // However it is written, it is one.
        let parts = folder.split('/').filter(|part| !matches!(*part, "" | "."));
        let folder = &parts.collect::<Vec<_>>().join("/");
        if let Some(known) = self.actions.borrow().get(folder) {
            return known.clone();
        }
        if self.actions.borrow().len() >= MAX_ACTIONS {
            return None;
        }
        let read = ["action.yml", "action.yaml"].into_iter().find_map(|file| {
            let at = if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") };
            Some(of_manifest(file, &self.files.read(&at)?))
        });
        let read = read.map(Rc::new);
        self.actions.borrow_mut().insert(folder.clone(), read.clone());
        read
    }
}

/// Returns what an action takes and gives that has this manifest.
fn of_manifest(file: &str, source: &str) -> Interface {
    match Manifest::read(source) {
        Ok(manifest) => {
            let mut interface = Interface::from(&manifest);
            let is_there = [
                (keys::NAME, !manifest.name.is_empty()),
                (keys::DESCRIPTION, manifest.description.is_some()),
            ];
            for (key, _) in is_there.iter().filter(|(_, is_there)| !is_there) {
                interface.wrong.push(format!("{file} has no `{key}`"));
            }
            interface
        }
        Err(problems) => {
            let wrong = problems.iter().map(|problem| {
                let line = problem.line(source);
                format!("line {line} of {file}: {}", problem.message)
            });
            Interface {
                wrong: wrong.collect(),
                takes_others: true,
                gives_others: true,
                ..Interface::default()
            }
        }
    }
}

/// Returns the type of what an action gives.
pub(super) fn outputs(lint: &Lint<'_>, uses: &Uses) -> Type {
    match lint.interface(uses) {
        Some(action) if !action.gives_others => {
            Type::object(action.outputs.iter().map(|name| (name.as_str(), Type::Text)))
        }
        _ => Type::map(Type::Text),
    }
}
