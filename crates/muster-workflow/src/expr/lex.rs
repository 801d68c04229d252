//! From text to tokens.

use super::parse::{ParseError, ParseErrorKind};
use super::value::parse_number;

/// A token and the byte offset at which it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Open,
    Close,
    OpenIndex,
    CloseIndex,
    Dot,
    Comma,
    Star,
    Not,
    Operator(Operator),
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Name(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Splits `text` into tokens.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (kind, len) = next(text, at, tokens.last().map(|t| &t.kind))?;
        tokens.push(Token { at, len, kind });
        at += len;
    }
    Ok(tokens)
}

fn next(
    text: &str,
    at: usize,
    before: Option<&TokenKind>,
) -> Result<(TokenKind, usize), ParseError> {
    let rest = &text[at..];
    if let Some(found) = symbol(rest) {
        return Ok(found);
    }
    let first = rest.chars().next().unwrap_or_default();
    if first == '\'' {
        return string(rest).ok_or_else(|| unexpected(rest, at));
    }
    // A dot after a value is a dereference; anywhere else it starts a number.
    let after_value = matches!(
        before,
        Some(
            TokenKind::Close
                | TokenKind::CloseIndex
                | TokenKind::Star
                | TokenKind::Name(_)
                | TokenKind::Null
                | TokenKind::Bool(_)
                | TokenKind::Number(_)
                | TokenKind::Text(_)
        )
    );
    if first == '.' && after_value {
        return Ok((TokenKind::Dot, 1));
    }
    if first.is_ascii_digit() || matches!(first, '.' | '+' | '-') {
        let word = word(rest, false);
        return match parse_number(word) {
            Some(number) => Ok((TokenKind::Number(number), word.len())),
            None => Err(unexpected(word, at)),
        };
    }
    let word = word(rest, true);
    let named = before != Some(&TokenKind::Dot);
    let kind = match word {
        "true" if named => TokenKind::Bool(true),
        "false" if named => TokenKind::Bool(false),
        "null" if named => TokenKind::Null,
        "NaN" if named => TokenKind::Number(f64::NAN),
        "Infinity" if named => TokenKind::Number(f64::INFINITY),
        _ if is_name(word) => TokenKind::Name(word.to_owned()),
        _ => return Err(unexpected(word, at)),
    };
    Ok((kind, word.len()))
}

fn symbol(rest: &str) -> Option<(TokenKind, usize)> {
    const SYMBOLS: [(&str, TokenKind); 15] = [
        ("&&", TokenKind::Operator(Operator::And)),
        ("||", TokenKind::Operator(Operator::Or)),
        ("==", TokenKind::Operator(Operator::Equal)),
        ("!=", TokenKind::Operator(Operator::NotEqual)),
        ("<=", TokenKind::Operator(Operator::LessOrEqual)),
        (">=", TokenKind::Operator(Operator::GreaterOrEqual)),
        ("<", TokenKind::Operator(Operator::Less)),
        (">", TokenKind::Operator(Operator::Greater)),
        ("!", TokenKind::Not),
        ("(", TokenKind::Open),
        (")", TokenKind::Close),
        ("[", TokenKind::OpenIndex),
        ("]", TokenKind::CloseIndex),
        (",", TokenKind::Comma),
        ("*", TokenKind::Star),
    ];
    SYMBOLS
        .iter()
        .find(|(symbol, _)| rest.starts_with(symbol))
        .map(|(symbol, kind)| (kind.clone(), symbol.len()))
}

/// Reads `'it''s'`; `None` when the quote is never closed.
fn string(rest: &str) -> Option<(TokenKind, usize)> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c != '\'' {
            value.push(c);
        } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
            value.push('\'');
        } else {
            return Some((TokenKind::Text(value), i + 1));
        }
    }
    None
}

/// Returns the text up to the next boundary; a dot is one only within names.
fn word(rest: &str, dot_ends: bool) -> &str {
    let end = rest
        .char_indices()
        .find(|&(i, c)| {
            c.is_whitespace()
                || matches!(c, '(' | ')' | '[' | ']' | ',' | '!' | '<' | '>' | '&' | '|' | '*')
                || (c == '=' && i > 0)
                || (c == '.' && dot_ends && i > 0)
        })
        .map_or(rest.len(), |(i, c)| if i == 0 { c.len_utf8() } else { i });
    &rest[..end]
}

/// Returns true for `[A-Za-z_][A-Za-z0-9_-]*`.
pub(super) fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn unexpected(word: &str, at: usize) -> ParseError {
    ParseError {
        kind: ParseErrorKind::Lexing,
        at,
        len: word.len(),
        message: format!("unexpected symbol `{word}`"),
    }
}
