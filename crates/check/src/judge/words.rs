//! Events in words.

use crate::event::{Message, What};
use crate::history::History;
use crate::place::Place;

pub(super) fn message(history: &History, message: Message) -> String {
    format!("{} #{}", history.text(message.publisher), message.number)
}

pub(super) fn place(place: Place) -> String {
    format!("{} of life {:08x}", place.offset, place.epoch as u32)
}

pub(super) fn event(history: &History, what: &What) -> String {
    match *what {
        What::Invoked {
            message: said,
            channel,
            ..
        } => format!(
            "publishes {} to {}",
            message(history, said),
            history.text(channel)
        ),
        What::Acknowledged {
            message: said,
            place: at,
        } => format!("{} acknowledged at {}", message(history, said), place(at)),
        What::Refused { message: said } => format!("{} refused", message(history, said)),
        What::Unknown { message: said } => format!("{} unknown", message(history, said)),
        What::Subscribing { channel, since, .. } => match since {
            Some(since) => format!("subscribes to {} since {}", history.text(channel), place(since)),
            None => format!("subscribes to {}", history.text(channel)),
        },
        What::Hears { .. } => "is to be told who is there".to_owned(),
        What::Asked { .. } => "asks again".to_owned(),
        What::Subscribed {
            place: at, recovered, ..
        } => match recovered {
            Some(recovered) => format!("subscribed at {}, recovered: {recovered}", place(at)),
            None => format!("subscribed at {}", place(at)),
        },
        What::Received {
            place: at,
            message: said,
            ..
        } => format!("received {}: {}", place(at), message(history, said)),
        What::Altered { place: at, .. } => format!("received {}: not what anyone said", place(at)),
        What::Gap {
            from,
            place: at,
            conflated,
            ..
        } => format!(
            "gap from {from} to {}{}",
            place(at),
            if conflated { ", conflated" } else { "" }
        ),
        What::Reset { place: at, .. } => format!("reset to {}", place(at)),
        What::Unsubscribed { .. } => "unsubscribed".to_owned(),
        What::Closed { .. } => "the server ended the subscription".to_owned(),
        What::Stands { member, .. } => format!("is in the channel as {}", history.text(member)),
        What::Members { count, complete, .. } => match complete {
            true => format!("is told all {count} members"),
            false => format!("is told that there are {count} members"),
        },
        What::Member { member, .. } => format!("  {}", history.text(member)),
        What::Joined { member, .. } => format!("{} joined", history.text(member)),
        What::Left { member, .. } => format!("{} left", history.text(member)),
        What::Connected => "connected".to_owned(),
        What::Disconnected => "disconnected".to_owned(),
        What::Ended => "the end".to_owned(),
    }
}
