//! The key in the data directory with which clients resume their sessions after a restart.

use std::fs;
use std::io;
use std::path::Path;

use switchboard_proto::session::resume::ResumeKey;

use crate::files;

const NAME: &str = "resume.key";

/// Whether a process like this one can read the key, if there is one. Changes nothing.
pub fn look(directory: &Path) -> io::Result<()> {
    match fs::read(directory.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The key of a data directory that this process has to itself. One that is not there, or not whole, is made: then sessions of before
/// are new ones.
pub fn of(directory: &Path) -> io::Result<ResumeKey> {
    let path = directory.join(NAME);
    match fs::read(&path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(bits) => return Ok(ResumeKey::new(bits)),
            Err(_) => tracing::warn!(path = %path.display(), "this is no key; a new one takes its place"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(io::Error::other)?;
    files::replace(directory, NAME, &bits)?;
    Ok(ResumeKey::new(bits))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use switchboard_proto::entry::User;
    use switchboard_proto::session::server::{Identity, SessionId};

    use super::*;

    fn token(key: &ResumeKey) -> String {
        key.token(&Identity {
            session: SessionId(7),
            user: User::new("ana"),
        })
    }

    #[test]
    fn a_directory_keeps_its_key_and_nobody_else_reads_it() {
        let directory = std::env::temp_dir().join(format!("switchboard-key-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("resume.key");
        let first = token(&of(&directory).unwrap());
        assert_eq!(token(&of(&directory).unwrap()), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, [1; 31]).unwrap();
        let second = token(&of(&directory).unwrap());
        assert_ne!(second, first);
        assert_eq!(token(&of(&directory).unwrap()), second);
        fs::remove_dir_all(&directory).unwrap();
    }
}
