//! From `strategy` to the legs of a job.
//!
//! Follows GitHub's rules for
//! [`include` and `exclude`](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstrategymatrixinclude),
//! and GitHub's own parser where they are silent: which values are equal, in which order, and what names a leg.

use std::sync::Arc;

use crate::expr::{Contexts, Object, Value, index};
use crate::keys;
use crate::token::Token;

/// GitHub's bound on the jobs that one matrix makes.
pub const MAX_LEGS: usize = 256;

/// How often a leg is compared with an item of `include` or `exclude` at most, and a value taken for one.
const MAX_WORK: usize = 2_000_000;

/// How many bytes the legs of a matrix may have together: what GitHub allows all values of a file.
const MAX_BYTES: usize = 10 << 20;

/// `strategy` as it is written, with what is computed in it.
#[derive(Debug, Clone)]
pub struct Strategy(Token);

/// The legs of a job and how they run.
#[derive(Debug)]
pub struct Legs {
    /// In GitHub's order; one leg that has no values where there is no matrix.
    pub legs: Vec<Leg>,
    /// Whether the failure of one cancels the others.
    pub fail_fast: bool,
    /// How many may run at a time.
    pub max_parallel: usize,
}

/// One combination of the matrix.
#[derive(Debug)]
pub struct Leg {
    /// The `matrix` context; null where there is no matrix.
    pub matrix: Value,
    /// What GitHub appends to the job's name: `1.80, ubuntu`.
    pub suffix: String,
}

impl Legs {
    /// Returns the only leg of a job, as without a matrix.
    pub(crate) fn one() -> Self {
        let leg = Leg { matrix: Value::Null, suffix: String::new() };
        Self { legs: vec![leg], fail_fast: true, max_parallel: 1 }
    }
}

impl Strategy {
    pub(crate) fn new(token: Token) -> Self {
        Self(token)
    }

    /// Returns true when it can be known only when the jobs have ended that are needed.
    pub fn waits(&self) -> bool {
        self.0.reads_context("needs")
    }

    /// Returns the legs.
    ///
    /// # Errors
    ///
    /// A sentence, where a value cannot be computed or is none for its key, or more than [`MAX_LEGS`] legs come out.
    pub fn legs(&self, contexts: &Contexts) -> Result<Legs, String> {
        let value = self.0.evaluate(contexts).map_err(|error| error.to_string())?;
        let Value::Object(strategy) = &value else {
            return Err(wrong("`strategy`", "an object", &value));
        };
        let mut found = Legs::one();
        if let Some(matrix) = strategy.get(keys::MATRIX) {
            found.legs = Matrix::read(matrix)?.legs()?;
        }
        found.fail_fast = match strategy.get(keys::FAIL_FAST) {
            None => true,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => return Err(wrong("`fail-fast`", "a boolean", other)),
        };
        found.max_parallel = most(strategy.get(keys::MAX_PARALLEL))?.unwrap_or(found.legs.len());
        Ok(found)
    }

    /// Returns how many legs may run at a time; `None` where nothing bounds them.
    pub fn max_parallel(&self, contexts: &Contexts) -> Option<usize> {
        // What is wrong with it was said when the legs were made.
        let value = match self.0.get(keys::MAX_PARALLEL) {
            Some(written) => written.evaluate(contexts).ok(),
            None if self.0.is_computed() => match self.0.evaluate(contexts) {
                Ok(Value::Object(strategy)) => strategy.get(keys::MAX_PARALLEL).cloned(),
                _ => None,
            },
            None => None,
        };
        most(value.as_ref()).ok().flatten()
    }
}

/// Reads `max-parallel`.
fn most(value: Option<&Value>) -> Result<Option<usize>, String> {
    match value {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a bound that is larger than any number of legs bounds nothing"
        )]
        Some(Value::Number(most)) if *most >= 1.0 => Ok(Some(*most as usize)),
        None | Some(Value::Number(_)) => Ok(None),
        Some(other) => Err(wrong("`max-parallel`", "a number", other)),
    }
}

fn wrong(what: &str, wanted: &str, value: &Value) -> String {
    format!("{what} must be {wanted}, this is {}", value.kind_with_article())
}

/// A matrix, all values known.
#[derive(Debug, Default)]
struct Matrix {
    /// In the order of the file.
    vectors: Vec<(Arc<str>, Arc<Vec<Value>>)>,
    include: Vec<Include>,
    exclude: Vec<Filter>,
}

/// An item of `include`: what a leg must have, and what it gets then.
#[derive(Debug)]
struct Include {
    filter: Filter,
    /// What of it are values of vectors.
    values: Object,
    extra: Object,
}

impl Matrix {
    fn read(value: &Value) -> Result<Self, String> {
        let Value::Object(object) = value else {
            return Err(wrong("`matrix`", "an object", value));
        };
        let mut matrix = Self::default();
        for (key, value) in object.iter().filter(|(key, _)| !is_list_of_items(key)) {
            let items = list(key, value)?;
            if items.is_empty() {
                return Err(format!("matrix vector `{key}` is empty"));
            }
            matrix.vectors.push((key.into(), Arc::clone(items)));
        }
        let is_vector = |key: &str| !is_list_of_items(key) && object.get(key).is_some();
        for item in items(object, keys::INCLUDE)? {
            let (mut values, mut extra) = (Object::new(), Object::new());
            for (key, value) in item.iter() {
                let part = if is_vector(key) { &mut values } else { &mut extra };
                part.insert(key, value.clone());
            }
            matrix.include.push(Include { filter: Filter::of(&values), values, extra });
        }
        for item in items(object, keys::EXCLUDE)? {
            if let Some((key, _)) = item.iter().find(|(key, _)| !is_vector(key)) {
                return Err(format!("`exclude` names `{key}`, which is no vector of the matrix"));
            }
            matrix.exclude.push(Filter::of(&item));
        }
        if matrix.vectors.is_empty() && matrix.include.is_empty() {
            return Err("`matrix` has no vector and no `include`".into());
        }
        Ok(matrix)
    }

    fn legs(&self) -> Result<Vec<Leg>, String> {
        let product = match self.vectors.as_slice() {
            [] => Some(0),
            vectors => vectors
                .iter()
                .try_fold(1_usize, |product, (_, values)| product.checked_mul(values.len())),
        };
        let leaves = |filters: &mut dyn Iterator<Item = &Filter>| -> usize {
            filters.map(|filter| 1 + filter.leaves.len()).sum()
        };
        let work = self.vectors.len() + leaves(&mut self.exclude.iter());
        let product = product
            .filter(|product| product.checked_mul(work).is_some_and(|work| work <= MAX_WORK));
        let including = MAX_LEGS * leaves(&mut self.include.iter().map(|include| &include.filter));
        let Some(product) = product.filter(|_| including <= MAX_WORK) else {
            return Err("the matrix has more combinations than can be tried".into());
        };
        let mut built = Built::default();
        let mut used = vec![false; self.include.len()];
        for place in 0..product {
            let mut leg = self.combination(place, product);
            if self.exclude.iter().any(|exclude| exclude.matches(&leg)) {
                continue;
            }
            let mut extra = Object::new();
            for (include, used) in self.include.iter().zip(&mut used) {
                if include.filter.matches(&leg) {
                    *used = true;
                    include.extra.iter().for_each(|(key, value)| extra.insert(key, value.clone()));
                }
            }
            let suffix = suffix(&leg);
            extra.iter().for_each(|(key, value)| leg.insert(key, value.clone()));
            built.push(leg, suffix)?;
        }
        for (include, _) in self.include.iter().zip(used).filter(|(_, used)| !used) {
            let mut leg = include.values.clone();
            include.extra.iter().for_each(|(key, value)| leg.insert(key, value.clone()));
            let suffix = suffix(&leg);
            built.push(leg, suffix)?;
        }
        // GitHub runs the job once, without a matrix, where nothing is left of it.
        Ok(if built.legs.is_empty() { Legs::one().legs } else { built.legs })
    }

    /// Returns the combination at a place of the product, of which the last vector changes fastest.
    fn combination(&self, place: usize, product: usize) -> Object {
        let mut block = product;
        let mut leg = Object::new();
        for (key, values) in &self.vectors {
            block /= values.len();
            leg.insert(Arc::clone(key), values[(place / block) % values.len()].clone());
        }
        leg
    }
}

/// The legs so far.
#[derive(Default)]
struct Built {
    legs: Vec<Leg>,
    bytes: usize,
}

impl Built {
    fn push(&mut self, leg: Object, suffix: String) -> Result<(), String> {
        if self.legs.len() == MAX_LEGS {
            return Err(format!("the matrix has more than {MAX_LEGS} legs"));
        }
        let matrix = Value::from(leg);
        count(&matrix, &mut self.bytes);
        if self.bytes > MAX_BYTES {
            return Err(format!("the legs of the matrix have more than {MAX_BYTES} bytes"));
        }
        self.legs.push(Leg { matrix, suffix });
        Ok(())
    }
}

/// Adds about how many bytes a value has; stops where it is too many.
fn count(value: &Value, bytes: &mut usize) {
    *bytes += 16;
    match value {
        _ if *bytes > MAX_BYTES => {}
        Value::String(text) => *bytes += text.len(),
        Value::Array(items) => items.iter().for_each(|item| count(item, bytes)),
        Value::Object(object) => object.iter().for_each(|(key, value)| {
            *bytes += key.len();
            count(value, bytes);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_list_of_items(key: &str) -> bool {
    matches!(key, keys::INCLUDE | keys::EXCLUDE)
}

fn list<'v>(key: &str, value: &'v Value) -> Result<&'v Arc<Vec<Value>>, String> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(wrong(&format!("`{key}` of the matrix"), "a list", other)),
    }
}

/// Returns the items of `include` or `exclude`.
fn items(matrix: &Object, key: &str) -> Result<Vec<Arc<Object>>, String> {
    let Some((_, value)) = matrix.iter().find(|(name, _)| *name == key) else {
        return Ok(Vec::new());
    };
    let item = |item: &Value| match item {
        Value::Object(object) if object.is_empty() => Err(format!("an item of `{key}` is empty")),
        Value::Object(object) => Ok(Arc::clone(object)),
        other => Err(wrong(&format!("an item of `{key}` of the matrix"), "an object", other)),
    };
    list(key, value)?.iter().map(item).collect()
}

/// What a leg must have: the scalars in an item, each where it stands, compared as `==` does. What a leg lacks is null.
#[derive(Debug)]
pub(crate) struct Filter {
    leaves: Vec<(Vec<Value>, Value)>,
}

impl Filter {
    fn of(item: &Object) -> Self {
        let mut leaves = Vec::new();
        let mut path = Vec::new();
        for (key, value) in item.iter() {
            path.push(key.into());
            collect_leaves(value, &mut path, &mut leaves);
            path.pop();
        }
        Self { leaves }
    }

    /// Returns the filter that one value of a vector must pass.
    pub(crate) fn of_value(value: &Value) -> Self {
        let mut leaves = Vec::new();
        collect_leaves(value, &mut Vec::new(), &mut leaves);
        Self { leaves }
    }

    fn matches(&self, leg: &Object) -> bool {
        self.leaves.iter().all(|(path, wanted)| match path.split_first() {
            Some((Value::String(key), rest)) => equals(leg.get(key), rest, wanted),
            _ => false,
        })
    }

    /// Returns true when a value of a vector passes.
    pub(crate) fn matches_value(&self, value: &Value) -> bool {
        self.leaves.iter().all(|(path, wanted)| equals(Some(value), path, wanted))
    }
}

fn equals(value: Option<&Value>, path: &[Value], wanted: &Value) -> bool {
    let found = value
        .and_then(|value| path.iter().try_fold(value.clone(), |value, step| index(&value, step)));
    found.unwrap_or(Value::Null).loosely_equals(wanted)
}

fn collect_leaves(value: &Value, path: &mut Vec<Value>, leaves: &mut Vec<(Vec<Value>, Value)>) {
    match value {
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                #[expect(clippy::cast_precision_loss, reason = "as many as a file can have")]
                path.push(Value::Number(place as f64));
                collect_leaves(item, path, leaves);
                path.pop();
            }
        }
        Value::Object(object) => {
            for (key, item) in object.iter() {
                path.push(key.into());
                collect_leaves(item, path, leaves);
                path.pop();
            }
        }
        scalar => leaves.push((path.clone(), scalar.clone())),
    }
}

/// As much of a name as anybody sees.
const MAX_SUFFIX: usize = 1_000;

fn suffix(leg: &Object) -> String {
    let mut suffix = String::new();
    leg.iter().for_each(|(_, value)| append_scalars(value, &mut suffix));
    suffix
}

fn append_scalars(value: &Value, suffix: &mut String) {
    match value {
        _ if suffix.len() > MAX_SUFFIX => {}
        Value::Array(items) => items.iter().for_each(|item| append_scalars(item, suffix)),
        Value::Object(object) => object.iter().for_each(|(_, item)| append_scalars(item, suffix)),
        scalar => {
            let text = scalar.to_string();
            if !text.is_empty() {
                suffix.push_str(if suffix.is_empty() { "" } else { ", " });
                suffix.push_str(&text);
            }
        }
    }
}
