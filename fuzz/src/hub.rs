//! `switchboard_hub`: logs, homes and audiences of several shards; presence.

/// Operations on the whole hub against a plain model; what is promised stands in [`switchboard_hub::model`].
pub fn hub(data: &[u8]) {
    switchboard_hub::model::run(data);
}

/// Operations on presence against a plain account of who is there; what is promised stands in
/// [`switchboard_hub::model::run_presence`].
pub fn presence(data: &[u8]) {
    switchboard_hub::model::run_presence(data);
}
