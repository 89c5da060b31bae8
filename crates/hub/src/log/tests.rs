use std::time::Duration;

use proptest::prelude::*;

use super::*;

const EPOCH: Epoch = Epoch(7);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn keeping(messages_max: usize) -> LogSettings {
    LogSettings {
        messages_max,
        ..LogSettings::default()
    }
}

fn draft(text: &str) -> Draft {
    Draft {
        from: None,
        payload: Payload::text(text),
        key: None,
        conflate: None,
    }
}

fn keyed(text: &str, key: &str) -> Draft {
    Draft {
        key: Some(Key::parse(key).unwrap()),
        ..draft(text)
    }
}

/// A log of `messages_max` after the messages "1" to "`count`", and the position of each; index 0 is the start.
fn filled(count: u64, settings: &LogSettings) -> (Log, Vec<Position>) {
    let mut log = Log::new(EPOCH);
    let mut positions = vec![log.head()];
    for number in 1..=count {
        let appended = log.append(at(0), 1_000, draft(&number.to_string()), settings);
        positions.push(appended.position);
    }
    (log, positions)
}

const ALL: ReadLimit = ReadLimit {
    messages: usize::MAX,
    bytes: usize::MAX,
};

fn limit(messages: usize, bytes: usize) -> ReadLimit {
    ReadLimit { messages, bytes }
}

/// One page as text: `continues 0 | 1 2 | 2 more`.
fn transcript(page: &Page) -> String {
    let start = match page.start {
        PageStart::Continues => "continues".to_owned(),
        PageStart::Gap { from, to } => format!("gap {from}-{to}"),
        PageStart::Reset => "reset".to_owned(),
    };
    let texts: Vec<_> = page
        .entries
        .iter()
        .map(|entry| entry.payload.as_str().unwrap())
        .collect();
    let more = if page.more { " more" } else { "" };
    format!(
        "{start} {} | {} | {}{more}",
        page.begin.offset,
        texts.join(" "),
        page.position.offset
    )
}

/// What follows `since`, or the newest.
fn after(since: Option<Position>) -> Range {
    since.map_or(Range::Newest, Range::After)
}

fn check(log: &mut Log, since: Option<Position>, limit: ReadLimit, settings: &LogSettings, expected: &str) {
    let page = log.read(at(0), after(since), limit, settings);
    assert_eq!(transcript(&page), expected, "since {since:?}");
}

#[test]
fn appended_messages_are_read_in_order() {
    let settings = keeping(10);
    let (mut log, positions) = filled(3, &settings);
    check(&mut log, None, ALL, &settings, "continues 0 | 1 2 3 | 3");
    check(
        &mut log,
        Some(positions[0]),
        ALL,
        &settings,
        "continues 0 | 1 2 3 | 3",
    );
    check(
        &mut log,
        Some(positions[1]),
        ALL,
        &settings,
        "continues 1 | 2 3 | 3",
    );
    check(&mut log, Some(positions[3]), ALL, &settings, "continues 3 |  | 3");
}

#[test]
fn an_entry_names_the_one_before_it_its_time_and_its_publisher() {
    let mut log = Log::new(EPOCH);
    let by_ana = Draft {
        from: Some(User::new("ana")),
        ..draft("a")
    };
    let first = log.append(at(0), 5, draft("a"), &keeping(10)).entry.unwrap();
    let second = log.append(at(0), 6, by_ana, &keeping(10)).entry.unwrap();
    assert_eq!(
        (first.position.offset, first.previous, first.at_ms, &first.from),
        (1, 0, 5, &None)
    );
    assert_eq!((second.position.offset, second.previous, second.at_ms), (2, 1, 6));
    assert_eq!(second.from, Some(User::new("ana")));
    assert_eq!(log.head(), second.position);
}

/// Other nodes and other brokers compute the same number for the same message, now and in later versions.
#[test]
fn a_tag_depends_on_kind_user_time_and_payload_alone() {
    let from = |name: &str, payload: Payload, key: Option<&str>| Draft {
        from: Some(User::new(name)),
        payload,
        key: key.map(|key| Key::parse(key).unwrap()),
        conflate: None,
    };
    // printf '\x01\xff\xff\xff\xff\0\0\0\0\0\0\x03\xe8hi' | gzip -c | tail -c8 | head -c4 | xxd -e
    assert_eq!(tag(&draft("hi"), 1_000), 0x6c624892);
    let tags = [
        tag(&draft("hi"), 1_000),
        tag(&draft("hi"), 1_001),
        tag(&from("", Payload::text("hi"), None), 1_000),
        tag(&from("ana", Payload::text("hi"), None), 1_000),
        tag(&from("ana", Payload::bytes("hi".as_bytes()), None), 1_000),
        tag(&from("ana", Payload::json("17").unwrap(), None), 1_000),
        tag(&from("ana", Payload::text("17"), None), 1_000),
    ];
    for (index, one) in tags.iter().enumerate() {
        assert!(!tags[index + 1..].contains(one), "{tags:x?}");
    }
    assert_eq!(
        tag(&from("ana", Payload::text("hi"), Some("key")), 1_000),
        tags[3]
    );
}

#[test]
fn a_reader_before_the_trim_edge_is_told_exactly_what_is_gone() {
    let settings = keeping(3);
    let (mut log, positions) = filled(7, &settings);
    // 5, 6, 7 are kept. Who has read 4 misses nothing; who has read 3 misses 4 alone.
    for (read, expected) in [
        (0, "gap 1-4 4 | 5 6 7 | 7"),
        (1, "gap 2-4 4 | 5 6 7 | 7"),
        (3, "gap 4-4 4 | 5 6 7 | 7"),
        (4, "continues 4 | 5 6 7 | 7"),
        (5, "continues 5 | 6 7 | 7"),
        (7, "continues 7 |  | 7"),
    ] {
        check(&mut log, Some(positions[read]), ALL, &settings, expected);
    }
    check(&mut log, None, ALL, &settings, "continues 4 | 5 6 7 | 7");
}

#[test]
fn a_position_of_another_message_is_a_reset() {
    let settings = keeping(3);
    let (mut log, positions) = filled(7, &settings);
    let other_tag = |position: Position| Position {
        tag: position.tag ^ 1,
        ..position
    };
    let beyond = |offset| Position {
        offset,
        ..positions[7]
    };
    let other_epoch = Position {
        epoch: Epoch(8),
        ..positions[6]
    };
    for since in [
        other_tag(positions[4]),
        other_tag(positions[5]),
        other_tag(positions[7]),
        other_tag(positions[0]),
        beyond(8),
        beyond(u64::MAX),
        other_epoch,
        Position::start(Epoch(8)),
    ] {
        check(&mut log, Some(since), ALL, &settings, "reset 4 | 5 6 7 | 7");
    }
    // Nobody can check the tag of what is long gone; the gap says that it is gone.
    let long_gone = Some(other_tag(positions[2]));
    check(&mut log, long_gone, ALL, &settings, "gap 3-4 4 | 5 6 7 | 7");
}

#[test]
fn an_ephemeral_log_advances_and_keeps_nothing() {
    let settings = LogSettings::EPHEMERAL;
    let (mut log, positions) = filled(3, &settings);
    assert_eq!((log.len(), log.bytes()), (0, 0));
    assert_eq!(log.head(), positions[3]);
    check(&mut log, Some(positions[3]), ALL, &settings, "continues 3 |  | 3");
    check(&mut log, Some(positions[1]), ALL, &settings, "gap 2-3 3 |  | 3");
    check(&mut log, None, ALL, &settings, "continues 3 |  | 3");
}

#[test]
fn a_limit_makes_pages_that_follow_each_other() {
    let settings = keeping(10);
    let (mut log, positions) = filled(5, &settings);
    let first = log.read(at(0), Range::After(positions[0]), limit(2, 100), &settings);
    assert_eq!(transcript(&first), "continues 0 | 1 2 | 2 more");
    assert_eq!(first.head, positions[5]);
    let second = log.read(at(0), Range::After(first.position), limit(3, 100), &settings);
    assert_eq!(transcript(&second), "continues 2 | 3 4 5 | 5");
    check(&mut log, None, limit(2, 100), &settings, "continues 3 | 4 5 | 5");
    check(
        &mut log,
        Some(positions[1]),
        limit(0, 100),
        &settings,
        "continues 1 |  | 1 more",
    );
    check(&mut log, None, limit(0, 100), &settings, "continues 5 |  | 5");
}

#[test]
fn pages_go_backwards_too() {
    let settings = keeping(5);
    let (mut log, positions) = filled(7, &settings);
    let mut check = |before: Position, limit, expected: &str| {
        let page = log.read(at(0), Range::Before(before), limit, &settings);
        assert_eq!(transcript(&page), expected, "before {before:?}");
        page
    };
    let page = check(positions[7], limit(2, 100), "continues 4 | 5 6 | 6 more");
    let page = check(page.entries[0].position, limit(2, 100), "continues 2 | 3 4 | 4");
    check(page.entries[0].position, limit(2, 100), "continues 2 |  | 2");
    check(positions[7], limit(9, 3), "continues 3 | 4 5 6 | 6 more");
    check(positions[2], ALL, "continues 2 |  | 2");
    check(positions[1], ALL, "continues 2 |  | 2");
    let foreign = Position {
        epoch: Epoch(8),
        ..positions[4]
    };
    check(foreign, limit(2, 100), "reset 5 | 6 7 | 7 more");
}

#[test]
fn the_latest_are_the_newest_of_each_key_and_name_what_they_leave_out() {
    let settings = keeping(10);
    let mut log = Log::new(EPOCH);
    let mut positions = vec![log.head()];
    for (text, key) in [
        ("a1", "a"),
        ("b2", "b"),
        ("a3", "a"),
        ("-4", ""),
        ("b5", "b"),
        ("-6", ""),
        ("a7", "a"),
    ] {
        let draft = Draft {
            conflate: Key::parse(key),
            ..draft(text)
        };
        positions.push(log.append(at(0), 0, draft, &settings).position);
    }
    let mut check = |after: Option<Position>, limit, expected: &str, left_out: &[(usize, u64)]| {
        let page = log.read(at(0), Range::Latest { after }, limit, &settings);
        assert_eq!(transcript(&page), expected, "after {after:?}");
        let said: Vec<_> = page
            .conflated
            .iter()
            .map(|gap| (gap.before, gap.position.offset))
            .collect();
        assert_eq!(said, left_out);
        for gap in &page.conflated {
            assert_eq!(gap.position, positions[gap.position.offset as usize]);
        }
        let mut place = page.begin.offset;
        for run in page.runs(0..page.entries.len()) {
            if let Some((from, to)) = run.left_out {
                assert_eq!(from, place + 1);
                place = to.offset;
            }
            for entry in run.entries {
                assert_eq!(entry.previous, place);
                place = entry.position.offset;
            }
        }
        assert_eq!(place, page.position.offset);
    };
    check(None, ALL, "continues 0 | b5 -6 a7 | 7", &[(0, 4)]);
    check(None, limit(1, 100), "continues 0 | b5 | 5 more", &[(0, 4)]);
    check(Some(positions[5]), ALL, "continues 5 | -6 a7 | 7", &[]);
    check(
        Some(positions[2]),
        limit(2, 100),
        "continues 2 | b5 -6 | 6 more",
        &[(0, 4)],
    );
    check(Some(positions[7]), ALL, "continues 7 |  | 7", &[]);
    let settings = keeping(2);
    let page = log.read(
        at(0),
        Range::Latest {
            after: Some(positions[1]),
        },
        ALL,
        &settings,
    );
    assert_eq!(transcript(&page), "gap 2-5 5 | -6 a7 | 7");
}

#[test]
fn every_page_makes_progress_however_small_its_bytes() {
    let settings = keeping(10);
    let mut log = Log::new(EPOCH);
    for text in ["", "aaaa", "", "bb"] {
        log.append(at(0), 0, draft(text), &settings);
    }
    let mut page = log.read(
        at(0),
        Range::After(Position::start(EPOCH)),
        limit(9, 3),
        &settings,
    );
    assert_eq!(transcript(&page), "continues 0 |  | 1 more");
    page = log.read(at(0), Range::After(page.position), limit(9, 3), &settings);
    assert_eq!(transcript(&page), "continues 1 | aaaa | 2 more");
    page = log.read(at(0), Range::After(page.position), limit(9, 3), &settings);
    assert_eq!(transcript(&page), "continues 2 |  bb | 4");
    check(&mut log, None, limit(9, 1), &settings, "continues 3 | bb | 4");
    check(&mut log, None, limit(9, 2), &settings, "continues 2 |  bb | 4");
}

#[test]
fn bytes_bound_the_log() {
    let settings = LogSettings {
        bytes_max: 2 * (ENTRY_BYTES + 1),
        ..LogSettings::default()
    };
    let (mut log, positions) = filled(3, &settings);
    assert_eq!(log.bytes(), 2 * (ENTRY_BYTES + 1));
    check(
        &mut log,
        Some(positions[0]),
        ALL,
        &settings,
        "gap 1-1 1 | 2 3 | 3",
    );
    log.append(at(0), 0, draft(&"x".repeat(1_000)), &settings);
    assert_eq!((log.len(), log.bytes()), (0, 0));
    check(&mut log, Some(positions[3]), ALL, &settings, "gap 4-4 4 |  | 4");
}

#[test]
fn age_bounds_the_log_also_when_it_is_only_read() {
    let settings = LogSettings {
        age_max: Duration::from_secs(10),
        ..LogSettings::default()
    };
    let mut log = Log::new(EPOCH);
    log.append(at(0), 0, draft("old"), &settings);
    log.append(at(5), 0, draft("new"), &settings);
    let mut check = |seconds, expected| {
        let page = log.read(at(seconds), Range::After(Position::start(EPOCH)), ALL, &settings);
        assert_eq!(transcript(&page), expected);
    };
    check(9, "continues 0 | old new | 2");
    check(10, "gap 1-1 1 | new | 2");
    check(14, "gap 1-1 1 | new | 2");
    check(15, "gap 1-2 2 |  | 2");
}

#[test]
fn a_key_is_appended_once_within_its_window() {
    let settings = keeping(10);
    let mut log = Log::new(EPOCH);
    let first = log.append(at(0), 1, keyed("a", "k"), &settings);
    log.append(at(1), 2, keyed("b", "other"), &settings);
    let again = log.append(at(299), 3, keyed("a", "k"), &settings);
    assert_eq!((again.position, again.entry), (first.position, None));
    assert_eq!(log.len(), 2);
    // The window is of the first use, and the message need not be kept any longer.
    let settings = LogSettings::EPHEMERAL;
    let later = log.append(at(300), 4, keyed("a", "k"), &settings);
    assert_eq!(later.position.offset, 3);
    let again = log.append(at(301), 4, keyed("a", "k"), &settings);
    assert_eq!((again.position, again.entry), (later.position, None));
    log.trim(at(600), &settings);
    assert_eq!(log.keys(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "as many keys as a log may have take ten minutes")]
fn the_oldest_key_is_forgotten_first() {
    let settings = LogSettings::EPHEMERAL;
    let mut log = Log::new(EPOCH);
    for number in 0..=KEYS_MAX {
        log.append(at(0), 0, keyed("", &number.to_string()), &settings);
        assert!(log.keys() <= KEYS_MAX);
    }
    assert_eq!(log.append(at(0), 0, keyed("", "1"), &settings).entry, None);
    assert!(log.append(at(0), 0, keyed("", "0"), &settings).entry.is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        length: usize,
        key: Option<u8>,
        conflate: Option<u8>,
    },
    Wait {
        seconds: u64,
    },
    Read {
        which: Which,
        since: Since,
        limit: ReadLimit,
    },
}

#[derive(Clone, Copy, Debug)]
enum Which {
    After,
    Before,
    Latest,
}

#[derive(Clone, Debug)]
enum Since {
    Nothing,
    Offset(u64),
    WrongTag(u64),
    OtherEpoch(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let since = prop_oneof![
        Just(Since::Nothing),
        (0u64..40).prop_map(Since::Offset),
        (0u64..40).prop_map(Since::WrongTag),
        (0u64..40).prop_map(Since::OtherEpoch),
    ];
    let which = prop_oneof![3 => Just(Which::After), 1 => Just(Which::Before), 1 => Just(Which::Latest)];
    prop_oneof![
        4 => (0usize..40, prop::option::weighted(0.3, 0u8..6), prop::option::of(0u8..3))
            .prop_map(|(length, key, conflate)| Step::Append { length, key, conflate }),
        1 => (0u64..200).prop_map(|seconds| Step::Wait { seconds }),
        4 => (which, since, 0usize..6, 0usize..60)
            .prop_map(|(which, since, messages, bytes)| Step::Read { which, since, limit: limit(messages, bytes) }),
    ]
}

/// Everything that was ever appended, and when.
#[derive(Default)]
struct Model {
    all: Vec<(Time, Arc<Entry>)>,
    keys: Vec<(Time, u8, Position)>,
}

impl Model {
    /// The offset of the last entry that is gone: the smallest that leaves the rest within the bounds.
    fn gone(&self, now: Time, gone_before: u64, settings: &LogSettings) -> u64 {
        (gone_before..=self.all.len() as u64)
            .find(|gone| {
                let rest = &self.all[*gone as usize..];
                let bytes: usize = rest.iter().map(|(_, entry)| entry_bytes(entry)).sum();
                rest.len() <= settings.messages_max
                    && bytes <= settings.bytes_max
                    && rest
                        .iter()
                        .all(|(appended, _)| now.since(*appended) < settings.age_max)
            })
            .unwrap()
    }

    fn position(&self, offset: u64) -> Position {
        match offset.checked_sub(1) {
            None => Position::start(EPOCH),
            Some(index) => self.all[index as usize].1.position,
        }
    }
}

fn check_read(model: &Model, gone: u64, since: Option<Position>, limit: ReadLimit, page: &Page) {
    let head = model.all.len() as u64;
    let is_real = |since: &Position| since.offset <= head && model.position(since.offset) == *since;
    match since {
        None => assert_eq!((page.start, page.more), (PageStart::Continues, false)),
        Some(since) if since.epoch == EPOCH && since.offset < gone && since.offset > 0 => {
            let (from, to) = (since.offset + 1, gone);
            assert_eq!(page.start, PageStart::Gap { from, to });
        }
        Some(since) if !is_real(&since) => assert_eq!(page.start, PageStart::Reset),
        Some(since) if since.offset < gone => {
            assert_eq!(page.start, PageStart::Gap { from: 1, to: gone });
        }
        Some(since) => assert_eq!((page.start, page.begin), (PageStart::Continues, since)),
    }
    if page.start != PageStart::Continues {
        assert_eq!(page.begin, model.position(gone), "what is kept comes whole");
    }
    // The page is a run of the log from `begin` to `position`, and ends for a reason.
    let (begin, end) = (page.begin.offset, page.position.offset);
    assert!(gone <= begin && begin <= end && end <= head);
    let expected = &model.all[begin as usize..end as usize];
    assert!(page.entries.iter().eq(expected.iter().map(|(_, entry)| entry)));
    assert_eq!(page.position, model.position(end));
    assert_eq!(page.head, model.position(head));
    assert_eq!(page.more, end < head);
    let bytes: usize = page.entries.iter().map(|entry| entry.payload.len()).sum();
    assert!(page.entries.len() <= limit.messages && (bytes <= limit.bytes || page.entries.len() == 1));
    let next = if since.is_none() {
        begin.checked_sub(1).filter(|index| *index >= gone)
    } else {
        Some(end).filter(|end| *end < head)
    };
    if let Some(next) = next {
        let next_length = model.all[next as usize].1.payload.len();
        assert!(page.entries.len() == limit.messages || bytes + next_length > limit.bytes);
    }
}

/// Backwards: the newest that stand before the given place, as many as the limit allows.
fn check_before(model: &Model, gone: u64, before: Position, limit: ReadLimit, page: &Page) {
    let head = model.all.len() as u64;
    let (begin, end) = (page.begin.offset, page.position.offset);
    assert!(gone <= begin && begin <= end && end <= head);
    let expected = &model.all[begin as usize..end as usize];
    assert!(page.entries.iter().eq(expected.iter().map(|(_, entry)| entry)));
    assert_eq!(page.more, begin > gone);
    match page.start {
        PageStart::Reset => assert_eq!(end, head),
        _ => assert_eq!(end, before.offset.saturating_sub(1).max(gone)),
    }
    let bytes: usize = page.entries.iter().map(|entry| entry.payload.len()).sum();
    if page.more {
        let next_length = model.all[begin as usize - 1].1.payload.len();
        assert!(page.entries.len() == limit.messages || bytes + next_length > limit.bytes);
    }
}

/// Every entry is the newest of its key, whatever is left out before one is named, and the last page ends at the head.
fn check_latest(model: &Model, gone: u64, limit: ReadLimit, page: &Page) {
    let head = model.all.len() as u64;
    let newest = |entry: &Arc<Entry>| {
        let later = &model.all[entry.position.offset as usize..];
        later.iter().all(|(_, other)| other.conflate != entry.conflate)
    };
    let mut place = page.begin;
    assert!(place.offset >= gone);
    for (index, entry) in page.entries.iter().enumerate() {
        if let Some(gap) = page.conflated.iter().find(|gap| gap.before == index) {
            assert!(gap.position.offset > place.offset);
            assert!(
                model.all[place.offset as usize..gap.position.offset as usize]
                    .iter()
                    .all(|(_, entry)| !newest(entry))
            );
            assert_eq!(gap.position, model.position(gap.position.offset));
            place = gap.position;
        }
        assert_eq!(entry.previous, place.offset);
        assert!(newest(entry));
        assert_eq!(
            Some(entry),
            model.all.get(place.offset as usize).map(|(_, entry)| entry)
        );
        place = entry.position;
    }
    assert_eq!(page.position, place);
    assert_eq!(page.more, place.offset < head);
    assert!(page.entries.len() <= limit.messages);
}

proptest! {
    #[test]
    fn a_log_is_the_tail_of_everything_appended(
        steps in prop::collection::vec(step(), 1..80),
        messages_max in 0usize..8,
        bytes_max in 0usize..1_500,
        age_max in 1u64..600,
    ) {
        let settings = LogSettings { messages_max, bytes_max, age_max: Duration::from_secs(age_max) };
        let mut log = Log::new(EPOCH);
        let mut model = Model::default();
        let (mut now, mut gone) = (at(0), 0);
        for step in steps {
            match step {
                Step::Wait { seconds } => now = now + Duration::from_secs(seconds),
                Step::Append { length, key, conflate } => {
                    model.keys.retain(|(first, _, _)| now.since(*first) < KEY_WINDOW);
                    let seen = model.keys.iter().find(|(_, other, _)| Some(*other) == key).map(|seen| seen.2);
                    let mut message = draft(&"x".repeat(length));
                    message.key = key.map(|key| Key::parse(&key.to_string()).unwrap());
                    message.conflate = conflate.map(|key| Key::parse(&key.to_string()).unwrap());
                    let at_ms = model.all.len() as u64;
                    let appended = log.append(now, at_ms, message, &settings);
                    prop_assert_eq!(appended.entry.is_none(), seen.is_some());
                    if let Some(entry) = appended.entry {
                        prop_assert_eq!(entry.position.offset, model.all.len() as u64 + 1);
                        prop_assert_eq!(entry.previous, model.all.len() as u64);
                        prop_assert_eq!(entry.position, appended.position);
                        model.all.push((now, entry));
                        model.keys.extend(key.map(|key| (now, key, appended.position)));
                    } else {
                        prop_assert_eq!(Some(appended.position), seen);
                        log.trim(now, &settings);
                    }
                    gone = model.gone(now, gone, &settings);
                    prop_assert_eq!(log.len() as u64, model.all.len() as u64 - gone);
                }
                Step::Read { which, since, limit } => {
                    gone = model.gone(now, gone, &settings);
                    let real = |offset: u64| model.position(offset.min(model.all.len() as u64));
                    let since = match since {
                        Since::Nothing => None,
                        Since::Offset(offset) => Some(Position { offset, ..real(offset) }),
                        Since::WrongTag(offset) => Some(Position { tag: real(offset).tag ^ 1, ..real(offset) }),
                        Since::OtherEpoch(offset) => Some(Position { epoch: Epoch(8), ..real(offset) }),
                    };
                    match (which, since) {
                        (Which::Before, Some(before)) => {
                            let page = log.read(now, Range::Before(before), limit, &settings);
                            check_before(&model, gone, before, limit, &page);
                        }
                        (Which::Latest, after) => {
                            let page = log.read(now, Range::Latest { after }, limit, &settings);
                            check_latest(&model, gone, limit, &page);
                        }
                        (_, since) => {
                            let page = log.read(now, after(since), limit, &settings);
                            check_read(&model, gone, since, limit, &page);
                        }
                    }
                }
            }
        }
    }
}
