//! GitHub's own description of its API, as npm `@octokit/openapi` has it: what a call may be.

use std::path::Path;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The calls that there are.
#[derive(Debug)]
pub(crate) struct Description {
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    method: String,
    /// The parts of its path; `None` stands for any one.
    path: Vec<Option<String>>,
    query: Vec<String>,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    required: bool,
    validator: Validator,
    /// The names that it knows, where it knows them all.
    known: Option<Vec<String>>,
}

/// Returns the description, read once; `None`, saying so, where it was not installed. Where `CI` is set
/// it must be.
pub(crate) fn description() -> Option<&'static Description> {
    static DESCRIPTION: OnceLock<Option<Description>> = OnceLock::new();
    DESCRIPTION.get_or_init(Description::load).as_ref()
}

impl Description {
    fn load() -> Option<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/npm/node_modules/@octokit/openapi/generated/api.github.com.json");
        let Ok(text) = std::fs::read(&path) else {
            assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
            #[expect(clippy::print_stderr, reason = "what is not checked is said")]
            {
                eprintln!("calls are not checked against GitHub's description: not installed");
            }
            return None;
        };
        let document: Value = serde_json::from_slice(&text).unwrap();
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            // What muster calls is below repositories; the rest would only cost time.
            if !path.starts_with("/repos/{owner}/{repo}") {
                continue;
            }
            for (method, operation) in item.as_object().unwrap() {
                let is_parameter = |part: &str| part.starts_with('{');
                let parts = path.split('/').skip(1);
                operations.push(Operation {
                    method: method.to_uppercase(),
                    path: parts
                        .map(|part| (!is_parameter(part)).then(|| part.to_owned()))
                        .collect(),
                    query: query(&document, operation),
                    body: body(&document, operation),
                });
            }
        }
        Some(Self { operations })
    }

    /// Judges a call; an error is an answer's status and what is wrong.
    pub(crate) fn judge(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Result<(), (u16, String)> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let fits = |operation: &&Operation| {
            operation.path.len() == parts.len()
                && operation
                    .path
                    .iter()
                    .zip(&parts)
                    .all(|(known, part)| known.as_ref().is_none_or(|known| known == part))
        };
        let mut found = self.operations.iter().filter(fits).peekable();
        if found.peek().is_none() {
            return Err((404, "there is no such path".to_owned()));
        }
        let Some(operation) = found.find(|operation| operation.method == method) else {
            return Err((404, "this path does not take that method".to_owned()));
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap_or_default();
            if !operation.query.iter().any(|known| known == name) {
                return Err((422, format!("there is no parameter `{name}`")));
            }
        }
        operation.judge_body(body)
    }
}

impl Operation {
    fn judge_body(&self, body: &[u8]) -> Result<(), (u16, String)> {
        let wrong = |why: String| Err((422, why));
        let Some(described) = &self.body else {
            return if body.is_empty() { Ok(()) } else { wrong("it takes no body".to_owned()) };
        };
        if body.is_empty() {
            return if described.required { wrong("it needs a body".to_owned()) } else { Ok(()) };
        }
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return Err((400, "Problems parsing JSON".to_owned()));
        };
        if let Err(error) = described.validator.validate(&value) {
            return wrong(format!("{}: {error}", error.instance_path()));
        }
        let names = value.as_object().into_iter().flat_map(Map::keys);
        if let Some(known) = &described.known {
            for name in names {
                if !known.contains(name) {
                    return wrong(format!("there is no property `{name}`"));
                }
            }
        }
        Ok(())
    }
}

fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

fn query(document: &Value, operation: &Value) -> Vec<String> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .map(|parameter| resolve(document, parameter))
        .filter(|parameter| parameter["in"] == "query")
        .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
        .collect()
}

fn body(document: &Value, operation: &Value) -> Option<Body> {
    let described = resolve(document, &operation["requestBody"]);
    let schema = described["content"].get("application/json")?.get("schema")?;
    let schema = resolve(document, schema);
    let known = schema["properties"].as_object().map(|names| names.keys().cloned().collect());
    let mut schema = inlined(document, schema, 0);
    nullable(&mut schema);
    Some(Body {
        required: described["required"] == true,
        validator: jsonschema::draft4::new(&schema).ok()?,
        known: if schema["additionalProperties"] == true { None } else { known },
    })
}

/// Puts what is referred to in the place of the reference; deep down anything goes.
fn inlined(document: &Value, schema: &Value, depth: usize) -> Value {
    if depth > 12 {
        return json!({});
    }
    match resolve(document, schema) {
        Value::Object(object) => Value::Object(
            object.iter().map(|(k, v)| (k.clone(), inlined(document, v, depth + 1))).collect(),
        ),
        Value::Array(items) => {
            items.iter().map(|item| inlined(document, item, depth + 1)).collect()
        }
        other => other.clone(),
    }
}

/// Says `nullable` as JSON Schema says it.
fn nullable(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("nullable") == Some(&Value::Bool(true))
                && let Some(Value::String(kind)) = object.get("type")
            {
                let kinds = json!([kind, "null"]);
                object.insert("type".to_owned(), kinds);
            }
            object.values_mut().for_each(nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(nullable),
        _ => {}
    }
}
