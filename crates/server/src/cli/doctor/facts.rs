//! What the system says about itself. Linux says most of it; what another system does not say is `None`.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::broker::disk::store::{self, Outside};
use crate::config::Config;
use crate::open_files::OpenFiles;
use crate::resume_key;

/// Everything that the checks look at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The limit of open files.
    pub open_files: Option<OpenFiles>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub tcp_max_syn_backlog: Option<u64>,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub local_ports: Option<Ports>,
    /// `net.ipv4.ip_local_reserved_ports`.
    pub reserved_ports: Vec<Ports>,
    /// Seconds since 1970, by the clock of the machine.
    pub unix_seconds: Option<u64>,
    /// Whether a time service has set the clock.
    pub clock_synchronised: Option<bool>,
    /// Bytes of memory that programs may still take, here or in the control group of this process.
    pub memory_available: Option<u64>,
    /// Cores that this process may use.
    pub cores: Option<usize>,
    /// What happens when somebody listens where the settings say.
    pub listeners: Vec<Listener>,
    /// The data directory, where the settings name one.
    pub data: Option<DataDirectory>,
}

/// A data directory, tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataDirectory {
    /// Where.
    pub path: PathBuf,
    /// There is something that is no directory.
    pub is_file: bool,
    /// What the server will find there; why it cannot use it.
    pub outcome: Result<Usable, String>,
}

/// What is known of a data directory that can be used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Usable {
    /// It is not there yet and can be made.
    pub is_new: bool,
    /// What is in it.
    pub inside: Outside,
    /// Bytes that may still be written.
    pub free: Option<u64>,
    /// It is in memory, and ends with the machine.
    pub is_in_memory: bool,
    /// How long it takes until a few bytes are on the disk: the median of several times.
    pub sync: Option<Duration>,
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// An address where the server is to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The setting: `listen.public` or `listen.internal`.
    pub setting: &'static str,
    /// The flag that changes it.
    pub flag: &'static str,
    /// Its value.
    pub address: SocketAddr,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened when we listened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It works.
    Free,
    /// Somebody else listens there.
    Held(Option<Holder>),
    /// This machine does not have the address.
    NoSuchAddress,
    /// The port is for privileged processes.
    NotPermitted,
    /// Something else.
    Failed(String),
}

/// A process that listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, as the kernel keeps it: 15 bytes.
    pub name: String,
}

/// No file of `/proc` or `/sys` that we read is longer than we need.
const FILE_BYTES_MAX: u64 = 16 << 20;

impl Facts {
    /// Asks this machine.
    pub fn of_machine(config: &Config) -> Facts {
        let sysctl = |name: &str| read(&format!("/proc/sys/net/{name}"));
        let number = |name: &str| sysctl(name)?.trim().parse().ok();
        let listener = |setting, flag, address| Listener {
            setting,
            flag,
            address,
            outcome: try_to_listen(address),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Facts {
            open_files: Some(OpenFiles::of_process()),
            somaxconn: number("core/somaxconn"),
            tcp_max_syn_backlog: number("ipv4/tcp_max_syn_backlog"),
            local_ports: sysctl("ipv4/ip_local_port_range").and_then(|text| two_ports(&text)),
            reserved_ports: sysctl("ipv4/ip_local_reserved_ports")
                .map(|text| port_list(&text))
                .unwrap_or_default(),
            unix_seconds: now.ok().map(|now| now.as_secs()),
            clock_synchronised: clock_synchronised(),
            memory_available: memory_available(),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            listeners: vec![
                listener("listen.public", "--listen", config.listen.public),
                listener("listen.internal", "--internal-listen", config.listen.internal),
            ],
            data: config.data.dir.as_deref().map(try_to_keep),
        }
    }
}

/// Does what the server will do with a data directory, and leaves nothing behind.
fn try_to_keep(path: &Path) -> DataDirectory {
    DataDirectory {
        path: path.to_owned(),
        is_file: path.exists() && !path.is_dir(),
        outcome: look_into(path),
    }
}

fn look_into(path: &Path) -> Result<Usable, String> {
    let is_new = !path.exists();
    let inside = match is_new {
        true => Outside::default(),
        false => {
            let inside = store::look(path).map_err(|error| error.to_string())?;
            resume_key::look(path).map_err(|error| format!("{}: {error}", path.display()))?;
            inside
        }
    };
    // Where it is to be made.
    let absolute = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let Some(place) = absolute.ancestors().find(|place| place.exists()) else {
        return Err(format!("{}: there is no such place", path.display()));
    };
    let sync = time_to_sync(place).map_err(|error| format!("{}: {error}", place.display()))?;
    let room = rustix::fs::statvfs(place).ok();
    Ok(Usable {
        is_new,
        inside,
        free: room.map(|room| room.f_bavail.saturating_mul(room.f_frsize)),
        is_in_memory: is_in_memory(place),
        sync: Some(sync),
    })
}

#[cfg(target_os = "linux")]
fn is_in_memory(place: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    #[allow(clippy::unnecessary_cast)] // its width depends on the machine
    rustix::fs::statfs(place).is_ok_and(|found| [TMPFS, RAMFS].contains(&(found.f_type as i64)))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}

/// Writes a little, again and again, and waits until it is on the disk.
fn time_to_sync(place: &Path) -> io::Result<Duration> {
    const TIMES: usize = 5;
    const BYTES: [u8; 512] = [0; 512];
    /// Gone when this ends.
    struct Trial(PathBuf);
    impl Drop for Trial {
        fn drop(&mut self) {
            let _gone = std::fs::remove_file(&self.0);
        }
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name = format!(".switchboard-doctor-{:016x}", u64::from_ne_bytes(random));
    let trial = Trial(place.join(name));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(&trial.0)?;
    let mut took = Vec::new();
    for _ in 0..TIMES {
        file.write_all(&BYTES)?;
        let begun = Instant::now();
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok(took[TIMES / 2])
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Two numbers with a tab between.
fn two_ports(text: &str) -> Option<Ports> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(Ports {
        first: numbers.next()?.ok()?,
        last: numbers.next()?.ok()?,
    })
}

/// `8000-8001,9100`
fn port_list(text: &str) -> Vec<Ports> {
    let one = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some(Ports {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
        })
    };
    text.trim().split(',').filter_map(one).collect()
}

/// systemd-timesyncd leaves a file when it has set the clock. Others leave nothing that can be read without asking them.
fn clock_synchronised() -> Option<bool> {
    let directory = Path::new("/run/systemd/timesync");
    match directory.join("synchronized").exists() {
        true => Some(true),
        false => directory.exists().then_some(false),
    }
}

fn memory_available() -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|text| memory_of_machine(&text));
    let group = read("/proc/self/cgroup").and_then(|text| {
        let path = group_of_process(&text)?.trim_end_matches('/').to_owned();
        let number = |file: &str| {
            let text = read(&format!("/sys/fs/cgroup{path}/{file}"))?;
            text.trim().parse::<u64>().ok()
        };
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    });
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// `MemAvailable:   23811264 kB`
fn memory_of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// `0::/system.slice/switchboard.service`: the line of the unified hierarchy.
fn group_of_process(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

fn try_to_listen(address: SocketAddr) -> Outcome {
    match TcpListener::bind(address) {
        Ok(_) => Outcome::Free,
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse => Outcome::Held(holder(address.port())),
            io::ErrorKind::AddrNotAvailable => Outcome::NoSuchAddress,
            io::ErrorKind::PermissionDenied => Outcome::NotPermitted,
            _ => Outcome::Failed(error.to_string()),
        },
    }
}

/// Who listens on `port`, if the kernel lets us see it.
fn holder(port: u16) -> Option<Holder> {
    let pid = switchboard_bench::listener::listener(port)?;
    let name = read(&format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim().to_owned();
    Some(Holder { pid, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes_is_read() {
        assert_eq!(
            two_ports("32768\t60999\n"),
            Some(Ports {
                first: 32_768,
                last: 60_999
            })
        );
        assert_eq!(two_ports(""), None);
        assert_eq!(
            port_list("8000-8001,9100\n"),
            [
                Ports {
                    first: 8000,
                    last: 8001
                },
                Ports {
                    first: 9100,
                    last: 9100
                }
            ]
        );
        assert_eq!(port_list("\n"), []);
        assert_eq!(
            memory_of_machine("MemTotal: 9 kB\nMemAvailable:   4 kB\n"),
            Some(4096)
        );
        assert_eq!(group_of_process("4:memory:/a\n0::/b/c\n"), Some("/b/c"));
    }

    #[test]
    fn a_data_directory_is_tried_and_left_as_it_was() {
        let parent = std::env::temp_dir().join(format!("switchboard-doctor-{}", std::process::id()));
        let path = parent.join("made/by/the/server");
        let new = try_to_keep(&path).outcome.unwrap();
        assert!(new.is_new && new.inside == Outside::default() && new.sync.is_some());
        assert!(!parent.exists(), "nothing was made");

        std::fs::create_dir_all(path.join("damaged")).unwrap();
        for (name, bytes) in [
            ("00000000000000000007.log", 70),
            ("damaged/00000000000000000003.log", 5),
        ] {
            std::fs::write(path.join(name), vec![0; bytes]).unwrap();
        }
        let found = try_to_keep(&path).outcome.unwrap();
        let inside = Outside {
            bytes: 70,
            damaged: 1,
            is_used: false,
        };
        assert_eq!((found.is_new, found.inside), (false, inside));
        let left = std::fs::read_dir(&path).unwrap().count();
        assert_eq!(left, 2, "nothing was left behind");

        let file = path.join("00000000000000000007.log");
        let file = try_to_keep(&file);
        assert!(file.is_file && file.outcome.is_err(), "a file is no directory");
        std::fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn an_address_that_is_taken_is_seen_and_so_is_who_took_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let Outcome::Held(holder) = try_to_listen(address) else {
            panic!("{address} is not held");
        };
        if let Some(holder) = holder {
            assert_eq!(holder.pid, std::process::id());
        }
        assert_eq!(try_to_listen("127.0.0.1:0".parse().unwrap()), Outcome::Free);
        assert_eq!(
            try_to_listen("192.0.2.1:0".parse().unwrap()),
            Outcome::NoSuchAddress
        );
    }
}
