//! The output of one program as lines, whatever pieces it comes in.

use super::command;
use super::mask::{Joint, Masks};

/// So much of a line that is not ended is kept.
const MAX_HELD: usize = 64 << 10;
/// And so much where it may become a command.
pub(super) const MAX_COMMAND: usize = 1 << 20;

/// What there is of a line that is not ended.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// All of it, or of a long one what is not written yet.
    line: Vec<u8>,
    /// So much of that has been written: a program was quiet, and somebody may wait to see it.
    done: usize,
    joint: Joint,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Whole,
    /// It is too long to be judged: its beginning is gone.
    Cut,
    /// It is a command that is too long: nothing of it is shown.
    Refused,
}

/// What is done with a whole line.
pub(super) trait Take {
    /// Returns whether a line is of interest.
    fn wants(&self, line: &[u8]) -> bool;

    /// Takes a line that is, and returns true where the rest of it is not to be written; `is_begun` says whether its
    /// beginning has been.
    fn take(&mut self, line: &[u8], is_begun: bool, masks: &mut Masks, out: &mut Vec<u8>) -> bool;

    /// Hears of a command that is too long.
    fn refuse(&mut self, masks: &mut Masks, out: &mut Vec<u8>);
}

impl Lines {
    /// Takes a piece of output, and writes what can be written of it.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        masks: &mut Masks,
        take: &mut impl Take,
        out: &mut Vec<u8>,
    ) {
        if !self.line.is_empty() || self.state != State::Whole {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                return self.hold(bytes, masks, out);
            };
            let (line, rest) = bytes.split_at(end + 1);
            self.hold(line, masks, out);
            bytes = rest;
            self.end(masks, take, out);
        }
        // Lines that are nothing but lines are masked together.
        let (mut plain, mut next) = (0, 0);
        while let Some(end) = memchr::memchr(b'\n', &bytes[next..]) {
            let end = next + end + 1;
            if take.wants(&bytes[next..end]) {
                whole(&bytes[plain..next], masks, out);
                plain = next;
                if take.take(&bytes[next..end], false, masks, out) {
                    plain = end;
                }
            }
            next = end;
        }
        whole(&bytes[plain..next], masks, out);
        self.hold(&bytes[next..], masks, out);
    }

    /// Ends the line that is held.
    pub(super) fn end(&mut self, masks: &mut Masks, take: &mut impl Take, out: &mut Vec<u8>) {
        let Self { line, done, joint, state } = std::mem::take(self);
        match state {
            State::Refused => return take.refuse(masks, out),
            State::Whole if take.wants(&line) && take.take(&line, done > 0, masks, out) => return,
            State::Whole | State::Cut => {}
        }
        let rest = &line[done..];
        masks.write(rest, rest.len(), joint, out);
    }

    /// Writes what is held, but for what may become a secret or a command.
    pub(super) fn rest(&mut self, masks: &Masks, out: &mut Vec<u8>) {
        if self.state == State::Cut || !command::may_become(&self.line) {
            self.write(masks.certain(&self.line[self.done..]), masks, out);
        }
    }

    fn hold(&mut self, bytes: &[u8], masks: &Masks, out: &mut Vec<u8>) {
        if self.state == State::Refused {
            return;
        }
        self.line.extend_from_slice(bytes);
        if self.line.len() <= MAX_HELD + masks.reach() {
            return;
        }
        if self.state == State::Whole && command::may_become(&self.line) {
            if self.line.len() > MAX_COMMAND {
                *self = Self { state: State::Refused, ..Self::default() };
            }
            return;
        }
        self.write((self.line.len() - self.done).saturating_sub(masks.reach()), masks, out);
        self.line.drain(..self.done);
        self.done = 0;
        self.state = State::Cut;
    }

    /// Writes so much of what is not written yet.
    fn write(&mut self, upto: usize, masks: &Masks, out: &mut Vec<u8>) {
        self.joint = masks.write(&self.line[self.done..], upto, self.joint, out);
        self.done += upto;
    }
}

fn whole(lines: &[u8], masks: &Masks, out: &mut Vec<u8>) {
    if !lines.is_empty() {
        masks.write(lines, lines.len(), Joint::default(), out);
    }
}
