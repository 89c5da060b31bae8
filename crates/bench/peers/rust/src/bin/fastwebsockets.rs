//! Rooms on fastwebsockets over hyper, as its examples do it. It writes each frame at once, so the write half of a
//! member is buffered and flushed when nothing more waits in the queue.
//!
//! ```text
//! fastwebsockets PORT
//! ```

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use fastwebsockets::upgrade::{self, UpgradeFut};
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, WebSocket, WebSocketError,
};
use fastwebsockets::{WebSocketRead, WebSocketWrite};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use switchboard_bench_peers::{MESSAGE_BYTES_MAX, Member, Room, Rooms, Target, serve};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A frame that many connections write.
#[derive(Clone)]
struct Message {
    opcode: OpCode,
    payload: Bytes,
}

impl From<Frame<'_>> for Message {
    fn from(frame: Frame<'_>) -> Self {
        let payload = match frame.payload {
            Payload::Bytes(bytes) => bytes.freeze(),
            other => Vec::from(other).into(),
        };
        Self {
            opcode: frame.opcode,
            payload,
        }
    }
}

fn main() -> io::Result<Infallible> {
    let rooms = Rooms::new();
    serve(|stream| http(rooms.clone(), stream))
}

async fn http(rooms: Arc<Rooms<Message>>, stream: TcpStream) {
    let service = service_fn(|request| std::future::ready(answer(&rooms, request)));
    // Nobody is told how a connection ended, here and below.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn answer(
    rooms: &Rooms<Message>,
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let Some(target) = rooms.target(request.uri().path()) else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        return Ok(refusal);
    };
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    tokio::spawn(async move {
        let _ = connection(upgraded, target).await;
    });
    Ok(response)
}

async fn connection(upgraded: UpgradeFut, target: Target<Message>) -> Result<(), WebSocketError> {
    let mut socket = upgraded.await?;
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    match target {
        Target::Echo => echo(FragmentCollector::new(socket)).await,
        Target::Publisher(room) => publish(FragmentCollector::new(socket), &room).await,
        Target::Member(room) => member(socket, &room).await,
    }
}

async fn echo(mut socket: FragmentCollector<TokioIo<Upgraded>>) -> Result<(), WebSocketError> {
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn publish(
    mut socket: FragmentCollector<TokioIo<Upgraded>>,
    room: &Room<Message>,
) -> Result<(), WebSocketError> {
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => room.publish(&frame.into()),
            _ => {}
        }
    }
}

async fn member(
    socket: WebSocket<TokioIo<Upgraded>>,
    room: &Arc<Room<Message>>,
) -> Result<(), WebSocketError> {
    let (reader, writer) = socket.split(|stream| {
        let (reader, writer) = tokio::io::split(stream);
        (reader, BufWriter::new(writer))
    });
    let (member, queue) = room.join();
    let mut outgoing = pin!(write(writer, queue));
    tokio::select! {
        result = read(reader, member) => result?,
        result = &mut outgoing => return result,
    }
    // The member is gone and with it the end of the queue; in the queue is the answer to its Close.
    outgoing.await
}

async fn read(
    reader: WebSocketRead<impl AsyncRead + Unpin>,
    member: Member<Message>,
) -> Result<(), WebSocketError> {
    let mut reader = FragmentCollectorRead::new(reader);
    // What the library owes the peer: a Pong, a Close.
    let mut owed = |frame: Frame<'_>| {
        member.send(frame.into());
        std::future::ready(Ok::<_, Infallible>(()))
    };
    loop {
        let frame = reader.read_frame(&mut owed).await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => member.room().publish(&frame.into()),
            _ => {}
        }
    }
}

async fn write(
    mut writer: WebSocketWrite<impl AsyncWrite + Unpin>,
    mut queue: mpsc::Receiver<Message>,
) -> Result<(), WebSocketError> {
    while let Some(mut message) = queue.recv().await {
        loop {
            let payload = Payload::Borrowed(&message.payload);
            writer
                .write_frame(Frame::new(true, message.opcode, None, payload))
                .await?;
            match queue.try_recv() {
                Ok(next) => message = next,
                Err(_) => break,
            }
        }
        writer.flush().await?;
    }
    Ok(())
}
