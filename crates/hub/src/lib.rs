//! Channel logs, subscriptions and fan-out lists, without I/O.
