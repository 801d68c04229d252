//! `strategy` and its matrix.

use super::Reader;
use crate::diagnostic::{Problem, Rule, Span};
use crate::keys;
use crate::strategy::Strategy;
use crate::token::{Kind, Token};

impl Reader {
    pub(super) fn strategy(&mut self, token: &Token) -> Strategy {
        if let Some(matrix) = token.get(keys::MATRIX) {
            self.matrix(matrix, token.is_computed());
        }
        Strategy::new(token.clone())
    }

    /// Checks what is written of a matrix; what is computed shows when it is.
    fn matrix(&mut self, matrix: &Token, is_computed: bool) {
        let Kind::Map(pairs) = &matrix.kind else { return };
        let mut vectors = Vec::new();
        let mut selects = false;
        for pair in pairs {
            let Some(key) = pair.key.text() else {
                selects = true;
                continue;
            };
            let value = &pair.value;
            match key {
                // What is wrong with it has been said.
                keys::INCLUDE => {
                    selects |= value.is_computed()
                        || !value.items().is_empty()
                        || matches!(value.kind, Kind::Wrong);
                }
                keys::EXCLUDE => {}
                _ => {
                    selects = true;
                    vectors.push(key);
                    if matches!(&value.kind, Kind::List(items) if items.is_empty()) {
                        self.invalid(value.span, format!("matrix vector `{key}` is empty"));
                    }
                }
            }
        }
        if !selects {
            let span = Span { start: matrix.span.start, end: matrix.span.start };
            self.of_matrix(span, "`matrix` has no vector and no `include`".into());
        }
        if is_computed {
            return;
        }
        for (key, what) in [(keys::INCLUDE, "`include`"), (keys::EXCLUDE, "`exclude`")] {
            for item in matrix.get(key).map(Token::items).unwrap_or_default() {
                if matches!(&item.kind, Kind::Map(pairs) if pairs.is_empty()) {
                    self.of_matrix(item.span, format!("an item of {what} is empty"));
                }
                for pair in item.pairs().iter().filter(|_| key == keys::EXCLUDE) {
                    let name = pair.key.text().unwrap_or_default();
                    if !vectors.iter().any(|vector| vector.eq_ignore_ascii_case(name)) {
                        let message =
                            format!("`exclude` names `{name}`, which is no vector of the matrix");
                        self.of_matrix(pair.key.span, message);
                    }
                }
            }
        }
    }

    fn of_matrix(&mut self, span: Span, message: String) {
        self.problems.push(Problem::invalid(span, message).of(Rule::Matrix));
    }
}
