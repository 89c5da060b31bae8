//! What no input may bring Switchboard to: one function per fuzz target, which takes any bytes and panics where a promise
//! is broken.
//!
//! The functions are plain, so that everybody can call them: libFuzzer (`fuzz_targets`, `fuzz/run`), the tests of this crate
//! (`tests/brief.rs`: the seeds in `corpus` and a bounded number of inputs made of them), and whoever has an input at hand.
//! An input is either what a peer sends or a script of choices (`script`) that leads a machine into its deeper states.
//!
//! What is judged is behaviour that can be seen from outside; where a second opinion is needed, such as which bytes are a
//! frame, it is a naive one of our own (`naive`, `wire`) or another library's, never the code that is being judged.

mod deflate;
mod dialects;
mod frames;
mod handshake;
mod hub;
mod naive;
mod notice;
mod position;
mod readers;
mod script;
mod segments;
mod session;
mod vocabulary;
mod wire;

pub use deflate::deflate;
pub use dialects::dialects;
pub use frames::frames;
pub use handshake::handshake;
pub use hub::{hub, presence};
pub use notice::notice;
pub use position::position;
pub use readers::readers;
pub use segments::segments;
pub use session::session;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its function, of its binary and of its folder under `corpus`.
    pub name: &'static str,
    /// Takes any bytes; panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "readers",
        run: readers,
    },
    Target {
        name: "segments",
        run: segments,
    },
    Target {
        name: "frames",
        run: frames,
    },
    Target {
        name: "handshake",
        run: handshake,
    },
    Target {
        name: "deflate",
        run: deflate,
    },
    Target {
        name: "dialects",
        run: dialects,
    },
    Target {
        name: "session",
        run: session,
    },
    Target {
        name: "notice",
        run: notice,
    },
    Target {
        name: "position",
        run: position,
    },
    Target {
        name: "hub",
        run: hub,
    },
    Target {
        name: "presence",
        run: presence,
    },
];
