//! Where a run was made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The machine of a run.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Machine {
    /// Model name of the processor.
    pub processor: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// Date, as `2026-11-25`.
    pub date: String,
}

/// `Intel Xeon Platinum 8370C, 2 cores, Linux 6.1.0`: without the date, and without what makers put around a model name.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self
            .processor
            .replace("(R)", "")
            .replace("(TM)", "")
            .replace("(tm)", "");
        let model = model.split('@').next().unwrap_or_default().replace(" CPU", "");
        let model: Vec<&str> = model.split_whitespace().collect();
        let model = if model.is_empty() {
            "unknown processor".to_owned()
        } else {
            model.join(" ")
        };
        let cores = if self.cores == 1 { "core" } else { "cores" };
        write!(f, "{model}, {} {cores}, Linux {}", self.cores, self.kernel)
    }
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            date: today(),
        }
    }
}

/// Today in UTC.
fn today() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = now.map_or(0, |now| now.as_secs() / 86_400);
    // Years of 365.2425 days, counted from a first of March (Hinnant, chrono-compatible low-level date algorithms).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
