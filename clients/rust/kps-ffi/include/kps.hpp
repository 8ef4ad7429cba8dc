// The client of KPS for C++17: a thin wrapper of kps.h. Everything frees itself, callbacks are
// functions, and what fails throws kps::Error. Payloads and results are JSON texts. What programs give and
// get is in kps_values.hpp.

#ifndef KPS_HPP
#define KPS_HPP

#include <type_traits>

#include "kps_values.hpp"

namespace kps {

// A question to the server, which has been sent. Several may be under way at a time. To drop it is to
// want no answer any more.
template <class T>
class [[nodiscard]] Pending {
public:
    Pending(kps_pending* pending, T (*wait)(kps_pending*))
        : pending_(pending, kps_pending_free), wait_(wait) {
        if (!pending) detail::check(kps_wait(nullptr));
    }

    // Waits for the answer, once.
    T wait() { return wait_(pending_.release()); }

private:
    std::unique_ptr<kps_pending, void (*)(kps_pending*)> pending_;
    T (*wait_)(kps_pending*);
};

namespace detail {

inline void wait(kps_pending* pending) { check(kps_wait(pending)); }

inline std::int64_t wait_number(kps_pending* pending) {
    std::int64_t number = 0;
    check(kps_wait_number(pending, &number));
    return number;
}

inline std::string wait_json(kps_pending* pending) { return taken(given<char>(kps_wait_json, pending)); }

inline Past wait_past(kps_pending* pending) {
    std::unique_ptr<kps_past, void (*)(kps_past*)> past(given<kps_past>(kps_wait_past, pending),
                                                        kps_past_free);
    Past read{{}, kps_past_is_complete(past.get()), kps_past_lost(past.get())};
    for (std::size_t number = 0; number < kps_past_count(past.get()); number++) {
        read.messages.push_back(Message::borrowed(kps_past_message(past.get(), number)).keep());
    }
    return read;
}

inline Presence wait_presence(kps_pending* pending) {
    std::unique_ptr<kps_presence, void (*)(kps_presence*)> presence(
        given<kps_presence>(kps_wait_presence, pending), kps_presence_free);
    return Presence(presence.get());
}

}  // namespace detail

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
                       kps_outcome_success(outcome),   kps_outcome_error(outcome),
                       kps_outcome_result(outcome),    kps_outcome_group(outcome),
                       kps_outcome_topic(outcome),     kps_outcome_is_pattern(outcome),
                       kps_outcome_attempts(outcome),  kps_outcome_failures(outcome)};
    }

    // Waits for all that have not been told.
    std::vector<Outcome> wait() {
        std::vector<Outcome> outcomes;
        while (auto outcome = next()) outcomes.push_back(*std::move(outcome));
        return outcomes;
    }

    // Who was asked, and whether each has answered: a JSON object.
    Pending<std::string> status() const { return {kps_ack_status(ack_.get()), detail::wait_json}; }

    // The version of the members when the message was published, or -1: see kps_ack_presence.
    std::int64_t presence() const { return kps_ack_presence(ack_.get()); }

    void cancel() { kps_ack_cancel(ack_.get()); }

private:
    std::unique_ptr<kps_ack, void (*)(kps_ack*)> ack_;
};

// A subscription with a callback. It goes on when this is gone.
class Subscription {
public:
    explicit Subscription(kps_subscription* subscription)
        : subscription_(subscription, kps_subscription_free) {}

    // Waits until the server has confirmed it. Throws if it is refused.
    void confirmed() const { detail::check(kps_subscription_confirmed(subscription_.get())); }

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

    // Waits until the server has confirmed it. Throws if it is refused.
    void confirmed() const { detail::check(kps_messages_confirmed(messages_.get())); }

    // Ends it. Other threads that wait for a message get none.
    void unsubscribe() { kps_messages_unsubscribe(messages_.get()); }

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
                                    new Callback(std::move(callback)), detail::drop_of<Callback>(), &made));
        return Subscription(made);
    }

    // Takes the messages that are sent to the id of this client.
    template <class Callback>
    Subscription on_direct(Callback callback) {
        kps_subscription* made = nullptr;
        detail::check(kps_on_direct(get(), call<Callback>, new Callback(std::move(callback)),
                                    detail::drop_of<Callback>(), &made));
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

    // Has the server send a message to another server: see kps_publish_to_server.
    void publish_to_server(const std::string& address, const std::string& json, bool is_secure = false) {
        detail::check(kps_publish_to_server(get(), address.c_str(), json.c_str(), is_secure));
    }

    // Publishes, and asks to how many subscribers the server has passed the message on; -1: it does not
    // say.
    Pending<std::int64_t> publish_with_receipt(const std::string& topic, const std::string& json,
                                               const Ask& ask = {}) {
        auto raw = ask.raw();
        return {kps_publish_with_receipt(get(), topic.c_str(), json.c_str(), &raw), detail::wait_number};
    }

    Ack publish_with_ack(const std::string& topic, const std::string& json, const Ask& ask = {}) {
        return asked<Ack, kps_ack>(kps_publish_with_ack, topic, json, ask);
    }

    Ack publish_to_id_with_ack(const std::string& id, const std::string& json, const Ask& ask = {}) {
        return asked<Ack, kps_ack>(kps_publish_to_id_with_ack, id, json, ask);
    }

    // Asks the subscribers of a topic for one result, the first: JSON.
    Pending<std::string> request(const std::string& topic, const std::string& json, const Ask& ask = {}) {
        auto raw = ask.raw();
        return {kps_request(get(), topic.c_str(), json.c_str(), &raw), detail::wait_json};
    }

    Pending<std::string> request_to_id(const std::string& id, const std::string& json, const Ask& ask = {}) {
        auto raw = ask.raw();
        return {kps_request_to_id(get(), id.c_str(), json.c_str(), &raw), detail::wait_json};
    }

    // Asks for messages of the past: the first ones behind a place, or without an epoch the latest.
    Pending<Past> history(const std::string& topic, std::uint64_t limit = 100,
                          const std::string& since_epoch = {}, std::uint64_t since_offset = 0) {
        return {kps_history(get(), topic.c_str(), detail::or_null(since_epoch), since_offset, limit),
                detail::wait_past};
    }

    // Asks who is subscribed to a topic.
    Pending<Presence> presence(const std::string& topic) {
        return {kps_presence_of(get(), topic.c_str()), detail::wait_presence};
    }

    // Asks whether the server has handled all that was sent before.
    Pending<void> flush() { return {kps_flush(get()), detail::wait}; }

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

    std::unique_ptr<kps_client, void (*)(kps_client*)> client_;
};

}  // namespace kps

#endif  // KPS_HPP
