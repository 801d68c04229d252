//! `uses`: actions that are named wrong, are too old to run, or get inputs that they do not have.

use std::rc::Rc;

use super::Lint;
use super::types::Type;
use crate::diagnostic::Rule;
use crate::keys;
use crate::token::{Kind, Token};
use crate::uses::Uses;
use crate::words::nearest;
use crate::yaml::{self, Node, Yaml};

/// What an action takes and gives.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    inputs: Vec<Input>,
    /// `None` where it gives whatever it likes.
    outputs: Option<Vec<String>>,
}

#[derive(Debug)]
struct Input {
    name: String,
    required: bool,
    deprecated: bool,
}

/// An action that many use: `owner/repository@ref`, its inputs (`!` for one that is required, `~` for one that is
/// deprecated; no list where it takes any) and its outputs (no list where it gives any).
struct Popular {
    uses: &'static str,
    inputs: Option<&'static str>,
    outputs: Option<&'static str>,
}

/// From the manifests of the actions.
const POPULAR: [Popular; 6] = [
    Popular {
        uses: "actions/checkout@v4",
        inputs: Some(
            "clean fetch-depth fetch-tags filter github-server-url lfs path persist-credentials ref repository \
             set-safe-directory show-progress sparse-checkout sparse-checkout-cone-mode ssh-key ssh-known-hosts \
             ssh-strict ssh-user submodules token",
        ),
        outputs: Some("commit ref"),
    },
    Popular {
        uses: "actions/cache@v4",
        inputs: Some(
            "!key !path enableCrossOsArchive fail-on-cache-miss lookup-only restore-keys ~save-always \
             upload-chunk-size",
        ),
        outputs: Some("cache-hit"),
    },
    Popular {
        uses: "actions/github-script@v7",
        inputs: Some(
            "!script base-url debug github-token previews result-encoding retries retry-exempt-status-codes \
             user-agent",
        ),
        outputs: None,
    },
    Popular {
        uses: "octokit/request-action@v2.x",
        inputs: None,
        outputs: Some("data headers status"),
    },
    Popular {
        uses: "octokit/request-action@v3.x",
        inputs: None,
        outputs: Some("data headers status"),
    },
    Popular {
        uses: "rhysd/action-setup-vim@v1",
        inputs: Some("configure-args neovim token version"),
        outputs: Some("executable vim-dir"),
    },
];

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

impl Popular {
    fn manifest(&self) -> Manifest {
        let inputs = self.inputs.unwrap_or_default().split_whitespace().map(|input| Input {
            name: input.trim_start_matches(['!', '~']).to_owned(),
            required: input.starts_with('!'),
            deprecated: input.starts_with('~'),
        });
        let outputs = self.outputs.map(|of| of.split_whitespace().map(str::to_owned).collect());
        Manifest { inputs: inputs.collect(), outputs }
    }
}

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
        let manifest = match &uses {
            Uses::Local(_) | Uses::OwnRepository(_) => self.manifest(&uses),
            _ => POPULAR
                .iter()
                .find(|popular| popular.uses == text && popular.inputs.is_some())
                .map(|popular| Rc::new(popular.manifest())),
        };
        if let Some(manifest) = manifest {
            self.inputs(&manifest, text, token, step);
        }
    }

    fn inputs(&mut self, manifest: &Manifest, uses: &str, token: &Token, step: &Token) {
        let given = step.get(keys::WITH).filter(|with| !matches!(with.kind, Kind::Wrong));
        let given = given.map(Token::pairs).unwrap_or_default();
        let same = |input: &Input, name: &str| input.name.eq_ignore_ascii_case(name);
        for pair in given {
            let Some(name) = pair.key.text() else { continue };
            match manifest.inputs.iter().find(|input| same(input, name)) {
                Some(input) if input.deprecated && !input.required => {
                    let message = format!("input `{name}` of `{uses}` is deprecated");
                    self.say(pair.key.span, Rule::Action, message);
                }
                Some(_) => {}
                None => {
                    let message = format!("`{uses}` has no input `{name}`");
                    let names = || manifest.inputs.iter().map(|input| input.name.as_str());
                    let hint = match nearest(name, names()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => {
                            format!("its inputs are: {}", names().collect::<Vec<_>>().join(", "))
                        }
                    };
                    self.say_with_hint(pair.key.span, Rule::Action, message, &hint);
                }
            }
        }
        for input in manifest.inputs.iter().filter(|input| input.required) {
            let is_given =
                given.iter().any(|pair| pair.key.text().is_some_and(|name| same(input, name)));
            if !is_given {
                self.say(
                    token.span,
                    Rule::Action,
                    format!("`{uses}` needs input `{}`", input.name),
                );
            }
        }
    }

    /// Reads the manifest of an action of the same repository; `None` where there is none that can be read.
    fn manifest(&self, uses: &Uses) -> Option<Rc<Manifest>> {
        let folder = match uses {
            Uses::Local(path) => path.trim_start_matches("./"),
            Uses::OwnRepository(path) => path,
            _ => return None,
        };
        let folder = folder.trim_matches('/');
        if let Some(known) = self.actions.borrow().get(folder) {
            return known.clone();
        }
        let at = |file: &str| {
            if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
        };
        let source =
            self.files.read(&at("action.yml")).or_else(|| self.files.read(&at("action.yaml")));
        let manifest = source.and_then(|source| read(&source)).map(Rc::new);
        self.actions.borrow_mut().insert(folder.to_owned(), manifest.clone());
        manifest
    }
}

/// Returns the type of what an action gives.
pub(super) fn outputs(lint: &Lint<'_>, uses: &Uses) -> Type {
    let manifest = match uses {
        Uses::Local(_) | Uses::OwnRepository(_) => lint.manifest(uses),
        _ => {
            let text = uses.to_string();
            POPULAR
                .iter()
                .find(|popular| popular.uses == text)
                .map(|popular| Rc::new(popular.manifest()))
        }
    };
    match manifest.as_deref() {
        Some(Manifest { outputs: Some(outputs), .. }) => {
            Type::object(outputs.iter().map(|name| (name.as_str(), Type::Text)))
        }
        Some(_) => Type::loose([]),
        None => Type::map(Type::Text),
    }
}

/// Reads a manifest; `None` where it is no YAML.
fn read(source: &str) -> Option<Manifest> {
    let root = yaml::read(source).0?;
    let names = |key: &str| match root.get(key).map(|node| &node.yaml) {
        Some(Yaml::Mapping(entries)) => entries.as_slice(),
        _ => &[],
    };
    let inputs = names(keys::INPUTS).iter().map(|entry| {
        let flag =
            |key: &str| matches!(entry.value.get(key), Some(Node { yaml: Yaml::Bool(true), .. }));
        let has = |key: &str| entry.value.get(key).is_some();
        Input {
            name: entry.key.clone(),
            required: flag(keys::REQUIRED) && !has(keys::DEFAULT),
            deprecated: has("deprecationMessage"),
        }
    });
    let outputs = names(keys::OUTPUTS).iter().map(|entry| entry.key.clone()).collect();
    Some(Manifest { inputs: inputs.collect(), outputs: Some(outputs) })
}
