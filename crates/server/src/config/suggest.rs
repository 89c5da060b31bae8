//! "Did you mean": the known name nearest to one that is not known.

/// How alike two names must be, from 0 to 1, for one to be offered for the other. Found by trying typing errors,
/// swapped words and unrelated words on the names of the table.
const LIKENESS_MIN: f64 = 0.6;

/// The candidate that is most like `name`, if one is like it at all.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut most = LIKENESS_MIN;
    for candidate in candidates {
        let likeness = likeness(name, candidate);
        if likeness >= most && (best.is_none() || likeness > most) {
            best = Some(candidate);
            most = likeness;
        }
    }
    best
}

/// How alike two names are when neither case, separators nor the order of words count: `maxConnections` and
/// `max-connections` both mean `connections_max`.
fn likeness(name: &str, candidate: &str) -> f64 {
    let (left, right) = (plain_words(name), plain_words(candidate));
    let (left_text, right_text) = (left.concat(), right.concat());
    let shorter = left_text.len().min(right_text.len());
    let begins_alike = left_text.starts_with(&right_text) || right_text.starts_with(&left_text);
    let beginning = if shorter >= 3 && begins_alike { 0.75 } else { 0.0 };
    let as_written = strsim::normalized_damerau_levenshtein(&left_text, &right_text).max(beginning);
    let sorted = |mut words: Vec<String>| {
        words.sort();
        words.concat()
    };
    let reordered = strsim::normalized_damerau_levenshtein(&sorted(left), &sorted(right));
    // The order as written breaks ties.
    as_written.max(reordered - 0.01)
}

fn plain_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    for c in name.chars().take(64) {
        let begins_word = c.is_uppercase() && !name.chars().all(|c| !c.is_lowercase());
        if begins_word || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: &[&str] = &[
        "ping_interval",
        "pong_timeout",
        "connections_max",
        "channels_max",
        "linger",
    ];

    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(nearest(name, KNOWN.iter().copied()), expected, "{name}");
    }

    #[test]
    fn what_was_meant() {
        check("ping_intervall", Some("ping_interval"));
        check("pinginterval", Some("ping_interval"));
        check("ping-interval", Some("ping_interval"));
        check("PING_INTERVAL", Some("ping_interval"));
        check("max_connections", Some("connections_max"));
        check("maxConnections", Some("connections_max"));
        check("max_channels", Some("channels_max"));
        check("lnger", Some("linger"));
        check("pong", Some("pong_timeout"));
    }

    #[test]
    fn no_suggestion_for_what_is_like_nothing() {
        check("colour", None);
        check("", None);
        check("x", None);
    }
}
