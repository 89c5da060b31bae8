//! How far a measurement is.

use crate::coordinator::Progress;

/// A bar on the standard error, if that is a terminal.
pub(super) struct Bar(indicatif::ProgressBar);

impl Bar {
    pub(super) fn new() -> Bar {
        let bar = indicatif::ProgressBar::new(0);
        if let Ok(style) =
            indicatif::ProgressStyle::with_template("{msg:16} {wide_bar} {human_pos}/{human_len}")
        {
            bar.set_style(style);
        }
        Bar(bar)
    }
}

impl Progress for Bar {
    fn show(&mut self, doing: &str, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
        // The last, because it may draw.
        if self.0.message() != doing {
            self.0.set_message(doing.to_owned());
        }
    }

    fn say(&mut self, words: &str) {
        // Also where there is no terminal.
        self.0.suspend(|| eprintln!("{words}"));
    }

    fn end(&mut self) {
        self.0.finish_and_clear();
    }
}
