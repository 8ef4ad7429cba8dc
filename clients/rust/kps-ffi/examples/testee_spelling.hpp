// How the programs of client vectors are spelled in C++.

#ifndef TESTEE_SPELLING_HPP
#define TESTEE_SPELLING_HPP

#include <iostream>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "kps.hpp"

using Json = nlohmann::ordered_json;

// The features that the testee knows.
inline const Json NEEDS = {"level_1", "patterns",    "history", "presence",       "groups",
                           "headers", "message_ids", "tokens",  "request_tokens", "offline"};

inline void write_line(const Json& line) {
    static std::mutex one_at_a_time;
    std::lock_guard held(one_at_a_time);
    std::cout << line.dump() << std::endl;
}

// -- what a program is told

inline Json parsed(std::string_view json) { return Json::parse(json); }

inline void put(Json& fields, const char* name, std::string_view json) {
    if (!json.empty()) fields[name] = parsed(json);
}

inline Json of_error(kps_status status, const std::string& code) {
    Json told{{"error", kps_status_name(status)}};
    if (!code.empty()) told["code"] = code;
    return told;
}

inline Json of_error(const kps::Error& error) {
    auto told = of_error(error.status(), error.code());
    put(told, "errors", error.errors());
    return told;
}

inline Json of_direct(const kps::Message& message) {
    Json told{{"data", parsed(message.data())}, {"from", message.from()}};
    put(told, "headers", message.headers());
    return told;
}

inline Json of_message(const kps::Message& message) {
    auto told = of_direct(message);
    told["topic"] = message.topic();
    if (message.offset() > 0) told["offset"] = message.offset();
    if (message.attempt() > 1) told["attempt"] = message.attempt();
    return told;
}

inline Json of_outcome(const kps::Outcome& outcome) {
    Json told{{"success", outcome.success}};
    if (!outcome.client_id.empty()) told["id"] = outcome.client_id;
    if (!outcome.success) told["error"] = outcome.error;
    put(told, "result", outcome.result);
    if (!outcome.group.empty()) {
        told["group"] = outcome.group;
        told[outcome.is_pattern ? "pattern" : "topic"] = outcome.topic;
        told["attempts"] = outcome.attempts;
        if (outcome.failures != "[]") put(told, "failures", outcome.failures);
    }
    return told;
}

inline Json of_past(const kps::Past& past) {
    auto payloads = Json::array();
    for (const auto& message : past.messages) payloads.push_back(parsed(message.data()));
    const auto lost = past.lost < 0 ? Json(nullptr) : Json(past.lost);
    return {{"messages", payloads}, {"complete", past.is_complete}, {"lost", lost}};
}

inline Json of_presence(const kps::Presence& presence) {
    Json members;
    if (presence.members) members = Json::object();
    for (const auto& [id, info] : presence.members.value_or(kps::Presence::Members())) {
        members[id] = info.empty() ? Json(nullptr) : parsed(info);
    }
    return {{"members", members}, {"count", presence.count}};
}

// Tells the judge what the program is told, until the vector is over.
class Teller {
public:
    void tell(const char* what, const Json& fields) {
        std::lock_guard held(mutex_);
        if (is_over_) return;
        Json told{{"told", what}};
        told.update(fields);
        write_line(told);
    }

    void done(const std::string& name, const Json& result = nullptr) {
        Json fields{{"as", name}};
        if (!result.is_null()) fields["result"] = result;
        tell("done", fields);
    }

    void failed(const std::string& name, const kps::Error& error) {
        auto fields = of_error(error);
        fields["as"] = name;
        tell("failed", fields);
    }

    void members(const std::string& name, const kps::Presence& presence) {
        Json ids;
        if (presence.members) ids = Json::array();
        for (const auto& [id, info] : presence.members.value_or(kps::Presence::Members())) ids.push_back(id);
        tell("members", {{"as", name}, {"members", ids}, {"count", presence.count}});
    }

    void event(const kps::Event& event) {
        const auto number = event.number < 0 ? Json(nullptr) : Json(event.number);
        switch (event.kind) {
            case KPS_CONNECTED: return tell("connected", {{"id", event.text}});
            case KPS_DISCONNECTED: return tell("disconnected", {{"code", number}});
            case KPS_RECOVERED: return tell("recovered", {{"topic", event.text}, {"messages", number}});
            case KPS_LOST: return tell("lost", {{"topic", event.text}, {"messages", number}});
            case KPS_ERROR: return tell("error", of_error(event.error, event.code));
            case KPS_CLOSED:
                return tell("ended", event.error == KPS_OK ? Json::object() : of_error(event.error, event.code));
            case KPS_CONNECT_ATTEMPT_FAILED: return;
        }
    }

    void end() {
        std::lock_guard held(mutex_);
        is_over_ = true;
    }

private:
    std::mutex mutex_;
    bool is_over_ = false;
};

// -- what a vector says

inline std::string text_in(const Json& step, const char* name) { return step.value(name, std::string()); }

// A member as JSON; empty if it is not there.
inline std::string json_in(const Json& step, const char* name) {
    return step.contains(name) ? step[name].dump() : std::string();
}

inline std::string scope_in(const Json& step) { return text_in(step, step.contains("pattern") ? "pattern" : "topic"); }

inline kps::Ask ask_in(const Json& step) {
    kps::Ask ask;
    ask.timeout = step.value("timeout", 5.0);
    ask.headers = json_in(step, "headers");
    ask.message_id = text_in(step, "message_id");
    ask.key = text_in(step, "key");
    ask.retry = step.value("retry", std::uint64_t{0});
    ask.expect = json_in(step, "expect");
    ask.expect_groups = json_in(step, "expect_groups");
    return ask;
}

inline kps::SubscribeOptions subscribe_options_in(const Json& step, const std::shared_ptr<Teller>& teller) {
    kps::SubscribeOptions options;
    options.is_pattern = step.contains("pattern");
    options.group = text_in(step, "group");
    options.concurrency = step.value("concurrency", std::uint64_t{0});
    options.last = step.value("last", std::uint64_t{0});
    if (step.contains("since")) {
        options.since_epoch = text_in(step["since"], "epoch");
        options.since_offset = step["since"].value("offset", std::uint64_t{0});
    }
    options.info = json_in(step, "info");
    if (step.value("presence", false)) {
        options.on_presence = [teller, name = text_in(step, "as")](const kps::Presence& presence) {
            teller->members(name, presence);
        };
    }
    options.returns_at_once = true;
    return options;
}

inline kps::Options options_in(const std::string& url, const Json& vector) {
    kps::Options options(url);
    if (vector.contains("id")) options.id(text_in(vector, "id"));
    if (vector.contains("level")) options.level(vector["level"].get<std::uint8_t>());
    if (vector.contains("token")) options.token(text_in(vector, "token"));
    if (vector.contains("tokens")) {
        options.token_with([left = vector["tokens"].get<std::vector<std::string>>()]() mutable {
            auto token = left.front();
            if (left.size() > 1) left.erase(left.begin());
            return token;
        });
    }
    if (vector.contains("reconnect")) {
        const auto& wait = vector["reconnect"];
        options.reconnect(wait.is_number() ? wait.get<double>() : -1);
    }
    options.offline(vector.value("offline", std::size_t{0}));
    options.request_timeout(vector.value("request_timeout", 5.0));
    return options;
}

#endif  // TESTEE_SPELLING_HPP
