//! Values that strangers write as they like: titles, bodies, names of branches, messages.
//!
//! Put into a script by `${{ }}` they are part of its text, and a shell does what they say
//! ([script injections](https://docs.github.com/en/actions/concepts/security/script-injections)).

use crate::expr::{Contexts, EvalError, Expr, Value};
use crate::template::Template;

/// The list; `*` stands for any key.
const UNTRUSTED: [&str; 24] = [
    "github.head_ref",
    "github.event.comment.body",
    "github.event.commits.*.author.email",
    "github.event.commits.*.author.name",
    "github.event.commits.*.message",
    "github.event.discussion.body",
    "github.event.discussion.title",
    "github.event.head_commit.author.email",
    "github.event.head_commit.author.name",
    "github.event.head_commit.message",
    "github.event.issue.body",
    "github.event.issue.title",
    "github.event.pages.*.page_name",
    "github.event.pull_request.body",
    "github.event.pull_request.head.label",
    "github.event.pull_request.head.ref",
    "github.event.pull_request.head.repo.default_branch",
    "github.event.pull_request.head.repo.description",
    "github.event.pull_request.title",
    "github.event.review.body",
    "github.event.review_comment.body",
    "github.event.workflow_run.head_branch",
    "github.event.workflow_run.head_commit.message",
    "github.event.workflow_run.head_repository.description",
];

/// Returns true when what stands at `path` is on the list, holds something that is, or is part of it.
pub(crate) fn is_untrusted(path: &[String]) -> bool {
    // The whole event holds them too, as in `toJSON(github.event)`; one key of the context alone not.
    UNTRUSTED.iter().any(|listed| lies_on(path, listed))
}

/// Returns true where a path and one of the list do not part as far as both go.
fn lies_on(path: &[String], listed: &str) -> bool {
    path.iter()
        .zip(listed.split('.'))
        .all(|(part, listed)| part == "*" || listed == "*" || part.eq_ignore_ascii_case(listed))
}

/// Returns what of an expression in a script strangers write: something on the list, or as JSON what holds such a thing.
pub(crate) fn in_script(expr: &Expr) -> Option<String> {
    let is_listed = |path: &Vec<String>| {
        let of_length = |listed: &&&str| listed.split('.').count() == path.len();
        UNTRUSTED.iter().filter(of_length).any(|listed| lies_on(path, listed))
    };
    let listed = expr.paths_in_value().into_iter().find(is_listed);
    let as_json = || expr.paths_as_json().into_iter().find(|path| is_untrusted(path));
    listed.or_else(as_json).map(|path| path.join("."))
}

/// Returns true for text that no shell takes for more than a word.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/@:+-".contains(&b))
}

impl Template {
    /// Returns the first thing that it reads which strangers write, or which holds that.
    pub(crate) fn reads_untrusted(&self) -> Option<String> {
        let paths = self.expressions().flat_map(Expr::paths);
        paths.into_iter().find(|path| is_untrusted(path)).map(|path| path.join("."))
    }

    /// Returns the first expression that would put text into it which strangers wrote and which a
    /// shell may take for more than a word: what it reads.
    ///
    /// # Errors
    ///
    /// As for [`Template::evaluate`].
    pub fn hostile(&self, contexts: &Contexts) -> Result<Option<String>, EvalError> {
        for expr in self.expressions() {
            let Some(path) = expr.paths().into_iter().find(|path| is_untrusted(path)) else {
                continue;
            };
            let value: Value = expr.evaluate(contexts)?;
            if !is_plain(&value.to_string()) {
                return Ok(Some(path.join(".")));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workflow::Action;

    fn hostile(text: &str, title: &str) -> Option<String> {
        let run = json!(text);
        let source =
            format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n    - run: {run}\n");
        let workflow = crate::read(&source).unwrap();
        let Action::Run { script, .. } = &workflow.jobs[0].steps[0].action else {
            panic!("no script: {text}");
        };
        let mut contexts = Contexts::new();
        contexts.set(
            "github",
            &json!({"head_ref": title, "event": {"number": 7, "pull_request": {"title": title, "number": 7},
                "commits": [{"message": title}]}}),
        );
        contexts.set("env", &json!({"TITLE": title}));
        script.hostile(&contexts).unwrap()
    }

    #[test]
    fn what_strangers_write_is_found_wherever_it_is_put_in() {
        let evil = "$(touch pwned)";
        for text in [
            "echo ${{ github.event.pull_request.title }}",
            "echo ${{ GITHUB['event'].Pull_Request.TITLE }}",
            "echo ${{ format('{0}', github.head_ref) }}",
            "echo '${{ toJSON(github.event) }}'",
            "echo ${{ github.event.commits[0].message }}",
            "echo ${{ join(github.event.commits.*.message) }}",
            "echo ${{ github.event.pull_request[format('{0}', 'title')] }}",
            "echo ${{ github.event['pull_request'].title || 'none' }}",
        ] {
            assert!(hostile(text, evil).is_some(), "{text}");
        }
        for text in [
            "echo ${{ github.event.number }} ${{ github.event.pull_request.number }}",
            "echo $TITLE",
            "echo ${{ github.event.pull_request.title }}; echo plain".trim_end_matches("plain"),
        ] {
            assert_eq!(hostile(text, "feature/fix-1.2@next+x:y"), None, "{text}");
        }
        for bad in ["a b", "a;b", "`id`", "é", "a\nb", "\"", "*", "~root", "a=b"] {
            assert!(hostile("${{ github.head_ref }}", bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn strangers_name_no_variables() {
        let source = "on: push\njobs:\n  a:\n    runs-on: x\n    env: \"${{ fromJSON(github.head_ref) }}\"\n    steps: [{run: a}]\n";
        let workflow = crate::read(source).unwrap();
        let mut contexts = Contexts::new();
        contexts.set("github", &json!({"head_ref": "{\"BASH_ENV\": \"./evil\"}"}));
        let env = &workflow.jobs[0].env;
        assert_eq!(env.values(&contexts, false).unwrap().len(), 1);
        let error = env.values(&contexts, true).unwrap_err().to_string();
        assert!(error.contains("`github.head_ref` holds text of a stranger"), "{error}");
    }
}
