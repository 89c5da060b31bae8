"""Python's `websockets` as a peer, driven line by line.

Standard input carries commands and standard output events, one JSON object a
line: {"text"} {"base64"} {"ping"} {"close", "reason"} in, {"open"} {"refused"}
{"text"} {"base64"} {"pong"} {"closed", "reason"} out. The end of the input
closes the connection.
"""

import argparse
import asyncio
import base64
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def emit(**event):
    print(json.dumps(event), flush=True)


async def receive(connection):
    try:
        while True:
            message = await connection.recv()
            if isinstance(message, str):
                emit(text=message)
            else:
                emit(base64=base64.b64encode(message).decode())
    except ConnectionClosed:
        emit(closed=connection.close_code, reason=connection.close_reason or "")


async def pong(answer, payload):
    try:
        await answer
        emit(pong=payload)
    except ConnectionClosed:
        pass


async def obey(connection, lines):
    """Carries out commands until the input ends or the connection does."""
    pongs = set()
    async for line in lines:
        command = json.loads(line)
        try:
            if "text" in command:
                await connection.send(command["text"])
            elif "base64" in command:
                await connection.send(base64.b64decode(command["base64"]))
            elif "ping" in command:
                pongs.add(asyncio.create_task(pong(await connection.ping(command["ping"]), command["ping"])))
            elif "close" in command:
                await connection.close(command["close"], command["reason"])
        except ConnectionClosed:
            return


async def standard_input():
    # A command may be a message of 1 MB, in base64 and JSON.
    reader = asyncio.StreamReader(limit=8 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--subprotocol", action="append")
    parser.add_argument("--origin")
    parser.add_argument("--no-deflate", action="store_true")
    arguments = parser.parse_args()
    try:
        connection = await connect(
            arguments.url,
            subprotocols=arguments.subprotocol,
            origin=arguments.origin,
            compression=None if arguments.no_deflate else "deflate",
            max_size=None,
            proxy=None,
        )
    except InvalidStatus as refusal:
        emit(refused=refusal.response.status_code)
        return
    emit(
        open=connection.subprotocol or "",
        extensions=connection.response.headers.get("Sec-WebSocket-Extensions", ""),
    )
    receiving = asyncio.create_task(receive(connection))
    await obey(connection, await standard_input())
    await connection.close()
    await receiving


asyncio.run(main())
