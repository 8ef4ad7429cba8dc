// A testee: plays the program of client vectors on the wrapper for C++, and so on the C interface
// (spec/CLIENTS.md). test.sh builds it: `kps conformance --client target/programs/testee_cpp`

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <thread>

#include "testee_spelling.hpp"

// What callbacks that hold a message are to return.
class Answers {
public:
    void push(Json answer) {
        std::lock_guard held(mutex_);
        answers_.push_back(std::move(answer));
        news_.notify_one();
    }

    // Waits for the next one; there is none when the vector is over.
    std::optional<Json> next() {
        std::unique_lock held(mutex_);
        news_.wait(held, [this] { return is_over_ || !answers_.empty(); });
        if (is_over_) return std::nullopt;
        auto answer = std::move(answers_.front());
        answers_.pop_front();
        return answer;
    }

    void end() {
        std::lock_guard held(mutex_);
        is_over_ = true;
        news_.notify_all();
    }

private:
    std::mutex mutex_;
    std::condition_variable news_;
    std::deque<Json> answers_;
    bool is_over_ = false;
};

static void answer(const kps::Message& message, const Json& answer) {
    if (answer.contains("error")) return message.fail(text_in(answer, "error"));
    if (answer.contains("result")) message.reply(json_in(answer, "result"));
}

static void tell_message(Teller& teller, const std::string& name, const kps::Message& message) {
    auto told = of_message(message);
    told["as"] = name;
    teller.tell("message", told);
}

// The program of one vector.
class Program {
public:
    explicit Program(const Json& vector)
        : options_(options_in(text_in(vector, "url"), vector["options"])),
          reports_direct_(vector["options"].value("reports_direct", false)) {
        options_.on_event([teller = teller_](const kps::Event& event) { teller->event(event); });
    }

    // Closes the client without a word.
    ~Program() {
        teller_->end();
        for (auto& [name, answers] : answers_) answers->end();
        if (client_) client_->close(0.1);
        for (auto& thread : threads_) thread.join();
    }

    // Begins a step.
    void begin(const Json& step) {
        const auto verb = text_in(step, "do"), name = step.value("as", verb);
        const auto found = VERBS.find(verb);
        if (found == VERBS.end()) return teller_->tell("failed", {{"as", name}, {"error", "unsupported"}});
        try {
            (this->*found->second)(name, step);
        } catch (const kps::Error& error) {
            teller_->failed(name, error);
        }
    }

private:
    using Verb = void (Program::*)(const std::string& name, const Json& step);
    static const std::map<std::string, Verb> VERBS;

    // -- the client

    void connect(const std::string&, const Json&) {
        client_.emplace(kps::Client::start(options_));
        if (!reports_direct_) return;
        client_->on_direct([teller = teller_](const kps::Message& message) {
            teller->tell("direct", of_direct(message));
        });
    }

    void close(const std::string&, const Json&) { client_->close(); }

    // -- subscriptions

    void subscribe(const std::string& name, const Json& step) {
        const auto how = step.value("answer", Json::object());
        const auto options = subscribe_options_in(step, teller_);
        if (how.contains("hold")) return hold(name, scope_in(step), options);
        const auto handle = [teller = teller_, name, how](const kps::Message& message) {
            tell_message(*teller, name, message);
            answer(message, how);
        };
        auto made = std::make_shared<kps::Subscription>(client_->subscribe(scope_in(step), handle, options));
        leave_[name] = [made] { made->unsubscribe(); };
        wait(name, [made] { return made->confirmed(), Json(); });
    }

    // Takes one message after the other, and holds each until it is told what becomes of it.
    void hold(const std::string& name, const std::string& scope, const kps::SubscribeOptions& options) {
        auto made = std::make_shared<kps::Messages>(client_->messages(scope, options));
        auto answers = answers_[name] = std::make_shared<Answers>();
        leave_[name] = [made] { made->unsubscribe(); };
        wait(name, [made] { return made->confirmed(), Json(); });
        threads_.emplace_back([made, answers, name, teller = teller_] {
            try {
                while (auto message = made->next()) {
                    tell_message(*teller, name, *message);
                    const auto how = answers->next();
                    if (!how) return;
                    answer(*message, *how);
                }
            } catch (const kps::Error&) {  // the subscription has ended, which is told otherwise
            }
        });
    }

    void answer_held(const std::string& name, const Json& step) { answers_.at(name)->push(step); }

    void unsubscribe(const std::string& name, const Json&) { leave_.at(name)(); }

    // -- publications

    void publish(const std::string&, const Json& step) {
        client_->publish(text_in(step, "topic"), json_in(step, "data"), json_in(step, "headers"));
    }

    void publish_to_id(const std::string&, const Json& step) {
        client_->publish_to_id(text_in(step, "to"), json_in(step, "data"), json_in(step, "headers"));
    }

    void publish_with_ack(const std::string& name, const Json& step) {
        const auto data = json_in(step, "data");
        const auto ask = ask_in(step);
        auto ack = std::make_shared<kps::Ack>(
            step.contains("to") ? client_->publish_to_id_with_ack(text_in(step, "to"), data, ask)
                                : client_->publish_with_ack(text_in(step, "topic"), data, ask));
        acks_[name] = ack;
        wait(name, [ack, name, teller = teller_] {
            while (const auto outcome = ack->next()) {
                auto told = of_outcome(*outcome);
                told["as"] = name;
                teller->tell("outcome", told);
            }
            return Json();
        });
    }

    void cancel(const std::string& name, const Json&) { acks_.at(name)->cancel(); }

    // -- questions

    void publish_with_receipt(const std::string& name, const Json& step) {
        ask(name, client_->publish_with_receipt(text_in(step, "topic"), json_in(step, "data"), ask_in(step)),
            [](std::int64_t delivered) { return delivered < 0 ? Json() : Json(delivered); });
    }

    void request(const std::string& name, const Json& step) {
        const auto data = json_in(step, "data");
        ask(name,
            step.contains("to") ? client_->request_to_id(text_in(step, "to"), data, ask_in(step))
                                : client_->request(text_in(step, "topic"), data, ask_in(step)),
            parsed);
    }

    void status(const std::string& name, const Json& step) {
        ask(name, acks_.at(text_in(step, "of"))->status(), parsed);
    }

    void history(const std::string& name, const Json& step) {
        const auto since = step.value("since", Json::object());
        ask(name,
            client_->history(text_in(step, "topic"), step.value("last", std::uint64_t{100}),
                             text_in(since, "epoch"), since.value("offset", std::uint64_t{0})),
            of_past);
    }

    void presence(const std::string& name, const Json& step) {
        ask(name, client_->presence(text_in(step, "topic")), of_presence);
    }

    void flush(const std::string& name, const Json&) {
        auto asked = std::make_shared<kps::Pending<void>>(client_->flush());
        wait(name, [asked] { return asked->wait(), Json(); });
    }

    template <class T, class Read>
    void ask(const std::string& name, kps::Pending<T> pending, Read read) {
        auto asked = std::make_shared<kps::Pending<T>>(std::move(pending));
        wait(name, [asked, read] { return Json(read(asked->wait())); });
    }

    // Does in a thread what waits for the server, and tells what has come of it.
    void wait(const std::string& name, std::function<Json()> act) {
        threads_.emplace_back([teller = teller_, name, act = std::move(act)] {
            try {
                teller->done(name, act());
            } catch (const kps::Error& error) {
                teller->failed(name, error);
            }
        });
    }

    std::shared_ptr<Teller> teller_ = std::make_shared<Teller>();
    kps::Options options_;
    bool reports_direct_;
    std::optional<kps::Client> client_;
    std::map<std::string, std::function<void()>> leave_;
    std::map<std::string, std::shared_ptr<Answers>> answers_;
    std::map<std::string, std::shared_ptr<kps::Ack>> acks_;
    std::vector<std::thread> threads_;
};

const std::map<std::string, Program::Verb> Program::VERBS = {
    {"connect", &Program::connect},
    {"close", &Program::close},
    {"subscribe", &Program::subscribe},
    {"answer", &Program::answer_held},
    {"unsubscribe", &Program::unsubscribe},
    {"publish", &Program::publish},
    {"publish_to_id", &Program::publish_to_id},
    {"publish_with_ack", &Program::publish_with_ack},
    {"cancel", &Program::cancel},
    {"publish_with_receipt", &Program::publish_with_receipt},
    {"request", &Program::request},
    {"status", &Program::status},
    {"history", &Program::history},
    {"presence", &Program::presence},
    {"flush", &Program::flush},
};

int main() {
    write_line({{"testee", "kps, C++"}, {"needs", NEEDS}});
    std::optional<Program> program;
    for (std::string text; std::getline(std::cin, text);) {
        const auto line = parsed(text);
        if (line.contains("vector")) {
            program.emplace(line);
        } else if (line.contains("sync")) {
            write_line({{"synced", line["sync"]}});
        } else if (line.contains("end")) {
            program.reset();
            write_line({{"ended", true}});
        } else if (program) {
            program->begin(line);
        }
    }
}
