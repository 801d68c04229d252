//! What ended steps have left running, and still writes.

use std::io::{PipeReader, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::{Lines, Log};

/// How often it is logged, and how far it may be ahead.
pub(super) const TICK: Duration = Duration::from_millis(100);
const MAX_AHEAD: usize = 4 << 20;

/// The output of what an ended step left running, read on a thread of its own so that it never waits
/// for the steps that follow.
pub(super) struct LeftOpen {
    step: usize,
    lines: Lines,
    written: Arc<Mutex<Vec<u8>>>,
    /// Whether nobody listens any more: what comes is read, and gone.
    is_over: Arc<AtomicBool>,
}

impl LeftOpen {
    /// Reads on what a step has begun to write.
    pub(super) fn read(step: usize, lines: Lines, mut pipe: PipeReader) -> Self {
        let written = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, unheard) = (Arc::clone(&written), Arc::clone(&is_over));
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let is_heard = || !unheard.load(Ordering::Relaxed);
                // Far ahead of who logs it, it has to wait after all.
                while is_heard() && lock(&shared).len() > MAX_AHEAD {
                    std::thread::sleep(TICK);
                }
                if is_heard() {
                    lock(&shared).extend_from_slice(&buffer[..count]);
                }
            }
        });
        Self { step, lines, written, is_over }
    }

    /// Logs what was written since the last time.
    pub(super) fn tell(&mut self, log: &mut Log<'_>) {
        let bytes = std::mem::take(&mut *lock(&self.written));
        if !bytes.is_empty() {
            log.left_over(self.step, &mut self.lines, &bytes);
        }
    }

    /// Logs what is left: nothing more comes, or is heard.
    pub(super) fn end(mut self, log: &mut Log<'_>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.tell(log);
        log.end_left_over(self.step, &mut self.lines);
    }
}

fn lock(written: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}
