//! Whose caches a run may read, and where it keeps its own.
//!
//! Follows GitHub's
//! [rules](https://docs.github.com/en/actions/reference/workflows-and-actions/dependency-caching#restrictions-for-accessing-a-cache):
//! those of its own ref, of the branch that a pull request is to be merged into, and of the default branch. Beside that,
//! nothing that a less trusted run wrote is read by a more trusted one (law I10).

use serde::{Deserialize, Serialize};

use crate::trust::Trust;

/// The caches of one repository that a run sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes {
    /// Where it keeps what it makes.
    pub write: String,
    /// Where it looks, the first first.
    pub read: Vec<String>,
}

/// Returns the caches of a run for a ref, which may be to be merged into another.
pub fn scopes(own: &str, base: Option<&str>, default_branch: &str, trust: Trust) -> Scopes {
    let default = format!("refs/heads/{default_branch}");
    let mut refs = vec![own];
    for more in base.into_iter().chain([default.as_str()]) {
        if !refs.contains(&more) {
            refs.push(more);
        }
    }
    let levels: Vec<Trust> = Trust::ALL.into_iter().filter(|level| *level >= trust).collect();
    let read = refs.iter().flat_map(|name| levels.iter().map(|level| scope(*level, name)));
    Scopes { write: scope(trust, own), read: read.collect() }
}

/// Returns whether the caches of a scope are those of runs of who may push.
pub fn is_of_members(scope: &str) -> bool {
    let trust = scope.split(':').next().and_then(Trust::parse);
    trust.is_some_and(|trust| trust >= Trust::Member)
}

/// Names the caches that runs of one trust have made for a ref. No ref has a colon.
fn scope(trust: Trust, name: &str) -> String {
    format!("{}:{name}", trust.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_from_those_who_are_trusted_as_much_or_more() {
        let pull = "refs/pull/5/merge";
        let of = |own, base, trust| scopes(own, base, "main", trust);
        let member = of("refs/heads/topic", None, Trust::Member);
        assert_eq!(member.write, "member:refs/heads/topic");
        assert_eq!(
            member.read,
            [
                "member:refs/heads/topic",
                "protected:refs/heads/topic",
                "member:refs/heads/main",
                "protected:refs/heads/main",
            ]
        );
        let approved = of(pull, Some("refs/heads/next"), Trust::Approved);
        assert_eq!(approved.write, "approved:refs/pull/5/merge");
        assert_eq!(
            approved.read,
            [
                "approved:refs/pull/5/merge",
                "member:refs/pull/5/merge",
                "protected:refs/pull/5/merge",
                "approved:refs/heads/next",
                "member:refs/heads/next",
                "protected:refs/heads/next",
                "approved:refs/heads/main",
                "member:refs/heads/main",
                "protected:refs/heads/main",
            ]
        );
        // What an approved stranger wrote for the same pull request is not for a member's run of it.
        let of_member = of(pull, Some("refs/heads/main"), Trust::Member);
        assert!(of_member.read.iter().all(|scope| !scope.starts_with("approved:")));
        assert_eq!(of_member.read.len(), 4, "a base that is the default branch is one");
        assert!(is_of_members(&member.write) && !is_of_members(&approved.write));
        let protected = of("refs/heads/main", None, Trust::Protected);
        assert_eq!(protected.read, ["protected:refs/heads/main"]);
    }
}
