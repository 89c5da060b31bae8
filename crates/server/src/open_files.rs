//! How many files, and so connections, this process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit of open files of this process; [`u64::MAX`] is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFiles {
    /// What holds now.
    pub soft: u64,
    /// How far the process may raise it by itself.
    pub hard: u64,
}

impl OpenFiles {
    /// The limit as it is.
    pub fn of_process() -> OpenFiles {
        let limit = getrlimit(Resource::Nofile);
        OpenFiles {
            soft: limit.current.unwrap_or(u64::MAX),
            hard: limit.maximum.unwrap_or(u64::MAX),
        }
    }

    /// Raises the soft limit to the hard one. The soft limit is low for the sake of programs that use `select(2)`, which
    /// this one does not. Where the system refuses, everything stays as it is; what then holds is returned.
    pub fn raise() -> OpenFiles {
        let limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let raised = Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            };
            // macOS refuses what is above `kern.maxfilesperproc`; the server then has fewer connections.
            let _ = setrlimit(Resource::Nofile, raised);
        }
        OpenFiles::of_process()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let before = OpenFiles::of_process();
        let after = OpenFiles::raise();
        assert_eq!(after.hard, before.hard);
        assert_eq!(after.soft, after.hard);
    }
}
