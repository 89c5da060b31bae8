//! Who listens on a port of this machine.

use std::fs;

/// The process that listens on `port`, if the kernel lets us see it: another user's processes it does not.
pub fn listener(port: u16) -> Option<u32> {
    listeners(port).first().copied()
}

/// All of them, by their numbers: a listener may be held by several processes, and a port have several listeners.
pub fn listeners(port: u16) -> Vec<u32> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // Without IPv6 there is no second one.
        let table = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(listening_inodes(&table, port));
    }
    let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let holders = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let holds = files.any(|file| {
            let target = fs::read_link(file.path()).unwrap_or_default();
            links.iter().any(|link| target.as_os_str() == link.as_str())
        });
        holds.then_some(pid)
    });
    let mut holders: Vec<u32> = holders.collect();
    holders.sort_unstable();
    holders
}

/// The inodes of the sockets that listen on `port`, from a table as `/proc/net/tcp` is: local address in the second
/// column, state in the fourth (0A listens), inode in the tenth.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, hex) = columns.get(1)?.rsplit_once(':')?;
        let listens = columns.get(3) == Some(&"0A") && u16::from_str_radix(hex, 16).ok()? == port;
        listens.then(|| columns.get(9)?.parse().ok()).flatten()
    };
    table.lines().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_listen_on_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 34865 1 0 100 0\n\
            1: 0100007F:1F40 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 34866 1 0 100 0\n\
            2: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 34867 1 0 100 0\n";
        assert_eq!(listening_inodes(table, 8000), [34_865]);
        assert!(listening_inodes("nonsense", 8000).is_empty());
    }
}
