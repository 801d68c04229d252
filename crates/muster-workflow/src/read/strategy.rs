//! `strategy` and its matrix.

use super::Reader;
use crate::diagnostic::{Problem, Rule, Span};
use crate::expr::Contexts;
use crate::keys;
use crate::strategy::{MAX_LEGS, Strategy};
use crate::token::{Kind, Pair, Places, Token};

impl Reader {
    pub(super) fn strategy(&mut self, token: &Token) -> Strategy {
        let matrix = token.pairs().iter().find(|pair| pair.key.text() == Some(keys::MATRIX));
        if let Some(matrix) = matrix {
            let before = self.problems.len();
            self.matrix(&matrix.value, token.is_computed());
            if self.problems.len() == before {
                self.legs(matrix, token);
            }
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

    /// Says that there are too many legs, where nothing of a matrix is computed.
    fn legs(&mut self, matrix: &Pair, strategy: &Token) {
        let product = |sum: usize, pair: &Pair| sum.saturating_mul(pair.value.items().len().max(1));
        let vectors = matrix.value.pairs().iter();
        let is_small = vectors.fold(1, product) <= MAX_LEGS;
        // The parser of the server leaves it to whoever plans.
        if is_small || strategy.is_computed() || self.places == Places::Texts {
            return;
        }
        let only = Pair { key: matrix.key.clone(), value: matrix.value.clone() };
        let only = Token { span: strategy.span, kind: Kind::Map(vec![only]) };
        if let Err(why) = Strategy::new(only).legs(&Contexts::new()) {
            self.of_matrix(matrix.key.span, why);
        }
    }

    fn of_matrix(&mut self, span: Span, message: String) {
        self.problems.push(Problem::invalid(span, message).of(Rule::Matrix));
    }
}
