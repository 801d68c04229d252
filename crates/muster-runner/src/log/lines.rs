//! The output of one program as lines, whatever pieces it comes in.

use super::command;
use super::mask::{Joint, Masks};

/// So much of a line that is not ended is held back.
const MAX_HELD: usize = 64 << 10;
/// And so much where it may become a command.
const MAX_COMMAND: usize = 1 << 20;

/// What there is of a line that is not ended.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
    /// Whether its beginning has been written.
    is_begun: bool,
    joint: Joint,
}

/// What is done with a whole line.
pub(super) trait Take {
    /// Returns whether a line is of interest.
    fn wants(&self, line: &[u8]) -> bool;

    /// Takes a line that is, and returns true where it is not to be written.
    fn take(&mut self, line: &[u8], masks: &mut Masks, out: &mut Vec<u8>) -> bool;
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
        if !self.held.is_empty() || self.is_begun {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                return self.hold(bytes, masks, out);
            };
            let (line, rest) = bytes.split_at(end + 1);
            self.held.extend_from_slice(line);
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
                if take.take(&bytes[next..end], masks, out) {
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
        let line = std::mem::take(&mut self.held);
        let joint = std::mem::take(&mut self.joint);
        let is_begun = std::mem::take(&mut self.is_begun);
        if !is_begun && take.wants(&line) && take.take(&line, masks, out) {
            return;
        }
        masks.write(&line, line.len(), joint, out);
    }

    /// Writes what is held, but for what may become a secret or a command.
    pub(super) fn rest(&mut self, masks: &mut Masks, out: &mut Vec<u8>) {
        if self.is_begun || !command::may_become(&self.held) {
            let upto = masks.certain(&self.held);
            self.write(upto, masks, out);
        }
    }

    fn hold(&mut self, bytes: &[u8], masks: &mut Masks, out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        let may_be_command = !self.is_begun && command::may_become(&self.held);
        let most = if may_be_command { MAX_COMMAND } else { MAX_HELD };
        if self.held.len() > most + masks.reach() {
            self.write(self.held.len() - masks.reach(), masks, out);
        }
    }

    fn write(&mut self, upto: usize, masks: &mut Masks, out: &mut Vec<u8>) {
        if upto > 0 {
            self.joint = masks.write(&self.held, upto, self.joint, out);
            self.held.drain(..upto);
            self.is_begun = true;
        }
    }
}

fn whole(lines: &[u8], masks: &mut Masks, out: &mut Vec<u8>) {
    if !lines.is_empty() {
        masks.write(lines, lines.len(), Joint::default(), out);
    }
}
