// The record of op calls. Every op called from Python goes through Op::operator(). During a Recorder's
// lifetime each call is recorded: name, arguments, results. A Program replays the calls natively on other
// inputs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/attention_options.h"
#include "core/kv_cache.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/sequences.h"
#include "core/tensor.h"

namespace dragoman {

// An argument or a result of an op. std::monostate stands for an optional that is absent.
using Value = std::variant<std::monostate, Tensor, Sequences, std::shared_ptr<KVCache>, Dropout,
                           AttentionOptions, bool, int64_t, double, std::string, std::vector<int64_t>>;

// An op without its C++ types: what a Program calls. Nothing is copied on the way to the op.
struct ErasedOp {
  std::string name;
  std::vector<std::string> argument_names;
  std::function<void(const Value* const* arguments, Value* results)> invoke;
};

struct OpCall {
  const ErasedOp* op;
  std::vector<Value> arguments;
  std::vector<Value> results;
};

// A list of op calls whose tensors, sequences and caches are slots. A tensor or Sequences that is neither an
// input nor the result of a call is a constant: a Program refers to it and does not copy it, so it follows
// changes of the weights. A cache is always an input.
class Program {
 public:
  // ValueError on a wrong number of inputs, TypeError on one of another kind than was recorded.
  std::vector<Value> replay(const std::vector<Value>& inputs) const;
  std::vector<std::string> op_names() const;
  // ValueError naming op and argument where `other`, a recording of the same function on other inputs, has
  // another call or constant: what depends on the inputs must be an input or the result of an op.
  void check_same(const Program& other) const;

 private:
  friend class Recorder;

  struct Argument {
    int64_t slot;  // -1: the constant
    Value constant;
  };
  struct Step {
    const ErasedOp* op;
    std::vector<Argument> arguments;
    int64_t first_result;  // results have slots one after the other
    int64_t num_results;
    std::vector<int64_t> last_uses;  // slots that nothing after this step reads
  };

  std::vector<Step> steps_;
  std::vector<size_t> input_kinds_;  // Value::index() of each input
  std::vector<int64_t> outputs_;
  int64_t num_slots_ = 0;
};

// Records the op calls of the calling thread from construction to finish() or stop(). A thread can have one
// at a time.
class Recorder {
 public:
  // `frozen`: the Program is dropped when a weight changes, so copies of weights may be its constants.
  // ValueError when this thread is recording already.
  explicit Recorder(bool frozen = false);
  ~Recorder() { stop(); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  static Recorder* current();
  void append(const ErasedOp& op, std::vector<Value> arguments, std::vector<Value> results);
  void stop();
  bool frozen() const { return frozen_; }
  // Stops. ValueError when an output is neither an input nor the result of a recorded call, when a cache is
  // no input, or when an argument is a part of a result that was made by no op.
  Program finish(const std::vector<Value>& inputs, const std::vector<Value>& outputs);

 private:
  std::vector<OpCall> calls_;
  bool frozen_;
};

// ValueError while this thread records: `what` would become a constant of the Program.
void check_not_recording(const char* what);

namespace detail {

template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};

template <class T>
decltype(auto) from_value(const Value& value) {
  if constexpr (is_optional<T>::value) {
    if (std::holds_alternative<std::monostate>(value)) return T();
    return T(std::get<typename T::value_type>(value));
  } else {
    return std::get<T>(value);
  }
}

template <class T>
Value wrap(T argument) {
  if constexpr (is_optional<T>::value) {
    return argument ? Value(std::move(*argument)) : Value();
  } else {
    return Value(std::move(argument));
  }
}

template <class T>
struct result_count : std::integral_constant<size_t, 1> {};
template <class... T>
struct result_count<std::tuple<T...>> : std::integral_constant<size_t, sizeof...(T)> {};

template <class... T>
void wrap_results(std::tuple<T...> results, Value* to) {
  std::apply([&](auto&... result) { ((*to++ = wrap(std::move(result))), ...); }, results);
}
template <class T>
void wrap_results(T result, Value* to) {
  *to = wrap(std::move(result));
}

// ValueError unless the tensors among an op's arguments lie on one device. Tensors of int32 and int64 are
// exempt: they hold ids and indices, which an op reads on the host and then sends to the device itself.
class DeviceCheck {
 public:
  explicit DeviceCheck(const ErasedOp& op) : op_(op) {}

  void check(size_t index, const Tensor& tensor) {
    if (tensor.dtype() == DType::int32 || tensor.dtype() == DType::int64) return;
    if (first_ == nullptr) {
      first_ = &tensor;
      first_index_ = index;
    } else {
      CHECK(tensor.device() == first_->device(), op_.name, ": ", op_.argument_names[index], " must be on ",
            name(first_->device()), ", as ", op_.argument_names[first_index_], ", got ",
            name(tensor.device()));
    }
  }
  void check(size_t index, const std::optional<Tensor>& tensor) {
    if (tensor) check(index, *tensor);
  }
  template <class T>
  void check(size_t, const T&) {}

 private:
  const ErasedOp& op_;
  const Tensor* first_ = nullptr;
  size_t first_index_ = 0;
};

template <class... Arguments>
void check_devices(const ErasedOp& op, const Arguments&... arguments) {
  DeviceCheck devices(op);
  size_t index = 0;
  (devices.check(index++, arguments), ...);
}

}  // namespace detail

// A typed op function that records its calls. It is never destroyed.
template <class Result, class... Arguments>
class Op {
 public:
  using Function = Result (*)(Arguments...);

  Op(std::string name, std::vector<std::string> argument_names, Function function)
      : function_(function),
        erased_{std::move(name), std::move(argument_names),
                [this](const Value* const* arguments, Value* results) {
                  invoke(arguments, results, std::index_sequence_for<Arguments...>());
                }} {}
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;

  Result operator()(Arguments... arguments) const {
    const FixedThreads fixed;
    detail::check_devices(erased_, arguments...);
    Recorder* recorder = Recorder::current();
    if constexpr (std::is_void_v<Result>) {
      function_(arguments...);
      if (recorder != nullptr) recorder->append(erased_, {detail::wrap(arguments)...}, {});
    } else {
      Result result = function_(arguments...);
      if (recorder != nullptr) {
        std::vector<Value> results(detail::result_count<Result>::value);
        detail::wrap_results(result, results.data());
        recorder->append(erased_, {detail::wrap(arguments)...}, std::move(results));
      }
      return result;
    }
  }

 private:
  template <size_t... index>
  void invoke(const Value* const* arguments, Value* results, std::index_sequence<index...>) const {
    call(results, detail::from_value<std::decay_t<Arguments>>(*arguments[index])...);
  }

  void call(Value* results, const std::decay_t<Arguments>&... arguments) const {
    const FixedThreads fixed;
    detail::check_devices(erased_, arguments...);
    if constexpr (std::is_void_v<Result>) {
      function_(arguments...);
    } else {
      detail::wrap_results(function_(arguments...), results);
    }
  }

  Function function_;
  ErasedOp erased_;
};

}  // namespace dragoman
