//! Which secrets and variables a job gets.
//!
//! Each is for a repository or for all of them, perhaps for one environment alone, and for runs that are trusted so far
//! or further (law I9). Of several with one name the narrowest is given: that of the environment before that of the
//! repository before one for all, and among these the one that asks for most trust. So a name can have one value for
//! what protected branches run and another for everything else.

use std::collections::BTreeSet;

use crate::trust::Trust;

/// Whom a secret or variable is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, in capitals.
    pub name: String,
    /// Whether it is the repository's own, and not for all repositories.
    pub of_repository: bool,
    /// The environment whose jobs alone get it.
    pub environment: Option<String>,
    /// How far a run must be trusted at least.
    pub trust: Trust,
}

impl Entry {
    fn is_of(&self, environment: Option<&str>) -> bool {
        // GitHub's environments differ in more than capitals.
        match (&self.environment, environment) {
            (Some(own), Some(wanted)) => own.to_lowercase() == wanted.to_lowercase(),
            (own, wanted) => own.is_none() && wanted.is_none(),
        }
    }
}

/// Returns the places of those that a run of this trust gets: with an environment those of its jobs alone, else those
/// that are for no environment. There is one of each name.
pub fn given(entries: &[Entry], trust: Trust, environment: Option<&str>) -> Vec<usize> {
    let fits = |entry: &&Entry| entry.is_of(environment) && may_have(entry, trust);
    let rank = |entry: &Entry| (entry.of_repository, entry.trust);
    let is_best = |entry: &Entry| {
        let others = entries.iter().filter(fits).filter(|other| other.name == entry.name);
        others.map(rank).max() == Some(rank(entry))
    };
    let fitting = entries.iter().enumerate().filter(|(_, entry)| fits(entry));
    fitting.filter(|(_, entry)| is_best(entry)).map(|(place, _)| place).collect()
}

/// Returns the names that a job of this trust does not get, though there is something by them for it, and the least
/// trust that each asks for.
pub fn withheld(
    entries: &[Entry],
    trust: Trust,
    environment: Option<&str>,
) -> Vec<(String, Trust)> {
    let concerns =
        |entry: &&Entry| entry.is_of(None) || (environment.is_some() && entry.is_of(environment));
    let names: BTreeSet<&str> =
        entries.iter().filter(concerns).map(|entry| entry.name.as_str()).collect();
    let least = |name: &&str| {
        let by_it = entries.iter().filter(concerns).filter(|entry| entry.name == **name);
        by_it.map(|entry| entry.trust).min()
    };
    let asked = names.iter().filter_map(|name| Some(((*name).to_owned(), least(name)?)));
    asked.filter(|(_, least)| *least > trust || trust == Trust::Stranger).collect()
}

/// Whether a run may have it at all. What strangers send gets nothing, whatever an entry asks for.
fn may_have(entry: &Entry, trust: Trust) -> bool {
    trust > Trust::Stranger && trust >= entry.trust
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, of_repository: bool, environment: Option<&str>, trust: Trust) -> Entry {
        let environment = environment.map(str::to_owned);
        Entry { name: name.to_owned(), of_repository, environment, trust }
    }

    #[test]
    fn the_narrowest_that_a_run_may_have_is_given() {
        let entries = [
            entry("KEY", false, None, Trust::Approved),
            entry("KEY", true, None, Trust::Member),
            entry("KEY", true, None, Trust::Protected),
            entry("KEY", true, Some("Production"), Trust::Protected),
            entry("OTHER", false, None, Trust::Protected),
        ];
        let of = |trust, environment| given(&entries, trust, environment);
        assert_eq!(of(Trust::Stranger, None), [0; 0]);
        assert_eq!(of(Trust::Approved, None), [0]);
        assert_eq!(of(Trust::Member, None), [1]);
        assert_eq!(of(Trust::Protected, None), [2, 4]);
        assert_eq!(of(Trust::Protected, Some("production")), [3]);
        assert_eq!(of(Trust::Member, Some("production")), [0; 0]);
        assert_eq!(of(Trust::Protected, Some("staging")), [0; 0]);
        let not_for = |trust| withheld(&entries, trust, Some("production"));
        assert_eq!(not_for(Trust::Protected), []);
        assert_eq!(not_for(Trust::Member), [("OTHER".to_owned(), Trust::Protected)]);
        let names = not_for(Trust::Stranger).into_iter().map(|(name, _)| name);
        assert_eq!(names.collect::<Vec<_>>(), ["KEY", "OTHER"]);
    }

    fn any_trust() -> impl Strategy<Value = Trust> {
        prop::sample::select(Trust::ALL.to_vec())
    }

    proptest! {
        /// Law I9: nothing is given to a run that is not trusted so far, or to a job of another environment.
        #[test]
        fn nothing_goes_to_whom_it_is_not_for(
            entries in prop::collection::vec(
                ("[AB]", any::<bool>(), prop::option::of("[pq]"), any_trust()),
                0..12,
            ),
            trust in any_trust(),
            environment in prop::option::of("[pqr]"),
        ) {
            let entries = entries.iter().map(|(name, own, environment, trust)| {
                entry(name, *own, environment.as_deref(), *trust)
            });
            let entries: Vec<Entry> = entries.collect();
            for place in given(&entries, trust, environment.as_deref()) {
                prop_assert!(trust > Trust::Stranger && entries[place].trust <= trust);
                prop_assert_eq!(&entries[place].environment, &environment);
                for other in &entries {
                    let rivals = other.name == entries[place].name
                        && other.environment == environment
                        && other.trust <= trust;
                    let rank = |entry: &Entry| (entry.of_repository, entry.trust);
                    prop_assert!(!rivals || rank(other) <= rank(&entries[place]));
                }
            }
        }
    }
}
