// The client of KPS for C++17: a thin wrapper of kps.h. Everything frees itself, callbacks are
// functions, and what fails throws kps::Error. Payloads and results are JSON texts.

#ifndef KPS_HPP
#define KPS_HPP

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kps.h"

namespace kps {

// What went wrong. Programs rely on the status, and of KPS_SERVER_ERROR on the code.
class Error : public std::runtime_error {
public:
    Error(kps_status status, const std::string& text, std::string code)
        : std::runtime_error(text), status_(status), code_(std::move(code)) {}

    kps_status status() const noexcept { return status_; }
    const std::string& code() const noexcept { return code_; }

private:
    kps_status status_;
    std::string code_;
};

namespace detail {

inline void check(kps_status status) {
    if (status != KPS_OK) throw Error(status, kps_last_error(), kps_last_error_code());
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

}  // namespace detail

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
        auto drop = [](void* closure) { delete static_cast<Hook*>(closure); };
        kps_event_callback callback = call;
        return set(kps_options_set_on_event, callback, static_cast<void*>(new Hook(std::move(hook))),
                   static_cast<kps_drop>(drop));
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

    kps_subscribe_options raw() const {
        return {is_pattern, detail::or_null(group), concurrency, last, detail::or_null(since_epoch),
                since_offset};
    }
};

// The outcome of a message for one receiver.
struct Outcome {
    std::string client_id;
    std::string name;
    bool success;
    std::string error;
    std::string result;
};

// The acks of one message.
class Ack {
public:
    explicit Ack(kps_ack* ack) : ack_(ack, kps_ack_free) {}

    // Waits for the next outcome; there is none when all are told.
    std::optional<Outcome> next() {
        auto* outcome = detail::given<kps_outcome>(kps_ack_next, ack_.get());
        if (!outcome) return std::nullopt;
        std::unique_ptr<kps_outcome, void (*)(kps_outcome*)> held(outcome, kps_outcome_free);
        return Outcome{kps_outcome_client_id(outcome), kps_outcome_name(outcome),
                       kps_outcome_success(outcome), kps_outcome_error(outcome),
                       kps_outcome_result(outcome)};
    }

    // Waits for all that have not been told.
    std::vector<Outcome> wait() {
        std::vector<Outcome> outcomes;
        while (auto outcome = next()) outcomes.push_back(*std::move(outcome));
        return outcomes;
    }

    void cancel() { kps_ack_cancel(ack_.get()); }

private:
    std::unique_ptr<kps_ack, void (*)(kps_ack*)> ack_;
};

// A subscription with a callback. It goes on when this is gone.
class Subscription {
public:
    explicit Subscription(kps_subscription* subscription)
        : subscription_(subscription, kps_subscription_free) {}

    void unsubscribe() { kps_unsubscribe(subscription_.get()); }

private:
    std::unique_ptr<kps_subscription, void (*)(kps_subscription*)> subscription_;
};

// A subscription without a callback. It ends when this is gone.
class Messages {
public:
    explicit Messages(kps_messages* messages) : messages_(messages, kps_messages_free) {}

    // Waits for the next message, for so many seconds, or below 0 for as long as it takes. There is none
    // when the client was closed.
    std::optional<Message> next(double seconds = -1) {
        auto* message = detail::given<kps_message>(kps_messages_next, messages_.get(), seconds);
        if (!message) return std::nullopt;
        return Message::owned(message);
    }

private:
    std::unique_ptr<kps_messages, void (*)(kps_messages*)> messages_;
};

// A client. Any thread may call it. When it is gone, no callback runs any more; so it must not be
// destroyed by one.
class Client {
public:
    // Connects, and waits until that is done. Uses the options up.
    static Client connect(Options& options) {
        return Client(detail::given<kps_client>(kps_connect, options.release()));
    }
    static Client connect(Options&& options) { return connect(options); }
    static Client connect(const std::string& address) { return connect(Options(address)); }

    // Makes a client that connects, and does not wait. Uses the options up.
    static Client start(Options& options) {
        return Client(detail::given<kps_client>(kps_start, options.release()));
    }
    static Client start(Options&& options) { return start(options); }

    std::string id() const { return detail::taken(kps_client_id(get())); }
    bool is_connected() const { return kps_client_is_connected(get()); }
    void close(double seconds = -1) { detail::check(kps_client_close(get(), seconds)); }

    // Subscribes with a callback, which takes a const Message&. A text that it returns is the result for a
    // publisher that wants an ack: JSON. What it throws is the failure.
    template <class Callback>
    Subscription subscribe(const std::string& topic, Callback callback,
                           const SubscribeOptions& options = {}) {
        auto raw = options.raw();
        kps_subscription* made = nullptr;
        detail::check(kps_subscribe(get(), topic.c_str(), &raw, call<Callback>,
                                    new Callback(std::move(callback)), drop<Callback>, &made));
        return Subscription(made);
    }

    // Takes the messages that are sent to the id of this client.
    template <class Callback>
    Subscription on_direct(Callback callback) {
        kps_subscription* made = nullptr;
        detail::check(kps_on_direct(get(), call<Callback>, new Callback(std::move(callback)),
                                    drop<Callback>, &made));
        return Subscription(made);
    }

    // Subscribes without a callback.
    Messages messages(const std::string& topic, const SubscribeOptions& options = {}) {
        auto raw = options.raw();
        return Messages(detail::given<kps_messages>(kps_subscribe_messages, get(), topic.c_str(), &raw));
    }

    void publish(const std::string& topic, const std::string& json, const std::string& headers = {}) {
        detail::check(kps_publish(get(), topic.c_str(), json.c_str(), detail::or_null(headers)));
    }

    void publish_to_id(const std::string& id, const std::string& json, const std::string& headers = {}) {
        detail::check(kps_publish_to_id(get(), id.c_str(), json.c_str(), detail::or_null(headers)));
    }

    // Publishes, and tells to how many subscribers the server has passed the message on; -1: it does not
    // say.
    std::int64_t publish_with_receipt(const std::string& topic, const std::string& json,
                                      const Ask& ask = {}) {
        auto raw = ask.raw();
        std::int64_t delivered = -1;
        detail::check(kps_publish_with_receipt(get(), topic.c_str(), json.c_str(), &raw, &delivered));
        return delivered;
    }

    Ack publish_with_ack(const std::string& topic, const std::string& json, const Ask& ask = {}) {
        return asked<Ack, kps_ack>(kps_publish_with_ack, topic, json, ask);
    }

    Ack publish_to_id_with_ack(const std::string& id, const std::string& json, const Ask& ask = {}) {
        return asked<Ack, kps_ack>(kps_publish_to_id_with_ack, id, json, ask);
    }

    // Asks the subscribers of a topic, and returns the first result: JSON.
    std::string request(const std::string& topic, const std::string& json, const Ask& ask = {}) {
        auto raw = ask.raw();
        return detail::taken(
            detail::given<char>(kps_request, get(), topic.c_str(), json.c_str(), &raw));
    }

    std::string request_to_id(const std::string& id, const std::string& json, const Ask& ask = {}) {
        auto raw = ask.raw();
        return detail::taken(
            detail::given<char>(kps_request_to_id, get(), id.c_str(), json.c_str(), &raw));
    }

    // Returns messages of the past: the first ones behind a place, or without an epoch the latest.
    std::vector<Message> history(const std::string& topic, std::uint64_t limit = 100,
                                 const std::string& since_epoch = {}, std::uint64_t since_offset = 0) {
        std::unique_ptr<kps_past, void (*)(kps_past*)> past(
            detail::given<kps_past>(kps_history, get(), topic.c_str(), detail::or_null(since_epoch),
                                    since_offset, limit),
            kps_past_free);
        std::vector<Message> messages;
        for (std::size_t number = 0; number < kps_past_count(past.get()); number++) {
            messages.push_back(Message::borrowed(kps_past_message(past.get(), number)).keep());
        }
        return messages;
    }

    // Waits until the server has handled all that was sent before.
    void flush() { detail::check(kps_flush(get())); }

private:
    explicit Client(kps_client* client) : client_(client, kps_client_free) {}
    kps_client* get() const { return client_.get(); }

    template <class Made, class Raw, class Function>
    Made asked(Function function, const std::string& target, const std::string& json, const Ask& ask) {
        auto raw = ask.raw();
        return Made(detail::given<Raw>(function, get(), target.c_str(), json.c_str(), &raw));
    }

    template <class Callback>
    static void call(void* closure, const kps_message* raw) {
        const auto message = Message::borrowed(raw);
        try {
            auto& callback = *static_cast<Callback*>(closure);
            if constexpr (std::is_void_v<std::invoke_result_t<Callback&, const Message&>>) {
                callback(message);
            } else {
                message.reply(callback(message));
            }
        } catch (const std::exception& error) {
            kps_message_fail(raw, error.what());
        } catch (...) {
            kps_message_fail(raw, "an exception of an unknown kind");
        }
    }

    template <class Callback>
    static void drop(void* closure) {
        delete static_cast<Callback*>(closure);
    }

    std::unique_ptr<kps_client, void (*)(kps_client*)> client_;
};

}  // namespace kps

#endif  // KPS_HPP
