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
    bob.flush();
    expect(alice.publish_with_receipt("news", "1") == 0, "nobody is left");

    // Requests, whose answer is what the callback returns or throws.
    kps::Ask ask;
    ask.timeout = 20;
    bob.subscribe("shout", [](const kps::Message& message) -> std::string {
        if (message.data() == "null") throw std::invalid_argument("there is nothing to shout");
        return "\"" + std::string(message.data().substr(1, message.data().size() - 2)) + "!\"";
    });
    expect(alice.request("shout", "\"hey\"", ask) == "\"hey!\"", "a result");
    auto failed = failure([&] { alice.request("shout", "null", ask); });
    expect(failed.status() == KPS_REQUEST_FAILED, "a failure");
    expect(std::string(failed.what()) == "there is nothing to shout", "its text");
    bob.on_direct([](const kps::Message&) { return "\"me\""; });
    expect(alice.request_to_id("bob", "1", ask) == "\"me\"", "a direct request");

    // Acks, of messages that threads of a group take and handle.
    kps::SubscribeOptions group;
    group.group = "workers";
    auto jobs = bob.messages("jobs", group);
    std::thread worker([&] {
        while (auto job = jobs.next()) job->reply("\"done\"");
    });
    auto outcomes = alice.publish_with_ack("jobs", "1", ask).wait();
    expect(outcomes.size() == 1 && outcomes[0].success && outcomes[0].result == "\"done\"", "an outcome");
    expect(outcomes[0].name == "workers of jobs" && outcomes[0].client_id == "bob", "whose it is");
    auto ack = alice.publish_to_id_with_ack("nobody", "1", ask);
    expect(!ack.next(), "nobody was asked");

    // History.
    alice.publish("kept/cpp", "1", R"({"a":"b"})");
    auto past = alice.history("kept/cpp", 1);
    expect(past.size() == 1 && past[0].data() == "1" && past[0].headers() == R"({"a":"b"})", "the past");
    expect(past[0].offset() > 0 && !past[0].epoch().empty() && past[0].attempt() == 1, "its place");

    // Mistakes.
    expect(failure([&] { alice.publish("a", "{"); }).status() == KPS_INVALID_ARGUMENT, "not JSON");
    expect(failure([&] { alice.history("other"); }).code() == "no_history", "no history");
    auto refused = failure([&] { kps::Client::connect(kps::Options("127.0.0.1:1").reconnect(-1)); });
    expect(refused.status() == KPS_CONNECT_FAILED, "no server");

    bob.close();
    worker.join();
    expect(failure([&] { bob.publish("a", "1"); }).status() == KPS_CLIENT_CLOSED, "closed");
    expect(connects == 1, "connected once");
    std::puts("C++: all is well");
}
