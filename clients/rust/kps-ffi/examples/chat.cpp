// A chat room in the terminal, in which the writer sees who has got each line.
//
//     kps serve
//     chat_cpp alice            # in one terminal
//     chat_cpp bob              # in another; then type lines
//
// Arguments: your name, then optionally the server's address and the room.

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "kps.hpp"

// Callbacks have a thread of their own, so each line is written as a whole.
static void say(const std::string& line) { std::cout << line + "\n" << std::flush; }

static void chat(const std::string& name, const std::string& address, const std::string& room) {
    auto client = kps::Client::connect(kps::Options(address).id(name));
    client.subscribe(room, [&](const kps::Message& message) {
        const std::string data(message.data()), from(message.from());
        if (from != name) say(from + ": " + kps::to_text(data).value_or(data));
    });
    say("you are " + name + " in " + room);
    kps::Ask ask;
    ask.timeout = 5;
    for (std::string line; std::getline(std::cin, line);) {
        std::vector<std::string> seen;
        for (const auto& outcome : client.publish_with_ack(room, kps::to_json(line), ask).wait()) {
            if (outcome.success && outcome.name != name) seen.push_back(outcome.name);
        }
        std::sort(seen.begin(), seen.end());
        std::string all = seen.empty() ? "nobody" : seen[0];
        for (std::size_t number = 1; number < seen.size(); number++) all += ", " + seen[number];
        say("  seen by " + all);
    }
}

int main(int argc, char** argv) {
    if (argc < 2 || argc > 4) {
        std::cerr << "usage: chat_cpp NAME [ADDRESS] [ROOM]\n";
        return 2;
    }
    try {
        chat(argv[1], argc > 2 ? argv[2] : "localhost:9313", argc > 3 ? argv[3] : "lobby");
    } catch (const kps::Error& error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
