//! `permissions`: what a job's token may do.

use crate::grammar;

/// How much of a scope is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `none`.
    None,
    /// `read`.
    Read,
    /// `write`, which reads, too.
    Write,
}

impl Level {
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            _ => None,
        }
    }

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What a token may do, scope by scope; what is not named is not granted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    granted: Vec<(&'static str, Level)>,
}

impl Permissions {
    /// `read-all` or `write-all`: every scope as far as it goes.
    pub fn all(level: Level) -> Self {
        let scopes = grammar::SCOPES.keys.iter();
        Self { granted: scopes.map(|scope| (scope.name, most(scope.name, level))).collect() }
    }

    /// Grants `level` of a scope that there is.
    pub(crate) fn grant(&mut self, scope: &str, level: Level) {
        if let Some(scope) = grammar::SCOPES.key(scope) {
            self.granted.retain(|(name, _)| *name != scope.name);
            self.granted.push((scope.name, most(scope.name, level)));
        }
    }

    /// Returns how much of a scope is granted.
    pub fn level(&self, scope: &str) -> Level {
        let granted = self.granted.iter().find(|(name, _)| *name == scope);
        granted.map_or(Level::None, |(_, level)| *level)
    }

    /// Iterates over what is granted or named, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Level)> {
        let scopes = grammar::SCOPES.keys.iter().map(|scope| scope.name);
        scopes.filter_map(|scope| self.granted.iter().find(|(name, _)| *name == scope).copied())
    }

    /// Returns the scopes of which this asks for more than `most` has: what is asked, and what there is.
    pub fn beyond(&self, most: &Self) -> Vec<(&'static str, Level, Level)> {
        self.iter()
            .map(|(scope, asked)| (scope, asked, most.level(scope)))
            .filter(|(_, asked, granted)| asked > granted)
            .collect()
    }
}

/// Some scopes cannot be written.
fn most(scope: &str, level: Level) -> Level {
    match scope {
        "models" | "vulnerability-alerts" => level.min(Level::Read),
        _ => level,
    }
}
