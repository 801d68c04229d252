//! From `strategy.matrix` to its legs.
//!
//! Follows GitHub's rules for
//! [`include` and `exclude`](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstrategymatrixinclude).

use crate::expr::{Contexts, EvalError, Object, Value};
use crate::keys;
use crate::token::Token;

/// GitHub's bound on the jobs that one matrix makes.
pub const MAX_LEGS: usize = 256;

/// One combination of the matrix.
pub type Leg = Vec<(String, Value)>;

/// `strategy.matrix` as it is written, with what is computed in it.
#[derive(Debug, Clone)]
pub struct Matrix(Token);

impl Matrix {
    pub(crate) fn new(token: Token) -> Self {
        Self(token)
    }

    /// Returns true when it can be known only when the jobs have ended that are needed.
    pub fn waits(&self) -> bool {
        self.0.reads_context("needs")
    }

    /// Returns its vectors, and what is included and excluded.
    ///
    /// # Errors
    ///
    /// A sentence, where a value cannot be computed or is no list.
    fn vectors(&self, contexts: &Contexts) -> Result<Vectors, String> {
        let value = self.0.evaluate(contexts).map_err(|error: EvalError| error.to_string())?;
        let Value::Object(object) = value else {
            return Err(format!(
                "`matrix` must be an object, this is {}",
                value.kind_with_article()
            ));
        };
        let mut vectors = Vectors::default();
        for (key, value) in object.iter() {
            let Value::Array(items) = value else {
                let kind = value.kind_with_article();
                return Err(format!("`{key}` of the matrix must be a list, this is {kind}"));
            };
            match key {
                keys::INCLUDE => vectors.include = combinations(key, items)?,
                keys::EXCLUDE => vectors.exclude = combinations(key, items)?,
                _ if items.is_empty() => return Err(format!("matrix vector `{key}` is empty")),
                _ => vectors.vectors.push((key.to_owned(), items.to_vec())),
            }
        }
        Ok(vectors)
    }
}

fn combinations(key: &str, items: &[Value]) -> Result<Vec<Leg>, String> {
    let leg = |item: &Value| match item {
        Value::Object(object) => {
            Ok(object.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect())
        }
        other => {
            let kind = other.kind_with_article();
            Err(format!("an item of `{key}` of the matrix must be an object, this is {kind}"))
        }
    };
    items.iter().map(leg).collect()
}

/// A matrix, all values known.
#[derive(Debug, Default)]
struct Vectors {
    /// In the order of the file.
    vectors: Vec<(String, Vec<Value>)>,
    include: Vec<Leg>,
    exclude: Vec<Leg>,
}

/// Returns the legs in GitHub's order; `Err` with a sentence where there are none or too many.
///
/// # Errors
///
/// When a value cannot be computed or is none for a matrix, nothing is left after `exclude`, or more than
/// [`MAX_LEGS`] legs come out.
pub fn legs(matrix: &Matrix, contexts: &Contexts) -> Result<Vec<Leg>, String> {
    let matrix = matrix.vectors(contexts)?;
    let product = matrix
        .vectors
        .iter()
        .try_fold(1_usize, |product, (_, values)| product.checked_mul(values.len()));
    // Excludes may bring a larger product down again, so what is built is bounded higher.
    if product.is_none_or(|product| product > MAX_LEGS * 64) {
        return Err(format!("the matrix has more than {MAX_LEGS} legs"));
    }
    let mut legs = cross_product(&matrix);
    legs.retain(|leg| !matrix.exclude.iter().any(|exclude| matches(leg, exclude)));
    include(&matrix, &mut legs);
    if legs.is_empty() {
        return Err("the matrix has no legs".into());
    }
    if legs.len() > MAX_LEGS {
        return Err(format!("the matrix has {} legs, more than {MAX_LEGS}", legs.len()));
    }
    Ok(legs)
}

/// Returns the `matrix` context of a leg.
pub fn context(leg: &Leg) -> Value {
    leg.iter().map(|(key, value)| (key.as_str(), value.clone())).collect::<Object>().into()
}

/// Returns what GitHub appends to a job's name for a leg: `1.80, ubuntu`; long ones are cut.
pub fn suffix(leg: &Leg) -> String {
    let mut scalars = Vec::new();
    for (_, value) in leg {
        collect_scalars(value, &mut scalars);
    }
    scalars.join(", ")
}

fn collect_scalars(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_scalars(item, out)),
        Value::Object(object) => object.iter().for_each(|(_, item)| collect_scalars(item, out)),
        Value::Null => {}
        scalar => out.push(scalar.to_string()),
    }
}

fn cross_product(matrix: &Vectors) -> Vec<Leg> {
    if matrix.vectors.is_empty() {
        return Vec::new();
    }
    let mut legs: Vec<Leg> = vec![Vec::new()];
    for (key, values) in &matrix.vectors {
        legs = legs
            .iter()
            .flat_map(|leg| {
                values.iter().map(move |value| {
                    let mut leg = leg.clone();
                    leg.push((key.clone(), value.clone()));
                    leg
                })
            })
            .collect();
    }
    legs
}

fn include(matrix: &Vectors, legs: &mut Vec<Leg>) {
    let original = legs.len();
    let is_vector =
        |key: &str| matrix.vectors.iter().any(|(vector, _)| vector.eq_ignore_ascii_case(key));
    for entry in &matrix.include {
        let (fixed, extra): (Leg, Leg) = entry.iter().cloned().partition(|(key, _)| is_vector(key));
        let mut extended = false;
        for leg in legs.iter_mut().take(original).filter(|leg| matches(leg, &fixed)) {
            extended = true;
            for (key, value) in &extra {
                match leg.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
                    Some((_, old)) => *old = value.clone(),
                    None => leg.push((key.clone(), value.clone())),
                }
            }
        }
        if !extended {
            legs.push(entry.clone());
        }
    }
}

/// Returns true when every pair of `part` is in `leg`; nested values must be deeply equal.
fn matches(leg: &Leg, part: &Leg) -> bool {
    part.iter().all(|(key, wanted)| {
        leg.iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .is_some_and(|(_, value)| contains(value, wanted))
    })
}

fn contains(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Object(value), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| value.get(key).is_some_and(|value| contains(value, wanted))),
        (Value::Array(value), Value::Array(wanted)) => {
            value.len() == wanted.len()
                && value.iter().zip(wanted.iter()).all(|(value, wanted)| contains(value, wanted))
        }
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => false,
        (value, wanted) => value.to_string() == wanted.to_string(),
    }
}
