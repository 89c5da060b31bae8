//! The Switchboard server.
