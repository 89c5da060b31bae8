use proptest::prelude::*;

use super::{run, run_presence};

const CASES: u32 = if cfg!(miri) { 2 } else { 500 };
const BYTES_MAX: usize = if cfg!(miri) { 200 } else { 8_000 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_sequence_of_operations_breaks_a_promise(bytes in prop::collection::vec(any::<u8>(), 0..BYTES_MAX)) {
        run(&bytes);
    }

    #[test]
    fn no_sequence_of_operations_makes_a_ghost(bytes in prop::collection::vec(any::<u8>(), 0..BYTES_MAX / 4)) {
        run_presence(&bytes);
    }
}

#[test]
#[cfg_attr(miri, ignore = "two million bytes take days")]
fn long_runs_break_no_promise() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..100 {
        let bytes: Vec<u8> = (0..20_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        run(&bytes);
    }
}
