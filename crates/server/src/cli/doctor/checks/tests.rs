use super::*;
use crate::broker::disk::store::Outside;
use crate::open_files::OpenFiles;

/// A machine with which nothing is wrong.
fn machine() -> Facts {
    let listener = |setting, flag, address: &str| Listener {
        setting,
        flag,
        address: address.parse().unwrap(),
        outcome: Outcome::Free,
    };
    Facts {
        open_files: Some(OpenFiles {
            soft: 1_024,
            hard: 20_000,
        }),
        somaxconn: Some(4_096),
        tcp_max_syn_backlog: Some(2_048),
        local_ports: Some(Ports {
            first: 32_768,
            last: 60_999,
        }),
        reserved_ports: Vec::new(),
        unix_seconds: Some(1_795_000_000),
        clock_synchronised: Some(true),
        memory_available: Some(8 << 30),
        cores: Some(4),
        listeners: vec![
            listener("listen.public", "--listen", "127.0.0.1:8000"),
            listener("listen.internal", "--internal-listen", "127.0.0.1:8001"),
        ],
        data: Some(DataDirectory {
            path: "/var/lib/switchboard".into(),
            is_file: false,
            outcome: Ok(Usable {
                is_new: false,
                inside: Outside {
                    bytes: 30_000_000,
                    ..Outside::default()
                },
                free: Some(50 << 30),
                is_in_memory: false,
                sync: Some(Duration::from_micros(1_300)),
            }),
        }),
    }
}

fn of(name: &str, facts: &Facts, config: &Config) -> Finding {
    let findings = check(facts, config);
    let found = findings.into_iter().find(|finding| finding.check == name);
    found.unwrap_or_else(|| panic!("no check {name}"))
}

/// The check `name` of a machine that differs from a good one as `change` says.
fn with(name: &str, change: impl FnOnce(&mut Facts, &mut Config)) -> Finding {
    let (mut facts, mut config) = (machine(), Config::default());
    change(&mut facts, &mut config);
    of(name, &facts, &config)
}

#[test]
fn nothing_is_wrong_with_a_good_machine() {
    for finding in check(&machine(), &Config::default()) {
        assert_eq!(finding.status, Status::Ok, "{finding:?}");
        assert_eq!(finding.change, Vec::<String>::new(), "{finding:?}");
    }
}

#[test]
fn what_a_system_does_not_say_is_unknown_and_no_finding() {
    let facts = Facts {
        unix_seconds: Some(1_795_000_000),
        ..Facts::default()
    };
    let findings = check(&facts, &Config::default());
    assert_eq!(findings.len(), 7);
    for finding in findings {
        assert_eq!(finding.status, Status::Unknown, "{finding:?}");
        assert!(!finding.status.is_a_finding() && !finding.change.is_empty());
    }
}

#[test]
fn open_files_against_connections() {
    let auto = with("open_files", |_, _| {});
    assert_eq!(
        auto.found,
        "soft limit 1,024, hard limit 20,000: room for 18,000 connections"
    );
    let low = with("open_files", |facts, _| {
        facts.open_files = Some(OpenFiles {
            soft: 1_024,
            hard: 1_024,
        });
    });
    assert_eq!(low.status, Status::Warn);
    assert_eq!(low.found, "limit 1,024: room for 918 connections");
    let fixed = |connections| {
        with("open_files", |_, config| {
            config.limits.connections_max = Auto::Fixed(connections);
        })
    };
    assert_eq!(fixed(18_000 - 1).status, Status::Ok);
    let bad = fixed(100_000);
    assert_eq!(bad.status, Status::Bad);
    assert_eq!(
        bad.change[0],
        "LimitNOFILE=131072   # in [Service] of a systemd unit"
    );
    assert_eq!(fixed(UNLIMITED).status, Status::Ok);
}

#[test]
fn memory_against_connections() {
    let with_memory = |bytes| with("memory", |facts, _| facts.memory_available = Some(bytes));
    assert_eq!(
        with_memory(8 << 30).found,
        "8,192 MiB available; 18,000 connections take 79 MiB idle, 281 MiB in use"
    );
    assert_eq!(with_memory(200 << 20).status, Status::Warn);
    let bad = with_memory(50 << 20);
    assert_eq!(bad.status, Status::Bad);
    assert_eq!(bad.change, ["SWITCHBOARD_LIMITS__CONNECTIONS_MAX=3200"]);
}

#[test]
fn a_listener_that_is_taken() {
    let held = |outcome| with("listen.public", |facts, _| facts.listeners[0].outcome = outcome);
    let holder = |name: &str| {
        Some(Holder {
            pid: 77,
            name: name.to_owned(),
        })
    };
    let other = held(Outcome::Held(holder("node")));
    assert_eq!(other.status, Status::Bad);
    assert_eq!(other.found, "127.0.0.1:8000 is held by node (process 77)");
    assert_eq!(other.change, ["--listen 127.0.0.1:8100", "kill -TERM 77"]);
    assert_eq!(held(Outcome::Held(holder("switchboard"))).status, Status::Warn);
    let unseen = held(Outcome::Held(None));
    assert_eq!(unseen.change[1], "sudo ss -ltnp 'sport = :8000'");
    assert_eq!(held(Outcome::NoSuchAddress).status, Status::Bad);
    assert_eq!(held(Outcome::NotPermitted).status, Status::Bad);
    assert_eq!(
        held(Outcome::Failed("odd".to_owned())).found,
        "127.0.0.1:8000: odd"
    );
}

#[test]
fn more_shards_than_cores() {
    let shards = with("shards", |_, config| config.server.shards = Auto::Fixed(9));
    assert_eq!(
        (shards.status, shards.found.as_str()),
        (Status::Warn, "9 shards on 4 cores")
    );
}

#[test]
fn short_queues_of_the_kernel() {
    let somaxconn = with("somaxconn", |facts, _| facts.somaxconn = Some(128));
    assert_eq!(somaxconn.status, Status::Warn);
    assert_eq!(
        somaxconn.change,
        [
            "sudo sysctl -w net.core.somaxconn=4096",
            "echo 'net.core.somaxconn = 4096' | sudo tee -a /etc/sysctl.d/60-switchboard.conf"
        ]
    );
    let syn = with("syn_backlog", |facts, _| facts.tcp_max_syn_backlog = Some(512));
    assert_eq!(syn.status, Status::Warn);
}

#[test]
fn ports_of_outgoing_connections() {
    let range = |first, last| {
        with("port_range", |facts, _| {
            facts.local_ports = Some(Ports { first, last })
        })
    };
    let narrow = range(50_000, 50_999);
    assert_eq!(narrow.status, Status::Warn);
    assert_eq!(
        narrow.change[0],
        "sudo sysctl -w 'net.ipv4.ip_local_port_range=16384 65535'"
    );
    let wide = range(1_024, 65_535);
    assert_eq!(wide.found, "1024 to 65535, 64,512 ports; 8000 and 8001 inside");
    assert_eq!(
        wide.change[0],
        "sudo sysctl -w net.ipv4.ip_local_reserved_ports=8000,8001"
    );
    let reserved = with("port_range", |facts, _| {
        facts.local_ports = Some(Ports {
            first: 1_024,
            last: 65_535,
        });
        facts.reserved_ports = vec![Ports {
            first: 8_000,
            last: 8_001,
        }];
    });
    assert_eq!(reserved.status, Status::Ok);
    // A range that makes no sense is narrow, not a panic.
    assert_eq!(range(9, 3).status, Status::Warn);
}

#[test]
fn a_clock_that_nobody_set() {
    let clock = |seconds, synchronised| {
        with("clock", |facts, _| {
            facts.unix_seconds = seconds;
            facts.clock_synchronised = synchronised;
        })
    };
    assert_eq!(clock(None, None).status, Status::Bad);
    let never_set = clock(Some(86_400), Some(true));
    assert_eq!(
        (never_set.status, never_set.found.as_str()),
        (Status::Bad, "the clock says that the year is 1970")
    );
    assert_eq!(clock(Some(u64::MAX), None).status, Status::Bad);
    assert_eq!(clock(Some(1_795_000_000), Some(false)).status, Status::Warn);
    assert_eq!(clock(Some(1_795_000_000), None).status, Status::Unknown);
}

/// A data directory that differs from a good one as `change` says.
fn with_data(name: &str, change: impl FnOnce(&mut Usable, &mut Config)) -> Finding {
    with(name, |facts, config| {
        let Some(DataDirectory {
            outcome: Ok(usable), ..
        }) = &mut facts.data
        else {
            panic!("it is good");
        };
        change(usable, config);
    })
}

#[test]
fn a_data_directory() {
    let good = with_data("data.dir", |_, _| {});
    assert_eq!(good.found, "/var/lib/switchboard has 29 MiB of logs");
    let new = with_data("data.dir", |usable, _| usable.is_new = true);
    assert_eq!(
        (new.status, new.found.as_str()),
        (Status::Ok, "/var/lib/switchboard can be made")
    );
    let used = with_data("data.dir", |usable, _| usable.inside.is_used = true);
    assert_eq!(used.status, Status::Warn);
    let damaged = with_data("data.dir", |usable, _| usable.inside.damaged = 2);
    assert_eq!(damaged.status, Status::Warn);
    assert!(damaged.found.contains("2 files put aside"), "{}", damaged.found);
    let refused = with("data.dir", |facts, _| {
        facts.data = Some(DataDirectory {
            path: "/root/data".into(),
            is_file: true,
            outcome: Err("/root: Permission denied".to_owned()),
        });
    });
    assert_eq!(refused.status, Status::Bad);
    assert_eq!(refused.found, "/root: Permission denied");
    assert_eq!(refused.change.len(), 1, "a file cannot be made a directory");
    let none = with("clock", |facts, _| facts.data = None);
    assert_eq!(none.status, Status::Ok);
}

#[test]
fn the_disk_of_a_data_directory() {
    let disk = |change: fn(&mut Usable, &mut Config)| with_data("data.disk", change);
    assert_eq!(disk(|_, _| {}).found, "51,200 MiB free, a sync takes 1.3 ms");
    assert_eq!(disk(|usable, _| usable.free = Some(1 << 29)).status, Status::Warn);
    assert_eq!(disk(|usable, _| usable.free = Some(1 << 20)).status, Status::Bad);
    let both = disk(|usable, _| {
        usable.free = Some(0);
        usable.is_in_memory = true;
    });
    assert_eq!((both.status, both.change.len()), (Status::Bad, 2));
    let slow = |usable: &mut Usable| usable.sync = Some(Duration::from_millis(50));
    assert_eq!(
        with_data("data.disk", |usable, _| slow(usable)).status,
        Status::Ok
    );
    let waits = with_data("data.disk", |usable, config| {
        slow(usable);
        config.data.fsync = Fsync::Always;
    });
    assert_eq!(waits.status, Status::Warn);
    assert_eq!(waits.change, ["SWITCHBOARD_DATA__FSYNC=interval"]);
}
