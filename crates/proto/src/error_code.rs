//! The error codes of the protocol. Generated from `spec/errors.toml` by the test `error_catalogue`; do not edit.

/// Who has to change something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The client program.
    Peer,
    /// Its backend or its users.
    Application,
    /// This server or its operator.
    Us,
    /// The network between.
    Network,
}

/// A word for what went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorCode {
    /// This is not a command of this protocol.
    BadRequest,
    /// This is not a valid channel name.
    BadChannel,
    /// This is not a position that this server gave out.
    BadPosition,
    /// This payload cannot be carried to every subscriber.
    BadPayload,
    /// The JSON or MessagePack value is nested too deeply or has too many keys.
    TooComplex,
    /// The message is larger than this server takes.
    MessageTooBig,
    /// connect comes once, before every other command.
    AlreadyConnected,
    /// This server wants a valid token before anything else.
    Unauthorized,
    /// This session is already subscribed to the channel.
    AlreadySubscribed,
    /// This session is not subscribed to the channel.
    NotSubscribed,
    /// This session has as many subscriptions as it may have.
    TooManySubscriptions,
    /// The server has as many channels as it may keep.
    TooManyChannels,
    /// Too many commands in too short a time.
    RateLimited,
    /// The server cannot take this now.
    Overloaded,
    /// The broker did not do this; whether it took effect is unknown.
    Unavailable,
    /// This server does not do this.
    Unsupported,
    /// The client read too slowly and its channel asks for disconnection then.
    Lagged,
    /// The server is stopping.
    Stopping,
    /// The server made a mistake; its log says more.
    Internal,
}

impl ErrorCode {
    /// All of them, in the order of the catalogue.
    pub const ALL: &[ErrorCode] = &[
        ErrorCode::BadRequest,
        ErrorCode::BadChannel,
        ErrorCode::BadPosition,
        ErrorCode::BadPayload,
        ErrorCode::TooComplex,
        ErrorCode::MessageTooBig,
        ErrorCode::AlreadyConnected,
        ErrorCode::Unauthorized,
        ErrorCode::AlreadySubscribed,
        ErrorCode::NotSubscribed,
        ErrorCode::TooManySubscriptions,
        ErrorCode::TooManyChannels,
        ErrorCode::RateLimited,
        ErrorCode::Overloaded,
        ErrorCode::Unavailable,
        ErrorCode::Unsupported,
        ErrorCode::Lagged,
        ErrorCode::Stopping,
        ErrorCode::Internal,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::BadChannel => "bad_channel",
            ErrorCode::BadPosition => "bad_position",
            ErrorCode::BadPayload => "bad_payload",
            ErrorCode::TooComplex => "too_complex",
            ErrorCode::MessageTooBig => "message_too_big",
            ErrorCode::AlreadyConnected => "already_connected",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::AlreadySubscribed => "already_subscribed",
            ErrorCode::NotSubscribed => "not_subscribed",
            ErrorCode::TooManySubscriptions => "too_many_subscriptions",
            ErrorCode::TooManyChannels => "too_many_channels",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Unsupported => "unsupported",
            ErrorCode::Lagged => "lagged",
            ErrorCode::Stopping => "stopping",
            ErrorCode::Internal => "internal",
        }
    }

    /// Who has to change something.
    pub const fn fault(self) -> Fault {
        match self {
            ErrorCode::BadRequest => Fault::Peer,
            ErrorCode::BadChannel => Fault::Peer,
            ErrorCode::BadPosition => Fault::Peer,
            ErrorCode::BadPayload => Fault::Peer,
            ErrorCode::TooComplex => Fault::Peer,
            ErrorCode::MessageTooBig => Fault::Peer,
            ErrorCode::AlreadyConnected => Fault::Peer,
            ErrorCode::Unauthorized => Fault::Application,
            ErrorCode::AlreadySubscribed => Fault::Peer,
            ErrorCode::NotSubscribed => Fault::Peer,
            ErrorCode::TooManySubscriptions => Fault::Peer,
            ErrorCode::TooManyChannels => Fault::Us,
            ErrorCode::RateLimited => Fault::Peer,
            ErrorCode::Overloaded => Fault::Us,
            ErrorCode::Unavailable => Fault::Us,
            ErrorCode::Unsupported => Fault::Peer,
            ErrorCode::Lagged => Fault::Network,
            ErrorCode::Stopping => Fault::Us,
            ErrorCode::Internal => Fault::Us,
        }
    }

    /// Whether the same command may succeed later.
    pub const fn retryable(self) -> bool {
        match self {
            ErrorCode::BadRequest => false,
            ErrorCode::BadChannel => false,
            ErrorCode::BadPosition => false,
            ErrorCode::BadPayload => false,
            ErrorCode::TooComplex => false,
            ErrorCode::MessageTooBig => false,
            ErrorCode::AlreadyConnected => false,
            ErrorCode::Unauthorized => false,
            ErrorCode::AlreadySubscribed => false,
            ErrorCode::NotSubscribed => false,
            ErrorCode::TooManySubscriptions => false,
            ErrorCode::TooManyChannels => true,
            ErrorCode::RateLimited => true,
            ErrorCode::Overloaded => true,
            ErrorCode::Unavailable => true,
            ErrorCode::Unsupported => false,
            ErrorCode::Lagged => true,
            ErrorCode::Stopping => true,
            ErrorCode::Internal => true,
        }
    }

    /// The close code that follows in every dialect.
    pub const fn close_code(self) -> Option<u16> {
        match self {
            ErrorCode::BadRequest => None,
            ErrorCode::BadChannel => None,
            ErrorCode::BadPosition => None,
            ErrorCode::BadPayload => None,
            ErrorCode::TooComplex => None,
            ErrorCode::MessageTooBig => Some(1009),
            ErrorCode::AlreadyConnected => None,
            ErrorCode::Unauthorized => Some(4401),
            ErrorCode::AlreadySubscribed => None,
            ErrorCode::NotSubscribed => None,
            ErrorCode::TooManySubscriptions => None,
            ErrorCode::TooManyChannels => None,
            ErrorCode::RateLimited => None,
            ErrorCode::Overloaded => None,
            ErrorCode::Unavailable => None,
            ErrorCode::Unsupported => None,
            ErrorCode::Lagged => Some(4008),
            ErrorCode::Stopping => Some(1001),
            ErrorCode::Internal => Some(1011),
        }
    }

    /// The close code in a dialect that cannot say an error.
    pub const fn raw_close_code(self) -> Option<u16> {
        match self {
            ErrorCode::BadRequest => Some(1007),
            ErrorCode::BadChannel => Some(1008),
            ErrorCode::BadPosition => Some(1008),
            ErrorCode::BadPayload => Some(1007),
            ErrorCode::TooComplex => Some(1007),
            ErrorCode::MessageTooBig => Some(1009),
            ErrorCode::AlreadyConnected => None,
            ErrorCode::Unauthorized => Some(4401),
            ErrorCode::AlreadySubscribed => None,
            ErrorCode::NotSubscribed => None,
            ErrorCode::TooManySubscriptions => Some(1008),
            ErrorCode::TooManyChannels => Some(1013),
            ErrorCode::RateLimited => Some(4029),
            ErrorCode::Overloaded => Some(1013),
            ErrorCode::Unavailable => Some(1013),
            ErrorCode::Unsupported => Some(1008),
            ErrorCode::Lagged => Some(4008),
            ErrorCode::Stopping => Some(1001),
            ErrorCode::Internal => Some(1011),
        }
    }

    /// The status of an HTTP answer that says it.
    pub const fn http_status(self) -> u16 {
        match self {
            ErrorCode::BadRequest => 400,
            ErrorCode::BadChannel => 400,
            ErrorCode::BadPosition => 400,
            ErrorCode::BadPayload => 400,
            ErrorCode::TooComplex => 400,
            ErrorCode::MessageTooBig => 413,
            ErrorCode::AlreadyConnected => 400,
            ErrorCode::Unauthorized => 401,
            ErrorCode::AlreadySubscribed => 400,
            ErrorCode::NotSubscribed => 400,
            ErrorCode::TooManySubscriptions => 400,
            ErrorCode::TooManyChannels => 503,
            ErrorCode::RateLimited => 429,
            ErrorCode::Overloaded => 503,
            ErrorCode::Unavailable => 503,
            ErrorCode::Unsupported => 400,
            ErrorCode::Lagged => 503,
            ErrorCode::Stopping => 503,
            ErrorCode::Internal => 500,
        }
    }

    /// The default sentence.
    pub const fn text(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "This is not a command of this protocol.",
            ErrorCode::BadChannel => "This is not a valid channel name.",
            ErrorCode::BadPosition => "This is not a position that this server gave out.",
            ErrorCode::BadPayload => "This payload cannot be carried to every subscriber.",
            ErrorCode::TooComplex => "The JSON or MessagePack value is nested too deeply or has too many keys.",
            ErrorCode::MessageTooBig => "The message is larger than this server takes.",
            ErrorCode::AlreadyConnected => "connect comes once, before every other command.",
            ErrorCode::Unauthorized => "This server wants a valid token before anything else.",
            ErrorCode::AlreadySubscribed => "This session is already subscribed to the channel.",
            ErrorCode::NotSubscribed => "This session is not subscribed to the channel.",
            ErrorCode::TooManySubscriptions => "This session has as many subscriptions as it may have.",
            ErrorCode::TooManyChannels => "The server has as many channels as it may keep.",
            ErrorCode::RateLimited => "Too many commands in too short a time.",
            ErrorCode::Overloaded => "The server cannot take this now.",
            ErrorCode::Unavailable => "The broker did not do this; whether it took effect is unknown.",
            ErrorCode::Unsupported => "This server does not do this.",
            ErrorCode::Lagged => "The client read too slowly and its channel asks for disconnection then.",
            ErrorCode::Stopping => "The server is stopping.",
            ErrorCode::Internal => "The server made a mistake; its log says more.",
        }
    }
}
