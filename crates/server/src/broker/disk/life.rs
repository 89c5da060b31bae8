//! Whether what was stored may lack its end, and what follows from that: then every log lives a new life.
//!
//! ```text
//!   DIR/life    {"life":104440937038295,"boot":"0d9f…","fsync":"interval","ended":false}
//! ```
//!
//! A process that is killed leaves all that it wrote with the system. A system that ends, by a power failure, may lose what it had not
//! synced, and then the next messages would get the offsets of those that are lost: the same place in the same life would name two messages. So
//! where the system is another one than the last process ran on, that process was not stopped in good order, and it did not sync before it
//! acknowledged, all logs get another epoch, and whoever had been at any of them is told `reset`.
//!
//! Nothing is written anew for that: the epochs in the segments stay, and a life turns each of them into one that nobody has seen
//! ([`Life::turn`]).

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use switchboard_proto::position::Epoch;

use crate::config::Fsync;
use crate::files;

const NAME: &str = "life";
/// What Linux says of itself that is different after each start.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// The bits of an epoch that are random.
const RANDOM: u64 = (1 << 48) - 1;

/// Turns epochs as they are stored into those that are seen, and back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Life(u64);

impl Life {
    /// Of `random`, the lower 48 bits count. With 0, epochs are seen as they are stored.
    pub fn new(random: u64) -> Life {
        Life(random & RANDOM)
    }

    /// The epoch that is seen for one that is stored, and the other way round.
    pub fn turn(self, epoch: Epoch) -> Epoch {
        Epoch(epoch.0 ^ self.0)
    }
}

/// What a process leaves for the next one.
#[derive(Serialize, Deserialize)]
struct Left {
    life: u64,
    boot: Option<String>,
    fsync: Fsync,
    ended: bool,
}

/// The life of the logs of a directory that this process has to itself, and whether it is a new one because something may be lost. **What is
/// there has to be synced before: from now on it is taken to be as safe as `fsync` makes it.**
///
/// # Errors
/// The file cannot be read or written.
pub fn begin(directory: &Path, fsync: Fsync, holds_logs: bool, random: u64) -> io::Result<(Life, bool)> {
    let boot = fs::read_to_string(BOOT).ok().map(|boot| boot.trim().to_owned());
    let left = match fs::read(directory.join(NAME)) {
        Ok(bytes) => serde_json::from_slice::<Left>(&bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let whole = left.filter(|left| {
        let is_same_system = boot.is_some() && left.boot == boot;
        left.ended || is_same_system || left.fsync == Fsync::Always
    });
    let may_be_lost = holds_logs && whole.is_none();
    let life = Life::new(whole.map_or(random, |left| left.life));
    let left = Left {
        life: life.0,
        boot,
        fsync,
        ended: false,
    };
    leave(directory, &left)?;
    Ok((life, may_be_lost))
}

/// Everything is stored and synced.
///
/// # Errors
/// The file cannot be written.
pub fn end(directory: &Path) -> io::Result<()> {
    let bytes = fs::read(directory.join(NAME))?;
    let mut left: Left = serde_json::from_slice(&bytes)?;
    left.ended = true;
    leave(directory, &left)
}

fn leave(directory: &Path, left: &Left) -> io::Result<()> {
    files::replace(directory, NAME, &serde_json::to_vec(left)?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("switchboard-life-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        /// As if another system had started since.
        fn lose_power(&self) {
            let path = self.0.join(NAME);
            let mut left: Left = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            left.boot = Some("another".to_owned());
            fs::write(&path, serde_json::to_vec(&left).unwrap()).unwrap();
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_life_ends_where_the_end_of_a_log_may_be_lost() {
        let directory = Directory::new("ends");
        let begin = |fsync, random| begin(&directory.0, fsync, true, random).unwrap();
        // Nobody knows what was before.
        assert_eq!(begin(Fsync::Interval, 1), (Life(1), true));
        // Killed.
        assert_eq!(begin(Fsync::Interval, 2), (Life(1), false));
        directory.lose_power();
        assert_eq!(begin(Fsync::Always, 3), (Life(3), true));
        // It synced before it acknowledged.
        directory.lose_power();
        assert_eq!(begin(Fsync::Never, 4), (Life(3), false));
        // It was stopped in good order.
        end(&directory.0).unwrap();
        directory.lose_power();
        assert_eq!(begin(Fsync::Never, 5), (Life(3), false));
        directory.lose_power();
        assert_eq!(begin(Fsync::Never, 6), (Life(6), true));
        fs::write(directory.0.join(NAME), "{").unwrap();
        assert_eq!(begin(Fsync::Never, 7), (Life(7), true));
    }

    #[test]
    fn where_there_was_nothing_nothing_is_lost() {
        let directory = Directory::new("nothing");
        assert_eq!(
            begin(&directory.0, Fsync::Interval, false, u64::MAX).unwrap(),
            (Life(RANDOM), false)
        );
    }

    #[test]
    fn turned_twice_an_epoch_is_what_it_was() {
        let (life, epoch) = (Life::new(0x1234_5678_9abc_def0), Epoch(0xffff_0000_0000_0001));
        assert_ne!(life.turn(epoch), epoch);
        assert_eq!(
            life.turn(epoch).0 >> 48,
            0xffff,
            "it is still of the same channel"
        );
        assert_eq!(life.turn(life.turn(epoch)), epoch);
    }
}
