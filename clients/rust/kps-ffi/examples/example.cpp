// What a client in C++ does: subscribe, publish, ask, and see what fails. Takes the address of a server.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <iostream>
#include <string>
#include <thread>

#include "kps.hpp"

static void expect(bool condition, const char* what) {
    if (condition) return;
    std::cerr << "wrong: " << what << "\n";
    std::exit(1);
}

template <class Act>
static kps::Error failure(Act act) {
    try {
        act();
    } catch (const kps::Error& error) {
        return error;
    }
    expect(false, "it must fail");
    std::abort();
}

int main(int argc, char** argv) {
    expect(argc == 2, "usage: example ADDRESS");
    std::atomic<int> connects{0};
    kps::Options options(argv[1]);
    options.id("alice").request_timeout(30).on_event([&](const kps::Event& event) {
        if (event.kind == KPS_CONNECTED) connects++;
        throw std::runtime_error("which nobody sees");
    });
    auto alice = kps::Client::connect(options);
    auto bob = kps::Client::connect(kps::Options(argv[1]).id("bob").reconnect(0.1));
    expect(alice.id() == "alice" && alice.is_connected() && bob.id() == "bob", "connected");

    // Publications.
    std::promise<std::string> got;
    auto subscription = bob.subscribe("news", [&](const kps::Message& message) {
        got.set_value(std::string(message.from()) + ": " + std::string(message.data()));
    });
    alice.publish("news", R"({"title":"hello"})");
    expect(got.get_future().get() == R"(alice: {"title":"hello"})", "a message");
    subscription.unsubscribe();
    bob.flush().wait();
    expect(alice.publish_with_receipt("news", "1").wait() == 0, "nobody is left");

    // Requests, whose answer is what the callback returns or throws.
    kps::Ask ask;
    ask.timeout = 20;
    bob.subscribe("shout", [](const kps::Message& message) -> std::string {
        if (message.data() == "null") throw std::invalid_argument("there is nothing to shout");
        return "\"" + std::string(message.data().substr(1, message.data().size() - 2)) + "!\"";
    });
    auto hey = alice.request("shout", "\"hey\"", ask), ho = alice.request("shout", "\"ho\"", ask);
    expect(ho.wait() == "\"ho!\"" && hey.wait() == "\"hey!\"", "two results");
    auto failed = failure([&] { alice.request("shout", "null", ask).wait(); });
    expect(failed.status() == KPS_REQUEST_FAILED, "a failure");
    expect(std::string(failed.what()) == "there is nothing to shout", "its text");
    expect(failed.errors() == R"({"bob":"there is nothing to shout"})", "whose it is");
    bob.on_direct([](const kps::Message&) { return "\"me\""; });
    expect(alice.request_to_id("bob", "1", ask).wait() == "\"me\"", "a direct request");

    // Acks, of messages that threads of a group take and handle.
    kps::SubscribeOptions group;
    group.group = "workers";
    auto jobs = bob.messages("jobs", group);
    std::thread worker([&] {
        while (auto job = jobs.next()) job->reply("\"done\"");
    });
    auto outcomes = alice.publish_with_ack("jobs", "1", ask).wait();
    expect(outcomes.size() == 1 && outcomes[0].success && outcomes[0].result == "\"done\"", "an outcome");
    expect(outcomes[0].group == "workers" && outcomes[0].attempts == 1, "of a group");
    expect(outcomes[0].name == "workers of jobs" && outcomes[0].client_id == "bob", "whose it is");
    auto ack = alice.publish_to_id_with_ack("nobody", "1", ask);
    expect(!ack.next(), "nobody was asked");

    // History.
    alice.publish("kept/cpp", "1", R"({"a":"b"})");
    auto past = alice.history("kept/cpp", 1).wait().messages;
    expect(past.size() == 1 && past[0].data() == "1" && past[0].headers() == R"({"a":"b"})", "the past");
    expect(past[0].offset() > 0 && !past[0].epoch().empty() && past[0].attempt() == 1, "its place");

    // Presence.
    std::promise<kps::Presence> joined;
    kps::SubscribeOptions observing;
    observing.info = R"({"name":"A"})";
    observing.on_presence = [&](const kps::Presence& presence) {
        if (presence.joined.count("bob")) joined.set_value(presence);
    };
    alice.subscribe("room", [](const kps::Message&) {}, observing);
    auto room = bob.messages("room");
    auto told = joined.get_future().get();
    expect(told.count == 2 && told.members->at("alice") == R"({"name":"A"})", "who is there");
    expect(bob.presence("room").wait().members == told.members, "whoever asks");

    // Texts.
    expect(kps::to_json("\"") == R"("\"")" && kps::to_text(R"("\u0041")") == "A", "texts");
    expect(!kps::to_text("1"), "no text");

    // Mistakes.
    expect(failure([&] { alice.publish("a", "{"); }).status() == KPS_INVALID_ARGUMENT, "not JSON");
    expect(failure([&] { alice.history("other").wait(); }).code() == "no_history", "no history");
    auto refused = failure([&] { kps::Client::connect(kps::Options("127.0.0.1:1").reconnect(-1)); });
    expect(refused.status() == KPS_CONNECT_FAILED, "no server");

    bob.close();
    worker.join();
    expect(failure([&] { bob.publish("a", "1"); }).status() == KPS_CLIENT_CLOSED, "closed");
    expect(connects == 1, "connected once");
    std::puts("C++: all is well");
}
