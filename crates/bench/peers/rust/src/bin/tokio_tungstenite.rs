//! Rooms on tokio-tungstenite, as its chat and echo examples do it: the halves of a connection are a stream and a
//! sink, and `forward` writes all that waits in the queue before it flushes.
//!
//! ```text
//! tokio-tungstenite PORT
//! ```

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::pin::pin;

use futures_util::{StreamExt, TryStreamExt, future::select, stream};
use switchboard_bench_peers::{MESSAGE_BYTES_MAX, Rooms, Target, serve};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

fn main() -> io::Result<Infallible> {
    let rooms = Rooms::new();
    serve(|stream| {
        let rooms = rooms.clone();
        async move {
            // Nobody is told how a connection ended.
            let _ = connection(&rooms, stream).await;
        }
    })
}

/// What the library's documentation advises where connections are many. Its default of 128 KiB is filled with zeros at
/// each attempt to read: 2.7 times the CPU for each delivery (50 members, 2000 messages of 100 bytes one by one, the
/// mean of three runs of each).
const READ_BUFFER_BYTES: usize = 4096;

async fn connection(rooms: &Rooms<Message>, stream: TcpStream) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX));
    let mut target = None;
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let accept = |request: &Request, response: Response| match rooms.target(request.uri().path()) {
        Some(asked) => {
            target = Some(asked);
            Ok(response)
        }
        None => {
            let mut refusal = ErrorResponse::new(None);
            *refusal.status_mut() = StatusCode::NOT_FOUND;
            Err(refusal)
        }
    };
    let (sink, stream) = accept_hdr_async_with_config(stream, accept, Some(config))
        .await?
        .split();
    let messages = stream.try_filter(|message| ready(message.is_text() || message.is_binary()));

    match target.expect("without a target, the handshake fails") {
        Target::Echo => messages.forward(sink).await,
        Target::Publisher(room) => {
            messages
                .try_for_each(|message| {
                    room.publish(&message);
                    ready(Ok(()))
                })
                .await
        }
        Target::Member(room) => {
            let (member, mut queue) = room.join();
            let incoming = messages.try_for_each(|message| {
                member.room().publish(&message);
                ready(Ok(()))
            });
            let outgoing = stream::poll_fn(|context| queue.poll_recv(context))
                .map(Ok)
                .forward(sink);
            select(pin!(incoming), pin!(outgoing)).await.factor_first().0
        }
    }
}
