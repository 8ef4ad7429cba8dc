// What programs in C++ give to the client, and get from it: see kps.hpp.

#ifndef KPS_VALUES_HPP
#define KPS_VALUES_HPP

#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kps.h"

namespace kps {

// What went wrong. Programs rely on the status, and of KPS_SERVER_ERROR on the code. Of KPS_REQUEST_FAILED
// there are the errors of all who were asked: a JSON object.
class Error : public std::runtime_error {
public:
    Error(kps_status status, const std::string& text, std::string code, std::string errors)
        : std::runtime_error(text), status_(status), code_(std::move(code)), errors_(std::move(errors)) {}

    kps_status status() const noexcept { return status_; }
    const char* kind() const noexcept { return kps_status_name(status_); }
    const std::string& code() const noexcept { return code_; }
    const std::string& errors() const noexcept { return errors_; }

private:
    kps_status status_;
    std::string code_;
    std::string errors_;
};

namespace detail {

inline void check(kps_status status) {
    if (status != KPS_OK) throw Error(status, kps_last_error(), kps_last_error_code(), kps_last_errors());
}

inline const char* or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

inline std::string taken(char* text) {
    std::unique_ptr<char, void (*)(char*)> held(text, kps_string_free);
    return held ? std::string(held.get()) : std::string();
}

// Calls a function that gives an object, and returns that.
template <class T, class... Wanted, class... Given>
T* given(kps_status (*function)(Wanted...), Given... arguments) {
    T* object = nullptr;
    check(function(arguments..., &object));
    return object;
}

template <class Function>
kps_drop drop_of() {
    return [](void* closure) { delete static_cast<Function*>(closure); };
}

}  // namespace detail

// The payload that is a text: JSON.
inline std::string to_json(const std::string& text) { return detail::taken(kps_text_to_json(text.c_str())); }

// The text that a payload is, unless it is something else.
inline std::optional<std::string> to_text(const std::string& json) {
    auto* text = kps_json_to_text(json.c_str());
    return text ? std::optional(detail::taken(text)) : std::nullopt;
}

// A message. In a callback it is borrowed: to keep it beyond the call, keep() it. A message that was kept
// or taken is handled when its last copy is gone.
class Message {
public:
    std::string_view topic() const { return kps_message_topic(get()); }
    std::string_view data() const { return kps_message_data(get()); }
    std::string_view from() const { return kps_message_from(get()); }
    std::string_view headers() const { return kps_message_headers(get()); }
    std::string_view epoch() const { return kps_message_epoch(get()); }
    std::uint64_t offset() const { return kps_message_offset(get()); }
    std::uint64_t attempt() const { return kps_message_attempt(get()); }
    bool wants_ack() const { return kps_message_wants_ack(get()); }

    void reply(const std::string& json) const { detail::check(kps_message_reply(get(), json.c_str())); }
    void fail(const std::string& why) const { detail::check(kps_message_fail(get(), why.c_str())); }

    Message keep() const { return owned(kps_message_keep(get())); }

    static Message owned(kps_message* message) { return Message({message, kps_message_free}); }
    static Message borrowed(const kps_message* message) {
        return Message({const_cast<kps_message*>(message), [](kps_message*) {}});
    }

private:
    explicit Message(std::shared_ptr<kps_message> message) : message_(std::move(message)) {}
    const kps_message* get() const { return message_.get(); }

    std::shared_ptr<kps_message> message_;
};

// Messages of the past, the oldest first.
struct Past {
    std::vector<Message> messages;
    bool is_complete;   // nothing is missing between the place that was given and the messages
    std::int64_t lost;  // if something is, how many messages; -1: nobody knows
};

// Who is subscribed to a topic, and what has changed since the last time. What members say about
// themselves is JSON, or empty.
struct Presence {
    using Members = std::map<std::string, std::string>;

    explicit Presence(const kps_presence* presence)
        : topic(kps_presence_topic(presence)),
          count(kps_presence_count(presence)),
          version(kps_presence_version(presence)),
          joined(part(presence, KPS_JOINED)),
          updated(part(presence, KPS_UPDATED)),
          left(part(presence, KPS_LEFT)) {
        if (kps_presence_is_listed(presence)) members = part(presence, KPS_MEMBERS);
    }

    std::string topic;
    std::optional<Members> members;  // not there: only their number is known
    std::uint64_t count;
    std::int64_t version;  // -1: nobody observes the topic
    Members joined;
    Members updated;
    Members left;  // and why

private:
    static Members part(const kps_presence* presence, kps_presence_part part) {
        Members members;
        for (std::size_t number = 0; number < kps_presence_size(presence, part); number++) {
            members[kps_presence_id(presence, part, number)] = kps_presence_info(presence, part, number);
        }
        return members;
    }
};

// Something that has happened to a client: see kps_event_kind.
struct Event {
    kps_event_kind kind;
    std::string text;
    std::int64_t number;
    kps_status error;
    std::string code;
};

// How to connect.
class Options {
public:
    explicit Options(const std::string& address)
        : options_(kps_options_new(address.c_str()), kps_options_free) {}

    Options& id(const std::string& id) { return set(kps_options_set_id, id.c_str()); }
    Options& token(const std::string& token) { return set(kps_options_set_token, token.c_str()); }
    // Gives a token for each connection. If it throws, the attempt to connect fails, and another one
    // follows.
    Options& token_with(std::function<std::string()> give) {
        struct Tokens {
            std::function<std::string()> give;
            std::string latest;
        };
        kps_token_callback callback = [](void* closure) -> const char* {
            auto& tokens = *static_cast<Tokens*>(closure);
            try {
                tokens.latest = tokens.give();
                return tokens.latest.c_str();
            } catch (...) {
                return nullptr;
            }
        };
        return set(kps_options_set_token_with, callback, static_cast<void*>(new Tokens{std::move(give), {}}),
                   detail::drop_of<Tokens>());
    }
    Options& level(std::uint8_t level) { return set(kps_options_set_level, level); }
    Options& header(const std::string& name, const std::string& value) {
        return set(kps_options_add_header, name.c_str(), value.c_str());
    }
    Options& reconnect(double seconds) { return set(kps_options_set_reconnect, seconds); }
    Options& offline(std::size_t most) { return set(kps_options_set_offline, most); }
    Options& request_timeout(double seconds) { return set(kps_options_set_request_timeout, seconds); }
    Options& trust(const std::string& certificates) {
        return set(kps_options_set_trust, certificates.c_str());
    }
    Options& on_event(std::function<void(const Event&)> hook) {
        using Hook = std::function<void(const Event&)>;
        auto call = [](void* closure, const kps_event* event) {
            try {
                (*static_cast<Hook*>(closure))(
                    {event->kind, event->text, event->number, event->error, event->code});
            } catch (...) {  // nobody could be told, and no exception may leave
            }
        };
        kps_event_callback callback = call;
        return set(kps_options_set_on_event, callback, static_cast<void*>(new Hook(std::move(hook))),
                   detail::drop_of<Hook>());
    }

    kps_options* release() { return options_.release(); }

private:
    template <class... Wanted, class... Given>
    Options& set(kps_status (*function)(Wanted...), Given... values) {
        detail::check(function(options_.get(), values...));
        return *this;
    }

    std::unique_ptr<kps_options, void (*)(kps_options*)> options_;
};

// What else a message says that asks for answers: see kps_ask.
struct Ask {
    double timeout = 5;
    std::string headers;
    std::string message_id;
    std::string key;
    std::uint64_t retry = 0;
    std::string expect;
    std::string expect_groups;

    kps_ask raw() const {
        using detail::or_null;
        return {timeout, or_null(headers), or_null(message_id), or_null(key),
                retry,   or_null(expect),  or_null(expect_groups)};
    }
};

// What a subscription is to have: see kps_subscribe_options.
struct SubscribeOptions {
    bool is_pattern = false;
    std::string group;
    std::uint64_t concurrency = 0;
    std::uint64_t last = 0;
    std::string since_epoch;
    std::uint64_t since_offset = 0;
    std::string info;
    std::function<void(const Presence&)> on_presence;
    bool returns_at_once = false;

    // With a copy of `on_presence`, which the function that gets this frees.
    kps_subscribe_options raw() const {
        using Observer = std::function<void(const Presence&)>;
        kps_subscribe_options made{};
        made.is_pattern = is_pattern;
        made.group = detail::or_null(group);
        made.concurrency = concurrency;
        made.last = last;
        made.since_epoch = detail::or_null(since_epoch);
        made.since_offset = since_offset;
        made.info = detail::or_null(info);
        made.returns_at_once = returns_at_once;
        if (on_presence) {
            made.on_presence = [](void* closure, const kps_presence* presence) {
                try {
                    (*static_cast<Observer*>(closure))(Presence(presence));
                } catch (...) {  // nobody could be told, and no exception may leave
                }
            };
            made.presence_closure = new Observer(on_presence);
            made.presence_drop = detail::drop_of<Observer>();
        }
        return made;
    }
};

// The outcome of a message for one receiver.
struct Outcome {
    std::string client_id;
    std::string name;
    bool success;
    std::string error;
    std::string result;
    std::string group;  // empty: it is that of a client
    std::string topic;  // or pattern, of the group
    bool is_pattern;
    std::uint64_t attempts;
    std::string failures;  // JSON: an array of pairs
};

}  // namespace kps

#endif  // KPS_VALUES_HPP
