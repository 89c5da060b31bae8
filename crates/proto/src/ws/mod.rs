//! RFC 6455 and RFC 7692, both roles, without I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
/// kind
pub enum MessageKind {
    /// t
    Text,
    /// b
    Binary,
}
