//! `switchboard_hub`: logs, homes and audiences of several shards.

/// Operations on the whole hub against a plain model; what is promised stands in [`switchboard_hub::model`].
pub fn hub(data: &[u8]) {
    switchboard_hub::model::run(data);
}
