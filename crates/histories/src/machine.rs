//! What this machine lets the harness do. A kind of fault that cannot be had here is left out, and the report says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::fault::Kind;

/// What can be had here.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub struct Machine {
    /// Network, mount and process namespaces: a history has its own.
    pub namespaces: bool,
    /// nftables in a network namespace.
    pub packets: bool,
    /// A small file system in a mount namespace.
    pub disks: bool,
    /// Time namespaces.
    pub monotonic_clocks: bool,
    /// libfaketime.
    pub wall_clocks: Option<PathBuf>,
    /// The built package of the JavaScript client, and Node.
    pub sdk: Option<PathBuf>,
}

/// Where distributions put the library.
const FAKETIME: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// A command that runs another one in namespaces of its own. All of its processes end with it.
pub const UNSHARE: [&str; 7] = [
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// What a network namespace needs first.
pub const LOOPBACK_UP: &str = "ip link set lo up";

impl Machine {
    /// Tries it.
    pub fn probe(sdk: &Path) -> Machine {
        // A network namespace is of use with a loopback interface only.
        let namespaces = works(LOOPBACK_UP);
        Machine {
            namespaces,
            packets: namespaces && works("nft add table inet probe"),
            disks: namespaces && works("mount -t tmpfs -o size=1m none /mnt"),
            monotonic_clocks: has_time_namespaces(),
            wall_clocks: FAKETIME.iter().map(PathBuf::from).find(|path| path.exists()),
            sdk: has_sdk(sdk).then(|| sdk.to_owned()),
        }
    }

    /// Whether a kind can be had.
    pub fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Loss => self.packets,
            Kind::DiskFull => self.disks,
            Kind::MonotonicClock => self.monotonic_clocks,
            Kind::WallClock => self.wall_clocks.is_some(),
            Kind::StopClients => self.sdk.is_some(),
            _ => true,
        }
    }
}

fn works(script: &str) -> bool {
    let mut command = Command::new(UNSHARE[0]);
    command.args(&UNSHARE[1..]).args(["sh", "-c", script]);
    succeeds(&mut command)
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn has_time_namespaces() -> bool {
    const AHEAD_S: f64 = 1e6;
    let uptime = |text: &str| text.split(' ').next()?.parse::<f64>().ok();
    let ahead = Command::new("unshare")
        .args(["--time", "--monotonic", "1000000", "--boottime", "1000000"])
        .args(["cat", "/proc/uptime"])
        .stderr(Stdio::null())
        .output();
    let ahead = ahead
        .ok()
        .and_then(|ran| uptime(&String::from_utf8_lossy(&ran.stdout)));
    let here = std::fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|text| uptime(&text));
    ahead
        .zip(here)
        .is_some_and(|(ahead, here)| (ahead - here - AHEAD_S).abs() < 1_000.0)
}

fn has_sdk(sdk: &Path) -> bool {
    sdk.join("dist/index.js").exists()
        && sdk.join("node_modules/ws").exists()
        && succeeds(Command::new("node").arg("--version"))
}
