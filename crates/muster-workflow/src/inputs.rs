//! The `inputs` of a run: what people filled in, or a caller gave, by what the workflow asks for.

use serde_json::Value as Json;

use crate::events;
use crate::expr::{Contexts, Object, Value};
use crate::text::cut;
use crate::words::nearest;
use crate::workflow::{Call, Details, Input, InputKind, Workflow};

/// Returns the `inputs` context of a run that an event starts: what people filled in, else what the event in `github`
/// says that they did. Null unless the event is `workflow_dispatch`.
///
/// # Errors
///
/// All that is wrong with what was given, a sentence each: an input that there is not, one that is required and
/// absent, a value of another type, anything at all for another event.
pub fn inputs(
    workflow: &Workflow,
    given: &[(String, String)],
    contexts: &Contexts,
) -> Result<Value, Vec<String>> {
    let Some(event) = given_by(contexts, events::WORKFLOW_DISPATCH) else {
        return match given {
            [] => Ok(Value::Null),
            _ => Err(vec!["inputs are filled in for event `workflow_dispatch` alone".into()]),
        };
    };
    let asked = dispatched(workflow);
    let mut wrong = Vec::new();
    for (name, _) in given {
        if !asked.iter().any(|input| input.name.eq_ignore_ascii_case(name)) {
            let names = || asked.iter().map(|input| input.name.as_str());
            wrong.push(match nearest(name, names()) {
                Some(near) => format!("there is no input `{name}`; did you mean `{near}`?"),
                None if asked.is_empty() => format!("there is no input `{name}`: it has none"),
                None => {
                    let names = names().collect::<Vec<_>>().join(", ");
                    format!("there is no input `{name}`; its inputs are: {names}")
                }
            });
        }
    }
    let mut values = Object::new();
    for input in asked {
        let given = given.iter().find(|(name, _)| name.eq_ignore_ascii_case(&input.name));
        let given = given.map(|(_, value)| Value::from(value.as_str()));
        let given = given.or_else(|| event.get(&input.name).cloned());
        if let Some(why) = refusal(input, given.as_ref()) {
            wrong.push(why);
        }
        values.insert(input.name.as_str(), value_of(input, given, contexts));
    }
    if wrong.is_empty() { Ok(values.into()) } else { Err(wrong) }
}

/// Puts the inputs of a run into `contexts`: what people filled in, else what the event in `github` says. All of them are in
/// the event then, as texts: `inputs` alone has types.
///
/// # Errors
///
/// As [`inputs()`].
pub fn fill_in(
    workflow: &Workflow,
    given: &[(String, String)],
    github: &mut Json,
    contexts: &mut Contexts,
) -> Result<(), Vec<String>> {
    let filled = inputs(workflow, given, contexts)?;
    if let Value::Object(filled) = &filled {
        // What was said stays as it was written.
        let event = given_by(contexts, events::WORKFLOW_DISPATCH).unwrap_or_default();
        let said = |name: &str| {
            let given = given.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            given.map(|(_, text)| text.clone()).or_else(|| event.get(name).map(Value::to_string))
        };
        let texts = filled
            .iter()
            .map(|(name, value)| (name, said(name).unwrap_or_else(|| value.to_string())));
        github["event"]["inputs"] = Value::from(texts.collect::<Object>()).to_json();
        contexts.set("github", &*github);
    }
    contexts.set("inputs", filled);
    Ok(())
}

/// Returns the `inputs` context that the event in `github` alone gives, whatever is wrong with it; null unless it is
/// `workflow_dispatch` or `workflow_call`.
pub fn from_event(workflow: &Workflow, contexts: &Contexts) -> Value {
    let (event, asked) = match (given_by(contexts, events::WORKFLOW_DISPATCH), workflow.interface())
    {
        (Some(event), _) => (event, dispatched(workflow)),
        (None, Some(interface)) => match given_by(contexts, events::WORKFLOW_CALL) {
            Some(event) => (event, interface.inputs.as_slice()),
            None => return Value::Null,
        },
        (None, None) => return Value::Null,
    };
    let value = |input: &Input| value_of(input, event.get(&input.name).cloned(), contexts);
    let values = asked.iter().map(|input| (input.name.as_str(), value(input)));
    values.collect::<Object>().into()
}

/// Returns the inputs that the event in `github` gives, where it is `name`.
fn given_by(contexts: &Contexts, name: &str) -> Option<Object> {
    let Some(Value::Object(github)) = contexts.get("github") else { return None };
    if github.get("event_name")?.to_string() != name {
        return None;
    }
    let inputs = match github.get("event") {
        Some(Value::Object(event)) => event.get("inputs"),
        _ => None,
    };
    match inputs {
        Some(Value::Object(inputs)) => Some(Object::clone(inputs)),
        _ => Some(Object::new()),
    }
}

fn refusal(input: &Input, given: Option<&Value>) -> Option<String> {
    let name = &input.name;
    let Some(given) = given.map(Value::to_string) else {
        let is_absent = input.required && input.default.is_none();
        return is_absent.then(|| format!("input `{name}` is required"));
    };
    match &input.kind {
        InputKind::Boolean if !matches!(given.as_str(), "true" | "false") => {
            Some(format!("input `{name}` must be true or false, this is `{given}`"))
        }
        InputKind::Number if !given.parse::<f64>().is_ok_and(f64::is_finite) => {
            Some(format!("input `{name}` must be a number, this is `{given}`"))
        }
        InputKind::Choice(options) if !options.contains(&given) => {
            let options = options.join(", ");
            Some(format!("input `{name}` must be one of {options}, this is `{given}`"))
        }
        _ => None,
    }
}

/// How many bytes the texts that a call gives, or gets back, may have together.
pub const MAX_GIVEN: usize = 1 << 20;

/// Returns the inputs that a called workflow gets, of what the calling job sees.
///
/// # Errors
///
/// A sentence: an input that has no value, or one of another kind, or more than [`MAX_GIVEN`] bytes together.
pub fn given_to(called: &Workflow, call: &Call, contexts: &Contexts) -> Result<Value, String> {
    given(called, call, contexts, false)
}

/// Returns the inputs as far as they are known: what has no value yet is as if it was not given.
pub(crate) fn given_so_far(
    called: &Workflow,
    call: &Call,
    contexts: &Contexts,
) -> Result<Value, String> {
    given(called, call, contexts, true)
}

fn given(
    called: &Workflow,
    call: &Call,
    contexts: &Contexts,
    is_early: bool,
) -> Result<Value, String> {
    let asked = called.interface().map(|interface| interface.inputs.as_slice()).unwrap_or_default();
    let (mut values, mut bytes) = (Object::new(), 0);
    for input in asked {
        let given = call.with.iter().find(|(name, _)| name.eq_ignore_ascii_case(&input.name));
        let value = given.map(|(_, argument)| argument.get(contexts)).transpose();
        let value = match value {
            Ok(value) => value,
            Err(_) if is_early => None,
            Err(error) => return Err(format!("input `{}` has no value: {error}", input.name)),
        };
        if let (Some(value), false) = (&value, is_early)
            && !input.kind.fits(value)
        {
            let (name, kind) = (&input.name, input.kind.name());
            return Err(format!(
                "input `{name}` must be a {kind}, this is `{}`",
                cut(&value.to_string(), 100)
            ));
        }
        let value = value_of(input, value, contexts);
        bytes += match &value {
            Value::String(text) => text.len(),
            _ => 0,
        };
        if bytes > MAX_GIVEN {
            return Err(format!("the inputs of `{}` have more than {MAX_GIVEN} bytes", call.uses));
        }
        values.insert(input.name.as_str(), value);
    }
    Ok(values.into())
}

/// Returns the inputs that people fill in.
fn dispatched(workflow: &Workflow) -> &[Input] {
    let inputs = workflow.triggers.iter().find_map(|trigger| match &trigger.details {
        Details::Dispatch(inputs) => Some(inputs.as_slice()),
        _ => None,
    });
    inputs.unwrap_or_default()
}

/// Returns the value of an input: what is given, its default, or what its type begins with.
pub(crate) fn value_of(input: &Input, given: Option<Value>, contexts: &Contexts) -> Value {
    let default = || input.default.as_ref().and_then(|default| default.get(contexts).ok());
    match (&input.kind, given.or_else(default)) {
        (InputKind::Boolean, Some(value)) => match &value {
            Value::String(text) => text.eq_ignore_ascii_case("true").into(),
            other => other.is_truthy().into(),
        },
        (InputKind::Boolean, None) => false.into(),
        (InputKind::Number, value) => value.map_or(0.0, |value| value.to_number()).into(),
        (InputKind::Choice(options), None) => options.first().map_or("", String::as_str).into(),
        (_, Some(value)) => value.to_string().into(),
        (_, None) => "".into(),
    }
}
