//! Who gets the same bytes: the members of a room, the connections that are pinged at the same time.

use super::connection::Slot;

/// Groups by number. The order of members means nothing, so that leaving costs the same in a group of any size.
#[derive(Default)]
pub(super) struct Groups {
    members: Vec<Vec<Slot>>,
}

/// Where a member stands; it changes when another one leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seat {
    pub(super) group: u32,
    /// Index among the members.
    pub(super) at: u32,
}

impl Groups {
    /// Makes `slot` a member. The groups up to the highest number in use cost 24 bytes each, empty or not.
    pub(super) fn join(&mut self, group: u32, slot: Slot) -> Seat {
        let index = group as usize;
        if self.members.len() <= index {
            self.members.resize_with(index + 1, Vec::new);
        }
        let members = &mut self.members[index];
        members.push(slot);
        Seat {
            group,
            at: members.len() as u32 - 1,
        }
    }

    /// Gives the seat up. If a member is returned, then `seat` is that member's seat from now on.
    pub(super) fn leave(&mut self, seat: Seat) -> Option<Slot> {
        let (members, at) = (self.members.get_mut(seat.group as usize)?, seat.at as usize);
        if at < members.len() {
            members.swap_remove(at);
        }
        members.get(at).copied()
    }

    /// The member at this index of the group, if there are so many.
    pub(super) fn member(&self, group: u32, at: usize) -> Option<Slot> {
        self.members.get(group as usize)?.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_is_replaced_by_the_last() {
        let mut groups = Groups::default();
        let [first, second, third] = [Slot(11), Slot(12), Slot(13)];
        let seats = [first, second, third].map(|slot| groups.join(5, slot));
        assert_eq!(groups.leave(seats[0]), Some(third));
        assert_eq!(groups.member(5, 0), Some(third));
        assert_eq!(groups.member(5, 1), Some(second));
        assert_eq!(groups.member(5, 2), None);
        assert_eq!(groups.leave(seats[1]), None);
        assert_eq!(groups.leave(seats[0]), None);
        assert_eq!(groups.member(5, 0), None);
    }

    #[test]
    fn a_group_that_nobody_joined_is_empty() {
        assert_eq!(Groups::default().member(999_999, 0), None);
    }
}
