//! What muster plans but cannot run yet, in one list. It only shrinks.
//!
//! A workflow with any of it is refused before a job starts, by name and with the line; nothing is ignored.

use crate::diagnostic::Problem;
use crate::expr::Expr;
use crate::keys;
use crate::token::{Kind, Token};

/// Something that muster cannot run.
struct Lack {
    /// Where it stands: keys from the root, [`ANY`] for each of a job or step.
    path: &'static [&'static str],
    /// When it is not supported.
    when: When,
    /// What it is called in messages.
    what: &'static str,
}

/// When something is not supported.
#[derive(Clone, Copy)]
enum When {
    /// Wherever it stands.
    There,
    /// Where it is one expression.
    Computed,
    /// Where it is a mapping.
    Mapping,
}

/// Any key of a mapping, any item of a list.
const ANY: &str = "*";

use When::{Computed, Mapping, There};
use keys::{JOBS, STEPS, STRATEGY};

const fn lack(path: &'static [&'static str], when: When, what: &'static str) -> Lack {
    Lack { path, when, what }
}

static LACKS: &[Lack] = &[
    lack(&[JOBS, ANY, keys::RUNS_ON], Mapping, "`runs-on` with a group"),
    lack(&[JOBS, ANY, keys::SERVICES], Computed, "a `services` that is one expression"),
    lack(&[JOBS, ANY, keys::SNAPSHOT], There, "key `snapshot` of a job"),
    lack(
        &[JOBS, ANY, keys::CANCEL_TIMEOUT_MINUTES],
        There,
        "key `cancel-timeout-minutes` of a job",
    ),
    lack(
        &[JOBS, ANY, keys::DEFAULTS, keys::RUN],
        Computed,
        "a `defaults.run` that is one expression",
    ),
    lack(&[JOBS, ANY, STEPS, ANY, keys::WITH], Computed, "a `with` that is one expression"),
];

/// Returns what of a workflow muster cannot run, each at its place.
pub(crate) fn lacks(root: &Token) -> Vec<Problem> {
    let mut problems = Vec::new();
    for lack in LACKS {
        find(root, lack.path, lack, &mut problems);
    }
    computed(root, false, &mut problems);
    problems.sort_by_key(|problem| problem.span.start);
    problems
}

fn find(token: &Token, path: &[&str], lack: &Lack, problems: &mut Vec<Problem>) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if *first == ANY {
        let below = token.pairs().iter().map(|pair| &pair.value).chain(token.items());
        return below.for_each(|token| find(token, rest, lack, problems));
    }
    let Some(pair) = token.pairs().iter().find(|pair| pair.key.text() == Some(first)) else {
        return;
    };
    if !rest.is_empty() {
        return find(&pair.value, rest, lack, problems);
    }
    let value = &pair.value;
    let (applies, span, what) = match lack.when {
        When::There => (true, pair.key.span, lack.what.to_owned()),
        When::Computed => {
            (matches!(value.kind, Kind::Expression(_)), value.span, lack.what.to_owned())
        }
        When::Mapping => (matches!(value.kind, Kind::Map(_)), value.span, lack.what.to_owned()),
    };
    if applies {
        problems.push(Problem::unsupported(span, what));
    }
}

/// Finds the functions that nothing answers here, and keys that are computed where they are not.
fn computed(token: &Token, is_strategy: bool, problems: &mut Vec<Problem>) {
    let check = |expr: &Expr| expr.names_jobs().then_some("a status function with parameters");
    let mut tell = |what: &str| problems.push(Problem::unsupported(token.span, what));
    match &token.kind {
        Kind::Expression(template) => template.expressions().filter_map(check).for_each(&mut tell),
        Kind::Condition(condition) => condition.expressions().filter_map(check).for_each(&mut tell),
        Kind::List(items) => items.iter().for_each(|item| computed(item, is_strategy, problems)),
        Kind::Map(pairs) => {
            for pair in pairs {
                if pair.key.is_computed() && !is_strategy {
                    problems.push(Problem::unsupported(pair.key.span, "a key that is computed"));
                }
                let is_strategy = is_strategy || pair.key.text() == Some(STRATEGY);
                computed(&pair.value, is_strategy, problems);
            }
        }
        _ => {}
    }
}
