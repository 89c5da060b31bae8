//! Channel logs, subscriptions and fan-out lists, without I/O.

pub mod audience;
pub mod broker;
pub mod home;
pub mod limits;
pub mod log;
pub mod logs;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod settings;
