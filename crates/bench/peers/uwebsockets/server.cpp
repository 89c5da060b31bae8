// Rooms on uWebSockets, as topics of its own publish and subscribe.
//
//     server PORT

#include <cstdlib>
#include <string>
#include <string_view>

#include "App.h"

namespace {

constexpr unsigned int message_bytes_max = 1 << 20;
// What waits for one member. One who is further behind is closed, not left out.
constexpr unsigned int backpressure_bytes_max = 16 << 20;

struct Connection {
    std::string topic;
};

using Socket = uWS::WebSocket<false, true, Connection>;
using Behavior = uWS::App::WebSocketBehavior<Connection>;

Behavior behavior() {
    Behavior behavior;
    behavior.compression = uWS::DISABLED;
    behavior.maxPayloadLength = message_bytes_max;
    behavior.idleTimeout = 0; // as the other servers, which send no pings either
    behavior.maxBackpressure = backpressure_bytes_max;
    behavior.closeOnBackpressureLimit = true;
    return behavior;
}

Behavior room(uWS::App &app, bool member) {
    Behavior room = behavior();
    room.upgrade = [](auto *response, auto *request, auto *context) {
        response->template upgrade<Connection>({.topic = std::string(request->getParameter(0))},
                                               request->getHeader("sec-websocket-key"),
                                               request->getHeader("sec-websocket-protocol"),
                                               request->getHeader("sec-websocket-extensions"), context);
    };
    if (member) {
        room.open = [](Socket *socket) { socket->subscribe(socket->getUserData()->topic); };
    }
    room.message = [&app](Socket *socket, std::string_view message, uWS::OpCode opcode) {
        app.publish(socket->getUserData()->topic, message, opcode);
    };
    return room;
}

Behavior echo() {
    Behavior echo = behavior();
    echo.message = [](Socket *socket, std::string_view message, uWS::OpCode opcode) {
        socket->send(message, opcode);
    };
    return echo;
}

} // namespace

int main(int, char **arguments) {
    uWS::App app;
    bool listening = false;
    app.ws<Connection>("/echo", echo())
        .ws<Connection>("/room/:room/publish", room(app, false))
        .ws<Connection>("/room/:room", room(app, true))
        .listen("127.0.0.1", std::atoi(arguments[1]), LIBUS_LISTEN_EXCLUSIVE_PORT,
                [&](auto *socket) { listening = socket != nullptr; });
    if (!listening) {
        std::fputs("the port is taken\n", stderr);
        return 1;
    }
    app.run();
}
