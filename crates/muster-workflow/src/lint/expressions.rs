//! The expressions of a workflow: what each reads must be there, and fit where it stands.

use super::contexts::{self, of_input, of_job, of_step, of_workflow};
use super::types::{Contexts, Type};
use super::{Lint, conditions};
use crate::diagnostic::{Rule as Broken, Span};
use crate::events;
use crate::grammar::{self, Rule, Shape};
use crate::keys;
use crate::template::Part;
use crate::token::{Kind, Pair, Token};
use crate::untrusted;
use crate::uses::Uses;
use crate::words::list;
use crate::workflow::{Argument, Job};
use crate::{Condition, Template};

impl Lint<'_> {
    pub(super) fn expressions(&mut self) {
        let all = of_workflow(self.workflow);
        for pair in self.root.pairs() {
            let Some(key) = pair.key.text() else { continue };
            if key != keys::JOBS
                && let Some(rule) = grammar::rule_of_workflow(key)
            {
                self.values(&pair.value, rule, &all);
            }
        }
        if let Some(call) = self.root.get(keys::ON).and_then(|on| on.get(events::WORKFLOW_CALL)) {
            self.defaults_of_inputs(
                call.get(keys::INPUTS).map(Token::pairs).unwrap_or_default(),
                &all,
            );
        }
        for (pair, job) in self.jobs_with_tokens() {
            let contexts = of_job(self, &all, job, &pair.value);
            self.job(&pair.value, job, contexts);
        }
    }

    /// The default of an input sees those before it, and is of its type.
    fn defaults_of_inputs(&mut self, inputs: &[Pair], all: &Contexts) {
        let mut contexts = all.clone();
        contexts.set("inputs", Type::object([]));
        for input in inputs {
            let kind = input.value.get(keys::TYPE).and_then(Token::text);
            let of = match kind {
                Some("boolean") => Type::Bool,
                Some("number") => Type::Number,
                _ => Type::Text,
            };
            let name = input.key.text().unwrap_or_default();
            if let Some(Kind::Expression(default)) =
                input.value.get(keys::DEFAULT).map(|default| &default.kind)
            {
                self.default_of_input(name, default, &of, [&contexts, all]);
            }
            contexts.add("inputs", name, of);
        }
    }

    fn default_of_input(
        &mut self,
        name: &str,
        default: &Template,
        of: &Type,
        [before, all]: [&Contexts; 2],
    ) {
        for (expr, span) in default.placed() {
            let [mut faults, mut more] = [Vec::new(), Vec::new()];
            all.infer(&expr.node, &mut faults);
            before.infer(&expr.node, &mut more);
            // What is wrong wherever it stands has been said.
            if faults.is_empty() && !more.is_empty() {
                return self.faults(more, span);
            }
        }
        let is = contexts::of_template(default, before);
        let fits = match of {
            Type::Bool => matches!(is, Type::Bool | Type::Any),
            of => of.takes(&is),
        };
        if !fits && is.is_scalar() {
            let message = format!("the default of input `{name}` must be {of}, and is {is}");
            self.say(default.span, Broken::Expression, message);
        }
    }

    fn job(&mut self, token: &Token, job: &Job, mut contexts: Contexts) {
        contexts.set("steps", Type::object([]));
        // A step sees only those before it; what is computed when all are done sees all.
        let items = token.get(keys::STEPS).map(Token::items).unwrap_or_default();
        for item in items {
            self.step(item, &contexts);
            let parallel = item.get(keys::PARALLEL).map(Token::items).unwrap_or_default();
            for step in std::iter::once(item).chain(parallel) {
                if let Some(id) = step.get(keys::ID).and_then(Token::text) {
                    contexts.add("steps", id, of_step(self, step));
                }
            }
        }
        for pair in token.pairs() {
            let Some(key) = pair.key.text().filter(|key| *key != keys::STEPS) else { continue };
            if let Some(rule) = grammar::rule_of_job(key) {
                self.values(&pair.value, rule, &contexts);
            }
        }
        let called = job.call.as_ref().and_then(|call| self.called(&call.uses));
        if let (Some(call), Some(called)) = (&job.call, called)
            && let Some(interface) = called.interface()
        {
            for (name, argument) in &call.with {
                let input =
                    interface.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name));
                let Some(input) = input else { continue };
                // What is written down is held against it as GitHub does.
                let Argument::Computed(template) = argument else { continue };
                let of = contexts::of_template(template, &contexts);
                let wanted = of_input(&input.kind);
                if !wanted.takes(&of) {
                    let message = format!("input `{name}` must be {wanted}, this is {of}");
                    self.say(argument.span(), Broken::Expression, message);
                }
            }
        }
    }

    fn step(&mut self, token: &Token, contexts: &Contexts) {
        for pair in token.pairs() {
            let Some(key) = pair.key.text() else { continue };
            if key == keys::PARALLEL {
                pair.value.items().iter().for_each(|step| self.step(step, contexts));
            } else if let Some(rule) = grammar::rule_of_step(key) {
                self.values(&pair.value, rule, contexts);
            }
        }
        let uses = token.get(keys::USES).and_then(Token::text).and_then(Uses::read);
        let script = match uses {
            // It runs what it is given.
            Some(uses) if uses.is("actions/github-script") => {
                token.get(keys::WITH).and_then(|with| with.get("script"))
            }
            Some(_) => None,
            None => token.get(keys::RUN),
        };
        let Some(Kind::Expression(script)) = script.map(|script| &script.kind) else { return };
        for (expr, span) in script.placed() {
            if let Some(path) = untrusted::in_script(expr) {
                let message =
                    format!("`{path}` is written by strangers, and becomes part of the script");
                let hint = "give it to the script as an environment variable";
                self.say_with_hint(span, Broken::Expression, message, hint);
            }
        }
    }

    /// Checks all expressions in a value that stands where `rule` holds.
    fn values(&mut self, token: &Token, rule: &Rule, contexts: &Contexts) {
        match &token.kind {
            Kind::Expression(template) => self.template(template, rule, contexts),
            Kind::Condition(condition) => self.condition(condition, contexts),
            Kind::List(items) => {
                let of = rule.shapes.iter().find_map(|shape| match shape {
                    Shape::List(of) => Some(*of),
                    Shape::Any => Some(&grammar::ANY),
                    _ => None,
                });
                if let Some(of) = of {
                    items.iter().for_each(|item| self.values(item, of, contexts));
                }
            }
            Kind::Map(pairs) => {
                for pair in pairs {
                    if let Kind::Expression(template) = &pair.key.kind {
                        self.template(template, &grammar::TEXT, contexts);
                    }
                    let name = pair.key.text().unwrap_or_default();
                    let of = rule.shapes.iter().find_map(|shape| match shape {
                        Shape::Mapping(mapping) => {
                            mapping.key(name).map(|key| key.rule).or(mapping.others)
                        }
                        Shape::Any => Some(&grammar::ANY),
                        Shape::Events => crate::events::event(name).and_then(|event| event.own),
                        _ => None,
                    });
                    if let Some(of) = of {
                        self.values(&pair.value, of, contexts);
                    }
                }
            }
            _ => {}
        }
    }

    fn condition(&mut self, condition: &Condition, contexts: &Contexts) {
        for (expr, span) in condition.template().placed() {
            let mut faults = Vec::new();
            contexts.infer(&expr.node, &mut faults);
            self.faults(faults, span);
        }
        conditions::check(self, condition);
    }

    fn template(&mut self, template: &Template, rule: &Rule, contexts: &Contexts) {
        let is_alone = matches!(template.parts(), [Part::Expression(..)]);
        for (expr, span) in template.placed() {
            let mut faults = Vec::new();
            let of = contexts.infer(&expr.node, &mut faults);
            if !faults.is_empty() {
                return self.faults(faults, span);
            }
            let fits = if is_alone {
                rule.shapes.iter().any(|shape| holds(*shape, &of))
            } else {
                of.is_scalar()
            };
            if !fits {
                let message = match wanted(rule).filter(|_| is_alone) {
                    Some(wanted) => format!("this must be {wanted}, and is {of}"),
                    None if is_alone && !keys_of(rule).is_empty() => {
                        format!(
                            "this is an object without one of the keys {}",
                            list(&keys_of(rule))
                        )
                    }
                    None => format!("{of} cannot be part of a text; `toJSON()` makes one of it"),
                };
                return self.say(span, Broken::Expression, message);
            }
        }
    }

    fn faults(&mut self, faults: Vec<String>, place: Span) {
        for fault in faults {
            self.say(place, Broken::Expression, fault);
        }
    }
}

/// Returns true where a value of a type may stand for a form.
fn holds(shape: Shape, of: &Type) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Null => *of == Type::Null,
        Shape::Boolean => matches!(of, Type::Bool | Type::Any),
        Shape::Number => matches!(of, Type::Number | Type::Any),
        Shape::Text | Shape::Name | Shape::Words(_) | Shape::Condition | Shape::Event => {
            of.is_scalar()
        }
        Shape::List(_) => matches!(of, Type::List { .. } | Type::Any),
        Shape::Mapping(mapping) => match of {
            Type::Object(fields) => {
                let mut names = fields.iter().map(|(name, _)| name).peekable();
                let is_open = mapping.others.is_some() || fields.has_others();
                is_open || names.peek().is_none() || names.any(|name| mapping.key(name).is_some())
            }
            of => *of == Type::Any,
        },
        Shape::Events => matches!(of, Type::Object(_) | Type::Any),
    }
}

/// Returns the keys that a mapping may have at a place.
fn keys_of(rule: &Rule) -> Vec<&'static str> {
    let mappings = rule.shapes.iter().filter_map(|shape| match shape {
        Shape::Mapping(mapping) => Some(mapping.keys),
        _ => None,
    });
    mappings.flatten().map(|key| key.name).collect()
}

/// Names the only type that fits, where there is one and it is no text.
fn wanted(rule: &Rule) -> Option<Type> {
    match rule.shapes {
        [Shape::Boolean] => Some(Type::Bool),
        [Shape::Number] => Some(Type::Number),
        [Shape::List(_)] => Some(Type::list(Type::Any)),
        [Shape::Mapping(_)] => Some(Type::object([])),
        _ => None,
    }
}
